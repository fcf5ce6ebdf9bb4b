// From stored rows to the packed form. blocks.py says what the stored bytes mean.
#include <cstdlib>
#include <cstring>
#include <memory>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "linear_weight.h"
#include "vec.h"

namespace furcate {
namespace {

// 32 values of one row; the halves are the stored bits of formats that keep them.
struct Decoded {
  uint8_t codes[BLOCK];
  float scales[2], mins[2];
  uint16_t half_scale, half_min;
};

uint16_t load_half(const uint8_t* from) {
  uint16_t bits;
  std::memcpy(&bits, from, sizeof bits);
  return bits;
}

float half_value(const uint8_t* from) { return from_f16(load_half(from)); }

void nibbles(const uint8_t* packed, uint8_t* codes) {
  for (int n = 0; n < 16; n++) {
    codes[n] = packed[n] & 15;
    codes[n + 16] = packed[n] >> 4;
  }
}

void add_fifth_bits(const uint8_t* bits, uint8_t* codes) {
  for (int n = 0; n < BLOCK; n++)
    codes[n] |= static_cast<uint8_t>((bits[n / 8] >>(n % 8) & 1) << 4);
}

// Each format: its kind, the bytes of a stored block, its records of 32, and one of them decoded.
struct Q40 {
  using Kind = Kind4Half;
  static constexpr int BYTES = 18, RECORDS = 1;
  static void decode(const uint8_t* block, int, Decoded* to) {
    to->half_scale = load_half(block);
    nibbles(block + 2, to->codes);
  }
};

struct Q41 {
  using Kind = Kind4HalfMins;
  static constexpr int BYTES = 20, RECORDS = 1;
  static void decode(const uint8_t* block, int, Decoded* to) {
    to->half_scale = load_half(block);
    to->half_min = load_half(block + 2);
    nibbles(block + 4, to->codes);
  }
};

struct Q50 {
  using Kind = Kind5Half;
  static constexpr int BYTES = 22, RECORDS = 1;
  static void decode(const uint8_t* block, int, Decoded* to) {
    to->half_scale = load_half(block);
    nibbles(block + 6, to->codes);
    add_fifth_bits(block + 2, to->codes);
  }
};

struct Q51 {
  using Kind = Kind5HalfMins;
  static constexpr int BYTES = 24, RECORDS = 1;
  static void decode(const uint8_t* block, int, Decoded* to) {
    to->half_scale = load_half(block);
    to->half_min = load_half(block + 2);
    nibbles(block + 8, to->codes);
    add_fifth_bits(block + 4, to->codes);
  }
};

struct Q80 {
  using Kind = Kind8Half;
  static constexpr int BYTES = 34, RECORDS = 1;
  static void decode(const uint8_t* block, int, Decoded* to) {
    to->half_scale = load_half(block);
    for (int n = 0; n < BLOCK; n++) to->codes[n] = block[2 + n] ^ 0x80;
  }
};

struct Q2K {
  using Kind = Kind4SubsMins;
  static constexpr int BYTES = 84, RECORDS = 8;
  static void decode(const uint8_t* block, int record, Decoded* to) {
    const uint8_t* packed = block + 16 + record / 4 * 32;
    for (int n = 0; n < BLOCK; n++) to->codes[n] = packed[n] >>(record % 4 * 2) & 3;
    for (int sub = 0; sub < 2; sub++) {
      const uint8_t both = block[record * 2 + sub];
      to->scales[sub] = half_value(block + 80) * static_cast<float>(both & 15);
      to->mins[sub] = -(half_value(block + 82) * static_cast<float>(both >> 4));
    }
  }
};

struct Q3K {
  using Kind = Kind4Subs;
  static constexpr int BYTES = 110, RECORDS = 8;
  static void decode(const uint8_t* block, int record, Decoded* to) {
    const uint8_t* packed = block + 32 + record / 4 * 32;
    for (int n = 0; n < BLOCK; n++)
      to->codes[n] = static_cast<uint8_t>((packed[n] >>(record % 4 * 2) & 3) |
                                          (block[n] >> record & 1) << 2);
    for (int sub = 0; sub < 2; sub++) {
      const int at = record * 2 + sub;
      const int low = block[96 + at % 8] >>(at / 8 * 4) & 15;
      const int high = block[104 + at % 4] >>(at / 4 * 2) & 3;
      to->scales[sub] = half_value(block + 108) * static_cast<float>((low | high << 4) - 32);
    }
  }
};

// Six bits of scale and of minimum for each of the eight blocks of Q4_K and Q5_K.
void six_bit_scales(const uint8_t* block, int record, Decoded* to) {
  const uint8_t* packed = block + 4;
  int scale, min;
  if (record < 4) {
    scale = packed[record] & 63;
    min = packed[record + 4] & 63;
  } else {
    scale = (packed[record + 4] & 15) | (packed[record - 4] >> 6) << 4;
    min = packed[record + 4] >> 4 | (packed[record] >> 6) << 4;
  }
  to->scales[0] = half_value(block) * static_cast<float>(scale);
  to->mins[0] = -(half_value(block + 2) * static_cast<float>(min));
}

struct Q4K {
  using Kind = Kind4Mins;
  static constexpr int BYTES = 144, RECORDS = 8;
  static void decode(const uint8_t* block, int record, Decoded* to) {
    six_bit_scales(block, record, to);
    const uint8_t* packed = block + 16 + record / 2 * 32;
    for (int n = 0; n < BLOCK; n++) to->codes[n] = packed[n] >>(record % 2 * 4) & 15;
  }
};

struct Q5K {
  using Kind = Kind5Mins;
  static constexpr int BYTES = 176, RECORDS = 8;
  static void decode(const uint8_t* block, int record, Decoded* to) {
    six_bit_scales(block, record, to);
    const uint8_t* packed = block + 48 + record / 2 * 32;
    for (int n = 0; n < BLOCK; n++)
      to->codes[n] = static_cast<uint8_t>((packed[n] >>(record % 2 * 4) & 15) |
                                          (block[16 + n] >> record & 1) << 4);
  }
};

struct Q6K {
  using Kind = Kind8Subs;
  static constexpr int BYTES = 210, RECORDS = 8;
  static void decode(const uint8_t* block, int record, Decoded* to) {
    const int half = record / 4, run = record % 4;
    const uint8_t* low = block + half * 64 + run % 2 * 32;
    const uint8_t* high = block + 128 + half * 32;
    for (int n = 0; n < BLOCK; n++)
      to->codes[n] = static_cast<uint8_t>((low[n] >>(run / 2 * 4) & 15) |
                                          (high[n] >>(run * 2) & 3) << 4);
    for (int sub = 0; sub < 2; sub++) {
      const int8_t factor = static_cast<int8_t>(block[192 + record * 2 + sub]);
      to->scales[sub] = half_value(block + 208) * static_cast<float>(factor);
    }
  }
};

template <class Kind>
void write_codes(const uint8_t* codes, int column, uint8_t* record) {
  if (Kind::BITS == 8) {
    for (int g = 0; g < 8; g++) std::memcpy(record + (g * UNIT + column) * 4, codes + g * 4, 4);
    return;
  }
  uint8_t both[16];
  for (int n = 0; n < 16; n++) both[n] = static_cast<uint8_t>((codes[n] & 15) | codes[n + 16] << 4);
  for (int g = 0; g < 4; g++) std::memcpy(record + (g * UNIT + column) * 4, both + g * 4, 4);
  if (Kind::BITS == 4) return;
  uint8_t* bits = record + 16 * UNIT;
  for (int n = 0; n < BLOCK; n++) {
    const int bit = column * 4 + n % 4;
    bits[n / 4 * 8 + bit / 8] |= static_cast<uint8_t>((codes[n] >> 4) << (bit % 8));
  }
}

template <class Kind>
void write_scales(const Decoded& from, int column, uint8_t* record) {
  uint8_t* scales = record + Kind::CODE_BYTES;
  uint8_t* mins = scales + Kind::SCALE_BYTES;
  if (Kind::HALF) {
    std::memcpy(scales + column * 2, &from.half_scale, 2);
    if (Kind::MINS) std::memcpy(mins + column * 2, &from.half_min, 2);
    return;
  }
  for (int sub = 0; sub < Kind::SUBS; sub++) {
    const int at = (sub * UNIT + column) * 4;
    std::memcpy(scales + at, &from.scales[sub], 4);
    if (Kind::MINS) std::memcpy(mins + at, &from.mins[sub], 4);
  }
}

template <class Format>
void pack_blocks(const uint8_t* rows, int count, int32_t k, uint8_t* unit) {
  using Kind = typename Format::Kind;
  const int64_t records = k / BLOCK, row_bytes = records / Format::RECORDS * Format::BYTES;
  for (int64_t n = 0; n < records; n++, unit += Kind::RECORD_BYTES)
    for (int column = 0; column < count; column++) {
      const uint8_t* block =
          rows + column * row_bytes + n / Format::RECORDS * Format::BYTES;
      Decoded decoded;
      Format::decode(block, static_cast<int>(n % Format::RECORDS), &decoded);
      write_codes<Kind>(decoded.codes, column, unit);
      write_scales<Kind>(decoded, column, unit);
    }
}

float stored_float(StoredType type, const uint8_t* row, int32_t at) {
  if (type == StoredType::f32) {
    float value;
    std::memcpy(&value, row + int64_t{at} * 4, sizeof value);
    return value;
  }
  const uint16_t bits = load_half(row + int64_t{at} * 2);
  return type == StoredType::f16 ? from_f16(bits) : from_bf16(bits);
}

void pack_floats(const PackedPart& part, int32_t k, const uint8_t* rows, int count,
                 uint8_t* unit) {
  const int64_t row_bytes = stored_row_bytes(part.type, k);
  const bool is_f32 = part.kind.x == RowType::f32;
  for (int column = 0; column < count; column++)
    for (int32_t n = 0; n < k; n++) {
      const float value = stored_float(part.type, rows + column * row_bytes, n);
      const uint16_t rounded = to_bf16(value);
      if (is_f32)
        std::memcpy(unit + (int64_t{n} * UNIT + column) * 4, &value, 4);
      else
        std::memcpy(unit + (int64_t{n / 2} * UNIT + column) * 4 + n % 2 * 2, &rounded, 2);
    }
}

template <class Format>
Kind block_kind(int32_t zero_point, const TileFunction* tiles) {
  using Packed = typename Format::Kind;
  return {RowType::q8,          Packed::SUBS, zero_point, Packed::MINS,
          Packed::RECORD_BYTES, BLOCK,        tiles,      block_tile_rows()};
}

constexpr size_t LARGE_PAGE = size_t{2} << 20;

// Zeros, on large pages where the system has them: the matrix is read in one stream.
uint8_t* allocate(size_t num_bytes) {
  const bool is_large = num_bytes >= LARGE_PAGE;
  const size_t unit = is_large ? LARGE_PAGE : 64;
  const size_t whole = (num_bytes + unit - 1) / unit * unit;
  void* memory = std::aligned_alloc(unit, whole ? whole : unit);
  if (memory == nullptr) return nullptr;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (is_large) madvise(memory, whole, MADV_HUGEPAGE);
#endif
  return static_cast<uint8_t*>(memory);
}

// Fills in the parts; false where one cannot be packed.
bool plan_parts(const LinearPart* parts, int32_t num_parts, LinearWeight* weight) {
  int64_t at = 0;
  for (int32_t n = 0; n < num_parts; n++) {
    PackedPart part{};
    part.type = parts[n].type;
    part.n = parts[n].n;
    part.first_column = weight->n;
    if (part.n < 1 || !find_kind(part.type, weight->x, &part.kind)) return false;
    if (stored_row_bytes(part.type, weight->k) == 0) return false;
    weight->records = (weight->k + part.kind.record_depth - 1) / part.kind.record_depth;
    part.units = (part.n + UNIT - 1) / UNIT;
    part.unit_bytes = weight->records * part.kind.record_bytes;
    part.offset = at;
    at += (part.units * part.unit_bytes + 63) / 64 * 64;
    weight->n += part.n;
    weight->units += part.units;
    weight->parts.push_back(part);
  }
  weight->num_bytes = at;
  return true;
}

void pack_parts(const LinearPart* parts, LinearWeight* weight, Pool* pool) {
  run(pool, [&](const Worker& worker) {
    for (size_t n = 0; n < weight->parts.size(); n++) {
      const PackedPart& part = weight->parts[n];
      const uint8_t* rows = static_cast<const uint8_t*>(parts[n].rows);
      const int64_t row_bytes = stored_row_bytes(part.type, weight->k);
      worker.each(part.units, [&](int64_t unit) {
        uint8_t* to = part.data + unit * part.unit_bytes;
        const int64_t rest = part.n - unit * UNIT;
        std::memset(to, 0, static_cast<size_t>(part.unit_bytes));
        pack_unit(part, weight->k, rows + unit * UNIT * row_bytes,
                  rest < UNIT ? static_cast<int>(rest) : UNIT, to);
      });
    }
  });
}

}  // namespace

bool find_kind(StoredType type, RowType x, Kind* kind) {
  if (x != RowType::q8) {
    const bool is_f32 = x == RowType::f32;
    *kind = {x, 1, 0, false, UNIT * 4, is_f32 ? 1 : 2, is_f32 ? f32_tiles() : bf16_tiles(),
             float_tile_rows()};
    return type == StoredType::f32 || type == StoredType::f16 || type == StoredType::bf16;
  }
  const TileFunction* tiles = block_tiles_4bit(type);
  if (tiles == nullptr) tiles = block_tiles_8bit(type);
  switch (type) {
    case StoredType::q4_0: *kind = block_kind<Q40>(8, tiles); return true;
    case StoredType::q4_1: *kind = block_kind<Q41>(0, tiles); return true;
    case StoredType::q5_0: *kind = block_kind<Q50>(16, tiles); return true;
    case StoredType::q5_1: *kind = block_kind<Q51>(0, tiles); return true;
    case StoredType::q8_0: *kind = block_kind<Q80>(128, tiles); return true;
    case StoredType::q2_k: *kind = block_kind<Q2K>(0, tiles); return true;
    case StoredType::q3_k: *kind = block_kind<Q3K>(4, tiles); return true;
    case StoredType::q4_k: *kind = block_kind<Q4K>(0, tiles); return true;
    case StoredType::q5_k: *kind = block_kind<Q5K>(0, tiles); return true;
    case StoredType::q6_k: *kind = block_kind<Q6K>(32, tiles); return true;
    default: return false;
  }
}

int64_t stored_row_bytes(StoredType type, int32_t k) {
  const auto in_blocks = [k](int32_t values, int64_t bytes) {
    return k % values ? 0 : k / values * bytes;
  };
  switch (type) {
    case StoredType::f32: return int64_t{k} * 4;
    case StoredType::f16:
    case StoredType::bf16: return int64_t{k} * 2;
    case StoredType::q4_0: return in_blocks(32, Q40::BYTES);
    case StoredType::q4_1: return in_blocks(32, Q41::BYTES);
    case StoredType::q5_0: return in_blocks(32, Q50::BYTES);
    case StoredType::q5_1: return in_blocks(32, Q51::BYTES);
    case StoredType::q8_0: return in_blocks(32, Q80::BYTES);
    case StoredType::q2_k: return in_blocks(256, Q2K::BYTES);
    case StoredType::q3_k: return in_blocks(256, Q3K::BYTES);
    case StoredType::q4_k: return in_blocks(256, Q4K::BYTES);
    case StoredType::q5_k: return in_blocks(256, Q5K::BYTES);
    case StoredType::q6_k: return in_blocks(256, Q6K::BYTES);
  }
  return 0;
}

void pack_unit(const PackedPart& part, int32_t k, const uint8_t* rows, int count, uint8_t* unit) {
  switch (part.type) {
    case StoredType::q4_0: return pack_blocks<Q40>(rows, count, k, unit);
    case StoredType::q4_1: return pack_blocks<Q41>(rows, count, k, unit);
    case StoredType::q5_0: return pack_blocks<Q50>(rows, count, k, unit);
    case StoredType::q5_1: return pack_blocks<Q51>(rows, count, k, unit);
    case StoredType::q8_0: return pack_blocks<Q80>(rows, count, k, unit);
    case StoredType::q2_k: return pack_blocks<Q2K>(rows, count, k, unit);
    case StoredType::q3_k: return pack_blocks<Q3K>(rows, count, k, unit);
    case StoredType::q4_k: return pack_blocks<Q4K>(rows, count, k, unit);
    case StoredType::q5_k: return pack_blocks<Q5K>(rows, count, k, unit);
    case StoredType::q6_k: return pack_blocks<Q6K>(rows, count, k, unit);
    default: return pack_floats(part, k, rows, count, unit);
  }
}

}  // namespace furcate

using namespace furcate;

FC_API LinearWeight* fc_linear_pack(const LinearPart* parts, int32_t num_parts, int32_t k,
                                    RowType x, int32_t gated, Pool* pool) {
  if (num_parts < 1 || k < 1) return nullptr;
  if (gated && (num_parts != 2 || parts[0].n != parts[1].n)) return nullptr;
  auto weight = std::make_unique<LinearWeight>();
  weight->k = k;
  weight->x = x;
  weight->gated = gated != 0;
  if (!plan_parts(parts, num_parts, weight.get())) return nullptr;
  weight->memory = allocate(static_cast<size_t>(weight->num_bytes));
  if (weight->memory == nullptr) return nullptr;
  for (PackedPart& part : weight->parts) part.data = weight->memory + part.offset;
  pack_parts(parts, weight.get(), pool);
  return weight.release();
}

FC_API void fc_linear_free(LinearWeight* weight) {
  if (weight == nullptr) return;
  std::free(weight->memory);
  delete weight;
}

FC_API int64_t fc_linear_bytes(const LinearWeight* weight) { return weight->num_bytes; }
FC_API int32_t fc_linear_columns(const LinearWeight* weight) { return weight->n; }
FC_API int32_t fc_linear_depth(const LinearWeight* weight) { return weight->k; }
FC_API RowType fc_linear_row_type(const LinearWeight* weight) { return weight->x; }
FC_API size_t fc_sizeof_LinearPart() { return sizeof(LinearPart); }
