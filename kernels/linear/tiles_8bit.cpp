// Tiles of the formats with codes of five and of eight bits.
#include "linear_tiles.h"

namespace furcate {

const TileFunction* block_tiles_8bit(StoredType type) {
  switch (type) {
    case StoredType::q5_0: return tiles_of<Kind5Half>();
    case StoredType::q5_1: return tiles_of<Kind5HalfMins>();
    case StoredType::q5_k: return tiles_of<Kind5Mins>();
    case StoredType::q8_0: return tiles_of<Kind8Half>();
    case StoredType::q6_k: return tiles_of<Kind8Subs>();
    default: return nullptr;
  }
}

}  // namespace furcate
