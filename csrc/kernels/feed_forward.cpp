// The feed-forward with GELU inside its products; pyroberta/ops/feed_forward.py is the reference.
#include "kernels/kernel.hpp"
#include "kernels/linear.hpp"
#include "kernels/math.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

// The first half of the feed-forward. GELU is done to each part of f when the product has just made it.
template <typename T>
void expand_forward(In<T, 'N', 'I'> x, KernelIn<T, 'I', 'F'> kernel, In<T, 'F'> bias, Extent<'N'> N, Extent<'I'> I,
                    Extent<'F'> F, Out<T, 'N', 'F'> f, Out<T, 'N', 'F'> g) {
    times_kernel<T>(x, kernel, N, I, F, f,
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
KERNEL(expand_forward)

template <typename T>
void expand_backward(In<T, 'N', 'O'> dh, In<T, 'F', 'O'> kernel, InPlace<T, 'N', 'F'> f, Extent<'N'> N, Extent<'F'> F,
                     Extent<'O'> O, Out<T, 'N', 'F'> df) {
    multiply<T>(rows_of<T>(dh, O), rows_of<T>(kernel, O), N, F, O, df, F, false,  // forward: h = g @ kernel
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
KERNEL(expand_backward)

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
