// Attention over rows that end around pages and splits, with pages that several rows share.
#include "attention.h"

#include "pages.h"
#include "vec.h"

#include <cstring>

using namespace furcate;

FC_API void fc_attention(Pool* pool, const Attention* attention);

namespace {

void keys_are_written(const KVShape& shape, const Pages& pages, const StepRows& rows,
                      Numbers& numbers) {
  const int64_t width = int64_t{shape.kv_heads} * shape.head_dim;
  Buffer<float> key(width), value(width);
  for (int32_t row = 0; row < rows.num_rows; row++)
    for (int32_t token = rows.row_starts[row]; token < rows.row_starts[row + 1]; token++) {
      numbers.fill(key);
      numbers.fill(value);
      kv_write(shape, pages.pages, rows, row, token, key.data(), value.data());
    }
}

void attend(Pool* pool, const KVShape& shape, const Pages& pages, const StepRows& rows,
            AttentionPlan* plan, RowType type, Numbers& numbers) {
  const int32_t width = shape.num_heads * shape.head_dim;
  RowMemory out(type, rows.num_tokens, width);
  Buffer<uint16_t> q(int64_t{rows.num_tokens} * width);
  for (int64_t n = 0; n < q.size(); n++) q[n] = to_bf16(numbers.between(-1, 1));
  for (int32_t window : {0, 1, 100}) {
    attention_plan_make(plan, rows, fc_pool_threads(pool));
    const Attention attention{&shape, &pages.pages, plan, q.data(), &out.rows, 0.1f,
                              window == 1 ? 30.0f : 0.0f, window};
    fc_attention(pool, &attention);
    if (type != RowType::f32) return;
    for (int64_t n = 0; n < q.size(); n++) {
      float value;
      std::memcpy(&value, out.data.data() + n * 4, 4);
      EXPECT(value == value);
    }
  }
}

void all_rows(Pool* pool, KVShape shape, Numbers& numbers) {
  const int32_t page = shape.page_size, shared = SPLIT / page;
  // Every key is written by a step that has all of its row's tokens.
  const std::vector<std::pair<int32_t, int32_t>> whole = {
      {1, 1},     {page - 1, page - 1}, {page, page}, {page + 1, page + 1}, {255, 255},
      {256, 256}, {257, 257},           {513, 513}, {512, 512}};
  shape.num_pages = 0;  // as many as the rows have without sharing, the last one full
  for (const auto& [count, length] : whole) shape.num_pages += (length + page - 1) / page;
  const Pages pages(shape);
  std::vector<std::pair<int32_t, int32_t>> last;
  for (const auto& [count, length] : whole)
    last.push_back({std::min(count, 1 + length % 3), length});
  AttentionPlan* plan = attention_plan_new(shape);
  for (int32_t first : {0, shared}) {
    const Step prompt(shape, whole, first), decode(shape, last, first);
    keys_are_written(shape, pages, prompt.rows(), numbers);
    for (RowType type : {RowType::f32, RowType::bf16, RowType::q8}) {
      if (type == RowType::q8 && shape.num_heads * shape.head_dim % BLOCK != 0) continue;
      attend(pool, shape, pages, decode.rows(), plan, type, numbers);
    }
    attend(pool, shape, pages, prompt.rows(), plan, RowType::f32, numbers);
  }
  const Step nothing(shape, {}, 0);
  attend(pool, shape, pages, nothing.rows(), plan, RowType::f32, numbers);
  attention_plan_free(plan);
  for (int32_t count : {0, 1, page - 1, page}) kv_copy(shape, pages.pages, {0, 1, count});
}

}  // namespace

int main() {
  Numbers numbers;
  for (int num_threads : {1, 3}) {
    Pool* pool = fc_pool_new(num_threads, nullptr);
    for (KVType type : {KVType::bf16, KVType::int8}) {
      all_rows(pool, {type, 1, 1, 16, 16, 0}, numbers);
      all_rows(pool, {type, 6, 2, 48, 64, 0}, numbers);
      all_rows(pool, {type, 9, 3, 64, 32, 0}, numbers);
      all_rows(pool, {type, 4, 4, 256, 256, 0}, numbers);
    }
    fc_pool_free(pool);
  }
  std::puts("ok");
}
