// Questions about one row of logits that need no sort of the row: its best ids, the sum of its
// weights, where its filters cut, which id a random number picks. Knows no penalties, no parameters.
#include "sample_line.h"

#include <cmath>
#include <functional>

namespace furcate {
namespace {

constexpr int64_t FEW = 256;  // candidates that are sorted without further search
constexpr int32_t INFINITY_BITS = 0x7f800000;

alignas(64) constexpr int32_t LANE_NUMBERS[LANES] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                     8, 9, 10, 11, 12, 13, 14, 15};
alignas(64) constexpr int32_t LANE_BITS[LANES] = {
    1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};

// All bits set in the lanes of the allowed ids; `id` is a multiple of LANES.
inline i32x16 allowed_lanes(const uint32_t* mask, int32_t id) {
  const int32_t bits = static_cast<int32_t>(mask[id / 32] >> (id % 32) & 0xffffu);
  return (splat(bits) & load<i32x16>(LANE_BITS)) != 0;
}

struct Largest {
  f32x16 value = splat(MINUS_INFINITY);
  i32x16 magnitude{};  // as bits: NaNs are above infinity there

  void add(f32x16 values) {
    value = maximum(values, value);
    magnitude = maximum(magnitude, bits_i32(absolute(values)));
  }
};

bool has_words(const uint32_t* mask, int32_t first, int32_t end) {
  uint32_t any = 0;
  for (int32_t id = first; id < end; id += 32) any |= mask[id / 32];
  return any != 0;
}

// Sums of floats over many vectors, in double precision lane by lane.
struct LaneSums {
  double lanes[LANES] = {};

  void add(f32x16 values) {
    float narrow[LANES];
    store_f32(narrow, values);
    for (int lane = 0; lane < LANES; lane++) lanes[lane] += static_cast<double>(narrow[lane]);
  }
  double total() const {
    double sum = 0.0;
    for (double lane : lanes) sum += lane;
    return sum;
  }
};

struct Above {
  int64_t count = 0;
  double measure = 0.0;  // the sum of the weights, or the number again where there are none
};

constexpr int ENDS = 4;  // questions that one pass over the row answers

// Of the values that are at least ends[n], for each n; the ends ascend.
template <bool is_weighted>
void above_ends(const Line& line, const float* weights, const float* ends, Above* results) {
  LaneSums sums[ENDS];
  i32x16 minus_counts[ENDS] = {};
  for (int32_t block = 0; block < num_sample_blocks(line.size); block++) {
    if (!(line.block_max[block] >= ends[0])) continue;
    f32x16 block_sums[ENDS] = {};
    each_vector(line.values, line.size, block, [&](int32_t id, f32x16 values) {
      const f32x16 weight = is_weighted ? load_f32(weights + id) : f32x16{};
      for (int n = 0; n < ENDS; n++) {
        const i32x16 is_above = values >= ends[n];
        minus_counts[n] += is_above;
        if (is_weighted) block_sums[n] += select(is_above, weight, f32x16{});
      }
    });
    for (int n = 0; is_weighted && n < ENDS; n++) sums[n].add(block_sums[n]);
  }
  for (int n = 0; n < ENDS; n++) {
    results[n].count = -sum_lanes(minus_counts[n]);
    results[n].measure = is_weighted ? sums[n].total() : static_cast<double>(results[n].count);
  }
}

// Where the cumulated measure of the best ids reaches a target: above(high) < target <= above(low).
struct Interval {
  float low, high;
  Above above_low, above_high;

  // Asks at ascending ends, and keeps the part between two neighbours.
  void narrow(const Line& line, const float* weights, double target, const float* ends) {
    Above results[ENDS];
    if (weights)
      above_ends<true>(line, weights, ends, results);
    else
      above_ends<false>(line, weights, ends, results);
    for (int n = 0; n < ENDS; n++) {
      if (results[n].measure >= target) {
        low = ends[n];
        above_low = results[n];
      } else {
        high = ends[n];
        above_high = results[n];
        return;
      }
    }
  }
};

// From the best value downwards in steps that double, then by parts of the interval that is found,
// until few candidates, or equal ones alone, are in it.
Interval search(const Line& line, const float* weights, double target, float step) {
  const float everything = -FLT_MAX, nothing = std::nextafter(line.best, -MINUS_INFINITY);
  Interval found{everything, nothing, {}, {}};
  while (found.above_low.measure < target && found.high > everything) {
    float ends[ENDS];
    for (int n = ENDS - 1; n >= 0; n--, step *= 2.0f)
      ends[n] = std::max(line.best - step, everything);
    found.low = ends[0];
    found.narrow(line, weights, target, ends);
  }
  while (found.above_low.count - found.above_high.count > FEW) {
    float ends[ENDS];
    for (int n = 0; n < ENDS; n++) {
      const float part = static_cast<float>(n + 1) / (ENDS + 1);
      ends[n] = found.low * (1.0f - part) + found.high * part;
    }
    if (!(ends[0] > found.low && ends[ENDS - 1] < found.high)) break;
    found.narrow(line, weights, target, ends);
  }
  return found;
}

// The values in [low, high), by id.
int32_t gather(const Line& line, float low, float high, Candidate* candidates) {
  int32_t count = 0;
  for (int32_t block = 0; block < num_sample_blocks(line.size); block++) {
    if (!(line.block_max[block] >= low)) continue;
    each_vector(line.values, line.size, block, [&](int32_t id, f32x16 values) {
      uint32_t bits = lane_bits((values >= low) & (values < high));
      for (; bits; bits &= bits - 1, count++) {
        const int32_t found = id + __builtin_ctz(bits);
        candidates[count] = {line.values[found], found};
      }
    });
  }
  return count;
}

// The first place where the cumulated weights exceed u times their sum; its weight is above zero.
template <typename Weight>
int32_t place_of(const Weight* weights, int32_t count, double u) {
  double total = 0.0, cumulated = 0.0;
  for (int32_t n = 0; n < count; n++) total += static_cast<double>(weights[n]);
  const double wanted = u * total;
  int32_t last = 0;  // where rounding puts `wanted` at the whole
  for (int32_t n = 0; n < count; n++) {
    cumulated += static_cast<double>(weights[n]);
    if (cumulated > wanted) return n;
    if (weights[n] > 0) last = n;
  }
  return last;
}

// use(first id, weights) over a block; those that the cut does not leave are zero.
template <typename Use>
void each_weight_left(const Line& line, const Weighing& weighing, const Cut& cut, int32_t block,
                      Use use) {
  if (cut.last_id == ANY_ID) {
    each_vector(line.values, line.size, block, [&](int32_t id, f32x16 values) {
      use(id, select(values >= cut.value, weighing(values), f32x16{}));
    });
    return;
  }
  each_vector(line.values, line.size, block, [&](int32_t id, f32x16 values) {
    const i32x16 ids = load<i32x16>(LANE_NUMBERS) + id;
    const i32x16 is_tied = (values == cut.value) & (ids <= cut.last_id);
    use(id, select((values > cut.value) | is_tied, weighing(values), f32x16{}));
  });
}

}  // namespace

void scan(Line& line) {
  line.best = MINUS_INFINITY;
  line.has_nan = false;
  for (int32_t block = 0; block < num_sample_blocks(line.size); block++) {
    const int32_t first = block * SAMPLE_BLOCK;
    Largest largest;
    if (!line.mask) {
      each_vector(line.values, line.size, block, [&](int32_t, f32x16 v) { largest.add(v); });
    } else if (has_words(line.mask, first, std::min(first + SAMPLE_BLOCK, line.size))) {
      each_vector(line.values, line.size, block, [&](int32_t id, f32x16 values) {
        largest.add(select(allowed_lanes(line.mask, id), values, splat(MINUS_INFINITY)));
      });
    }
    line.block_max[block] = max_lanes(largest.value);
    line.best = std::max(line.best, line.block_max[block]);
    line.has_nan |= max_lanes(largest.magnitude) > INFINITY_BITS;
  }
}

int32_t best_id(const Line& line) {
  int32_t block = 0;
  while (line.block_max[block] != line.best) block++;
  int32_t id = block * SAMPLE_BLOCK;
  const auto is_allowed = [&](int32_t n) {
    return !line.mask || (line.mask[n / 32] >> (n % 32) & 1u);
  };
  while (line.values[id] != line.best || !is_allowed(id)) id++;
  return id;
}

double total_weight(const Line& line, const Weighing& weighing, float* weights) {
  LaneSums sums;
  for (int32_t block = 0; block < num_sample_blocks(line.size); block++) {
    if (weighing.is_nothing(line.block_max[block])) {
      if (weights) std::fill_n(weights + block * SAMPLE_BLOCK, SAMPLE_BLOCK, 0.0f);
      continue;
    }
    f32x16 sum{};
    each_vector(line.values, line.size, block, [&](int32_t id, f32x16 values) {
      const f32x16 weight = weighing(values);
      if (weights) store_f32(weights + id, weight);
      sum += weight;
    });
    sums.add(sum);
  }
  return sums.total();
}

int32_t pick(const Line& line, const Weighing& weighing, const Cut& cut, double u, double* sums) {
  const int32_t num_blocks = num_sample_blocks(line.size);
  double total = 0.0;
  for (int32_t block = 0; block < num_blocks; block++) {
    sums[block] = 0.0;
    const float largest = line.block_max[block];
    if (!(largest >= cut.value) || weighing.is_nothing(largest)) continue;
    f32x16 sum{};
    each_weight_left(line, weighing, cut, block, [&](int32_t, f32x16 left) { sum += left; });
    sums[block] = static_cast<double>(sum_lanes(sum));
    total += sums[block];
  }
  const int32_t block = place_of(sums, num_blocks, u);
  double before = 0.0;
  for (int32_t n = 0; n < block; n++) before += sums[n];
  float weights[SAMPLE_BLOCK] = {};
  const int32_t first = block * SAMPLE_BLOCK;
  each_weight_left(line, weighing, cut, block,
                   [&](int32_t id, f32x16 left) { store_f32(weights + id - first, left); });
  const double rest = std::max((u * total - before) / sums[block], 0.0);
  return first + place_of(weights, SAMPLE_BLOCK, rest);
}

int32_t best_candidates(const Line& line, int32_t count, Candidate* candidates) {
  const int32_t num_blocks = num_sample_blocks(line.size);
  float low;
  if (count <= num_blocks) {  // as many blocks reach up to their count-th largest maximum
    float* maxima = reinterpret_cast<float*>(candidates);
    std::copy_n(line.block_max, num_blocks, maxima);
    std::nth_element(maxima, maxima + count - 1, maxima + num_blocks, std::greater<float>());
    low = std::max(maxima[count - 1], -FLT_MAX);
  } else {
    low = search(line, nullptr, count, 1.0f).low;
  }
  const int32_t found = gather(line, low, -MINUS_INFINITY, candidates);
  const int32_t kept = std::min(count, found);
  std::partial_sort(candidates, candidates + kept, candidates + found, ranks_before);
  return kept;
}

Cut cut_at_weight(const Line& line, const float* weights, double target, float first_step,
                  Candidate* candidates) {
  const Interval interval = search(line, weights, target, first_step);
  const int32_t count = gather(line, interval.low, interval.high, candidates);
  if (count == 0) return Cut();  // the whole row, where rounding keeps it below the target
  std::sort(candidates, candidates + count, ranks_before);
  double cumulated = interval.above_high.measure;
  int32_t n = 0;
  for (; n < count - 1; n++) {
    cumulated += static_cast<double>(weights[candidates[n].id]);
    if (cumulated >= target) break;
  }
  return {candidates[n].value, candidates[n].id};
}

}  // namespace furcate
