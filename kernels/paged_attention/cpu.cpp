// Attention's stages: tiles of queries against their splits, results merged from left to right.
#include <algorithm>
#include <cstring>

#include "api.h"
#include "attention_plan.h"
#include "attention_split.h"
#include "elementwise.h"
#include "vec.h"

namespace furcate {
namespace {

constexpr size_t CACHE_LINE = 64;
constexpr int32_t SMALL_TILE = 12;  // queries that wait for memory more than for products
constexpr int32_t STATES = (MAX_QUERIES + LANES - 1) / LANES * LANES;

// What a query has of the splits so far: sums / weights is its result, both relative to 2**maximum.
struct States {
  float maxima[STATES], weights[STATES];
  float* sums;  // [MAX_QUERIES, head_dim]
};

// Takes pieces off a worker's memory; without memory it counts them.
class Pieces {
 public:
  explicit Pieces(char* memory) : memory_(memory) {}
  template <typename Element>
  Element* take(size_t count) {
    char* piece = memory_ ? memory_ + taken_ : nullptr;
    taken_ += (count * sizeof(Element) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    return reinterpret_cast<Element*>(piece);
  }
  size_t taken() const { return taken_; }

 private:
  char* memory_;
  size_t taken_ = 0;
};

// Everything a task needs beside the step itself.
struct TaskMemory {
  SplitWork work;
  States states;
  float* results;   // [MAX_QUERIES, partial_stride]
  float* rows;      // whole rows of output, where heads share a quantised block

  size_t take(const AttentionPlan& plan, char* memory) {
    const KVShape& shape = plan.shape;
    const size_t head_dim = shape.head_dim;
    const bool is_int8 = shape.type == KVType::int8, whole_rows = shape.head_dim % BLOCK != 0;
    Pieces pieces(memory);
    work.q = pieces.take<uint32_t>(MAX_QUERIES * PAIR_STRIDE);
    work.scores = pieces.take<float>(MAX_QUERIES * SCORE_STRIDE);
    work.weights = pieces.take<uint32_t>(MAX_QUERIES * PAIR_STRIDE);
    work.edges = pieces.take<uint32_t>(2 * head_dim);
    work.keys = pieces.take<uint16_t>(is_int8 ? SPLIT * head_dim : 0);
    work.values = pieces.take<uint16_t>(is_int8 ? SPLIT * head_dim : 0);
    work.key_scales = pieces.take<float>(is_int8 ? SPLIT : 0);
    work.value_scales = pieces.take<float>(is_int8 ? SPLIT : 0);
    states.sums = pieces.take<float>(MAX_QUERIES * head_dim);
    results = pieces.take<float>(MAX_QUERIES * plan.partial_stride());
    rows = pieces.take<float>(
        whole_rows ? static_cast<size_t>(plan.tokens_at_once) * shape.num_heads * head_dim : 0);
    return pieces.taken();
  }
};

// The first split of all queries. A sum of -0 becomes 0, as it does where a split is added.
void start(int32_t count, int32_t head_dim, float* const* results, States& states) {
  for (int32_t n = 0; n < count; n++) {
    const float* result = results[n];
    float* sums = states.sums + n * head_dim;
    states.maxima[n] = result[head_dim];
    states.weights[n] = result[head_dim + 1];
    const bool is_seen = states.maxima[n] != UNSEEN || states.weights[n] != 0.0f;
    for (int32_t dim = 0; dim < head_dim; dim += LANES)
      store_f32(sums + dim, is_seen ? load_f32(result + dim) + 0.0f : f32x16{});
  }
  for (int32_t n = count; n % LANES != 0; n++) states.maxima[n] = states.weights[n] = 0.0f;
}

// Adds one split to every query that saw some of it.
void merge(int32_t count, int32_t head_dim, float* const* results, States& states) {
  float maxima[STATES], weights[STATES], olds[STATES], news[STATES];
  for (int32_t n = 0; n < count; n++) {
    maxima[n] = results[n][head_dim];
    weights[n] = results[n][head_dim + 1];
  }
  for (int32_t n = count; n % LANES != 0; n++) maxima[n] = weights[n] = 0.0f;
  for (int32_t n = 0; n < count; n += LANES) {
    const f32x16 before = load_f32(states.maxima + n), added = load_f32(maxima + n);
    const f32x16 after = maximum(before, added);
    const f32x16 old = power_of_two(before - after), fresh = power_of_two(added - after);
    store_f32(olds + n, old);
    store_f32(news + n, fresh);
    store_f32(states.maxima + n, after);
    store_f32(states.weights + n, load_f32(states.weights + n) * old + load_f32(weights + n) * fresh);
  }
  for (int32_t n = 0; n < count; n++) {
    if (maxima[n] == UNSEEN && weights[n] == 0.0f) continue;
    float* sums = states.sums + n * head_dim;
    for (int32_t dim = 0; dim < head_dim; dim += LANES)
      store_f32(sums + dim, load_f32(sums + dim) * olds[n] + load_f32(results[n] + dim) * news[n]);
  }
}

// The queries of `num_heads` heads of some tokens, one token after the other.
void add_queries(const Attention& attention, int32_t token, int32_t first_head, int32_t num_heads,
                 SplitWork& work) {
  const KVShape& shape = *attention.shape;
  const int64_t row = static_cast<int64_t>(token) * shape.num_heads + first_head;
  for (int32_t head = 0; head < num_heads; head++) {
    const int32_t n = work.count++;
    work.positions[n] = attention.plan->rows.positions[token];
    std::memcpy(work.q + n * PAIR_STRIDE, attention.q + (row + head) * shape.head_dim,
                sizeof(uint16_t) * shape.head_dim);
  }
}

// Some heads of one kv head's group.
struct Heads {
  int32_t kv_head, first, count;
};

template <typename Body>
void for_heads(const AttentionPlan& plan, const AttentionTask& task, Body body) {
  for (int32_t head = task.head_begin; head < task.head_end; head++)
    for (int32_t at = 0; at < plan.group; at += plan.heads_at_once)
      body(Heads{head, head * plan.group + at, std::min(plan.heads_at_once, plan.group - at)});
}

void run_shared(const Attention& attention, const AttentionTask& task, TaskMemory& memory) {
  const AttentionPlan& plan = *attention.plan;
  const QueryTile& tile = plan.shared_tiles[task.tile];
  SplitWork& work = memory.work;
  ReadAhead ahead(plan.shape, *attention.pages, plan.pages_of(tile.row, 0), task.head_begin,
                  task.head_end, tile.split * SPLIT, (tile.split + 1) * SPLIT);
  ahead.next();
  for_heads(plan, task, [&](const Heads& heads) {
    for (int32_t at = 0; at < tile.num_tokens; at += plan.tokens_at_once) {
      work.count = 0;
      work.ahead = at == 0 && heads.count == plan.group ? &ahead : nullptr;
      const int32_t end = std::min(tile.num_tokens, at + plan.tokens_at_once);
      for (int32_t i = tile.first + at; i < tile.first + end; i++) {
        const AttentionPlan::SharedToken& shared = plan.shared_tokens[i];
        for (int32_t head = 0; head < heads.count; head++)
          work.results[work.count + head] =
              plan.partial(shared.row, shared.token, tile.split, heads.first + head);
        add_queries(attention, shared.token, heads.first, heads.count, work);
      }
      attend_split(attention, plan.pages_of(tile.row, tile.split), heads.kv_head, tile.split, work);
    }
  });
}

void merge_partials(const AttentionPlan& plan, const QueryTile& tile, const Heads& heads,
                    TaskMemory& memory) {
  float* results[MAX_QUERIES];
  for (int32_t split = 0; split < plan.num_partials[tile.row]; split++) {
    for (int32_t token = 0; token < tile.num_tokens; token++)
      for (int32_t head = 0; head < heads.count; head++)
        results[token * heads.count + head] =
            plan.partial(tile.row, tile.first + token, split, heads.first + head);
    const auto add = split == 0 ? start : merge;
    add(memory.work.count, plan.shape.head_dim, results, memory.states);
  }
}

void write_out(const Attention& attention, const QueryTile& tile, const Heads& heads,
               TaskMemory& memory) {
  const KVShape& shape = *attention.shape;
  const int32_t head_dim = shape.head_dim, width = heads.count * head_dim;
  const int32_t column = heads.first * head_dim;
  for (int32_t n = 0; n < memory.work.count; n++) {
    float* sums = memory.states.sums + n * head_dim;
    const float inverse = 1.0f / memory.states.weights[n];
    for (int32_t dim = 0; dim < head_dim; dim += LANES)
      store_f32(sums + dim, load_f32(sums + dim) * inverse);
  }
  const float* values = memory.states.sums;
  if (head_dim % BLOCK == 0)
    return write_rows_part(*attention.out, tile.first, tile.num_tokens, column, width, values,
                           width);
  for (int32_t token = 0; token < tile.num_tokens; token++)
    std::copy_n(values + token * width, width,
                memory.rows + token * shape.num_heads * head_dim + column);
}

void run_own(const Attention& attention, const AttentionTask& task, TaskMemory& memory) {
  const AttentionPlan& plan = *attention.plan;
  const KVShape& shape = plan.shape;
  const QueryTile& tile = plan.own_tiles[task.tile];
  const int32_t* positions = plan.rows.positions + tile.first;
  const int32_t last = positions[tile.num_tokens - 1] / SPLIT;
  const int32_t seen = attention.window > 0 ? positions[0] + 1 - attention.window : 0;
  const int32_t first = std::max(plan.num_partials[tile.row], std::max(seen, 0) / SPLIT);
  const bool is_start = plan.num_partials[tile.row] == 0;
  SplitWork& work = memory.work;
  ReadAhead ahead(shape, *attention.pages, plan.pages_of(tile.row, 0), task.head_begin,
                  task.head_end, std::max(first * SPLIT, seen), positions[tile.num_tokens - 1] + 1);
  const bool is_small = tile.num_tokens * plan.group <= SMALL_TILE;
  work.ahead = is_small ? &ahead : nullptr;
  if (is_small) ahead.next();
  for_heads(plan, task, [&](const Heads& heads) {
    work.count = 0;
    for (int32_t token = 0; token < tile.num_tokens; token++)
      add_queries(attention, tile.first + token, heads.first, heads.count, work);
    merge_partials(plan, tile, heads, memory);
    for (int32_t n = 0; n < work.count; n++)
      work.results[n] = memory.results + n * plan.partial_stride();
    for (int32_t split = first; split <= last; split++) {
      attend_split(attention, plan.pages_of(tile.row, split), heads.kv_head, split, work);
      const auto add = is_start && split == first ? start : merge;
      add(work.count, shape.head_dim, work.results, memory.states);
    }
    write_out(attention, tile, heads, memory);
  });
  if (shape.head_dim % BLOCK != 0)
    for (int32_t token = 0; token < tile.num_tokens; token++)
      write_row(*attention.out, tile.first + token,
                memory.rows + token * shape.num_heads * shape.head_dim);
}

bool is_shared_stage(const AttentionPlan& plan, int stage) {
  return stage == 0 && !plan.shared_tasks.empty();
}

}  // namespace

int attention_num_stages(const AttentionPlan& plan) { return plan.shared_tasks.empty() ? 1 : 2; }

int64_t attention_num_tasks(const AttentionPlan& plan, int stage) {
  const auto& tasks = is_shared_stage(plan, stage) ? plan.shared_tasks : plan.own_tasks;
  return static_cast<int64_t>(tasks.size());
}

void attention_task(const Attention& attention, int stage, int64_t task, const Worker& worker) {
  const AttentionPlan& plan = *attention.plan;
  TaskMemory memory;
  const size_t size = memory.take(plan, nullptr);
  memory.take(plan, static_cast<char*>(worker.scratch(size)));
  if (is_shared_stage(plan, stage))
    run_shared(attention, plan.shared_tasks[task], memory);
  else
    run_own(attention, plan.own_tasks[task], memory);
}

}  // namespace furcate

using namespace furcate;

FC_API size_t fc_sizeof_KVShape() { return sizeof(KVShape); }
FC_API size_t fc_sizeof_KVPages() { return sizeof(KVPages); }
FC_API size_t fc_sizeof_StepRows() { return sizeof(StepRows); }
FC_API size_t fc_sizeof_PageCopy() { return sizeof(PageCopy); }
FC_API size_t fc_sizeof_Attention() { return sizeof(Attention); }

FC_API void fc_kv_page_bytes(const KVShape* shape, int64_t* bytes) { kv_page_bytes(*shape, bytes); }

// All tokens of a step: keys and values [T, kv_heads, head_dim].
FC_API void fc_kv_write(Pool* pool, const KVShape* shape, const KVPages* pages,
                        const StepRows* rows, const float* keys, const float* values) {
  const int64_t width = static_cast<int64_t>(shape->kv_heads) * shape->head_dim;
  run(pool, [&](const Worker& worker) {
    worker.each(rows->num_rows, [&](int64_t row) {
      for (int32_t token = rows->row_starts[row]; token < rows->row_starts[row + 1]; token++)
        kv_write(*shape, *pages, *rows, static_cast<int32_t>(row), token, keys + token * width,
                 values + token * width);
    });
  });
}

FC_API void fc_kv_copy(const KVShape* shape, const KVPages* pages, const PageCopy* copies,
                       int64_t num_copies) {
  for (int64_t n = 0; n < num_copies; n++) kv_copy(*shape, *pages, copies[n]);
}

FC_API AttentionPlan* fc_attention_plan_new(const KVShape* shape) {
  return attention_plan_new(*shape);
}
FC_API void fc_attention_plan_free(AttentionPlan* plan) { attention_plan_free(plan); }
FC_API void fc_attention_plan_make(AttentionPlan* plan, const StepRows* rows, int32_t num_threads) {
  attention_plan_make(plan, *rows, num_threads);
}
FC_API int32_t fc_attention_num_stages(const AttentionPlan* plan) {
  return attention_num_stages(*plan);
}
FC_API int64_t fc_attention_num_tasks(const AttentionPlan* plan, int32_t stage) {
  return attention_num_tasks(*plan, stage);
}

// All stages of a plan that was made.
FC_API void fc_attention(Pool* pool, const Attention* attention) {
  run(pool, [&](const Worker& worker) {
    for (int stage = 0; stage < attention_num_stages(*attention->plan); stage++)
      worker.each(attention_num_tasks(*attention->plan, stage),
                  [&](int64_t task) { attention_task(*attention, stage, task, worker); });
  });
}
