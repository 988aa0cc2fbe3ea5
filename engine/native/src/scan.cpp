#include "scan.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

namespace ragmesh {
namespace {

constexpr size_t step = 256;
constexpr float infinity = std::numeric_limits<float>::infinity();

// Calls `visit` with up to `step` chosen positions at a time.
template <class Visit>
void for_chosen(const Choice& choice, size_t count, Visit visit) {
    if (choice.positions) {
        for (size_t at = 0; at < choice.count; at += step)
            visit(choice.positions + at, std::min(step, choice.count - at));
        return;
    }
    uint32_t taken[step] = {};
    size_t waiting = 0;
    for (size_t position = 0; position < count; ++position) {
        // Without a branch, which a filter's bytes would mislead at every other row.
        taken[waiting] = static_cast<uint32_t>(position);
        waiting += !choice.allowed || choice.allowed[position];
        if (waiting == step) visit(taken, step), waiting = 0;
    }
    visit(taken, waiting);
}

}  // namespace

void Best::cut() {
    if (k_ > 0 && kept_.size() > k_) {
        const auto last = kept_.begin() + static_cast<std::ptrdiff_t>(k_ - 1);
        std::nth_element(kept_.begin(), last, kept_.end(), std::greater<Key>());
        bound_ = static_cast<uint32_t>(*last >> 32);
        full_ = true;
        const auto worse = [this](Key key) { return key >> 32 < bound_; };
        kept_.erase(std::remove_if(kept_.begin(), kept_.end(), worse), kept_.end());
    }
    next_cut_ = std::max<size_t>(1024, 2 * kept_.size());
}

Scored Best::take() {
    cut();
    Scored out;
    if (k_ == 0) return out;
    out.positions.reserve(kept_.size());
    out.scores.reserve(kept_.size());
    for (const Key key : kept_) {
        out.positions.push_back(position_of(key));
        out.scores.push_back(distance_of(key));
    }
    return out;
}

void score(const Rows& rows, Metric metric, const Query& query, const uint32_t* positions,
           size_t count, float* out) {
    distances(rows, metric, query, positions, count, out);
    for (size_t i = 0; i < count; ++i) out[i] = score_of(metric, out[i]);
}

Scored scan(const Rows& rows, Metric metric, const Query& query, size_t k, const Choice& choice) {
    Best best(k);
    float scores[step];
    for_chosen(choice, rows.count, [&](const uint32_t* positions, size_t count) {
        score(rows, metric, query, positions, count, scores);
        for (size_t i = 0; i < count; ++i) best.offer(scores[i], positions[i]);
    });
    return best.take();
}

void encode(const Rows& rows, int8_t* codes, float* scales) {
    Query widened;
    for (size_t position = 0; position < rows.count; ++position) {
        widened.set(rows, static_cast<uint32_t>(position));
        const float* row = widened.values();
        int8_t* out = codes + position * rows.dimensions;
        float largest = 0;
        for (size_t i = 0; i < rows.dimensions; ++i)
            largest = std::max(largest, std::fabs(row[i]));
        const float scale = largest / 127.0f;
        for (size_t i = 0; i < rows.dimensions; ++i) {
            const float steps = scale > 0 ? std::nearbyint(row[i] / scale) : 0.0f;
            out[i] = static_cast<int8_t>(steps > 127 ? 127 : steps > -127 ? steps : -127);
        }
        scales[position] = scale;
    }
}

}  // namespace ragmesh
