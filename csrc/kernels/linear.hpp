// What the kernels with a linear layer in them share.
#pragma once

#include "kernels/multiply.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

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
        multiply(rows_of(x, I), PreparedFactor<T>{kernel.data}, N, O, I, y, O, false, epilogue);
    } else {
        multiply(rows_of(x, I), columns_of(kernel.data, O), N, O, I, y, O, false, epilogue);
    }
}

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
