#include "distance.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>

namespace ragmesh {
namespace {

#if defined(__x86_64__)
bool wide() { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"); }
#endif

constexpr size_t whole_lanes(size_t dimensions) { return (dimensions + lanes - 1) / lanes * lanes; }

// The largest code of a query: a sum of its products with codes of rows must stay an int32.
float code_max(size_t dimensions) {
    return static_cast<float>(std::min<size_t>(16'383, INT32_MAX / 128 / (dimensions + 1)));
}

const Kernels* best() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool fused = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    // Every CPU with AVX2 converts float16, though not every compiler can ask for it.
    if (fused && wide()) return &avx512_kernels;
    if (fused) return &avx2_kernels;
#elif defined(__aarch64__)
    return &neon_kernels;
#endif
    return &plain_kernels;
}

std::atomic<const Kernels*>& current() {
    static std::atomic<const Kernels*> kernels{best()};
    return kernels;
}

}  // namespace

void Query::set(const float* values, size_t dimensions) {
    padded_.assign(whole_lanes(dimensions), 0.0f);
    std::memcpy(padded_.data(), values, dimensions * sizeof(float));
    values_ = padded_.data();
    codes_.clear();
}

void Query::encode(size_t dimensions) {
    float largest = 0.0f;
    for (size_t i = 0; i < dimensions; ++i) largest = std::max(largest, std::fabs(values_[i]));
    codes_.assign(whole_lanes(dimensions), 0);
    scale_ = largest / code_max(dimensions);
    if (!(scale_ > 0.0f)) return;
    for (size_t i = 0; i < dimensions; ++i)
        codes_[i] = static_cast<int16_t>(std::lrint(values_[i] / scale_));
}

void Query::set(const Rows& rows, uint32_t position) {
    const size_t dimensions = rows.dimensions;
    const unsigned char* row = rows.row(position);
    codes_.clear();
    if (rows.kind == Kind::float32) {
        const float* values = reinterpret_cast<const float*>(row);
        if (dimensions % lanes == 0)
            values_ = values;
        else
            set(values, dimensions);
        return;
    }
    padded_.resize(whole_lanes(dimensions));
    const Widen* widen = current().load(std::memory_order_relaxed)->widen;
    const float scale = rows.scales ? rows.scales[position] : 1.0f;
    widen[static_cast<size_t>(rows.kind)](row, dimensions, scale, padded_.data());
    values_ = padded_.data();
}

void Query::set(const Rows& rows, uint32_t position, Metric metric) {
    if (rows.kind != Kind::int8 || metric == Metric::euclidean) return set(rows, position);
    codes_.assign(whole_lanes(rows.dimensions), 0);
    const int8_t* row = reinterpret_cast<const int8_t*>(rows.row(position));
    std::copy_n(row, rows.dimensions, codes_.data());
    scale_ = rows.scales ? rows.scales[position] : 1.0f;
}

void distances(const Rows& rows, Metric metric, const Query& query, const uint32_t* positions,
               size_t count, float* out) {
    const Kernels* kernels = current().load(std::memory_order_relaxed);
    if (query.encoded() && rows.kind == Kind::int8 && metric != Metric::euclidean)
        return kernels->codes(query, rows, positions, count, out);
    const auto& gathers = metric == Metric::euclidean ? kernels->euclidean : kernels->dot;
    gathers[static_cast<size_t>(rows.kind)](query, rows, positions, count, out);
}

float score_of(Metric metric, float distance) {
    if (metric == Metric::euclidean) return -std::sqrt(distance) + 0.0f;
    const float product = -distance + 0.0f;
    if (metric == Metric::dot) return product;
    return product > 1.0f ? 1.0f : product < -1.0f ? -1.0f : product;
}

std::string instructions() { return current().load()->name; }

bool use_instructions(const std::string& name) {
    const Kernels* chosen = nullptr;
    const Kernels* all[] = {
        &plain_kernels,
#if defined(__x86_64__)
        __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2") ? &avx2_kernels : nullptr,
        wide() ? &avx512_kernels : nullptr,
#elif defined(__aarch64__)
        &neon_kernels,
#endif
    };
    for (const Kernels* kernels : all)
        if (kernels && name == kernels->name) chosen = kernels;
    if (chosen) current().store(chosen);
    return chosen != nullptr;
}

}  // namespace ragmesh
