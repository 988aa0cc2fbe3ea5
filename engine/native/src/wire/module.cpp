// The module `ragmesh_native.wire`.
#include "binding.hpp"

PYBIND11_MODULE(wire, module) {
    ragmesh::wire::bind_points(module);
    ragmesh::wire::bind_hits(module);
}
