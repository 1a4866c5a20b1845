// What attention's forward and backward share. Both go block by block, so that no (S, S) matrix is ever stored.
//
// A block of scores lies row by row, (queries, keys). As a left factor it is read either way, by rows in y = p v and by
// columns in dv = pᵀ dy, and the products' right factors are packed once for each head.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/multiply.hpp"
#include "kernels/philox.hpp"
#include "runtime/scratch.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

// A block of scores is (QUERY_BLOCK, KEY_BLOCK); in AVX2 and float 27 KiB.
template <typename T>
constexpr std::int64_t QUERY_BLOCK = 8 * Tile<T>::ROWS;
constexpr std::int64_t KEY_BLOCK = 128;
constexpr std::int64_t QUERY_TASK = 480;  // forward: so many queries make a task; each task packs k and v for itself

// ---------------------------------------------------------------------------------------------------------------------
// Products

// How many numbers the panels of a right factor (depth, columns) take.
template <typename T>
std::int64_t panels_size(std::int64_t columns, std::int64_t depth) {
    return round_up(columns, Tile<T>::COLUMNS) * depth;
}

// The right factor x (depth, D) as panels; x lies within rows of `step` numbers.
template <typename T>
void pack_rows(const T* x, std::int64_t step, std::int64_t depth, std::int64_t D, T* to) {
    constexpr int W = Tile<T>::COLUMNS;
    for (std::int64_t d = 0; d < D; d += W) {
        pack_panel<W>(Factor<T>{x + d, 1, step}, std::min<std::int64_t>(W, D - d), depth, to + d * depth);
    }
}

// The right factor xᵀ (D, columns), of x (columns, D), as panels: that of column j is at to + j·D.
template <typename T>
void pack_transposed(const T* x, std::int64_t step, std::int64_t columns, std::int64_t D, T* to) {
    constexpr int W = Tile<T>::COLUMNS;
    for (std::int64_t j = 0; j < columns; j += W) {
        pack_panel<W>(Factor<T>{x + j * step, step, 1}, std::min<std::int64_t>(W, columns - j), D, to + j * D);
    }
}

// The right factors x[j : j + KEY_BLOCK] (KEY_BLOCK, D), one after another, as panels: the one from j on is at
// to + j·panels_size(D, 1).
template <typename T>
void pack_row_blocks(const T* x, std::int64_t step, std::int64_t rows, std::int64_t D, T* to) {
    for (std::int64_t j = 0; j < rows; j += KEY_BLOCK) {
        pack_rows(x + j * step, step, std::min(KEY_BLOCK, rows - j), D, to + j * panels_size<T>(D, 1));
    }
}

// to (tall, D) = scale · x, whose rows are C apart.
template <typename T>
void scale_block(const T* x, std::int64_t tall, std::int64_t D, std::int64_t C, T scale, T* to) {
    for (std::int64_t i = 0; i < tall; ++i) {
        for (std::int64_t d = 0; d < D; ++d) to[i * D + d] = scale * x[i * C + d];
    }
}

template <typename T>
void scale_row(T* x, std::int64_t n, T by) {
    for (std::int64_t i = 0; i < n; ++i) x[i] *= by;
}

// ---------------------------------------------------------------------------------------------------------------------
// Who does what

// A sequence of the batch: its rows among the keys and among the queries.
struct Sequence {
    std::uint64_t number;  // the stream of its dropout mask
    std::int64_t start, keys;           // rows [start, start + keys) of k and v; keys is S
    std::int64_t first_query, queries;  // rows [first_query, first_query + queries) of q and y
};

// The batch's sequences, those with the most scores first: the last tasks to be done are small ones, so that the threads
// end at about the same time.
inline void sort_sequences(Starts<'B', 'N'> starts, const std::uint64_t* numbers, Extent<'B'> B,
                           ChosenRows<'R', 'N'> query_rows, Extent<'R'> R, Sequence* sequences /* (B,) */) {
    std::int64_t r = 0;
    for (std::int64_t b = 0; b < B; ++b) {
        const std::int64_t start = starts[b], stop = starts[b + 1], first = r;
        if (query_rows) {
            while (r < R && query_rows[r] < stop) ++r;
        } else {
            r = stop;
        }
        sequences[b] = {numbers[b], start, stop - start, first, r - first};
    }
    for (std::int64_t gap = B / 2; gap > 0; gap /= 2) {  // Shell 1959; std::sort might leave code outside our namespace
        for (std::int64_t n = gap; n < B; ++n) {
            const Sequence moving = sequences[n];
            std::int64_t m = n;
            for (; m >= gap; m -= gap) {
                const Sequence& other = sequences[m - gap];
                if (other.keys * other.queries >= moving.keys * moving.queries) break;
                sequences[m] = other;
            }
            sequences[m] = moving;
        }
    }
}

// The number of scores of one head, over the whole batch.
inline double count_scores(const Sequence* sequences, std::int64_t B) {
    double scores = 0;
    for (std::int64_t b = 0; b < B; ++b) scores += static_cast<double>(sequences[b].keys * sequences[b].queries);
    return scores;
}

// What the tasks of one call share.
struct Heads {
    std::int64_t H, D, C;
    ChosenRows<'R', 'N'> query_rows;
    bool is_dropping;
    Dropout dropout;    // draws 1 or 0, and
    double keep_scale;  // 1 / (1 - rate) multiplies v and dy, as in Python: S·D products instead of S²
};

inline Heads heads_of(Extent<'H'> H, Extent<'D'> D, ChosenRows<'R', 'N'> query_rows, DropoutKey key) {
    Dropout dropout = dropout_of(key);
    const double keep_scale = dropout.scale;
    dropout.scale = 1.0;
    return {H, D, H * D, query_rows, key.rate > 0.0, dropout, keep_scale};
}

// keep[i, j : j + count], where query i is row r of q: the mask counts elements in the order (h, i, j).
template <typename T>
void draw_keep_row(const Heads& heads, const Sequence& sequence, std::int64_t h, std::int64_t r, std::int64_t j,
                   std::int64_t count, T* keep) {
    const std::int64_t S = sequence.keys, i = (heads.query_rows ? heads.query_rows[r] : r) - sequence.start;
    draw_keep(heads.dropout, sequence.number, (h * S + i) * S + j, count, keep);
}

// From one row of a block to the next: an odd number of panels, so that a column spreads over the whole cache.
template <typename T>
std::int64_t block_step(std::int64_t keys) {
    constexpr int W = Tile<T>::COLUMNS;
    return ((std::min(KEY_BLOCK, keys) + W - 1) / W | 1) * W;
}

inline std::int64_t most_keys(const Sequence* sequences, std::int64_t B) {
    std::int64_t most = 0;
    for (std::int64_t b = 0; b < B; ++b) most = std::max(most, sequences[b].keys);
    return most;
}

// Arrays that lie one after another, each from a cache line on. With `memory` null it only counts.
template <typename T>
struct Layout {
    T* memory;
    std::int64_t size = 0;

    T* take(std::int64_t count) {
        constexpr std::int64_t LINE = 64 / sizeof(T);
        T* array = memory ? memory + size : nullptr;
        size += (count + LINE - 1) / LINE * LINE;
        return array;
    }
};

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
