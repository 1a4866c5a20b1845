// Packing: a factor of a product is copied into panels that the innermost loop reads from end to end.
#pragma once

#include "kernels/simd.hpp"
#include "types.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

template <typename T>
struct Tile {
    static constexpr int COLUMNS = 2 * WIDTH<T>;
    static constexpr int ROWS = PYROBERTA_TILE_ROWS;  // ROWS · 2 registers hold the tile, three more its factors
};

PYROBERTA_INLINE std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

// Four vectors of four floats across: row r of `from` becomes number r of each of the four results.
PYROBERTA_INLINE void transpose_4x4(const float* PYROBERTA_RESTRICT from, std::int64_t step, float* PYROBERTA_RESTRICT to,
                                    int to_step) {
    typedef float V __attribute__((vector_size(16)));
    V a, b, c, d;
    std::memcpy(&a, from, 16);
    std::memcpy(&b, from + step, 16);
    std::memcpy(&c, from + 2 * step, 16);
    std::memcpy(&d, from + 3 * step, 16);
    const V ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const V cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    const V r0 = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
    const V r1 = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
    const V r2 = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
    const V r3 = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
    std::memcpy(to, &r0, 16);
    std::memcpy(to + to_step, &r1, 16);
    std::memcpy(to + 2 * to_step, &r2, 16);
    std::memcpy(to + 3 * to_step, &r3, 16);
}

// Packs vectors [0, rows) of a factor, at most PANEL of them, numbers [0, depth): to[p · PANEL + r]; zeros fill the rest.
template <int PANEL, typename T>
PYROBERTA_INLINE void pack_panel(Factor<T> factor, std::int64_t rows, std::int64_t depth, T* PYROBERTA_RESTRICT to) {
    const T* PYROBERTA_RESTRICT from = factor.data;
    if (rows < PANEL) {
        for (std::int64_t p = 0; p < depth; ++p) {
            for (int r = 0; r < PANEL; ++r) {
                to[p * PANEL + r] = r < rows ? from[r * factor.row_step + p * factor.depth_step] : T(0);
            }
        }
    } else if (factor.row_step == 1) {
        for (std::int64_t p = 0; p < depth; ++p) {
            __builtin_prefetch(from + (p + 8) * factor.depth_step);
            std::memcpy(to + p * PANEL, from + p * factor.depth_step, PANEL * sizeof(T));
        }
    } else {
        const std::int64_t step = factor.row_step;
        std::int64_t p = 0;
        if constexpr (sizeof(T) == 4) {
            // A cache line of four rows at a time: more rows, `step` apart, may all want the same place in the cache.
            constexpr int LINE = 16;
            for (; p + LINE <= depth; p += LINE) {
                for (int r = 0; r + 4 <= PANEL; r += 4) {
                    for (int q = 0; q < LINE; q += 4) {
                        transpose_4x4(from + r * step + p + q, step, to + (p + q) * PANEL + r, PANEL);
                    }
                }
                for (int r = PANEL / 4 * 4; r < PANEL; ++r) {
                    for (int q = 0; q < LINE; ++q) to[(p + q) * PANEL + r] = from[r * step + p + q];
                }
            }
        }
        for (; p < depth; ++p) {
            for (int r = 0; r < PANEL; ++r) to[p * PANEL + r] = from[r * step + p];
        }
    }
}

template <typename T>
PYROBERTA_INLINE Factor<T> from(Factor<T> factor, std::int64_t row, std::int64_t p) {
    return {factor.data + row * factor.row_step + p * factor.depth_step, factor.row_step, factor.depth_step};
}

// The vectors [first, last) of a left factor, numbers [0, depth), as panels of Tile::ROWS in blocks of `step`: block k
// starts at `to + k · step · round_up(vectors, ROWS)`, and the panel of vector r at `r · depth of the block` from there.
template <typename T>
PYROBERTA_HERE void pack_left(Factor<T> factor, std::int64_t vectors, std::int64_t first, std::int64_t last,
                              std::int64_t depth, std::int64_t step, T* to);

// The same of a right factor, as panels of Tile::COLUMNS.
template <typename T>
PYROBERTA_HERE void pack_right(Factor<T> factor, std::int64_t vectors, std::int64_t first, std::int64_t last,
                               std::int64_t depth, std::int64_t step, T* to);

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
