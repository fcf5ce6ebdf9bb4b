// One-call entries for tests and benchmarks; the executor calls the functions of elementwise.h.
#include "activation.h"
#include "api.h"
#include "elementwise.h"

using namespace furcate;

FC_API size_t fc_sizeof_Rows() { return sizeof(Rows); }
FC_API size_t fc_sizeof_Norm() { return sizeof(Norm); }
FC_API size_t fc_sizeof_RopeWrite() { return sizeof(RopeWrite); }
FC_API size_t fc_sizeof_Embedding() { return sizeof(Embedding); }

FC_API void fc_write_rows(Pool* pool, const Rows* rows, const float* values, int64_t num_rows) {
  run(pool, [&](const Worker& worker) {
    worker.each(num_rows, [&](int64_t row) { write_row(*rows, row, values + row * rows->width); });
  });
}

FC_API void fc_write_rows_part(const Rows* rows, int64_t row, int32_t num_rows, int32_t first,
                               int32_t count, const float* values, int64_t stride) {
  write_rows_part(*rows, row, num_rows, first, count, values, stride);
}

FC_API void fc_norm_rows(Pool* pool, const Norm* norm, int64_t num_rows) {
  run(pool, [&](const Worker& worker) {
    float* scratch = static_cast<float*>(worker.scratch(sizeof(float) * norm->width));
    worker.each(num_rows, [&](int64_t row) { norm_row(*norm, row, scratch); });
  });
}

FC_API void fc_rope_write(Pool* pool, const RopeWrite* rope) {
  run(pool, [&](const Worker& worker) {
    const StepRows& rows = *rope->rows;
    float* scratch =
        static_cast<float*>(worker.scratch(sizeof(float) * rope_scratch(*rope->shape)));
    worker.each(rows.num_rows, [&](int64_t row) {
      for (int32_t token = rows.row_starts[row]; token < rows.row_starts[row + 1]; token++)
        rope_write_token(*rope, static_cast<int32_t>(row), token, scratch);
    });
  });
}

FC_API void fc_rope_table(const int32_t* positions, int64_t num_tokens, const float* frequencies,
                          int32_t num_pairs, float* cosine, float* sine) {
  rope_table(positions, num_tokens, frequencies, num_pairs, cosine, sine);
}

FC_API void fc_embed(Pool* pool, const Embedding* embedding, const int32_t* token_ids,
                     int64_t num_tokens, float* out) {
  run(pool, [&](const Worker& worker) {
    worker.each(num_tokens, [&](int64_t token) {
      embed_token(*embedding, token_ids[token], out + token * embedding->width);
    });
  });
}

// `count` is a multiple of LANES.
FC_API void fc_activate(const float* gate, const float* up, int64_t count, int32_t activation,
                        float* out) {
  for (int64_t i = 0; i < count; i += LANES)
    store_f32(out + i, activate(load_f32(gate + i), load_f32(up + i),
                                static_cast<Activation>(activation)));
}
