#include "distance.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

namespace ragmesh {
namespace avx2 {

struct V {
    using Register = __m256;
    static constexpr size_t width = 8;
    static constexpr size_t group = 2;
    static Register zero() { return _mm256_setzero_ps(); }
    static Register load(const float* p) { return _mm256_loadu_ps(p); }
    static Register load(const uint16_t* p) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static Register load(const int8_t* p) {
        const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
    }
    static Register fused(Register a, Register b, Register sum) {
        return _mm256_fmadd_ps(a, b, sum);
    }
    static Register plus(Register a, Register b) { return _mm256_add_ps(a, b); }
    static Register minus(Register a, Register b) { return _mm256_sub_ps(a, b); }
    static Register times(Register a, float scale) {
        return _mm256_mul_ps(a, _mm256_set1_ps(scale));
    }
    static float folded(Register a) {
        __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        x = _mm_add_ps(x, _mm_movehl_ps(x, x));
        return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
    }
    using Sum = __m256i;
    static constexpr size_t codes = 16;
    static Sum no_sum() { return _mm256_setzero_si256(); }
    static Sum products(Sum sum, const int16_t* query, const int8_t* row) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row));
        const __m256i own = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query));
        return _mm256_add_epi32(sum, _mm256_madd_epi16(own, _mm256_cvtepi8_epi16(bytes)));
    }
    static int32_t total(Sum sum) {
        __m128i x = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
        x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
        return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
    }
};

#include "kernels.inc"

}  // namespace avx2

const Kernels avx2_kernels = {
    "avx2",
    {avx2::dot_gathers[0], avx2::dot_gathers[1], avx2::dot_gathers[2]},
    {avx2::euclidean_gathers[0], avx2::euclidean_gathers[1], avx2::euclidean_gathers[2]},
    avx2::code_gather,
    {avx2::widens[0], avx2::widens[1], avx2::widens[2]}};

}  // namespace ragmesh

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
