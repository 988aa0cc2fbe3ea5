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

// How far the product of a query with a row may be from that with the row's codes, for each unit of
// the row's scale. A row is `e` away from its codes, at most half a scale in each of d dimensions,
// and these are at most 127 scales long in each; a query is `rounding` away from its own codes:
//   |q r - q' r'| <= |q| |e| + |q - q'| |r'| <= scale sqrt(d) (|q| / 2 + 127 |q - q'|)
// by Cauchy and Schwarz. Sums of d floats are wrong by at most d units in the last place.
struct Slack {
    float each_scale;
    // Outside of these, sums of floats lose digits or have no end: such rows are never ruled out.
    float scale_min, scale_max;
};

Slack slack_of(const Query& query, size_t dimensions) {
    double square = 0, rounding = 0;
    for (size_t i = 0; i < dimensions; ++i) {
        const double value = query.values()[i];
        const double apart = value - static_cast<double>(query.codes()[i]) * query.scale();
        square += value * value;
        rounding += apart * apart;
    }
    const double d = static_cast<double>(dimensions), length = std::sqrt(square);
    const double sums = (d + 16) * std::numeric_limits<float>::epsilon();
    const double each = 0.501 * length + 127.5 * (std::sqrt(rounding) + sums * length);
    const double longest = 127.5 * std::sqrt(d) * length;
    return {static_cast<float>(1.001 * std::sqrt(d) * each),
            static_cast<float>(std::max(1e-30, std::min(1e38, 1e-30 / longest))),
            static_cast<float>(std::min(1e38, 1e37 / longest))};
}

// The k-th best of the least that rows can score: what cannot score as much is none of the best.
class Floor {
   public:
    explicit Floor(size_t k) : k_(k) {}
    bool rules_out(float most) const { return least_.size() >= k_ && most < least_.front(); }
    void raise(float least) {
        if (!(least > -infinity)) return;  // nor a NaN
        if (least_.size() >= k_) {
            if (least <= least_.front()) return;
            std::pop_heap(least_.begin(), least_.end(), std::greater<float>());
            least_.pop_back();
        }
        least_.push_back(least);
        std::push_heap(least_.begin(), least_.end(), std::greater<float>());
    }

   private:
    size_t k_;
    std::vector<float> least_;
};

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

Scored scan_by_codes(const Rows& rows, const Rows& coarse, Metric metric, const Query& query,
                     size_t k, const Choice& choice) {
    if (k == 0) return {};
    Query codes = query;
    codes.encode(rows.dimensions);
    const Slack slack = slack_of(codes, rows.dimensions);
    Floor floor(k);
    std::vector<std::pair<uint32_t, float>> possible;  // with the most that each can score
    float near[step];
    for_chosen(choice, rows.count, [&](const uint32_t* positions, size_t count) {
        distances(coarse, metric, codes, positions, count, near);
        for (size_t i = 0; i < count; ++i) {
            const float scale = coarse.scales[positions[i]], apart = slack.each_scale * scale;
            const bool known = scale >= slack.scale_min && scale <= slack.scale_max;
            // As scores are, which are cut to what a cosine can be.
            const float most = known ? score_of(metric, near[i] - apart) : infinity;
            if (floor.rules_out(most)) continue;
            if (known) floor.raise(score_of(metric, near[i] + apart));
            possible.emplace_back(positions[i], most);
        }
    });
    std::vector<uint32_t> left;
    for (const auto& [position, most] : possible)
        if (!floor.rules_out(most)) left.push_back(position);
    Choice those;
    those.positions = left.data();
    those.count = left.size();
    return left.empty() ? Scored{} : scan(rows, metric, query, k, those);
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
