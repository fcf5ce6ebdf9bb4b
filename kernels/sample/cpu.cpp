// Draws and log-probabilities of rows of logits. The order of a draw: logit bias, penalties
// (frequency and presence, then repetition), mask and banned ids, temperature, top-k, top-p, min-p,
// draw. No step copies the row unless an adjustment needs it.
#include <cmath>

#include "api.h"
#include "sample.h"
#include "sample_line.h"

namespace furcate {
namespace {

constexpr double MIN_TEMPERATURE = 1e-6;  // below it nothing but ties of the best has any weight

// A worker's memory for one row; each part only touched by the rows that need it.
struct Memory {
  float* block_max;
  double* sums;
  float* adjusted;  // [vocab_size]
  int32_t* marks;   // [vocab_size]
  float* weights;   // [whole blocks]
  Candidate* candidates;

  Memory(int32_t vocab_size, const Worker& worker) {
    const size_t blocks = num_sample_blocks(vocab_size), size = blocks * SAMPLE_BLOCK;
    const size_t bytes = blocks * (sizeof(float) + sizeof(double)) +
                         size * (2 * sizeof(float) + sizeof(int32_t) + sizeof(Candidate));
    sums = static_cast<double*>(worker.scratch(bytes));
    candidates = reinterpret_cast<Candidate*>(sums + blocks);
    adjusted = reinterpret_cast<float*>(candidates + size);
    weights = adjusted + size;
    marks = reinterpret_cast<int32_t*>(weights + size);
    block_max = reinterpret_cast<float*>(marks + size);
  }
};

Line scanned(const float* values, int32_t size, const uint32_t* mask, float* block_max) {
  Line line{values, size, mask, block_max, 0.0f, false};
  scan(line);
  return line;
}

bool is_in(int32_t id, int32_t size) { return id >= 0 && id < size; }

// apply(id, how often) once for each id of the vocabulary that occurs.
template <typename Apply>
void each_distinct(const int32_t* ids, int32_t count, int32_t size, int32_t* marks, Apply apply) {
  for (int32_t n = 0; n < count; n++)
    if (is_in(ids[n], size)) marks[ids[n]] = 0;
  for (int32_t n = 0; n < count; n++)
    if (is_in(ids[n], size)) marks[ids[n]]++;
  for (int32_t n = 0; n < count; n++) {
    if (!is_in(ids[n], size) || marks[ids[n]] == 0) continue;
    apply(ids[n], marks[ids[n]]);
    marks[ids[n]] = 0;
  }
}

void penalise(const SampleRow& row, int32_t size, float* values, int32_t* marks) {
  if (row.frequency_penalty != 0.0 || row.presence_penalty != 0.0)
    each_distinct(row.output_ids, row.num_output, size, marks, [&](int32_t id, int32_t times) {
      values[id] -= static_cast<float>(row.frequency_penalty * times + row.presence_penalty);
    });
  if (row.repetition_penalty != 1.0f)
    each_distinct(row.context_ids, row.num_context, size, marks, [&](int32_t id, int32_t) {
      const float seen = values[id];
      values[id] = seen > 0.0f ? seen / row.repetition_penalty : seen * row.repetition_penalty;
    });
}

void apply_mask(const uint32_t* mask, int32_t size, float* values) {
  for (int32_t first = 0; first < size; first += 32) {
    const uint32_t word = mask[first / 32];
    if (word == 0xffffffffu) continue;
    const int32_t count = std::min(32, size - first);
    for (int32_t n = 0; n < count; n++)
      values[first + n] = word >> n & 1u ? values[first + n] : MINUS_INFINITY;
  }
}

bool changes_values(const SampleRow& row) {
  return row.num_bias > 0 || row.frequency_penalty != 0.0 || row.presence_penalty != 0.0 ||
         row.repetition_penalty != 1.0f;
}

// The row as it is drawn from. What may not be drawn is -infinity in it.
Line adjusted_line(const float* logits, int32_t size, const SampleRow& row, const Memory& memory) {
  float* values = memory.adjusted;
  std::copy_n(logits, size, values);
  for (int32_t n = 0; n < row.num_bias; n++)
    if (is_in(row.bias_ids[n], size)) values[row.bias_ids[n]] += row.bias_values[n];
  penalise(row, size, values, memory.marks);
  if (row.mask) apply_mask(row.mask, size, values);
  for (int32_t n = 0; n < row.num_banned; n++)
    if (is_in(row.banned_ids[n], size)) values[row.banned_ids[n]] = MINUS_INFINITY;
  return scanned(values, size, nullptr, memory.block_max);
}

bool is_banned(const SampleRow& row, int32_t id) {
  return std::find(row.banned_ids, row.banned_ids + row.num_banned, id) !=
         row.banned_ids + row.num_banned;
}

// A number in [0, 1) with 53 random bits: two rounds of splitmix64's finaliser.
uint64_t mix(uint64_t word) {
  word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
  word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
  return word ^ (word >> 31);
}

double uniform(uint64_t seed, uint64_t index) {
  const uint64_t word = mix(mix(seed) + (index + 1) * 0x9e3779b97f4a7c15u);
  return static_cast<double>(word >> 11) * 0x1p-53;
}

// The weights of candidates in their order; for few of them, so it may copy.
void weigh(const Candidate* candidates, int32_t count, const Weighing& weighing, float* weights) {
  for (int32_t first = 0; first < count; first += LANES) {
    float lanes[LANES] = {};
    for (int32_t n = 0; n < std::min(LANES, count - first); n++)
      lanes[n] = candidates[first + n].value;
    store_f32(weights + first, weighing(load_f32(lanes)));
  }
}

// Top-k, and top-p among what it leaves.
Cut cut_at_rank(const Line& line, const SampleRow& row, const Weighing& weighing,
                const Memory& memory) {
  const int32_t count =
      best_candidates(line, std::min(row.top_k, line.size), memory.candidates);
  int32_t last = count - 1;
  if (row.top_p < 1.0) {
    weigh(memory.candidates, count, weighing, memory.weights);
    double whole = 0.0, cumulated = 0.0;
    for (int32_t n = 0; n < count; n++) whole += static_cast<double>(memory.weights[n]);
    for (int32_t n = 0; n < last; n++) {
      cumulated += static_cast<double>(memory.weights[n]);
      if (cumulated >= row.top_p * whole) last = n;
    }
  }
  return {memory.candidates[last].value, memory.candidates[last].id};
}

// Finite floats in their order as integers in theirs; its own inverse.
int32_t in_order(int32_t bits) { return bits ^ (bits >> 31 & 0x7fffffff); }

// The lowest logit whose weight in double precision is at least min_p: by halves of all floats.
float lowest_kept(float best, double temperature, double min_p) {
  const auto value_of = [](int64_t order) {
    const int32_t bits = in_order(static_cast<int32_t>(order));
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  };
  const auto order_of = [](float value) {
    int32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<int64_t>(in_order(bits));
  };
  int64_t low = order_of(-FLT_MAX), high = order_of(best);
  while (low < high) {
    const int64_t middle = (low + high - 1) >> 1;  // towards the lower one
    const double power = (static_cast<double>(value_of(middle)) - static_cast<double>(best));
    if (std::exp(power / temperature) >= min_p)
      high = middle;
    else
      low = middle + 1;
  }
  return value_of(low);
}

int32_t draw(const Line& line, const SampleRow& row, const Memory& memory) {
  const double temperature = std::max(row.temperature, MIN_TEMPERATURE);
  const Weighing weighing{line.best, static_cast<float>(1.0 / temperature)};
  Cut cut;
  if (row.top_k > 0) {
    cut.tighten(cut_at_rank(line, row, weighing, memory));
  } else if (row.top_p < 1.0) {
    const double target = row.top_p * total_weight(line, weighing, memory.weights);
    cut.tighten(cut_at_weight(line, memory.weights, target, static_cast<float>(temperature),
                              memory.candidates));
  }
  if (row.min_p > 0.0)
    cut.tighten({lowest_kept(line.best, temperature, row.min_p), ANY_ID});
  return pick(line, weighing, cut, uniform(row.seed, row.index), memory.sums);
}

// What is taken from a logit to make it a log-probability: NaN for a row that is not made of numbers.
double log_total(const Line& line) {
  if (!line.is_drawable()) return std::nan("");
  return static_cast<double>(line.best) +
         std::log(total_weight(line, Weighing{line.best, 1.0f}, nullptr));
}

void write_best(const Line& line, double offset, int32_t num_top, Candidate* candidates,
                int32_t* top_ids, float* top_logprobs) {
  int32_t found = 0;
  if (line.is_drawable())
    found = best_candidates(line, std::min(num_top, line.size), candidates);
  for (int32_t n = 0; n < num_top; n++) {
    const bool is_found = n < found;
    top_ids[n] = is_found ? candidates[n].id : -1;
    top_logprobs[n] =
        is_found ? static_cast<float>(static_cast<double>(candidates[n].value) - offset)
                 : std::nanf("");
  }
}

void write_logprobs(const float* logits, int32_t size, const ScoreRow& row, const Memory& memory,
                    float* logprob, int32_t* top_ids, float* top_logprobs) {
  const Line line = scanned(logits, size, nullptr, memory.block_max);
  const double offset = log_total(line);
  *logprob = is_in(row.token_id, size)
                 ? static_cast<float>(static_cast<double>(logits[row.token_id]) - offset)
                 : std::nanf("");
  if (row.num_top > 0)
    write_best(line, offset, row.num_top, memory.candidates, top_ids, top_logprobs);
}

// The row as it is drawn from, copied only where it must be. A greedy row reads its mask on the
// way, and its banned ids matter only where one of them would win.
Line line_of(const float* logits, int32_t size, const SampleRow& row, const Memory& memory) {
  const bool is_greedy = row.temperature == 0.0;
  if (!changes_values(row) && (is_greedy || (!row.mask && row.num_banned == 0))) {
    const Line line = scanned(logits, size, row.mask, memory.block_max);
    if (row.num_banned == 0) return line;
    if (line.is_drawable() && !is_banned(row, best_id(line))) return line;
  }
  return adjusted_line(logits, size, row, memory);
}

}  // namespace

void sample_row(const float* logits, int32_t vocab_size, const SampleRow& row,
                SampleResult* result, int32_t* top_ids, float* top_logprobs,
                const Worker& worker) {
  const Memory memory(vocab_size, worker);
  const Line line = line_of(logits, vocab_size, row, memory);
  result->logprob = std::nanf("");
  if (!line.is_drawable()) {
    const Line whole = scanned(logits, vocab_size, nullptr, memory.block_max);
    result->token_id = -1;
    result->status =
        whole.is_drawable() ? SampleStatus::nothing_allowed : SampleStatus::broken_logits;
    return;
  }
  result->token_id = row.temperature == 0.0 ? best_id(line) : draw(line, row, memory);
  result->status = SampleStatus::drawn;
  if (row.num_top >= 0)
    write_logprobs(logits, vocab_size, {row.logit, result->token_id, row.num_top}, memory,
                   &result->logprob, top_ids, top_logprobs);
}

void score_row(const float* logits, int32_t vocab_size, const ScoreRow& row, float* logprob,
               int32_t* top_ids, float* top_logprobs, const Worker& worker) {
  write_logprobs(logits, vocab_size, row, Memory(vocab_size, worker), logprob, top_ids,
                 top_logprobs);
}

}  // namespace furcate

using namespace furcate;

FC_API size_t fc_sizeof_SampleRow() { return sizeof(SampleRow); }
FC_API size_t fc_sizeof_ScoreRow() { return sizeof(ScoreRow); }
FC_API size_t fc_sizeof_SampleResult() { return sizeof(SampleResult); }

// Rows of `logits` [.., vocab_size]; those of the tops are `top_stride` apart.
FC_API void fc_sample(Pool* pool, const float* logits, int32_t vocab_size, const SampleRow* rows,
                      int32_t num_rows, SampleResult* results, int32_t* top_ids,
                      float* top_logprobs, int32_t top_stride) {
  run(pool, [&](const Worker& worker) {
    worker.each(num_rows, [&](int64_t n) {
      sample_row(logits + static_cast<int64_t>(rows[n].logit) * vocab_size, vocab_size, rows[n],
                 results + n, top_ids + n * top_stride, top_logprobs + n * top_stride, worker);
    });
  });
}

FC_API void fc_score(Pool* pool, const float* logits, int32_t vocab_size, const ScoreRow* rows,
                     int32_t num_rows, float* logprobs, int32_t* top_ids, float* top_logprobs,
                     int32_t top_stride) {
  run(pool, [&](const Worker& worker) {
    worker.each(num_rows, [&](int64_t n) {
      score_row(logits + static_cast<int64_t>(rows[n].logit) * vocab_size, vocab_size, rows[n],
                logprobs + n, top_ids + n * top_stride, top_logprobs + n * top_stride, worker);
    });
  });
}
