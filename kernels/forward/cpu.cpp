// The operations of a forward. Each cuts its work into tasks that the threads claim; nothing here
// knows a model: a program is whatever list of operations its builder has made.
#include "forward.h"

#include <algorithm>

#include "api.h"

namespace furcate {

void Buffer::reserve(int64_t num_rows) {
  const size_t count = static_cast<size_t>(num_rows) * rows.width;
  const size_t sizes[] = {4, 2, 1};  // of RowType
  rows.data = data.reserve(count * sizes[static_cast<int>(rows.type)]);
  if (rows.type != RowType::q8) return;
  rows.scales = scales.reserve_for<float>(count / BLOCK);
  rows.sums = sums.reserve_for<int32_t>(count / BLOCK);
}

void RopeTable::reserve(int64_t num_tokens) {
  cosine = cosine_memory.reserve_for<float>(num_tokens * frequencies.size());
  sine = sine_memory.reserve_for<float>(num_tokens * frequencies.size());
}

namespace {

// Calls body(first, last) for runs of at most `size` of `count` items.
template <typename Body>
void in_chunks(const Worker& worker, int64_t count, int64_t size, Body body) {
  worker.each((count + size - 1) / size, [&](int64_t task) {
    body(task * size, std::min(count, (task + 1) * size));
  });
}

constexpr int64_t FEW_TOKENS = 8;  // of one task of an operation that takes a microsecond a token

class Embed final : public Operation {
 public:
  Embed(const Embedding& embedding, const Buffer& out, std::vector<RopeTable*> ropes)
      : embedding_(embedding), out_(out), ropes_(std::move(ropes)) {}

  void run(const Step& step, const Worker& worker) const override {
    float* hidden = static_cast<float*>(out_.rows.data);
    in_chunks(worker, step.num_tokens(), FEW_TOKENS, [&](int64_t first, int64_t last) {
      for (int64_t token = first; token < last; token++)
        embed_token(embedding_, step.token_ids[token], hidden + token * embedding_.width);
      for (const RopeTable* rope : ropes_) {
        const int64_t pairs = rope->frequencies.size();
        rope_table(step.positions.data() + first, last - first, rope->frequencies.data(),
                   static_cast<int32_t>(pairs), rope->cosine + first * pairs,
                   rope->sine + first * pairs);
      }
    });
  }

 private:
  Embedding embedding_;
  const Buffer& out_;
  std::vector<RopeTable*> ropes_;
};

class NormRows final : public Operation {
 public:
  NormRows(const Norm& norm, const Buffer& in, const Buffer& out, bool of_logits)
      : norm_(norm), in_(in), out_(out), of_logits_(of_logits) {}

  void run(const Step& step, const Worker& worker) const override {
    Norm norm = norm_;
    norm.x = static_cast<const float*>(in_.rows.data);
    norm.out = &out_.rows;
    norm.rows = of_logits_ ? step.logit_indices.data() : nullptr;
    const int64_t count = of_logits_ ? step.logit_indices.size() : step.num_tokens();
    in_chunks(worker, count, FEW_TOKENS, [&](int64_t first, int64_t last) {
      float* scratch = static_cast<float*>(worker.scratch(sizeof(float) * norm.width));
      for (int64_t row = first; row < last; row++) norm_row(norm, row, scratch);
    });
  }

 private:
  Norm norm_;
  const Buffer& in_;
  const Buffer& out_;
  bool of_logits_;
};

class Product final : public Operation {
 public:
  Product(const Linear& linear, const Buffer& in, const Buffer& out)
      : linear_(linear), in_(in), out_(out) {}

  void run(const Step& step, const Worker& worker) const override {
    Linear linear = linear_;
    linear.x = &in_.rows;
    if (linear.epilogue == Epilogue::gated) {
      linear.gated_out = &out_.rows;
    } else {
      linear.out = static_cast<float*>(out_.rows.data);
      linear.out_stride = out_.rows.width;
    }
    multiply(linear, step.num_tokens(), worker);
  }

 private:
  Linear linear_;
  const Buffer& in_;
  const Buffer& out_;
};

class Head final : public Operation {
 public:
  Head(const Linear& linear, const Buffer& in, int32_t vocab_size)
      : linear_(linear), in_(in), vocab_size_(vocab_size) {}

  void run(const Step& step, const Worker& worker) const override {
    Linear linear = linear_;
    linear.x = &in_.rows;
    linear.out = step.logits;
    linear.out_stride = vocab_size_;
    multiply(linear, step.logit_indices.size(), worker);
  }

 private:
  Linear linear_;
  const Buffer& in_;
  int32_t vocab_size_;
};

class Rotate final : public Operation {
 public:
  Rotate(const Program& program, const RopeWrite& rope, int32_t layer, const RopeTable& table,
         const Buffer& in, const Buffer& out)
      : program_(program), rope_(rope), layer_(layer), table_(table), in_(in), out_(out) {}

  void run(const Step& step, const Worker& worker) const override {
    const KVPages& pages = program_.layers[layer_];
    RopeWrite rope = rope_;
    rope.shape = &program_.kv_shape;
    rope.pages = &pages;
    rope.rows = &step.rows;
    rope.qkv = static_cast<const float*>(in_.rows.data);
    rope.cosine = table_.cosine;
    rope.sine = table_.sine;
    rope.q = static_cast<uint16_t*>(out_.rows.data);
    in_chunks(worker, step.num_tokens(), FEW_TOKENS, [&](int64_t first, int64_t last) {
      float* scratch = static_cast<float*>(worker.scratch(sizeof(float) * rope_scratch(program_.kv_shape)));
      for (int64_t token = first; token < last; token++)
        rope_write_token(rope, step.row_of_token[token], static_cast<int32_t>(token), scratch);
    });
    if (step.copies.empty()) return;
    worker.each(1, [&](int64_t) {  // in order: one copy may read what another has written
      for (const PageCopy& copy : step.copies) kv_copy(program_.kv_shape, pages, copy);
    });
  }

 private:
  const Program& program_;
  RopeWrite rope_;
  int32_t layer_;
  const RopeTable& table_;
  const Buffer& in_;
  const Buffer& out_;
};

class Attend final : public Operation {
 public:
  Attend(const Program& program, const Attention& attention, int32_t layer, const Buffer& in,
         const Buffer& out)
      : program_(program), attention_(attention), layer_(layer), in_(in), out_(out) {}

  void run(const Step&, const Worker& worker) const override {
    Attention attention = attention_;
    attention.shape = &program_.kv_shape;
    attention.pages = &program_.layers[layer_];
    attention.plan = program_.plan;
    attention.q = static_cast<const uint16_t*>(in_.rows.data);
    attention.out = &out_.rows;
    for (int stage = 0; stage < attention_num_stages(*program_.plan); stage++)
      worker.each(attention_num_tasks(*program_.plan, stage),
                  [&](int64_t task) { attention_task(attention, stage, task, worker); });
  }

 private:
  const Program& program_;
  Attention attention_;
  int32_t layer_;
  const Buffer& in_;
  const Buffer& out_;
};

}  // namespace

Program::~Program() {
  if (plan != nullptr) attention_plan_free(plan);
}

void Program::prepare(Step& step, int num_threads) {
  for (auto& buffer : buffers) buffer->reserve(step.num_tokens());
  for (auto& buffer : logit_buffers) buffer->reserve(step.logit_indices.size());
  for (auto& rope : ropes) rope->reserve(step.num_tokens());
  step.logits = step.logit_memory.reserve_for<float>(step.logit_indices.size() * vocab_size);
  attention_plan_make(plan, step.rows, num_threads);
}

void Program::run(const Step& step, const Worker& worker) const {
  for (const auto& operation : operations) operation->run(step, worker);
}

}  // namespace furcate

using namespace furcate;

FC_API Program* fc_program_new(const KVShape* shape, int32_t vocab_size, int32_t num_layers,
                               const KVPages* layers) {
  auto* program = new Program;
  program->kv_shape = *shape;
  program->vocab_size = vocab_size;
  program->layers.assign(layers, layers + num_layers);
  program->plan = attention_plan_new(program->kv_shape);
  return program;
}

FC_API void fc_program_free(Program* program) { delete program; }

// A buffer with a row for each token, or for each logit; its number. Both kinds count from 0.
FC_API int32_t fc_program_buffer(Program* program, int32_t type, int32_t width,
                                 int32_t of_logits) {
  auto& list = of_logits ? program->logit_buffers : program->buffers;
  list.push_back(std::make_unique<Buffer>());
  list.back()->rows.type = static_cast<RowType>(type);
  list.back()->rows.width = width;
  return static_cast<int32_t>(list.size()) - 1;
}

FC_API int32_t fc_program_rope(Program* program, const float* frequencies, int32_t num_pairs) {
  program->ropes.push_back(std::make_unique<RopeTable>());
  program->ropes.back()->frequencies.assign(frequencies, frequencies + num_pairs);
  return static_cast<int32_t>(program->ropes.size()) - 1;
}

FC_API void fc_program_embed(Program* program, const Embedding* embedding, int32_t out) {
  std::vector<RopeTable*> ropes;
  for (auto& rope : program->ropes) ropes.push_back(rope.get());
  program->operations.push_back(
      std::make_unique<Embed>(*embedding, *program->buffers[out], std::move(ropes)));
}

FC_API void fc_program_norm(Program* program, const Norm* norm, int32_t in, int32_t out) {
  program->operations.push_back(std::make_unique<NormRows>(*norm, *program->buffers[in],
                                                           *program->buffers[out], false));
}

FC_API void fc_program_linear(Program* program, const Linear* linear, int32_t in, int32_t out) {
  program->operations.push_back(
      std::make_unique<Product>(*linear, *program->buffers[in], *program->buffers[out]));
}

FC_API void fc_program_rotate(Program* program, const RopeWrite* rope, int32_t layer,
                              int32_t table, int32_t in, int32_t out) {
  program->operations.push_back(
      std::make_unique<Rotate>(*program, *rope, layer, *program->ropes[table],
                               *program->buffers[in], *program->buffers[out]));
}

FC_API void fc_program_attend(Program* program, const Attention* attention, int32_t layer,
                              int32_t in, int32_t out) {
  program->operations.push_back(std::make_unique<Attend>(
      *program, *attention, layer, *program->buffers[in], *program->buffers[out]));
}

// The last operations: the norm of the tokens that need logits, into logit buffer `out`, and the
// product with the head.
FC_API void fc_program_head(Program* program, const Norm* norm, const Linear* head, int32_t in,
                            int32_t out) {
  program->operations.push_back(std::make_unique<NormRows>(*norm, *program->buffers[in],
                                                           *program->logit_buffers[out], true));
  program->operations.push_back(
      std::make_unique<Head>(*head, *program->logit_buffers[out], program->vocab_size));
}
