// The packed form of a matrix, and how it is multiplied: private to kernels/linear.
//
// A unit is 16 columns. Units follow one another; within a unit the records of its depth do:
//   stored blocks  a record is 32 deep: codes, then scales, then minima where the format has them.
//     8 bits: byte (g * 16 + column) * 4 + i is code 4 g + i of the column, g < 8
//     4 bits: g < 4, that code in the low nibble and code 16 + 4 g + i in the high one
//     5 bits: as 4 bits, then 64 bytes with the fifth bits: those of group g, in the order of the
//             8-bit form, are the 64 bits from byte 8 g on
//     scales, minima: [blocks in 32][column], float16 or float32
//   bf16           a record is 2 deep: [column][2]; an odd depth is filled up with a zero
//   f32            a record is 1 deep: [column]
// So one row reads the packed matrix once, from front to back. Columns behind the last are zeros.
#pragma once

#include <cstdint>
#include <vector>

#include "linear.h"

namespace furcate {

constexpr int UNIT = 16;       // columns
constexpr int MAX_TILE = 12;    // rows of the largest tile of any tier and kind
constexpr int TILE_WIDTH = 32;  // columns that a step of a task computes

// BITS of a code, SUBS blocks in 32 values, minima or a zero point, scales in half precision.
template <int BITS_, int SUBS_, bool MINS_, bool HALF_>
struct BlockKind {
  static constexpr int BITS = BITS_, SUBS = SUBS_;
  static constexpr bool MINS = MINS_, HALF = HALF_;
  static constexpr int CODE_BYTES = UNIT * BLOCK * BITS / 8;
  static constexpr int SCALE_BYTES = UNIT * SUBS * (HALF ? 2 : 4);
  static constexpr int RECORD_BYTES = CODE_BYTES + SCALE_BYTES * (MINS ? 2 : 1);
};

using Kind4Half = BlockKind<4, 1, false, true>;       // Q4_0
using Kind4HalfMins = BlockKind<4, 1, true, true>;    // Q4_1
using Kind4Mins = BlockKind<4, 1, true, false>;       // Q4_K
using Kind4SubsMins = BlockKind<4, 2, true, false>;   // Q2_K
using Kind4Subs = BlockKind<4, 2, false, false>;      // Q3_K
using Kind5Half = BlockKind<5, 1, false, true>;       // Q5_0
using Kind5HalfMins = BlockKind<5, 1, true, true>;    // Q5_1
using Kind5Mins = BlockKind<5, 1, true, false>;       // Q5_K
using Kind8Half = BlockKind<8, 1, false, true>;       // Q8_0
using Kind8Subs = BlockKind<8, 2, false, false>;      // Q6_K

// `units` (1 or 2) units from `weight` on, times a tile of rows as `prepare_tile` lays it out.
// out [rows][TILE_WIDTH]; `records` of each unit.
using TileFunction = void (*)(const uint8_t* weight, int64_t unit_bytes, int units,
                              const uint8_t* tile, int64_t records, float* out);

// What tasks need to know of a format.
struct Kind {
  RowType x;
  int subs;            // blocks in a record of q8
  int32_t zero_point;  // 0 where there are minima
  bool mins;
  int64_t record_bytes;
  int record_depth;
  const TileFunction* tiles;  // [rows - 1]
  int max_rows;               // of a tile
};

// A type of stored rows for rows `x`; false where they do not go together.
bool find_kind(StoredType type, RowType x, Kind* kind);

// One per tile height, 1 .. max_rows; in the tiles_*.cpp. Null for types of other files.
const TileFunction* block_tiles_4bit(StoredType type);
const TileFunction* block_tiles_8bit(StoredType type);
const TileFunction* bf16_tiles();
const TileFunction* f32_tiles();
int block_tile_rows();
int float_tile_rows();

struct PackedPart {
  StoredType type;
  Kind kind;
  int32_t n;
  int32_t first_column;
  int64_t units, unit_bytes, offset;
  uint8_t* data;  // the weight's memory from `offset` on
};

struct LinearWeight {
  std::vector<PackedPart> parts;
  int32_t n, k;
  RowType x;
  bool gated;
  int64_t records;  // the same of all parts: the depth of a record is that of `x`
  int64_t units, num_bytes;
  uint8_t* memory;
};

// Writes one unit, which holds zeros before, from `count` stored rows that follow one another.
void pack_unit(const PackedPart& part, int32_t k, const uint8_t* rows, int count, uint8_t* unit);
int64_t stored_row_bytes(StoredType type, int32_t k);  // 0: k is not a multiple of its blocks

}  // namespace furcate
