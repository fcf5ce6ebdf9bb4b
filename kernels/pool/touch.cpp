// Takes memory from the system ahead of its use. A page that is written for the first time stops its
// thread until the system has cleared it, and at the next barrier every other thread.
#include <algorithm>

#include "pool.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace furcate {
namespace {

constexpr int64_t PIECE = int64_t{2} << 20;  // of a task; a large page, where the system has them
constexpr int64_t SMALL_PAGE = 4096;

// Contents stay, so a byte may be anything and is written as it was read.
void touch(uint8_t* begin, uint8_t* end) {
#if defined(MADV_POPULATE_WRITE)
  const uintptr_t first = reinterpret_cast<uintptr_t>(begin) / SMALL_PAGE * SMALL_PAGE;
  const size_t num_bytes = reinterpret_cast<uintptr_t>(end) - first;
  if (madvise(reinterpret_cast<void*>(first), num_bytes, MADV_POPULATE_WRITE) == 0) return;
#endif
  for (uint8_t* at = begin; at < end; at += SMALL_PAGE) {
    volatile uint8_t* byte = at;
    *byte = *byte;
  }
}

}  // namespace
}  // namespace furcate

void fc_pool_touch(furcate::Pool* pool, uint8_t* const* starts, int64_t num_starts,
                   int64_t num_bytes) {
  using namespace furcate;
  const int64_t pieces = (num_bytes + PIECE - 1) / PIECE;
  run(pool, [&](const Worker& worker) {
    worker.each(num_starts * pieces, [&](int64_t task) {
      uint8_t* start = starts[task / pieces];
      const int64_t first = task % pieces * PIECE;
      touch(start + first, start + std::min(num_bytes, first + PIECE));
    });
  });
}
