// A model's forward as a list of operations, and the thread that runs one step after the other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "attention.h"
#include "elementwise.h"
#include "linear.h"
#include "pool.h"
#include "sample.h"

namespace furcate {

// What one step computes: R rows, T tokens, L logits. The caller's arrays, read by `submit` alone.
struct StepArrays {
  int32_t num_tokens, num_rows, num_copies, num_logits, num_draws;
  // A negative id -(n + 1) is the token of draw n of the step before: known by the time it is read.
  const int32_t* token_ids;      // [T]
  const int32_t* positions;      // [T]
  const int32_t* row_starts;     // [R + 1]
  const int32_t* kv_lens;        // [R]
  const int32_t* page_table;     // [R, table_stride]
  int64_t table_stride;
  const PageCopy* copies;        // after each layer's writes, before its attention, in order
  const int32_t* logit_indices;  // [L]: which tokens need logits, ascending
  const SampleRow* draws;        // what can be drawn as soon as the logits are there; their arrays
};                               // stay alive until the step is collected

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
  int64_t seq = 0;
  StepRows rows{};
  std::vector<int32_t> token_ids, positions, row_starts, kv_lens, page_table, logit_indices;
  std::vector<int32_t> row_of_token;
  std::vector<PageCopy> copies;
  std::vector<SampleRow> draws;
  std::vector<SampleResult> drawn;
  std::vector<int32_t> top_ids;  // [num draws, top_stride]
  std::vector<float> top_logprobs;
  int32_t top_stride = 0;
  Memory logit_memory;
  float* logits = nullptr;  // [L, vocab_size]
  bool failed = false;

  int32_t num_tokens() const { return rows.num_tokens; }
  void take(const StepArrays& arrays);  // copies everything; logits are reserved by the program
  void resolve(const Step* previous);   // puts drawn tokens in the place of negative ids
};

// One operation of a forward. `run` is called by every thread of a job and ends with a barrier.
class Operation {
 public:
  virtual ~Operation() = default;
  virtual void run(const Step& step, const Worker& worker) const = 0;
};

// A buffer of activations with one row a token; its memory follows the size of the step.
struct Buffer {
  Rows rows{};
  Memory data, scales, sums;
  void reserve(int64_t num_rows);
};

struct RopeTable {
  std::vector<float> frequencies;
  Memory cosine_memory, sine_memory;
  float* cosine = nullptr;  // [T, pairs]
  float* sine = nullptr;
  void reserve(int64_t num_tokens);
};

// The operations in order, with all memory but weights and KV pages, which are the caller's.
struct Program {
  KVShape kv_shape{};
  int32_t vocab_size = 0;
  std::vector<KVPages> layers;
  std::vector<std::unique_ptr<Buffer>> buffers;  // of T rows each
  std::vector<std::unique_ptr<Buffer>> logit_buffers;  // of L rows each
  std::vector<std::unique_ptr<RopeTable>> ropes;
  std::vector<std::unique_ptr<Operation>> operations;
  AttentionPlan* plan = nullptr;

  Program() = default;
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program();
  void prepare(Step& step, int num_threads);  // memory and index work, before `run`
  void run(const Step& step, const Worker& worker) const;
};

}  // namespace furcate
