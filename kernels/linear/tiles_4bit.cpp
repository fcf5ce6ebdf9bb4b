// Tiles of the formats with codes of four bits.
#include "linear_tiles.h"

namespace furcate {

const TileFunction* block_tiles_4bit(StoredType type) {
  switch (type) {
    case StoredType::q4_0: return tiles_of<Kind4Half>();
    case StoredType::q4_1: return tiles_of<Kind4HalfMins>();
    case StoredType::q4_k: return tiles_of<Kind4Mins>();
    case StoredType::q2_k: return tiles_of<Kind4SubsMins>();
    case StoredType::q3_k: return tiles_of<Kind4Subs>();
    default: return nullptr;
  }
}

}  // namespace furcate
