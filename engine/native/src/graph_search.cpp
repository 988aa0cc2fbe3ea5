#include <algorithm>
#include <functional>

#include "graph.hpp"

namespace ragmesh {
namespace {

// What a search needs for itself, kept by its thread: nothing is allocated for each query.
struct Scratch {
    Visited visited;
    std::vector<Key> candidates;
    std::vector<Key> results;
    std::vector<uint32_t> fresh;
    std::vector<float> distance;
};

Scratch& scratch() {
    static thread_local Scratch mine;
    return mine;
}

class Search {
   public:
    Search(const Graph& graph, const Rows& rows, Metric metric, const Query& query,
           const Walk& walk, Found& found)
        : graph_(graph), rows_(rows), metric_(metric), query_(query), walk_(walk), found_(found),
          own_(scratch()) {}

    void run() {
        if (!graph_.is_node(graph_.entry) || walk_.k == 0) return;
        own_.visited.clear(graph_.count);
        own_.candidates.clear();
        own_.results.clear();
        beam_ = std::max(walk_.ef, walk_.k);
        const Key entry = measure(static_cast<uint32_t>(graph_.entry));
        begin_at(descend(entry));
        begin_at(entry);  // from which every node can be reached
        walk();
        finish();
    }

   private:
    bool is_allowed(uint32_t position) const {
        return !walk_.allowed || walk_.allowed[position];
    }

    void begin_at(Key key) {
        if (own_.visited.mark(position_of(key))) offer(key);
    }

    // Greedily through the upper levels, to where level 0 is entered.
    Key descend(Key best) {
        for (int level = std::min(graph_.max_level, levels_max); level > 0; --level)
            for (bool nearer = true; nearer;) {
                nearer = false;
                const Graph::List list = graph_.list(position_of(best), level);
                own_.fresh.clear();
                for (uint32_t i = 0; i < list.count; ++i)
                    if (graph_.is_node(list.links[i])) own_.fresh.push_back(list.links[i]);
                measure_fresh();
                for (size_t i = 0; i < own_.fresh.size(); ++i) {
                    const Key key = key_of(own_.distance[i], own_.fresh[i]);
                    if (key < best) best = key, nearer = true;
                }
            }
        return best;
    }

    void walk() {
        auto& candidates = own_.candidates;
        const auto farther = std::greater<Key>();
        while (!candidates.empty()) {
            const Key nearest = candidates.front();
            if (full() && nearest > own_.results.front()) break;
            if (found_.visited >= walk_.visits_max) {
                found_.complete = false;
                break;
            }
            std::pop_heap(candidates.begin(), candidates.end(), farther);
            candidates.pop_back();
            expand(position_of(nearest));
            measure_fresh();
            for (size_t i = 0; i < own_.fresh.size(); ++i)
                offer(key_of(own_.distance[i], own_.fresh[i]));
            if (!candidates.empty())
                __builtin_prefetch(graph_.level0 + static_cast<size_t>(position_of(
                                                       candidates.front())) * (2 * graph_.m + 1));
        }
    }

    // The neighbors of a node that were not seen yet.
    void expand(uint32_t node) {
        own_.fresh.clear();
        const Graph::List list = graph_.list(node, 0);
        for (uint32_t i = 0; i < list.count; ++i) {
            const uint32_t next = list.links[i];
            if (next < graph_.count && own_.visited.mark(next)) own_.fresh.push_back(next);
        }
    }

    void offer(Key key) {
        auto& results = own_.results;
        if (full() && key > results.front()) return;
        own_.candidates.push_back(key);
        std::push_heap(own_.candidates.begin(), own_.candidates.end(), std::greater<Key>());
        if (!is_allowed(position_of(key))) return;
        results.push_back(key);
        std::push_heap(results.begin(), results.end());
        if (results.size() > beam_) {
            std::pop_heap(results.begin(), results.end());
            results.pop_back();
        }
    }

    bool full() const { return own_.results.size() >= beam_; }

    Key measure(uint32_t position) {
        float distance;
        distances(rows_, metric_, query_, &position, 1, &distance);
        found_.visited += 1;
        return key_of(distance, position);
    }

    void measure_fresh() {
        own_.distance.resize(own_.fresh.size());
        distances(rows_, metric_, query_, own_.fresh.data(), own_.fresh.size(),
                  own_.distance.data());
        found_.visited += own_.fresh.size();
    }

    void finish() {
        auto& results = own_.results;
        std::sort(results.begin(), results.end());
        if (results.size() > walk_.k) results.resize(walk_.k);
        found_.best.assign(results.begin(), results.end());
    }

    const Graph& graph_;
    const Rows& rows_;
    const Metric metric_;
    const Query& query_;
    const Walk& walk_;
    Found& found_;
    Scratch& own_;
    size_t beam_ = 0;
};

}  // namespace

Found search(const Graph& graph, const Rows& rows, Metric metric, const Query& query,
             const Walk& walk) {
    Found found;
    Search(graph, rows, metric, query, walk, found).run();
    return found;
}

}  // namespace ragmesh
