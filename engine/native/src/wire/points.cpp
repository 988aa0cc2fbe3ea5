// Points as they come in, from the bytes of a request to the columns that are stored and indexed.
#include <pybind11/numpy.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "binding.hpp"
#include "reading.hpp"

namespace ragmesh::wire {
namespace {

struct Bounds {
    uint32_t field;
    size_t points;
    size_t text_characters;
    size_t payload_bytes;
};

struct PointBytes {
    std::string_view id, vector, text, payload;
    size_t json_start = 0, json_size = 0;
};

struct Columns {
    std::string rest, json;
    std::vector<PointBytes> points;
    size_t values = 0;
    std::vector<size_t> payload_sizes;  // of all that were given, in their order
    bool plain_ids = true;
    std::vector<float> vectors;
    std::string ids_array, vectors_array, texts_array, payloads_array;
};

// Once each, in whatever order.
bool take(std::string_view& into, uint32_t& seen, uint32_t field, Reader& reader) {
    if (seen >> field & 1) return false;
    seen |= 1u << field;
    return reader.bytes(into);
}

// The values of a vector in either form, as little-endian float32.
bool read_vector(std::string_view bytes, std::string_view& values) {
    Reader reader(bytes);
    uint32_t field, type;
    if (!reader.tag(field, type) || type != 2 || !reader.bytes(values) || !reader.done())
        return false;
    if (field == 2) {
        Reader dense(values);
        if (!dense.tag(field, type) || field != 1 || type != 2 || !dense.bytes(values) ||
            !dense.done())
            return false;
    } else if (field != 1) {
        return false;
    }
    return !values.empty() && values.size() % 4 == 0;
}

// Neither zero nor infinite, and far from what float32 squares of are.
bool measured(std::string_view values) {
    double sums[4] = {0, 0, 0, 0};
    for (size_t i = 0; i < values.size(); i += 4) {
        float value;
        std::memcpy(&value, values.data() + i, 4);
        sums[i / 4 % 4] += double(value) * double(value);
    }
    const double square = sums[0] + sums[1] + sums[2] + sums[3];
    return square > 1e-29 && square < 1e29;
}

bool plain(std::string_view id) {
    return std::all_of(id.begin(), id.end(),
                       [](char one) { return one >= 0x20 && one < 0x7f && one != '#'; });
}

bool read_point(std::string_view bytes, const Bounds& bounds, Columns& out) {
    if (out.points.size() == bounds.points) return false;
    Reader reader(bytes);
    PointBytes point;
    std::string_view vector;
    uint32_t seen = 0, field, type;
    size_t characters;
    while (!reader.done()) {
        if (!reader.tag(field, type) || type != 2) return false;
        std::string_view* const parts[] = {&point.id, &vector, &point.text, &point.payload};
        if (field < 1 || field > 4 || !take(*parts[field - 1], seen, field, reader)) return false;
    }
    if (!utf8(point.id, characters) || characters < 1 || characters > 256) return false;
    out.plain_ids = out.plain_ids && plain(point.id);
    if (!read_vector(vector, point.vector) || !measured(point.vector)) return false;
    if (out.values == 0) out.values = point.vector.size() / 4;
    if (point.vector.size() / 4 != out.values) return false;
    if (!utf8(point.text, characters) || characters > bounds.text_characters ||
        point.text.find('\0') != std::string_view::npos)
        return false;
    if (point.payload.size() > bounds.payload_bytes) return false;
    out.payload_sizes.push_back(point.payload.size());
    point.json_start = out.json.size();
    if (!json(point.payload, out.json)) return false;
    point.json_size = out.json.size() - point.json_start;
    out.points.push_back(point);
    return true;
}

// The last of each id, by id.
void sort_points(std::vector<PointBytes>& points) {
    std::stable_sort(points.begin(), points.end(),
                     [](const PointBytes& a, const PointBytes& b) { return a.id < b.id; });
    size_t kept = 0;
    for (size_t i = 0; i < points.size(); ++i)
        if (i + 1 == points.size() || points[i].id != points[i + 1].id) points[kept++] = points[i];
    points.resize(kept);
}

void write_int(uint32_t value, std::string& out) {
    for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}

// An array of one dimension as PostgreSQL sends and receives it.
template <class Part>
std::string array_of(const std::vector<PointBytes>& points, uint32_t type, size_t size, Part part) {
    std::string out;
    out.reserve(20 + size + 4 * points.size());
    for (const uint32_t value : {1u, 0u, type, uint32_t(points.size()), 1u}) write_int(value, out);
    for (const PointBytes& point : points) {
        const std::string_view one = part(point);
        write_int(uint32_t(one.size()), out);
        out.append(one);
    }
    return out;
}

bool read(std::string_view data, const Bounds& bounds, Columns& out) {
    Reader reader(data);
    while (!reader.done()) {
        const char* const start = reader.position();
        uint32_t field, type;
        if (!reader.tag(field, type)) return false;
        if (field == bounds.field) {
            std::string_view point;
            if (type != 2 || !reader.bytes(point) || !read_point(point, bounds, out)) return false;
        } else {
            if (!reader.skip(type)) return false;
            out.rest.append(start, reader.position());
        }
    }
    if (out.points.empty()) return false;
    sort_points(out.points);
    out.vectors.resize(out.points.size() * out.values);
    char* to = reinterpret_cast<char*>(out.vectors.data());
    for (const PointBytes& point : out.points) {
        std::memcpy(to, point.vector.data(), point.vector.size());
        to += point.vector.size();
    }
    constexpr uint32_t text = 25, bytea = 17;
    const size_t all = data.size();
    out.ids_array = array_of(out.points, text, 0, [](const auto& one) { return one.id; });
    out.texts_array = array_of(out.points, text, 0, [](const auto& one) { return one.text; });
    out.vectors_array = array_of(out.points, bytea, all, [](const auto& one) { return one.vector; });
    const std::string_view written = out.json;
    out.payloads_array = array_of(out.points, text, written.size(), [&](const auto& one) {
        return written.substr(one.json_start, one.json_size);
    });
    return true;
}

py::list strings(const std::vector<PointBytes>& points, std::string_view PointBytes::*part) {
    py::list out(points.size());
    for (size_t i = 0; i < points.size(); ++i) {
        const std::string_view one = points[i].*part;
        out[i] = py::str(one.data(), one.size());
    }
    return out;
}

py::array_t<float> matrix(Columns& columns) {
    const auto rows = static_cast<py::ssize_t>(columns.points.size());
    auto* kept = new std::vector<float>(std::move(columns.vectors));
    py::capsule owner(kept, [](void* at) { delete static_cast<std::vector<float>*>(at); });
    return py::array_t<float>({rows, static_cast<py::ssize_t>(columns.values)}, kept->data(),
                              owner);
}

py::object read_points(const py::bytes& data, uint32_t field, size_t points_max,
                       size_t text_characters_max, size_t payload_bytes_max) {
    const std::string_view bytes = data;
    Columns columns;
    bool whole;
    {
        py::gil_scoped_release released;
        whole = read(bytes, {field, points_max, text_characters_max, payload_bytes_max}, columns);
    }
    if (!whole) return py::none();
    py::list payloads(columns.points.size());
    for (size_t i = 0; i < columns.points.size(); ++i)
        payloads[i] = py::bytes(columns.json.data() + columns.points[i].json_start,
                                columns.points[i].json_size);
    py::dict out;
    out["rest"] = py::bytes(columns.rest);
    py::list sizes(columns.payload_sizes.size());
    for (size_t i = 0; i < columns.payload_sizes.size(); ++i)
        sizes[i] = py::int_(columns.payload_sizes[i]);
    out["payload_sizes"] = sizes;
    out["plain_ids"] = columns.plain_ids;
    out["ids"] = strings(columns.points, &PointBytes::id);
    out["texts"] = strings(columns.points, &PointBytes::text);
    out["payloads"] = payloads;
    out["ids_array"] = py::bytes(columns.ids_array);
    out["vectors_array"] = py::bytes(columns.vectors_array);
    out["texts_array"] = py::bytes(columns.texts_array);
    out["payloads_array"] = py::bytes(columns.payloads_array);
    out["vectors"] = matrix(columns);
    return out;
}

}  // namespace

void bind_points(py::module_& module) {
    using py::arg;
    module.def("read_points", &read_points, arg("data"), arg("field"), arg("points_max"),
               arg("text_characters_max"), arg("payload_bytes_max"));
}

}  // namespace ragmesh::wire
