// Shared by rows and by the heads of queries and keys.
#pragma once

#include <cstdint>

namespace furcate {

// out = x * (1 / sqrt(mean(x**2) + eps)) * (weight + offset); `out` may be x.
void normalise(const float* x, const float* weight, float eps, float offset, int32_t width,
               float* out);

}  // namespace furcate
