// A whole forward on the executor's thread: steps of many shapes, several in flight, tokens that one
// step draws for the next, page copies, and an end while steps are under way.
#include "forward.h"

#include <vector>

#include "pages.h"

namespace furcate {
class Executor;
struct StepAnswers {
  const void* results;
  const int32_t* top_ids;
  const float* top_logprobs;
  int64_t count, top_stride;
};
}

using namespace furcate;

extern "C" {
Program* fc_program_new(const KVShape*, int32_t, int32_t, const KVPages*);
void fc_program_free(Program*);
int32_t fc_program_buffer(Program*, int32_t, int32_t, int32_t);
int32_t fc_program_rope(Program*, const float*, int32_t);
void fc_program_embed(Program*, const Embedding*, int32_t);
void fc_program_norm(Program*, const Norm*, int32_t, int32_t);
void fc_program_linear(Program*, const Linear*, int32_t, int32_t);
void fc_program_rotate(Program*, const RopeWrite*, int32_t, int32_t, int32_t, int32_t);
void fc_program_attend(Program*, const Attention*, int32_t, int32_t, int32_t);
void fc_program_head(Program*, const Norm*, const Linear*, int32_t, int32_t);
Executor* fc_executor_new(Program*, Pool*);
void fc_executor_free(Executor*);
int64_t fc_executor_submit(Executor*, const StepArrays*);
int32_t fc_executor_wait(Executor*, int64_t);
const float* fc_executor_logits(const Executor*, int64_t);
void fc_executor_draw(Executor*, const SampleRow*, int32_t);
void fc_executor_draws(const Executor*, int64_t, StepAnswers*);
void fc_executor_late_draws(const Executor*, int64_t, StepAnswers*);
void fc_executor_scores(const Executor*, int64_t, StepAnswers*);
}

namespace {

constexpr int32_t HIDDEN = 32, WIDE = 64, VOCAB = 40, HEADS = 2, KV_HEADS = 1, HEAD_DIM = 16;
constexpr int32_t QKV = (HEADS + 2 * KV_HEADS) * HEAD_DIM, LAYERS = 2;
constexpr KVShape SHAPE{KVType::bf16, HEADS, KV_HEADS, HEAD_DIM, 16, 64};

// Weights in float32, rows in `type`.
class Weights {
 public:
  Weights(RowType type, Pool* pool) : type_(type), pool_(pool) {}
  ~Weights() {
    for (LinearWeight* weight : packed_) fc_linear_free(weight);
  }

  Linear linear(int32_t n, int32_t k, Epilogue epilogue) {
    ::Buffer<float> values(int64_t{n} * k);
    numbers_.fill(values, -0.2f, 0.2f);
    const int32_t half = n / 2;
    const LinearPart parts[] = {{StoredType::f32, half, values.data()},
                                {StoredType::f32, half, values.data() + int64_t{half} * k}};
    packed_.push_back(fc_linear_pack(parts, 2, k, type_, epilogue == Epilogue::gated, pool_));
    EXPECT(packed_.back() != nullptr);
    Linear linear{};
    linear.weight = packed_.back();
    linear.epilogue = epilogue;
    return linear;
  }

 private:
  RowType type_;
  Pool* pool_;
  Numbers numbers_;
  std::vector<LinearWeight*> packed_;
};

class Model {
 public:
  Model(RowType type, Pool* pool) : weights_(type, pool), ones_(HIDDEN), table_(VOCAB * HIDDEN) {
    Numbers().fill(table_);
    ones_.fill(1.0f);
    for (int layer = 0; layer < LAYERS; layer++) {
      memory_.push_back(std::make_unique<Pages>(SHAPE));
      layers_.push_back(memory_.back()->pages);
    }
    program = fc_program_new(&SHAPE, VOCAB, LAYERS, layers_.data());
    define(static_cast<int32_t>(type));
  }
  ~Model() { fc_program_free(program); }

  Program* program;

 private:
  void define(int32_t type) {
    const float frequencies[HEAD_DIM / 2] = {1.0f, 0.5f, 0.25f, 0.1f};
    const int32_t rope = fc_program_rope(program, frequencies, HEAD_DIM / 2);
    const auto buffer = [&](RowType form, int32_t width) {
      return fc_program_buffer(program, static_cast<int32_t>(form), width, 0);
    };
    const RowType form = static_cast<RowType>(type);
    const int32_t hidden = buffer(RowType::f32, HIDDEN), qkv = buffer(RowType::f32, QKV);
    const int32_t q = buffer(RowType::bf16, HEADS * HEAD_DIM), normed = buffer(form, HIDDEN);
    const int32_t attended = buffer(form, HEADS * HEAD_DIM), gated = buffer(form, WIDE);
    const Embedding embedding{TableType::f32, HIDDEN, VOCAB, table_.data(), 1.0f};
    Norm norm{};
    norm.weight = ones_.data();
    norm.eps = 1e-5f;
    norm.width = HIDDEN;
    RopeWrite rotation{};
    rotation.rotary_dim = HEAD_DIM;
    Attention attention{};
    attention.scale = 0.25f;
    fc_program_embed(program, &embedding, hidden);
    for (int32_t layer = 0; layer < LAYERS; layer++) {
      const auto product = [&](int32_t n, int32_t k, Epilogue epilogue, int32_t in, int32_t out) {
        const Linear linear = weights_.linear(n, k, epilogue);
        fc_program_linear(program, &linear, in, out);
      };
      fc_program_norm(program, &norm, hidden, normed);
      product(QKV, HIDDEN, Epilogue::store, normed, qkv);
      fc_program_rotate(program, &rotation, layer, rope, qkv, q);
      fc_program_attend(program, &attention, layer, q, attended);
      product(HIDDEN, HEADS * HEAD_DIM, Epilogue::add, attended, hidden);
      fc_program_norm(program, &norm, hidden, normed);
      product(2 * WIDE, HIDDEN, Epilogue::gated, normed, gated);
      product(HIDDEN, WIDE, Epilogue::add, gated, hidden);
    }
    const Linear head = weights_.linear(VOCAB, HIDDEN, Epilogue::store);
    fc_program_head(program, &norm, &head, hidden, fc_program_buffer(program, type, HIDDEN, 1));
  }

  Weights weights_;
  ::Buffer<float> ones_, table_;
  std::vector<std::unique_ptr<Pages>> memory_;
  std::vector<KVPages> layers_;
};

SampleRow greedy() {
  SampleRow row{};
  row.top_p = 1.0;
  row.repetition_penalty = 1.0f;
  row.num_top = -1;
  return row;
}

// Submits a step whose arrays are gone when this returns.
int64_t submit(Executor* executor, const ::Step& step, std::vector<int32_t> ids,
               const std::vector<PageCopy>& copies, const std::vector<SampleRow>& draws) {
  const StepRows& rows = step.rows();
  ::Buffer<int32_t> token_ids(rows.num_tokens), logits(rows.num_rows);
  for (int32_t n = 0; n < rows.num_tokens; n++) token_ids[n] = ids[n % ids.size()];
  for (int32_t row = 0; row < rows.num_rows; row++) logits[row] = rows.row_starts[row + 1] - 1;
  StepArrays arrays{};
  arrays.num_tokens = rows.num_tokens;
  arrays.num_rows = rows.num_rows;
  arrays.num_copies = static_cast<int32_t>(copies.size());
  arrays.num_logits = rows.num_rows;
  arrays.num_draws = static_cast<int32_t>(draws.size());
  arrays.token_ids = token_ids.data();
  arrays.positions = rows.positions;
  arrays.row_starts = rows.row_starts;
  arrays.kv_lens = rows.kv_lens;
  arrays.page_table = rows.page_table;
  arrays.table_stride = rows.table_stride;
  const ScoreRow scores[] = {{0, 3, 2}, {rows.num_rows - 1, -1, 0}};
  arrays.num_scores = 2;
  arrays.scores = scores;
  arrays.copies = copies.data();
  arrays.logit_indices = logits.data();
  arrays.draws = draws.data();
  return fc_executor_submit(executor, &arrays);
}

// Rows and mask are gone when this returns, but for what draws point to: the caller's `mask`.
void draw_late(Executor* executor, int32_t count, const ::Buffer<uint32_t>& mask) {
  ::Buffer<SampleRow> rows(count);
  for (int32_t n = 0; n < count; n++) {
    rows[n] = greedy();
    rows[n].mask = mask.data();
    rows[n].num_top = n;
  }
  fc_executor_draw(executor, rows.data(), count);
}

// The tokens of draws, all of which have been made.
void expect_drawn(const StepAnswers& answers, int64_t count) {
  EXPECT(answers.count == count);
  const auto* results = static_cast<const SampleResult*>(answers.results);
  for (int64_t n = 0; n < count; n++) {
    EXPECT(results[n].status == SampleStatus::drawn);
    EXPECT(results[n].token_id >= 0 && results[n].token_id < VOCAB);
    for (int64_t i = 0; i < n && i < answers.top_stride; i++)
      EXPECT(answers.top_ids[n * answers.top_stride + i] >= 0);
  }
}

void expect_answers(Executor* executor, int64_t seq, int64_t num_late) {
  EXPECT(fc_executor_wait(executor, seq) == 0);
  StepAnswers answers{};
  fc_executor_draws(executor, seq, &answers);
  expect_drawn(answers, 1);
  fc_executor_late_draws(executor, seq, &answers);
  if (num_late) expect_drawn(answers, num_late);
  fc_executor_scores(executor, seq, &answers);
  EXPECT(answers.count == 2 && answers.top_stride == 2);
  const auto* scores = static_cast<const float*>(answers.results);
  EXPECT(scores[0] < 0 && scores[1] != scores[1]);
}

void steps(RowType type, int num_threads) {
  Pool* pool = fc_pool_new(num_threads, nullptr);
  {
    ::Buffer<uint32_t> mask((VOCAB + 31) / 32);
    mask.fill(0x55555555u);
    Model model(type, pool);
    Executor* executor = fc_executor_new(model.program, pool);
    const std::vector<SampleRow> draws(1, greedy());
    submit(executor, ::Step(SHAPE, {{17, 17}, {1, 1}, {40, 40}}), {1, 2, 3}, {}, draws);
    draw_late(executor, 3, mask);
    submit(executor, ::Step(SHAPE, {{1, 18}, {1, 2}, {1, 3}}), {-1, 5, -4}, {{0, 9, 15}}, draws);
    const int64_t last = submit(executor, ::Step(SHAPE, {{300, 300}}), {7, 8}, {}, draws);
    expect_answers(executor, last - 2, 3);
    expect_answers(executor, last, 0);
    const float logit = fc_executor_logits(executor, last)[VOCAB - 1];
    EXPECT(logit == logit);
    for (int32_t length = 19; length < 27; length++) {
      const int64_t seq = submit(executor, ::Step(SHAPE, {{1, length}}), {-1 - length % 3}, {}, draws);
      if (length % 3) draw_late(executor, length % 3, mask);
      if (length == 22) expect_answers(executor, seq - 1, 0);
      if (length == 23) expect_answers(executor, seq, 2);
    }
    fc_executor_free(executor);  // with steps in flight
  }
  fc_pool_free(pool);
}

}  // namespace

int main() {
  for (int num_threads : {1, 2, 3})
    for (RowType type : {RowType::f32, RowType::bf16}) steps(type, num_threads);
  std::puts("ok");
  return 0;
}
