// Products of rows with a fixed, packed matrix.
#pragma once

#include "api.h"
#include "pool.h"
#include "rows.h"

namespace furcate {

// A packed matrix of n columns and k values each; see linear_weight.h for the layout.
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
  const Rows* gated_out;  // gated; q8 needs n / 2 to be a multiple of BLOCK
};

// The products of `num_rows` rows, cut into tasks: called by every thread of a job, ends with a
// barrier. A row's bits depend on the row and the weight alone: not on the number of rows, of threads
// or of tasks, nor on the instruction set.
void multiply(const Linear& linear, int64_t num_rows, const Worker& worker);

// The rows of a matrix as they are stored. Numbers are those of GGUF.
enum class StoredType : int32_t {
  f32 = 0, f16 = 1, q4_0 = 2, q4_1 = 3, q5_0 = 6, q5_1 = 7, q8_0 = 8,
  q2_k = 10, q3_k = 11, q4_k = 12, q5_k = 13, q6_k = 14, bf16 = 30,
};

struct LinearPart {
  StoredType type;
  int32_t n;
  const void* rows;  // [n, k]
};

}  // namespace furcate

// Parts follow one another as columns. `x` is the type of the rows that will be multiplied: q8 for
// stored blocks, f32 or bf16 for f32, f16 and bf16 (rounded to it, nearest even). `gated` takes two
// parts of the same n, gates and ups. Null: a type that does not go with `x`, or a k that is not a
// multiple of the type's blocks. Nothing of the stored rows is needed afterwards.
FC_API furcate::LinearWeight* fc_linear_pack(const furcate::LinearPart* parts, int32_t num_parts,
                                             int32_t k, furcate::RowType x, int32_t gated,
                                             furcate::Pool* pool);
FC_API void fc_linear_free(furcate::LinearWeight* weight);
FC_API int64_t fc_linear_bytes(const furcate::LinearWeight* weight);  // that the packed form takes
FC_API int32_t fc_linear_columns(const furcate::LinearWeight* weight);  // of all parts
FC_API int32_t fc_linear_depth(const furcate::LinearWeight* weight);    // k
FC_API furcate::RowType fc_linear_row_type(const furcate::LinearWeight* weight);
FC_API void fc_linear(furcate::Pool* pool, const furcate::Linear* linear, int64_t num_rows);
