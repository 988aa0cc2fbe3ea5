// Distances between a query and rows: one routine for graph, scan and rescoring, so that a pair
// has one score. The sums run in 32 lanes that are then folded in one order, with fused
// multiply-adds: AVX2, AVX-512 and NEON give equal bits, and so equal graphs.
#pragma once

#include <string>
#include <vector>

#include "rows.hpp"

namespace ragmesh {

constexpr size_t lanes = 32;

// A query as floats, padded with zeros to whole lanes; and, where it is compared with rows of int8
// by their product, as integers: these sums are exact in any order, and take a fifth of the time.
class Query {
   public:
    Query() = default;
    Query(const float* values, size_t dimensions) { set(values, dimensions); }
    void set(const float* values, size_t dimensions);
    // A row as the query: without copying where it already has this form.
    void set(const Rows& rows, uint32_t position);
    // The same to compare rows with each other: a row of int8 has only its codes then, where
    // `metric` needs no more.
    void set(const Rows& rows, uint32_t position, Metric metric);
    // The same query as codes, rounded to at least 10 bits up to 8,192 dimensions.
    void encode(size_t dimensions);

    const float* values() const { return values_; }
    bool encoded() const { return !codes_.empty(); }
    const int16_t* codes() const { return codes_.data(); }
    float scale() const { return scale_; }

   private:
    std::vector<float> padded_;
    std::vector<int16_t> codes_;  // padded with zeros to whole lanes
    const float* values_ = nullptr;
    float scale_ = 0.0f;  // of the codes
};

// Distances to the rows at `positions`, less is nearer: minus the inner product, or the squared
// Euclidean distance.
void distances(const Rows& rows, Metric metric, const Query& query, const uint32_t* positions,
               size_t count, float* out);

// The score that callers see, more is better, never minus zero.
float score_of(Metric metric, float distance);

// "avx512", "avx2", "neon" or "plain", what this machine runs.
std::string instructions();
// For tests: runs another set from now on; false if this machine has it not.
bool use_instructions(const std::string& name);

using Gather = void (*)(const Query& query, const Rows& rows, const uint32_t* positions,
                        size_t count, float* out);
using Widen = void (*)(const void* row, size_t dimensions, float scale, float* out);
// By kind of row: float32, float16, int8.
struct Kernels {
    const char* name;
    Gather dot[3];
    Gather euclidean[3];
    Gather codes;  // of rows of int8, with a query that is encoded
    Widen widen[3];
};

extern const Kernels plain_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
#elif defined(__aarch64__)
extern const Kernels neon_kernels;
#endif

}  // namespace ragmesh
