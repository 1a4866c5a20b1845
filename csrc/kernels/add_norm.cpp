// The sum before a layer norm, with dropout; pyroberta/ops/add_norm.py is the reference.
#include "kernels/kernel.hpp"
#include "kernels/norm.hpp"
#include "kernels/parallel.hpp"
#include "kernels/philox.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

// y = layer norm of x + dropout(h): the sum is made in x_hat's place.
template <typename T>
void add_norm_forward(In<T, 'N', 'C'> h, In<T, 'N', 'C'> x, In<T, 'C'> gamma, In<T, 'C'> beta, double epsilon,
                      Extent<'N'> N, Extent<'C'> C, DropoutKey key, MaskRows mask, Out<T, 'N', 'C'> y,
                      Out<T, 'N', 'C'> x_hat, Out<T, 'N'> inverse_std) {
    const Dropout dropout = dropout_of(key);
    parallel_ranges(N, double(C), [=](std::int64_t first, std::int64_t last) {
        for (std::int64_t n = first; n < last; ++n) {
            T* PYROBERTA_RESTRICT hat_row = x_hat + n * C;
            const T* PYROBERTA_RESTRICT h_row = h + n * C;
            const T* PYROBERTA_RESTRICT x_row = x + n * C;
            if (key.rate > 0) {
                draw_keep(dropout, mask.numbers[n], mask.positions[n] * C, C, hat_row);
                for (std::int64_t k = 0; k < C; ++k) hat_row[k] = x_row[k] + h_row[k] * hat_row[k];
            } else {
                for (std::int64_t k = 0; k < C; ++k) hat_row[k] = x_row[k] + h_row[k];
            }
            inverse_std[n] = normalise<T>(hat_row, gamma, beta, static_cast<T>(epsilon), C, y + n * C);
        }
    });
}
KERNEL(add_norm_forward)

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
