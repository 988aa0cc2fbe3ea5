#include "bm25.hpp"

namespace ragmesh {
namespace {

// The sums of one call, kept by its thread and all zero between two calls.
struct Sums {
    std::vector<double> of;
    std::vector<uint32_t> touched;
    void clear() {
        for (const uint32_t position : touched) of[position] = 0.0;
        touched.clear();
    }
};

struct Cleared {
    Sums& sums;
    ~Cleared() { sums.clear(); }
};

}  // namespace

Scored bm25(const std::vector<Postings>& lists, const uint32_t* lengths, size_t count,
            const Bm25& settings, const uint8_t* allowed, size_t k) {
    static thread_local Sums sums;
    if (sums.of.size() < count) sums.of.resize(count, 0.0);
    const Cleared cleared{sums};
    const double fixed = settings.k1 * (1.0 - settings.b);
    const double by_length = settings.k1 * settings.b / settings.mean_length;
    for (const Postings& list : lists) {
        const double weight = list.weight * (settings.k1 + 1.0);
        for (size_t i = 0; i < list.count; ++i) {
            const uint32_t position = list.positions[i];
            const double frequency = list.frequencies[i];
            if (position >= count || frequency == 0.0 || !allowed[position]) continue;
            if (sums.of[position] == 0.0) sums.touched.push_back(position);
            const double length = lengths[position];
            sums.of[position] += weight * frequency / (frequency + fixed + by_length * length);
        }
    }
    Best best(k);
    for (const uint32_t position : sums.touched)
        best.offer(static_cast<float>(sums.of[position]), position);
    return best.take();
}

}  // namespace ragmesh
