#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "graph.hpp"
#include "twins.hpp"

namespace ragmesh {
namespace {

// A well mixed number for each (seed, position, draw): the level of a node depends on nothing else.
uint64_t mixed(uint64_t seed, uint64_t position, uint64_t draw) {
    uint64_t x = seed * 0x9e3779b97f4a7c15u + position * 0xbf58476d1ce4e5b9u + draw + 1;
    for (int round = 0; round < 2; ++round) {
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
        x = (x ^ x >> 27) * 0x94d049bb133111ebu;
        x ^= x >> 31;
    }
    return x;
}

// A node is at level l or above with probability m^-l, the paper's distribution. In integers: a
// logarithm may differ between two C libraries.
int level_of(uint64_t seed, uint32_t position, uint32_t m) {
    const uint64_t up = std::numeric_limits<uint64_t>::max() / m;
    int level = 0;
    while (level < levels_max - 1 && mixed(seed, position, level) < up) ++level;
    return level;
}

constexpr float unknown = std::numeric_limits<float>::quiet_NaN();

class Builder {
   public:
    Builder(const Rows& rows, Metric metric, const Plan& plan)
        : rows_(rows), metric_(metric), plan_(plan), width0_(2 * plan.m + 1), width_(plan.m + 1) {
        built_.level0.assign(rows.count * width0_, 0);
        built_.levels.assign(rows.count, no_node);
        built_.upper_start.assign(rows.count, 0);
        link_distance_.assign(rows.count * 2 * plan.m, unknown);
        if (plan.base) copy(*plan.base);
    }

    Built run(const uint32_t* members, size_t count) {
        Twins twins = twins_of(rows_, members, count, plan_.base);
        built_.twins = std::move(twins.next);
        for (const uint32_t position : twins.nodes) {
            if (plan_.stop && *plan_.stop) {
                built_.stopped = true;
                return std::move(built_);
            }
            insert(position);
        }
        connect_all();
        return std::move(built_);
    }

   private:
    void copy(const Graph& base) {
        std::copy_n(base.level0, base.count * width0_, built_.level0.begin());
        std::copy_n(base.levels, base.count, built_.levels.begin());
        std::copy_n(base.upper_start, base.count, built_.upper_start.begin());
        built_.upper.assign(base.upper, base.upper + base.upper_count * width_);
        built_.entry = base.entry;
        built_.max_level = base.max_level;
    }

    uint32_t* list(uint32_t position, int level) {
        if (level == 0) return built_.level0.data() + position * width0_;
        return built_.upper.data() + (built_.upper_start[position] + level - 1) * width_;
    }
    size_t capacity(int level) const { return level == 0 ? 2 * plan_.m : plan_.m; }
    // Distances of the links of level 0, so that a full list is pruned without computing them.
    float* known(uint32_t position) { return link_distance_.data() + position * 2 * plan_.m; }

    void insert(uint32_t position) {
        const int level = level_of(plan_.seed, position, plan_.m);
        built_.levels[position] = static_cast<uint8_t>(level);
        if (level > 0) {
            built_.upper_start[position] = static_cast<uint32_t>(built_.upper.size() / width_);
            built_.upper.resize(built_.upper.size() + level * width_, 0);
        }
        if (built_.entry < 0) {
            built_.entry = position;
            built_.max_level = level;
            return;
        }
        query_.set(rows_, position, metric_);
        uint32_t at = static_cast<uint32_t>(built_.entry);
        for (int above = built_.max_level; above > level; --above) at = greedy(at, above);
        for (int here = std::min(level, built_.max_level); here >= 0; --here) {
            search_level(at, here, plan_.ef_construction);
            at = position_of(results_.front());
            connect(position, here);
        }
        if (level > built_.max_level) {
            built_.entry = position;
            built_.max_level = level;
        }
    }

    uint32_t greedy(uint32_t start, int level) {
        Key best = key_of(measure(start), start);
        for (bool nearer = true; nearer;) {
            nearer = false;
            const uint32_t* links = list(position_of(best), level);
            measure(links + 1, links[0]);
            for (uint32_t i = 0; i < links[0]; ++i) {
                const Key key = key_of(distance_[i], links[1 + i]);
                if (key < best) best = key, nearer = true;
            }
        }
        return position_of(best);
    }

    // Leaves the nearest `beam` nodes that the walk finds in results_, nearest first.
    void search_level(uint32_t start, int level, size_t beam) {
        visited_.clear(rows_.count);
        candidates_.clear();
        results_.clear();
        visited_.mark(start);
        const Key first = key_of(measure(start), start);
        candidates_.push_back(first);
        results_.push_back(first);
        const auto farther = std::greater<Key>();
        while (!candidates_.empty()) {
            const Key nearest = candidates_.front();
            if (results_.size() >= beam && nearest > results_.front()) break;
            std::pop_heap(candidates_.begin(), candidates_.end(), farther);
            candidates_.pop_back();
            const uint32_t* links = list(position_of(nearest), level);
            fresh_.clear();
            for (uint32_t i = 1; i <= links[0]; ++i)
                if (visited_.mark(links[i])) fresh_.push_back(links[i]);
            measure(fresh_.data(), fresh_.size());
            for (size_t i = 0; i < fresh_.size(); ++i) {
                const Key key = key_of(distance_[i], fresh_[i]);
                if (results_.size() >= beam && key > results_.front()) continue;
                candidates_.push_back(key);
                std::push_heap(candidates_.begin(), candidates_.end(), farther);
                results_.push_back(key);
                std::push_heap(results_.begin(), results_.end());
                if (results_.size() > beam) {
                    std::pop_heap(results_.begin(), results_.end());
                    results_.pop_back();
                }
            }
            if (!candidates_.empty())
                __builtin_prefetch(list(position_of(candidates_.front()), level));
        }
        std::sort(results_.begin(), results_.end());
    }

    // The paper's Algorithm 4: of `from`, nearest first, those that are nearer to their node than
    // to any chosen before, so that links lead in all directions.
    void choose(const std::vector<Key>& from, size_t wanted) {
        chosen_.clear();
        chosen_at_.clear();
        for (const Key key : from) {
            if (chosen_.size() >= wanted) break;
            const uint32_t candidate = position_of(key);
            other_.set(rows_, candidate, metric_);
            bool good = true;
            float between[4];
            for (size_t i = 0; good && i < chosen_at_.size(); i += 4) {
                const size_t four = std::min<size_t>(4, chosen_at_.size() - i);
                distances(rows_, metric_, other_, chosen_at_.data() + i, four, between);
                for (size_t j = 0; j < four; ++j) good &= !(between[j] < distance_of(key));
            }
            if (!good) continue;
            chosen_.push_back(key);
            chosen_at_.push_back(candidate);
        }
    }

    // Links a node with some of results_, both ways.
    void connect(uint32_t position, int level) {
        choose(results_, plan_.m);
        uint32_t* own = list(position, level);
        own[0] = static_cast<uint32_t>(chosen_.size());
        for (size_t i = 0; i < chosen_.size(); ++i) {
            own[1 + i] = position_of(chosen_[i]);
            if (level == 0) known(position)[i] = distance_of(chosen_[i]);
        }
        const std::vector<Key> neighbors(chosen_);
        for (const Key key : neighbors) add(position_of(key), level, position, distance_of(key));
    }

    void add(uint32_t to, int level, uint32_t link, float distance) {
        uint32_t* links = list(to, level);
        if (links[0] < capacity(level)) {
            if (level == 0) known(to)[links[0]] = distance;
            links[1 + links[0]++] = link;
            return;
        }
        keys_of(to, level);
        pruned_.push_back(key_of(distance, link));
        std::sort(pruned_.begin(), pruned_.end());
        choose(pruned_, capacity(level));
        links[0] = static_cast<uint32_t>(chosen_.size());
        for (size_t i = 0; i < chosen_.size(); ++i) {
            links[1 + i] = position_of(chosen_[i]);
            if (level == 0) known(to)[i] = distance_of(chosen_[i]);
        }
    }

    // Leaves the links of a node with their distances in pruned_.
    void keys_of(uint32_t position, int level) {
        const uint32_t* links = list(position, level);
        const uint32_t count = links[0];
        pruned_.clear();
        const float* distance = level == 0 ? known(position) : nullptr;
        if (!distance || std::any_of(distance, distance + count,
                                     [](float value) { return std::isnan(value); })) {
            other_.set(rows_, position, metric_);
            distance_.resize(std::max<size_t>(distance_.size(), count));
            distances(rows_, metric_, other_, links + 1, count, distance_.data());
            distance = distance_.data();
        }
        for (uint32_t i = 0; i < count; ++i)
            pruned_.push_back(key_of(distance[i], links[1 + i]));
    }

    // Pruning can leave a node that no link leads to, or a group of them. The links by which a
    // node was reached first are kept, so that giving it one more loses nothing.
    void connect_all() {
        if (built_.entry < 0) return;
        reached_by_.assign(rows_.count, no_one);
        reach(static_cast<uint32_t>(built_.entry), static_cast<uint32_t>(built_.entry));
        for (size_t i = 0; i < rows_.count; ++i) {
            const uint32_t position = static_cast<uint32_t>(i);
            if (built_.levels[i] == no_node || reached_by_[i] != no_one) continue;
            reach(position, link_to(position));
        }
    }

    void reach(uint32_t start, uint32_t from) {
        reached_by_[start] = from;
        std::vector<uint32_t> waiting{start};
        while (!waiting.empty()) {
            const uint32_t node = waiting.back();
            waiting.pop_back();
            const uint32_t* links = list(node, 0);
            for (uint32_t i = 1; i <= links[0]; ++i)
                if (reached_by_[links[i]] == no_one) {
                    reached_by_[links[i]] = node;
                    waiting.push_back(links[i]);
                }
        }
    }

    // Makes the nearest reached node that can do so link to this one; gives that node.
    uint32_t link_to(uint32_t position) {
        query_.set(rows_, position, metric_);
        uint32_t at = static_cast<uint32_t>(built_.entry);
        for (size_t beam = plan_.ef_construction;; beam *= 2) {
            search_level(at, 0, beam);
            for (const Key key : results_)
                if (takes(position_of(key), position, distance_of(key))) return position_of(key);
        }
    }

    bool takes(uint32_t node, uint32_t link, float distance) {
        uint32_t* links = list(node, 0);
        uint32_t at = links[0];
        if (at < capacity(0)) {
            links[0] += 1;
        } else {
            // The farthest link that nobody depends on.
            keys_of(node, 0);
            Key worst = 0;
            for (uint32_t i = 0; i < links[0]; ++i)
                if (reached_by_[links[1 + i]] != node && pruned_[i] >= worst)
                    worst = pruned_[i], at = i;
            if (at == links[0]) return false;
        }
        links[1 + at] = link;
        known(node)[at] = distance;
        return true;
    }

    float measure(uint32_t position) {
        float distance;
        distances(rows_, metric_, query_, &position, 1, &distance);
        return distance;
    }
    void measure(const uint32_t* positions, size_t count) {
        if (distance_.size() < count) distance_.resize(count);
        distances(rows_, metric_, query_, positions, count, distance_.data());
    }

    static constexpr uint32_t no_one = UINT32_MAX;

    const Rows& rows_;
    const Metric metric_;
    const Plan& plan_;
    const size_t width0_;
    const size_t width_;
    Built built_;
    std::vector<float> link_distance_;
    Query query_;
    Query other_;
    Visited visited_;
    std::vector<Key> candidates_, results_, chosen_, pruned_;
    std::vector<uint32_t> fresh_, chosen_at_, reached_by_;
    std::vector<float> distance_;
};

}  // namespace

Built build(const Rows& rows, Metric metric, const uint32_t* members, size_t member_count,
            const Plan& plan) {
    return Builder(rows, metric, plan).run(members, member_count);
}

std::string faults(const Graph& graph) {
    const auto at = [](const char* what, size_t position) {
        return std::string(what) + " at position " + std::to_string(position);
    };
    if (graph.entry >= 0 && !graph.is_node(graph.entry)) return "the entry is no node";
    if (graph.entry >= 0 && graph.levels[graph.entry] != graph.max_level)
        return "the entry is not at the highest level";
    for (size_t i = 0; i < graph.count; ++i) {
        const bool node = graph.levels[i] != no_node;
        const uint32_t twin = graph.twins ? graph.twins[i] : 0;
        if (twin && (twin <= i || twin >= graph.count || graph.levels[twin] != no_node))
            return at("a twin that is none", i);
        if (node && (graph.entry < 0 || graph.levels[i] > graph.max_level))
            return at("a node above the highest level", i);
        const int top = node ? graph.levels[i] : 0;
        if (top > 0 && graph.upper_start[i] + static_cast<size_t>(top) > graph.upper_count)
            return at("a node without its upper lists", i);
        for (int level = 0; level <= top; ++level) {
            const uint32_t* list =
                level == 0 ? graph.level0 + i * (2 * graph.m + 1)
                           : graph.upper + (graph.upper_start[i] + size_t(level) - 1) *
                                               (graph.m + 1);
            if (list[0] > (node ? (level == 0 ? 2 * graph.m : graph.m) : 0))
                return at("a list that is too long", i);
            for (uint32_t j = 1; j <= list[0]; ++j)
                if (!graph.is_node(list[j]) || graph.levels[list[j]] < level)
                    return at("a link to no node of its level", i);
        }
    }
    return "";
}

}  // namespace ragmesh
