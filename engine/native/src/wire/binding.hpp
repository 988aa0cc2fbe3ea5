// What each part of the module adds to it.
#pragma once

#include <pybind11/pybind11.h>

namespace ragmesh::wire {

namespace py = pybind11;

void bind_points(py::module_& module);

void bind_hits(py::module_& module);

}  // namespace ragmesh::wire
