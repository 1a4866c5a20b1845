// Products of matrices for the kernels of ops: C = A B or C += A B, for any layout of A and B, with an epilogue on what is still in
// the cache.
//
// The plan is that of Goto and van de Geijn 2008 ("Anatomy of high-performance matrix multiplication"): A and B are
// copied ("packed") into panels that the innermost loop reads from end to end, and that loop keeps a tile of C in
// registers while it runs down the depth. docs/backends.md climbs to this code step by step. A B that stays the same
// from one product to the next is packed once, by `prepare`.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels/parallel.hpp"
#include "kernels/tile.hpp"
#include "runtime/blas.hpp"
#include "runtime/scratch.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

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
constexpr std::int64_t PACKED_DEPTH = 1024;  // so much is packed at a time,
constexpr std::int64_t PACKED_ROWS = 2048;   // times so many vectors of each factor: 8 MiB in float32
constexpr double FLOPS_PER_THREAD = 1e6;     // below, waking a thread costs more than it saves

// The product where A has a few rows and B lies along the depth: a sentence's masked tokens against the table.
template <typename T, typename Epilogue>
void multiply_few_rows(Factor<T> a, Factor<T> b, std::int64_t rows, std::int64_t columns, std::int64_t depth, T* c,
                      std::int64_t c_step, bool add, const Epilogue& epilogue) {
    constexpr std::int64_t BLOCK = FLAT_PLAN_DEEP.columns;
    const int threads = threads_for(double(columns) * depth / NUMBERS_PER_THREAD);
    parallel((columns + BLOCK - 1) / BLOCK, threads, [&](std::int64_t task, int) {
        const std::int64_t j = task * BLOCK, wide = std::min(BLOCK, columns - j);
        multiply_vectors(a, from(b, j, 0), rows, wide, depth, c + j, c_step, add);
        epilogue(0, rows, j, j + wide);
    });
}

// A right factor that `prepare` has packed, all of it.
template <typename T>
struct PreparedFactor {
    const T* data;

    // Its strips from column j on, between the depths p and p + PLAN.depth. At the end of the depth: the last ones.
    PYROBERTA_INLINE const T* at(std::int64_t p, std::int64_t j, std::int64_t columns, std::int64_t depth) const {
        const std::int64_t start = std::min(p, (depth - 1) / PLAN.depth * PLAN.depth);
        return data + start * round_up(columns, Tile<T>::COLUMNS) + j * std::min(PLAN.depth, depth - start);
    }
};

// The product where A has few rows and B was prepared: a sentence's tokens times a linear layer's kernel. A is read as it lies.
template <typename T, typename Epilogue>
void multiply_few_rows(Factor<T> a, PreparedFactor<T> b, std::int64_t rows, std::int64_t columns, std::int64_t depth, T* c,
                      std::int64_t c_step, bool add, const Epilogue& epilogue) {
    constexpr std::int64_t BLOCK = 192;
    const int threads = threads_for(double(columns) * depth / NUMBERS_PER_THREAD);
    parallel((columns + BLOCK - 1) / BLOCK, threads, [&](std::int64_t task, int) {
        const std::int64_t j = task * BLOCK, wide = std::min(BLOCK, columns - j);
        for (std::int64_t p = 0; p < depth; p += PLAN.depth) {
            const std::int64_t deep = std::min(PLAN.depth, depth - p);
            const T *here = b.at(p, j, columns, depth), *then = b.at(p + deep, j, columns, depth);
            multiply_lying_prepared(from(a, 0, p), here, then, rows, wide, deep, c + j, c_step, add || p > 0);
        }
        epilogue(0, rows, j, j + wide);
    });
}

// The product by another library, a block of it by each call.
template <typename T, typename Epilogue>
void multiply_by_library(const Blas& library, Factor<T> a, Factor<T> b, std::int64_t rows, std::int64_t columns,
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
// thread that made it. The order of additions does not depend on the number of threads. B is a Factor or PreparedFactor.
template <typename T, typename Right, typename Epilogue>
void multiply(Factor<T> a, Right b, std::int64_t rows, std::int64_t columns, std::int64_t depth, T* c, std::int64_t c_step,
          bool add, const Epilogue& epilogue) {
    constexpr int R = Tile<T>::ROWS, W = Tile<T>::COLUMNS;
    constexpr bool is_prepared = std::is_same_v<Right, PreparedFactor<T>>;
    if (rows == 0 || columns == 0) return;
    if (depth == 0) {
        for (std::int64_t i = 0; i < rows && !add; ++i) std::fill_n(c + i * c_step, columns, T(0));
        epilogue(0, rows, 0, columns);
        return;
    }
    const bool is_flat = rows <= FLAT_ROWS;
    Plan plan = PLAN;
    if constexpr (is_prepared) {
        if (is_flat) return multiply_few_rows(a, b, rows, columns, depth, c, c_step, add, epilogue);
    } else {
        if (const Blas* library = blas_of_thread()) {
            return multiply_by_library(*library, a, b, rows, columns, depth, c, c_step, add, epilogue);
        }
        if (rows <= FEW_ROWS && a.depth_step == 1 && b.depth_step == 1) {
            return multiply_few_rows(a, b, rows, columns, depth, c, c_step, add, epilogue);
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
    std::int64_t room = 0;  // for what a task packs of B: all that it works on at a time, or the last strip alone
    if constexpr (!is_prepared) {
        const std::int64_t strips = b.row_step == 1 ? W : round_up(std::min(plan.columns, columns), W);
        if (is_flat) room = strips * std::min(plan.depth, depth);
    }
    const Scratch<T> left_panels(Buffer::LEFT_PANELS, round_up(tallest, R) * deepest);
    const Scratch<T> right_panels(Buffer::RIGHT_PANELS, is_packed_here ? round_up(widest, W) * deepest : 0);
    const Rooms<T> rooms(Buffer::THREAD_PANELS, room, threads);
    T *packed_a = left_panels.data(), *packed_b = right_panels.data();

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
                        pack_left(from(a, i, p), tall, k, std::min(tall, k + 8 * R), deep, plan.depth, packed_a);
                    } else if constexpr (!is_prepared) {
                        const std::int64_t k = task * 4 * W;
                        pack_right(from(b, j, p), wide, k, std::min(wide, k + 4 * W), deep, plan.depth, packed_b);
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
                            multiply_prepared(a_block, b_block, then, high, broad, d, part, c_step, more);
                        } else if (!is_flat) {
                            const T* b_block = packed_b + q * round_up(wide, W) + jj * d;
                            multiply_packed(a_block, b_block, high, broad, d, part, c_step, more);
                        } else if (b.row_step == 1) {
                            multiply_strips(a_block, from(b, j + jj, p + q), high, broad, d, part, c_step, more, rooms[slot]);
                        } else {
                            pack_right(from(b, j + jj, p + q), broad, 0, broad, d, d, rooms[slot]);
                            multiply_packed(a_block, rooms[slot], high, broad, d, part, c_step, more);
                        }
                    }
                    if (p + deep == depth) epilogue(i + ii, i + ii + high, j + jj, j + jj + broad);
                });
            }
        }
    }
}

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
