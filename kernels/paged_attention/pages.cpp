// Keys and values into the slots of their pages, and from page to page. Knows no rows but those of
// the step, no queries.
#include "attention_pages.h"

#include <cmath>
#include <cstring>

#include "vec.h"

namespace furcate {
namespace {

constexpr int32_t INFINITY_BITS = 0x7f800000;
constexpr float SMALLEST_SCALED = 0x1p-100f;

// One head's codes of a vector; returns their scale. A vector with a value that is not finite has
// scale NaN: it spoils those who see it and is found at the logits.
float quantise(const float* values, int32_t count, int8_t* codes) {
  i32x16 largest_bits{};
  for (int32_t i = 0; i < count; i += LANES)
    largest_bits = maximum(largest_bits, bits_i32(absolute(load_f32(values + i))));
  const int32_t bits = max_lanes(largest_bits);
  float largest;
  std::memcpy(&largest, &bits, sizeof largest);
  if (bits >= INFINITY_BITS || largest < SMALLEST_SCALED) {
    std::memset(codes, 0, count);
    return bits >= INFINITY_BITS ? std::nanf("") : 0.0f;
  }
  const float inverse = 127.0f / largest;
  for (int32_t i = 0; i < count; i += LANES)
    store(codes + i, to_i8(to_i32_even(load_f32(values + i) * inverse)));
  return largest / 127.0f;
}

// A slot shares its pairs of values with a neighbour that another thread may be writing: nothing
// but the slot's own elements is stored.
template <typename Element>
void write_slot(const KVShape& shape, Element* keys, Element* values, int32_t slot,
                const Element* key, const Element* value) {
  Element* key_pairs = keys + key_offset(shape, slot, 0);
  Element* value_halves = values + value_offset(shape, slot, 0);
  for (int32_t pair = 0; pair < shape.head_dim / 2; pair++)
    std::memcpy(key_pairs + pair * STRIP * 2, key + pair * 2, sizeof(Element) * 2);
  for (int32_t dim = 0; dim < shape.head_dim; dim++) value_halves[dim * 2] = value[dim];
}

template <typename Element>
void copy_slots(const KVShape& shape, Element* keys, Element* values, const PageCopy& copy) {
  const int32_t head_dim = shape.head_dim;
  const int32_t strips = copy.num_tokens / STRIP, slots = copy.num_tokens % STRIP;
  const int32_t pairs = copy.num_tokens / 2;
  for (int32_t head = 0; head < shape.kv_heads; head++) {
    const int64_t from = page_offset(shape, copy.source, head);
    const int64_t to = page_offset(shape, copy.target, head);
    const int32_t whole = strips * STRIP * head_dim;
    std::memcpy(keys + to, keys + from, sizeof(Element) * whole);
    for (int32_t at = whole; slots > 0 && at < whole + STRIP * head_dim; at += STRIP * 2)
      std::memcpy(keys + to + at, keys + from + at, sizeof(Element) * slots * 2);
    const int32_t paired = pairs * 2 * head_dim;
    std::memcpy(values + to, values + from, sizeof(Element) * paired);
    if (copy.num_tokens % 2)
      for (int32_t at = paired; at < paired + head_dim * 2; at += 2)
        values[to + at] = values[from + at];
  }
}

void copy_scales(const KVShape& shape, float* scales, const PageCopy& copy) {
  for (int32_t head = 0; head < shape.kv_heads; head++)
    std::memcpy(scales + scale_offset(shape, copy.target, head),
                scales + scale_offset(shape, copy.source, head), sizeof(float) * copy.num_tokens);
}

}  // namespace

void kv_write(const KVShape& shape, const KVPages& pages, const StepRows& rows, int32_t row,
              int32_t token, const float* key, const float* value) {
  const int32_t position = rows.positions[token], slot = position % shape.page_size;
  const int64_t page = rows.page_table[row * rows.table_stride + position / shape.page_size];
  const int32_t head_dim = shape.head_dim;
  for (int32_t head = 0; head < shape.kv_heads; head++) {
    const float* head_key = key + head * head_dim;
    const float* head_value = value + head * head_dim;
    const int64_t at = page_offset(shape, page, head);
    if (shape.type == KVType::bf16) {
      uint16_t k[MAX_HEAD_DIM], v[MAX_HEAD_DIM];
      for (int32_t i = 0; i < head_dim; i += LANES) {
        store(k + i, to_bf16(load_f32(head_key + i)));
        store(v + i, to_bf16(load_f32(head_value + i)));
      }
      write_slot(shape, static_cast<uint16_t*>(pages.keys) + at,
                 static_cast<uint16_t*>(pages.values) + at, slot, k, v);
    } else {
      int8_t k[MAX_HEAD_DIM], v[MAX_HEAD_DIM];
      const int64_t scale = scale_offset(shape, page, head) + slot;
      pages.key_scales[scale] = quantise(head_key, head_dim, k);
      pages.value_scales[scale] = quantise(head_value, head_dim, v);
      write_slot(shape, static_cast<int8_t*>(pages.keys) + at,
                 static_cast<int8_t*>(pages.values) + at, slot, k, v);
    }
  }
}

void kv_copy(const KVShape& shape, const KVPages& pages, const PageCopy& copy) {
  if (copy.source == copy.target) return;
  if (shape.type == KVType::bf16) {
    copy_slots(shape, static_cast<uint16_t*>(pages.keys), static_cast<uint16_t*>(pages.values),
               copy);
  } else {
    copy_slots(shape, static_cast<int8_t*>(pages.keys), static_cast<int8_t*>(pages.values), copy);
    copy_scales(shape, pages.key_scales, copy);
    copy_scales(shape, pages.value_scales, copy);
  }
}

void kv_page_bytes(const KVShape& shape, int64_t bytes[2]) {
  const int64_t slots = static_cast<int64_t>(shape.kv_heads) * shape.page_size;
  const bool is_int8 = shape.type == KVType::int8;
  bytes[0] = slots * shape.head_dim * (is_int8 ? 1 : 2);
  bytes[1] = is_int8 ? slots * static_cast<int64_t>(sizeof(float)) : 0;
}

}  // namespace furcate
