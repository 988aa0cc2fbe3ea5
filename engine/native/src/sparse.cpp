#include "sparse.hpp"

#include <algorithm>

namespace ragmesh {
namespace {

// Rows are summed up in blocks whose sums stay in the cache, in which they are written anywhere.
constexpr size_t block_rows = size_t{1} << 14;

}  // namespace

Scored inner_products(const std::vector<Dimension>& lists, size_t count, const uint8_t* allowed,
                      size_t k) {
    std::vector<double> sums(std::min(count, block_rows));
    std::vector<uint8_t> seen(sums.size(), 0);  // a sum of 0 says nothing: products may cancel
    std::vector<size_t> next(lists.size(), 0);
    Best best(k);
    for (size_t begin = 0; begin < count; begin += block_rows) {
        const size_t end = std::min(count, begin + block_rows);
        bool any = false;
        for (size_t at = 0; at < lists.size(); ++at) {
            const Dimension& list = lists[at];
            // Two float32 have an exact product in float64.
            const double weight = list.weight;
            size_t i = next[at];
            for (; i < list.count && list.positions[i] < end; ++i) {
                const size_t position = list.positions[i];
                if (position < begin || (allowed && !allowed[position])) continue;
                double& sum = sums[position - begin];
                sum = (seen[position - begin] ? sum : 0.0) + weight * list.values[i];
                seen[position - begin] = 1;
                any = true;
            }
            next[at] = i;
        }
        if (!any) continue;
        for (size_t row = 0; row < end - begin; ++row) {
            if (!seen[row]) continue;
            seen[row] = 0;
            best.offer(static_cast<float>(sums[row]) + 0.0f, static_cast<uint32_t>(begin + row));
        }
    }
    return best.take();
}

}  // namespace ragmesh
