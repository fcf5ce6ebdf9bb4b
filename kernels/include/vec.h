// Sixteen lanes of float or int32, in the vector extension of GCC and Clang: one source for AVX-512,
// AVX2 and plain C++. Every operation is one IEEE operation a lane, and the build forbids the
// contraction of products and sums, so these functions give the same bits on every machine.
#pragma once

#include <cstdint>
#include <cstring>

namespace furcate {

constexpr int LANES = 16;

typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));
typedef uint16_t u16x16 __attribute__((vector_size(32)));
typedef int8_t i8x16 __attribute__((vector_size(16)));

template <typename Vector, typename Element>
inline Vector load(const Element* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof(Vector));
  return vector;
}

template <typename Vector, typename Element>
inline void store(Element* to, Vector vector) {
  std::memcpy(to, &vector, sizeof(Vector));
}

inline f32x16 load_f32(const float* from) { return load<f32x16>(from); }

// The first `count` lanes; zeros behind them.
inline f32x16 load_f32(const float* from, int count) {
  f32x16 vector{};
  std::memcpy(&vector, from, sizeof(float) * count);
  return vector;
}

inline void store_f32(float* to, f32x16 vector) { store(to, vector); }

inline void store_f32(float* to, f32x16 vector, int count) {
  std::memcpy(to, &vector, sizeof(float) * count);
}

inline f32x16 splat(float value) { return value - f32x16{}; }
inline i32x16 splat(int32_t value) { return value - i32x16{}; }

inline f32x16 to_f32(i32x16 vector) { return __builtin_convertvector(vector, f32x16); }
// Towards zero; for |a| < 2**31.
inline i32x16 to_i32(f32x16 vector) { return __builtin_convertvector(vector, i32x16); }
inline f32x16 bits_f32(i32x16 vector) { return (f32x16)vector; }
inline i32x16 bits_i32(f32x16 vector) { return (i32x16)vector; }

inline f32x16 select(i32x16 mask, f32x16 yes, f32x16 no) { return mask ? yes : no; }
inline i32x16 select(i32x16 mask, i32x16 yes, i32x16 no) { return mask ? yes : no; }

// The second where the comparison fails, as with a NaN on either side.
inline f32x16 maximum(f32x16 a, f32x16 b) { return a > b ? a : b; }
inline f32x16 minimum(f32x16 a, f32x16 b) { return a < b ? a : b; }
inline i32x16 maximum(i32x16 a, i32x16 b) { return a > b ? a : b; }
inline f32x16 absolute(f32x16 a) { return bits_f32(bits_i32(a) & 0x7fffffff); }

// To the nearest integer, halves to even; for |a| < 2**22.
inline f32x16 round_even(f32x16 a) {
  const f32x16 magic = splat(12582912.0f);
  return (a + magic) - magic;
}

typedef float f32x8 __attribute__((vector_size(32)));
typedef float f32x4 __attribute__((vector_size(16)));

inline f32x8 low_half(f32x16 a) { return __builtin_shufflevector(a, a, 0, 1, 2, 3, 4, 5, 6, 7); }
inline f32x8 high_half(f32x16 a) {
  return __builtin_shufflevector(a, a, 8, 9, 10, 11, 12, 13, 14, 15);
}
inline f32x4 low_half(f32x8 a) { return __builtin_shufflevector(a, a, 0, 1, 2, 3); }
inline f32x4 high_half(f32x8 a) { return __builtin_shufflevector(a, a, 4, 5, 6, 7); }

// Sums and maxima over the lanes, in one fixed order: lanes 8 apart first, then 4, 2, 1.
inline float sum_lanes(f32x16 a) {
  const f32x8 eight = low_half(a) + high_half(a);
  const f32x4 four = low_half(eight) + high_half(eight);
  return (four[0] + four[2]) + (four[1] + four[3]);
}

inline int32_t sum_lanes(i32x16 a) {
  int32_t lanes[LANES], total = 0;
  store(lanes, a);
  for (int lane = 0; lane < LANES; lane++) total += lanes[lane];
  return total;
}

// Of numbers: with a NaN among them the result is any lane.
inline float max_lanes(f32x16 a) {
  const f32x8 low = low_half(a), high = high_half(a);
  const f32x8 eight = low > high ? low : high;
  const f32x4 left = low_half(eight), right = high_half(eight);
  const f32x4 four = left > right ? left : right;
  const float even = four[0] > four[2] ? four[0] : four[2];
  const float odd = four[1] > four[3] ? four[1] : four[3];
  return even > odd ? even : odd;
}

inline int32_t max_lanes(i32x16 a) {
  int32_t lanes[LANES], largest;
  store(lanes, a);
  largest = lanes[0];
  for (int lane = 1; lane < LANES; lane++) largest = lanes[lane] > largest ? lanes[lane] : largest;
  return largest;
}

// bfloat16 is the upper half of a float.
inline f32x16 from_bf16(u16x16 stored) {
  return (f32x16)(__builtin_convertvector(stored, u32x16) << 16);
}

// To the nearest, halves to even; NaNs stay NaNs.
inline u16x16 to_bf16(f32x16 a) {
  const u32x16 bits = (u32x16)a;
  const u32x16 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const u32x16 quiet = (bits >> 16) | 0x40u;
  const u32x16 is_nan = (u32x16)(a != a);
  return __builtin_convertvector((is_nan & quiet) | (~is_nan & rounded), u16x16);
}

inline float from_bf16(uint16_t stored) {
  const uint32_t bits = static_cast<uint32_t>(stored) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint16_t to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (value != value) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// IEEE half precision, subnormals and infinities included.
inline float from_f16(uint16_t stored) {
  const uint32_t sign = static_cast<uint32_t>(stored & 0x8000u) << 16;
  const uint32_t exponent = (stored >> 10) & 31u, mantissa = stored & 1023u;
  uint32_t bits;
  float value;
  if (exponent == 0) {
    value = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -value : value;
  }
  bits = sign | ((exponent == 31 ? 255u : exponent + 112u) << 23) | (mantissa << 13);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// e**a with a relative error below 2e-7 for -87 <= a <= 88; smaller arguments give zero, larger
// ones are cut off, a NaN stays one. Range reduction by ln 2 in two parts (Cody and Waite 1980), then the Taylor
// polynomial of degree 7 on [-ln 2 / 2, ln 2 / 2].
inline f32x16 exponential(f32x16 a) {
  const f32x16 x = minimum(splat(88.0f), maximum(splat(-87.0f), a));  // a NaN passes through
  const f32x16 n = round_even(x * 1.44269504f);
  const f32x16 r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  f32x16 p = splat(1.0f / 5040.0f);
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const i32x16 power = (__builtin_convertvector(n, i32x16) + 127) << 23;
  return select(a < -87.0f, f32x16{}, p * bits_f32(power));
}

}  // namespace furcate
