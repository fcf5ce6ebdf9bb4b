// Rows of activations, written in the three forms in which products read them.
//
// Blocks are quantised four at a time: what is a number a block, as its scale, is then a lane of a
// vector. A block's codes do not depend on which others are with it.
#include <cmath>

#include "elementwise.h"
#include "vec.h"

namespace furcate {
namespace {

constexpr float SMALLEST_SCALED = 0x1p-100f;
constexpr int32_t INFINITY_BITS = 0x7f800000;
constexpr int FOUR = 4;

// Some blocks, the same distance apart everywhere.
struct Blocks {
  const float* values;
  int8_t* codes;
  float* scales;
  int32_t* sums;
  int64_t stride, codes_stride;  // the scales' and the sums' is that of the codes / BLOCK

  Blocks from(int64_t n) const {
    const int64_t at = n * codes_stride;
    return {values + n * stride, codes + at, scales + at / BLOCK, sums + at / BLOCK, stride,
            codes_stride};
  }
};

// The largest magnitude is found on the bits: there, infinities and NaNs are above all numbers.
inline i32x16 larger_bits(f32x16 low, f32x16 high) {
  return maximum(bits_i32(absolute(low)), bits_i32(absolute(high)));
}

// Stores the codes; returns what adds up to their sum.
inline i32x16 encode(f32x16 low, f32x16 high, float inverse, int8_t* codes) {
  const i32x16 first = to_i32_even(low * inverse), second = to_i32_even(high * inverse);
  store_i8(codes, first, second);
  return first + second;
}

void spoil(const Blocks& block) {
  std::memset(block.codes, 0, BLOCK);
  *block.scales = std::nanf("");
  *block.sums = 0;
}

void quantise_one(const Blocks& block) {
  const f32x16 low = load_f32(block.values), high = load_f32(block.values + LANES);
  const int32_t bits = max_lanes(larger_bits(low, high));
  if (bits >= INFINITY_BITS) return spoil(block);
  float largest;
  std::memcpy(&largest, &bits, sizeof largest);
  const bool is_scaled = largest >= SMALLEST_SCALED;
  *block.scales = is_scaled ? largest / 127.0f : 0.0f;
  *block.sums = sum_lanes(encode(low, high, is_scaled ? 127.0f / largest : 0.0f, block.codes));
}

inline void put_four(const Blocks& blocks, f32x4 scales, i32x4 sums) {
  if (blocks.codes_stride == BLOCK) {
    store(blocks.scales, scales);
    store(blocks.sums, sums);
    return;
  }
  for (int n = 0; n < FOUR; n++) {
    blocks.scales[n * blocks.codes_stride / BLOCK] = scales[n];
    blocks.sums[n * blocks.codes_stride / BLOCK] = sums[n];
  }
}

void quantise_four(const Blocks& blocks) {
  f32x16 low[FOUR], high[FOUR];
  i32x16 folded[FOUR];
  for (int n = 0; n < FOUR; n++) {
    low[n] = load_f32(blocks.values + n * blocks.stride);
    high[n] = load_f32(blocks.values + n * blocks.stride + LANES);
    folded[n] = larger_bits(low[n], high[n]);
  }
  const i32x4 bits = max_of_four(folded);
  if (any(bits >= INFINITY_BITS)) {
    for (int n = 0; n < FOUR; n++) quantise_one(blocks.from(n));
    return;
  }
  const f32x4 largest = (f32x4)bits;
  const i32x4 is_scaled = largest >= SMALLEST_SCALED;
  const f32x4 scales = (f32x4)((i32x4)(largest / 127.0f) & is_scaled);
  float inverses[FOUR];
  store(inverses, (f32x4)((i32x4)(127.0f / largest) & is_scaled));
  for (int n = 0; n < FOUR; n++)
    folded[n] = encode(low[n], high[n], inverses[n], blocks.codes + n * blocks.codes_stride);
  put_four(blocks, scales, sum_of_four(folded));
}

// What is left of fours: one by one, or with some of those before it, which gives the same again.
void quantise(const Blocks& blocks, int64_t count) {
  const int64_t whole = count / FOUR * FOUR;
  for (int64_t n = 0; n < whole; n += FOUR) quantise_four(blocks.from(n));
  if (count - whole == FOUR - 1 && whole > 0) return quantise_four(blocks.from(count - FOUR));
  for (int64_t n = whole; n < count; n++) quantise_one(blocks.from(n));
}

// The blocks of one row, or the same block of each row.
void quantise_rows(const Rows& rows, int64_t row, int32_t num_rows, int32_t first, int32_t count,
                   const float* values, int64_t stride) {
  for (int32_t n = 0; n < (num_rows == 1 ? 1 : count / BLOCK); n++) {
    const int64_t at = row * rows.width + first + n * BLOCK;
    const Blocks blocks{values + n * BLOCK,
                        static_cast<int8_t*>(rows.data) + at,
                        rows.scales + at / BLOCK,
                        rows.sums + at / BLOCK,
                        num_rows == 1 ? BLOCK : stride,
                        num_rows == 1 ? BLOCK : rows.width};
    quantise(blocks, num_rows == 1 ? count / BLOCK : num_rows);
  }
}

void round_part(uint16_t* to, const float* values, int32_t count) {
  int32_t i = 0;
  for (; i + LANES <= count; i += LANES) store(to + i, to_bf16(load_f32(values + i)));
  for (; i < count; i++) to[i] = to_bf16(values[i]);
}

}  // namespace

void write_rows_part(const Rows& rows, int64_t row, int32_t num_rows, int32_t first, int32_t count,
                     const float* values, int64_t stride) {
  if (rows.type == RowType::q8)
    return quantise_rows(rows, row, num_rows, first, count, values, stride);
  for (int32_t r = 0; r < num_rows; r++) {
    const int64_t at = (row + r) * rows.width + first;
    const float* from = values + r * stride;
    if (rows.type == RowType::f32)
      std::memcpy(static_cast<float*>(rows.data) + at, from, sizeof(float) * count);
    else
      round_part(static_cast<uint16_t*>(rows.data) + at, from, count);
  }
}

void write_row_part(const Rows& rows, int64_t row, int32_t first, int32_t count,
                    const float* values) {
  write_rows_part(rows, row, 1, first, count, values, 0);
}

void write_row(const Rows& rows, int64_t row, const float* values) {
  write_row_part(rows, row, 0, rows.width, values);
}

}  // namespace furcate
