// GELU and its slope; pyroberta/ops/gelu.py is the reference.
#include "kernels/kernel.hpp"
#include "kernels/math.hpp"
#include "kernels/parallel.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

template <typename T>
void gelu_forward(In<T, 'N', 'F'> x, Extent<'N'> N, Extent<'F'> F, Out<T, 'N', 'F'> y, Out<T, 'N', 'F'> slope) {
    constexpr std::int64_t UNIT = 64;  // whole registers and cache lines
    const auto some = [=](std::int64_t first, std::int64_t last) {
        for_registers<T>(last - first, [=](std::int64_t k, int count) {
            Vector<T> value, derivative;
            gelu<T>(load(x + first + k, count), value, derivative);
            store(y + first + k, value, count);
            store(slope + first + k, derivative, count);
        });
    };
    parallel_ranges(N * F, 1.0, some, UNIT);
}
KERNEL(gelu_forward)

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
