// What stands between products: embeddings, norms, rotary positions, conversion of rows.
#pragma once

#include "attention.h"
#include "pool.h"
#include "rows.h"

namespace furcate {

// Writes values [width] as row `row` of `rows`, quantising or rounding as its type says. Codes are
// value * (127 / max |value|), each operation rounded; a block below 2**-100 counts as zeros, since
// its scale would lose bits.
void write_row(const Rows& rows, int64_t row, const float* values);
// The same for `count` values from column `first` on; for q8 both are multiples of BLOCK.
void write_row_part(const Rows& rows, int64_t row, int32_t first, int32_t count,
                    const float* values);

// The same for rows row .. row + num_rows - 1, whose values are `stride` apart.
void write_rows_part(const Rows& rows, int64_t row, int32_t num_rows, int32_t first, int32_t count,
                     const float* values, int64_t stride);

// x * (1 / sqrt(mean(x**2) + eps)) * weight of one row, float32, sums in 16 lanes then `sum_lanes`.
// `offset` is added to the weight (1 in models that store it around zero).
struct Norm {
  const float* x;       // [.., width]
  const float* weight;  // [width]
  float eps, offset;
  int32_t width;
  const int32_t* rows;  // which rows of x, or null for all in order
  const Rows* out;
};
void norm_row(const Norm& norm, int64_t row, float* scratch);  // scratch [width]
// The same of `width` values anywhere; `out` may be x.
void normalise(const float* x, const float* weight, float eps, float offset, int32_t width,
               float* out);

// Positions and heads of freshly projected rows: rotates queries and keys, rounds the queries to
// bfloat16 and writes keys and values into their pages.
struct RopeWrite {
  const KVShape* shape;
  const KVPages* pages;
  const StepRows* rows;
  const float* qkv;     // [T, (num_heads + 2 * kv_heads) * head_dim]
  const float* cosine;  // [T, rotary_dim / 2]
  const float* sine;
  int32_t rotary_dim;   // the first dimensions of a head that turn
  int32_t interleaved;  // pairs (2i, 2i + 1); else (i, i + rotary_dim / 2)
  const float* q_norm;  // [head_dim] or null: rms norm of every query head before rotation
  const float* k_norm;
  float norm_eps, norm_offset;
  uint16_t* q;          // bfloat16 [T, num_heads, head_dim]
};
// scratch [rope_scratch(shape)]
void rope_write_token(const RopeWrite& rope, int32_t row, int32_t token, float* scratch);
int64_t rope_scratch(const KVShape& shape);

// Tables of a step, made in double precision and rounded once: cosine[t][i] of
// positions[t] * frequencies[i].
void rope_table(const int32_t* positions, int64_t num_tokens, const float* frequencies,
                int32_t num_pairs, float* cosine, float* sine);

// A token's row of a stored embedding matrix, expanded to float32 and multiplied by `scale`. The
// width is a multiple of the values in a block of the type.
enum class TableType : int32_t {
  f32 = 0,
  f16 = 1,
  bf16 = 2,
  q4_0 = 3,
  q4_1 = 4,
  q5_0 = 5,
  q5_1 = 6,
  q8_0 = 7,
  q2_k = 8,
  q3_k = 9,
  q4_k = 10,
  q5_k = 11,
  q6_k = 12
};
struct Embedding {
  TableType type;
  int32_t width, vocab_size;
  const void* table;  // GGUF's blocks, row after row
  float scale;
};
void embed_token(const Embedding& embedding, int32_t token_id, float* out);

}  // namespace furcate
