// Hits of a search, from the columns of its segments to the bytes of the response.
#include <pybind11/numpy.h>

#include <cmath>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "binding.hpp"
#include "reading.hpp"
#include "writing.hpp"

namespace ragmesh::wire {
namespace {

// Raises unless these are the numbers that columns are of.
template <class Number>
struct Numbers {
    const Number* data;
    size_t size;

    explicit Numbers(py::handle given) {
        if (!py::isinstance<py::array>(given)) throw py::type_error("a column is no array");
        const auto array = py::reinterpret_borrow<py::array>(given);
        const char kind = std::is_signed_v<Number> ? 'i' : 'u';
        if (array.itemsize() != sizeof(Number) || array.dtype().kind() != kind ||
            !(array.flags() & py::array::c_style))
            throw py::type_error("a column has values of another type");
        data = static_cast<const Number*>(array.data());
        size = size_t(array.size());
    }
};

struct Strings {
    Numbers<uint8_t> blob;
    Numbers<int64_t> starts;

    Strings(py::handle blob, py::handle starts) : blob(blob), starts(starts) {}

    bool at(size_t index, std::string_view& value) const {
        if (index + 1 >= starts.size) return false;
        const int64_t start = starts.data[index], end = starts.data[index + 1];
        if (start < 0 || end < start || size_t(end) > blob.size) return false;
        value = {reinterpret_cast<const char*>(blob.data) + start, size_t(end - start)};
        return true;
    }

    void fetch_start(size_t index) const {
        if (index < starts.size) __builtin_prefetch(starts.data + index);
    }

    void fetch(size_t index) const {
        std::string_view value;
        if (at(index, value)) __builtin_prefetch(value.data());
    }

    bool text(size_t index, std::string_view& value) const {
        size_t characters;
        return at(index, value) && utf8(value, characters);
    }
};

struct Columns {
    Strings ids, texts, payloads, documents;
    Numbers<int32_t> document, passages;

    explicit Columns(const py::tuple& given)
        : ids(given[0], given[1]), texts(given[2], given[3]), payloads(given[4], given[5]),
          documents(given[6], given[7]), document(given[8]), passages(given[9]) {}

    // What `write` will read, asked for before it does: rows lie anywhere in memory, and waiting for
    // each of their columns one after another takes longer than writing them.
    void fetch_starts(size_t position) const {
        if (position >= document.size || 3 * position + 3 > passages.size) return;
        for (const Strings* one : {&ids, &texts, &payloads}) one->fetch_start(position);
        __builtin_prefetch(document.data + position);
        __builtin_prefetch(passages.data + 3 * position);
    }

    void fetch(size_t position, bool bare) const {
        ids.fetch(position);
        if (bare) return;
        texts.fetch(position);
        payloads.fetch(position);
    }

    // Point.id, .document, .passage_index, .span, and unless `bare` .text and .payload.
    bool write(size_t position, std::string_view document_prefix, bool bare,
               std::string& out) const {
        std::string_view value;
        if (position >= document.size || 3 * position + 3 > passages.size) return false;
        if (!ids.text(position, value)) return false;
        if (!value.empty()) write_bytes(1, value, out);
        if (document.data[position] >= 0) {
            if (!documents.text(size_t(document.data[position]), value)) return false;
            Nested name(5, out);
            out.append(document_prefix).append(value);
            name.end();
            write_place(passages.data + 3 * position, out);
        }
        if (bare) return true;
        if (!texts.text(position, value)) return false;
        if (!value.empty()) write_bytes(3, value, out);
        if (!payloads.at(position, value)) return false;
        if (value == "{}") return true;
        Nested payload(4, out);
        if (!write_struct(value, out)) return false;
        payload.end();
        return true;
    }

   private:
    static void write_place(const int32_t* passage, std::string& out) {
        if (passage[0] != 0) write_int(6, passage[0], out);
        if (passage[1] < 0) return;
        Nested span(7, out);
        if (passage[1] != 0) write_int(1, passage[1], out);
        if (passage[2] != 0) write_int(2, passage[2], out);
        span.end();
    }
};

size_t number_of(py::handle value) {
    const size_t number = PyLong_AsSize_t(value.ptr());
    if (PyErr_Occurred()) throw py::error_already_set();
    return number;
}

float score_of(py::handle value) {
    const double score = PyFloat_AsDouble(value.ptr());
    if (score == -1.0 && PyErr_Occurred()) throw py::error_already_set();
    return static_cast<float>(score);
}

py::object found(const py::dict& among, py::handle key) {
    PyObject* value = PyDict_GetItemWithError(among.ptr(), key.ptr());
    if (value == nullptr && PyErr_Occurred()) throw py::error_already_set();
    return py::reinterpret_borrow<py::object>(value);
}

void write_scores(const py::tuple& place, float score, const py::tuple& legs, std::string& out) {
    // As protobuf does it: what is 0 to the bit is not there, in fields that cannot be missing.
    if (score != 0.0f || std::signbit(score)) write_real(2, score, out);
    for (const py::handle leg : legs) {
        const auto pair = py::reinterpret_borrow<py::tuple>(leg);
        const auto field = static_cast<uint32_t>(number_of(pair[0]));
        if (pair[1].is_none()) {
            write_real(field, score, out);
            continue;
        }
        const py::object own = found(py::reinterpret_borrow<py::dict>(pair[1]), place);
        if (own) write_real(field, score_of(own), out);
    }
}

struct Row {
    py::tuple place;
    const Columns* columns;  // none for a row that is in `points`
    size_t position;
    float score;
};

std::vector<Row> rows_of(const py::list& hits, const std::vector<std::optional<Columns>>& segments) {
    std::vector<Row> rows;
    rows.reserve(hits.size());
    for (const py::handle one : hits) {
        const auto pair = py::cast<py::tuple>(one);
        auto place = py::cast<py::tuple>(pair[0]);
        const size_t segment = number_of(place[0]), position = number_of(place[1]);
        if (segment >= segments.size()) throw py::index_error("a hit is of no segment");
        const Columns* columns = segments[segment] ? &*segments[segment] : nullptr;
        if (columns != nullptr) columns->fetch_starts(position);
        rows.push_back({std::move(place), columns, position, score_of(pair[1])});
    }
    return rows;
}

py::object write_hits(const py::list& segments, const py::list& hits, const py::tuple& legs,
                      const py::dict& points, std::string_view document_prefix, bool bare) {
    std::vector<std::optional<Columns>> columns;
    columns.reserve(segments.size());
    for (const py::handle segment : segments) {
        columns.emplace_back();
        if (!segment.is_none()) columns.back().emplace(py::cast<py::tuple>(segment));
    }
    const std::vector<Row> rows = rows_of(hits, columns);
    for (const Row& row : rows)
        if (row.columns != nullptr) row.columns->fetch(row.position, bare);
    std::string out;
    out.reserve(64 * rows.size());
    for (const Row& row : rows) {
        Nested hit(1, out);
        if (row.columns == nullptr) {
            const py::object point = found(points, row.place);
            if (!point) throw py::key_error("a hit has neither columns nor a point");
            write_bytes(1, py::cast<std::string_view>(point), out);
        } else {
            Nested point(1, out);
            if (!row.columns->write(row.position, document_prefix, bare, out)) return py::none();
            point.end();
        }
        write_scores(row.place, row.score, legs, out);
        hit.end();
    }
    return py::bytes(out);
}

}  // namespace

void bind_hits(py::module_& module) {
    using py::arg;
    module.def("write_hits", &write_hits, arg("segments"), arg("hits"), arg("legs"), arg("points"),
               arg("document_prefix"), arg("bare"));
}

}  // namespace ragmesh::wire
