// The pool: threads that wait for jobs, a barrier, and a counter from which tasks are claimed.
//
// Every wait is for a word to change. It spins for as long as a kernel's barrier usually takes, then
// gives its core away in turns, so that a thread which has none can get on, and at last sleeps: an
// idle pool uses no processor time. Where there are more threads than cores nothing spins.
//
// Systems can leave two threads that wait for each other on one core for tens of milliseconds while
// another core is free, which makes a barrier 400 times as slow. A thread that has spun in vain on
// the core of another therefore moves away once; it is bound to nothing.
#include "pool.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
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

  // These return whether the value has changed.
  bool spin(uint32_t seen, int64_t duration_ns) const {
    if (value() != seen) return true;
    const int64_t end = now_ns() + duration_ns;
    while (now_ns() < end)
      for (int n = 0; n < PAUSES_PER_LOOK; n++) {
        pause();
        if (value() != seen) return true;
      }
    return false;
  }

  bool yield(uint32_t seen, int64_t duration_ns) const {
    const int64_t end = now_ns() + duration_ns;
    while (now_ns() < end) {
      sched_yield();
      if (value() != seen) return true;
    }
    return false;
  }

  void sleep(uint32_t seen) {
    pthread_mutex_lock(&mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    while (value_.load(std::memory_order_seq_cst) == seen) pthread_cond_wait(&changed_, &mutex_);
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
    pthread_mutex_unlock(&mutex_);
  }

 private:
  std::atomic<uint32_t> value_{0};
  std::atomic<int32_t> sleepers_{0};
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t changed_ = PTHREAD_COND_INITIALIZER;
};

// What a thread has of its own.
struct alignas(LINE) Local {
  void* scratch = nullptr;
  size_t scratch_bytes = 0;
  std::atomic<int> cpu{-1};  // where it was when it last began to wait or to work
};

int current_cpu() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

// Moves this thread to another CPU of those that it may use and `taken` does not hold, if any.
#if defined(__linux__)
void move_away(const cpu_set_t& taken) {
  cpu_set_t allowed, others;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  CPU_AND(&others, &allowed, &taken);
  CPU_XOR(&others, &others, &allowed);
  if (CPU_COUNT(&others) == 0) return;
  sched_setaffinity(0, sizeof others, &others);
  sched_setaffinity(0, sizeof allowed, &allowed);
}
#endif

}  // namespace

class Pool {
 public:
  Pool(int count, const int32_t* cpus)
      : count_(count),
        crowded_(cpus == nullptr && count > usable_cpus()),
        pinned_(cpus != nullptr),
        threads_(new pthread_t[count]),
        starts_(new Start[count]),
        locals_(new Local[count]) {}

  ~Pool() {
    stopping_ = true;
    jobs_.advance();
    for (int n = 1; n <= started_; n++) pthread_join(threads_[n], nullptr);
    for (int n = 0; n < count_; n++) std::free(locals_[n].scratch);
    delete[] threads_;
    delete[] starts_;
    delete[] locals_;
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
    std::lock_guard<std::mutex> one_at_a_time(run_mutex_);
    job_ = job;
    context_ = context;
    if (count_ > 1) {
      locals_[0].cpu.store(current_cpu(), std::memory_order_relaxed);
      jobs_.advance();
    }
    job(context, Worker{this, 0, count_});
    barrier(0);
  }

  void barrier(int index) {
    const uint32_t seen = phase_.value();
    if (!arrive()) wait(phase_, seen, index);
  }

  int64_t claim() {
    if (count_ > 1) return next_task_.fetch_add(1, std::memory_order_relaxed);
    const int64_t task = next_task_.load(std::memory_order_relaxed);
    next_task_.store(task + 1, std::memory_order_relaxed);
    return task;
  }

  void* scratch(int index, size_t num_bytes) {
    Local& own = locals_[index];
#if !defined(__SANITIZE_ADDRESS__)  // there every call gets exactly its bytes
    if (own.scratch != nullptr && num_bytes <= own.scratch_bytes) return own.scratch;
#endif
    std::free(own.scratch);
    if (posix_memalign(&own.scratch, SCRATCH_ALIGNMENT, num_bytes) != 0) {
      std::fprintf(stderr, "furcate kernels: no memory for %zu bytes of scratch\n", num_bytes);
      std::abort();
    }
    own.scratch_bytes = num_bytes;
    return own.scratch;
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
      wait(jobs_, seen, index);
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

  void wait(Word& word, uint32_t seen, int index) {
    if (!crowded_) {
      if (word.spin(seen, SPIN_NS)) return;
      spread(index);
    }
    if (!word.yield(seen, crowded_ ? CROWDED_YIELD_NS : YIELD_NS)) word.sleep(seen);
  }

  // Off the core of another thread of the pool; the caller of jobs stays where it is.
  void spread(int index) {
    const int cpu = current_cpu();
    locals_[index].cpu.store(cpu, std::memory_order_relaxed);
    if (index == 0 || pinned_ || cpu < 0) return;
#if defined(__linux__)
    cpu_set_t taken;
    CPU_ZERO(&taken);
    for (int n = 0; n < count_; n++) {
      const int other = locals_[n].cpu.load(std::memory_order_relaxed);
      if (n != index && other >= 0 && other < CPU_SETSIZE) CPU_SET(other, &taken);
    }
    if (!CPU_ISSET(cpu, &taken)) return;
    move_away(taken);
    locals_[index].cpu.store(current_cpu(), std::memory_order_relaxed);
#endif
  }

  const int count_;
  const bool crowded_;  // more threads than cores
  const bool pinned_;
  std::mutex run_mutex_;
  int started_ = 0;
  bool stopping_ = false;
  Job job_ = nullptr;
  const void* context_ = nullptr;
  pthread_t* threads_;
  Start* starts_;
  Local* locals_;
  alignas(LINE) Word jobs_;
  alignas(LINE) Word phase_;
  alignas(LINE) std::atomic<int32_t> arrived_{0};
  alignas(LINE) std::atomic<int64_t> next_task_{0};
};

void* Worker::scratch(size_t num_bytes) const { return pool->scratch(index, num_bytes); }

void Worker::barrier() const { pool->barrier(index); }

int64_t Worker::claim(int64_t num_tasks) const { return num_tasks > 0 ? pool->claim() : 0; }

void Worker::finish_tasks() const { pool->barrier(index); }

void run(Pool* pool, Job job, const void* context) { pool->run(job, context); }

}  // namespace furcate

furcate::Pool* fc_pool_new(int32_t num_threads, const int32_t* cpus) {
  if (num_threads < 1) return nullptr;
  furcate::Pool* pool = new furcate::Pool(num_threads, cpus);
  if (pool->start(cpus)) return pool;
  delete pool;
  return nullptr;
}

void fc_pool_free(furcate::Pool* pool) { delete pool; }

int32_t fc_pool_threads(const furcate::Pool* pool) { return pool->count(); }
