#include "sparse.hpp"

namespace ragmesh {
namespace {

// The sums of one call, kept by its thread, and no row seen between two calls. A sum of 0 says
// nothing: products may cancel each other.
struct Sums {
    std::vector<double> of;
    std::vector<uint8_t> seen;
    std::vector<uint32_t> touched;
    void clear() {
        for (const uint32_t position : touched) seen[position] = 0;
        touched.clear();
    }
};

struct Cleared {
    Sums& sums;
    ~Cleared() { sums.clear(); }
};

}  // namespace

Scored inner_products(const std::vector<Dimension>& lists, size_t count, const uint8_t* allowed,
                      size_t k) {
    static thread_local Sums sums;
    if (sums.of.size() < count) {
        sums.of.resize(count);
        sums.seen.resize(count, 0);
    }
    const Cleared cleared{sums};
    for (const Dimension& list : lists) {
        // Two float32 have an exact product in float64.
        const double weight = list.weight;
        for (size_t i = 0; i < list.count; ++i) {
            const uint32_t position = list.positions[i];
            if (position >= count || (allowed && !allowed[position])) continue;
            const double product = weight * list.values[i];
            if (sums.seen[position]) {
                sums.of[position] += product;
            } else {
                sums.touched.push_back(position);
                sums.seen[position] = 1;
                sums.of[position] = product;
            }
        }
    }
    Best best(k);
    for (const uint32_t position : sums.touched)
        best.offer(static_cast<float>(sums.of[position]) + 0.0f, position);
    return best.take();
}

}  // namespace ragmesh
