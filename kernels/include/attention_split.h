// Queries of one kv head against one split of SPLIT keys: for the kernels of attention alone.
#pragma once

#include <cfloat>
#include <cstdint>

#include "attention.h"
#include "attention_plan.h"
#include "vec.h"

namespace furcate {

struct KeyRange {  // of keys within the split
  int32_t begin, end;
  bool empty() const { return begin >= end; }
  bool operator!=(const KeyRange& other) const { return begin != other.begin || end != other.end; }
  bool holds(const KeyRange& other) const { return begin <= other.begin && other.end <= end; }
  int32_t first_strip() const { return begin / STRIP; }
  int32_t end_strip() const { return (end + STRIP - 1) / STRIP; }
};

constexpr int32_t LINE_BYTES = 64;

inline void prefetch(const void* line) { __builtin_prefetch(line, 0, 3); }

// Rows of the left operands are as far apart as a constant: their addresses need one register.
constexpr int32_t PAIR_STRIDE = SPLIT / 2 + 16;  // in pairs; MAX_HEAD_DIM is no larger than SPLIT
constexpr float SMALLEST_POWER = -125.0f;
constexpr float UNSEEN = -FLT_MAX;  // the maximum of no scores, in units of log 2

// 2**y for y <= 0 with a relative error below 2e-7; zero below SMALLEST_POWER; a NaN stays one.
// The whole part is read off the bits of a sum that leaves no room for fractions, and goes into the
// exponent; the rest is a minimax polynomial that is exact at 0.
inline f32x16 power_of_two(f32x16 y) {
  const f32x16 shifted = y + 12582912.0f;
  const f32x16 f = y - (shifted - 12582912.0f);
  f32x16 p = f * 0.0013264727f + 0.009671513f;
  p = p * f + 0.055507336f;
  p = p * f + 0.24022242f;
  p = p * f + 0.693147f;
  p = p * f + 1.0f;
  const f32x16 scaled = bits_f32((u32x16)p + ((u32x16)shifted << 23));
  return select(y < SMALLEST_POWER, f32x16{}, scaled);
}

// Brings a task's pages closer before they are computed with. They lie anywhere in memory in pieces
// of a few kilobytes, where a processor's own guesses come too late. The order is that of use: the
// keys of a split, its values, the keys of the next split, and at last the next kv head.
class ReadAhead {
 public:
  ReadAhead(const KVShape& shape, const KVPages& pages, const int32_t* table, int32_t head,
            int32_t end_head, int32_t first_key, int32_t end_key)
      : shape_(shape), pages_(pages), table_(table), head_(head), end_head_(end_head),
        first_key_(first_key), end_key_(end_key), begin_(first_key) {
    start_half();
  }

  int32_t num_lines() const { return num_lines_; }  // of the current half: a split's keys or values
  void fetch(int32_t num_lines);                    // some of it
  void next();                                      // the rest of it, and on to the next half

  // Bfloat16 only, in place of `fetch`: hands out the current half's next strips, as many as there
  // are, for others to fetch line by line. Where there are no more it is `instead`, which is near.
  void hand_out(int32_t count, const char* instead, const char** strips);

 private:
  void start_half();
  const char* page() const;  // in the current half

  const KVShape& shape_;
  const KVPages& pages_;
  const int32_t* table_;  // of the row, from position 0 on
  int32_t head_;
  const int32_t end_head_, first_key_, end_key_;
  int32_t begin_;          // first key of the half
  bool is_values_ = false;
  int32_t page_ = 0, end_page_ = 0, line_ = 0, lines_a_page_ = 0, num_lines_ = 0;
};

// A worker's memory for one tile, and the tile in it.
struct SplitWork {
  int32_t count;                    // of queries
  int32_t positions[MAX_QUERIES];   // ascending
  float* results[MAX_QUERIES];      // [head_dim] sums, the maximum, the sum of the weights
  uint32_t* q;                      // [MAX_QUERIES, PAIR_STRIDE] pairs of bfloat16
  float* scores;                    // [MAX_QUERIES, SCORE_STRIDE]
  uint32_t* weights;                // [MAX_QUERIES, PAIR_STRIDE] pairs of bfloat16
  uint32_t* edges;                  // [2, head_dim] pairs of values, one half of each zero
  uint16_t* keys;                   // int8 only: the split in bfloat16
  uint16_t* values;
  float* key_scales;                // int8 only [SPLIT]
  float* value_scales;
  ReadAhead* ahead;                 // or null
};

constexpr int32_t SCORE_STRIDE = SPLIT + STRIP;

// From scores to weights, for the queries of a panel. Strips are taken in twos, from an even one on.
struct Softmax {
  KeyRange tile;              // of the panel: the strips around it have scores
  const KeyRange* ranges;     // of each query, within the tile
  float* scores;              // [queries, SCORE_STRIDE]
  uint32_t* weights;          // [queries, PAIR_STRIDE]
  float* const* results;      // of the queries: the maximum and the sum of the weights are set
  int32_t head_dim;
  float scale, soft_cap;
  const float* key_scales;    // or null [SPLIT]
  const float* value_scales;  // or null [SPLIT]
};

// The weights of queries first .. first + count - 1, rounded to bfloat16, relative to their maxima:
// zeros for keys that a query does not see. A query's sum is that of its rounded weights: then they
// add up to one exactly. With scales of values the stored weights hold these too, and the sum is of
// what they were before.
void softmax(const Softmax& panel, int32_t first, int32_t count);

// Computes the results of every query of the tile over this split alone. A query that sees none of
// its keys gets maximum UNSEEN and sum 0; its sums are then not written.
void attend_split(const Attention& attention, const int32_t* page_ids, int32_t head, int32_t split,
                  SplitWork& work);

}  // namespace furcate
