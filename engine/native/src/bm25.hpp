// Scoring by words, a word at a time.
#pragma once

#include <vector>

#include "scan.hpp"

namespace ragmesh {

struct Postings {
    const uint32_t* positions;
    const uint16_t* frequencies;
    size_t count;
    double weight;
};

struct Bm25 {
    double k1;
    double b;
    double mean_length;
};

// The best k of the rows that have one of the words and are allowed, and all that tie with the
// last of them. A row's sum runs over `lists` in their order, in float64: it does not depend on
// which other rows there are. `allowed` and `lengths` have `count` entries.
Scored bm25(const std::vector<Postings>& lists, const uint32_t* lengths, size_t count,
            const Bm25& settings, const uint8_t* allowed, size_t k);

}  // namespace ragmesh
