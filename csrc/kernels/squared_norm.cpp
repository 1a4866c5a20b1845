// The squared norm of a gradient; pyroberta/ops/adam.py is the reference.
#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"
#include "runtime/scratch.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

// Σ x², in double. Chunks have sums of their own, added up in their order.
template <typename T>
double squared_norm(In<T, 'P'> x, Extent<'P'> P) {
    constexpr std::int64_t CHUNK = 1 << 14;
    const std::int64_t chunks = (P + CHUNK - 1) / CHUNK;
    const Scratch<double> sums_of_chunks(Buffer::KERNEL, chunks);
    double* partial = sums_of_chunks.data();
    const auto add_up = [=](std::int64_t first, std::int64_t last) {
        for (std::int64_t chunk = first; chunk < last; ++chunk) {
            const T* PYROBERTA_RESTRICT values = x + chunk * CHUNK;
            const std::int64_t count = std::min(CHUNK, P - chunk * CHUNK);
            double sums[16] = {};
            std::int64_t i = 0;
            for (; i + 16 <= count; i += 16) {
                for (int k = 0; k < 16; ++k) {
                    const double value = static_cast<double>(values[i + k]);
                    sums[k] += value * value;
                }
            }
            for (; i < count; ++i) sums[0] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
            double total = 0;
            for (int k = 0; k < 16; ++k) total += sums[k];
            partial[chunk] = total;
        }
    };
    parallel_ranges(chunks, CHUNK / 8.0, add_up);
    double total = 0;
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) total += partial[chunk];
    return total;
}
KERNEL(squared_norm)

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
