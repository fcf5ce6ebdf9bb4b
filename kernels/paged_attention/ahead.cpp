// Asks for cache lines of pages in the order in which a task will read them.
#include <algorithm>

#include "attention_split.h"

namespace furcate {

void ReadAhead::start_half() {
  const bool is_int8 = shape_.type == KVType::int8;
  const int32_t bytes = shape_.page_size * shape_.head_dim * (is_int8 ? 1 : 2);
  const int32_t end = std::min(end_key_, (begin_ / SPLIT + 1) * SPLIT);
  page_ = begin_ / shape_.page_size;
  end_page_ = head_ < end_head_ ? (end + shape_.page_size - 1) / shape_.page_size : page_;
  line_ = 0;
  lines_a_page_ = (bytes + LINE_BYTES - 1) / LINE_BYTES;
  num_lines_ = (end_page_ - page_) * lines_a_page_;
}

const char* ReadAhead::page() const {
  const int32_t element_bytes = shape_.type == KVType::int8 ? 1 : 2;
  const void* half = is_values_ ? pages_.values : pages_.keys;
  return static_cast<const char*>(half) +
         page_offset(shape_, table_[page_], head_) * element_bytes;
}

void ReadAhead::hand_out(int32_t count, const char* instead, const char** strips) {
  const int32_t strip_lines = STRIP * shape_.head_dim * 2 / LINE_BYTES;
  for (int32_t n = 0; n < count; n++) {
    strips[n] = page_ < end_page_ ? page() + line_ * LINE_BYTES : instead;
    if (page_ < end_page_) line_ += strip_lines;
    if (line_ >= lines_a_page_) page_++, line_ = 0;
  }
}

void ReadAhead::fetch(int32_t num_lines) {
  const bool is_int8 = shape_.type == KVType::int8;
  while (num_lines > 0 && page_ < end_page_) {
    const char* lines = page();
    if (is_int8 && line_ == 0)
      prefetch((is_values_ ? pages_.value_scales : pages_.key_scales) +
               scale_offset(shape_, table_[page_], head_));
    const int32_t end = std::min(lines_a_page_, line_ + num_lines);
    num_lines -= end - line_;
    for (; line_ < end; line_++) prefetch(lines + line_ * LINE_BYTES);
    if (line_ == lines_a_page_) page_++, line_ = 0;
  }
}

void ReadAhead::next() {
  fetch(num_lines_);
  if (is_values_) begin_ = (begin_ / SPLIT + 1) * SPLIT;
  is_values_ = !is_values_;
  if (begin_ >= end_key_) begin_ = first_key_, head_++;
  start_half();
}

}  // namespace furcate
