// The thread that runs forwards and draws, one after the other, in the order in which they were
// asked for: the draws of a step that are asked for late come after its forward and before the next
// one, which may read their tokens. `submit` and `draw` copy what they are given and return. Knows no
// Python: whoever waits here holds no lock but the executor's own.
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
constexpr int NUM_JOBS = 2 * NUM_STEPS;
constexpr int SPINS = 4000;  // before the thread sleeps: some tens of microseconds
constexpr int YIELDS = 50;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

}  // namespace

// One thread at a time calls it.
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
    asked_changed_.notify_all();
    thread_.join();
  }

  int64_t submit(const StepArrays& arrays) {
    const int64_t seq = last_seq_ + 1;
    // The slot's step is over, and so is the one behind it, which reads what the slot's has drawn.
    if (seq >= NUM_STEPS) wait(seq - NUM_STEPS + 1);
    slot(seq).take(arrays);
    ask(seq, &Executor::compute);
    last_seq_ = seq;
    return seq;
  }

  void draw(const SampleRow* rows, int32_t count) {
    slot(last_seq_).take_late(rows, count);
    ask(last_seq_, &Executor::draw_late);
  }

  void wait(int64_t seq) {
    if (is_done(seq)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    done_changed_.wait(lock, [&] { return is_done(seq); });
  }

  bool is_done(int64_t seq) const {
    return done_.load(std::memory_order_acquire) >= step(seq).last_job;
  }

  // The step, which has been submitted and not been overtaken by NUM_STEPS later ones.
  const Step& step(int64_t seq) const { return steps_[seq % NUM_STEPS]; }

 private:
  struct Job {
    int64_t seq;
    void (Executor::*run)(int64_t seq);
  };

  Step& slot(int64_t seq) { return steps_[seq % NUM_STEPS]; }

  void ask(int64_t seq, void (Executor::*run)(int64_t)) {
    const int64_t number = asked_.load(std::memory_order_relaxed) + 1;
    jobs_[number % NUM_JOBS] = {seq, run};
    slot(seq).last_job = number;
    {
      std::lock_guard<std::mutex> guard(mutex_);
      asked_.store(number, std::memory_order_release);
    }
    asked_changed_.notify_one();
  }

  void loop() {
    for (int64_t number = 1; await(number); number++) {
      const Job job = jobs_[number % NUM_JOBS];
      try {
        (this->*job.run)(job.seq);
      } catch (const std::exception&) {  // no memory
        slot(job.seq).failed = true;
      }
      {
        std::lock_guard<std::mutex> guard(mutex_);
        done_.store(number, std::memory_order_release);
      }
      done_changed_.notify_all();
    }
  }

  void compute(int64_t seq) {
    Step& step = slot(seq);
    step.resolve(seq > 1 ? &slot(seq - 1) : nullptr);
    program_->prepare(step, fc_pool_threads(pool_));
    run(pool_, [&](const Worker& worker) {
      program_->run(step, worker);
      step.answer(program_->vocab_size, worker);
    });
  }

  void draw_late(int64_t seq) {
    Step& step = slot(seq);
    if (step.failed) return;  // it has no logits
    run(pool_, [&](const Worker& worker) { step.answer_late(program_->vocab_size, worker); });
  }

  // False when the executor is to end.
  bool await(int64_t number) {
    const auto is_there = [&] { return asked_.load(std::memory_order_acquire) >= number; };
    for (int n = 0; n < SPINS && !is_there(); n++) pause();
    for (int n = 0; n < YIELDS && !is_there(); n++) std::this_thread::yield();
    std::unique_lock<std::mutex> lock(mutex_);
    asked_changed_.wait(lock, [&] { return closing_ || is_there(); });
    return is_there();
  }

  Program* program_;
  Pool* pool_;
  Step steps_[NUM_STEPS];
  Job jobs_[NUM_JOBS];
  int64_t last_seq_ = 0;
  std::mutex mutex_;
  std::condition_variable asked_changed_, done_changed_;
  std::atomic<int64_t> asked_{0}, done_{0};  // numbers of jobs
  bool closing_ = false;
  std::thread thread_;
};

// What came of a step's draws or scores, in the executor's memory.
struct StepAnswers {
  const void* results;  // SampleResult of draws, float of scores
  const int32_t* top_ids;  // [count, top_stride]
  const float* top_logprobs;
  int64_t count, top_stride;
};

namespace {

template <typename Each>
StepAnswers view(const Each& answers) {
  return {answers.results(), answers.top_ids(), answers.top_logprobs(), answers.count(),
          answers.top_stride()};
}

}  // namespace
}  // namespace furcate

using namespace furcate;

// Program and pool are the caller's, and are to outlive the executor.
FC_API Executor* fc_executor_new(Program* program, Pool* pool) {
  return new Executor(program, pool);
}

// Ends after what is asked for.
FC_API void fc_executor_free(Executor* executor) { delete executor; }

// The step's number, counted from 1. Blocks only while three steps are in flight.
FC_API int64_t fc_executor_submit(Executor* executor, const StepArrays* arrays) {
  return executor->submit(*arrays);
}

// More draws of the step submitted last; once at most for each. Copies the rows; their arrays stay
// alive until the step is over.
FC_API void fc_executor_draw(Executor* executor, const SampleRow* rows, int32_t count) {
  executor->draw(rows, count);
}

// Blocks until the step is computed and all that was asked of it is there; 0, or 1 if it has failed.
FC_API int32_t fc_executor_wait(Executor* executor, int64_t seq) {
  executor->wait(seq);
  return executor->step(seq).failed ? 1 : 0;
}

// Whether `fc_executor_wait` would return at once.
FC_API int32_t fc_executor_is_done(const Executor* executor, int64_t seq) {
  return executor->is_done(seq) ? 1 : 0;
}

// What follows is of a step that has been waited for, and valid until three later ones are submitted.

// float [L, vocab_size]
FC_API const float* fc_executor_logits(const Executor* executor, int64_t seq) {
  return executor->step(seq).logits;
}

FC_API void fc_executor_draws(const Executor* executor, int64_t seq, StepAnswers* answers) {
  *answers = view(executor->step(seq).draws);
}

FC_API void fc_executor_late_draws(const Executor* executor, int64_t seq, StepAnswers* answers) {
  *answers = view(executor->step(seq).late_draws);
}

FC_API void fc_executor_scores(const Executor* executor, int64_t seq, StepAnswers* answers) {
  *answers = view(executor->step(seq).scores);
}

FC_API size_t fc_sizeof_StepAnswers() { return sizeof(StepAnswers); }
