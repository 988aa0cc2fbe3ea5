// The rows that are compared, and the views that every part of this module works on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ragmesh {

enum class Metric : uint8_t { dot, cosine, euclidean };

enum class Kind : uint8_t { float32, float16, int8 };

// `count` rows of `dimensions` values one after another. A row of int8 is its values times its
// scale. The memory belongs to somebody else and is only read.
struct Rows {
    const void* values = nullptr;
    const float* scales = nullptr;
    size_t count = 0;
    size_t dimensions = 0;
    Kind kind = Kind::float32;

    size_t value_bytes() const {
        return kind == Kind::float32 ? 4 : kind == Kind::float16 ? 2 : 1;
    }
    const unsigned char* row(size_t position) const {
        return static_cast<const unsigned char*>(values) + position * dimensions * value_bytes();
    }
};

// A float as an unsigned integer of the same order. Total: a NaN has a place too, so that no
// sort or heap can be misled by one.
inline uint32_t ordered(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

inline float unordered(uint32_t bits) {
    bits = bits & 0x80000000u ? bits & 0x7fffffffu : ~bits;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// A distance and the position of its row in one integer: less is nearer, ties by position.
using Key = uint64_t;

inline Key key_of(float distance, uint32_t position) {
    return static_cast<Key>(ordered(distance)) << 32 | position;
}
inline uint32_t position_of(Key key) { return static_cast<uint32_t>(key); }
inline float distance_of(Key key) { return unordered(static_cast<uint32_t>(key >> 32)); }

}  // namespace ragmesh
