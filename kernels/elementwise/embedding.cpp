// Rows of a stored embedding matrix, expanded to float32: bit for bit what the numpy dequantisers of
// the same blocks give.
#include "elementwise.h"

#include <cstring>

#include "gguf_blocks.h"
#include "vec.h"

namespace furcate {
namespace {

struct F32 {
  static constexpr int64_t BYTES = 4;
  static float value(const uint8_t* stored) {
    float value;
    std::memcpy(&value, stored, sizeof value);
    return value;
  }
};

struct F16 {
  static constexpr int64_t BYTES = 2;
  static float value(const uint8_t* stored) { return half_value(stored); }
};

struct BF16 {
  static constexpr int64_t BYTES = 2;
  static float value(const uint8_t* stored) { return from_bf16(load_half(stored)); }
};

template <typename Stored>
void expand_values(const Embedding& embedding, int64_t token_id, float* out) {
  const uint8_t* row =
      static_cast<const uint8_t*>(embedding.table) + token_id * embedding.width * Stored::BYTES;
  for (int64_t n = 0; n < embedding.width; n++) out[n] = Stored::value(row + n * Stored::BYTES);
}

template <typename Format>
void expand_record(const Decoded& record, float* out) {
  for (int i = 0; i < BLOCK; i += LANES) {
    const int sub = i * Format::SUBS / BLOCK;
    const float scale = Format::HALF ? from_f16(record.half_scale) : record.scales[sub];
    const f32x16 codes = to_f32(load<u8x16>(record.codes + i)) - float{Format::ZERO_POINT};
    f32x16 values = codes * scale;
    if (Format::MINS) values += Format::HALF ? from_f16(record.half_min) : record.mins[sub];
    store_f32(out + i, values);
  }
}

template <typename Format>
void expand_blocks(const Embedding& embedding, int64_t token_id, float* out) {
  const int64_t num_blocks = embedding.width / (BLOCK * Format::RECORDS);
  const uint8_t* block =
      static_cast<const uint8_t*>(embedding.table) + token_id * num_blocks * Format::BYTES;
  for (int64_t n = 0; n < num_blocks; n++, block += Format::BYTES)
    for (int record = 0; record < Format::RECORDS; record++, out += BLOCK) {
      Decoded decoded{};
      Format::decode(block, record, &decoded);
      expand_record<Format>(decoded, out);
    }
}

}  // namespace

void embed_token(const Embedding& embedding, int32_t token_id, float* out) {
  switch (embedding.type) {
    case TableType::f32: expand_values<F32>(embedding, token_id, out); break;
    case TableType::f16: expand_values<F16>(embedding, token_id, out); break;
    case TableType::bf16: expand_values<BF16>(embedding, token_id, out); break;
    case TableType::q4_0: expand_blocks<Q40>(embedding, token_id, out); break;
    case TableType::q4_1: expand_blocks<Q41>(embedding, token_id, out); break;
    case TableType::q5_0: expand_blocks<Q50>(embedding, token_id, out); break;
    case TableType::q5_1: expand_blocks<Q51>(embedding, token_id, out); break;
    case TableType::q8_0: expand_blocks<Q80>(embedding, token_id, out); break;
    case TableType::q2_k: expand_blocks<Q2K>(embedding, token_id, out); break;
    case TableType::q3_k: expand_blocks<Q3K>(embedding, token_id, out); break;
    case TableType::q4_k: expand_blocks<Q4K>(embedding, token_id, out); break;
    case TableType::q5_k: expand_blocks<Q5K>(embedding, token_id, out); break;
    case TableType::q6_k: expand_blocks<Q6K>(embedding, token_id, out); break;
  }
  if (embedding.scale == 1.0f) return;
  for (int32_t i = 0; i < embedding.width; i++) out[i] *= embedding.scale;
}

}  // namespace furcate
