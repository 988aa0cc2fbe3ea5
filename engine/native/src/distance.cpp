#include "distance.hpp"

#include <atomic>
#include <cmath>

namespace ragmesh {
namespace {

const Kernels* best() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool fused = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    // Every CPU with AVX2 converts float16, though not every compiler can ask for it.
    if (fused && __builtin_cpu_supports("avx512f")) return &avx512_kernels;
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
    padded_.assign((dimensions + lanes - 1) / lanes * lanes, 0.0f);
    std::memcpy(padded_.data(), values, dimensions * sizeof(float));
    values_ = padded_.data();
}

void Query::set(const Rows& rows, uint32_t position) {
    const size_t dimensions = rows.dimensions;
    const unsigned char* row = rows.row(position);
    if (rows.kind == Kind::float32) {
        const float* values = reinterpret_cast<const float*>(row);
        if (dimensions % lanes == 0)
            values_ = values;
        else
            set(values, dimensions);
        return;
    }
    padded_.resize((dimensions + lanes - 1) / lanes * lanes);
    const Widen* widen = current().load(std::memory_order_relaxed)->widen;
    const float scale = rows.scales ? rows.scales[position] : 1.0f;
    widen[static_cast<size_t>(rows.kind)](row, dimensions, scale, padded_.data());
    values_ = padded_.data();
}

void distances(const Rows& rows, Metric metric, const Query& query, const uint32_t* positions,
               size_t count, float* out) {
    const Kernels* kernels = current().load(std::memory_order_relaxed);
    const auto& gathers = metric == Metric::euclidean ? kernels->euclidean : kernels->dot;
    gathers[static_cast<size_t>(rows.kind)](query.values(), rows, positions, count, out);
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
        __builtin_cpu_supports("avx512f") ? &avx512_kernels : nullptr,
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
