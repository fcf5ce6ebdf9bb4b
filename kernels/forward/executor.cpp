// The thread that runs forwards, one after the other. `submit` copies a step's arrays and returns;
// a step starts when the one before it has ended, with nobody's help. Knows no Python: whoever waits
// here holds no lock but the executor's own.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "api.h"
#include "forward.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace furcate {

namespace {

constexpr int NUM_STEPS = 4;  // kept: those in flight, and the one that a next step may refer to
constexpr int SPINS = 4000;   // before the thread sleeps: some tens of microseconds
constexpr int YIELDS = 50;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

template <typename Element>
void copy_to(std::vector<Element>& to, const Element* from, int64_t count) {
  to.assign(from, from + count);
}

int32_t most_alternatives(const std::vector<SampleRow>& draws) {
  int32_t most = 0;
  for (const SampleRow& draw : draws) most = std::max(most, draw.num_top);
  return most;
}

void draw(Step& step, int32_t vocab_size, const Worker& worker) {
  worker.each(static_cast<int64_t>(step.draws.size()), [&](int64_t n) {
    const SampleRow& row = step.draws[n];
    const float* logits = step.logits + static_cast<int64_t>(row.logit) * vocab_size;
    sample_row(logits, vocab_size, row, &step.drawn[n], step.top_ids.data() + n * step.top_stride,
               step.top_logprobs.data() + n * step.top_stride, worker);
  });
}

}  // namespace

void Step::take(const StepArrays& arrays) {
  const int64_t num_rows = arrays.num_rows;
  copy_to(token_ids, arrays.token_ids, arrays.num_tokens);
  copy_to(positions, arrays.positions, arrays.num_tokens);
  copy_to(row_starts, arrays.row_starts, num_rows + 1);
  copy_to(kv_lens, arrays.kv_lens, num_rows);
  copy_to(page_table, arrays.page_table, num_rows * arrays.table_stride);
  copy_to(copies, arrays.copies, arrays.num_copies);
  copy_to(logit_indices, arrays.logit_indices, arrays.num_logits);
  copy_to(draws, arrays.draws, arrays.num_draws);
  row_of_token.resize(arrays.num_tokens);
  for (int32_t row = 0; row < num_rows; row++)
    for (int32_t token = row_starts[row]; token < row_starts[row + 1]; token++)
      row_of_token[token] = row;
  rows = {arrays.num_rows,   arrays.num_tokens, row_starts.data(),    positions.data(),
          kv_lens.data(),    page_table.data(), arrays.table_stride};
  top_stride = most_alternatives(draws);
  drawn.resize(draws.size());
  top_ids.resize(draws.size() * top_stride);
  top_logprobs.resize(draws.size() * top_stride);
  failed = false;
}

void Step::resolve(const Step* previous) {
  for (int32_t& id : token_ids) {
    if (id >= 0) continue;
    const size_t draw = static_cast<size_t>(-(id + 1));
    const bool is_there = previous != nullptr && draw < previous->drawn.size();
    // Nothing was drawn: the row is dropped by whoever collects.
    id = is_there ? std::max(previous->drawn[draw].token_id, 0) : 0;
  }
}

class Executor {
 public:
  Executor(Program* program, Pool* pool) : program_(program), pool_(pool) {
    thread_ = std::thread([this] { loop(); });
  }

  ~Executor() {
    {
      std::lock_guard<std::mutex> guard(mutex_);
      closing_ = true;
    }
    submitted_changed_.notify_all();
    thread_.join();
  }

  int64_t submit(const StepArrays& arrays) {
    const int64_t seq = submitted_.load(std::memory_order_relaxed) + 1;
    Step& step = slot(seq);
    // The slot's step is over, and so is the one behind it, which reads what the slot's has drawn.
    if (seq >= NUM_STEPS) wait(seq - NUM_STEPS + 1);
    step.seq = seq;
    step.take(arrays);
    {
      std::lock_guard<std::mutex> guard(mutex_);
      submitted_.store(seq, std::memory_order_release);
    }
    submitted_changed_.notify_one();
    return seq;
  }

  void wait(int64_t seq) {
    if (is_done(seq)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    completed_changed_.wait(lock, [&] { return completed_.load() >= seq; });
  }

  bool is_done(int64_t seq) const { return completed_.load(std::memory_order_acquire) >= seq; }

  // The step, which has been submitted and not been overtaken by NUM_STEPS later ones.
  Step& slot(int64_t seq) { return steps_[seq % NUM_STEPS]; }

  const Program& program() const { return *program_; }

 private:
  void loop() {
    for (int64_t seq = 1; await(seq); seq++) {
      Step& step = slot(seq);
      try {
        compute(step, seq > 1 ? &slot(seq - 1) : nullptr);
      } catch (const std::exception&) {  // no memory
        step.failed = true;
      }
      {
        std::lock_guard<std::mutex> guard(mutex_);
        completed_.store(seq, std::memory_order_release);
      }
      completed_changed_.notify_all();
    }
  }

  void compute(Step& step, const Step* previous) {
    step.resolve(previous);
    program_->prepare(step, fc_pool_threads(pool_));
    run(pool_, [&](const Worker& worker) {
      program_->run(step, worker);
      draw(step, program_->vocab_size, worker);
    });
  }

  // False when the executor is to end.
  bool await(int64_t seq) {
    const auto is_there = [&] { return submitted_.load(std::memory_order_acquire) >= seq; };
    for (int n = 0; n < SPINS && !is_there(); n++) pause();
    for (int n = 0; n < YIELDS && !is_there(); n++) std::this_thread::yield();
    std::unique_lock<std::mutex> lock(mutex_);
    submitted_changed_.wait(lock, [&] { return closing_ || is_there(); });
    return is_there();
  }

  Program* program_;
  Pool* pool_;
  Step steps_[NUM_STEPS];
  std::mutex mutex_;
  std::condition_variable submitted_changed_, completed_changed_;
  std::atomic<int64_t> submitted_{0}, completed_{0};
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace furcate

using namespace furcate;

// Program and pool are the caller's, and are to outlive the executor.
FC_API Executor* fc_executor_new(Program* program, Pool* pool) {
  return new Executor(program, pool);
}

// Ends after the steps that are submitted.
FC_API void fc_executor_free(Executor* executor) { delete executor; }

// The step's number, counted from 1. Blocks only while three steps are in flight.
FC_API int64_t fc_executor_submit(Executor* executor, const StepArrays* arrays) {
  return executor->submit(*arrays);
}

// Blocks until the step is computed and its draws are made; 0, or 1 if it has failed.
FC_API int32_t fc_executor_wait(Executor* executor, int64_t seq) {
  executor->wait(seq);
  return executor->slot(seq).failed ? 1 : 0;
}

// Whether `fc_executor_wait` would return at once.
FC_API int32_t fc_executor_is_done(const Executor* executor, int64_t seq) {
  return executor->is_done(seq) ? 1 : 0;
}

// The logits of a computed step, float [L, vocab_size]; valid until three later steps are
// submitted.
FC_API const float* fc_executor_logits(Executor* executor, int64_t seq) {
  return executor->slot(seq).logits;
}

// Results of the draws that came with the step.
FC_API const SampleResult* fc_executor_drawn(Executor* executor, int64_t seq) {
  return executor->slot(seq).drawn.data();
}

FC_API int32_t fc_executor_alternatives(Executor* executor, int64_t seq, const int32_t** top_ids,
                                        const float** top_logprobs) {
  const Step& step = executor->slot(seq);
  *top_ids = step.top_ids.data();
  *top_logprobs = step.top_logprobs.data();
  return step.top_stride;
}

FC_API size_t fc_sizeof_StepArrays() { return sizeof(StepArrays); }
