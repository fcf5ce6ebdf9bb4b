// Causal attention of ragged rows over paged keys and values.
#pragma once

#include "pool.h"
#include "rows.h"

namespace furcate {

constexpr int SPLIT = 256;  // keys that share one softmax before the merge, at multiples of SPLIT
constexpr int MAX_HEAD_DIM = 256;

enum class KVType : int32_t { bf16 = 0, int8 = 1 };

// Facts of the heads and pages. page_size divides SPLIT and is a multiple of 16; head_dim is a
// multiple of 16 up to MAX_HEAD_DIM; query heads h * group .. h * group + group - 1 read kv head h.
struct KVShape {
  KVType type;
  int32_t num_heads, kv_heads, head_dim, page_size, num_pages;
};

// One layer's pages; see attention_pages.h for the layout within a page.
struct KVPages {
  void* keys;
  void* values;
  float* key_scales;    // int8 only: one a token and kv head  [num_pages, kv_heads, page_size]
  float* value_scales;
};

// The rows of a step: row r has tokens row_starts[r] .. row_starts[r + 1] - 1 at consecutive
// positions, kv_lens[r] keys its own tokens included, and page page_table[r * table_stride + i]
// for positions i * page_size and on.
struct StepRows {
  int32_t num_rows, num_tokens;
  const int32_t* row_starts;
  const int32_t* positions;
  const int32_t* kv_lens;
  const int32_t* page_table;
  int64_t table_stride;
};

struct PageCopy {
  int32_t source, target, num_tokens;
};

// Which query meets which keys: made once a step, read by every layer, one after the other. Rows
// whose tables name the same pages for a whole split read it together; that changes no bit. A plan
// keeps the pointers of the rows that it was made from.
struct AttentionPlan;
AttentionPlan* attention_plan_new(const KVShape& shape);
void attention_plan_free(AttentionPlan* plan);
void attention_plan_make(AttentionPlan* plan, const StepRows& rows, int num_threads);

struct Attention {
  const KVShape* shape;
  const KVPages* pages;
  const AttentionPlan* plan;
  const uint16_t* q;  // bfloat16 [T, num_heads, head_dim], rotated
  const Rows* out;    // [T, num_heads * head_dim]
  float scale;        // of the scores, > 0, 1 / sqrt(head_dim) as a rule
  float soft_cap;     // scores become soft_cap * tanh(score / soft_cap); 0: off
  int32_t window;     // a query sees its last `window` positions, itself included; 0: all
};

// Token t's key and value, [kv_heads, head_dim] each, into its slot; any thread, any order.
void kv_write(const KVShape& shape, const KVPages& pages, const StepRows& rows, int32_t row,
              int32_t token, const float* key, const float* value);

// Copies the first num_tokens slots of a page, keys and values of all heads: exactly those.
void kv_copy(const KVShape& shape, const KVPages& pages, const PageCopy& copy);

// Attention runs in stages, each with its tasks; a barrier stands between stages.
int attention_num_stages(const AttentionPlan& plan);
int64_t attention_num_tasks(const AttentionPlan& plan, int stage);
void attention_task(const Attention& attention, int stage, int64_t task, const Worker& worker);

// Bytes of one page of one layer; the values take as many. {bytes of keys, of key scales}
void kv_page_bytes(const KVShape& shape, int64_t bytes[2]);

}  // namespace furcate
