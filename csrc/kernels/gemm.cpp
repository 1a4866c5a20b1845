// Bare products of matrices, and linear layers' kernels prepared for many of them.
#include "kernels/kernel.hpp"
#include "kernels/multiply.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

template <typename T>
void product(Factor<T> a, Factor<T> b, std::int64_t N, std::int64_t I, std::int64_t O, T* y, bool accumulate) {
    multiply(a, b, N, O, I, y, O, accumulate, [](std::int64_t, std::int64_t, std::int64_t, std::int64_t) {});
}

template <typename T>
void gemm(LeftFactor<T, 'N', 'I'> a, RightFactor<T, 'I', 'O'> b, Extent<'N'> N, Extent<'I'> I, Extent<'O'> O,
          InPlace<T, 'N', 'O'> out, bool accumulate) {
    product<T>(a, b, N, I, O, out, accumulate);
}
KERNEL(gemm)

template <typename T>
void matmul(LeftFactor<T, 'N', 'I'> a, RightFactor<T, 'I', 'O'> b, Extent<'N'> N, Extent<'I'> I, Extent<'O'> O,
            Out<T, 'N', 'O'> y) {
    product<T>(a, b, N, I, O, y, false);
}
KERNEL(matmul)

// As multiply.hpp reads it, see PreparedFactor there: all the panels of the right factor.
template <typename T>
std::int64_t prepare(In<T, 'I', 'O'> kernel, Extent<'I'> I, Extent<'O'> O, T* prepared) {
    constexpr std::int64_t W = Tile<T>::COLUMNS, BLOCK = 8 * W;
    if (prepared) {
        parallel((O + BLOCK - 1) / BLOCK, threads_for(double(O) * I / NUMBERS_PER_THREAD), [=](std::int64_t task, int) {
            const std::int64_t j = task * BLOCK;
            pack_right<T>(columns_of<T>(kernel, O), O, j, std::min<std::int64_t>(O, j + BLOCK), I, PLAN.depth, prepared);
        });
    }
    return round_up(O, W) * I;
}
KERNEL(prepare)

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
