#include "twins.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace ragmesh {
namespace {

uint64_t hash_of(const unsigned char* bytes, size_t size) {
    uint64_t hash = size;
    const auto mix = [&hash](uint64_t word) {
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    };
    uint64_t word;
    for (; size >= sizeof word; bytes += sizeof word, size -= sizeof word) {
        std::memcpy(&word, bytes, sizeof word);
        mix(word);
    }
    word = 0;
    std::memcpy(&word, bytes, size);
    mix(word);
    return hash;
}

bool same(const Rows& rows, uint32_t a, uint32_t b) {
    return std::memcmp(rows.row(a), rows.row(b), rows.dimensions * rows.value_bytes()) == 0 &&
           (!rows.scales || rows.scales[a] == rows.scales[b]);
}

// Different rows of one hash that are told apart. Where somebody makes more of them, these have no
// twins, and nobody waits for a comparison of all with all.
constexpr size_t lines_max = 64;

// A node and the last row that it leads to.
struct Line {
    uint32_t node;
    uint32_t last;
};

}  // namespace

Twins twins_of(const Rows& rows, const uint32_t* members, size_t count, const Graph* base) {
    Twins out;
    const size_t old = base ? base->count : 0;
    if (base && base->twins) {
        out.next.assign(base->twins, base->twins + old);
        out.next.resize(rows.count, 0);
    }
    std::vector<std::pair<uint64_t, uint32_t>> hashed;
    hashed.reserve(old + count);
    const size_t bytes = rows.dimensions * rows.value_bytes();
    const auto add = [&](uint32_t position) {
        hashed.emplace_back(hash_of(rows.row(position), bytes), position);
    };
    for (size_t i = 0; i < old; ++i)
        if (base->levels[i] != no_node) add(static_cast<uint32_t>(i));
    for (size_t i = 0; i < count; ++i) add(members[i]);
    std::sort(hashed.begin(), hashed.end());

    std::vector<bool> is_twin(rows.count, false);
    std::vector<Line> lines;
    for (size_t i = 0, end = 0; i < hashed.size(); i = end) {
        for (end = i + 1; end < hashed.size() && hashed[end].first == hashed[i].first;) ++end;
        if (end == i + 1) continue;
        lines.clear();
        for (size_t at = i; at < end; ++at) {
            const uint32_t position = hashed[at].second;
            const auto line = std::find_if(lines.begin(), lines.end(), [&](const Line& one) {
                return same(rows, one.node, position);
            });
            if (line == lines.end()) {
                if (lines.size() >= lines_max) continue;
                uint32_t last = position;
                if (base)
                    while (last < old && base->twin(last)) last = base->twin(last);
                lines.push_back({position, last});
            } else if (position >= old) {  // one of the base that is a node stays one
                if (out.next.empty()) out.next.assign(rows.count, 0);
                out.next[line->last] = position;
                line->last = position;
                is_twin[position] = true;
            }
        }
    }
    out.nodes.reserve(count);
    for (size_t i = 0; i < count; ++i)
        if (!is_twin[members[i]]) out.nodes.push_back(members[i]);
    return out;
}

}  // namespace ragmesh
