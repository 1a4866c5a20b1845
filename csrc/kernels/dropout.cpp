// Dropout; pyroberta/ops/dropout.py is the reference.
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "kernels/philox.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

// y = x · keep / (1 - rate)
template <typename T>
void dropout(In<T, 'N', 'C'> x, Extent<'N'> N, Extent<'C'> C, DropoutKey key, MaskRows mask, Out<T, 'N', 'C'> y) {
    const Dropout dropout = dropout_of(key);
    parallel_ranges(N, double(C), [=](std::int64_t first, std::int64_t last) {
        for (std::int64_t n = first; n < last; ++n) {
            T* PYROBERTA_RESTRICT y_row = y + n * C;
            const T* PYROBERTA_RESTRICT x_row = x + n * C;
            if (key.rate > 0) {
                draw_keep(dropout, mask.numbers[n], mask.positions[n] * C, C, y_row);
                for (std::int64_t k = 0; k < C; ++k) y_row[k] *= x_row[k];
            } else {
                std::memcpy(y_row, x_row, C * sizeof(T));
            }
        }
    });
}
KERNEL(dropout)

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
