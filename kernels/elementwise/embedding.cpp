// Rows of a stored embedding matrix, expanded to float32: bit for bit what the numpy dequantisers of
// the same blocks give. Knows GGUF's block layouts, no files.
#include "elementwise.h"

#include <cstring>

#include "vec.h"

namespace furcate {
namespace {

inline float half_at(const uint8_t* from) {
  uint16_t stored;
  std::memcpy(&stored, from, sizeof stored);
  return from_f16(stored);
}

// Every expander writes one block's values. Byte i of packed nibbles holds value i in its low half
// and value i + 16 in its high half.
struct F32 {
  static constexpr int32_t VALUES = 1, BYTES = 4;
  static void expand(const uint8_t* block, float* out) { std::memcpy(out, block, BYTES); }
};

struct F16 {
  static constexpr int32_t VALUES = 1, BYTES = 2;
  static void expand(const uint8_t* block, float* out) { *out = half_at(block); }
};

struct BF16 {
  static constexpr int32_t VALUES = 1, BYTES = 2;
  static void expand(const uint8_t* block, float* out) {
    uint16_t stored;
    std::memcpy(&stored, block, sizeof stored);
    *out = from_bf16(stored);
  }
};

struct Q4_0 {
  static constexpr int32_t VALUES = 32, BYTES = 18;
  static void expand(const uint8_t* block, float* out) {
    const float scale = half_at(block);
    const u8x16 packed = load<u8x16>(block + 2);
    store_f32(out, (to_f32(packed & 15) - 8.0f) * scale);
    store_f32(out + LANES, (to_f32(packed >> 4) - 8.0f) * scale);
  }
};

struct Q4_1 {
  static constexpr int32_t VALUES = 32, BYTES = 20;
  static void expand(const uint8_t* block, float* out) {
    const float scale = half_at(block), least = half_at(block + 2);
    const u8x16 packed = load<u8x16>(block + 4);
    store_f32(out, to_f32(packed & 15) * scale + least);
    store_f32(out + LANES, to_f32(packed >> 4) * scale + least);
  }
};

// The fifth bits of 32 values stand in one word: bit i belongs to value i.
void fifth_bits(const uint8_t* word, const uint8_t* packed, uint8_t codes[32]) {
  uint32_t bits = 0;
  for (int n = 0; n < 4; n++) bits |= static_cast<uint32_t>(word[n]) << (8 * n);
  for (int i = 0; i < 16; i++) {
    codes[i] = static_cast<uint8_t>((packed[i] & 15) | (bits >> i & 1u) << 4);
    codes[i + 16] = static_cast<uint8_t>(packed[i] >> 4 | (bits >> (i + 16) & 1u) << 4);
  }
}

struct Q5_0 {
  static constexpr int32_t VALUES = 32, BYTES = 22;
  static void expand(const uint8_t* block, float* out) {
    const float scale = half_at(block);
    uint8_t codes[VALUES];
    fifth_bits(block + 2, block + 6, codes);
    for (int i = 0; i < VALUES; i++) out[i] = (static_cast<float>(codes[i]) - 16.0f) * scale;
  }
};

struct Q5_1 {
  static constexpr int32_t VALUES = 32, BYTES = 24;
  static void expand(const uint8_t* block, float* out) {
    const float scale = half_at(block), least = half_at(block + 2);
    uint8_t codes[VALUES];
    fifth_bits(block + 4, block + 8, codes);
    for (int i = 0; i < VALUES; i++) out[i] = static_cast<float>(codes[i]) * scale + least;
  }
};

struct Q8_0 {
  static constexpr int32_t VALUES = 32, BYTES = 34;
  static void expand(const uint8_t* block, float* out) {
    const float scale = half_at(block);
    for (int i = 0; i < VALUES; i += LANES)
      store_f32(out + i, to_f32(load<i8x16>(block + 2 + i)) * scale);
  }
};

template <typename Block>
void expand_row(const Embedding& embedding, int64_t token_id, float* out) {
  const int64_t num_blocks = embedding.width / Block::VALUES;
  const uint8_t* block =
      static_cast<const uint8_t*>(embedding.table) + token_id * num_blocks * Block::BYTES;
  for (int64_t n = 0; n < num_blocks; n++)
    Block::expand(block + n * Block::BYTES, out + n * Block::VALUES);
}

}  // namespace

void embed_token(const Embedding& embedding, int32_t token_id, float* out) {
  switch (embedding.type) {
    case TableType::f32: expand_row<F32>(embedding, token_id, out); break;
    case TableType::f16: expand_row<F16>(embedding, token_id, out); break;
    case TableType::bf16: expand_row<BF16>(embedding, token_id, out); break;
    case TableType::q4_0: expand_row<Q4_0>(embedding, token_id, out); break;
    case TableType::q4_1: expand_row<Q4_1>(embedding, token_id, out); break;
    case TableType::q5_0: expand_row<Q5_0>(embedding, token_id, out); break;
    case TableType::q5_1: expand_row<Q5_1>(embedding, token_id, out); break;
    case TableType::q8_0: expand_row<Q8_0>(embedding, token_id, out); break;
  }
  if (embedding.scale == 1.0f) return;
  for (int32_t i = 0; i < embedding.width; i++) out[i] *= embedding.scale;
}

}  // namespace furcate
