// Sums of products of bfloat16 pairs in registers, for the kernels of attention alone.
//
// With AVX512_BF16 one instruction adds both products of a pair: the second member's first, each
// with its own rounding, subnormal numbers being zeros. The other tiers do the same in two steps
// and give the same bits as long as no product or sum is subnormal: a product of two bfloat16
// numbers is exact in float32, so it does not matter whether it is fused with the sum.
#pragma once

#include <cfloat>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "vec.h"

namespace furcate {

#if defined(__AVX512BF16__) && defined(__AVX512BW__)

constexpr int PANEL = 12;        // rows of a tile of registers
constexpr int ACCUMULATORS = 24;  // of sixteen lanes

using Bf16Pairs = __m512bh;

inline Bf16Pairs load_pairs(const uint32_t* from) { return (__m512bh)_mm512_loadu_si512(from); }
inline Bf16Pairs repeat_pair(uint32_t pair) {
  return (__m512bh)_mm512_set1_epi32(static_cast<int32_t>(pair));
}
inline f32x16 add_products(f32x16 sum, Bf16Pairs a, Bf16Pairs b) {
  return _mm512_dpbf16_ps(sum, a, b);
}
// The larger one; `a` where it is a NaN. One instruction, which compilers do not find.
inline f32x16 at_least(float bound, f32x16 a) { return _mm512_max_ps(splat(bound), a); }

// Rounds to bfloat16 and stores: `low` is before `high`.
inline Bf16Pairs store_rounded(uint32_t* to, f32x16 low, f32x16 high) {
  const __m512bh pairs = _mm512_cvtne2ps_pbh(high, low);
  _mm512_storeu_si512(to, (__m512i)pairs);
  return pairs;
}

// Sixteen pairs of int8 as bfloat16, which holds them exactly.
inline void widen_pairs(const int8_t* from, uint16_t* to) {
  const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  const __m512 low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(codes)));
  const __m512 high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(codes, 1)));
  _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

#else

struct Bf16Pairs {
  f32x16 first, second;
};

inline Bf16Pairs split_pairs(u32x16 pairs) {
  return {bits_f32(pairs << 16), bits_f32(pairs & 0xffff0000u)};
}
inline Bf16Pairs load_pairs(const uint32_t* from) { return split_pairs(load<u32x16>(from)); }
inline Bf16Pairs repeat_pair(uint32_t pair) { return split_pairs(pair + u32x16{}); }
inline u16x16 round_bf16(f32x16 a) {
  return to_bf16(select(absolute(a) < FLT_MIN, f32x16{}, a));
}
inline f32x16 at_least(float bound, f32x16 a) { return maximum(splat(bound), a); }
inline Bf16Pairs store_rounded(uint32_t* to, f32x16 low, f32x16 high) {
  store(to, round_bf16(low));
  store(to + LANES / 2, round_bf16(high));
  return load_pairs(to);
}

#if defined(__AVX2__)
// The upper halves of eight small integers as float.
inline __m256i upper_halves(const int8_t* from) {
  const __m128i codes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  const __m256 values = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes));
  return _mm256_srli_epi32(_mm256_castps_si256(values), 16);
}
inline void widen_pairs(const int8_t* from, uint16_t* to) {
  for (int i = 0; i < 2 * LANES; i += LANES) {
    const __m256i packed = _mm256_packus_epi32(upper_halves(from + i), upper_halves(from + i + 8));
    const __m256i ordered = _mm256_permute4x64_epi64(packed, 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), ordered);
  }
}
#else
inline void widen_pairs(const int8_t* from, uint16_t* to) {
  for (int i = 0; i < 2 * LANES; i += LANES)
    store(to + i, to_u16((u32x16)to_f32(to_i32(load<i8x16>(from + i))) >> 16));
}
#endif

#if defined(__AVX2__) && defined(__FMA__) && !defined(__AVX512F__)

constexpr int PANEL = 4;
constexpr int ACCUMULATORS = 4;

inline f32x16 fused(f32x16 sum, const f32x16& a, const f32x16& b) {
  return {_mm256_fmadd_ps(a.low, b.low, sum.low), _mm256_fmadd_ps(a.high, b.high, sum.high)};
}
inline f32x16 add_products(f32x16 sum, const Bf16Pairs& a, const Bf16Pairs& b) {
  return fused(fused(sum, a.second, b.second), a.first, b.first);
}

#else

constexpr int PANEL = 2;
constexpr int ACCUMULATORS = 2;

inline f32x16 add_products(f32x16 sum, const Bf16Pairs& a, const Bf16Pairs& b) {
  return (sum + a.second * b.second) + a.first * b.first;
}

#endif
#endif

}  // namespace furcate
