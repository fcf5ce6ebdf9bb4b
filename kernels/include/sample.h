// Draws tokens from rows of logits. The Python sampler in runtime/sample is the specification.
#pragma once

#include "pool.h"

namespace furcate {

// One draw. Arrays may be null where their count is 0; ids outside the vocabulary are passed over.
struct SampleRow {
  int32_t logit;       // row of the step's logits
  int32_t top_k;       // 0: off
  double temperature;  // 0: the largest logit, of equal ones the lowest id
  double top_p, min_p;  // 1 and 0: off
  double frequency_penalty, presence_penalty;
  float repetition_penalty;  // 1: off
  int32_t num_top;       // log-probabilities wanted: -1 none, 0 of the token, n also of the n best
  uint64_t seed, index;  // these two alone decide the random number
  const uint32_t* mask;  // bit set of the allowed ids, or null
  const int32_t* output_ids;   // for frequency and presence penalties
  const int32_t* context_ids;  // for the repetition penalty
  const int32_t* banned_ids;
  const int32_t* bias_ids;
  const float* bias_values;
  int32_t num_output, num_context, num_banned, num_bias;
};

// The log-probability of a token at a row of logits, and the num_top likeliest there.
struct ScoreRow {
  int32_t logit, token_id, num_top;
};

enum class SampleStatus : int32_t { drawn = 0, nothing_allowed = 1, broken_logits = 2 };

struct SampleResult {
  int32_t token_id;     // -1 unless drawn
  SampleStatus status;
  float logprob;        // of the model itself: before bias, penalties, masks and temperature
};

// `logits` is the row's own. `top_ids` and `top_logprobs` [num_top] are written where num_top > 0,
// and a token was drawn; -1 and NaN where there are fewer ids than that. A row that is not made of
// numbers has NaN log-probabilities. Uses the worker's scratch memory. Bits depend on the row alone.
void sample_row(const float* logits, int32_t vocab_size, const SampleRow& row,
                SampleResult* result, int32_t* top_ids, float* top_logprobs,
                const Worker& worker);
void score_row(const float* logits, int32_t vocab_size, const ScoreRow& row, float* logprob,
               int32_t* top_ids, float* top_logprobs, const Worker& worker);

}  // namespace furcate
