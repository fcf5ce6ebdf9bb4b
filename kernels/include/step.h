// One step: what is computed, what is drawn from its logits, and what came of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "attention.h"
#include "pool.h"
#include "sample_answers.h"

namespace furcate {

// What one step computes: R rows, T tokens, L logits. The caller's arrays, read by `submit` alone.
struct StepArrays {
  int32_t num_tokens, num_rows, num_copies, num_logits, num_draws, num_scores;
  // A negative id -(n + 1) is the token of draw n of the step before: known by the time it is read.
  // Those that were asked for later count after those that came with the step.
  const int32_t* token_ids;      // [T]
  const int32_t* positions;      // [T]
  const int32_t* row_starts;     // [R + 1]
  const int32_t* kv_lens;        // [R]
  const int32_t* page_table;     // [R, table_stride]
  int64_t table_stride;
  const PageCopy* copies;        // after each layer's writes, before its attention, in order
  const int32_t* logit_indices;  // [L]: which tokens need logits, ascending
  const SampleRow* draws;        // what can be drawn as soon as the logits are there; their arrays
  const ScoreRow* scores;        // stay alive until the step is over
};

// Memory that keeps its size from step to step: grows, never shrinks.
class Memory {
 public:
  void* reserve(size_t num_bytes);  // aligned to 64 bytes; contents are lost when it grows
  template <typename Element>
  Element* reserve_for(size_t count) {
    return static_cast<Element*>(reserve(count * sizeof(Element)));
  }

 private:
  struct Free {
    void operator()(void* memory) const;
  };
  std::unique_ptr<void, Free> memory_;
  size_t capacity_ = 0;
};

// A step in the executor's hands, with copies of all its arrays.
struct Step {
  int64_t last_job = 0;  // of the executor's, after which everything asked so far is there
  StepRows rows{};
  std::vector<int32_t> token_ids, positions, row_starts, kv_lens, page_table, logit_indices;
  std::vector<int32_t> row_of_token;
  std::vector<PageCopy> copies;
  Draws draws, late_draws;
  Scores scores;
  Memory logit_memory;
  float* logits = nullptr;  // [L, vocab_size]
  bool failed = false;

  int32_t num_tokens() const { return rows.num_tokens; }
  void take(const StepArrays& arrays);  // copies everything; logits are reserved by the program
  void take_late(const SampleRow* draws, int64_t count);
  void resolve(const Step* previous);  // puts drawn tokens in the place of negative ids
  int32_t drawn(int64_t n) const;      // the token of draw n; -1 where there is none
  void answer(int32_t vocab_size, const Worker& worker);       // draws and scores
  void answer_late(int32_t vocab_size, const Worker& worker);  // late draws
};

}  // namespace furcate
