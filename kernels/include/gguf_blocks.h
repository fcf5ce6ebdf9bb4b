// GGUF's blocks, a record of 32 values at a time; blocks.py says the same in numpy. For packing and
// for embeddings. Knows no files.
#pragma once

#include <cstdint>
#include <cstring>

#include "rows.h"
#include "vec.h"

namespace furcate {

// 32 values of one row: (code - zero point) * scale + min. Formats in half precision (HALF) give the
// stored bits of scale and min, those of super-blocks their products with it.
struct Decoded {
  uint8_t codes[BLOCK];
  float scales[2], mins[2];
  uint16_t half_scale, half_min;
};

inline uint16_t load_half(const uint8_t* from) {
  uint16_t bits;
  std::memcpy(&bits, from, sizeof bits);
  return bits;
}

inline float half_value(const uint8_t* from) { return from_f16(load_half(from)); }

inline void nibbles(const uint8_t* packed, uint8_t* codes) {
  for (int n = 0; n < 16; n++) {
    codes[n] = packed[n] & 15;
    codes[n + 16] = packed[n] >> 4;
  }
}

inline void add_fifth_bits(const uint8_t* bits, uint8_t* codes) {
  for (int n = 0; n < BLOCK; n++)
    codes[n] |= static_cast<uint8_t>((bits[n / 8] >>(n % 8) & 1) << 4);
}

// Codes fit in 4, 5 or 8 bits. SUBS: how many runs of a record have scales of their own.
template <int BITS_, int SUBS_, bool MINS_, bool HALF_>
struct Codes {
  static constexpr int BITS = BITS_, SUBS = SUBS_;
  static constexpr bool MINS = MINS_, HALF = HALF_;
};

// Each format: the bytes of a stored block, its records of 32, and one of them decoded.
struct Q40 : Codes<4, 1, false, true> {
  static constexpr int BYTES = 18, RECORDS = 1, ZERO_POINT = 8;
  static void decode(const uint8_t* block, int, Decoded* to) {
    to->half_scale = load_half(block);
    nibbles(block + 2, to->codes);
  }
};

struct Q41 : Codes<4, 1, true, true> {
  static constexpr int BYTES = 20, RECORDS = 1, ZERO_POINT = 0;
  static void decode(const uint8_t* block, int, Decoded* to) {
    to->half_scale = load_half(block);
    to->half_min = load_half(block + 2);
    nibbles(block + 4, to->codes);
  }
};

struct Q50 : Codes<5, 1, false, true> {
  static constexpr int BYTES = 22, RECORDS = 1, ZERO_POINT = 16;
  static void decode(const uint8_t* block, int, Decoded* to) {
    to->half_scale = load_half(block);
    nibbles(block + 6, to->codes);
    add_fifth_bits(block + 2, to->codes);
  }
};

struct Q51 : Codes<5, 1, true, true> {
  static constexpr int BYTES = 24, RECORDS = 1, ZERO_POINT = 0;
  static void decode(const uint8_t* block, int, Decoded* to) {
    to->half_scale = load_half(block);
    to->half_min = load_half(block + 2);
    nibbles(block + 8, to->codes);
    add_fifth_bits(block + 4, to->codes);
  }
};

struct Q80 : Codes<8, 1, false, true> {
  static constexpr int BYTES = 34, RECORDS = 1, ZERO_POINT = 128;
  static void decode(const uint8_t* block, int, Decoded* to) {
    to->half_scale = load_half(block);
    for (int n = 0; n < BLOCK; n++) to->codes[n] = block[2 + n] ^ 0x80;
  }
};

struct Q2K : Codes<4, 2, true, false> {
  static constexpr int BYTES = 84, RECORDS = 8, ZERO_POINT = 0;
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

struct Q3K : Codes<4, 2, false, false> {
  static constexpr int BYTES = 110, RECORDS = 8, ZERO_POINT = 4;
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
inline void six_bit_scales(const uint8_t* block, int record, Decoded* to) {
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

struct Q4K : Codes<4, 1, true, false> {
  static constexpr int BYTES = 144, RECORDS = 8, ZERO_POINT = 0;
  static void decode(const uint8_t* block, int record, Decoded* to) {
    six_bit_scales(block, record, to);
    const uint8_t* packed = block + 16 + record / 2 * 32;
    for (int n = 0; n < BLOCK; n++) to->codes[n] = packed[n] >>(record % 2 * 4) & 15;
  }
};

struct Q5K : Codes<5, 1, true, false> {
  static constexpr int BYTES = 176, RECORDS = 8, ZERO_POINT = 0;
  static void decode(const uint8_t* block, int record, Decoded* to) {
    six_bit_scales(block, record, to);
    const uint8_t* packed = block + 48 + record / 2 * 32;
    for (int n = 0; n < BLOCK; n++)
      to->codes[n] = static_cast<uint8_t>((packed[n] >>(record % 2 * 4) & 15) |
                                          (block[16 + n] >> record & 1) << 4);
  }
};

struct Q6K : Codes<8, 2, false, false> {
  static constexpr int BYTES = 210, RECORDS = 8, ZERO_POINT = 32;
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

}  // namespace furcate
