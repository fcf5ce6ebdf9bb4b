// Makes the plan of a step: which rows share which splits, and the tasks. It runs before the first
// layer on one thread: all its work is linear in the pages of the rows, all its memory is kept.
// Knows pages by their ids alone.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "attention_plan.h"

namespace furcate {
namespace {

constexpr int64_t TASK_PRODUCTS = 1 << 17;  // of a task worth a claim: about two microseconds
constexpr int32_t TASKS_A_THREAD = 3;
constexpr int32_t TILES_A_SHARED_TASK = 2;
constexpr int32_t LONG_SPLITS = 4;  // a row that is worth another stage
constexpr uint64_t HASH_FACTOR = 0x9e3779b97f4a7c15u;
constexpr size_t CACHE_LINE = 64;

int32_t num_tokens_of(const StepRows& rows, int32_t row) {
  return rows.row_starts[row + 1] - rows.row_starts[row];
}

// Splits that lie before the row's own tokens.
int32_t earlier_splits(const StepRows& rows, int32_t row) {
  return rows.positions[rows.row_starts[row]] / SPLIT;
}

// Rows with more tokens make good use of what they read by themselves.
bool may_share(const AttentionPlan& plan, int32_t row) {
  const int32_t tokens = num_tokens_of(plan.rows, row);
  return tokens > 0 && tokens <= plan.tokens_at_once && earlier_splits(plan.rows, row) > 0;
}

bool enough_tasks(const AttentionPlan& plan, int64_t num_tiles) {
  return num_tiles * plan.shape.kv_heads >=
         static_cast<int64_t>(TASKS_A_THREAD) * plan.num_threads;
}

// found[i]: the group of alive[i] by its pages in this split.
void find_groups(AttentionPlan& plan, int32_t split) {
  const size_t count = plan.alive.size();
  const int32_t pages = SPLIT / plan.shape.page_size;
  size_t capacity = 4;
  while (capacity < 2 * count) capacity *= 2;
  plan.table.assign(capacity, -1);
  plan.hashes.resize(count);
  plan.found.resize(count);
  plan.counts.clear();
  for (size_t i = 0; i < count; i++) {
    const int32_t row = plan.alive[i];
    const int32_t* ids = plan.pages_of(row, split);
    uint64_t hash = 0;
    for (int32_t page = 0; page < pages; page++)
      hash = (hash ^ static_cast<uint32_t>(ids[page])) * HASH_FACTOR, hash ^= hash >> 29;
    plan.hashes[i] = hash;
    size_t slot = hash & (capacity - 1);
    for (; plan.table[slot] >= 0; slot = (slot + 1) & (capacity - 1)) {
      const int32_t other = plan.table[slot], other_row = plan.alive[other];
      if (plan.hashes[other] == hash &&
          std::memcmp(plan.pages_of(other_row, split), ids, sizeof(int32_t) * pages) == 0)
        break;
    }
    if (plan.table[slot] < 0) {
      plan.table[slot] = static_cast<int32_t>(i);
      plan.found[i] = static_cast<int32_t>(plan.counts.size());
      plan.counts.push_back(1);
    } else {
      plan.found[i] = plan.found[plan.table[slot]];
      plan.counts[plan.found[i]]++;
    }
  }
}

// A node for each group of two rows or more; `alive` becomes those with another split to share.
void add_nodes(AttentionPlan& plan, int32_t split) {
  int32_t end = static_cast<int32_t>(plan.node_rows.size());
  for (int32_t& count : plan.counts) {  // from here on: where the group's next row goes
    const int32_t begin = count >= 2 ? end : -1;
    if (count >= 2) plan.nodes.push_back({split, end, end + count}), end += count;
    count = begin;
  }
  plan.node_rows.resize(end);
  plan.survivors.clear();
  for (size_t i = 0; i < plan.alive.size(); i++) {
    int32_t& next = plan.counts[plan.found[i]];
    if (next < 0) continue;
    const int32_t row = plan.alive[i];
    plan.node_rows[next++] = row;
    plan.num_partials[row] = split + 1;
    if (earlier_splits(plan.rows, row) > split + 1) plan.survivors.push_back(row);
  }
  plan.alive.swap(plan.survivors);
}

void share_splits(AttentionPlan& plan) {
  plan.alive.clear();
  for (int32_t row = 0; row < plan.rows.num_rows; row++)
    if (may_share(plan, row)) plan.alive.push_back(row);
  for (int32_t split = 0; plan.alive.size() >= 2; split++) {
    find_groups(plan, split);
    add_nodes(plan, split);
  }
}

// Where the threads would wait for each other: long rows are computed split by split.
void cut_long_rows(AttentionPlan& plan) {
  int64_t num_tiles = 0;
  for (int32_t row = 0; row < plan.rows.num_rows; row++)
    num_tiles += (num_tokens_of(plan.rows, row) + plan.tokens_at_once - 1) / plan.tokens_at_once;
  if (plan.num_threads == 1 || enough_tasks(plan, num_tiles)) return;
  for (int32_t row = 0; row < plan.rows.num_rows; row++) {
    if (!may_share(plan, row) || plan.num_partials[row] > 0) continue;
    const int32_t splits = earlier_splits(plan.rows, row);
    if (splits < LONG_SPLITS) continue;
    for (int32_t split = 0; split < splits; split++) {
      const int32_t at = static_cast<int32_t>(plan.node_rows.size());
      plan.node_rows.push_back(row);
      plan.nodes.push_back({split, at, at + 1});
    }
    plan.num_partials[row] = splits;
  }
}

void reserve_partials(AttentionPlan& plan) {
  int64_t size = 0;
  const int64_t of_token = static_cast<int64_t>(plan.shape.num_heads) * plan.partial_stride();
  for (int32_t row = 0; row < plan.rows.num_rows; row++) {
    plan.partial_first[row] = size;
    size += plan.num_partials[row] * num_tokens_of(plan.rows, row) * of_token;
  }
  if (static_cast<size_t>(size) <= plan.partial_capacity) return;
  std::free(plan.partials);
  plan.partial_capacity = static_cast<size_t>(size) + static_cast<size_t>(size) / 2;
  const size_t lines = plan.partial_capacity * sizeof(float) / CACHE_LINE + 1;
  plan.partials = static_cast<float*>(std::aligned_alloc(CACHE_LINE, lines * CACHE_LINE));
  if (plan.partials == nullptr) std::abort();
}

void add_tasks(const AttentionPlan& plan, std::vector<AttentionTask>& tasks, size_t first_tile,
               size_t num_tiles, int32_t heads) {
  const int32_t kv_heads = plan.shape.kv_heads;
  for (int32_t head = 0; head < kv_heads; head += heads)
    for (size_t tile = first_tile; tile < first_tile + num_tiles; tile++)
      tasks.push_back({static_cast<int32_t>(tile), head, std::min(head + heads, kv_heads)});
}

void make_shared_tasks(AttentionPlan& plan) {
  const bool many = enough_tasks(plan, static_cast<int64_t>(plan.nodes.size()));
  const int32_t most = plan.tokens_at_once * (many ? TILES_A_SHARED_TASK : 1);
  for (const AttentionPlan::Node& node : plan.nodes) {
    const int32_t first = static_cast<int32_t>(plan.shared_tokens.size());
    for (int32_t i = node.begin; i < node.end; i++) {
      const int32_t row = plan.node_rows[i];
      for (int32_t token = plan.rows.row_starts[row]; token < plan.rows.row_starts[row + 1]; token++)
        plan.shared_tokens.push_back({token, row});
    }
    const int32_t end = static_cast<int32_t>(plan.shared_tokens.size());
    const size_t tile = plan.shared_tiles.size();
    for (int32_t at = first; at < end; at += most)
      plan.shared_tiles.push_back(
          {plan.node_rows[node.begin], node.split, at, std::min(most, end - at)});
    add_tasks(plan, plan.shared_tasks, tile, plan.shared_tiles.size() - tile, 1);
  }
}

// Kv heads of a tile that one task computes: one, unless that is too little, or the blocks of
// quantised output rows reach across heads.
int32_t heads_of_task(const AttentionPlan& plan, const QueryTile& tile, bool many) {
  if (plan.shape.head_dim % BLOCK != 0) return plan.shape.kv_heads;
  if (!many) return 1;
  const int32_t last = plan.rows.positions[tile.first + tile.num_tokens - 1];
  const int64_t keys = last + 1 - plan.num_partials[tile.row] * SPLIT;
  const int64_t products = keys * tile.num_tokens * plan.group * plan.shape.head_dim;
  return static_cast<int32_t>(
      std::min<int64_t>(plan.shape.kv_heads, TASK_PRODUCTS / products + 1));
}

// The longest first: rows of many tokens, from their ends.
void make_own_tasks(AttentionPlan& plan) {
  const StepRows& rows = plan.rows;
  const bool many = enough_tasks(plan, rows.num_tokens / plan.tokens_at_once);
  for (const bool is_decode : {false, true})
    for (int32_t row = 0; row < rows.num_rows; row++) {
      const int32_t start = rows.row_starts[row], tokens = num_tokens_of(rows, row);
      if (tokens == 0 || (tokens == 1) != is_decode) continue;
      const size_t tile = plan.own_tiles.size();
      const int32_t most = many ? plan.tokens_at_once : (plan.tokens_at_once + 1) / 2;
      for (int32_t at = (tokens - 1) / most * most; at >= 0; at -= most)
        plan.own_tiles.push_back({row, 0, start + at, std::min(most, tokens - at)});
      const size_t count = plan.own_tiles.size() - tile;
      const bool several = many || rows.num_rows > TASKS_A_THREAD * plan.num_threads;
      add_tasks(plan, plan.own_tasks, tile, count,
                heads_of_task(plan, plan.own_tiles[tile], several));
    }
}

}  // namespace

AttentionPlan::~AttentionPlan() { std::free(partials); }

AttentionPlan* attention_plan_new(const KVShape& shape) {
  AttentionPlan* plan = new AttentionPlan;
  plan->shape = shape;
  plan->group = shape.num_heads / shape.kv_heads;
  const int32_t parts = (plan->group + MAX_QUERIES - 1) / MAX_QUERIES;
  plan->heads_at_once = (plan->group + parts - 1) / parts;
  plan->tokens_at_once = std::max(1, MAX_QUERIES / plan->heads_at_once);
  return plan;
}

void attention_plan_free(AttentionPlan* plan) { delete plan; }

void attention_plan_make(AttentionPlan* plan, const StepRows& rows, int num_threads) {
  plan->rows = rows;
  plan->num_threads = num_threads;
  plan->num_partials.assign(rows.num_rows, 0);
  plan->partial_first.resize(rows.num_rows);
  plan->nodes.clear();
  plan->node_rows.clear();
  plan->shared_tokens.clear();
  plan->shared_tiles.clear();
  plan->own_tiles.clear();
  plan->shared_tasks.clear();
  plan->own_tasks.clear();
  share_splits(*plan);
  cut_long_rows(*plan);
  reserve_partials(*plan);
  make_shared_tasks(*plan);
  make_own_tasks(*plan);
}

}  // namespace furcate
