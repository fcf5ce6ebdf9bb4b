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

// What the formats of super-blocks are made of. Codes of `bits` bits lie in planes: a run of bytes
// holds the first `run` codes in its lowest bits, the next `run` in the bits above, and so on. They
// are added to `codes`, shifted to the left by `shift`.
void add_planes(const uint8_t* packed, int num_bytes, int run, int bits, int shift,
                uint8_t* codes) {
  const int mask = (1 << bits) - 1;
  for (int first = 0; first < num_bytes; first += run)
    for (int plane = 0; plane < 8 / bits; plane++, codes += run)
      for (int i = 0; i < run; i++)
        codes[i] = static_cast<uint8_t>(
            codes[i] | (packed[first + i] >> (plane * bits) & mask) << shift);
}

constexpr int SUPER = 256;  // values of a super-block

// scales[b] * (codes[i] - zero_point) + mins[b] for every `block` values.
void expand_codes(const uint8_t* codes, int block, float zero_point, const float* scales,
                  const float* mins, float* out) {
  for (int i = 0; i < SUPER; i += LANES) {
    const f32x16 values = (to_f32(load<u8x16>(codes + i)) - zero_point) * scales[i / block];
    store_f32(out + i, mins ? values + mins[i / block] : values);
  }
}

// Factors of eight scales and minima in twelve bytes. The first four hold scales 0 to 3 and the next
// four minima 0 to 3; the low nibbles of 4 to 7 are in the last four, their upper two bits in the
// spare bits of the others.
void six_bit_scales(const uint8_t* block, float* scales, float* mins) {
  const float scale = half_at(block), least = half_at(block + 2);
  const uint8_t* packed = block + 4;
  for (int i = 0; i < 4; i++) {
    const int first = packed[i], second = packed[i + 4], third = packed[i + 8];
    scales[i] = scale * static_cast<float>(first & 63);
    scales[i + 4] = scale * static_cast<float>((third & 15) | (first >> 2 & 48));
    mins[i] = -(least * static_cast<float>(second & 63));
    mins[i + 4] = -(least * static_cast<float>(third >> 4 | (second >> 2 & 48)));
  }
}

struct Q2_K {
  static constexpr int32_t VALUES = SUPER, BYTES = 84;
  static void expand(const uint8_t* block, float* out) {
    const float scale = half_at(block + 80), least = half_at(block + 82);
    uint8_t codes[SUPER] = {};
    float scales[16], mins[16];
    add_planes(block + 16, 64, 32, 2, 0, codes);
    for (int i = 0; i < 16; i++) {
      scales[i] = scale * static_cast<float>(block[i] & 15);
      mins[i] = -(least * static_cast<float>(block[i] >> 4));
    }
    expand_codes(codes, 16, 0.0f, scales, mins, out);
  }
};

struct Q3_K {
  static constexpr int32_t VALUES = SUPER, BYTES = 110;
  static void expand(const uint8_t* block, float* out) {
    const float scale = half_at(block + 108);
    uint8_t codes[SUPER] = {}, factors[16] = {};
    float scales[16];
    add_planes(block + 32, 64, 32, 2, 0, codes);
    add_planes(block, 32, 32, 1, 2, codes);
    add_planes(block + 96, 8, 8, 4, 0, factors);
    add_planes(block + 104, 4, 4, 2, 4, factors);
    for (int i = 0; i < 16; i++) scales[i] = scale * (static_cast<float>(factors[i]) - 32.0f);
    expand_codes(codes, 16, 4.0f, scales, nullptr, out);
  }
};

struct Q4_K {
  static constexpr int32_t VALUES = SUPER, BYTES = 144;
  static void expand(const uint8_t* block, float* out) {
    uint8_t codes[SUPER] = {};
    float scales[8], mins[8];
    six_bit_scales(block, scales, mins);
    add_planes(block + 16, 128, 32, 4, 0, codes);
    expand_codes(codes, 32, 0.0f, scales, mins, out);
  }
};

struct Q5_K {
  static constexpr int32_t VALUES = SUPER, BYTES = 176;
  static void expand(const uint8_t* block, float* out) {
    uint8_t codes[SUPER] = {};
    float scales[8], mins[8];
    six_bit_scales(block, scales, mins);
    add_planes(block + 48, 128, 32, 4, 0, codes);
    add_planes(block + 16, 32, 32, 1, 4, codes);
    expand_codes(codes, 32, 0.0f, scales, mins, out);
  }
};

struct Q6_K {
  static constexpr int32_t VALUES = SUPER, BYTES = 210;
  static void expand(const uint8_t* block, float* out) {
    const float scale = half_at(block + 208);
    uint8_t codes[SUPER] = {};
    float scales[16];
    add_planes(block, 128, 64, 4, 0, codes);
    add_planes(block + 128, 64, 32, 2, 4, codes);
    for (int i = 0; i < 16; i++)
      scales[i] = scale * static_cast<float>(static_cast<int8_t>(block[192 + i]));
    expand_codes(codes, 16, 32.0f, scales, nullptr, out);
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
    case TableType::q2_k: expand_row<Q2_K>(embedding, token_id, out); break;
    case TableType::q3_k: expand_row<Q3_K>(embedding, token_id, out); break;
    case TableType::q4_k: expand_row<Q4_K>(embedding, token_id, out); break;
    case TableType::q5_k: expand_row<Q5_K>(embedding, token_id, out); break;
    case TableType::q6_k: expand_row<Q6_K>(embedding, token_id, out); break;
  }
  if (embedding.scale == 1.0f) return;
  for (int32_t i = 0; i < embedding.width; i++) out[i] *= embedding.scale;
}

}  // namespace furcate
