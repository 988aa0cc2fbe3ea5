#include "distance.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx2,fma,f16c")
#endif

namespace ragmesh {
namespace avx512 {

struct V {
    using Register = __m512;
    static constexpr size_t width = 16;
    static constexpr size_t group = 4;
    static Register zero() { return _mm512_setzero_ps(); }
    static Register load(const float* p) { return _mm512_loadu_ps(p); }
    static Register load(const uint16_t* p) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static Register load(const int8_t* p) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
    }
    static Register fused(Register a, Register b, Register sum) {
        return _mm512_fmadd_ps(a, b, sum);
    }
    static Register plus(Register a, Register b) { return _mm512_add_ps(a, b); }
    static Register minus(Register a, Register b) { return _mm512_sub_ps(a, b); }
    static Register times(Register a, float scale) {
        return _mm512_mul_ps(a, _mm512_set1_ps(scale));
    }
    static float folded(Register a) {
        const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
        const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a), high);
        __m128 x = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
        x = _mm_add_ps(x, _mm_movehl_ps(x, x));
        return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
    }
    using Sum = __m512i;
    static constexpr size_t codes = 32;
    static Sum no_sum() { return _mm512_setzero_si512(); }
    static Sum products(Sum sum, const int16_t* query, const int8_t* row) {
        const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row));
        const __m512i own = _mm512_loadu_si512(query);
        return _mm512_add_epi32(sum, _mm512_madd_epi16(own, _mm512_cvtepi8_epi16(bytes)));
    }
    static int32_t total(Sum sum) {
        const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(sum),
                                              _mm512_extracti64x4_epi64(sum, 1));
        __m128i x = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
        x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
        return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
    }
};

#include "kernels.inc"

}  // namespace avx512

const Kernels avx512_kernels = {
    "avx512",
    {avx512::dot_gathers[0], avx512::dot_gathers[1], avx512::dot_gathers[2]},
    {avx512::euclidean_gathers[0], avx512::euclidean_gathers[1], avx512::euclidean_gathers[2]},
    avx512::code_gather,
    {avx512::widens[0], avx512::widens[1], avx512::widens[2]}};

}  // namespace ragmesh

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
