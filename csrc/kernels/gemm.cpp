// Bare products of matrices, and linear layers' kernels prepared for many of them.
#include "kernels/kernel.hpp"
#include "kernels/multiply.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

template <typename T>
void gemm(Factor<T> a, Factor<T> b, std::int64_t rows, std::int64_t columns, std::int64_t depth,
          T* c,  // (rows, columns)
          bool accumulate) {
    multiply(a, b, rows, columns, depth, c, columns, accumulate,
             [](std::int64_t, std::int64_t, std::int64_t, std::int64_t) {});
}
KERNEL(gemm)

// As multiply.hpp reads it, see Prepared there: all the panels of the right factor.
template <typename T>
std::int64_t prepare(const T* kernel,  // (I, O)
                     std::int64_t I, std::int64_t O,
                     T* prepared) {
    constexpr std::int64_t W = Tile<T>::COLUMNS, BLOCK = 8 * W;
    if (prepared) {
        parallel((O + BLOCK - 1) / BLOCK, threads_for(double(O) * I / NUMBERS_PER_THREAD), [=](std::int64_t task, int) {
            const std::int64_t j = task * BLOCK;
            pack_right(columns_of(kernel, O), O, j, std::min(O, j + BLOCK), I, PLAN.depth, prepared);
        });
    }
    return round_up(O, W) * I;
}
KERNEL(prepare)

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
