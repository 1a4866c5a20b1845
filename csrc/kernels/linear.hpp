// Linear layers and the feed-forward; pyroberta/ops/linear.py, gelu.py and feed_forward.py are the references.
#pragma once

#include "kernels/gemm.hpp"
#include "kernels/math.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

template <typename T>
void product(Factor<T> a, Factor<T> b, std::int64_t rows, std::int64_t columns, std::int64_t depth, T* c, bool add) {
    gemm(a, b, rows, columns, depth, c, columns, add, [](std::int64_t, std::int64_t, std::int64_t, std::int64_t) {});
}

template <typename T>
void prepare_kernel(const T* kernel,  // (I, O)
                    std::int64_t I, std::int64_t O,
                    T* prepared) {  // (prepared_size(O, I),)
    prepare(columns_of(kernel, O), O, I, prepared);
}

// y[i, j : j_end] += bias[j : j_end] for the rows [i, i_end)
template <typename T>
PYROBERTA_INLINE void add_bias(T* y, std::int64_t step, const T* bias, std::int64_t i, std::int64_t i_end, std::int64_t j,
                               std::int64_t j_end) {
    for (; i < i_end; ++i) {
        T* PYROBERTA_RESTRICT row = y + i * step;
        for (std::int64_t k = j; k < j_end; ++k) row[k] += bias[k];
    }
}

// y (N, O) = x (N, I) kernel, then the epilogue on each part
template <typename T, typename Epilogue>
void times_kernel(const T* x, Kernel<T> kernel, std::int64_t N, std::int64_t I, std::int64_t O, T* y,
                  const Epilogue& epilogue) {
    if (kernel.is_prepared) {
        gemm(rows_of(x, I), Prepared<T>{kernel.data}, N, O, I, y, O, false, epilogue);
    } else {
        gemm(rows_of(x, I), columns_of(kernel.data, O), N, O, I, y, O, false, epilogue);
    }
}

template <typename T>
void linear_forward(const T* x,        // (N, I)
                    Kernel<T> kernel,  // (I, O)
                    const T* bias,     // (O,)
                    std::int64_t N, std::int64_t I, std::int64_t O,
                    T* y) {  // (N, O)
    times_kernel(x, kernel, N, I, O, y,
         [=](std::int64_t i, std::int64_t i_end, std::int64_t j, std::int64_t j_end) {
             add_bias(y, O, bias, i, i_end, j, j_end);
         });
}

template <typename T>
void column_sums(const T* x,  // (N, C)
                 std::int64_t N, std::int64_t C,
                 T* sums) {  // (C,)
    constexpr std::int64_t BLOCK = 256;  // columns; a thread adds up all their rows, so the order is always the same
    parallel((C + BLOCK - 1) / BLOCK, threads_for(double(N) * C / NUMBERS_PER_THREAD), [=](std::int64_t task, int) {
        const std::int64_t j = task * BLOCK, count = std::min(BLOCK, C - j);
        // Four rows at a time, each into a sum of its own: the error grows with N/4, and additions do not wait.
        T parts[4][BLOCK] = {};
        for (std::int64_t n = 0; n < N; ++n) {
            T* PYROBERTA_RESTRICT part = parts[n % 4];
            const T* PYROBERTA_RESTRICT row = x + n * C + j;
            for (std::int64_t k = 0; k < count; ++k) part[k] += row[k];
        }
        for (std::int64_t k = 0; k < count; ++k) sums[j + k] = (parts[0][k] + parts[1][k]) + (parts[2][k] + parts[3][k]);
    });
}

template <typename T>
void gelu_forward(const T* x, std::int64_t size, T* y, T* slope) {  // (size,) each
    constexpr std::int64_t UNIT = 64;  // whole registers and cache lines
    const auto some = [=](std::int64_t first, std::int64_t last) {
        for_registers<T>(last - first, [=](std::int64_t k, int count) {
            Vector<T> value, derivative;
            gelu<T>(load(x + first + k, count), value, derivative);
            store(y + first + k, value, count);
            store(slope + first + k, derivative, count);
        });
    };
    parallel_ranges(size, 1.0, some, UNIT);
}

// The first half of the feed-forward. GELU is done to each part of f when the product has just made it.
template <typename T>
void expand_forward(const T* x,        // (N, I)
                    Kernel<T> kernel,  // (I, F)
                    const T* bias,     // (F,)
                    std::int64_t N, std::int64_t I, std::int64_t F,
                    T* f,    // (N, F)
                    T* g) {  // (N, F)
    times_kernel(x, kernel, N, I, F, f,
         [=](std::int64_t i, std::int64_t i_end, std::int64_t j, std::int64_t j_end) {
             for (; i < i_end; ++i) {
                 for_registers<T>(j_end - j, [=](std::int64_t k, int count) {
                     const std::int64_t at = i * F + j + k;
                     const Vector<T> before = load(f + at, count) + load(bias + j + k, count);
                     Vector<T> value, derivative;
                     gelu<T>(before, value, derivative);
                     store(f + at, before, count);
                     store(g + at, value, count);
                 });
             }
         });
}

template <typename T>
void expand_backward(const T* dh,      // (N, O)
                     const T* kernel,  // (F, O)
                     std::int64_t N, std::int64_t F, std::int64_t O,
                     T* f,     // (N, F), which becomes g
                     T* df) {  // (N, F)
    gemm(rows_of(dh, O), rows_of(kernel, O), N, F, O, df, F, false,  // forward: h = g @ kernel
         [=](std::int64_t i, std::int64_t i_end, std::int64_t j, std::int64_t j_end) {
             for (; i < i_end; ++i) {
                 for_registers<T>(j_end - j, [=](std::int64_t k, int count) {
                     const std::int64_t at = i * F + j + k;
                     Vector<T> value, derivative;
                     gelu<T>(load(f + at, count), value, derivative);
                     store(f + at, value, count);
                     store(df + at, load(df + at, count) * derivative, count);  // forward: g = gelu(f)
                 });
             }
         });
}

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
