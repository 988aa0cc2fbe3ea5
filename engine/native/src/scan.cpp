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

// The least score that ties with this one or is better: what is clipped alike ties.
float tying(Metric metric, float score) {
    if (metric != Metric::cosine) return score;
    return score > 1.0f ? 1.0f : score < -1.0f ? -infinity : score;
}

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

// How far the score of a stand-in may be from that of its row. Beside the row's error it bounds
// what rounding does to both sums, of 32 lanes of (dimensions / 32) steps, folded in 5, and to what
// is computed from them: much less than the error, so it is bounded with much room.
class Slack {
   public:
    Slack(const Coarse& coarse, Metric metric, const Query& query) : coarse_(coarse) {
        const size_t dimensions = coarse.rows.dimensions;
        double square = 0;
        for (size_t i = 0; i < dimensions; ++i)
            square += double(query.values()[i]) * query.values()[i];
        const double length = std::sqrt(square);
        const double rounding = (double(dimensions) / lanes + 16) * 2.4e-7;
        const double row_length = 127 * std::sqrt(double(dimensions));
        const bool euclidean = metric == Metric::euclidean;
        by_error_ = float((euclidean ? 1 : length) * (1 + 2 * rounding) * (1 + 1e-6));
        by_scale_ = float((euclidean ? 1 : length) * rounding * row_length * (1 + 1e-6));
        fixed_ = euclidean ? float(rounding * length * (1 + 1e-6)) : 0.0f;
    }
    void of(const uint32_t* positions, size_t count, float* out) const {
        for (size_t i = 0; i < count; ++i)
            out[i] = by_error_ * coarse_.errors[positions[i]] +
                     by_scale_ * coarse_.rows.scales[positions[i]] + fixed_;
    }

   private:
    const Coarse& coarse_;
    float by_error_, by_scale_, fixed_;
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

Scored scan_twice(const Rows& rows, const Coarse& coarse, Metric metric, const Query& query,
                  size_t k, const Choice& choice) {
    const Slack slack(coarse, metric, query);
    // A clipped score would hide how far a row is from being the best.
    const Metric open = metric == Metric::cosine ? Metric::dot : metric;
    std::vector<std::pair<float, uint32_t>> possible;  // the best that a row may be
    std::vector<float> certain;  // the k best that rows are at least, as a heap; the worst in front
    float bound = -infinity;
    float scores[step], wide[step];
    for_chosen(choice, rows.count, [&](const uint32_t* positions, size_t count) {
        score(coarse.rows, open, query, positions, count, scores);
        slack.of(positions, count, wide);
        for (size_t i = 0; i < count; ++i) {
            const float most = scores[i] + wide[i];
            const float least = scores[i] - wide[i];
            // What is not a number is not less: such a row is looked at.
            if (k == 0 || most < bound) continue;
            possible.emplace_back(most, positions[i]);
            if (!(least > bound)) continue;
            certain.push_back(least);
            std::push_heap(certain.begin(), certain.end(), std::greater<float>());
            if (certain.size() > k) {
                std::pop_heap(certain.begin(), certain.end(), std::greater<float>());
                certain.pop_back();
            }
            if (certain.size() == k) bound = tying(metric, certain.front());
        }
    });
    std::vector<uint32_t> left;
    for (const auto& [most, position] : possible)
        if (!(most < bound)) left.push_back(position);
    Choice again;
    again.positions = left.data();
    again.count = left.size();
    if (left.empty()) return Scored();
    return scan(rows, metric, query, k, again);
}

void make_coarse(const Rows& rows, int8_t* values, float* scales, float* errors) {
    Query widened;
    for (size_t position = 0; position < rows.count; ++position) {
        widened.set(rows, static_cast<uint32_t>(position));
        const float* row = widened.values();
        int8_t* out = values + position * rows.dimensions;
        float largest = 0;
        for (size_t i = 0; i < rows.dimensions; ++i)
            largest = std::max(largest, std::fabs(row[i]));
        const float scale = largest / 127.0f;
        double square = 0;
        for (size_t i = 0; i < rows.dimensions; ++i) {
            const float steps = scale > 0 ? std::nearbyint(row[i] / scale) : 0.0f;
            out[i] = static_cast<int8_t>(steps > 127 ? 127 : steps > -127 ? steps : -127);
            const double off = double(row[i]) - double(out[i]) * scale;
            square += off * off;
        }
        scales[position] = scale;
        errors[position] = static_cast<float>(std::sqrt(square) * (1 + 1e-6));
    }
}

}  // namespace ragmesh
