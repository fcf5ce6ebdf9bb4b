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

// Where the cumulated measure of the best ids, their weights or their number, reaches a target:
// above(high) < target <= above(low).
struct Interval {
  float low, high;
  double above_high;
};

struct Above {
  int64_t count;
  double measure;
};

// Of the values that are at least `value`.
Above above(const Line& line, const float* weights, float value) {
  Above result{0, 0.0};
  for (int32_t block = 0; block < num_sample_blocks(line.size); block++) {
    if (!(line.block_max[block] >= value)) continue;
    f32x16 sum{};
    i32x16 minus_count{};
    each_vector(line.values, line.size, block, [&](int32_t id, f32x16 values) {
      const i32x16 is_above = values >= value;
      minus_count += is_above;
      if (weights) sum += select(is_above, load_f32(weights + id), f32x16{});
    });
    result.count -= sum_lanes(minus_count);
    result.measure += static_cast<double>(sum_lanes(sum));
  }
  if (!weights) result.measure = static_cast<double>(result.count);
  return result;
}

// From the best value downwards in steps that double, then by halves of the last step, until few
// candidates or equal ones alone are between the ends.
Interval search(const Line& line, const float* weights, double target, float step) {
  const float everything = -FLT_MAX;
  Interval found{0.0f, std::nextafter(line.best, -MINUS_INFINITY), 0.0};
  Above at_high{0, 0.0}, at_low{0, 0.0};
  for (;; step *= 2.0f) {
    found.low = std::max(line.best - step, everything);
    at_low = above(line, weights, found.low);
    if (at_low.measure >= target || found.low == everything) break;
    found.high = found.low;
    at_high = at_low;
  }
  while (at_low.count - at_high.count > FEW && at_low.measure >= target) {
    const float middle = found.low * 0.5f + found.high * 0.5f;
    if (!(middle > found.low && middle < found.high)) break;
    const Above at_middle = above(line, weights, middle);
    (at_middle.measure >= target ? found.low : found.high) = middle;
    (at_middle.measure >= target ? at_low : at_high) = at_middle;
  }
  found.above_high = at_high.measure;
  return found;
}

// The values in [low, high), by id.
int32_t gather(const Line& line, float low, float high, Candidate* candidates) {
  int32_t count = 0;
  for (int32_t block = 0; block < num_sample_blocks(line.size); block++) {
    if (!(line.block_max[block] >= low)) continue;
    const int32_t end = std::min((block + 1) * SAMPLE_BLOCK, line.size);
    for (int32_t id = block * SAMPLE_BLOCK; id < end; id++) {
      candidates[count] = {line.values[id], id};
      count += line.values[id] >= low && line.values[id] < high;
    }
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

inline f32x16 weights_left(const Weighing& weighing, const Cut& cut, int32_t id, f32x16 values) {
  const i32x16 ids = load<i32x16>(LANE_NUMBERS) + id;
  const i32x16 is_tied = (values == cut.value) & (ids <= cut.last_id);
  return select((values > cut.value) | is_tied, weighing(values), f32x16{});
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
  double total = 0.0;
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
    total += static_cast<double>(sum_lanes(sum));
  }
  return total;
}

int32_t pick(const Line& line, const Weighing& weighing, const Cut& cut, double u, double* sums) {
  const int32_t num_blocks = num_sample_blocks(line.size);
  double total = 0.0;
  for (int32_t block = 0; block < num_blocks; block++) {
    sums[block] = 0.0;
    const float largest = line.block_max[block];
    if (!(largest >= cut.value) || weighing.is_nothing(largest)) continue;
    f32x16 sum{};
    each_vector(line.values, line.size, block, [&](int32_t id, f32x16 values) {
      sum += weights_left(weighing, cut, id, values);
    });
    sums[block] = static_cast<double>(sum_lanes(sum));
    total += sums[block];
  }
  const int32_t block = place_of(sums, num_blocks, u);
  double before = 0.0;
  for (int32_t n = 0; n < block; n++) before += sums[n];
  float weights[SAMPLE_BLOCK] = {};
  const int32_t first = block * SAMPLE_BLOCK;
  each_vector(line.values, line.size, block, [&](int32_t id, f32x16 values) {
    store_f32(weights + id - first, weights_left(weighing, cut, id, values));
  });
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
  std::sort(candidates, candidates + count, ranks_before);
  double cumulated = interval.above_high;
  int32_t n = 0;
  for (; n < count - 1; n++) {
    cumulated += static_cast<double>(weights[candidates[n].id]);
    if (cumulated >= target) break;
  }
  return {candidates[n].value, candidates[n].id};
}

}  // namespace furcate
