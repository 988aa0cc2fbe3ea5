// Hierarchical navigable small worlds (Malkov and Yashunin, 2018) over rows that never change.
#pragma once

#include <string>
#include <vector>

#include "distance.hpp"
#include "rows.hpp"

namespace ragmesh {

constexpr uint8_t no_node = 255;
constexpr uint32_t links_max = 128;   // of one node at an upper level; twice as many at level 0
constexpr int levels_max = 32;

// The links of all nodes. A list is its length and then positions of rows. Level 0 has a list for
// every row; the lists of row i at levels 1 to levels[i] stand together from upper_start[i] on.
// Of rows that are the same one is a node, and `twins` leads from it through the others.
// What is read here may come from a damaged file: no function trusts a length or a position.
struct Graph {
    const uint32_t* level0 = nullptr;
    const uint8_t* levels = nullptr;
    const uint32_t* upper = nullptr;
    const uint32_t* upper_start = nullptr;
    const uint32_t* twins = nullptr;  // null where no two rows are the same
    size_t count = 0;
    size_t upper_count = 0;
    uint32_t m = 0;
    int64_t entry = -1;
    int max_level = 0;

    struct List {
        const uint32_t* links;
        uint32_t count;
    };
    List list(uint32_t position, int level) const {
        if (level == 0) {
            const uint32_t* at = level0 + static_cast<size_t>(position) * (2 * m + 1);
            return {at + 1, at[0] < 2 * m ? at[0] : 2 * m};
        }
        const size_t row = static_cast<size_t>(upper_start[position]) + level - 1;
        if (levels[position] == no_node || level > levels[position] || row >= upper_count)
            return {nullptr, 0};
        const uint32_t* at = upper + row * (m + 1);
        return {at + 1, at[0] < m ? at[0] : m};
    }
    // The next row that is the same as this one, or 0.
    uint32_t twin(uint32_t position) const {
        const uint32_t next = twins ? twins[position] : 0;
        return next > position && next < count ? next : 0;
    }
    bool is_node(int64_t position) const {
        return position >= 0 && static_cast<size_t>(position) < count &&
               levels[position] != no_node;
    }
};

// What is wrong with the links, or nothing: every position, length and level is looked at once.
std::string faults(const Graph& graph);

// Which rows were seen: one bit a row, so that a million of them stay in the second-level cache.
class Visited {
   public:
    void clear(size_t count) { bits_.assign((count + 63) / 64, 0); }
    // Marks a row; true if it was not marked before.
    bool mark(uint32_t position) {
        uint64_t& word = bits_[position >> 6];
        const uint64_t bit = uint64_t{1} << (position & 63);
        if (word & bit) return false;
        word |= bit;
        return true;
    }
    bool marked(uint32_t position) const { return bits_[position >> 6] >> (position & 63) & 1; }

   private:
    std::vector<uint64_t> bits_;
};

struct Found {
    std::vector<Key> best;  // nearest first
    uint64_t visited = 0;   // rows whose distance was computed
    bool complete = true;   // false: ended by visits_max, or since they would not do
};

struct Walk {
    size_t k = 10;
    size_t ef = 64;
    size_t settled = 0;  // of so many the best may end the walk by standing still; 0: they do not
    const uint8_t* allowed = nullptr;  // one byte a row; null: every row
    uint64_t visits_max = UINT64_MAX;
};

// About the nearest `k` allowed rows. `ef` is the beam: more finds more and takes longer. Where the
// best `settled` stand still while the beam looks at others, it is given up before its end.
Found search(const Graph& graph, const Rows& rows, Metric metric, const Query& query,
             const Walk& walk);

struct Built {
    std::vector<uint32_t> level0;
    std::vector<uint8_t> levels;
    std::vector<uint32_t> upper;
    std::vector<uint32_t> upper_start;
    std::vector<uint32_t> twins;  // empty where no two rows are the same
    int64_t entry = -1;
    int max_level = 0;
    bool stopped = false;
};

struct Plan {
    uint32_t m = 16;
    size_t ef_construction = 100;
    uint64_t seed = 0;
    const Graph* base = nullptr;             // of the first rows; its links are kept and added to
    const volatile uint8_t* stop = nullptr;  // not zero: give up
};

// A graph over the rows at `members`, ascending. The same rows and plan give the same graph, on
// every machine. From the entry every node can be reached, and from the nodes every member.
Built build(const Rows& rows, Metric metric, const uint32_t* members, size_t member_count,
            const Plan& plan);

}  // namespace ragmesh
