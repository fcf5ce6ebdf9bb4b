// Products of every stored type, with depths, columns and rows around blocks, units and tiles.
#include "linear.h"

#include <vector>

#include "elementwise.h"
#include "pages.h"

using namespace furcate;

namespace {

struct Stored {
  StoredType type;
  int block, num_bytes;
  std::vector<RowType> rows;
};

const std::vector<Stored> STORED = {
    {StoredType::f32, 1, 4, {RowType::f32, RowType::bf16}},
    {StoredType::f16, 1, 2, {RowType::f32, RowType::bf16}},
    {StoredType::bf16, 1, 2, {RowType::f32, RowType::bf16}},
    {StoredType::q4_0, 32, 18, {RowType::q8}},
    {StoredType::q4_1, 32, 20, {RowType::q8}},
    {StoredType::q5_0, 32, 22, {RowType::q8}},
    {StoredType::q5_1, 32, 24, {RowType::q8}},
    {StoredType::q8_0, 32, 34, {RowType::q8}},
    {StoredType::q2_k, 256, 84, {RowType::q8}},
    {StoredType::q3_k, 256, 110, {RowType::q8}},
    {StoredType::q4_k, 256, 144, {RowType::q8}},
    {StoredType::q5_k, 256, 176, {RowType::q8}},
    {StoredType::q6_k, 256, 210, {RowType::q8}},
};

void product(Pool* pool, const LinearWeight* weight, int32_t n, bool gated, const RowMemory& x,
             int64_t num_rows) {
  Buffer<float> bias(n);
  bias.fill(0.5f);
  Linear linear{};
  linear.weight = weight;
  linear.x = &x.rows;
  linear.bias = num_rows % 2 ? bias.data() : nullptr;
  if (gated) {
    for (RowType type : {RowType::f32, RowType::bf16, RowType::q8}) {
      if (type == RowType::q8 && n / 2 % BLOCK != 0) continue;
      RowMemory out(type, num_rows, n / 2);
      linear.epilogue = Epilogue::gated;
      linear.activation = num_rows % 2 ? Activation::silu : Activation::gelu_tanh;
      linear.gated_out = &out.rows;
      fc_linear(pool, &linear, num_rows);
    }
    return;
  }
  for (Epilogue epilogue : {Epilogue::store, Epilogue::add}) {
    Buffer<float> out(num_rows == 0 ? 0 : (num_rows - 1) * (n + 3) + n);
    out.fill(0);
    linear.epilogue = epilogue;
    linear.out = out.data();
    linear.out_stride = n + 3;
    fc_linear(pool, &linear, num_rows);
  }
}

void products(Pool* pool, const Stored& stored, RowType type, int32_t n, int32_t k, bool gated,
              Numbers& numbers) {
  const int64_t num_bytes = int64_t{n} * k / stored.block * stored.num_bytes;
  Buffer<uint8_t> first(num_bytes), second(num_bytes);
  numbers.fill(first);
  numbers.fill(second);
  const LinearPart parts[] = {{stored.type, n, first.data()}, {stored.type, n, second.data()}};
  LinearWeight* weight = fc_linear_pack(parts, 2, k, type, gated, pool);
  EXPECT(weight != nullptr);
  EXPECT(fc_linear_columns(weight) == 2 * n);
  for (int64_t num_rows : {0, 1, 2, 5, 12, 13, 27, 97}) {
    RowMemory x(type, num_rows, k);
    Buffer<float> values(k);
    for (int64_t row = 0; row < num_rows; row++) {
      numbers.fill(values);
      write_row(x.rows, row, values.data());
    }
    product(pool, weight, 2 * n, gated, x, num_rows);
  }
  fc_linear_free(weight);
}

void one_type(Pool* pool, const Stored& stored, Numbers& numbers) {
  for (RowType type : stored.rows)
    for (int32_t blocks : stored.block == 1 ? std::vector<int32_t>{1, 2, 33, 64}
                                            : std::vector<int32_t>{1, 2, 3})
      for (int32_t n : {1, 15, 16, 17, 32, 33, 96})
        for (bool gated : {false, true})
          products(pool, stored, type, n, blocks * stored.block, gated, numbers);
}

}  // namespace

int main() {
  Numbers numbers;
  for (int num_threads : {1, 3}) {
    Pool* pool = fc_pool_new(num_threads, nullptr);
    for (const Stored& stored : STORED) one_type(pool, stored, numbers);
    fc_pool_free(pool);
  }
  std::puts("ok");
}
