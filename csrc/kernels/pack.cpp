#include "kernels/pack.hpp"

#include <algorithm>

#include "kernels/kernel.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

namespace {

// pack_left and pack_right, see pack.hpp.
template <int PANEL, typename T>
PYROBERTA_INLINE void pack(Factor<T> factor, std::int64_t vectors, std::int64_t first, std::int64_t last,
                           std::int64_t depth, std::int64_t step, T* to) {
    for (std::int64_t p = 0; p < depth; p += step) {
        const std::int64_t deep = std::min(step, depth - p);
        T* block = to + p * round_up(vectors, PANEL);
        std::int64_t r = first;
        if (factor.row_step == 1 && PANEL * sizeof(T) < 64 && last - first >= PANEL) {
            // Across the panels rather than down each: no cache line of the matrix is read twice.
            const std::int64_t whole = first + (last - first) / PANEL * PANEL;
            for (std::int64_t q = 0; q < deep; ++q) {
                const T* PYROBERTA_RESTRICT line = from(factor, 0, p + q).data;
                __builtin_prefetch(line + 4 * factor.depth_step + first);
                for (r = first; r < whole; r += PANEL) {
                    std::memcpy(block + r * deep + q * PANEL, line + r, PANEL * sizeof(T));
                }
            }
        }
        for (; r < last; r += PANEL) {
            pack_panel<PANEL>(from(factor, r, p), std::min<std::int64_t>(PANEL, last - r), deep, block + r * deep);
        }
    }
}

}  // namespace

template <typename T>
void pack_left(Factor<T> factor, std::int64_t vectors, std::int64_t first, std::int64_t last, std::int64_t depth,
               std::int64_t step, T* to) {
    pack<Tile<T>::ROWS>(factor, vectors, first, last, depth, step, to);
}
KERNEL(pack_left)

template <typename T>
void pack_right(Factor<T> factor, std::int64_t vectors, std::int64_t first, std::int64_t last, std::int64_t depth,
                std::int64_t step, T* to) {
    pack<Tile<T>::COLUMNS>(factor, vectors, first, last, depth, step, to);
}
KERNEL(pack_right)

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
