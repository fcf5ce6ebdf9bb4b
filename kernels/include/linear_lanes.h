// The few vector operations of products, in the widths of the tiers: private to kernels/linear.
// A `Codes` holds four unsigned codes a lane; integer sums are exact, so tiers differ only in speed.
#pragma once

#include <cstdint>
#include <cstring>

#include "vec.h"

#if defined(__AVX512BW__) && defined(__AVX512VNNI__) && defined(__AVX512BF16__)
#define FURCATE_LANES_512
#include <immintrin.h>
#elif defined(__AVX2__) && defined(__F16C__)
#define FURCATE_LANES_256
#include <immintrin.h>
#endif

namespace furcate {

inline int32_t load_i32(const void* from) {
  int32_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

#if defined(FURCATE_LANES_512)

// The forms with a mask of all lanes cost nothing; GCC 12 warns about those without one.
struct Lanes {
  static constexpr int WIDTH = 16, BLOCK_ROWS = 8, FLOAT_ROWS = 12;
  using Float = __m512;
  using Int = __m512i;
  using Codes = __m512i;

  static Float zero() { return _mm512_setzero_ps(); }
  static Float splat(float value) { return _mm512_set1_ps(value); }
  static Float load(const float* from) { return _mm512_loadu_ps(from); }
  static Float load_half(const uint16_t* from) {
    return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256((const __m256i*)from));
  }
  static void store(float* to, Float a) { _mm512_storeu_ps(to, a); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }

  static Int zero_i() { return _mm512_setzero_si512(); }
  static Int splat_i(int32_t value) { return _mm512_set1_epi32(value); }
  static Float to_float(Int a) { return _mm512_maskz_cvtepi32_ps(0xffff, a); }
  static Codes load_codes(const uint8_t* from) { return _mm512_loadu_si512(from); }
  static Codes low(Codes a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
  static Codes high(Codes a) { return low(_mm512_maskz_srli_epi16(~0u, a, 4)); }
  // 16 more where the bit of the code is set.
  static Codes fifth_bits(Codes a, const uint8_t* bits) {
    uint64_t mask;
    std::memcpy(&mask, bits, sizeof mask);
    return _mm512_mask_add_epi8(a, mask, a, _mm512_set1_epi8(16));
  }
  // Adds the products of a lane's four codes with the four signed bytes of `x`.
  template <int BITS>
  static Int dot(Int sum, Codes codes, int32_t x) {
    return _mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(x));
  }
  // Adds the product of the upper halves, then that of the lower halves; subnormals are zeros.
  static Float dot_bf16(Float sum, Int weights, int32_t x) {
    return _mm512_dpbf16_ps(sum, (__m512bh)weights, (__m512bh)_mm512_set1_epi32(x));
  }
};

#elif defined(FURCATE_LANES_256)

struct Lanes {
  static constexpr int WIDTH = 8, BLOCK_ROWS = 4, FLOAT_ROWS = 4;
  using Float = __m256;
  using Int = __m256i;
  using Codes = __m256i;

  static Float zero() { return _mm256_setzero_ps(); }
  static Float splat(float value) { return _mm256_set1_ps(value); }
  static Float load(const float* from) { return _mm256_loadu_ps(from); }
  static Float load_half(const uint16_t* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static void store(float* to, Float a) { _mm256_storeu_ps(to, a); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }

  static Int zero_i() { return _mm256_setzero_si256(); }
  static Int splat_i(int32_t value) { return _mm256_set1_epi32(value); }
  static Float to_float(Int a) { return _mm256_cvtepi32_ps(a); }
  static Codes load_codes(const uint8_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  static Codes low(Codes a) { return _mm256_and_si256(a, _mm256_set1_epi8(15)); }
  static Codes high(Codes a) { return low(_mm256_srli_epi16(a, 4)); }
  static Codes fifth_bits(Codes a, const uint8_t* bits) {
    const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
                                            2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i each = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201u));
    const __m256i here = _mm256_shuffle_epi8(_mm256_set1_epi32(load_i32(bits)), spread);
    const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(here, each), each);
    return _mm256_or_si256(a, _mm256_and_si256(set, _mm256_set1_epi8(16)));
  }
  // Pairs of products of 7-bit codes fit 16 bits; 8-bit codes are taken in two parts.
  template <int BITS>
  static Int dot(Int sum, Codes codes, int32_t x) {
    const __m256i ones = _mm256_set1_epi16(1), rows = _mm256_set1_epi32(x);
    if (BITS == 8) {
      const __m256i top = _mm256_set1_epi8(-128);
      const __m256i upper = _mm256_maddubs_epi16(_mm256_and_si256(codes, top), rows);
      const __m256i lower = _mm256_maddubs_epi16(_mm256_andnot_si256(top, codes), rows);
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(upper, ones));
      return _mm256_add_epi32(sum, _mm256_madd_epi16(lower, ones));
    }
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(codes, rows), ones));
  }
  static Float dot_bf16(Float sum, Int weights, int32_t x) {
    const __m256i upper = _mm256_set1_epi32(static_cast<int32_t>(0xffff0000u));
    const __m256i rows = _mm256_set1_epi32(x);
    sum = add(sum, mul((__m256)_mm256_and_si256(weights, upper),
                       (__m256)_mm256_and_si256(rows, upper)));
    return add(sum, mul((__m256)_mm256_slli_epi32(weights, 16), (__m256)_mm256_slli_epi32(rows, 16)));
  }
};

#else

struct Lanes {
  static constexpr int WIDTH = 16, BLOCK_ROWS = 2, FLOAT_ROWS = 4;
  using Float = f32x16;
  using Int = i32x16;
  struct Codes {
    uint8_t at[64];
  };

  static Float zero() { return f32x16{}; }
  static Float splat(float value) { return furcate::splat(value); }
  static Float load(const float* from) { return load_f32(from); }
  static Float load_half(const uint16_t* from) {
    float values[LANES];
    for (int n = 0; n < LANES; n++) values[n] = from_f16(from[n]);
    return load_f32(values);
  }
  static void store(float* to, Float a) { store_f32(to, a); }
  static Float mul(Float a, Float b) { return a * b; }
  static Float add(Float a, Float b) { return a + b; }

  static Int zero_i() { return Int{}; }
  static Int splat_i(int32_t value) { return furcate::splat(value); }
  static Float to_float(Int a) { return to_f32(a); }
  static Codes load_codes(const uint8_t* from) {
    Codes codes;
    std::memcpy(codes.at, from, sizeof codes.at);
    return codes;
  }
  static Codes low(Codes a) {
    for (int n = 0; n < 64; n++) a.at[n] &= 15;
    return a;
  }
  static Codes high(Codes a) {
    for (int n = 0; n < 64; n++) a.at[n] >>= 4;
    return a;
  }
  static Codes fifth_bits(Codes a, const uint8_t* bits) {
    for (int n = 0; n < 64; n++) a.at[n] |= static_cast<uint8_t>((bits[n / 8] >> (n % 8) & 1) << 4);
    return a;
  }
  template <int BITS>
  static Int dot(Int sum, const Codes& codes, int32_t x) {
    int8_t rows[4];
    std::memcpy(rows, &x, sizeof rows);
    int32_t sums[LANES];
    furcate::store(sums, sum);
    for (int lane = 0; lane < LANES; lane++)
      for (int n = 0; n < 4; n++) sums[lane] += codes.at[lane * 4 + n] * rows[n];
    return furcate::load<i32x16>(sums);
  }
  static Float dot_bf16(Float sum, Int weights, int32_t x) {
    const i32x16 rows = furcate::splat(x);
    const int32_t upper = static_cast<int32_t>(0xffff0000u);
    sum = sum + bits_f32(weights & upper) * bits_f32(rows & upper);
    const i32x16 low_weights = (i32x16)((u32x16)weights << 16);
    return sum + bits_f32(low_weights) * bits_f32((i32x16)((u32x16)rows << 16));
  }
};

#endif

}  // namespace furcate
