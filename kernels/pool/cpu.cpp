// The pool: threads that wait for jobs, a barrier, and a counter from which tasks are claimed.
//
// Every wait is for a word to change. It spins for as long as a kernel's barrier usually takes, then
// gives its core away in turns, so that a thread which has none can get on, and at last sleeps: an
// idle pool uses no processor time. Where there are more threads than cores nothing spins.
#include "pool.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>

namespace furcate {
namespace {

constexpr int64_t SPIN_NS = 50'000;
constexpr int64_t YIELD_NS = 2'000'000;
constexpr int64_t CROWDED_YIELD_NS = 50'000;  // more threads than cores: the others need them
constexpr int PAUSES_PER_LOOK = 16;           // at the clock
constexpr size_t LINE = 128;                  // two cache lines: they are fetched in pairs
constexpr size_t SCRATCH_ALIGNMENT = 64;

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int64_t now_ns() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(since).count();
}

int usable_cpus() {
#if defined(__linux__)
  cpu_set_t cpus;
  if (sched_getaffinity(0, sizeof cpus, &cpus) == 0) return CPU_COUNT(&cpus);
#endif
  const unsigned count = std::thread::hardware_concurrency();
  return count ? static_cast<int>(count) : 1;
}

// Counts up; threads wait for it to leave a value that they have seen.
class Word {
 public:
  uint32_t value() const { return value_.load(std::memory_order_acquire); }

  // The store and the load of `sleepers_`, like the count and the look at the value of a thread
  // that goes to sleep, are sequentially consistent: one of the two sees the other.
  void advance() {
    value_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
    pthread_mutex_lock(&mutex_);
    pthread_cond_broadcast(&changed_);
    pthread_mutex_unlock(&mutex_);
  }

  void wait(uint32_t seen, int64_t spin_ns, int64_t yield_ns) {
    if (value() != seen) return;
    const int64_t began = now_ns();
    while (now_ns() - began < spin_ns)
      for (int n = 0; n < PAUSES_PER_LOOK; n++) {
        pause();
        if (value() != seen) return;
      }
    while (now_ns() - began < spin_ns + yield_ns) {
      sched_yield();
      if (value() != seen) return;
    }
    sleep(seen);
  }

 private:
  void sleep(uint32_t seen) {
    pthread_mutex_lock(&mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    while (value_.load(std::memory_order_seq_cst) == seen) pthread_cond_wait(&changed_, &mutex_);
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
    pthread_mutex_unlock(&mutex_);
  }

  std::atomic<uint32_t> value_{0};
  std::atomic<int32_t> sleepers_{0};
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t changed_ = PTHREAD_COND_INITIALIZER;
};

struct alignas(LINE) Scratch {
  void* memory = nullptr;
  size_t num_bytes = 0;
};

}  // namespace

class Pool {
 public:
  explicit Pool(int count)
      : count_(count),
        crowded_(count > usable_cpus()),
        threads_(new pthread_t[count]),
        starts_(new Start[count]),
        scratch_(new Scratch[count]) {}

  ~Pool() {
    stopping_ = true;
    jobs_.advance();
    for (int n = 1; n <= started_; n++) pthread_join(threads_[n], nullptr);
    for (int n = 0; n < count_; n++) std::free(scratch_[n].memory);
    delete[] threads_;
    delete[] starts_;
    delete[] scratch_;
  }

  bool start(const int32_t* cpus) {
    for (int n = 1; n < count_; n++) {
      starts_[n] = {this, n};
      if (pthread_create(&threads_[n], nullptr, &Pool::thread_main, &starts_[n]) != 0) return false;
      started_ = n;
      if (cpus != nullptr && !pin(threads_[n], cpus[n])) return false;
    }
    return true;
  }

  int count() const { return count_; }

  void run(Job job, const void* context) {
    job_ = job;
    context_ = context;
    if (count_ > 1) jobs_.advance();
    job(context, Worker{this, 0, count_});
    barrier();
  }

  void barrier() {
    const uint32_t seen = phase_.value();
    if (!arrive()) phase_.wait(seen, spin_ns(), yield_ns());
  }

  int64_t claim() {
    if (count_ > 1) return next_task_.fetch_add(1, std::memory_order_relaxed);
    const int64_t task = next_task_.load(std::memory_order_relaxed);
    next_task_.store(task + 1, std::memory_order_relaxed);
    return task;
  }

  void* scratch(int index, size_t num_bytes) {
    Scratch& own = scratch_[index];
    if (num_bytes <= own.num_bytes) return own.memory;
    std::free(own.memory);
    const size_t whole = (num_bytes / SCRATCH_ALIGNMENT + 1) * SCRATCH_ALIGNMENT;
    own.memory = std::aligned_alloc(SCRATCH_ALIGNMENT, whole);
    if (own.memory == nullptr) {
      std::fprintf(stderr, "furcate kernels: no memory for %zu bytes of scratch\n", whole);
      std::abort();
    }
    own.num_bytes = whole;
    return own.memory;
  }

 private:
  struct Start {
    Pool* pool;
    int index;
  };

  static bool pin(pthread_t thread, int32_t cpu) {
#if defined(__linux__)
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    if (cpu < 0 || cpu >= CPU_SETSIZE) return false;
    CPU_SET(cpu, &cpus);
    return pthread_setaffinity_np(thread, sizeof cpus, &cpus) == 0;
#else
    (void)thread, (void)cpu;
    return false;
#endif
  }

  static void* thread_main(void* argument) {
    const Start start = *static_cast<const Start*>(argument);
    start.pool->serve(start.index);
    return nullptr;
  }

  // A job has a number: the word's value. The thread cannot miss one, because a job ends only after
  // every thread has arrived; it need not wait for the others itself.
  void serve(int index) {
    for (uint32_t seen = 0;; seen++) {
      jobs_.wait(seen, spin_ns(), yield_ns());
      if (stopping_) return;
      job_(context_, Worker{this, index, count_});
      arrive();
    }
  }

  // True for the last thread to come: nobody claims tasks now, so the next `each` can count from 0.
  bool arrive() {
    if (count_ > 1 && arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < count_) return false;
    arrived_.store(0, std::memory_order_relaxed);
    next_task_.store(0, std::memory_order_relaxed);
    if (count_ > 1) phase_.advance();
    return true;
  }

  int64_t spin_ns() const { return crowded_ ? 0 : SPIN_NS; }
  int64_t yield_ns() const { return crowded_ ? CROWDED_YIELD_NS : YIELD_NS; }

  const int count_;
  const bool crowded_;
  int started_ = 0;
  bool stopping_ = false;
  Job job_ = nullptr;
  const void* context_ = nullptr;
  pthread_t* threads_;
  Start* starts_;
  Scratch* scratch_;
  alignas(LINE) Word jobs_;
  alignas(LINE) Word phase_;
  alignas(LINE) std::atomic<int32_t> arrived_{0};
  alignas(LINE) std::atomic<int64_t> next_task_{0};
};

void* Worker::scratch(size_t num_bytes) const { return pool->scratch(index, num_bytes); }

void Worker::barrier() const { pool->barrier(); }

int64_t Worker::claim(int64_t num_tasks) const { return num_tasks > 0 ? pool->claim() : 0; }

void Worker::finish_tasks() const { pool->barrier(); }

void run(Pool* pool, Job job, const void* context) { pool->run(job, context); }

}  // namespace furcate

furcate::Pool* fc_pool_new(int32_t num_threads, const int32_t* cpus) {
  if (num_threads < 1) return nullptr;
  furcate::Pool* pool = new furcate::Pool(num_threads);
  if (pool->start(cpus)) return pool;
  delete pool;
  return nullptr;
}

void fc_pool_free(furcate::Pool* pool) { delete pool; }

int32_t fc_pool_threads(const furcate::Pool* pool) { return pool->count(); }
