// Where a page keeps its keys and values, for the kernels of attention alone.
//
// A page of one kv head holds page_size * head_dim elements, bfloat16 or int8, in pairs that are
// multiplied together:
//   keys    [page_size / STRIP][head_dim / 2][STRIP][2]: sixteen slots side by side, one pair of
//           dimensions each
//   values  [page_size / 2][head_dim][2]: sixteen dimensions side by side, one pair of slots each
// Hence a register of keys times one pair of a query, everywhere, gives a pair's share of sixteen
// scores, and a register of values times one pair of weights that of sixteen results.
#pragma once

#include <cstdint>

#include "attention.h"

namespace furcate {

constexpr int STRIP = 16;  // slots

// The first element of a head's keys, or values, in a page.
inline int64_t page_offset(const KVShape& shape, int64_t page, int32_t head) {
  return (page * shape.kv_heads + head) * shape.page_size * shape.head_dim;
}

// Of the scales of int8.
inline int64_t scale_offset(const KVShape& shape, int64_t page, int32_t head) {
  return (page * shape.kv_heads + head) * shape.page_size;
}

inline int32_t key_offset(const KVShape& shape, int32_t slot, int32_t dim) {
  return slot / STRIP * STRIP * shape.head_dim + dim / 2 * STRIP * 2 + slot % STRIP * 2 + dim % 2;
}

inline int32_t value_offset(const KVShape& shape, int32_t slot, int32_t dim) {
  return slot / 2 * 2 * shape.head_dim + dim * 2 + slot % 2;
}

}  // namespace furcate
