// Sixteen lanes of float or int32, in the vector extension of GCC and Clang: one source for AVX-512,
// AVX2 and plain C++. Every operation is one IEEE operation a lane, and the build forbids the
// contraction of products and sums, so these functions give the same bits on every machine.
//
// With AVX-512 a vector is one register. Elsewhere it is a tree of halves (`Pair`) as long as
// registers: compilers put wider vectors into memory and compare them lane by lane. Code that keeps
// to operators (+ - * / & | ^ ~ << >> and comparisons, a scalar on either side too), to `a[lane]`
// for reading and to the functions below compiles for both; `?:` and compiler builtins do not.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace furcate {

constexpr int LANES = 16;

typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef float f32x8 __attribute__((vector_size(32)));
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef uint32_t u32x8 __attribute__((vector_size(32)));
typedef uint16_t u16x16 __attribute__((vector_size(32)));
typedef int8_t i8x16 __attribute__((vector_size(16)));
typedef uint8_t u8x16 __attribute__((vector_size(16)));

#if defined(__AVX512F__)

typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));

inline f32x8 low_half(f32x16 a) { return __builtin_shufflevector(a, a, 0, 1, 2, 3, 4, 5, 6, 7); }
inline f32x8 high_half(f32x16 a) {
  return __builtin_shufflevector(a, a, 8, 9, 10, 11, 12, 13, 14, 15);
}
inline i32x8 low_half(i32x16 a) { return (i32x8)low_half((f32x16)a); }
inline i32x8 high_half(i32x16 a) { return (i32x8)high_half((f32x16)a); }

#else

template <typename Half>
struct Pair {
  using Element = std::decay_t<decltype(std::declval<const Half&>()[0])>;
  static constexpr int HALF_LANES = sizeof(Half) / sizeof(Element);

  Half low, high;

  Element operator[](int lane) const {
    return lane < HALF_LANES ? low[lane] : high[lane - HALF_LANES];
  }
  // The same bits as lanes of another type.
  template <typename Other>
  explicit operator Pair<Other>() const {
    return {(Other)low, (Other)high};
  }
};

#define FURCATE_BINARY(op)                                                            \
  template <typename Half>                                                            \
  inline Pair<Half> operator op(const Pair<Half>& a, const Pair<Half>& b) {           \
    return {a.low op b.low, a.high op b.high};                                        \
  }                                                                                   \
  template <typename Half>                                                            \
  inline Pair<Half> operator op(const Pair<Half>& a, typename Pair<Half>::Element b) { \
    return {a.low op b, a.high op b};                                                 \
  }                                                                                   \
  template <typename Half>                                                            \
  inline Pair<Half> operator op(typename Pair<Half>::Element a, const Pair<Half>& b) { \
    return {a op b.low, a op b.high};                                                 \
  }                                                                                   \
  template <typename Half, typename Other>                                            \
  inline Pair<Half>& operator op##=(Pair<Half>& a, const Other& b) {                  \
    return a = a op b;                                                                \
  }
FURCATE_BINARY(+)
FURCATE_BINARY(-)
FURCATE_BINARY(*)
FURCATE_BINARY(/)
FURCATE_BINARY(&)
FURCATE_BINARY(|)
FURCATE_BINARY(^)
FURCATE_BINARY(<<)
FURCATE_BINARY(>>)
#undef FURCATE_BINARY

#define FURCATE_COMPARISON(op)                                                        \
  template <typename Half>                                                            \
  inline auto operator op(const Pair<Half>& a, const Pair<Half>& b)                   \
      ->Pair<decltype(a.low op b.low)> {                                              \
    return {a.low op b.low, a.high op b.high};                                        \
  }                                                                                   \
  template <typename Half>                                                            \
  inline auto operator op(const Pair<Half>& a, typename Pair<Half>::Element b)        \
      ->Pair<decltype(a.low op b)> {                                                  \
    return {a.low op b, a.high op b};                                                 \
  }
FURCATE_COMPARISON(<)
FURCATE_COMPARISON(<=)
FURCATE_COMPARISON(>)
FURCATE_COMPARISON(>=)
FURCATE_COMPARISON(==)
FURCATE_COMPARISON(!=)
#undef FURCATE_COMPARISON

template <typename Half>
inline Pair<Half> operator-(const Pair<Half>& a) {
  return {-a.low, -a.high};
}
template <typename Half>
inline Pair<Half> operator~(const Pair<Half>& a) {
  return {~a.low, ~a.high};
}

#if defined(__AVX2__)
using f32x16 = Pair<f32x8>;
using i32x16 = Pair<i32x8>;
using u32x16 = Pair<u32x8>;
inline f32x8 low_half(const f32x16& a) { return a.low; }
inline f32x8 high_half(const f32x16& a) { return a.high; }
inline i32x8 low_half(const i32x16& a) { return a.low; }
inline i32x8 high_half(const i32x16& a) { return a.high; }
#else
using f32x16 = Pair<Pair<f32x4>>;
using i32x16 = Pair<Pair<i32x4>>;
using u32x16 = Pair<Pair<u32x4>>;
inline Pair<f32x4> low_half(const f32x16& a) { return a.low; }
inline Pair<f32x4> high_half(const f32x16& a) { return a.high; }
inline f32x4 low_half(const Pair<f32x4>& a) { return a.low; }
inline f32x4 high_half(const Pair<f32x4>& a) { return a.high; }
inline Pair<i32x4> low_half(const i32x16& a) { return a.low; }
inline Pair<i32x4> high_half(const i32x16& a) { return a.high; }
inline i32x4 low_half(const Pair<i32x4>& a) { return a.low; }
inline i32x4 high_half(const Pair<i32x4>& a) { return a.high; }
#endif

#endif

inline f32x4 low_half(f32x8 a) { return __builtin_shufflevector(a, a, 0, 1, 2, 3); }
inline f32x4 high_half(f32x8 a) { return __builtin_shufflevector(a, a, 4, 5, 6, 7); }
inline i32x4 low_half(i32x8 a) { return (i32x4)low_half((f32x8)a); }
inline i32x4 high_half(i32x8 a) { return (i32x4)high_half((f32x8)a); }

template <typename Vector>
struct Bytes {
  static Vector load(const void* from) {
    Vector vector;
    std::memcpy(&vector, from, sizeof(Vector));
    return vector;
  }
  static void store(void* to, const Vector& vector) { std::memcpy(to, &vector, sizeof(Vector)); }
};

#if !defined(__AVX512F__)
// Register by register: a copy of the whole goes through memory in other pieces than it is read.
template <typename Half>
struct Bytes<Pair<Half>> {
  static Pair<Half> load(const void* from) {
    return {Bytes<Half>::load(from), Bytes<Half>::load(static_cast<const char*>(from) + sizeof(Half))};
  }
  static void store(void* to, const Pair<Half>& vector) {
    Bytes<Half>::store(to, vector.low);
    Bytes<Half>::store(static_cast<char*>(to) + sizeof(Half), vector.high);
  }
};
#endif

template <typename Vector, typename Element>
inline Vector load(const Element* from) {
  return Bytes<Vector>::load(from);
}

template <typename Vector, typename Element>
inline void store(Element* to, Vector vector) {
  Bytes<Vector>::store(to, vector);
}

inline f32x16 load_f32(const float* from) { return load<f32x16>(from); }

// The first `count` lanes; zeros behind them.
inline f32x16 load_f32(const float* from, int count) {
  float lanes[LANES] = {};
  std::memcpy(lanes, from, sizeof(float) * count);
  return load<f32x16>(lanes);
}

inline void store_f32(float* to, f32x16 vector) { store(to, vector); }

inline void store_f32(float* to, f32x16 vector, int count) {
  std::memcpy(to, &vector, sizeof(float) * count);
}

inline f32x16 splat(float value) { return value - f32x16{}; }
inline i32x16 splat(int32_t value) { return value - i32x16{}; }

// Lane by lane from one element type to another: as a cast of the element. From float to int32 only
// for |a| < 2**31.
template <typename To, typename From>
inline To convert(const From& from) {
#if defined(__AVX512F__)
  return __builtin_convertvector(from, To);
#else
  using Source = std::decay_t<decltype(std::declval<const From&>()[0])>;
  using Target = std::decay_t<decltype(std::declval<const To&>()[0])>;
  Source before[LANES];
  Target after[LANES];
  store(before, from);
  for (int lane = 0; lane < LANES; lane++) after[lane] = static_cast<Target>(before[lane]);
  return load<To>(after);
#endif
}

inline f32x16 to_f32(i32x16 vector) { return convert<f32x16>(vector); }
inline f32x16 to_f32(i8x16 vector) { return convert<f32x16>(vector); }
inline f32x16 to_f32(u8x16 vector) { return convert<f32x16>(vector); }
inline i32x16 to_i32(f32x16 vector) { return convert<i32x16>(vector); }  // towards zero
inline i32x16 to_i32(i8x16 vector) { return convert<i32x16>(vector); }
inline i8x16 to_i8(i32x16 vector) { return convert<i8x16>(vector); }
// Two vectors of numbers within [-128, 127], one after the other; quicker than each by itself.
inline void store_i8(int8_t* to, i32x16 low, i32x16 high) {
#if defined(__AVX512VBMI__)
  const __m512i fourths = _mm512_set_epi64(0, 0, 0, 0, 0x7c7874706c686460, 0x5c5854504c484440,
                                           0x3c3834302c282420, 0x1c1814100c080400);
  const __m512i bytes = _mm512_permutex2var_epi8((__m512i)low, fourths, (__m512i)high);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_castsi512_si256(bytes));
#else
  store(to, to_i8(low));
  store(to + LANES, to_i8(high));
#endif
}
inline u32x16 to_u32(u16x16 vector) { return convert<u32x16>(vector); }
inline u16x16 to_u16(u32x16 vector) { return convert<u16x16>(vector); }

inline f32x16 bits_f32(i32x16 vector) { return (f32x16)vector; }
inline f32x16 bits_f32(u32x16 vector) { return (f32x16)vector; }
inline i32x16 bits_i32(f32x16 vector) { return (i32x16)vector; }

// Written with the compiler's `?:`, which becomes one instruction on the registers of a machine.
template <typename Mask, typename Vector>
inline Vector select(Mask mask, Vector yes, Vector no) {
  return mask ? yes : no;
}
template <typename Vector>
inline Vector greater(Vector a, Vector b) {
  return a > b ? a : b;
}
template <typename Vector>
inline Vector smaller(Vector a, Vector b) {
  return a < b ? a : b;
}
#if !defined(__AVX512F__)
template <typename Mask, typename Half>
inline Pair<Half> select(const Pair<Mask>& mask, const Pair<Half>& yes, const Pair<Half>& no) {
  return {select(mask.low, yes.low, no.low), select(mask.high, yes.high, no.high)};
}
template <typename Half>
inline Pair<Half> greater(const Pair<Half>& a, const Pair<Half>& b) {
  return {greater(a.low, b.low), greater(a.high, b.high)};
}
template <typename Half>
inline Pair<Half> smaller(const Pair<Half>& a, const Pair<Half>& b) {
  return {smaller(a.low, b.low), smaller(a.high, b.high)};
}
#endif

// The second where the comparison fails, as with a NaN on either side.
inline f32x16 maximum(f32x16 a, f32x16 b) { return greater(a, b); }
inline f32x16 minimum(f32x16 a, f32x16 b) { return smaller(a, b); }
inline i32x16 maximum(i32x16 a, i32x16 b) { return greater(a, b); }
inline f32x16 absolute(f32x16 a) { return bits_f32(bits_i32(a) & 0x7fffffff); }

// To the nearest integer, halves to even; for |a| < 2**22.
inline f32x16 round_even(f32x16 a) { return (a + 12582912.0f) - 12582912.0f; }

// The same as an integer: the sum leaves no room for fractions, and ends in its bits. Of a NaN or a
// number out of range it is any integer.
inline i32x16 to_i32_even(f32x16 a) { return bits_i32(a + 12582912.0f) - 0x4b400000; }

// Sums and maxima over the lanes, in one fixed order: lanes 8 apart first, then 4, 2, 1.
inline float sum_lanes(f32x16 a) {
  const auto eight = low_half(a) + high_half(a);
  const f32x4 four = low_half(eight) + high_half(eight);
  return (four[0] + four[2]) + (four[1] + four[3]);
}

inline int32_t sum_lanes(i32x16 a) {
  const auto eight = low_half(a) + high_half(a);
  const i32x4 four = low_half(eight) + high_half(eight);
  return (four[0] + four[2]) + (four[1] + four[3]);
}

// Of numbers: with a NaN among them the result is any lane.
inline float max_lanes(f32x16 a) {
  const auto eight = greater(low_half(a), high_half(a));
  const f32x4 four = greater(low_half(eight), high_half(eight));
  const float even = four[0] > four[2] ? four[0] : four[2];
  const float odd = four[1] > four[3] ? four[1] : four[3];
  return even > odd ? even : odd;
}

inline int32_t max_lanes(i32x16 a) {
  const auto eight = greater(low_half(a), high_half(a));
  const i32x4 four = greater(low_half(eight), high_half(eight));
  const int32_t even = four[0] > four[2] ? four[0] : four[2];
  const int32_t odd = four[1] > four[3] ? four[1] : four[3];
  return even > odd ? even : odd;
}

// Lane n is the maximum of the lanes of the n-th of four vectors.
inline i32x4 max_of_four(const i32x16* v) {
#if defined(__AVX512F__)
  i32x16 pairs[2];
  for (int n = 0; n < 2; n++) {
    const __m512i a = (__m512i)v[2 * n], b = (__m512i)v[2 * n + 1];
    pairs[n] =
        greater((i32x16)_mm512_unpacklo_epi32(a, b), (i32x16)_mm512_unpackhi_epi32(a, b));
  }
  const __m512i a = (__m512i)pairs[0], b = (__m512i)pairs[1];
  const i32x16 four =
      greater((i32x16)_mm512_unpacklo_epi64(a, b), (i32x16)_mm512_unpackhi_epi64(a, b));
  const i32x8 half = greater(low_half(four), high_half(four));
  return greater(low_half(half), high_half(half));
#else
  return i32x4{max_lanes(v[0]), max_lanes(v[1]), max_lanes(v[2]), max_lanes(v[3])};
#endif
}

// Their sums, where every sum of any of a vector's lanes is a number of 16 bits.
inline i32x4 sum_of_four(const i32x16* v) {
#if defined(__AVX512BW__)
  const auto join = [](__m512i a, __m512i b) {  // sums of two lanes, four by four in turn
    return _mm512_madd_epi16(_mm512_packs_epi32(a, b), _mm512_set1_epi16(1));
  };
  const i32x16 four = (i32x16)join(join((__m512i)v[0], (__m512i)v[1]),
                                   join((__m512i)v[2], (__m512i)v[3]));
  const i32x8 half = low_half(four) + high_half(four);
  return low_half(half) + high_half(half);
#else
  return i32x4{sum_lanes(v[0]), sum_lanes(v[1]), sum_lanes(v[2]), sum_lanes(v[3])};
#endif
}

inline bool any(i32x4 mask) {
#if defined(__SSE2__)
  return _mm_movemask_ps((__m128)mask) != 0;
#else
  return (mask[0] | mask[1] | mask[2] | mask[3]) != 0;
#endif
}

// Bit n says whether lane n of a comparison holds.
inline uint32_t lane_bits(i32x16 mask) {
#if defined(__AVX512F__)
  return static_cast<uint32_t>(_mm512_test_epi32_mask((__m512i)mask, (__m512i)mask));
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps((__m256)mask.low)) |
         static_cast<uint32_t>(_mm256_movemask_ps((__m256)mask.high)) << 8;
#elif defined(__SSE2__)
  return static_cast<uint32_t>(_mm_movemask_ps((__m128)mask.low.low)) |
         static_cast<uint32_t>(_mm_movemask_ps((__m128)mask.low.high)) << 4 |
         static_cast<uint32_t>(_mm_movemask_ps((__m128)mask.high.low)) << 8 |
         static_cast<uint32_t>(_mm_movemask_ps((__m128)mask.high.high)) << 12;
#else
  uint32_t bits = 0;
  for (int lane = 0; lane < LANES; lane++) bits |= (mask[lane] ? 1u : 0u) << lane;
  return bits;
#endif
}

// bfloat16 is the upper half of a float.
inline f32x16 from_bf16(u16x16 stored) { return bits_f32(to_u32(stored) << 16); }

// To the nearest, halves to even; NaNs stay NaNs.
inline u16x16 to_bf16(f32x16 a) {
  const u32x16 bits = (u32x16)a;
  const u32x16 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const u32x16 quiet = (bits >> 16) | 0x40u;
  return to_u16(select(a != a, quiet, rounded));
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
// ones are cut off, a NaN stays one. Range reduction by ln 2 in two parts (Cody and Waite 1980),
// then the Taylor polynomial of degree 7 on [-ln 2 / 2, ln 2 / 2].
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
  const i32x16 power = (to_i32(n) + 127) << 23;
  return select(a < -87.0f, f32x16{}, p * bits_f32(power));
}

}  // namespace furcate
