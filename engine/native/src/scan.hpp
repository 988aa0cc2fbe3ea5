// Looking at every row.
#pragma once

#include <vector>

#include "distance.hpp"
#include "rows.hpp"

namespace ragmesh {

struct Scored {
    std::vector<int64_t> positions;
    std::vector<float> scores;
};

// The best k of the scores offered and all that tie with the last of them, without keeping many
// more. Works on any floats, in no order.
class Best {
   public:
    explicit Best(size_t k) : k_(k) {}
    void offer(float score, uint32_t position) {
        if (full_ && ordered(score) < bound_) return;
        kept_.push_back(static_cast<Key>(ordered(score)) << 32 | position);
        if (kept_.size() >= next_cut_) cut();
    }
    Scored take();

   private:
    void cut();

    size_t k_;
    std::vector<Key> kept_;
    uint32_t bound_ = 0;
    bool full_ = false;
    size_t next_cut_ = 1024;
};

// Which rows a scan looks at: those at `positions` if there are any, of all otherwise those with a
// byte in `allowed`, or all.
struct Choice {
    const uint32_t* positions = nullptr;
    size_t count = 0;
    const uint8_t* allowed = nullptr;
};

Scored scan(const Rows& rows, Metric metric, const Query& query, size_t k, const Choice& choice);

// The same of `rows`, of which only those are read that their codes do not rule out: `coarse` are
// the same rows, encoded. Not for Euclidean distances.
Scored scan_by_codes(const Rows& rows, const Rows& coarse, Metric metric, const Query& query,
                     size_t k, const Choice& choice);

// The score of each row at `positions`.
void score(const Rows& rows, Metric metric, const Query& query, const uint32_t* positions,
           size_t count, float* out);

// int8 codes for rows of floats: each row by its own largest value.
void encode(const Rows& rows, int8_t* codes, float* scales);

}  // namespace ragmesh
