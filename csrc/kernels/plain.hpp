// Some ops as the plain loops of their definitions, to be read beside the kernels: what these compute, before it is
// made fast. Nothing calls them but benchmarks/ladder.cpp, which compares the kernels with them and times both.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "types.hpp"

namespace pyroberta {
namespace plain {

// gemm.cpp: c (rows, columns) = a b, or c += a b
template <typename T>
void gemm(Factor<T> a, Factor<T> b, std::int64_t rows, std::int64_t columns, std::int64_t depth, T* c,
          bool accumulate) {
    for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = 0; j < columns; ++j) {
            T sum = accumulate ? c[i * columns + j] : T(0);
            for (std::int64_t p = 0; p < depth; ++p) {
                sum += a.data[i * a.row_step + p * a.depth_step] * b.data[j * b.row_step + p * b.depth_step];
            }
            c[i * columns + j] = sum;
        }
    }
}

// gelu.cpp: y = x Φ(x), where Φ(x) = (1 + erf(x / √2)) / 2
template <typename T>
T gelu(T x) {
    return T(0.5) * x * (T(1) + std::erf(x * T(0.70710678118654752)));
}

// feed_forward.cpp: f = x kernel + bias, g = gelu(f)
template <typename T>
void expand_forward(const T* x,       // (N, I)
                    const T* kernel,  // (I, F)
                    const T* bias,    // (F,)
                    std::int64_t N, std::int64_t I, std::int64_t F,
                    T* f,    // (N, F)
                    T* g) {  // (N, F)
    gemm(rows_of(x, I), columns_of(kernel, F), N, F, I, f, false);
    for (std::int64_t n = 0; n < N; ++n) {
        for (std::int64_t k = 0; k < F; ++k) {
            f[n * F + k] += bias[k];
            g[n * F + k] = gelu(f[n * F + k]);
        }
    }
}

// p (S,) of query row i and head h, in a sequence whose keys begin at row `start`: softmax(q kᵀ / √D).
template <typename T>
void probabilities(const T* q, const T* k, std::int64_t i, std::int64_t h, std::int64_t start, std::int64_t S,
                   std::int64_t H, std::int64_t D, T* p) {
    const std::int64_t C = H * D;
    T max = -std::numeric_limits<T>::infinity(), sum = 0;
    for (std::int64_t j = 0; j < S; ++j) {
        T score = 0;
        for (std::int64_t d = 0; d < D; ++d) score += q[i * C + h * D + d] * k[(start + j) * C + h * D + d];
        p[j] = score / std::sqrt(static_cast<T>(D));
        max = std::max(max, p[j]);
    }
    for (std::int64_t j = 0; j < S; ++j) sum += p[j] = std::exp(p[j] - max);
    for (std::int64_t j = 0; j < S; ++j) p[j] /= sum;
}

// attention_forward.cpp, without dropout and with all rows as query rows: y = softmax(q kᵀ / √D) v
template <typename T>
void attention_forward(const T* q, const T* k, const T* v,          // (N, C)
                       const std::int32_t* starts, std::int64_t B,  // (B+1,)
                       std::int64_t H, std::int64_t D,              // C = H · D
                       T* y) {                                      // (N, C)
    const std::int64_t C = H * D;
    std::vector<T> p;
    for (std::int64_t b = 0; b < B; ++b) {
        const std::int64_t start = starts[b], S = starts[b + 1] - start;
        p.resize(static_cast<std::size_t>(S));
        for (std::int64_t h = 0; h < H; ++h) {
            for (std::int64_t i = start; i < start + S; ++i) {
                probabilities(q, k, i, h, start, S, H, D, p.data());
                for (std::int64_t d = 0; d < D; ++d) {
                    T sum = 0;
                    for (std::int64_t j = 0; j < S; ++j) sum += p[j] * v[(start + j) * C + h * D + d];
                    y[i * C + h * D + d] = sum;
                }
            }
        }
    }
}

// attention_backward.cpp, without dropout and with all rows as query rows: dq, dk, dv from dy
template <typename T>
void attention_backward(const T* dy, const T* q, const T* k, const T* v,  // (N, C)
                        const std::int32_t* starts, std::int64_t B,       // (B+1,)
                        std::int64_t H, std::int64_t D,                   // C = H · D
                        T* dq, T* dk, T* dv) {                            // (N, C)
    const std::int64_t C = H * D, N = starts[B];
    const T scale = T(1) / std::sqrt(static_cast<T>(D));
    for (T* gradient : {dq, dk, dv}) std::fill_n(gradient, N * C, T(0));
    std::vector<T> p, dp;
    for (std::int64_t b = 0; b < B; ++b) {
        const std::int64_t start = starts[b], S = starts[b + 1] - start;
        p.resize(static_cast<std::size_t>(S));
        dp.resize(static_cast<std::size_t>(S));
        for (std::int64_t h = 0; h < H; ++h) {
            for (std::int64_t i = start; i < start + S; ++i) {
                const std::int64_t row = i * C + h * D;
                probabilities(q, k, i, h, start, S, H, D, p.data());
                T delta = 0;  // Σ_j p·dp
                for (std::int64_t j = 0; j < S; ++j) {
                    const std::int64_t key = (start + j) * C + h * D;
                    dp[j] = 0;
                    for (std::int64_t d = 0; d < D; ++d) {
                        dp[j] += dy[row + d] * v[key + d];  // forward: y = p v
                        dv[key + d] += p[j] * dy[row + d];  // forward: y = p v
                    }
                    delta += p[j] * dp[j];
                }
                for (std::int64_t j = 0; j < S; ++j) {
                    const std::int64_t key = (start + j) * C + h * D;
                    const T dscore = p[j] * (dp[j] - delta) * scale;  // forward: p = softmax(q kᵀ / √D)
                    for (std::int64_t d = 0; d < D; ++d) {
                        dq[row + d] += dscore * k[key + d];
                        dk[key + d] += dscore * q[row + d];
                    }
                }
            }
        }
    }
}

}  // namespace plain
}  // namespace pyroberta
