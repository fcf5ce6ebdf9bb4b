// Rows of activations: written in the three forms in which products read them, and normalised.
// Knows no layers.
#include "elementwise.h"

#include <cmath>

#include "vec.h"

namespace furcate {
namespace {

constexpr float SMALLEST_SCALED = 0x1p-100f;
constexpr int32_t INFINITY_BITS = 0x7f800000;

// One block of BLOCK values. The largest magnitude is found on the bits: there, infinities and NaNs
// are above all numbers.
void quantise_block(const float* values, int8_t* codes, float* scale, int32_t* sum) {
  const f32x16 low = load_f32(values), high = load_f32(values + LANES);
  const i32x16 bits = maximum(bits_i32(absolute(low)), bits_i32(absolute(high)));
  const int32_t largest_bits = max_lanes(bits);
  const bool is_finite = largest_bits < INFINITY_BITS;
  float largest;
  std::memcpy(&largest, &largest_bits, sizeof largest);
  if (!is_finite || largest < SMALLEST_SCALED) {
    std::memset(codes, 0, BLOCK);
    *scale = is_finite ? 0.0f : std::nanf("");
    *sum = 0;
    return;
  }
  const float inverse = 127.0f / largest;
  const i32x16 low_codes = to_i32(round_even(low * inverse));
  const i32x16 high_codes = to_i32(round_even(high * inverse));
  store(codes, to_i8(low_codes));
  store(codes + LANES, to_i8(high_codes));
  *scale = largest / 127.0f;
  *sum = sum_lanes(low_codes + high_codes);
}

void round_part(uint16_t* to, const float* values, int32_t count) {
  int32_t i = 0;
  for (; i + LANES <= count; i += LANES) store(to + i, to_bf16(load_f32(values + i)));
  for (; i < count; i++) to[i] = to_bf16(values[i]);
}

// The reciprocal root of the mean square of `width` values.
float inverse_rms(const float* x, int32_t width, float eps) {
  f32x16 squares{};
  int32_t i = 0;
  for (; i + LANES <= width; i += LANES) {
    const f32x16 values = load_f32(x + i);
    squares += values * values;
  }
  if (i < width) {
    const f32x16 values = load_f32(x + i, width - i);
    squares += values * values;
  }
  const float mean = sum_lanes(squares) / static_cast<float>(width);
  return 1.0f / std::sqrt(mean + eps);
}

}  // namespace

void normalise(const float* x, const float* weight, float eps, float offset, int32_t width,
               float* out) {
  const float scale = inverse_rms(x, width, eps);
  int32_t i = 0;
  for (; i + LANES <= width; i += LANES)
    store_f32(out + i, load_f32(x + i) * scale * (load_f32(weight + i) + offset));
  for (; i < width; i++) out[i] = x[i] * scale * (weight[i] + offset);
}

void write_row_part(const Rows& rows, int64_t row, int32_t first, int32_t count,
                    const float* values) {
  const int64_t at = row * rows.width + first;
  if (rows.type == RowType::f32) {
    std::memcpy(static_cast<float*>(rows.data) + at, values, sizeof(float) * count);
  } else if (rows.type == RowType::bf16) {
    round_part(static_cast<uint16_t*>(rows.data) + at, values, count);
  } else {
    int8_t* codes = static_cast<int8_t*>(rows.data) + at;
    const int64_t block = at / BLOCK;
    for (int32_t n = 0; n < count / BLOCK; n++)
      quantise_block(values + n * BLOCK, codes + n * BLOCK, rows.scales + block + n,
                     rows.sums + block + n);
  }
}

void write_row(const Rows& rows, int64_t row, const float* values) {
  write_row_part(rows, row, 0, rows.width, values);
}

void norm_row(const Norm& norm, int64_t row, float* scratch) {
  const int64_t source = norm.rows ? norm.rows[row] : row;
  const float* x = norm.x + source * norm.width;
  if (norm.out->type == RowType::f32) {
    float* out = static_cast<float*>(norm.out->data) + row * norm.width;
    normalise(x, norm.weight, norm.eps, norm.offset, norm.width, out);
    return;
  }
  normalise(x, norm.weight, norm.eps, norm.offset, norm.width, scratch);
  write_row(*norm.out, row, scratch);
}

}  // namespace furcate
