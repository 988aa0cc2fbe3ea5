// Scoring by sparse vectors, a dimension at a time.
#pragma once

#include <vector>

#include "scan.hpp"

namespace ragmesh {

// The rows that have a dimension, their values there, and the query's.
struct Dimension {
    const uint32_t* positions;
    const float* values;
    size_t count;
    float weight;
};

// The best k by inner product of the rows that have one of the dimensions and are allowed, and all
// that tie with the last of them. A row's sum runs over `lists` in their order, in float64: it does
// not depend on which other rows there are. The positions of a list ascend; one that does not is
// left out. `allowed` has `count` entries, or is null for all.
Scored inner_products(const std::vector<Dimension>& lists, size_t count, const uint8_t* allowed,
                      size_t k);

}  // namespace ragmesh
