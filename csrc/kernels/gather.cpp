// Rows by number: gather and its way back; pyroberta/ops/gather.py is the reference.
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

template <typename T>
void gather_forward(In<T, 'N', 'C'> x, RowNumbers<'M', 'N'> rows, Extent<'M'> M, Extent<'C'> C, Out<T, 'M', 'C'> y) {
    for (std::int64_t m = 0; m < M; ++m) std::memcpy(y + m * C, x + rows[m] * C, C * sizeof(T));
}
KERNEL(gather_forward)

// x[rows[m]] += dy[m]. Each range of columns takes the rows in their order: the sum is the same for any number of threads.
template <typename T>
void scatter_add(InPlace<T, 'N', 'C'> x, RowNumbers<'M', 'N'> rows, In<T, 'M', 'C'> dy, Extent<'M'> M, Extent<'C'> C) {
    constexpr std::int64_t UNIT = 64;  // columns: whole cache lines, which no two threads write
    const auto add_columns = [=](std::int64_t first, std::int64_t last) {
        for (std::int64_t m = 0; m < M; ++m) {
            T* PYROBERTA_RESTRICT to = x + rows[m] * C;
            const T* PYROBERTA_RESTRICT row = dy + m * C;
            for (std::int64_t k = first; k < last; ++k) to[k] += row[k];
        }
    };
    parallel_ranges(C, double(M), add_columns, UNIT);
}
KERNEL(scatter_add)

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
