// What is done to gradients; pyroberta/ops/adam.py is the reference.
#include "cuda/device.hpp"
#include "cuda/launchers.hpp"

namespace pyroberta::cuda::launchers {
namespace {

struct Accumulate {
    float* total;
    const float* gradient;
    __device__ void operator()(std::int64_t i) const { total[i] += gradient[i]; }
};

struct Adam {
    float* w;
    const float* g;
    float *m, *v;
    float learning_rate, rise_1, rise_2, epsilon;
    const double* scale;
    float decay;
    const std::int32_t* is_finite;

    __device__ void operator()(std::int64_t i) const {
        if (!*is_finite) return;
        const float slope = g[i] * float(*scale), rest = w[i] - w[i] * decay;
        const float first = m[i] + (slope - m[i]) * rise_1, second = v[i] + (slope * slope - v[i]) * rise_2;
        m[i] = first;
        v[i] = second;
        w[i] = rest - first / (sqrtf(second) + epsilon) * learning_rate;
    }
};

}  // namespace

void accumulate(Context& context, float* total, const float* gradient, std::int64_t size) {
    for_each(context, "accumulate", size, Accumulate{total, gradient});
}

void adam_step(Context& context, float* w, const float* g, float* m, float* v, std::int64_t P, float learning_rate,
               float rise_1, float rise_2, float epsilon, const double* scale, float decay,
               const std::int32_t* is_finite) {
    for_each(context, "adam_step", P,
             Adam{w, g, m, v, learning_rate, rise_1, rise_2, epsilon, scale, decay, is_finite});
}

}  // namespace pyroberta::cuda::launchers
