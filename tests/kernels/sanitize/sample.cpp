// Draws and scores over vocabularies around the lanes and blocks that are read at once, with every
// option, and with logits that are no numbers.
#include "sample.h"

#include <cmath>
#include <vector>

#include "check.h"

using namespace furcate;

namespace {

struct Options {
  float temperature;
  int32_t top_k;
  float top_p, min_p;
  bool penalties, masked, biased;
};

const std::vector<Options> OPTIONS = {
    {0, 0, 1, 0, false, false, false},       {1, 0, 1, 0, false, false, false},
    {1, 1, 1, 0, false, false, false},       {0.7f, 5, 0.9f, 0, false, true, false},
    {1, 0, 0.5f, 0.1f, true, false, false},  {2, 1000000, 0.01f, 0, true, true, true},
    {0, 0, 1, 0, true, true, true},          {1, 0, 1, 0.9f, false, false, true},
};

// The ids that a row names, in memory of exactly their number.
struct Lists {
  Lists(int32_t vocab_size, const Options& options, Numbers& numbers)
      : ids(options.penalties || options.biased ? 7 : 0),
        bias(ids.size()),
        banned(options.biased ? 1 : 0),
        mask(options.masked ? (vocab_size + 31) / 32 : 0) {
    for (int64_t n = 0; n < ids.size(); n++) ids[n] = numbers.below(vocab_size);
    bias.fill(1.5f);
    banned.fill(vocab_size - 1);
    for (int64_t n = 0; n < mask.size(); n++) mask[n] = numbers.bits() | 1u;
  }

  Buffer<int32_t> ids;
  Buffer<float> bias;
  Buffer<int32_t> banned;
  Buffer<uint32_t> mask;
};

SampleRow row_of(const Options& options, const Lists& lists, int32_t num_top) {
  SampleRow row{};
  row.temperature = options.temperature;
  row.top_k = options.top_k;
  row.top_p = options.top_p;
  row.min_p = options.min_p;
  row.repetition_penalty = 1;
  row.seed = 7;
  row.num_top = num_top;
  if (options.masked) row.mask = lists.mask.data();
  const int32_t count = static_cast<int32_t>(lists.ids.size());
  if (options.penalties) {
    row.frequency_penalty = 0.5f;
    row.presence_penalty = 0.5f;
    row.repetition_penalty = 1.3f;
    row.output_ids = row.context_ids = lists.ids.data();
    row.num_output = row.num_context = count;
  }
  if (options.biased) {
    row.bias_ids = lists.ids.data();
    row.bias_values = lists.bias.data();
    row.banned_ids = lists.banned.data();
    row.num_bias = count;
    row.num_banned = static_cast<int32_t>(lists.banned.size());
  }
  return row;
}

void draw(const Worker& worker, const Buffer<float>& logits, const SampleRow& row) {
  Buffer<SampleResult> result(1);
  Buffer<int32_t> ids(row.num_top < 0 ? 0 : row.num_top);
  Buffer<float> logprobs(ids.size());
  const int32_t vocab_size = static_cast<int32_t>(logits.size());
  sample_row(logits.data(), vocab_size, row, result.data(), ids.data(), logprobs.data(), worker);
  const SampleResult& drawn = result[0];
  EXPECT((drawn.status == SampleStatus::drawn) == (drawn.token_id >= 0));
  EXPECT(drawn.token_id < vocab_size);
  if (drawn.status != SampleStatus::drawn) return;
  if (row.mask != nullptr) EXPECT(row.mask[drawn.token_id / 32] >> (drawn.token_id % 32) & 1u);
  for (int32_t n = 0; n < row.num_banned; n++) EXPECT(drawn.token_id != row.banned_ids[n]);
}

void score(const Worker& worker, const Buffer<float>& logits, int32_t token_id, int32_t num_top) {
  Buffer<float> logprob(1), logprobs(num_top);
  Buffer<int32_t> ids(num_top);
  score_row(logits.data(), static_cast<int32_t>(logits.size()), {0, token_id, num_top},
            logprob.data(), ids.data(), logprobs.data(), worker);
}

void all_options(const Worker& worker, const Buffer<float>& logits, Numbers& numbers) {
  const int32_t vocab_size = static_cast<int32_t>(logits.size());
  for (const Options& options : OPTIONS) {
    const Lists lists(vocab_size, options, numbers);
    for (int32_t num_top : {-1, 0, 1, 5, 20}) {
      SampleRow row = row_of(options, lists, num_top);
      for (row.index = 0; row.index < 3; row.index++) draw(worker, logits, row);
    }
  }
  for (int32_t num_top : {0, 1, 20}) {
    score(worker, logits, 0, num_top);
    score(worker, logits, vocab_size - 1, num_top);
  }
}

}  // namespace

int main() {
  Pool* pool = fc_pool_new(3, nullptr);
  run(pool, [](const Worker& worker) {
    worker.each(12, [&](int64_t task) {
      const int32_t sizes[] = {1, 2, 15, 16, 17, 31, 32, 33, 255, 1000, 4097, 49152};
      Numbers numbers;
      Buffer<float> logits(sizes[task]);
      numbers.fill(logits, -10, 10);
      all_options(worker, logits, numbers);
      logits.fill(0.25f);  // all equal
      all_options(worker, logits, numbers);
      logits[logits.size() - 1] = INFINITY;
      all_options(worker, logits, numbers);
      logits[0] = NAN;
      all_options(worker, logits, numbers);
      logits.fill(-INFINITY);
      all_options(worker, logits, numbers);
    });
  });
  fc_pool_free(pool);
  std::puts("ok");
}
