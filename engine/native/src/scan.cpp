#include "scan.hpp"

#include <algorithm>
#include <functional>

namespace ragmesh {
namespace {

constexpr size_t step = 256;

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
    uint32_t taken[step] = {};
    float scores[step];
    size_t waiting = 0;
    const auto flush = [&](const uint32_t* positions, size_t count) {
        score(rows, metric, query, positions, count, scores);
        for (size_t i = 0; i < count; ++i) best.offer(scores[i], positions[i]);
    };
    if (choice.positions) {
        for (size_t at = 0; at < choice.count; at += step)
            flush(choice.positions + at, std::min(step, choice.count - at));
        return best.take();
    }
    for (size_t position = 0; position < rows.count; ++position) {
        if (choice.allowed && !choice.allowed[position]) continue;
        taken[waiting++] = static_cast<uint32_t>(position);
        if (waiting == step) flush(taken, step), waiting = 0;
    }
    flush(taken, waiting);
    return best.take();
}

}  // namespace ragmesh
