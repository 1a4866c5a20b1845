// Rows by number: gather, its way back, and embedding; pyroberta/ops/gather.py and embedding.py are the references.
#pragma once

#include "simd.hpp"
#include "threads.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

template <typename T>
void gather_forward(const T* x, const std::int32_t* rows,  // (N, C), (M,)
                    std::int64_t M, std::int64_t C,
                    T* y) {  // (M, C)
    for (std::int64_t m = 0; m < M; ++m) std::memcpy(y + m * C, x + rows[m] * C, C * sizeof(T));
}

template <typename T>
void embedding_forward(const std::int32_t* ids, const std::int32_t* positions,  // (N,)
                       const T* tokens, const T* rows,                          // (V, C), (T, C)
                       std::int64_t N, std::int64_t C,
                       T* y) {  // (N, C)
    const int threads = threads_for(double(N) * C / NUMBERS_PER_THREAD);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (std::int64_t n = 0; n < N; ++n) {
        T* PYROBERTA_RESTRICT y_row = y + n * C;
        const T* PYROBERTA_RESTRICT token = tokens + ids[n] * C;
        const T* PYROBERTA_RESTRICT position = rows + positions[n] * C;
        for (std::int64_t k = 0; k < C; ++k) y_row[k] = token[k] + position[k];
    }
}

// x[rows[m]] += dy[m]. Each thread has columns of its own and takes the rows in their order: no two meet.
template <typename T>
void scatter_add(const T* dy, const std::int32_t* rows,  // (M, C), (M,)
                 std::int64_t M, std::int64_t C,
                 T* x) {  // (N, C) in place
    constexpr std::int64_t BLOCK = 384;  // columns
    const int threads = threads_for(double(M) * C / NUMBERS_PER_THREAD);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (std::int64_t j = 0; j < C; j += BLOCK) {
        const std::int64_t count = j + BLOCK < C ? BLOCK : C - j;
        for (std::int64_t m = 0; m < M; ++m) {
            T* PYROBERTA_RESTRICT to = x + rows[m] * C + j;
            const T* PYROBERTA_RESTRICT row = dy + m * C + j;
            for (std::int64_t k = 0; k < count; ++k) to[k] += row[k];
        }
    }
}

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
