// What layer norm and add and norm share: a row is normalised.
#pragma once

#include "kernels/math.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

// Σ value(k) over a row of C, in four registers: value(k, count) gives the numbers k … k + count - 1.
template <typename T, typename Value>
PYROBERTA_INLINE T row_sum(std::int64_t C, const Value& value) {
    constexpr int W = WIDTH<T>;
    Vector<T> parts[4] = {};
    std::int64_t k = 0;
    for (; k + 4 * W <= C; k += 4 * W) {
        for (int part = 0; part < 4; ++part) parts[part] += value(k + part * W, W);
    }
    for (; k + W <= C; k += W) parts[0] += value(k, W);
    if (k < C) parts[1] += value(k, static_cast<int>(C - k));  // zeros in the rest of the register
    return sum<T>((parts[0] + parts[1]) + (parts[2] + parts[3]));
}

// x_hat holds a row of x and is normalised in place; y = gamma · x_hat + beta. Returns 1 / √(variance + epsilon).
template <typename T>
PYROBERTA_INLINE T normalise(T* PYROBERTA_RESTRICT x_hat, const T* gamma, const T* beta, T epsilon, std::int64_t C,
                             T* PYROBERTA_RESTRICT y) {
    const T mean = row_sum<T>(C, [=](std::int64_t k, int count) { return load(x_hat + k, count); }) / T(C);
    for (std::int64_t k = 0; k < C; ++k) x_hat[k] -= mean;
    const T variance = row_sum<T>(C, [=](std::int64_t k, int count) {
                           const Vector<T> centred = load(x_hat + k, count);
                           return centred * centred;
                       }) / T(C);
    const T inverse_std = T(1) / T(__builtin_sqrt(variance + epsilon));
    for (std::int64_t k = 0; k < C; ++k) {
        x_hat[k] *= inverse_std;
        y[k] = x_hat[k] * gamma[k] + beta[k];
    }
    return inverse_std;
}

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
