// Tiles of products with stored blocks: private to kernels/linear.
//
// A tile of rows, as `prepare_tile` lays it out, is a record for every 32 values: [row][32] codes,
// [row] scales, then for each block of the weight's [row] of
//   minima      float: the scale times the sum of the block's codes
//   zero point  int32: minus the zero point times the sum, from which the exact dot product starts
// One pointer walks it in step with the weight's records.
#pragma once

#include <array>
#include <utility>

#include "linear_lanes.h"
#include "linear_weight.h"

namespace furcate {

// How far ahead of the multiplication the packed matrix is asked for. Processors look ahead by
// themselves, but begin anew on every page of 4 KiB.
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

// One block of the weight: the groups of a record, or half of them.
template <class Kind, int ROWS>
inline void multiply_block(const uint8_t* record, const uint8_t* x, int sub, int column,
                           Lanes::Float (&sums)[ROWS]) {
  constexpr int GROUPS = 8 / Kind::SUBS;
  const float* scales = reinterpret_cast<const float*>(x + ROWS * BLOCK);
  const float* extra = scales + ROWS + sub * ROWS;
  Lanes::Int dots[ROWS];
#pragma GCC unroll 12
  for (int row = 0; row < ROWS; row++)
    dots[row] = Lanes::splat_i(Kind::MINS ? 0 : load_i32(extra + row));
#pragma GCC unroll 8
  for (int n = 0; n < GROUPS; n++) {
    // Both nibbles of a byte in turn: 0, 4, 1, 5 ..
    const int group = GROUPS == 4 ? sub * 4 + n : Kind::BITS == 8 ? n : n / 2 + n % 2 * 4;
    const Lanes::Codes codes = load_group<Kind>(record, group, column);
#pragma GCC unroll 12
    for (int row = 0; row < ROWS; row++)
      dots[row] = Lanes::template dot<Kind::BITS>(dots[row], codes,
                                                  load_i32(x + row * BLOCK + group * 4));
  }
  const Lanes::Float scale = load_scales<Kind>(record + Kind::CODE_BYTES, sub, column);
#pragma GCC unroll 12
  for (int row = 0; row < ROWS; row++) {
    const Lanes::Float both = Lanes::mul(scale, Lanes::splat(scales[row]));
    sums[row] = Lanes::add(sums[row], Lanes::mul(Lanes::to_float(dots[row]), both));
  }
  if (!Kind::MINS) return;
  const Lanes::Float min =
      load_scales<Kind>(record + Kind::CODE_BYTES + Kind::SCALE_BYTES, sub, column);
#pragma GCC unroll 12
  for (int row = 0; row < ROWS; row++)
    sums[row] = Lanes::add(sums[row], Lanes::mul(min, Lanes::splat(extra[row])));
}

template <class Kind, int ROWS>
void multiply_blocks(const uint8_t* weight, int64_t unit_bytes, int units, const uint8_t* tile,
                     int64_t records, float* out) {
  for (int unit = 0; unit < units; unit++)
    for (int column = 0; column < UNIT; column += Lanes::WIDTH) {
      const uint8_t* record = weight + unit * unit_bytes;
      const uint8_t* x = tile;
      Lanes::Float sums[ROWS];
#pragma GCC unroll 12
      for (int row = 0; row < ROWS; row++) sums[row] = Lanes::zero();
      for (int64_t n = 0; n < records; n++) {
#pragma GCC unroll 10
        for (int at = 0; at < Kind::RECORD_BYTES; at += 64)
          __builtin_prefetch(record + PREFETCH_BYTES + at);
        for (int sub = 0; sub < Kind::SUBS; sub++)
          multiply_block<Kind, ROWS>(record, x, sub, column, sums);
        record += Kind::RECORD_BYTES;
        x += tile_record_bytes(ROWS, Kind::SUBS);
      }
#pragma GCC unroll 12
      for (int row = 0; row < ROWS; row++)
        Lanes::store(out + row * TILE_WIDTH + unit * UNIT + column, sums[row]);
    }
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
