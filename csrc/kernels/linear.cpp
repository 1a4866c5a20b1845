// Linear layers; pyroberta/ops/linear.py is the reference.
#include "kernels/linear.hpp"

#include "kernels/kernel.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

template <typename T>
void linear_forward(In<T, 'N', 'I'> x, KernelIn<T, 'I', 'O'> kernel, In<T, 'O'> bias, Extent<'N'> N, Extent<'I'> I,
                    Extent<'O'> O, Out<T, 'N', 'O'> y) {
    times_kernel<T>(x, kernel, N, I, O, y,
         [=](std::int64_t i, std::int64_t i_end, std::int64_t j, std::int64_t j_end) {
             add_bias<T>(y, O, bias, i, i_end, j, j_end);
         });
}
KERNEL(linear_forward)

template <typename T>
void column_sums(In<T, 'N', 'C'> x, Extent<'N'> N, Extent<'C'> C, Out<T, 'C'> sums) {
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
KERNEL(column_sums)

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
