// Elementwise kernels over widths around the lanes of a register and the blocks of a row.
#include "activation.h"
#include "elementwise.h"

#include <initializer_list>

#include "pages.h"

using namespace furcate;

namespace {

void rows_are_written(Numbers& numbers) {
  for (RowType type : {RowType::f32, RowType::bf16, RowType::q8})
    for (int32_t width : {1, 15, 16, 17, 31, 32, 33, 64, 96, 160}) {
      if (type == RowType::q8 && width % BLOCK != 0) continue;
      RowMemory out(type, 3, width);
      Buffer<float> values(width);
      numbers.fill(values);
      for (int64_t row = 0; row < 3; row++) write_row(out.rows, row, values.data());
      if (width % BLOCK == 0) {
        Buffer<float> part(BLOCK);
        numbers.fill(part);
        write_row_part(out.rows, 2, width - BLOCK, BLOCK, part.data());
      }
    }
}

void norms(Numbers& numbers) {
  for (int32_t width : {1, 16, 31, 32, 33, 96, 576}) {
    Buffer<float> x(int64_t{3} * width), weight(width), scratch(width), out(width);
    numbers.fill(x);
    numbers.fill(weight);
    RowMemory rows(width % BLOCK == 0 ? RowType::q8 : RowType::bf16, 2, width);
    Buffer<int32_t> picked(2);
    picked[0] = 2;
    picked[1] = 0;
    const Norm norm{x.data(), weight.data(), 1e-5f, 0.0f, width, picked.data(), &rows.rows};
    for (int64_t row = 0; row < 2; row++) norm_row(norm, row, scratch.data());
    normalise(x.data() + 2 * width, weight.data(), 1e-5f, 1.0f, width, out.data());
  }
}

void rotated_tokens(const KVShape& shape, int32_t rotary_dim, bool interleaved, bool normed,
                    Numbers& numbers) {
  Pages pages(shape);
  Step step(shape, {{3, 20}, {1, 1}, {17, 17}});
  const int32_t tokens = step.rows().num_tokens;
  Buffer<float> qkv(int64_t{tokens} * (shape.num_heads + 2 * shape.kv_heads) * shape.head_dim);
  Buffer<float> cosine(tokens * rotary_dim / 2), sine(tokens * rotary_dim / 2);
  Buffer<float> frequencies(rotary_dim / 2), q_norm(shape.head_dim), k_norm(shape.head_dim);
  Buffer<float> scratch(rope_scratch(shape));
  Buffer<uint16_t> q(int64_t{tokens} * shape.num_heads * shape.head_dim);
  for (Buffer<float>* buffer : {&qkv, &frequencies, &q_norm, &k_norm}) numbers.fill(*buffer);
  rope_table(step.rows().positions, tokens, frequencies.data(), rotary_dim / 2, cosine.data(),
             sine.data());
  const RopeWrite rope{&shape,        &pages.pages,
                       &step.rows(),  qkv.data(),
                       cosine.data(), sine.data(),
                       rotary_dim,    interleaved,
                       normed ? q_norm.data() : nullptr,
                       normed ? k_norm.data() : nullptr,
                       1e-5f,         0.0f,
                       q.data()};
  for (int32_t row = 0; row < step.rows().num_rows; row++)
    for (int32_t token = step.rows().row_starts[row]; token < step.rows().row_starts[row + 1];
         token++)
      rope_write_token(rope, row, token, scratch.data());
}

void rotations(Numbers& numbers) {
  for (KVType type : {KVType::bf16, KVType::int8})
    for (int32_t head_dim : {16, 48, 64, 256})
      for (bool interleaved : {false, true})
        for (bool normed : {false, true}) {
          const KVShape shape{type, 6, 2, head_dim, 16, 5};
          rotated_tokens(shape, head_dim, interleaved, normed, numbers);
          rotated_tokens(shape, head_dim / 2, interleaved, normed, numbers);
        }
}

void embeddings(Numbers& numbers) {
  struct {
    TableType type;
    int block, num_bytes;
  } const types[] = {
      {TableType::f32, 1, 4},      {TableType::f16, 1, 2},      {TableType::bf16, 1, 2},
      {TableType::q4_0, 32, 18},   {TableType::q4_1, 32, 20},   {TableType::q5_0, 32, 22},
      {TableType::q5_1, 32, 24},   {TableType::q8_0, 32, 34},   {TableType::q2_k, 256, 84},
      {TableType::q3_k, 256, 110}, {TableType::q4_k, 256, 144}, {TableType::q5_k, 256, 176},
      {TableType::q6_k, 256, 210},
  };
  for (const auto& type : types)
    for (int32_t width : {1, 16, 17, 32, 96, 256, 512}) {
      if (width % type.block != 0) continue;
      Buffer<uint8_t> table(int64_t{3} * width / type.block * type.num_bytes);
      numbers.fill(table);
      Buffer<float> out(width);
      const Embedding embedding{type.type, width, 3, table.data(), 2.0f};
      for (int32_t token_id = 0; token_id < 3; token_id++)
        embed_token(embedding, token_id, out.data());
    }
}

}  // namespace

int main() {
  Numbers numbers;
  rows_are_written(numbers);
  norms(numbers);
  rotations(numbers);
  embeddings(numbers);
  std::puts("ok");
}
