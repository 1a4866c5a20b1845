// The sum of a row of each embedding; pyroberta/ops/embedding.py is the reference.
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

template <typename T>
void embedding_forward(In<T, 'V', 'C'> tokens, In<T, 'T', 'C'> position_rows, RowNumbers<'N', 'V'> ids,
                       RowNumbers<'N', 'T'> positions, Extent<'N'> N, Extent<'C'> C, Out<T, 'N', 'C'> y) {
    parallel_ranges(N, double(C), [=](std::int64_t first, std::int64_t last) {
        for (std::int64_t n = first; n < last; ++n) {
            T* PYROBERTA_RESTRICT y_row = y + n * C;
            const T* PYROBERTA_RESTRICT token = tokens + ids[n] * C;
            const T* PYROBERTA_RESTRICT position = position_rows + positions[n] * C;
            for (std::int64_t k = 0; k < C; ++k) y_row[k] = token[k] + position[k];
        }
    });
}
KERNEL(embedding_forward)

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
