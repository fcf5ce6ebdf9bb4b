// A model's forward as a list of operations on buffers that hold a row a token.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "attention.h"
#include "elementwise.h"
#include "linear.h"
#include "pool.h"
#include "step.h"

namespace furcate {

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
