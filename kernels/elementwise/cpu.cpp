// Rows of activations, normalised. Knows no layers.
#include "elementwise.h"

#include <cmath>

#include "vec.h"

namespace furcate {
namespace {

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
