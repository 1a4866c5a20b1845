// Adam's update on a flat vector; pyroberta/ops/adam.py is the reference.
//
// Every element goes through the reference's operations in the reference's order, and this file is compiled without
// contraction into fused multiply-adds: the result is the reference's to the last bit, on any machine and for any
// number of threads. It reads and writes memory faster than it computes, so a fused multiply-add would buy nothing.
#include <algorithm>
#include <cmath>

#include "multiversion.hpp"
#include "ops.hpp"

namespace pyroberta {
namespace {

constexpr std::int64_t CHUNK = 1 << 14;     // elements that a thread takes at a time
constexpr std::int64_t PARALLEL = 1 << 21;  // below, half a millisecond's work, waking a thread costs more than it saves

template <typename T>
PYROBERTA_INLINE void step(T* PYROBERTA_RESTRICT w,        // (size,) in place
                           const T* PYROBERTA_RESTRICT g,  // (size,)
                           T* PYROBERTA_RESTRICT m,        // (size,) in place
                           T* PYROBERTA_RESTRICT v,        // (size,) in place
                           std::int64_t size, T learning_rate, T take_1, T take_2, T epsilon) {
    for (std::int64_t i = 0; i < size; ++i) {
        m[i] += (g[i] - m[i]) * take_1;
        v[i] += (g[i] * g[i] - v[i]) * take_2;
        w[i] -= m[i] / (std::sqrt(v[i]) + epsilon) * learning_rate;
    }
}

// Two plain functions, since a template cannot be cloned.
PYROBERTA_CLONES void step_of(float* w, const float* g, float* m, float* v, std::int64_t size, float learning_rate,
                              float take_1, float take_2, float epsilon) {
    step(w, g, m, v, size, learning_rate, take_1, take_2, epsilon);
}

PYROBERTA_CLONES void step_of(double* w, const double* g, double* m, double* v, std::int64_t size,
                              double learning_rate, double take_1, double take_2, double epsilon) {
    step(w, g, m, v, size, learning_rate, take_1, take_2, epsilon);
}

}  // namespace

template <typename T>
void adam_step(T* w, const T* g, T* m, T* v, std::int64_t P, double learning_rate, double beta_1, double beta_2,
               double epsilon) {
    const T rate = static_cast<T>(learning_rate), eps = static_cast<T>(epsilon);
    const T take_1 = static_cast<T>(1.0 - beta_1), take_2 = static_cast<T>(1.0 - beta_2);
    // The loop over elements is a function of its own: OpenMP moves a parallel body out of reach of the clones.
#pragma omp parallel for schedule(dynamic) if (P > PARALLEL)
    for (std::int64_t start = 0; start < P; start += CHUNK) {
        const std::int64_t size = std::min(CHUNK, P - start);
        step_of(w + start, g + start, m + start, v + start, size, rate, take_1, take_2, eps);
    }
}

template void adam_step(float*, const float*, float*, float*, std::int64_t, double, double, double, double);
template void adam_step(double*, const double*, double*, double*, std::int64_t, double, double, double, double);

}  // namespace pyroberta
