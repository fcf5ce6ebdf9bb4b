// Rows of activations, in the three forms in which products read them.
#pragma once

#include <cstdint>

namespace furcate {

constexpr int BLOCK = 32;  // values that share one scale in quantised rows

enum class RowType : int32_t { f32 = 0, bf16 = 1, q8 = 2 };

// [num rows, width]. For q8, width is a multiple of BLOCK and, for block b of row r,
//   value[i] = scales[r][b] * codes[r][b * BLOCK + i],  codes in [-127, 127],
//   scale = max |value| / 127, code = value / scale to the nearest, halves to even,
//   sums[r][b] = the sum of the block's codes. A block of zeros has scale 0.
// A block with a value that is not finite has scale NaN and codes of zero: it spoils its own row
// and is found at the logits.
struct Rows {
  RowType type;
  int32_t width;
  void* data;     // float, uint16_t (bfloat16) or int8_t  [num rows, width]
  float* scales;  // q8 only  [num rows, width / BLOCK]
  int32_t* sums;  // q8 only  [num rows, width / BLOCK]
};

}  // namespace furcate
