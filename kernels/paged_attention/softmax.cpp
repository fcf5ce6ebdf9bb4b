// From scores to weights: what stands between a panel's two products. Knows no pages.
//
// Several queries go side by side and every one over all strips of the tile, in registers: each one
// alone is a chain of operations that a processor would wait for.
#include <cmath>

#include "attention_dot.h"
#include "attention_split.h"
#include "vec.h"

namespace furcate {
namespace {

constexpr int SIDE_BY_SIDE = 4;  // queries; each with two strips at once
constexpr float LOG2_E = 1.44269504f;
constexpr float NO_POWER = -127.0f;

// 2**y for y <= 0, to be rounded to bfloat16: with a relative error of 1e-4, a twentieth of what
// the rounding adds. Exact at 0; from NO_POWER on it is zero, and subnormal a little above; a NaN
// stays one. As `power_of_two`, which needs more.
inline f32x16 weight_of(f32x16 y) {
  const f32x16 bounded = at_least(NO_POWER, y);  // a NaN passes through
  const f32x16 shifted = bounded + 12582912.0f;
  const f32x16 f = bounded - (shifted - 12582912.0f);
  f32x16 p = f * 0.055008948f + 0.242211f;
  p = p * f + 0.6932829f;
  p = p * f + 1.0f;
  return bits_f32((u32x16)p + ((u32x16)shifted << 23));
}

// tanh of the scores, whose error near 0 is that of a number near 1: it is multiplied by the cap.
inline f32x16 capped(f32x16 score, float scale, float cap) {
  const f32x16 x = score * (scale / cap);
  const f32x16 bounded = minimum(splat(40.0f), maximum(splat(-40.0f), x));  // a NaN passes through
  return (1.0f - 2.0f / (exponential(bounded * 2.0f) + 1.0f)) * cap;
}

void scale_scores(const Softmax& panel, KeyRange strips, float* scores) {
  for (int32_t at = strips.begin; panel.key_scales && at < strips.end; at += STRIP)
    store_f32(scores + at, load_f32(scores + at) * load_f32(panel.key_scales + at));
  for (int32_t at = strips.begin; panel.soft_cap > 0.0f && at < strips.end; at += STRIP)
    store_f32(scores + at, capped(load_f32(scores + at), panel.scale, panel.soft_cap));
}

// -inf for what the query does not see.
void hide(KeyRange range, KeyRange strips, float* scores) {
  i32x16 lanes;
  for (int lane = 0; lane < LANES; lane++) reinterpret_cast<int32_t*>(&lanes)[lane] = lane;
  for (int32_t at = strips.begin; at < strips.end; at += STRIP) {
    if (range.holds({at, at + STRIP})) continue;
    const i32x16 keys = lanes + at;
    const auto is_seen = (keys >= range.begin) & (keys < range.end);
    store_f32(scores + at, select(is_seen, load_f32(scores + at), splat(-INFINITY)));
  }
}

// The weights of two strips of a query; adds their sum to `sums`.
template <bool HAS_SCALES>
inline void weigh_two(const float* scores, const float* scales, float unit, f32x16 top,
                      uint32_t* weights, f32x16& sums) {
  f32x16 low = weight_of(load_f32(scores) * unit - top);
  f32x16 high = weight_of(load_f32(scores + STRIP) * unit - top);
  if (HAS_SCALES) {  // those of slots that nobody has written may be anything
    sums = (sums + low) + high;
    low = select(low == 0.0f, low, low * load_f32(scales));
    high = select(high == 0.0f, high, high * load_f32(scales + STRIP));
  }
  const Bf16Pairs pairs = store_rounded(weights, low, high);
  if (!HAS_SCALES) sums = add_products(sums, pairs, repeat_pair(0x3f803f80u));
}

// `strips`: keys from the first of an even strip to the last of an odd one, at least those two.
template <int R, bool HAS_SCALES>
inline void weigh_rows(const Softmax& panel, int32_t first, KeyRange strips, float unit) {
  const float* scores = panel.scores + first * SCORE_STRIDE;
  uint32_t* weights = panel.weights + first * PAIR_STRIDE;
  f32x16 largest[R], tops[R], sums[R];
  for (int r = 0; r < R; r++) largest[r] = splat(UNSEEN), sums[r] = f32x16{};
  int32_t at = strips.begin;
  do {
    for (int r = 0; r < R; r++) {
      const float* two = scores + r * SCORE_STRIDE + at;
      largest[r] = maximum(load_f32(two), largest[r]);
      largest[r] = maximum(load_f32(two + STRIP), largest[r]);
    }
  } while ((at += 2 * STRIP) < strips.end);
  for (int r = 0; r < R; r++) {
    const float raw = max_lanes(largest[r]), top = raw == UNSEEN ? UNSEEN : raw * unit;
    panel.results[first + r][panel.head_dim] = top;
    tops[r] = splat(top);
  }
  at = strips.begin;
  do {
    for (int r = 0; r < R; r++)
      weigh_two<HAS_SCALES>(scores + r * SCORE_STRIDE + at, panel.value_scales + at, unit, tops[r],
                            weights + r * PAIR_STRIDE + at / 2, sums[r]);
  } while ((at += 2 * STRIP) < strips.end);
  for (int r = 0; r < R; r++) panel.results[first + r][panel.head_dim + 1] = sum_lanes(sums[r]);
}

template <bool HAS_SCALES>
void weigh(const Softmax& panel, int32_t first, int32_t end, KeyRange strips, float unit) {
  for (; first + SIDE_BY_SIDE <= end; first += SIDE_BY_SIDE)
    weigh_rows<SIDE_BY_SIDE, HAS_SCALES>(panel, first, strips, unit);
  switch (end - first) {
    case 3: return weigh_rows<3, HAS_SCALES>(panel, first, strips, unit);
    case 2: return weigh_rows<2, HAS_SCALES>(panel, first, strips, unit);
    case 1: return weigh_rows<1, HAS_SCALES>(panel, first, strips, unit);
  }
}

}  // namespace

void softmax(const Softmax& panel, int32_t first, int32_t count) {
  const KeyRange strips{panel.tile.first_strip() / 2 * 2 * STRIP,
                        (panel.tile.end_strip() + 1) / 2 * 2 * STRIP};
  const float unit = panel.soft_cap > 0.0f ? LOG2_E : panel.scale * LOG2_E;
  for (int32_t n = first; n < first + count; n++) {
    float* scores = panel.scores + n * SCORE_STRIDE;
    scale_scores(panel, strips, scores);
    if (!panel.ranges[n].holds(strips)) hide(panel.ranges[n], strips, scores);
  }
  if (panel.value_scales)
    weigh<true>(panel, first, first + count, strips, unit);
  else
    weigh<false>(panel, first, first + count, strips, unit);
}

}  // namespace furcate
