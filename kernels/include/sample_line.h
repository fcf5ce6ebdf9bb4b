// One row of logits while something is drawn from it, for the kernels of sampling alone.
//
// A row is looked at in blocks, whose largest values are known after one pass: most later questions
// concern the few blocks that reach up to some value. Sums are made in float32 in the 16 lanes of a
// block and in double precision over the blocks, in their order.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cstdint>
#include <cstring>
#include <limits>

#include "vec.h"

namespace furcate {

constexpr int32_t SAMPLE_BLOCK = 256;
constexpr float MINUS_INFINITY = -std::numeric_limits<float>::infinity();
constexpr int32_t ANY_ID = std::numeric_limits<int32_t>::max();

inline int32_t num_sample_blocks(int32_t size) { return (size + SAMPLE_BLOCK - 1) / SAMPLE_BLOCK; }

struct Line {
  const float* values;  // [size]
  int32_t size;
  const uint32_t* mask;  // ids that do not count, as if their values were -infinity; or null
  float* block_max;      // [blocks]; any value where there is a NaN
  float best;
  bool has_nan;

  bool is_drawable() const { return !has_nan && best >= -FLT_MAX && best <= FLT_MAX; }
};

struct Candidate {
  float value;
  int32_t id;
};

// Best first, of equal values the lowest id.
inline bool ranks_before(const Candidate& a, const Candidate& b) {
  return a.value != b.value ? a.value > b.value : a.id < b.id;
}

// What a filter leaves: ids whose values are above `value`, and of equal ones those up to last_id.
struct Cut {
  float value = -FLT_MAX;
  int32_t last_id = ANY_ID;

  void tighten(const Cut& other) {
    if (other.value > value)
      *this = other;
    else if (other.value == value)
      last_id = std::min(last_id, other.last_id);
  }
};

// exp((value - best) / temperature), of a row whose best value is finite.
struct Weighing {
  float best, inverse_temperature;

  f32x16 operator()(f32x16 values) const {
    return exponential((values - best) * inverse_temperature);
  }
  // All weights of values up to that are zero.
  bool is_nothing(float largest) const { return (largest - best) * inverse_temperature < -87.0f; }
};

inline f32x16 load_or_nothing(const float* from, int count) {
  float lanes[LANES];
  std::fill(lanes, lanes + LANES, MINUS_INFINITY);
  std::memcpy(lanes, from, sizeof(float) * count);
  return load_f32(lanes);
}

// body(first id, sixteen values) over a block; -infinity behind the row's end.
template <typename Body>
inline void each_vector(const float* values, int32_t size, int32_t block, Body body) {
  const int32_t end = std::min((block + 1) * SAMPLE_BLOCK, size);
  int32_t id = block * SAMPLE_BLOCK;
  for (; id + LANES <= end; id += LANES) body(id, load_f32(values + id));
  if (id < end) body(id, load_or_nothing(values + id, end - id));
}

// Fills block_max, best and has_nan.
void scan(Line& line);

// The lowest id of the best value.
int32_t best_id(const Line& line);

// The sum of all weights; into `weights` [whole blocks], where it is not null, each of them.
double total_weight(const Line& line, const Weighing& weighing, float* weights);

// The id that u in [0, 1) picks among those that the cut leaves, by their weights in id order.
// `sums` is memory [blocks].
int32_t pick(const Line& line, const Weighing& weighing, const Cut& cut, double u, double* sums);

// The `count` best ids, or all that are not -infinity if they are fewer, in their order; how many.
// `candidates` is memory [size].
int32_t best_candidates(const Line& line, int32_t count, Candidate* candidates);

// Leaves the best ids, as few as together weigh at least `target`. `weights` as total_weight left
// them, `candidates` as above.
Cut cut_at_weight(const Line& line, const float* weights, double target, float first_step,
                  Candidate* candidates);

}  // namespace furcate
