// From stored rows to the packed form.
#include <cstdlib>
#include <cstring>
#include <memory>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "gguf_blocks.h"
#include "linear_weight.h"
#include "vec.h"

namespace furcate {
namespace {

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
using KindOf = BlockKind<Format::BITS, Format::SUBS, Format::MINS, Format::HALF>;

template <class Format>
void pack_blocks(const uint8_t* rows, int count, int32_t k, uint8_t* unit) {
  using Kind = KindOf<Format>;
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
Kind block_kind(const TileFunction* tiles) {
  using Packed = KindOf<Format>;
  return {RowType::q8,          Packed::SUBS, Format::ZERO_POINT, Packed::MINS,
          Packed::RECORD_BYTES, BLOCK,        tiles,              block_tile_rows()};
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
    case StoredType::q4_0: *kind = block_kind<Q40>(tiles); return true;
    case StoredType::q4_1: *kind = block_kind<Q41>(tiles); return true;
    case StoredType::q5_0: *kind = block_kind<Q50>(tiles); return true;
    case StoredType::q5_1: *kind = block_kind<Q51>(tiles); return true;
    case StoredType::q8_0: *kind = block_kind<Q80>(tiles); return true;
    case StoredType::q2_k: *kind = block_kind<Q2K>(tiles); return true;
    case StoredType::q3_k: *kind = block_kind<Q3K>(tiles); return true;
    case StoredType::q4_k: *kind = block_kind<Q4K>(tiles); return true;
    case StoredType::q5_k: *kind = block_kind<Q5K>(tiles); return true;
    case StoredType::q6_k: *kind = block_kind<Q6K>(tiles); return true;
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
