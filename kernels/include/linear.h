// Products of rows with a fixed, packed matrix.
#pragma once

#include "pool.h"
#include "rows.h"

namespace furcate {

// A packed matrix: owned by whoever called fc_linear_pack_*; see linear/cpu.cpp for the layout.
struct LinearWeight;

enum class Epilogue : int32_t {
  store = 0,  // out[r][n] = product
  add = 1,    // out[r][n] += product
  gated = 2,  // rows out: activation(product of gate n) * product of up n, width n / 2
};

enum class Activation : int32_t { silu = 0, gelu_tanh = 1 };

struct Linear {
  const LinearWeight* weight;
  const Rows* x;
  const float* bias;  // [n] or null; added to the product first
  Epilogue epilogue;
  Activation activation;  // of `gated`
  float* out;             // store, add: [num rows, out_stride]
  int64_t out_stride;
  const Rows* gated_out;  // gated
};

// The products of `num_rows` rows, cut into tasks. A row's bits depend on the row and the weight
// alone: not on the number of rows, of threads or of tasks, nor on the instruction set.
int64_t linear_num_tasks(const Linear& linear, int64_t num_rows, int num_threads);
void linear_task(const Linear& linear, int64_t num_rows, int64_t task, const Worker& worker);

}  // namespace furcate
