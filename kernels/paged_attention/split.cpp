// One split: the scores of a few queries, their softmax, the weighted sum of the values.
//
// A query's result depends on its own vector and on the keys and values that it sees. Whatever else
// is in its tile adds weights of exactly zero; where those would meet numbers that are not finite,
// the query is computed again without them. Slots that nobody has written are never read as numbers.
#include "attention_split.h"

#include <algorithm>
#include <utility>

#include "attention_dot.h"
#include "vec.h"

namespace furcate {
namespace {

constexpr int32_t MAX_STRIPS = SPLIT / STRIP;
constexpr int32_t QUERIES_AT_ONCE = 4;  // weighed
constexpr int MAX_AHEAD = 6;  // queries: more of them are busy enough without looking ahead
constexpr int32_t MAX_SEGMENTS = MAX_STRIPS + 2;

struct Segment {  // pairs of slots with their values one after the other
  const uint32_t* values;
  int32_t first_pair, num_pairs;
  const char* ahead;  // lines to fetch, one for each that is read; or null
};

// Memory answers while something is computed, but only a few dozen lines at once: so, with AHEAD,
// each line that is read asks for one of those that come next, instead of many at a time.

// scores [R, strips]: sixteen keys to a register, the pairs of dimensions ascending.
template <int R, int C, bool AHEAD>
void score_tile(const uint32_t* q, const uint32_t* const* strips, const char* const* ahead,
                int32_t num_pairs, float* scores) {
  f32x16 sums[R][C] = {};
  const uint32_t* keys[C];
  for (int c = 0; c < C; c++) keys[c] = strips[c];
  for (int32_t pair = 0; pair < num_pairs; pair++) {
    Bf16Pairs k[C];
    for (int c = 0; c < C; c++) k[c] = load_pairs(keys[c] + pair * STRIP);
    for (int c = 0; AHEAD && c < C; c++) prefetch(ahead[c] + pair * LINE_BYTES);
    for (int r = 0; r < R; r++) {
      const Bf16Pairs element = repeat_pair(q[r * PAIR_STRIDE + pair]);
      for (int c = 0; c < C; c++) sums[r][c] = add_products(sums[r][c], element, k[c]);
    }
  }
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++) store_f32(scores + r * SCORE_STRIDE + c * STRIP, sums[r][c]);
}

// `ahead`: for each strip one of what comes next; or null.
template <int R>
void score_panel(const uint32_t* q, const uint32_t* const* strips, const char* const* ahead,
                 int32_t num_strips, int32_t num_pairs, float* scores) {
  int32_t strip = 0;
  const auto all_of = [&](auto columns) {
    constexpr int C = decltype(columns)::value;
    if constexpr (R * C <= ACCUMULATORS)
      for (; strip + C <= num_strips; strip += C)
        if (R <= MAX_AHEAD && ahead)
          score_tile<R, C, R <= MAX_AHEAD>(q, strips + strip, ahead + strip, num_pairs,
                                           scores + strip * STRIP);
        else
          score_tile<R, C, false>(q, strips + strip, nullptr, num_pairs, scores + strip * STRIP);
  };
  all_of(std::integral_constant<int, 8>());
  all_of(std::integral_constant<int, 4>());
  all_of(std::integral_constant<int, 2>());
  all_of(std::integral_constant<int, 1>());
}

// results [R, dims]: sixteen dimensions to a register, the pairs of keys ascending.
template <int R, int C, bool AHEAD>
void value_tile(const uint32_t* weights, const Segment* segments, int32_t num_segments,
                int32_t head_dim, int32_t dim, float* const* results) {
  f32x16 sums[R][C] = {};
  for (int32_t n = 0; n < num_segments; n++) {
    const uint32_t* values = segments[n].values + dim;
    const uint32_t* pairs = weights + segments[n].first_pair;
    const char* ahead = segments[n].ahead + dim * sizeof(uint32_t);
    for (int32_t left = segments[n].num_pairs; left > 0; left--, values += head_dim, pairs++) {
      Bf16Pairs v[C];
      for (int c = 0; c < C; c++) v[c] = load_pairs(values + c * LANES);
      for (int c = 0; AHEAD && c < C; c++) prefetch(ahead + c * LINE_BYTES);
      ahead += AHEAD ? head_dim * sizeof(uint32_t) : 0;
      for (int r = 0; r < R; r++) {
        const Bf16Pairs weight = repeat_pair(pairs[r * PAIR_STRIDE]);
        for (int c = 0; c < C; c++) sums[r][c] = add_products(sums[r][c], weight, v[c]);
      }
    }
  }
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++) store_f32(results[r] + dim + c * LANES, sums[r][c]);
}

template <int R>
void value_panel(const uint32_t* weights, const Segment* segments, int32_t num_segments,
                 int32_t head_dim, float* const* results) {
  int32_t dim = 0;
  const auto all_of = [&](auto columns) {
    constexpr int C = decltype(columns)::value;
    if constexpr (R * C <= ACCUMULATORS)
      for (; dim + C * LANES <= head_dim; dim += C * LANES)
        if (R <= MAX_AHEAD && segments[0].ahead)
          value_tile<R, C, R <= MAX_AHEAD>(weights, segments, num_segments, head_dim, dim, results);
        else
          value_tile<R, C, false>(weights, segments, num_segments, head_dim, dim, results);
  };
  all_of(std::integral_constant<int, 8>());
  all_of(std::integral_constant<int, 4>());
  all_of(std::integral_constant<int, 2>());
  all_of(std::integral_constant<int, 1>());
}

using ScorePanel = void (*)(const uint32_t*, const uint32_t* const*, const char* const*, int32_t,
                            int32_t, float*);
using ValuePanel = void (*)(const uint32_t*, const Segment*, int32_t, int32_t, float* const*);
struct Panels {
  ScorePanel scores[PANEL];
  ValuePanel values[PANEL];
};
template <int... N>
constexpr Panels make_panels(std::integer_sequence<int, N...>) {
  return {{score_panel<N + 1>...}, {value_panel<N + 1>...}};
}
constexpr Panels PANELS = make_panels(std::make_integer_sequence<int, PANEL>());

// The slots of one split of one kv head, read as bfloat16.
class SplitPages {
 public:
  SplitPages(const Attention& attention, const int32_t* page_ids, int32_t head, KeyRange range,
             SplitWork& work)
      : shape_(*attention.shape), pages_(*attention.pages), ids_(page_ids), head_(head),
        range_(range), work_(work), is_int8_(shape_.type == KVType::int8),
        page_bits_(__builtin_ctz(shape_.page_size)) {
    if (range.empty()) return;
    for (int32_t page = range.begin >> page_bits_; page << page_bits_ < range.end; page++) {
      const int64_t at = is_int8_ ? page * shape_.page_size * shape_.head_dim : offset(page);
      const void* keys = is_int8_ ? work.keys : pages_.keys;
      const void* values = is_int8_ ? work.values : pages_.values;
      keys_[page] = pairs(static_cast<const uint16_t*>(keys) + at);
      values_[page] = pairs(static_cast<const uint16_t*>(values) + at);
    }
    if (is_int8_) expand(pages_.keys, work_.keys, pages_.key_scales, work_.key_scales);
  }

  const uint32_t* strip(int32_t n) const {
    const int32_t slot = n * STRIP;
    return keys_[slot >> page_bits_] + (slot & (shape_.page_size - 1)) * shape_.head_dim / 2;
  }

  // Before the first look at values.
  void prepare_values() {
    if (is_int8_ && !has_values_)
      expand(pages_.values, work_.values, pages_.value_scales, work_.value_scales);
    has_values_ = true;
  }

  const float* key_scales() const { return is_int8_ ? work_.key_scales : nullptr; }

  // Wanted with the weights: earlier than the values.
  const float* value_scales() {
    if (is_int8_) prepare_values();
    return is_int8_ ? work_.value_scales : nullptr;
  }

  // The values of `range` in order, halves outside of it being zeros; with strips of what comes
  // next for each strip of the range, or null.
  int32_t segments(KeyRange range, const char* const* ahead, Segment* segments) const {
    const int32_t count = segments_of(range, segments);
    for (int32_t n = 0; n < count; n++) {
      const int32_t pair = segments[n].first_pair, strip = pair / (STRIP / 2);
      segments[n].ahead =
          ahead ? ahead[strip - range.first_strip()] +
                      (pair % (STRIP / 2)) * shape_.head_dim * static_cast<int32_t>(sizeof(uint32_t))
                : nullptr;
    }
    return count;
  }

 private:
  int32_t segments_of(KeyRange range, Segment* segments) const {
    const int32_t page_pairs = shape_.page_size / 2;  // a power of two
    int32_t count = 0, first = range.begin / 2;
    const int32_t end = range.end / 2;  // pairs that are whole at their end
    if (range.begin % 2) {
      segments[count++] = {edge(0, first, 0xffff0000u), first, 1, nullptr};
      first++;
    }
    for (int32_t next; first < end; first = next) {
      next = std::min(end, (first | (page_pairs - 1)) + 1);
      segments[count++] = {value_pair(first), first, next - first, nullptr};
    }
    if (range.end % 2) segments[count++] = {edge(1, end, 0x0000ffffu), end, 1, nullptr};
    return count;
  }

  static const uint32_t* pairs(const uint16_t* elements) {
    return reinterpret_cast<const uint32_t*>(elements);
  }

  int64_t offset(int32_t page) const { return page_offset(shape_, ids_[page], head_); }

  const uint32_t* value_pair(int32_t pair) const {
    const int32_t slot = pair * 2;
    return values_[slot >> page_bits_] + (slot & (shape_.page_size - 1)) / 2 * shape_.head_dim;
  }

  const uint32_t* edge(int32_t which, int32_t pair, uint32_t mask) const {
    uint32_t* to = work_.edges + which * shape_.head_dim;
    const uint32_t* from = value_pair(pair);
    for (int32_t dim = 0; dim < shape_.head_dim; dim++) to[dim] = from[dim] & mask;
    return to;
  }

  void expand(const void* codes, uint16_t* elements, const float* from_scales, float* scales) {
    const int32_t size = shape_.page_size, head_dim = shape_.head_dim;
    const int32_t first = range_.begin / size, end = (range_.end + size - 1) / size;
    for (int32_t page = first; page < end; page++) {
      if (work_.ahead) work_.ahead->fetch(work_.ahead->num_lines() / (end - first) + 1);
      const int32_t slot = page * size;
      const int32_t count = std::min(size, range_.end_strip() * STRIP - slot) * head_dim;
      widen(static_cast<const int8_t*>(codes) + offset(page), count, elements + slot * head_dim);
      std::copy_n(from_scales + scale_offset(shape_, ids_[page], head_), size, scales + slot);
    }
    if (work_.ahead) work_.ahead->next();
  }

  static void widen(const int8_t* from, int32_t count, uint16_t* to) {
    for (int32_t i = 0; i < count; i += 2 * LANES) widen_pairs(from + i, to + i);
  }

  const KVShape& shape_;
  const KVPages& pages_;
  const int32_t* ids_;
  const int32_t head_;
  const KeyRange range_;
  SplitWork& work_;
  const bool is_int8_;
  const int32_t page_bits_;
  bool has_values_ = false;
  const uint32_t* keys_[MAX_STRIPS];  // of each page in `range`
  const uint32_t* values_[MAX_STRIPS];
};

bool all_finite(const float* values, int32_t count) {
  f32x16 zeros{};
  for (int32_t i = 0; i < count; i += LANES) zeros = zeros + load_f32(values + i) * 0.0f;
  return sum_lanes(zeros) == 0.0f;
}

// A panel of the tile: queries first .. first + count - 1.
class Panel {
 public:
  Panel(const Attention& attention, SplitPages& pages, SplitWork& work, int32_t first,
        int32_t count, const KeyRange* ranges)
      : attention_(attention), pages_(pages), work_(work), first_(first), count_(count),
        ranges_(ranges + first), head_dim_(attention.shape->head_dim),
        ahead_(first == 0 && attention.shape->type == KVType::bf16 ? work.ahead : nullptr) {
    tile_ = {SPLIT, 0};
    for (int32_t n = 0; n < count; n++) {
      if (ranges_[n].empty()) continue;
      tile_.begin = std::min(tile_.begin, ranges_[n].begin);
      tile_.end = std::max(tile_.end, ranges_[n].end);
    }
  }

  void attend() {
    if (!tile_.empty()) {
      score();
      weigh();
      multiply();
    }
    for (int32_t n = 0; n < count_ && tile_.empty(); n++) {
      result(n)[head_dim_] = UNSEEN;
      result(n)[head_dim_ + 1] = 0.0f;
    }
  }

 private:
  float* result(int32_t n) const { return work_.results[first_ + n]; }
  uint32_t* weights(int32_t n) const { return work_.weights + n * PAIR_STRIDE; }

  void score() {
    const uint32_t* strips[MAX_STRIPS];
    const int32_t first = tile_.first_strip(), count = tile_.end_strip() - first;
    for (int32_t n = 0; n < count; n++) strips[n] = pages_.strip(first + n);
    const char* const* ahead = look_ahead();
    PANELS.scores[count_ - 1](work_.q + first_ * PAIR_STRIDE, strips, ahead, count, head_dim_ / 2,
                              work_.scores + first * STRIP);
  }

  // Strips of the half that comes next, for each strip of the tile.
  const char* const* look_ahead() {
    if (!ahead_) return nullptr;
    if (count_ > MAX_AHEAD) {
      ahead_->next();
      return nullptr;
    }
    const int32_t count = tile_.end_strip() - tile_.first_strip();
    ahead_->hand_out(count, reinterpret_cast<const char*>(work_.scores), next_);
    ahead_->next();
    return next_;
  }

  void weigh() {
    const Softmax panel{tile_,
                        ranges_,
                        work_.scores,
                        work_.weights,
                        work_.results + first_,
                        head_dim_,
                        attention_.scale,
                        attention_.soft_cap,
                        pages_.key_scales(),
                        pages_.value_scales()};
    for (int32_t n = 0; n < count_; n += QUERIES_AT_ONCE)
      softmax(panel, n, std::min(QUERIES_AT_ONCE, count_ - n));
  }

  void multiply() {
    Segment segments[MAX_SEGMENTS];
    const int32_t num_segments = pages_.segments(tile_, look_ahead(), segments);
    PANELS.values[count_ - 1](weights(0), segments, num_segments, head_dim_,
                              work_.results + first_);
    for (int32_t n = 0; n < count_; n++) {
      if (ranges_[n].empty() || !(ranges_[n] != tile_) || all_finite(result(n), head_dim_))
        continue;
      const int32_t own_segments = pages_.segments(ranges_[n], nullptr, segments);
      PANELS.values[0](weights(n), segments, own_segments, head_dim_, work_.results + first_ + n);
    }
  }

  const Attention& attention_;
  SplitPages& pages_;
  SplitWork& work_;
  const int32_t first_, count_;
  const KeyRange* ranges_;
  const int32_t head_dim_;
  ReadAhead* ahead_;  // bfloat16, once a split; int8 does this as it widens
  KeyRange tile_;
  const char* next_[MAX_STRIPS];
};

KeyRange seen_keys(int32_t position, int32_t window, int32_t split) {
  const int32_t start = split * SPLIT;
  const int32_t end = std::min(position + 1 - start, SPLIT);
  const int32_t begin = window > 0 ? position + 1 - window - start : 0;
  return {std::max(begin, 0), end};
}

}  // namespace

void attend_split(const Attention& attention, const int32_t* page_ids, int32_t head, int32_t split,
                  SplitWork& work) {
  KeyRange ranges[MAX_QUERIES], all{SPLIT, 0};
  for (int32_t n = 0; n < work.count; n++) {
    ranges[n] = seen_keys(work.positions[n], attention.window, split);
    if (ranges[n].empty()) continue;
    all.begin = std::min(all.begin, ranges[n].begin);
    all.end = std::max(all.end, ranges[n].end);
  }
  SplitPages pages(attention, page_ids, head, all, work);
  const int32_t num_panels = (work.count + PANEL - 1) / PANEL;
  for (int32_t panel = 0; panel < num_panels; panel++) {
    const int32_t first = work.count * panel / num_panels;
    const int32_t end = work.count * (panel + 1) / num_panels;
    Panel(attention, pages, work, first, end - first, ranges).attend();
  }
}

}  // namespace furcate
