// The tasks of a product: which rows and columns each computes, and what becomes of the numbers.
//
// A task has a chunk of rows and a run of steps, a step being 32 columns (of gates and of ups where
// the product is gated). A thread lays out the tiles of a chunk in its scratch once for all tasks
// that it has of it. The packed columns of a run pass by one tile after the other: a tile stays in
// the first cache, the columns of a run in the second. Where there is one tile only, the matrix is
// read once.
#include <algorithm>
#include <cstring>

#include "activation.h"
#include "elementwise.h"
#include "linear_tiles.h"
#include "linear_weight.h"

namespace furcate {
namespace {

constexpr int64_t CHUNK_ROWS = 96;        // rows of a task at most
constexpr int64_t CHUNK_BYTES = 512 << 10;  // of its tiles: half of a second cache
constexpr int64_t RUN_BYTES = 256 << 10;    // packed columns that several tiles of rows pass
constexpr double TASK_NS = 4000;          // below, claiming and laying out would show
constexpr int64_t TASKS_PER_THREAD = 16;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t part_steps(const PackedPart& part) { return divide_up(part.units, TILE_WIDTH / UNIT); }

// A product's division into chunks of rows and runs of steps, all of about the same size.
struct Cut {
  int64_t chunks, runs, steps;

  int64_t num_tasks() const { return chunks * runs; }
};

int64_t tile_bytes(const LinearWeight& weight, int64_t rows) {
  const int64_t record = weight.x == RowType::q8 ? tile_record_bytes(1, 2) : 4;
  return divide_up(weight.records * record * rows, 64) * 64;
}

// Nanoseconds on one thread, by rates that are right within a factor of two.
double estimate_ns(const LinearWeight& weight, int64_t num_rows) {
  const double ops = weight.x == RowType::q8 ? 600 : weight.x == RowType::bf16 ? 450 : 100;
  const double bytes = static_cast<double>(weight.num_bytes);
  return std::max(bytes / 30, 2.0 * static_cast<double>(num_rows) * weight.n * weight.k / ops);
}

Cut cut_of(const LinearWeight& weight, int64_t num_rows, int num_threads) {
  const int64_t fit = std::max<int64_t>(CHUNK_BYTES / tile_bytes(weight, 1), MAX_TILE);
  Cut cut{divide_up(num_rows, std::min(CHUNK_ROWS, fit)), 1, 0};
  if (weight.gated) {
    cut.steps = part_steps(weight.parts[0]);
  } else {
    for (const PackedPart& part : weight.parts) cut.steps += part_steps(part);
  }
  if (num_rows == 0) return cut;
  const int64_t most = num_threads * TASKS_PER_THREAD;
  int64_t tasks = std::min<int64_t>(
      most, static_cast<int64_t>(estimate_ns(weight, num_rows) / TASK_NS) + 1);
  tasks = divide_up(tasks, num_threads) * num_threads;  // few tasks: as many for every thread
  cut.runs = divide_up(tasks, cut.chunks);
  if (num_rows > MAX_TILE) cut.runs = std::max(cut.runs, weight.num_bytes / RUN_BYTES);
  cut.runs = std::min(cut.runs, cut.steps);
  return cut;
}

// As linear_tiles.h says; compiled for each combination, because it is done for every task.
template <int SUBS, bool MINS>
void prepare_blocks(int32_t zero_point, const Rows& x, int64_t first, int rows, uint8_t* tile) {
  const int64_t blocks = x.width / BLOCK, step = tile_record_bytes(rows, SUBS);
  for (int row = 0; row < rows; row++) {
    const int8_t* codes = static_cast<const int8_t*>(x.data) + (first + row) * x.width;
    const float* scales = x.scales + (first + row) * blocks;
    const int32_t* sums = x.sums + (first + row) * blocks;
    uint8_t* to_codes = tile + row * BLOCK;
    uint8_t* to_numbers = tile + rows * BLOCK + row * 4;
    for (int64_t n = 0; n < blocks; n++, codes += BLOCK, to_codes += step, to_numbers += step) {
      std::memcpy(to_codes, codes, BLOCK);
      std::memcpy(to_numbers, scales + n, 4);
      int32_t parts[SUBS] = {sums[n]};
      if (SUBS == 2) {
        parts[0] = 0;
        for (int i = 0; i < BLOCK / 2; i++) parts[0] += codes[i];
        parts[SUBS - 1] = sums[n] - parts[0];
      }
      for (int sub = 0; sub < SUBS; sub++) {
        const float min = scales[n] * static_cast<float>(parts[sub]);
        const int32_t start = -zero_point * parts[sub];
        std::memcpy(to_numbers + (sub + 1) * rows * 4,
                    MINS ? static_cast<const void*>(&min) : &start, 4);
      }
    }
  }
}

// [record][row], four bytes each: a float, or two bfloat16 of which the last may be missing.
void prepare_floats(const Kind& kind, const Rows& x, int64_t first, int rows, uint8_t* tile) {
  const int64_t size = 4 / kind.record_depth, row_bytes = x.width * size;
  const uint8_t* from = static_cast<const uint8_t*>(x.data) + first * row_bytes;
  const int64_t whole = row_bytes / 4;
  for (int64_t n = 0; n < whole; n++)
    for (int row = 0; row < rows; row++)
      std::memcpy(tile + (n * rows + row) * 4, from + row * row_bytes + n * 4, 4);
  if (row_bytes % 4 == 0) return;
  for (int row = 0; row < rows; row++) {
    const uint8_t* end = from + (row + 1) * row_bytes;
    const uint8_t last[4] = {end[-2], end[-1], 0, 0};
    std::memcpy(tile + (whole * rows + row) * 4, last, 4);
  }
}

void prepare_tile(const Kind& kind, const Rows& x, int64_t first, int rows, uint8_t* tile) {
  if (kind.x != RowType::q8) return prepare_floats(kind, x, first, rows, tile);
  const auto prepare = kind.subs == 1 ? kind.mins ? &prepare_blocks<1, true> : &prepare_blocks<1, false>
                       : kind.mins    ? &prepare_blocks<2, true>
                                      : &prepare_blocks<2, false>;
  prepare(kind.zero_point, x, first, rows, tile);
}

bool same_tile(const Kind& a, const Kind& b) {
  return a.subs == b.subs && a.mins == b.mins && a.zero_point == b.zero_point;
}

// A tile of rows on its way through the columns of a task.
struct Tile {
  const Linear& linear;
  int64_t first;  // row
  int rows;

  // The products of a step of `part`, with the bias.  out [rows][TILE_WIDTH]
  int multiply(const PackedPart& part, int64_t step, const uint8_t* tile, float* out) const {
    const int64_t unit = step * (TILE_WIDTH / UNIT);
    const int units = static_cast<int>(std::min<int64_t>(TILE_WIDTH / UNIT, part.units - unit));
    part.kind.tiles[rows - 1](part.data + unit * part.unit_bytes, part.unit_bytes, units, tile,
                              linear.weight->records, out);
    const int64_t column = unit * UNIT;
    const int count = static_cast<int>(std::min<int64_t>(TILE_WIDTH, part.n - column));
    if (linear.bias != nullptr) {
      const float* bias = linear.bias + part.first_column + column;
      for (int row = 0; row < rows; row++)
        for (int n = 0; n < count; n++) out[row * TILE_WIDTH + n] += bias[n];
    }
    return count;
  }

  void put(const PackedPart& part, int64_t step, int count, const float* products) const {
    const int64_t column = part.first_column + step * TILE_WIDTH;
    for (int row = 0; row < rows; row++) {
      float* out = linear.out + (first + row) * linear.out_stride + column;
      const float* from = products + row * TILE_WIDTH;
      if (linear.epilogue == Epilogue::store) {
        std::memcpy(out, from, sizeof(float) * static_cast<size_t>(count));
      } else {
        for (int n = 0; n < count; n++) out[n] += from[n];
      }
    }
  }

  void put_gated(int64_t step, int count, const float* gates, const float* ups) const {
    alignas(64) float values[MAX_TILE * TILE_WIDTH];
    for (int n = 0; n < rows * TILE_WIDTH; n += LANES)
      store_f32(values + n, activate(load_f32(gates + n), load_f32(ups + n), linear.activation));
    write_rows_part(*linear.gated_out, first, rows, static_cast<int32_t>(step * TILE_WIDTH), count,
                    values, TILE_WIDTH);
  }
};

// The rows of a chunk as one thread has them laid out.
class Chunk {
 public:
  Chunk(const Linear& linear, int64_t num_rows, const Cut& cut)
      : linear_(linear), weight_(*linear.weight), num_rows_(num_rows), cut_(cut) {}

  // A task of the chunk `index` computes the steps from `begin` to `end`.
  void run(int64_t index, int64_t begin, int64_t end, const Worker& worker) {
    if (index != index_) lay_out(index, worker);
    if (linear_.epilogue == Epilogue::gated)
      run_gated(begin, end);
    else
      run_plain(begin, end);
  }

 private:
  int64_t num_tiles() const { return divide_up(last_ - first_, weight_.parts[0].kind.max_rows); }

  Tile tile(int64_t n) const {
    const int64_t rows = last_ - first_, tiles = num_tiles();
    const int64_t from = first_ + rows * n / tiles, to = first_ + rows * (n + 1) / tiles;
    return {linear_, from, static_cast<int>(to - from)};
  }

  // Parts whose tiles look alike share them.
  size_t form_of(size_t part) const {
    size_t form = 0;
    while (!same_tile(weight_.parts[form].kind, weight_.parts[part].kind)) form++;
    return form;
  }

  uint8_t* tiles_of(size_t form) const {
    return tiles_ + static_cast<int64_t>(form) * num_tiles() * tile_stride();
  }

  int64_t tile_stride() const { return tile_bytes(weight_, weight_.parts[0].kind.max_rows); }

  void lay_out(int64_t index, const Worker& worker) {
    index_ = index;
    first_ = num_rows_ * index / cut_.chunks;
    last_ = num_rows_ * (index + 1) / cut_.chunks;
    const int64_t forms = static_cast<int64_t>(weight_.parts.size());
    const int64_t num_bytes = forms * num_tiles() * tile_stride();
    tiles_ = static_cast<uint8_t*>(worker.scratch(static_cast<size_t>(num_bytes)));
    for (size_t part = 0; part < weight_.parts.size(); part++) {
      if (form_of(part) != part) continue;
      for (int64_t n = 0; n < num_tiles(); n++) {
        const Tile rows = tile(n);
        prepare_tile(weight_.parts[part].kind, *linear_.x, rows.first, rows.rows,
                     tiles_of(part) + n * tile_stride());
      }
    }
  }

  void run_plain(int64_t begin, int64_t end) const {
    alignas(64) float products[MAX_TILE * TILE_WIDTH];
    int64_t first = 0;
    for (size_t n = 0; n < weight_.parts.size(); n++) {
      const PackedPart& part = weight_.parts[n];
      const int64_t steps = part_steps(part);
      const uint8_t* rows = tiles_of(form_of(n));
      const int64_t from = std::max(begin - first, int64_t{0}), to = std::min(end - first, steps);
      for (int64_t t = 0; from < to && t < num_tiles(); t++) {
        const Tile at = tile(t);
        for (int64_t step = from; step < to; step++) {
          const int count = at.multiply(part, step, rows + t * tile_stride(), products);
          at.put(part, step, count, products);
        }
      }
      first += steps;
    }
  }

  void run_gated(int64_t begin, int64_t end) const {
    alignas(64) float gates[MAX_TILE * TILE_WIDTH] = {}, ups[MAX_TILE * TILE_WIDTH] = {};
    const PackedPart& gate = weight_.parts[0];
    const PackedPart& up = weight_.parts[1];
    const uint8_t* of_gates = tiles_of(0);
    const uint8_t* of_ups = tiles_of(form_of(1));
    for (int64_t t = 0; t < num_tiles(); t++) {
      const Tile at = tile(t);
      for (int64_t step = begin; step < end; step++) {
        at.multiply(gate, step, of_gates + t * tile_stride(), gates);
        const int count = at.multiply(up, step, of_ups + t * tile_stride(), ups);
        at.put_gated(step, count, gates, ups);
      }
    }
  }

  const Linear& linear_;
  const LinearWeight& weight_;
  const int64_t num_rows_;
  const Cut cut_;
  int64_t index_ = -1, first_ = 0, last_ = 0;
  uint8_t* tiles_ = nullptr;
};

}  // namespace

void multiply(const Linear& linear, int64_t num_rows, const Worker& worker) {
  const Cut cut = cut_of(*linear.weight, num_rows, worker.count);
  Chunk chunk(linear, num_rows, cut);
  worker.each(cut.num_tasks(), [&](int64_t task) {
    const int64_t run = task % cut.runs;
    chunk.run(task / cut.runs, cut.steps * run / cut.runs, cut.steps * (run + 1) / cut.runs, worker);
  });
}

}  // namespace furcate

using namespace furcate;

FC_API void fc_linear(Pool* pool, const Linear* linear, int64_t num_rows) {
  run(pool, [&](const Worker& worker) { multiply(*linear, num_rows, worker); });
}

FC_API size_t fc_sizeof_Linear() { return sizeof(Linear); }
