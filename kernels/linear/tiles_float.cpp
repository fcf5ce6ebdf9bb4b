// Tiles of products with bfloat16 and float32. A sum runs over its depth in order, so vectors lie
// across columns; a tile of rows is [record][row], one element of a record being 4 bytes.
#include <array>
#include <utility>

#include "linear_lanes.h"
#include "linear_weight.h"

namespace furcate {
namespace {

constexpr int64_t RECORD_BYTES = UNIT * 4;

struct PairsOfBf16 {
  static Lanes::Float step(Lanes::Float sum, const uint8_t* weights, const uint8_t* x) {
    Lanes::Int pairs;
    std::memcpy(&pairs, weights, sizeof pairs);
    return Lanes::dot_bf16(sum, pairs, load_i32(x));
  }
};

struct Floats {
  static Lanes::Float step(Lanes::Float sum, const uint8_t* weights, const uint8_t* x) {
    float value;
    std::memcpy(&value, x, sizeof value);
    const Lanes::Float columns = Lanes::load(reinterpret_cast<const float*>(weights));
    return Lanes::add(sum, Lanes::mul(columns, Lanes::splat(value)));
  }
};

// VECTORS vectors of columns, `stride` bytes from one to the next.
template <class Element, int ROWS, int VECTORS>
void multiply_columns(const uint8_t* weight, int64_t stride, const uint8_t* x, int64_t records,
                      float* out, int out_step) {
  Lanes::Float sums[ROWS][VECTORS];
#pragma GCC unroll 12
  for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; v++) sums[row][v] = Lanes::zero();
  for (int64_t n = 0; n < records; n++, weight += RECORD_BYTES, x += ROWS * 4)
#pragma GCC unroll 12
    for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 2
      for (int v = 0; v < VECTORS; v++)
        sums[row][v] = Element::step(sums[row][v], weight + v * stride, x + row * 4);
#pragma GCC unroll 12
  for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; v++)
      Lanes::store(out + row * TILE_WIDTH + v * out_step, sums[row][v]);
}

template <class Element, int ROWS>
void multiply_floats(const uint8_t* weight, int64_t unit_bytes, int units, const uint8_t* tile,
                     int64_t records, float* out) {
  if (Lanes::WIDTH < UNIT) {  // two vectors make a unit
    for (int unit = 0; unit < units; unit++)
      multiply_columns<Element, ROWS, 2>(weight + unit * unit_bytes, Lanes::WIDTH * 4, tile,
                                         records, out + unit * UNIT, Lanes::WIDTH);
  } else if (units == 2) {
    multiply_columns<Element, ROWS, 2>(weight, unit_bytes, tile, records, out, UNIT);
  } else {
    multiply_columns<Element, ROWS, 1>(weight, unit_bytes, tile, records, out, UNIT);
  }
}

template <class Element, size_t... N>
const TileFunction* table_of(std::index_sequence<N...>) {
  static constexpr std::array<TileFunction, sizeof...(N)> functions{
      &multiply_floats<Element, static_cast<int>(N) + 1>...};
  return functions.data();
}

}  // namespace

const TileFunction* bf16_tiles() {
  return table_of<PairsOfBf16>(std::make_index_sequence<Lanes::FLOAT_ROWS>());
}

const TileFunction* f32_tiles() {
  return table_of<Floats>(std::make_index_sequence<Lanes::FLOAT_ROWS>());
}

int block_tile_rows() { return Lanes::BLOCK_ROWS; }
int float_tile_rows() { return Lanes::FLOAT_ROWS; }

}  // namespace furcate
