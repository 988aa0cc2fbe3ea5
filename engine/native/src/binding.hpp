// What comes from Python is checked here, before anything follows a pointer.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "graph.hpp"
#include "scan.hpp"

namespace ragmesh {

namespace py = pybind11;

// An array that must already be as said: contiguous, aligned, of the type. Never converted, since
// a copy of a mapped file would be silent. Raises ValueError otherwise.
void check_array(const py::array& array, const char* name, const char* dtype, py::ssize_t axes);

template <class T>
const T* checked(const py::array& array, const char* name, const char* dtype, py::ssize_t axes) {
    check_array(array, name, dtype, axes);
    return static_cast<const T*>(array.data());
}

// Rows with the arrays that hold them.
struct HeldRows {
    py::array values;
    py::object scales;
    Rows rows;
    HeldRows(py::array values, py::object scales);
};

// A graph with the arrays that hold it.
struct HeldGraph {
    py::array level0, levels, upper, upper_start;
    py::object twins;
    Graph graph;
    HeldGraph(py::array level0, py::array levels, py::array upper, py::array upper_start,
              int64_t entry, int max_level, py::object twins);
};

Metric metric_of(const std::string& name);
// The query as floats of the rows' dimensions.
Query query_of(const HeldRows& rows, const py::array& query);
// One byte a row, or null for None.
const uint8_t* mask_of(const py::object& mask, size_t count, const char* name);
// Positions below `count`, from uint32 or int64.
std::vector<uint32_t> positions_of(const py::array& array, size_t count, const char* name);

// Hands a vector over to numpy without copying.
template <class T>
py::array_t<T> given(std::vector<T>&& values, std::vector<py::ssize_t> shape) {
    auto* kept = new std::vector<T>(std::move(values));
    py::capsule owner(kept, [](void* at) { delete static_cast<std::vector<T>*>(at); });
    return py::array_t<T>(std::move(shape), kept->data(), owner);
}

template <class T>
py::array_t<T> given(std::vector<T>&& values) {
    const auto size = static_cast<py::ssize_t>(values.size());
    return given(std::move(values), {size});
}

}  // namespace ragmesh
