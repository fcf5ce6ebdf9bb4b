// Rotary positions: the tables of a step, and the turning of freshly projected queries and keys.
// Separate products and sums, so no element depends on which lane computes it.
#include <cstring>

#include "elementwise.h"
#include "vec.h"

namespace furcate {
namespace {

// Sine and cosine in double precision: the angle is reduced by multiples of pi / 2 in three parts,
// of which the first two have 33 bits, so that their products with the multiple are exact; then the
// Taylor polynomials on [-pi / 4, pi / 4], whose first neglected terms are below 1e-19.
constexpr double HALF_PI_HIGH = 0x1.921fb544p+0;
constexpr double HALF_PI_MIDDLE = 0x1.0b4611a6p-34;
constexpr double HALF_PI_LOW = 0x1.3198a2e037073p-69;
constexpr double TWO_OVER_PI = 0x1.45f306dc9c883p-1;
constexpr double ROUNDER = 0x1.8p52;  // added and taken away again, it rounds to an integer

inline double sine_polynomial(double r) {
  const double s = r * r;
  double p = 1.0 / 355687428096000.0;
  p = p * s - 1.0 / 1307674368000.0;
  p = p * s + 1.0 / 6227020800.0;
  p = p * s - 1.0 / 39916800.0;
  p = p * s + 1.0 / 362880.0;
  p = p * s - 1.0 / 5040.0;
  p = p * s + 1.0 / 120.0;
  p = p * s - 1.0 / 6.0;
  return r + r * (s * p);
}

inline double cosine_polynomial(double r) {
  const double s = r * r;
  double p = -1.0 / 6402373705728000.0;
  p = p * s + 1.0 / 20922789888000.0;
  p = p * s - 1.0 / 87178291200.0;
  p = p * s + 1.0 / 479001600.0;
  p = p * s - 1.0 / 3628800.0;
  p = p * s + 1.0 / 40320.0;
  p = p * s - 1.0 / 720.0;
  p = p * s + 1.0 / 24.0;
  return 1.0 - (0.5 * s - s * s * p);
}

inline uint64_t bits_of(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline double of_bits(uint64_t bits) {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Without branches: the compiler turns the loop around it into vectors. The quadrant stands in the
// lowest bits of the sum that rounds.
inline void turn(double angle, float* cosine, float* sine) {
  const double sum = angle * TWO_OVER_PI + ROUNDER, quarters = sum - ROUNDER;
  const double r = ((angle - quarters * HALF_PI_HIGH) - quarters * HALF_PI_MIDDLE) -
                   quarters * HALF_PI_LOW;
  const uint64_t s = bits_of(sine_polynomial(r)), c = bits_of(cosine_polynomial(r));
  const uint64_t quadrant = bits_of(sum) & 3, swapped = (s ^ c) & (0 - (quadrant & 1));
  *cosine = static_cast<float>(of_bits((c ^ swapped) ^ (((quadrant + 1) & 2) << 62)));
  *sine = static_cast<float>(of_bits((s ^ swapped) ^ ((quadrant & 2) << 62)));
}

// Each element is one expression of its own pair, so the compiler may take as many at once as it
// likes. x and out are the same or do not overlap.
void rotate(const float* x, const float* cosine, const float* sine, int32_t num_pairs,
            bool interleaved, float* out) {
  if (interleaved) {
    for (int32_t i = 0; i < num_pairs; i++) {
      const float first = x[2 * i], second = x[2 * i + 1];
      out[2 * i] = first * cosine[i] - second * sine[i];
      out[2 * i + 1] = second * cosine[i] + first * sine[i];
    }
  } else {
    for (int32_t i = 0; i < num_pairs; i++) {
      const float first = x[i], second = x[num_pairs + i];
      out[i] = first * cosine[i] - second * sine[i];
      out[num_pairs + i] = second * cosine[i] + first * sine[i];
    }
  }
}

// One head into `out` [head_dim]: normalised where there is a norm, then turned.
void rotate_head(const RopeWrite& rope, int32_t token, const float* head, const float* norm,
                 float* out) {
  const int32_t head_dim = rope.shape->head_dim, num_pairs = rope.rotary_dim / 2;
  const float* cosine = rope.cosine + static_cast<int64_t>(token) * num_pairs;
  const float* sine = rope.sine + static_cast<int64_t>(token) * num_pairs;
  if (norm) {
    normalise(head, norm, rope.norm_eps, rope.norm_offset, head_dim, out);
    head = out;
  }
  rotate(head, cosine, sine, num_pairs, rope.interleaved != 0, out);
  if (!norm)
    std::memcpy(out + rope.rotary_dim, head + rope.rotary_dim,
                sizeof(float) * (head_dim - rope.rotary_dim));
}

}  // namespace

void rope_table(const int32_t* positions, int64_t num_tokens, const float* frequencies,
                int32_t num_pairs, float* cosine, float* sine) {
  for (int64_t t = 0; t < num_tokens; t++) {
    const double position = positions[t];
    float* cosines = cosine + t * num_pairs;
    float* sines = sine + t * num_pairs;
    for (int32_t i = 0; i < num_pairs; i++)
      turn(position * static_cast<double>(frequencies[i]), cosines + i, sines + i);
  }
}

int64_t rope_scratch(const KVShape& shape) {
  return static_cast<int64_t>(shape.kv_heads + 1) * shape.head_dim;
}

void rope_write_token(const RopeWrite& rope, int32_t row, int32_t token, float* scratch) {
  const KVShape& shape = *rope.shape;
  const int32_t head_dim = shape.head_dim;
  const int64_t heads = shape.num_heads + 2 * static_cast<int64_t>(shape.kv_heads);
  const float* head = rope.qkv + token * heads * head_dim;
  uint16_t* q = rope.q + static_cast<int64_t>(token) * shape.num_heads * head_dim;
  float* rotated = scratch + static_cast<int64_t>(shape.kv_heads) * head_dim;
  for (int32_t h = 0; h < shape.num_heads; h++, head += head_dim, q += head_dim) {
    rotate_head(rope, token, head, rope.q_norm, rotated);
    for (int32_t i = 0; i < head_dim; i += LANES) store(q + i, to_bf16(load_f32(rotated + i)));
  }
  for (int32_t h = 0; h < shape.kv_heads; h++, head += head_dim)
    rotate_head(rope, token, head, rope.k_norm, scratch + static_cast<int64_t>(h) * head_dim);
  kv_write(shape, *rope.pages, *rope.rows, row, token, scratch, head);
}

}  // namespace furcate
