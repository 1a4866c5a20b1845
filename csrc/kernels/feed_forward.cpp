// The feed-forward with GELU inside its products; pyroberta/ops/feed_forward.py is the reference.
#include "kernels/kernel.hpp"
#include "kernels/linear.hpp"
#include "kernels/math.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

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
KERNEL(expand_forward)

template <typename T>
void expand_backward(const T* dh,      // (N, O)
                     const T* kernel,  // (F, O)
                     std::int64_t N, std::int64_t F, std::int64_t O,
                     T* f,     // (N, F), which becomes g
                     T* df) {  // (N, F)
    multiply(rows_of(dh, O), rows_of(kernel, O), N, F, O, df, F, false,  // forward: h = g @ kernel
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
