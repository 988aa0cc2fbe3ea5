// NEON on arm64; and plain floats, which the compiler turns into what it knows is there. Without
// fused multiply-adds (x86 before 2013) the last bit may differ from the other sets.
#include <algorithm>
#include <cstring>

#include "distance.hpp"

#if defined(__aarch64__)
#include <arm_neon.h>

namespace ragmesh {
namespace neon {

struct V {
    using Register = float32x4_t;
    static constexpr size_t width = 4;
    static constexpr size_t group = 2;
    static Register zero() { return vdupq_n_f32(0.0f); }
    static Register load(const float* p) { return vld1q_f32(p); }
    static Register load(const uint16_t* p) {
        return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
    }
    static Register load(const int8_t* p) {
        int8_t eight[8] = {p[0], p[1], p[2], p[3]};
        return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vld1_s8(eight)))));
    }
    static Register fused(Register a, Register b, Register sum) { return vfmaq_f32(sum, a, b); }
    static Register plus(Register a, Register b) { return vaddq_f32(a, b); }
    static Register minus(Register a, Register b) { return vsubq_f32(a, b); }
    static Register times(Register a, float scale) { return vmulq_n_f32(a, scale); }
    static float folded(Register a) {
        const float32x2_t x = vadd_f32(vget_low_f32(a), vget_high_f32(a));
        return vget_lane_f32(x, 0) + vget_lane_f32(x, 1);
    }
    using Sum = int32x4_t;
    static constexpr size_t codes = 8;
    static Sum no_sum() { return vdupq_n_s32(0); }
    static Sum products(Sum sum, const int16_t* query, const int8_t* row) {
        const int16x8_t own = vld1q_s16(query);
        const int16x8_t other = vmovl_s8(vld1_s8(row));
        sum = vmlal_s16(sum, vget_low_s16(own), vget_low_s16(other));
        return vmlal_s16(sum, vget_high_s16(own), vget_high_s16(other));
    }
    static int32_t total(Sum sum) { return vaddvq_s32(sum); }
};

#include "kernels.inc"

}  // namespace neon

const Kernels neon_kernels = {
    "neon",
    {neon::dot_gathers[0], neon::dot_gathers[1], neon::dot_gathers[2]},
    {neon::euclidean_gathers[0], neon::euclidean_gathers[1], neon::euclidean_gathers[2]},
    neon::code_gather,
    {neon::widens[0], neon::widens[1], neon::widens[2]}};

}  // namespace ragmesh
#endif

namespace ragmesh {
namespace plain {

float widened(uint16_t half) {
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
    const uint32_t exponent = half >> 10 & 31u;
    const uint32_t fraction = half & 1023u;
    if (exponent == 0) {  // zero and subnormals: fraction times 2^-24
        const float value = static_cast<float>(fraction) * 5.9604644775390625e-8f;
        return sign ? -value : value;
    }
    const uint32_t wide = exponent == 31 ? 255u : exponent + 112u;
    const uint32_t bits = sign | wide << 23 | fraction << 13;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

struct V {
    struct Register {
        float of[4];
    };
    static constexpr size_t width = 4;
    static constexpr size_t group = 1;
    static Register zero() { return {{0, 0, 0, 0}}; }
    template <class Function>
    static Register each(Function value) {
        return {{value(0), value(1), value(2), value(3)}};
    }
    static Register load(const float* p) {
        return each([&](int i) { return p[i]; });
    }
    static Register load(const uint16_t* p) {
        return each([&](int i) { return widened(p[i]); });
    }
    static Register load(const int8_t* p) {
        return each([&](int i) { return static_cast<float>(p[i]); });
    }
    static float fused(float a, float b, float sum) {
#if defined(__FP_FAST_FMAF)
        return __builtin_fmaf(a, b, sum);
#else
        return sum + a * b;
#endif
    }
    static Register fused(Register a, Register b, Register sum) {
        return each([&](int i) { return fused(a.of[i], b.of[i], sum.of[i]); });
    }
    static Register plus(Register a, Register b) {
        return each([&](int i) { return a.of[i] + b.of[i]; });
    }
    static Register minus(Register a, Register b) {
        return each([&](int i) { return a.of[i] - b.of[i]; });
    }
    static Register times(Register a, float scale) {
        return each([&](int i) { return a.of[i] * scale; });
    }
    static float folded(Register a) { return (a.of[0] + a.of[2]) + (a.of[1] + a.of[3]); }
    using Sum = int32_t;
    static constexpr size_t codes = lanes;
    static Sum no_sum() { return 0; }
    static Sum products(Sum sum, const int16_t* query, const int8_t* row) {
        for (size_t i = 0; i < codes; ++i) sum += int32_t{query[i]} * row[i];
        return sum;
    }
    static int32_t total(Sum sum) { return sum; }
};

#include "kernels.inc"

}  // namespace plain

const Kernels plain_kernels = {
    "plain",
    {plain::dot_gathers[0], plain::dot_gathers[1], plain::dot_gathers[2]},
    {plain::euclidean_gathers[0], plain::euclidean_gathers[1], plain::euclidean_gathers[2]},
    plain::code_gather,
    {plain::widens[0], plain::widens[1], plain::widens[2]}};

}  // namespace ragmesh
