// What a step keeps of its caller's arrays, and what is drawn from its logits.
#include "step.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <new>

#include "api.h"

namespace furcate {

namespace {

// Of draws that were not made, because the forward has failed.
SampleResult nothing() { return {-1, SampleStatus::nothing_allowed, std::nanf("")}; }

template <typename Element>
void copy_to(std::vector<Element>& to, const Element* from, int64_t count) {
  to.assign(from, from + count);
}

}  // namespace

void Memory::Free::operator()(void* memory) const { std::free(memory); }

void* Memory::reserve(size_t num_bytes) {
  if (num_bytes > capacity_ || !memory_) {
    const size_t size = (std::max<size_t>(num_bytes + num_bytes / 4, 64) + 63) / 64 * 64;
    memory_.reset();
    capacity_ = 0;
    memory_.reset(std::aligned_alloc(64, size));
    if (!memory_) throw std::bad_alloc();
    capacity_ = size;
  }
  return memory_.get();
}

void Step::take(const StepArrays& arrays) {
  const int64_t num_rows = arrays.num_rows;
  copy_to(token_ids, arrays.token_ids, arrays.num_tokens);
  copy_to(positions, arrays.positions, arrays.num_tokens);
  copy_to(row_starts, arrays.row_starts, num_rows + 1);
  copy_to(kv_lens, arrays.kv_lens, num_rows);
  copy_to(page_table, arrays.page_table, num_rows * arrays.table_stride);
  copy_to(copies, arrays.copies, arrays.num_copies);
  copy_to(logit_indices, arrays.logit_indices, arrays.num_logits);
  row_of_token.resize(arrays.num_tokens);
  for (int32_t row = 0; row < num_rows; row++)
    for (int32_t token = row_starts[row]; token < row_starts[row + 1]; token++)
      row_of_token[token] = row;
  rows = {arrays.num_rows,   arrays.num_tokens, row_starts.data(),    positions.data(),
          kv_lens.data(),    page_table.data(), arrays.table_stride};
  draws.take(arrays.draws, arrays.num_draws, nothing());
  late_draws.take(nullptr, 0, nothing());
  scores.take(arrays.scores, arrays.num_scores, std::nanf(""));
  failed = false;
}

void Step::take_late(const SampleRow* rows, int64_t count) {
  late_draws.take(rows, count, nothing());
}

int32_t Step::drawn(int64_t n) const {
  if (n < draws.count()) return draws[n].token_id;
  n -= draws.count();
  return n < late_draws.count() ? late_draws[n].token_id : -1;
}

void Step::resolve(const Step* previous) {
  for (int32_t& id : token_ids) {
    if (id >= 0) continue;
    const int32_t token = previous ? previous->drawn(-(int64_t{id} + 1)) : -1;
    id = std::max(token, 0);  // nothing was drawn: the row is dropped by whoever collects
  }
}

void Step::answer(int32_t vocab_size, const Worker& worker) {
  const int64_t num_draws = draws.count();
  worker.each(num_draws + scores.count(), [&](int64_t n) {
    if (n < num_draws)
      draws.compute_row(n, logits, vocab_size, worker);
    else
      scores.compute_row(n - num_draws, logits, vocab_size, worker);
  });
}

void Step::answer_late(int32_t vocab_size, const Worker& worker) {
  worker.each(late_draws.count(),
              [&](int64_t n) { late_draws.compute_row(n, logits, vocab_size, worker); });
}

}  // namespace furcate

FC_API size_t fc_sizeof_StepArrays() { return sizeof(furcate::StepArrays); }
