// Rows that are the same, byte for byte. A walk's beam would fill with them and see nothing else:
// so one of them is a node, and leads to the others.
#pragma once

#include <vector>

#include "graph.hpp"

namespace ragmesh {

struct Twins {
    std::vector<uint32_t> next;   // by row, 0 after the last; empty where no two are the same
    std::vector<uint32_t> nodes;  // the members that are no twins of an earlier row
};

// Of rows at `members`, ascending, behind those of `base`, if there is one.
Twins twins_of(const Rows& rows, const uint32_t* members, size_t count, const Graph* base);

}  // namespace ragmesh
