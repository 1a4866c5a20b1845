// Functions of single numbers that several ops apply.
#pragma once

#include "cuda/seam.hpp"

namespace pyroberta {
namespace cuda {

// Φ(x) and φ(x): the normal distribution and its density. Φ is computed from the smaller tail.
__device__ __forceinline__ void normal(float x, float& cdf, float& density) {
    const float tail = 0.5f * erfcf(fabsf(x) * 0.707106781f);
    cdf = x < 0.0f ? tail : 1.0f - tail;
    density = expf(-0.5f * x * x) * 0.398942280f;
}

// x Φ(x), and its derivative Φ(x) + x φ(x). Far from 0, where x² is infinite, φ is 0.
__device__ __forceinline__ float gelu(float x) {
    float cdf, density;
    normal(x, cdf, density);
    return x * cdf;
}
__device__ __forceinline__ float gelu_slope(float x) {
    float cdf, density;
    normal(x, cdf, density);
    return cdf + x * density;
}

}  // namespace cuda
}  // namespace pyroberta
