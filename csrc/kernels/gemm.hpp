// Products of matrices: C = A B or C += A B, for any layout of A and B, with an epilogue on tiles still in the cache.
//
// The plan is that of Goto and van de Geijn 2008 ("Anatomy of high-performance matrix multiplication"): A and B are
// copied ("packed") into panels that the innermost loop reads from end to end, and that loop keeps a tile of C in
// registers while it runs down the depth. docs/backends.md climbs to this code step by step. A B that stays the same
// from one product to the next is packed once, by `prepare`.
#pragma once

#include <algorithm>
#include <type_traits>

#include "runtime/blas.hpp"
#include "ops.hpp"
#include "kernels/parallel.hpp"
#include "runtime/scratch.hpp"
#include "kernels/simd.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

template <typename T>
struct Tile {
    static constexpr int COLUMNS = 2 * WIDTH<T>;
    static constexpr int ROWS = PYROBERTA_TILE_ROWS;  // ROWS · 2 registers hold the tile, three more its factors
};

// How a product is cut: a task makes (rows, columns) of C, and runs down the depth in steps of `depth`.
struct Plan {
    std::int64_t rows, columns, depth;
};

// A panel of B, 256 deep, is 16 KiB in AVX2: it stays in the first-level cache while panels of A go by.
constexpr Plan PLAN = {96, 256, 256};
// With few rows most of the time goes into reading B, so a task reads long pieces of it and no panel is shared: where B
// lies along the depth each task packs its own, 256 KiB, into the second-level cache; where B lies along the columns it is
// used as it lies.
constexpr std::int64_t FLAT_ROWS = 24;
constexpr Plan FLAT_PLAN_DEEP = {FLAT_ROWS, 64, 1024}, FLAT_PLAN_WIDE = {FLAT_ROWS, 512, 64};
constexpr std::int64_t STRIPS_AHEAD = 3;  // of B, fetched while one is worked on
constexpr std::int64_t PACKED_DEPTH = 1024;  // so much is packed at a time,
constexpr std::int64_t PACKED_ROWS = 2048;   // times so many vectors of each factor: 8 MiB in float32
constexpr double FLOPS_PER_THREAD = 1e6;     // below, waking a thread costs more than it saves

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

// A packed panel of A, as a factor whose steps the compiler knows.
template <typename T>
struct Panel {
    const T* data;
    static constexpr std::int64_t row_step = 1, depth_step = Tile<T>::ROWS;
};

// A strip of B, Tile::COLUMNS wide, from row to row `step`: just packed, prepared long ago, or as it lies. `fetch` is
// called for row p, which is at `line`, and calls into the cache what comes later.
template <typename T>
struct PackedStrip {
    const T* data;
    static constexpr std::int64_t step = Tile<T>::COLUMNS;
    PYROBERTA_INLINE void fetch(const T*, std::int64_t) const {}  // all of it is in the cache
};
template <typename T>
struct PreparedStrip {
    const T *data, *next;
    std::int64_t share;  // of a row of the next strip, so that the tiles that read this one call the next one together
    static constexpr std::int64_t step = Tile<T>::COLUMNS;
    PYROBERTA_INLINE void fetch(const T*, std::int64_t p) const { __builtin_prefetch(next + p * share); }
};
template <typename T>
struct Strip {
    const T* data;
    std::int64_t step, ahead;
    PYROBERTA_INLINE void fetch(const T* line, std::int64_t) const { __builtin_prefetch(line + ahead); }
};

// The innermost loop: tile (ROWS, COLUMNS) = or += A (ROWS, depth) times a strip of B (depth, COLUMNS). A is a Panel, or
// a Factor that lies in memory as it is.
template <int ROWS, typename T, typename Left, typename Right>
PYROBERTA_INLINE void multiply_tile(Left a, Right strip, std::int64_t depth, T* PYROBERTA_RESTRICT c,
                                    std::int64_t c_step, bool add) {
    constexpr int W = WIDTH<T>;
    const T* PYROBERTA_RESTRICT column = a.data;
    const T* PYROBERTA_RESTRICT b = strip.data;
    Vector<T> tile[ROWS][2];
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
        __builtin_prefetch(c + i * c_step, 1);  // for the end, when it would be waited for
        tile[i][0] = tile[i][1] = Vector<T>{};
    }
    for (std::int64_t p = 0; p < depth; ++p) {
        const Vector<T> left = load(b), right = load(b + W);
        strip.fetch(b, p);
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i) {
            tile[i][0] += column[i * a.row_step] * left;  // one fused multiply-add where the machine has it
            tile[i][1] += column[i * a.row_step] * right;
        }
        column += a.depth_step;
        b += strip.step;
    }
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
        T* row = c + i * c_step;
        if (add) {
            tile[i][0] += load(row);
            tile[i][1] += load(row + W);
        }
        store(row, tile[i][0]);
        store(row + W, tile[i][1]);
    }
}

// The same for as few rows as a tile may have at the lower edge.
template <int ROWS, typename T, typename Left, typename Right>
void multiply_rows(int rows, Left a, Right b, std::int64_t depth, T* c, std::int64_t c_step, bool add) {
    if (rows == ROWS) {
        multiply_tile<ROWS>(a, b, depth, c, c_step, add);
    } else if constexpr (ROWS > 1) {
        multiply_rows<ROWS - 1>(rows, a, b, depth, c, c_step, add);
    }
}

// C (rows, columns) = or += A B, tile by tile: left_of(i) is A from row i on, right_of(j, i) the strip of B at column j.
template <typename T, typename LeftOf, typename RightOf>
PYROBERTA_INLINE void multiply_tiles(const LeftOf& left_of, const RightOf& right_of, std::int64_t rows,
                                     std::int64_t columns, std::int64_t depth, T* c, std::int64_t c_step, bool add) {
    constexpr int R = Tile<T>::ROWS, W = Tile<T>::COLUMNS;
    for (std::int64_t j = 0; j < columns; j += W) {
        for (std::int64_t i = 0; i < rows; i += R) {
            const auto b = right_of(j, i);
            T* tile = c + i * c_step + j;
            const int tall = static_cast<int>(std::min<std::int64_t>(R, rows - i));
            if (columns - j >= W) {
                multiply_rows<R>(tall, left_of(i), b, depth, tile, c_step, add);
                continue;
            }
            T whole[R * W];  // the right edge: computed whole, of which a part is taken
            const std::int64_t wide = columns - j;
            multiply_rows<R>(tall, left_of(i), b, depth, whole, W, false);
            for (int r = 0; r < tall; ++r) {
                for (std::int64_t k = 0; k < wide; ++k) {
                    tile[r * c_step + k] = (add ? tile[r * c_step + k] : T(0)) + whole[r * W + k];
                }
            }
        }
    }
}

// The same where A is packed too.
template <typename T>
void multiply_packed(const T* a, const T* b, std::int64_t rows, std::int64_t columns, std::int64_t depth, T* c,
                     std::int64_t c_step, bool add) {
    multiply_tiles([=](std::int64_t i) { return Panel<T>{a + i * depth}; },
                   [=](std::int64_t j, std::int64_t) { return PackedStrip<T>{b + j * depth}; }, rows, columns, depth, c, c_step, add);
}

// The same where B was prepared; after its last strip here comes the one at `then`.
template <typename T, typename LeftOf>
void multiply_prepared(const LeftOf& left_of, const T* b, const T* then, std::int64_t rows, std::int64_t columns,
                       std::int64_t depth, T* c, std::int64_t c_step, bool add) {
    constexpr int R = Tile<T>::ROWS, W = Tile<T>::COLUMNS;
    const std::int64_t share = std::max<std::int64_t>(1, W / ((rows + R - 1) / R));
    multiply_tiles(left_of,
                   [=](std::int64_t j, std::int64_t i) {
                       const T* next = j + W < columns ? b + (j + W) * depth : then;
                       return PreparedStrip<T>{b + j * depth, next + i / R * share * depth, share};
                   },
                   rows, columns, depth, c, c_step, add);
}

// The same where A is packed and B lies along its columns. B's last columns, less than a strip, are packed into `room`.
template <typename T>
void multiply_strips(const T* a, Factor<T> b, std::int64_t rows, std::int64_t columns, std::int64_t depth, T* c,
                     std::int64_t c_step, bool add, T* room) {
    constexpr int W = Tile<T>::COLUMNS;
    const auto left_of = [=](std::int64_t i) { return Panel<T>{a + i * depth}; };
    const std::int64_t whole = columns / W * W;
    multiply_tiles(
        left_of,
        [=](std::int64_t j, std::int64_t) {
            // After the last strip come the first ones of the rows below.
            const bool is_last = j + STRIPS_AHEAD * W >= whole;
            return Strip<T>{b.data + j, b.depth_step, STRIPS_AHEAD * W + (is_last ? depth * b.depth_step - whole : 0)};
        },
        rows, whole, depth, c, c_step, add);
    if (whole < columns) {
        pack_panel<W>(from(b, whole, 0), columns - whole, depth, room);
        multiply_tiles(left_of, [=](std::int64_t, std::int64_t) { return PackedStrip<T>{room}; }, rows, columns - whole, depth,
                       c + whole, c_step, add);
    }
}

// The vectors [first, last) of a factor, numbers [0, depth), as panels in blocks of `step`: block k starts at
// `to + k · step · round_up(vectors, PANEL)`, and the panel of vector r at `r · depth of the block` from there.
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

// ROWS rows of A times `columns` columns of B, both read along the depth as they lie: each column of B is loaded once, for
// all of its products. Nothing is packed, since nothing would be read twice.
template <int ROWS, typename T>
void multiply_vectors(Factor<T> a, Factor<T> b, std::int64_t columns, std::int64_t depth, T* c,
                                       std::int64_t c_step, bool add) {
    constexpr int W = WIDTH<T>, AT_ONCE = 8 / ROWS;  // columns: eight sums keep the multiply-add units busy
    const auto some = [&](std::int64_t j, auto count) {
        constexpr int COUNT = decltype(count)::value;
        Vector<T> sums[COUNT][ROWS] = {};
        std::int64_t p = 0;
        for (; p + W <= depth; p += W) {
#pragma GCC unroll 8
            for (int k = 0; k < COUNT; ++k) {
                const Vector<T> column = load(b.data + (j + k) * b.row_step + p);
#pragma GCC unroll 8
                for (int r = 0; r < ROWS; ++r) sums[k][r] += column * load(a.data + r * a.row_step + p);
            }
        }
#pragma GCC unroll 8
        for (int k = 0; k < COUNT; ++k) {
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; ++r) {
                T total = add ? c[r * c_step + j + k] : T(0);
                for (int i = 0; i < W; ++i) total += sums[k][r][i];
                for (std::int64_t q = p; q < depth; ++q) {
                    total += a.data[r * a.row_step + q] * b.data[(j + k) * b.row_step + q];
                }
                c[r * c_step + j + k] = total;
            }
        }
    };
    std::int64_t j = 0;
    for (; j + AT_ONCE <= columns; j += AT_ONCE) some(j, std::integral_constant<int, AT_ONCE>{});
    for (; j < columns; ++j) some(j, std::integral_constant<int, 1>{});
}

constexpr std::int64_t FEW_ROWS = 4;

// The product where A has a few rows and B lies along the depth: a sentence's masked tokens against the table.
template <typename T, typename Epilogue>
void gemm_of_few_rows(Factor<T> a, Factor<T> b, std::int64_t rows, std::int64_t columns, std::int64_t depth, T* c,
                      std::int64_t c_step, bool add, const Epilogue& epilogue) {
    constexpr std::int64_t BLOCK = FLAT_PLAN_DEEP.columns;
    const int threads = threads_for(double(columns) * depth / NUMBERS_PER_THREAD);
    parallel((columns + BLOCK - 1) / BLOCK, threads, [&](std::int64_t task, int) {
        const std::int64_t j = task * BLOCK, wide = std::min(BLOCK, columns - j);
        if (rows == 1) multiply_vectors<1>(a, from(b, j, 0), wide, depth, c + j, c_step, add);
        if (rows == 2) multiply_vectors<2>(a, from(b, j, 0), wide, depth, c + j, c_step, add);
        if (rows == 3) multiply_vectors<3>(a, from(b, j, 0), wide, depth, c + j, c_step, add);
        if (rows == 4) multiply_vectors<4>(a, from(b, j, 0), wide, depth, c + j, c_step, add);
        epilogue(0, rows, j, j + wide);
    });
}

// A right factor that `prepare` has packed, all of it.
template <typename T>
struct Prepared {
    const T* data;

    // Its strips from column j on, between the depths p and p + PLAN.depth. At the end of the depth: the last ones.
    PYROBERTA_INLINE const T* at(std::int64_t p, std::int64_t j, std::int64_t columns, std::int64_t depth) const {
        const std::int64_t start = std::min(p, (depth - 1) / PLAN.depth * PLAN.depth);
        return data + start * round_up(columns, Tile<T>::COLUMNS) + j * std::min(PLAN.depth, depth - start);
    }
};

// The product where A has few rows and B was prepared: a sentence's tokens times a kernel. A is read as it lies.
template <typename T, typename Epilogue>
void gemm_of_few_rows(Factor<T> a, Prepared<T> b, std::int64_t rows, std::int64_t columns, std::int64_t depth, T* c,
                      std::int64_t c_step, bool add, const Epilogue& epilogue) {
    constexpr std::int64_t BLOCK = 192;
    const int threads = threads_for(double(columns) * depth / NUMBERS_PER_THREAD);
    parallel((columns + BLOCK - 1) / BLOCK, threads, [&](std::int64_t task, int) {
        const std::int64_t j = task * BLOCK, wide = std::min(BLOCK, columns - j);
        for (std::int64_t p = 0; p < depth; p += PLAN.depth) {
            const std::int64_t deep = std::min(PLAN.depth, depth - p);
            const auto left_of = [=](std::int64_t k) { return from(a, k, p); };
            multiply_prepared(left_of, b.at(p, j, columns, depth), b.at(p + deep, j, columns, depth), rows, wide, deep, c + j,
                              c_step, add || p > 0);
        }
        epilogue(0, rows, j, j + wide);
    });
}

// The product by another library, a block of it by each call.
template <typename T, typename Epilogue>
void gemm_of_library(const Blas& library, Factor<T> a, Factor<T> b, std::int64_t rows, std::int64_t columns,
                     std::int64_t depth, T* c, std::int64_t c_step, bool add, const Epilogue& epilogue) {
    const bool is_whole = !library.set_threads;
    const std::int64_t high = is_whole ? rows : 192, broad = is_whole ? columns : 512;
    const std::int64_t down = (rows + high - 1) / high, across = (columns + broad - 1) / broad;
    const OneBlasThread one(library);
    parallel(down * across, threads_for(2.0 * rows * columns * depth / FLOPS_PER_THREAD), [&](std::int64_t task, int) {
        const std::int64_t i = task % down * high, j = task / down * broad;
        const std::int64_t i_end = std::min(rows, i + high), j_end = std::min(columns, j + broad);
        blas_gemm(library, from(a, i, 0), from(b, j, 0), i_end - i, j_end - j, depth, c + i * c_step + j, c_step, add);
        epilogue(i, i_end, j, j_end);
    });
}

// C (rows, columns) = A B, or C += A B; then epilogue(i, i_end, j, j_end) for each part of C, in the cache still, from the
// thread that made it. The order of additions does not depend on the number of threads. B is a Factor or Prepared.
template <typename T, typename Right, typename Epilogue>
void gemm(Factor<T> a, Right b, std::int64_t rows, std::int64_t columns, std::int64_t depth, T* c, std::int64_t c_step,
          bool add, const Epilogue& epilogue) {
    constexpr int R = Tile<T>::ROWS, W = Tile<T>::COLUMNS;
    constexpr bool is_prepared = std::is_same_v<Right, Prepared<T>>;
    if (rows == 0 || columns == 0) return;
    if (depth == 0) {
        for (std::int64_t i = 0; i < rows && !add; ++i) std::fill_n(c + i * c_step, columns, T(0));
        epilogue(0, rows, 0, columns);
        return;
    }
    const bool is_flat = rows <= FLAT_ROWS;
    Plan plan = PLAN;
    if constexpr (is_prepared) {
        if (is_flat) return gemm_of_few_rows(a, b, rows, columns, depth, c, c_step, add, epilogue);
    } else {
        if (const Blas* library = blas_of_thread()) {
            return gemm_of_library(*library, a, b, rows, columns, depth, c, c_step, add, epilogue);
        }
        if (rows <= FEW_ROWS && a.depth_step == 1 && b.depth_step == 1) {
            return gemm_of_few_rows(a, b, rows, columns, depth, c, c_step, add, epilogue);
        }
        if (is_flat) plan = b.depth_step == 1 ? FLAT_PLAN_DEEP : FLAT_PLAN_WIDE;
    }
    constexpr std::int64_t LEAST = FLAT_PLAN_DEEP.columns;  // of a flat task
    const int threads = threads_for(2.0 * rows * columns * depth / FLOPS_PER_THREAD,
                                    is_flat ? (columns + LEAST - 1) / LEAST : rows);
    if (is_flat) {  // as many tasks as give each thread its share
        const std::int64_t share = (columns + 2 * threads - 1) / (2 * threads);
        plan.columns = std::min(plan.columns, round_up(share, FLAT_PLAN_DEEP.columns));
    }
    const std::int64_t block_rows = round_up(plan.rows, R);
    const bool is_packed_here = !is_prepared && !is_flat;
    const std::int64_t deepest = is_flat ? depth : std::min(depth, PACKED_DEPTH),
                       tallest = std::min(rows, PACKED_ROWS / R * R),
                       widest = is_packed_here ? std::min(columns, PACKED_ROWS) : columns;
    T* packed_a = scratch<T>(0, round_up(tallest, R) * deepest);
    T* packed_b = is_packed_here ? scratch<T>(1, round_up(widest, W) * deepest) : nullptr;
    Rooms<T> rooms{};  // for what a task packs of B: all that it works on at a time, or the last strip alone
    if constexpr (!is_prepared) {
        const std::int64_t strips = b.row_step == 1 ? W : round_up(std::min(plan.columns, columns), W);
        if (is_flat) rooms = take_rooms<T>(2, strips * std::min(plan.depth, depth), threads);
    }

    for (std::int64_t p = 0; p < depth; p += deepest) {
        const std::int64_t deep = std::min(deepest, depth - p);
        for (std::int64_t j = 0; j < columns; j += widest) {
            const std::int64_t wide = std::min(widest, columns - j);
            for (std::int64_t i = 0; i < rows; i += tallest) {
                const std::int64_t tall = std::min(tallest, rows - i);
                // B's panels stay for all the rows.
                const std::int64_t b_tasks = is_packed_here && i == 0 ? (wide + 4 * W - 1) / (4 * W) : 0;
                parallel(b_tasks + (tall + 8 * R - 1) / (8 * R), threads, [&](std::int64_t task, int) {
                    if (task >= b_tasks) {
                        const std::int64_t k = (task - b_tasks) * 8 * R;
                        pack<R>(from(a, i, p), tall, k, std::min(tall, k + 8 * R), deep, plan.depth, packed_a);
                    } else if constexpr (!is_prepared) {
                        const std::int64_t k = task * 4 * W;
                        pack<W>(from(b, j, p), wide, k, std::min(wide, k + 4 * W), deep, plan.depth, packed_b);
                    }
                });
                const std::int64_t down = (tall + block_rows - 1) / block_rows,
                                   across = (wide + plan.columns - 1) / plan.columns;
                parallel(down * across, threads, [&](std::int64_t task, int slot) {
                    const std::int64_t jj = task / down * plan.columns, ii = task % down * block_rows;
                    const std::int64_t high = std::min(block_rows, tall - ii), broad = std::min(plan.columns, wide - jj);
                    T* part = c + (i + ii) * c_step + j + jj;
                    for (std::int64_t q = 0; q < deep; q += plan.depth) {
                        const std::int64_t d = std::min(plan.depth, deep - q);
                        const T* a_block = packed_a + q * round_up(tall, R) + ii * d;
                        const bool more = add || p + q > 0;
                        if constexpr (is_prepared) {
                            const T* b_block = b.at(p + q, j + jj, columns, depth);
                            const T* then = b.at(p + q + d, j + jj, columns, depth);
                            const auto left_of = [=](std::int64_t k) { return Panel<T>{a_block + k * d}; };
                            multiply_prepared(left_of, b_block, then, high, broad, d, part, c_step, more);
                        } else if (!is_flat) {
                            const T* b_block = packed_b + q * round_up(wide, W) + jj * d;
                            multiply_packed(a_block, b_block, high, broad, d, part, c_step, more);
                        } else if (b.row_step == 1) {
                            multiply_strips(a_block, from(b, j + jj, p + q), high, broad, d, part, c_step, more, rooms[slot]);
                        } else {
                            pack<W>(from(b, j + jj, p + q), broad, 0, broad, d, d, rooms[slot]);
                            multiply_packed(a_block, rooms[slot], high, broad, d, part, c_step, more);
                        }
                    }
                    if (p + deep == depth) epilogue(i + ii, i + ii + high, j + jj, j + jj + broad);
                });
            }
        }
    }
}

// The numbers that `prepare` writes.
template <typename T>
std::int64_t prepared_size(std::int64_t columns, std::int64_t depth) {
    return round_up(columns, Tile<T>::COLUMNS) * depth;
}

// Packs a right factor for `Prepared`.
template <typename T>
void prepare(Factor<T> b, std::int64_t columns, std::int64_t depth, T* to) {
    constexpr std::int64_t BLOCK = 8 * Tile<T>::COLUMNS;
    const int threads = threads_for(double(columns) * depth / NUMBERS_PER_THREAD);
    parallel((columns + BLOCK - 1) / BLOCK, threads, [=](std::int64_t task, int) {
        pack<Tile<T>::COLUMNS>(b, columns, task * BLOCK, std::min(columns, (task + 1) * BLOCK), depth, PLAN.depth, to);
    });
}

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
