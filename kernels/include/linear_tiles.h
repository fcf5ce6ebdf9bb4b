// Tiles of products with stored blocks: private to kernels/linear.
//
// A tile of rows, as `prepare_tile` lays it out, is a record for every 32 values: [row][32] codes,
// [row] scales, then for each block of the weight's [row] of
//   minima      float: the scale times the sum of the block's codes
//   zero point  int32: minus the zero point times the sum, from which the exact dot product starts
// One pointer walks it in step with the weight's records.
#pragma once

#include <algorithm>
#include <array>
#include <utility>

#include "linear_lanes.h"
#include "linear_weight.h"

namespace furcate {

// How far ahead of the multiplication the packed matrix is asked for, at most a unit. Processors look
// ahead by themselves, but begin anew on every page of 4 KiB.
constexpr int64_t PREFETCH_BYTES = 4096;

constexpr int64_t tile_record_bytes(int rows, int subs) { return rows * (BLOCK + 4 + 4 * subs); }

// Group `group` of four codes a column, of the columns from `column` on.
template <class Kind>
inline Lanes::Codes load_group(const uint8_t* record, int group, int column) {
  if (Kind::BITS == 8) return Lanes::load_codes(record + (group * UNIT + column) * 4);
  const Lanes::Codes both = Lanes::load_codes(record + ((group % 4) * UNIT + column) * 4);
  const Lanes::Codes codes = group < 4 ? Lanes::low(both) : Lanes::high(both);
  if (Kind::BITS == 4) return codes;
  return Lanes::fifth_bits(codes, record + 4 * UNIT * 4 + group * 8 + column / 2);
}

template <class Kind>
inline Lanes::Float load_scales(const uint8_t* scales, int sub, int column) {
  const int at = sub * UNIT + column;
  if (Kind::HALF) return Lanes::load_half(reinterpret_cast<const uint16_t*>(scales) + at);
  return Lanes::load(reinterpret_cast<const float*>(scales) + at);
}

// How many vectors of columns a tile multiplies at once: with two, each number of a row is loaded
// once for both.
constexpr int VECTORS = Lanes::WIDTH == UNIT ? TILE_WIDTH / UNIT : 1;

// One block of the weight, the groups of a record or half of them, for COUNT vectors of columns that
// are `stride` bytes apart.
template <class Kind, int ROWS, int COUNT>
inline void multiply_block(const uint8_t* record, int64_t stride, const uint8_t* x, int sub,
                           int column, Lanes::Float (&sums)[ROWS][COUNT]) {
  constexpr int GROUPS = 8 / Kind::SUBS;
  const float* scales = reinterpret_cast<const float*>(x + ROWS * BLOCK);
  const float* extra = scales + ROWS + sub * ROWS;
  Lanes::Int dots[ROWS][COUNT];
#pragma GCC unroll 12
  for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 2
    for (int v = 0; v < COUNT; v++)
      dots[row][v] = Kind::MINS ? Lanes::zero_i() : Lanes::splat_i(load_i32(extra + row));
#pragma GCC unroll 8
  for (int n = 0; n < GROUPS; n++) {
    // Both nibbles of a byte in turn: 0, 4, 1, 5 ..
    const int group = GROUPS == 4 ? sub * 4 + n : Kind::BITS == 8 ? n : n / 2 + n % 2 * 4;
    Lanes::Codes codes[COUNT];
#pragma GCC unroll 2
    for (int v = 0; v < COUNT; v++) codes[v] = load_group<Kind>(record + v * stride, group, column);
#pragma GCC unroll 12
    for (int row = 0; row < ROWS; row++) {
      const int32_t four = load_i32(x + row * BLOCK + group * 4);
#pragma GCC unroll 2
      for (int v = 0; v < COUNT; v++)
        dots[row][v] = Lanes::template dot<Kind::BITS>(dots[row][v], codes[v], four);
    }
  }
  Lanes::Float scale[COUNT];
#pragma GCC unroll 2
  for (int v = 0; v < COUNT; v++)
    scale[v] = load_scales<Kind>(record + v * stride + Kind::CODE_BYTES, sub, column);
#pragma GCC unroll 12
  for (int row = 0; row < ROWS; row++) {
    const Lanes::Float of_row = Lanes::splat(scales[row]);
#pragma GCC unroll 2
    for (int v = 0; v < COUNT; v++)
      sums[row][v] = Lanes::add(sums[row][v], Lanes::mul(Lanes::to_float(dots[row][v]),
                                                         Lanes::mul(scale[v], of_row)));
  }
  if (!Kind::MINS) return;
  Lanes::Float min[COUNT];
#pragma GCC unroll 2
  for (int v = 0; v < COUNT; v++)
    min[v] = load_scales<Kind>(record + v * stride + Kind::CODE_BYTES + Kind::SCALE_BYTES, sub,
                               column);
#pragma GCC unroll 12
  for (int row = 0; row < ROWS; row++) {
    const Lanes::Float of_row = Lanes::splat(extra[row]);
#pragma GCC unroll 2
    for (int v = 0; v < COUNT; v++)
      sums[row][v] = Lanes::add(sums[row][v], Lanes::mul(min[v], of_row));
  }
}

// COUNT vectors of columns from `column` of a unit on, over the whole depth.
template <class Kind, int ROWS, int COUNT>
inline void multiply_columns(const uint8_t* record, int64_t stride, const uint8_t* x,
                             int64_t records, int column, float* out) {
  Lanes::Float sums[ROWS][COUNT];
#pragma GCC unroll 12
  for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 2
    for (int v = 0; v < COUNT; v++) sums[row][v] = Lanes::zero();
  const int64_t ahead = std::min(PREFETCH_BYTES / Kind::RECORD_BYTES, records);
  for (int64_t n = 0; n < records; n++) {
    // Behind the end of a unit comes that of the next step.
    const int64_t skip = n + ahead < records ? 0 : (COUNT - 1) * stride;
    const uint8_t* next = record + ahead * Kind::RECORD_BYTES + skip;
#pragma GCC unroll 2
    for (int v = 0; v < COUNT; v++)
#pragma GCC unroll 10
      for (int at = 0; at < Kind::RECORD_BYTES; at += 64)
        __builtin_prefetch(next + v * stride + at);
    for (int sub = 0; sub < Kind::SUBS; sub++)
      multiply_block<Kind, ROWS, COUNT>(record, stride, x, sub, column, sums);
    record += Kind::RECORD_BYTES;
    x += tile_record_bytes(ROWS, Kind::SUBS);
  }
#pragma GCC unroll 12
  for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 2
    for (int v = 0; v < COUNT; v++)
      Lanes::store(out + row * TILE_WIDTH + v * UNIT + column, sums[row][v]);
}

template <class Kind, int ROWS>
void multiply_blocks(const uint8_t* weight, int64_t unit_bytes, int units, const uint8_t* tile,
                     int64_t records, float* out) {
  if (VECTORS > 1 && ROWS > 1 && units == VECTORS)  // one row: a single stream is read faster
    return multiply_columns<Kind, ROWS, VECTORS>(weight, unit_bytes, tile, records, 0, out);
  for (int unit = 0; unit < units; unit++)
    for (int column = 0; column < UNIT; column += Lanes::WIDTH)
      multiply_columns<Kind, ROWS, 1>(weight + unit * unit_bytes, unit_bytes, tile, records, column,
                                      out + unit * UNIT);
}

template <class Kind, size_t... N>
const TileFunction* table_of(std::index_sequence<N...>) {
  static constexpr std::array<TileFunction, sizeof...(N)> functions{
      &multiply_blocks<Kind, static_cast<int>(N) + 1>...};
  return functions.data();
}

// The functions for 1 .. BLOCK_ROWS rows.
template <class Kind>
const TileFunction* tiles_of() {
  return table_of<Kind>(std::make_index_sequence<Lanes::BLOCK_ROWS>());
}

}  // namespace furcate
