// Gates of feed-forward layers, in registers.
#pragma once

#include "linear.h"
#include "vec.h"

namespace furcate {

// gate / (1 + e**-power). Gates below -88 count as -88, since e**88 is where the denominator is cut
// off; the quotient is zero for every purpose there. A NaN stays one.
inline f32x16 gated_by(f32x16 gate, f32x16 power) {
  return maximum(splat(-88.0f), gate) / (exponential(-power) + 1.0f);
}

inline f32x16 silu(f32x16 gate) { return gated_by(gate, gate); }

// gate / 2 * (1 + tanh(u)) with u = sqrt(2 / pi) * (gate + 0.044715 gate**3), which is
// gate / (1 + e**(-2 u)).
inline f32x16 gelu_tanh(f32x16 gate) {
  const f32x16 inner = gate + gate * gate * gate * 0.044715f;
  return gated_by(gate, inner * 1.5957691216057308f);
}

inline f32x16 activate(f32x16 gate, f32x16 up, Activation activation) {
  return (activation == Activation::silu ? silu(gate) : gelu_tanh(gate)) * up;
}

}  // namespace furcate
