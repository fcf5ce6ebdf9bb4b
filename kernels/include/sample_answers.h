// Draws or scores that were asked of a step, with memory for what comes of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "sample.h"

namespace furcate {

// `compute` is sample_row or score_row.
template <typename Row, typename Result,
          void (*compute)(const float*, int32_t, const Row&, Result*, int32_t*, float*,
                          const Worker&)>
class Answers {
 public:
  int64_t count() const { return static_cast<int64_t>(rows_.size()); }
  const Result& operator[](int64_t n) const { return results_[n]; }

  const Result* results() const { return results_.data(); }
  const int32_t* top_ids() const { return top_ids_.data(); }  // [count, top_stride]
  const float* top_logprobs() const { return top_logprobs_.data(); }
  int32_t top_stride() const { return top_stride_; }  // the most that a row wants

  // Copies the rows, not what they point to. The results are `unknown` until they are computed.
  void take(const Row* rows, int64_t count, const Result& unknown) {
    rows_.assign(rows, rows + count);
    results_.assign(count, unknown);
    top_stride_ = 0;
    for (const Row& row : rows_) top_stride_ = std::max(top_stride_, row.num_top);
    top_ids_.resize(count * top_stride_);
    top_logprobs_.resize(count * top_stride_);
  }

  // Row n, from the step's logits; any thread may do any row.
  void compute_row(int64_t n, const float* logits, int32_t vocab_size, const Worker& worker) {
    const Row& row = rows_[n];
    compute(logits + static_cast<int64_t>(row.logit) * vocab_size, vocab_size, row, &results_[n],
            top_ids_.data() + n * top_stride_, top_logprobs_.data() + n * top_stride_, worker);
  }

 private:
  std::vector<Row> rows_;
  std::vector<Result> results_;
  std::vector<int32_t> top_ids_;
  std::vector<float> top_logprobs_;
  int32_t top_stride_ = 0;
};

using Draws = Answers<SampleRow, SampleResult, sample_row>;
using Scores = Answers<ScoreRow, float, score_row>;

}  // namespace furcate
