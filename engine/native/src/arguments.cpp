#include "binding.hpp"

namespace ragmesh {
namespace {

std::string shape_of(const py::array& array) {
    std::string text = "(";
    for (py::ssize_t i = 0; i < array.ndim(); ++i)
        text += (i ? ", " : "") + std::to_string(array.shape(i));
    return text + ")";
}

[[noreturn]] void refuse(const std::string& sentence) { throw py::value_error(sentence); }

bool is_dtype(const py::array& array, const std::string& dtype) {
    const char kind = array.dtype().kind();
    const py::ssize_t bytes = array.itemsize();
    // The byte order mark of a little-endian type on a little-endian machine is '=' or '|'.
    const char order = array.dtype().byteorder();
    if (order != '=' && order != '|' && order != '<') return false;
    if (dtype == "mask") return bytes == 1 && (kind == 'b' || kind == 'u');
    return std::string(1, kind) + std::to_string(bytes) == dtype;
}

}  // namespace

void check_array(const py::array& array, const char* name, const char* dtype, py::ssize_t axes) {
    const std::string expected = std::string(dtype) == "mask" ? "bool or uint8" : dtype;
    if (!is_dtype(array, dtype))
        refuse(std::string(name) + " has dtype " + std::string(py::str(array.dtype())) +
               ", expected " + expected);
    if (array.ndim() != axes)
        refuse(std::string(name) + " has shape " + shape_of(array) + ", expected " +
               std::to_string(axes) + (axes == 1 ? " axis" : " axes"));
    const int wanted = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    if ((array.flags() & wanted) != wanted)
        refuse(std::string(name) +
               " is not contiguous or not aligned; pass numpy.ascontiguousarray of it");
}

HeldRows::HeldRows(py::array values_, py::object scales_)
    : values(std::move(values_)), scales(std::move(scales_)) {
    if (is_dtype(values, "f4"))
        rows.kind = Kind::float32;
    else if (is_dtype(values, "f2"))
        rows.kind = Kind::float16;
    else if (is_dtype(values, "i1"))
        rows.kind = Kind::int8;
    else
        refuse("vectors have dtype " + std::string(py::str(values.dtype())) +
               ", expected float32, float16 or int8");
    const char* const dtypes[] = {"f4", "f2", "i1"};
    check_array(values, "vectors", dtypes[static_cast<size_t>(rows.kind)], 2);
    rows.values = values.data();
    rows.count = static_cast<size_t>(values.shape(0));
    rows.dimensions = static_cast<size_t>(values.shape(1));
    if (rows.dimensions == 0) refuse("vectors have 0 dimensions, at least 1 is needed");
    if (rows.count >= UINT32_MAX)
        refuse(std::to_string(rows.count) + " vectors are too many, at most 4294967294");
    if ((rows.kind == Kind::int8) != !scales.is_none())
        refuse("vectors of int8 need scales, a float32 for each row, and others have none");
    if (scales.is_none()) return;
    const auto array = py::array(scales);
    rows.scales = checked<float>(array, "scales", "f4", 1);
    if (static_cast<size_t>(array.shape(0)) != rows.count)
        refuse(std::to_string(array.shape(0)) + " scales for " + std::to_string(rows.count) +
               " rows");
    scales = array;
}

HeldGraph::HeldGraph(py::array level0_, py::array levels_, py::array upper_, py::array start_,
                     int64_t entry, int max_level, py::object twins_)
    : level0(std::move(level0_)), levels(std::move(levels_)), upper(std::move(upper_)),
      upper_start(std::move(start_)), twins(std::move(twins_)) {
    graph.level0 = checked<uint32_t>(level0, "level0", "u4", 2);
    graph.levels = checked<uint8_t>(levels, "levels", "u1", 1);
    graph.upper = checked<uint32_t>(upper, "upper", "u4", 2);
    graph.upper_start = checked<uint32_t>(upper_start, "upper_start", "u4", 1);
    graph.count = static_cast<size_t>(levels.shape(0));
    graph.upper_count = static_cast<size_t>(upper.shape(0));
    const py::ssize_t width = level0.shape(1);
    if (width < 5 || width % 2 == 0 || width > 2 * py::ssize_t(links_max) + 1)
        refuse("level0 has " + std::to_string(width) + " columns, expected 2 m + 1 with m in 2.." +
               std::to_string(links_max));
    graph.m = static_cast<uint32_t>(width / 2);
    if (level0.shape(0) != levels.shape(0) || upper_start.shape(0) != levels.shape(0))
        refuse("level0, levels and upper_start have " + std::to_string(level0.shape(0)) + ", " +
               std::to_string(levels.shape(0)) + " and " + std::to_string(upper_start.shape(0)) +
               " rows, expected as many of each");
    if (upper.shape(1) != py::ssize_t(graph.m) + 1)
        refuse("upper has " + std::to_string(upper.shape(1)) + " columns, expected m + 1 = " +
               std::to_string(graph.m + 1));
    if (entry < -1 || entry >= levels.shape(0))
        refuse("entry is " + std::to_string(entry) + ", expected -1.." +
               std::to_string(levels.shape(0) - 1));
    if (max_level < 0 || max_level >= levels_max)
        refuse("max_level is " + std::to_string(max_level) + ", expected 0.." +
               std::to_string(levels_max - 1));
    graph.entry = entry;
    graph.max_level = max_level;
    if (twins.is_none()) return;
    const auto array = py::array(twins);
    graph.twins = checked<uint32_t>(array, "twins", "u4", 1);
    if (array.shape(0) != levels.shape(0))
        refuse("twins has " + std::to_string(array.shape(0)) + " rows, expected " +
               std::to_string(levels.shape(0)));
    twins = array;
}

Metric metric_of(const std::string& name) {
    if (name == "ip") return Metric::dot;
    if (name == "cosine") return Metric::cosine;
    if (name == "l2") return Metric::euclidean;
    refuse("metric is '" + name + "', expected 'ip', 'cosine' or 'l2'");
}

Query query_of(const HeldRows& rows, const py::array& query) {
    const float* values = checked<float>(query, "query", "f4", 1);
    if (static_cast<size_t>(query.shape(0)) != rows.rows.dimensions)
        refuse("the query has " + std::to_string(query.shape(0)) +
               " dimensions, the vectors have " + std::to_string(rows.rows.dimensions));
    return Query(values, rows.rows.dimensions);
}

const uint8_t* mask_of(const py::object& mask, size_t count, const char* name) {
    if (mask.is_none()) return nullptr;
    if (!py::isinstance<py::array>(mask)) refuse(std::string(name) + " is not a numpy array");
    const auto array = py::reinterpret_borrow<py::array>(mask);
    const uint8_t* bytes = checked<uint8_t>(array, name, "mask", 1);
    if (static_cast<size_t>(array.shape(0)) != count)
        refuse(std::string(name) + " has " + std::to_string(array.shape(0)) + " entries for " +
               std::to_string(count) + " rows");
    return bytes;
}

std::vector<uint32_t> positions_of(const py::array& array, size_t count, const char* name) {
    const bool wide = is_dtype(array, "i8");
    check_array(array, name, wide ? "i8" : "u4", 1);
    const auto size = static_cast<size_t>(array.shape(0));
    std::vector<uint32_t> out(size);
    uint64_t most = 0;
    if (wide) {
        const auto* from = static_cast<const int64_t*>(array.data());
        for (size_t i = 0; i < size; ++i) {
            most = std::max(most, static_cast<uint64_t>(from[i]));  // a negative one is huge
            out[i] = static_cast<uint32_t>(from[i]);
        }
    } else {
        const auto* from = static_cast<const uint32_t*>(array.data());
        for (size_t i = 0; i < size; ++i) most = std::max<uint64_t>(most, out[i] = from[i]);
    }
    if (size > 0 && most >= count)
        refuse(std::string(name) + " has a position outside 0.." +
               std::to_string(static_cast<int64_t>(count) - 1));
    return out;
}

}  // namespace ragmesh
