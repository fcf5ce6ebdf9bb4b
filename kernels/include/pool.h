// One pool of threads for all kernels. A job runs on every thread of the pool at once and cuts its
// work into tasks that the threads claim one by one: a thread that loses its core holds up nobody
// for longer than one task. Knows no kernel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "api.h"

namespace furcate {

class Pool;

// One thread's view of the job that it runs.
struct Worker {
  Pool* pool;
  int index;  // 0 is the thread that called `run`
  int count;  // threads in the job

  // At least `num_bytes` of this thread's own, aligned to 64 bytes, not initialised; valid until
  // the next call.
  void* scratch(size_t num_bytes) const;

  // Returns when all threads have called it; what they wrote before is visible to all afterwards.
  void barrier() const;

  // Calls task(n) once for each n in [0, count), on whichever thread comes first, and returns
  // when all are done: a barrier follows. All threads of the job make the same calls.
  template <typename Task>
  void each(int64_t num_tasks, Task task) const {
    for (int64_t n = claim(num_tasks); n < num_tasks; n = claim(num_tasks)) task(n);
    finish_tasks();
  }

 private:
  int64_t claim(int64_t num_tasks) const;  // the next task of the running `each`
  void finish_tasks() const;               // a barrier, after which the next `each` counts from 0
};

using Job = void (*)(const void* context, const Worker& worker);

// Runs `job` on all threads of the pool, the calling one being worker 0; returns when all have
// returned. One job at a time: a second caller waits until the first has its result. A job runs no
// other.
void run(Pool* pool, Job job, const void* context);

// The same for anything that can be called with a Worker.
template <typename Body>
void run(Pool* pool, const Body& body) {
  run(
      pool,
      [](const void* context, const Worker& worker) { (*static_cast<const Body*>(context))(worker); },
      &body);
}

}  // namespace furcate

// `num_threads` >= 1, the caller of a job included: num_threads - 1 threads are started. Where
// `cpus` is not null, thread n is pinned to cpus[n] (the caller is left where it is). Between jobs
// a thread spins shortly, then yields while others want its core, then sleeps. Null: no threads
// could be started.
FC_API furcate::Pool* fc_pool_new(int32_t num_threads, const int32_t* cpus);
FC_API void fc_pool_free(furcate::Pool* pool);
FC_API int32_t fc_pool_threads(const furcate::Pool* pool);
// Has the system provide the memory of [start, start + num_bytes) for each start, by all threads at
// once. Contents stay. For pages that are written later in a forward, where waiting for the system
// would hold up every thread.
FC_API void fc_pool_touch(furcate::Pool* pool, uint8_t* const* starts, int64_t num_starts,
                          int64_t num_bytes);
