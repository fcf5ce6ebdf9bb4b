// The plan of one step's attention, for the kernels of attention alone.
//
// Every query meets its splits from left to right. The leading splits of some rows are computed
// ahead, in stage 0, and kept as partial results: those that several rows read from the same pages,
// and those of long rows where there are too few tasks for the threads. The last stage merges a
// query's partial results in order, goes on with the splits that are left, and writes the row. A
// split's result is the same wherever it is computed, so none of this changes a bit.
#pragma once

#include <cstdint>
#include <vector>

#include "attention.h"
#include "attention_pages.h"

namespace furcate {

constexpr int32_t MAX_QUERIES = 48;  // of one kv head that are computed together

// Consecutive tokens of one row with all their splits, or tokens of any rows with one shared split.
struct QueryTile {
  int32_t row;         // whose pages are read
  int32_t split;       // stage 0 only
  int32_t first;       // token, or in stage 0 index into shared_tokens
  int32_t num_tokens;
};

struct AttentionTask {
  int32_t tile, head_begin, head_end;  // kv heads
};

struct AttentionPlan {
  struct SharedToken {
    int32_t token, row;
  };
  struct Node {  // rows whose tables name the same pages in this split
    int32_t split, begin, end;  // of node_rows
  };

  KVShape shape{};
  StepRows rows{};
  int32_t group = 1;           // query heads of a kv head
  int32_t heads_at_once = 1;   // of a group
  int32_t tokens_at_once = 1;  // so that heads_at_once * tokens_at_once <= MAX_QUERIES
  int32_t num_threads = 1;

  std::vector<int32_t> num_partials;   // [R] leading splits that stage 0 computes
  std::vector<int64_t> partial_first;  // [R] where they lie
  std::vector<SharedToken> shared_tokens;
  std::vector<QueryTile> shared_tiles, own_tiles;
  std::vector<AttentionTask> shared_tasks, own_tasks;
  float* partials = nullptr;
  size_t partial_capacity = 0;

  // While the plan is made.
  std::vector<Node> nodes;
  std::vector<int32_t> node_rows, alive, survivors, found, counts, table;
  std::vector<uint64_t> hashes;

  AttentionPlan() = default;
  AttentionPlan(const AttentionPlan&) = delete;
  AttentionPlan& operator=(const AttentionPlan&) = delete;
  ~AttentionPlan();

  const int32_t* pages_of(int32_t row, int32_t split) const {
    return rows.page_table + row * rows.table_stride + split * (SPLIT / shape.page_size);
  }
  // A partial result: head_dim sums, then the maximum and the sum of the weights.
  int32_t partial_stride() const { return shape.head_dim + STRIP; }
  float* partial(int32_t row, int32_t token, int32_t split, int32_t head) const {
    const int64_t place = static_cast<int64_t>(token - rows.row_starts[row]) * num_partials[row];
    return partials + partial_first[row] +
           ((place + split) * shape.num_heads + head) * partial_stride();
  }
};

}  // namespace furcate
