// Loops that do one thing as fast as the machine can: products from registers, reads from memory,
// barriers, tasks. The caller times them.
#include "pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cstring>

namespace furcate {
namespace {

#if defined(__AVX512BW__) && defined(__AVX512VNNI__) && defined(__AVX512BF16__)
#define FURCATE_PROBE_AVX512 1
constexpr int VECTOR_BYTES = 64, ACCUMULATORS = 20;  // of 32 registers
#elif defined(__AVX2__)
constexpr int VECTOR_BYTES = 32, ACCUMULATORS = 12;  // of 16
#else
constexpr int VECTOR_BYTES = 16, ACCUMULATORS = 12;
#endif
constexpr int ROUNDS = 20'000;  // in a task
constexpr int64_t READ_BYTES = 1 << 20;

typedef float Floats __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t Ints __attribute__((vector_size(VECTOR_BYTES)));
typedef uint64_t Words __attribute__((vector_size(VECTOR_BYTES)));

// Makes the compiler believe that a value has changed: what is computed from it stays in the loop.
template <typename Value>
inline void touch(Value& value) {
#if defined(FURCATE_PROBE_AVX512)
  asm volatile("" : "+v"(value));
#elif defined(__x86_64__)
  asm volatile("" : "+x"(value));
#else
  asm volatile("" : "+m"(value));
#endif
}

// Products and sums as separate operations, as the kernels compute them.
struct Fp32 {
  typedef Floats Vector;
  static constexpr int FLOPS = 2 * VECTOR_BYTES / 4;
  static Vector step(Vector sum, Vector a, Vector b) { return sum * a + b; }
};

struct Bf16 {
  typedef Floats Vector;
#if defined(FURCATE_PROBE_AVX512)
  static constexpr int FLOPS = 64;
  static Vector step(Vector sum, Vector a, Vector b) {
    return (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
  }
#else  // expanded to float32: two values are in the halves of a lane
  static constexpr int FLOPS = 4 * VECTOR_BYTES / 4;
  static Vector step(Vector sum, Vector a, Vector b) {
    const Vector even = (Vector)((Ints)a << 16), odd = (Vector)((Ints)a & -65536);
    return sum + even * b + odd * b;
  }
#endif
};

struct Int8 {
  typedef Ints Vector;
#if defined(FURCATE_PROBE_AVX512)
  static constexpr int FLOPS = 128;
  static Vector step(Vector sum, Vector a, Vector b) {
    return (Vector)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
  }
#elif defined(__AVX2__)
  static constexpr int FLOPS = 64;
  static Vector step(Vector sum, Vector a, Vector b) {
    const __m256i pairs = _mm256_maddubs_epi16((__m256i)a, (__m256i)b);
    return sum + (Vector)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  }
#else  // as 16 bits, two in a lane
  static constexpr int FLOPS = 4 * VECTOR_BYTES / 4;
  static Vector step(Vector sum, Vector a, Vector b) {
    return sum + ((a << 16) >> 16) * b + (a >> 16) * b;
  }
#endif
};

// Blocks of 32 in int8, whose sum is converted, scaled and added as a float: what products of
// quantised rows and weights cost at the least.
struct Q8 {
  typedef Floats Vector;
  static constexpr int STEPS = 32 * 2 * (VECTOR_BYTES / 4) / Int8::FLOPS;  // a lane is a column
  static constexpr int FLOPS = STEPS * Int8::FLOPS;
  static Vector step(Vector sum, Vector a, Vector b) {
    Ints block = (Ints)sum;  // not zero: or all sums of a round would be one
#pragma GCC unroll 32
    for (int n = 0; n < STEPS; n++) block = Int8::step(block, (Ints)a, (Ints)b);
    return sum + __builtin_convertvector(block, Floats) * a;
  }
};

template <typename Unit>
void compute_task() {
  typedef typename Unit::Vector Vector;
  Vector sums[ACCUMULATORS] = {}, a, b;
  std::memset(&a, 0x3c, sizeof a);  // 0.0115 as a float
  std::memset(&b, 0x3c, sizeof b);
  touch(b);
#pragma GCC unroll 32
  for (int n = 0; n < ACCUMULATORS; n++) touch(sums[n]);  // or they would be one
  for (int round = 0; round < ROUNDS; round++) {
    touch(a);
#pragma GCC unroll 32
    for (int n = 0; n < ACCUMULATORS; n++) sums[n] = Unit::step(sums[n], a, b);
  }
#pragma GCC unroll 32
  for (int n = 0; n < ACCUMULATORS; n++) touch(sums[n]);
}

template <typename Unit>
double compute(Pool* pool, int64_t num_tasks) {
  run(pool, [&](const Worker& worker) {
    worker.each(num_tasks, [](int64_t) { compute_task<Unit>(); });
  });
  return static_cast<double>(num_tasks) * ROUNDS * ACCUMULATORS * Unit::FLOPS;
}

void read_task(const char* from, int64_t num_bytes) {
  constexpr int STREAMS = 8;
  Words sums[STREAMS] = {};
  for (int64_t n = 0; n + STREAMS * VECTOR_BYTES <= num_bytes; n += STREAMS * VECTOR_BYTES)
#pragma GCC unroll 8
    for (int stream = 0; stream < STREAMS; stream++) {
      Words read;
      std::memcpy(&read, from + n + stream * VECTOR_BYTES, sizeof read);
      sums[stream] |= read;
    }
#pragma GCC unroll 8
  for (int stream = 0; stream < STREAMS; stream++) touch(sums[stream]);
}

}  // namespace
}  // namespace furcate

// Each computes `num_tasks` tasks and returns the number of operations, a product and a sum being
// two.
FC_API double fc_probe_int8(furcate::Pool* pool, int64_t num_tasks) {
  return furcate::compute<furcate::Int8>(pool, num_tasks);
}

FC_API double fc_probe_q8(furcate::Pool* pool, int64_t num_tasks) {
  return furcate::compute<furcate::Q8>(pool, num_tasks);
}

FC_API double fc_probe_bf16(furcate::Pool* pool, int64_t num_tasks) {
  return furcate::compute<furcate::Bf16>(pool, num_tasks);
}

FC_API double fc_probe_fp32(furcate::Pool* pool, int64_t num_tasks) {
  return furcate::compute<furcate::Fp32>(pool, num_tasks);
}

// Reads the buffer once.
FC_API void fc_probe_read(furcate::Pool* pool, const void* buffer, int64_t num_bytes) {
  const int64_t num_tasks = (num_bytes + furcate::READ_BYTES - 1) / furcate::READ_BYTES;
  furcate::run(pool, [&](const furcate::Worker& worker) {
    worker.each(num_tasks, [&](int64_t task) {
      const int64_t first = task * furcate::READ_BYTES, rest = num_bytes - first;
      furcate::read_task(static_cast<const char*>(buffer) + first,
                         rest < furcate::READ_BYTES ? rest : furcate::READ_BYTES);
    });
  });
}

// One job of `count` barriers.
FC_API void fc_probe_barriers(furcate::Pool* pool, int64_t count) {
  furcate::run(pool, [&](const furcate::Worker& worker) {
    for (int64_t n = 0; n < count; n++) worker.barrier();
  });
}

// `num_jobs` jobs that do nothing.
FC_API void fc_probe_jobs(furcate::Pool* pool, int64_t num_jobs) {
  for (int64_t n = 0; n < num_jobs; n++) furcate::run(pool, [](const furcate::Worker&) {});
}

// One job of `rounds` times the same tasks: task n adds one to counts[n] and takes scratch memory
// that it fills. Returns how often a round began before the one before it was complete, or scratch
// memory was not aligned: 0.
FC_API int64_t fc_probe_tasks(furcate::Pool* pool, int64_t num_tasks, int64_t rounds,
                              int64_t* counts) {
  int64_t* faults = new int64_t[fc_pool_threads(pool)]();
  furcate::run(pool, [&](const furcate::Worker& worker) {
    for (int64_t round = 0; round < rounds; round++) {
      for (int64_t n = 0; n < num_tasks; n++) faults[worker.index] += counts[n] != round;
      worker.barrier();
      worker.each(num_tasks, [&](int64_t task) {
        void* memory = worker.scratch(static_cast<size_t>(task % 7) * 1000);
        faults[worker.index] += reinterpret_cast<uintptr_t>(memory) % 64 != 0;
        if (memory != nullptr) std::memset(memory, 1, static_cast<size_t>(task % 7) * 1000);
        counts[task]++;
      });
    }
  });
  int64_t total = 0;
  for (int n = 0; n < fc_pool_threads(pool); n++) total += faults[n];
  delete[] faults;
  return total;
}
