// What the sanitised programs share: buffers of exactly their size, numbers, and a way to fail.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <memory>

#define EXPECT(condition)                                                        \
  do {                                                                           \
    if (!(condition)) {                                                          \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                              \
    }                                                                            \
  } while (false)

// On the heap, so that the sanitizer sees the first byte behind it; of size 0 too.
template <typename Element>
class Buffer {
 public:
  explicit Buffer(int64_t count)
      : count_(count),
        elements_(static_cast<Element*>(std::malloc(sizeof(Element) * count)), &std::free) {}

  Element* data() { return elements_.get(); }
  const Element* data() const { return elements_.get(); }
  int64_t size() const { return count_; }
  Element& operator[](int64_t n) { return elements_.get()[n]; }

  Buffer& fill(Element value) {
    for (int64_t n = 0; n < count_; n++) data()[n] = value;
    return *this;
  }

 private:
  int64_t count_;
  std::unique_ptr<Element, void (*)(void*)> elements_;
};

// The same numbers in every run.
class Numbers {
 public:
  uint32_t bits() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state_ >> 33);
  }
  float between(float low, float high) {
    return low + (high - low) * static_cast<float>(bits() & 0xffff) / 65536.0f;
  }
  int32_t below(int32_t count) { return static_cast<int32_t>(bits() % static_cast<uint32_t>(count)); }

  void fill(Buffer<float>& buffer, float low = -1.0f, float high = 1.0f) {
    for (int64_t n = 0; n < buffer.size(); n++) buffer[n] = between(low, high);
  }
  void fill(Buffer<uint8_t>& buffer) {
    for (int64_t n = 0; n < buffer.size(); n++) buffer[n] = static_cast<uint8_t>(bits());
  }

 private:
  uint64_t state_ = 1;
};
