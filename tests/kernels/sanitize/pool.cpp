// The pool: jobs, barriers, tasks and scratch memory with all that threads can do to each other.
#include <pthread.h>
#include <time.h>

#include <cstring>

#include "check.h"
#include "pool.h"

using namespace furcate;

namespace {

// Every round writes to all counts and the next one reads those of other threads.
void rounds_of_tasks(Pool* pool, int64_t num_tasks, int rounds) {
  Buffer<int64_t> counts(num_tasks);
  Buffer<int64_t> wrong(fc_pool_threads(pool));
  counts.fill(0);
  wrong.fill(0);
  run(pool, [&](const Worker& worker) {
    for (int round = 0; round < rounds; round++) {
      worker.each(num_tasks, [&](int64_t task) {
        const size_t num_bytes = static_cast<size_t>((task * 977 + round) % 5000);
        std::memset(worker.scratch(num_bytes), 1, num_bytes);
        counts[task]++;
      });
      for (int64_t task = 0; task < num_tasks; task++)
        wrong[worker.index] += counts[task] != round + 1;
      worker.barrier();
    }
  });
  for (int64_t task = 0; task < num_tasks; task++) EXPECT(counts[task] == rounds);
  for (int n = 0; n < fc_pool_threads(pool); n++) EXPECT(wrong[n] == 0);
}

void jobs_follow_one_another(Pool* pool, int num_jobs) {
  int64_t sum = 0;
  for (int n = 0; n < num_jobs; n++)
    run(pool, [&](const Worker& worker) {
      if (worker.index == n % worker.count) sum += n;
    });
  EXPECT(sum == static_cast<int64_t>(num_jobs) * (num_jobs - 1) / 2);
}

void pause_ms(long duration) {
  const timespec time = {0, duration * 1'000'000};
  nanosleep(&time, nullptr);
}

// Long enough for the threads to have gone to sleep, and short enough to meet them on the way.
void jobs_after_pauses(Pool* pool) {
  for (long duration : {0, 1, 2, 3, 20}) {
    pause_ms(duration);
    rounds_of_tasks(pool, 5, 2);
  }
}

// While one thread works the others go to sleep in the barrier.
void a_slow_task(Pool* pool) {
  run(pool, [&](const Worker& worker) {
    worker.each(1, [&](int64_t) { pause_ms(20); });
    worker.each(1, [&](int64_t) { pause_ms(2); });
  });
}

void* other_caller(void* pool) {
  rounds_of_tasks(static_cast<Pool*>(pool), 7, 20);
  return nullptr;
}

}  // namespace

int main() {
  for (int num_threads : {1, 2, 3, 8}) {
    fc_pool_free(fc_pool_new(num_threads, nullptr));
    Pool* pool = fc_pool_new(num_threads, nullptr);
    EXPECT(pool != nullptr);
    for (int64_t num_tasks : {0, 1, 2, 37}) rounds_of_tasks(pool, num_tasks, 50);
    jobs_follow_one_another(pool, 200);
    jobs_after_pauses(pool);
    a_slow_task(pool);
    pthread_t caller;
    EXPECT(pthread_create(&caller, nullptr, other_caller, pool) == 0);
    pthread_join(caller, nullptr);
    fc_pool_free(pool);
  }
  EXPECT(fc_pool_new(0, nullptr) == nullptr);
  std::puts("ok");
}
