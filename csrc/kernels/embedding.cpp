// The sum of a row of each embedding; pyroberta/ops/embedding.py is the reference.
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

template <typename T>
void embedding_forward(const std::int32_t* ids, const std::int32_t* positions,  // (N,)
                       const T* tokens, const T* rows,                          // (V, C), (T, C)
                       std::int64_t N, std::int64_t C,
                       T* y) {  // (N, C)
    parallel_ranges(N, double(C), [=](std::int64_t first, std::int64_t last) {
        for (std::int64_t n = first; n < last; ++n) {
            T* PYROBERTA_RESTRICT y_row = y + n * C;
            const T* PYROBERTA_RESTRICT token = tokens + ids[n] * C;
            const T* PYROBERTA_RESTRICT position = rows + positions[n] * C;
            for (std::int64_t k = 0; k < C; ++k) y_row[k] = token[k] + position[k];
        }
    });
}
KERNEL(embedding_forward)

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
