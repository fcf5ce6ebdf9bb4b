// Rows of activations, pages of keys and values, and the rows of a step, in memory of exactly their
// size.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "attention.h"
#include "check.h"
#include "rows.h"

struct RowMemory {
  RowMemory(furcate::RowType type, int64_t count, int32_t width)
      : data(count * width * element_bytes(type)),
        scales(type == furcate::RowType::q8 ? count * width / furcate::BLOCK : 0),
        sums(scales.size()),
        rows{type, width, data.data(), scales.data(), sums.data()} {
    data.fill(0);
    scales.fill(0);
    sums.fill(0);
  }

  static int element_bytes(furcate::RowType type) {
    return type == furcate::RowType::f32 ? 4 : type == furcate::RowType::bf16 ? 2 : 1;
  }

  Buffer<uint8_t> data;
  Buffer<float> scales;
  Buffer<int32_t> sums;
  furcate::Rows rows;
};

inline int64_t page_bytes(const furcate::KVShape& shape, int which) {
  int64_t num_bytes[2];
  furcate::kv_page_bytes(shape, num_bytes);
  return num_bytes[which] * shape.num_pages;
}

struct Pages {
  explicit Pages(const furcate::KVShape& shape)
      : keys(page_bytes(shape, 0)),
        values(page_bytes(shape, 0)),
        key_scales(page_bytes(shape, 1) / static_cast<int64_t>(sizeof(float))),
        value_scales(key_scales.size()),
        pages{keys.data(), values.data(), key_scales.data(), value_scales.data()} {
    // NaNs: what nobody wrote spoils whatever reads it
    keys.fill(0xff);
    values.fill(0xff);
  }

  Buffer<uint8_t> keys, values;
  Buffer<float> key_scales, value_scales;
  furcate::KVPages pages;
};

// Rows of {tokens in this step, keys in all}. Row r has pages of its own, except that all rows share
// the first `shared` pages; the table has as many columns as the longest row has pages.
class Step {
 public:
  Step(const furcate::KVShape& shape, std::vector<std::pair<int32_t, int32_t>> rows,
       int32_t shared = 0)
      : starts_(static_cast<int64_t>(rows.size()) + 1), lens_(static_cast<int64_t>(rows.size())) {
    int32_t tokens = 0, widest = 0, next_page = shared;
    for (const auto& [count, length] : rows) {
      tokens += count;
      widest = std::max(widest, pages_of(shape, length));
    }
    positions_ = Buffer<int32_t>(tokens);
    table_ = Buffer<int32_t>(static_cast<int64_t>(rows.size()) * widest);
    table_.fill(0);
    starts_[0] = tokens = 0;
    for (int64_t row = 0; row < lens_.size(); row++) {
      const auto [count, length] = rows[row];
      for (int32_t n = 0; n < count; n++) positions_[tokens++] = length - count + n;
      starts_[row + 1] = tokens;
      lens_[row] = length;
      for (int32_t page = 0; page < pages_of(shape, length); page++)
        table_[row * widest + page] = page < shared ? page : next_page++;
    }
    EXPECT(next_page <= shape.num_pages);
    rows_ = {static_cast<int32_t>(rows.size()), tokens, starts_.data(), positions_.data(),
             lens_.data(), table_.data(), widest};
  }

  const furcate::StepRows& rows() const { return rows_; }

 private:
  static int32_t pages_of(const furcate::KVShape& shape, int32_t length) {
    return (length + shape.page_size - 1) / shape.page_size;
  }

  Buffer<int32_t> starts_, lens_, positions_{0}, table_{0};
  furcate::StepRows rows_;
};
