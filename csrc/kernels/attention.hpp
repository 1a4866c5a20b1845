// Attention over packed sequences, block by block, so that no (S, S) matrix is ever stored: pyroberta/ops/attention.py.
//
// Forward follows Milakov and Gimelshein 2018 ("Online normalizer calculation for softmax", arXiv:1805.02867) and
// Dao et al. 2022 ("FlashAttention", arXiv:2205.14135): each query keeps the largest score so far, max, and
// Σ exp(scores - max); where a block of keys brings a larger one, what has been summed up is scaled down to it.
// Backward makes the probabilities again from these two numbers for each row: p = exp(scores - max) / sum.
//
// A block of scores lies row by row, (queries, keys). As a left factor it is read either way, by rows in y = p v and by
// columns in dv = pᵀ dy, and the products' right factors are packed once for each head.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/gemm.hpp"
#include "kernels/math.hpp"
#include "kernels/parallel.hpp"
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

// C (rows, columns) = or += A B: A lies in memory as it is, B's panels follow one another, `depth` long each.
template <typename T>
void multiply_blocks(Factor<T> a, const T* b, std::int64_t rows, std::int64_t columns, std::int64_t depth, T* c,
                     std::int64_t c_step, bool add) {
    multiply_tiles([=](std::int64_t i) { return from(a, i, 0); },
                   [=](std::int64_t j, std::int64_t) { return PackedStrip<T>{b + j * depth}; },
                   rows, columns, depth, c, c_step, add);
}

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

// The batch's sequences, (B,) in scratch, those with the most scores first: the last tasks to be done are small ones,
// so that the threads end at about the same time.
inline Sequence* sorted_sequences(const std::int32_t* starts /* (B+1,) */, const std::uint64_t* numbers, std::int64_t B,
                                  const std::int32_t* rows /* (R,) or null */, std::int64_t R) {
    Sequence* sequences = scratch<Sequence>(4, B);
    std::int64_t r = 0;
    for (std::int64_t b = 0; b < B; ++b) {
        const std::int64_t start = starts[b], stop = starts[b + 1], first = r;
        if (rows) {
            while (r < R && rows[r] < stop) ++r;
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
    return sequences;
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
    const std::int32_t* rows;  // (R,) or null
    bool is_dropping;
    Dropout dropout;    // draws 1 or 0, and
    double keep_scale;  // 1 / (1 - rate) multiplies v and dy, as in Python: S·D products instead of S²
};

inline Heads heads_of(std::int64_t H, std::int64_t D, const std::int32_t* rows, DropoutKey key) {
    Dropout dropout = dropout_of(key);
    const double keep_scale = dropout.scale;
    dropout.scale = 1.0;
    return {H, D, H * D, rows, key.rate > 0.0, dropout, keep_scale};
}

// keep[i, j : j + count], where query i is row r of q: the mask counts elements in the order (h, i, j).
template <typename T>
void draw_keep_row(const Heads& heads, const Sequence& sequence, std::int64_t h, std::int64_t r, std::int64_t j,
                   std::int64_t count, T* keep) {
    const std::int64_t S = sequence.keys, i = (heads.rows ? heads.rows[r] : r) - sequence.start;
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

// ---------------------------------------------------------------------------------------------------------------------
// Forward

// One row of a block: scores become exp(scores - max), and what dropout leaves of them is what multiplies v.
// max and exp_sum are those of all the blocks so far; returns what the earlier blocks' share of y is to be multiplied
// by.
template <typename T>
T softmax_row(T* scores /* (padded,) */, std::int64_t padded, const T* keep /* (padded,) or null */, T& max,
              T& exp_sum) {
    constexpr int W = WIDTH<T>;
    Vector<T> most = Vector<T>{} + max;
    for (std::int64_t j = 0; j < padded; j += W) {
        const Vector<T> s = load(scores + j);
        most = most > s ? most : s;
    }
    const T old = max;
    for (int n = 0; n < W; ++n) max = most[n] > max ? most[n] : max;
    // Where all scores are -inf, exp(-inf - 0) is 0, as it should be if a later block has finite ones.
    const T shift = max == -std::numeric_limits<T>::infinity() ? T(0) : max;
    Vector<T> total{};
    for (std::int64_t j = 0; j < padded; j += W) {
        const Vector<T> p = exp<T>(load(scores + j) - shift);
        total += p;
        store(scores + j, keep ? p * load(keep + j) : p);
    }
    const T by = old == max ? T(1) : exp<T>(Vector<T>{} + (old - shift))[0];
    exp_sum = exp_sum * by + sum<T>(total);
    return by;
}

// What a task of forward works in.
template <typename T>
struct Workspace {
    T *k_panels, *v_panels;  // kᵀ (D, S), v (S, D)
    T* p;                    // (QUERY_BLOCK, KEY_BLOCK), rows block_step apart
    T* q_block;              // (QUERY_BLOCK, D)
    T* keep;                 // (KEY_BLOCK,)
    std::int64_t size;       // of all of them

    Workspace(T* memory, std::int64_t S, std::int64_t D) {
        Layout<T> layout{memory};
        k_panels = layout.take(panels_size<T>(S, D));
        v_panels = layout.take(panels_size<T>(D, S));
        p = layout.take(QUERY_BLOCK<T> * block_step<T>(S));
        q_block = layout.take(QUERY_BLOCK<T> * D);
        keep = layout.take(block_step<T>(S));
        size = layout.size;
    }
};

// Queries [first, last) of one sequence and head.
template <typename T>
void attend(const Heads& heads, const Sequence& sequence, std::int64_t h, std::int64_t first, std::int64_t last,
            const T* q /* (R, C) */, const T* k, const T* v /* (N, C) */, T* y /* (R, C) */, T* maxima,
            T* sums /* (R, H) */, T* memory) {
    const std::int64_t S = sequence.keys, D = heads.D, C = heads.C;
    const auto [k_panels, v_panels, p, q_block, keep, _] = Workspace<T>(memory, S, D);
    const std::int64_t width = panels_size<T>(D, 1), step = block_step<T>(S);
    const T scale = static_cast<T>(1.0 / std::sqrt(static_cast<double>(D)));
    const T keep_scale = static_cast<T>(heads.keep_scale);
    k += sequence.start * C + h * D;
    v += sequence.start * C + h * D;
    pack_transposed(k, C, S, D, k_panels);
    pack_row_blocks(v, C, S, D, v_panels);
    scale_row(v_panels, panels_size<T>(D, S), keep_scale);  // v / (1 - rate)

    for (std::int64_t i0 = first; i0 < last; i0 += QUERY_BLOCK<T>) {
        const std::int64_t tall = std::min(QUERY_BLOCK<T>, last - i0);
        T* y_block = y + i0 * C + h * D;  // (tall, D), rows C apart
        T max[QUERY_BLOCK<T>], exp_sum[QUERY_BLOCK<T>];
        for (std::int64_t i = 0; i < tall; ++i) {
            max[i] = -std::numeric_limits<T>::infinity();
            exp_sum[i] = 0;
        }
        scale_block(q + i0 * C + h * D, tall, D, C, scale, q_block);
        for (std::int64_t j0 = 0; j0 < S; j0 += KEY_BLOCK) {
            const std::int64_t wide = std::min(KEY_BLOCK, S - j0), padded = round_up(wide, Tile<T>::COLUMNS);
            // scores = q kᵀ / √D
            multiply_blocks(rows_of(q_block, D), k_panels + j0 * D, tall, padded, D, p, step, false);
            for (std::int64_t i = 0; i < tall; ++i) {
                T* row = p + i * step;
                for (std::int64_t j = wide; j < padded; ++j) row[j] = -std::numeric_limits<T>::infinity();
                if (heads.is_dropping) draw_keep_row(heads, sequence, h, i0 + i, j0, padded, keep);
                const T by = softmax_row(row, padded, heads.is_dropping ? keep : nullptr, max[i], exp_sum[i]);
                if (j0 > 0 && by != T(1)) scale_row(y_block + i * C, D, by);
            }
            // y = (p · keep) (v / (1 - rate)), but for the division of p by its sum
            multiply_blocks(rows_of(p, step), v_panels + j0 * width, tall, D, wide, y_block, C, j0 > 0);
        }
        for (std::int64_t i = 0; i < tall; ++i) {
            scale_row(y_block + i * C, D, T(1) / exp_sum[i]);
            const std::int64_t row = (i0 + i) * heads.H + h;
            maxima[row] = max[i];
            sums[row] = exp_sum[i];
        }
    }
}

// Per sequence and head: y = dropout(softmax(q kᵀ / √D)) v, for the queries of some rows of the packed batch.
//
// rows: those rows, ascending, each once; nullptr: all of them (then R is N). Sequence b's dropout mask is stream b of
// the key.
//
// For backward: maxima is max_j scores_ij, sums is Σ_j exp(scores_ij - max). They are not made one number, max + log(sum):
// its rounding would become a relative error of p in backward, in float up to 5e-4 for scores of 10⁴.
template <typename T>
void attention_forward(const T* q,                                  // (R, C)
                       const T* k, const T* v,                      // (N, C)
                       const std::int32_t* starts, std::int64_t B,  // (B+1,)
                       const std::int32_t* rows, std::int64_t R,    // (R,)
                       std::int64_t H, std::int64_t D, DropoutKey key,
                       const std::uint64_t* numbers,  // (B,)
                       T* y,                          // (R, C)
                       T* maxima, T* sums) {          // (R, H)
    const Heads heads = heads_of(H, D, rows, key);
    const Sequence* sequences = sorted_sequences(starts, numbers, B, rows, R);
    std::int64_t most_queries = 0;
    for (std::int64_t n = 0; n < B; ++n) most_queries = std::max(most_queries, sequences[n].queries);
    const double operations = 4.0 * count_scores(sequences, B) * static_cast<double>(heads.C);
    const std::int64_t parts = (most_queries + QUERY_TASK - 1) / QUERY_TASK;  // of a sequence and head
    const int threads = threads_for(operations / FLOPS_PER_THREAD, B * H * parts);
    const Rooms<T> rooms = take_rooms<T>(3, Workspace<T>(nullptr, most_keys(sequences, B), D).size, threads);

    parallel(B * H * parts, threads, [&](std::int64_t task, int slot) {
        const std::int64_t n = task / (H * parts), h = task / parts % H, part = task % parts;
        const std::int64_t end = sequences[n].first_query + sequences[n].queries;
        const std::int64_t first = sequences[n].first_query + part * QUERY_TASK, last = std::min(first + QUERY_TASK, end);
        if (first < last) attend(heads, sequences[n], h, first, last, q, k, v, y, maxima, sums, rooms[slot]);
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// Backward

// One row of a block: scores become what has multiplied v, p · keep, and dp, the gradient of that, becomes dscores.
template <typename T>
void softmax_row_backward(T* scores, T* dp, const T* keep /* (padded,) each; keep may be null */, std::int64_t padded,
                          T max, T inverse_sum, T delta) {
    for (std::int64_t j = 0; j < padded; j += WIDTH<T>) {
        const Vector<T> p = exp<T>(load(scores + j) - max) * inverse_sum;
        const Vector<T> kept = keep ? load(keep + j) : Vector<T>{} + T(1);
        store(scores + j, p * kept);
        // forward: p = softmax(scores), whose derivative is p · (dp - Σ_j p·dp)
        store(dp + j, p * (load(dp + j) * kept - delta));
    }
}

// delta (tall,) = Σ_d dy·y, which is Σ_j p·dp. Added up in the same order as the product dy vᵀ, so that where one
// probability is 1, and y is that v, delta is exactly its dp, and dscores exactly 0.
template <typename T>
void row_products(const T* dy, const T* y /* (tall, D), rows C apart */, std::int64_t tall, std::int64_t D,
                  std::int64_t C, T* room /* 2 panels_size(tall, D) */, T* delta /* rounded up to panels */) {
    constexpr int W = Tile<T>::COLUMNS;
    T* y_columns = room + panels_size<T>(tall, D);
    pack_transposed(dy, C, tall, D, room);
    pack_transposed(y, C, tall, D, y_columns);
    for (std::int64_t i = 0; i < tall; i += W) {
        Vector<T> left{}, right{};
        for (std::int64_t at = i * D; at < (i + W) * D; at += W) {
            left += load(room + at) * load(y_columns + at);
            right += load(room + at + WIDTH<T>) * load(y_columns + at + WIDTH<T>);
        }
        store(delta + i, left);
        store(delta + i + WIDTH<T>, right);
    }
}

// What a task of backward works in.
template <typename T>
struct BackwardWorkspace {
    T *k_columns, *v_columns, *k_rows;  // kᵀ and vᵀ (D, S), k (S, D)
    T *p, *dp;                          // (QUERY_BLOCK, KEY_BLOCK), rows block_step apart
    T *q_block, *q_rows, *dy_rows;      // (QUERY_BLOCK, D); the same and dy's rows, packed
    T* keep;                            // (KEY_BLOCK,)
    T* room;                            // for row_products
    std::int64_t size;                  // of all of them

    BackwardWorkspace(T* memory, std::int64_t S, std::int64_t D) {
        Layout<T> layout{memory};
        k_columns = layout.take(panels_size<T>(S, D));
        v_columns = layout.take(panels_size<T>(S, D));
        k_rows = layout.take(panels_size<T>(D, S));
        p = layout.take(QUERY_BLOCK<T> * block_step<T>(S));
        dp = layout.take(QUERY_BLOCK<T> * block_step<T>(S));
        q_block = layout.take(QUERY_BLOCK<T> * D);
        q_rows = layout.take(panels_size<T>(D, QUERY_BLOCK<T>));
        dy_rows = layout.take(panels_size<T>(D, QUERY_BLOCK<T>));
        keep = layout.take(block_step<T>(S));
        room = layout.take(2 * panels_size<T>(QUERY_BLOCK<T>, D));
        size = layout.size;
    }
};

// All the queries of one sequence and head.
template <typename T>
void attend_backward(const Heads& heads, const Sequence& sequence, std::int64_t h, const T* dy, const T* q /* (R, C) */,
                     const T* k, const T* v /* (N, C) */, const T* y /* (R, C) */, const T* maxima,
                     const T* sums /* (R, H) */, T* dq /* (R, C) */, T* dk, T* dv /* (N, C) */, T* memory) {
    const std::int64_t S = sequence.keys, D = heads.D, C = heads.C;
    const auto [k_columns, v_columns, k_rows, p, dp, q_block, q_rows, dy_rows, keep, room, _] =
        BackwardWorkspace<T>(memory, S, D);
    const std::int64_t width = panels_size<T>(D, 1), step = block_step<T>(S);
    const std::int64_t first = sequence.first_query, last = first + sequence.queries;
    const T scale = static_cast<T>(1.0 / std::sqrt(static_cast<double>(D)));
    const T keep_scale = static_cast<T>(heads.keep_scale);
    k += sequence.start * C + h * D;
    v += sequence.start * C + h * D;
    dk += sequence.start * C + h * D;
    dv += sequence.start * C + h * D;
    if (first == last) {
        for (std::int64_t j = 0; j < S; ++j) {
            for (std::int64_t d = 0; d < D; ++d) dk[j * C + d] = dv[j * C + d] = T(0);
        }
        return;
    }
    T delta[QUERY_BLOCK<T> + Tile<T>::COLUMNS];
    pack_transposed(k, C, S, D, k_columns);
    pack_transposed(v, C, S, D, v_columns);
    pack_row_blocks(k, C, S, D, k_rows);
    scale_row(v_columns, panels_size<T>(S, D), keep_scale);  // v / (1 - rate)

    for (std::int64_t i0 = first; i0 < last; i0 += QUERY_BLOCK<T>) {
        const std::int64_t tall = std::min(QUERY_BLOCK<T>, last - i0);
        const T* dy_block = dy + i0 * C + h * D;  // (tall, D), rows C apart
        T* dq_block = dq + i0 * C + h * D;        // (tall, D), rows C apart
        row_products(dy_block, y + i0 * C + h * D, tall, D, C, room, delta);
        scale_block(q + i0 * C + h * D, tall, D, C, scale, q_block);
        pack_rows(q_block, D, tall, D, q_rows);
        pack_rows(dy_block, C, tall, D, dy_rows);
        scale_row(dy_rows, panels_size<T>(D, tall), keep_scale);  // dy / (1 - rate)
        for (std::int64_t j0 = 0; j0 < S; j0 += KEY_BLOCK) {
            const std::int64_t wide = std::min(KEY_BLOCK, S - j0), padded = round_up(wide, Tile<T>::COLUMNS);
            multiply_blocks(rows_of(q_block, D), k_columns + j0 * D, tall, padded, D, p, step, false);  // scores, again
            // forward: y = (p · keep) (v / (1 - rate))
            multiply_blocks(rows_of(dy_block, C), v_columns + j0 * D, tall, padded, D, dp, step, false);
            for (std::int64_t i = 0; i < tall; ++i) {
                if (heads.is_dropping) draw_keep_row(heads, sequence, h, i0 + i, j0, padded, keep);
                const std::int64_t row = (i0 + i) * heads.H + h;
                softmax_row_backward(p + i * step, dp + i * step, heads.is_dropping ? keep : nullptr, padded,
                                     maxima[row], T(1) / sums[row], delta[i]);
            }
            // forward: y = (p · keep) (v / (1 - rate))
            multiply_blocks(columns_of(p, step), dy_rows, wide, D, tall, dv + j0 * C, C, i0 > first);
            // forward: scores = (q / √D) kᵀ
            multiply_blocks(columns_of(dp, step), q_rows, wide, D, tall, dk + j0 * C, C, i0 > first);
            multiply_blocks(rows_of(dp, step), k_rows + j0 * width, tall, D, wide, dq_block, C, j0 > 0);
        }
        for (std::int64_t i = 0; i < tall; ++i) scale_row(dq_block + i * C, D, scale);
    }
}

// dy (R, C) -> dq (R, C), dk, dv (N, C), from forward's arguments and results. A task owns the columns of one head in
// the rows of one sequence, so that the order of additions does not depend on the number of threads.
template <typename T>
void attention_backward(const T* dy, const T* q,                     // (R, C)
                        const T* k, const T* v,                      // (N, C)
                        const T* y,                                  // (R, C)
                        const T* maxima, const T* sums,              // (R, H)
                        const std::int32_t* starts, std::int64_t B,  // (B+1,)
                        const std::int32_t* rows, std::int64_t R,    // (R,)
                        std::int64_t H, std::int64_t D, DropoutKey key,
                        const std::uint64_t* numbers,  // (B,)
                        T* dq,                         // (R, C)
                        T* dk, T* dv) {                // (N, C)
    const Heads heads = heads_of(H, D, rows, key);
    const Sequence* sequences = sorted_sequences(starts, numbers, B, rows, R);
    const double operations = 10.0 * count_scores(sequences, B) * static_cast<double>(heads.C);
    const int threads = threads_for(operations / FLOPS_PER_THREAD, B * H);
    const Rooms<T> rooms = take_rooms<T>(3, BackwardWorkspace<T>(nullptr, most_keys(sequences, B), D).size, threads);

    parallel(B * H, threads, [&](std::int64_t task, int slot) {
        const std::int64_t n = task / H, h = task % H;
        attend_backward(heads, sequences[n], h, dy, q, k, v, y, maxima, sums, dq, dk, dv, rooms[slot]);
    });
}

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
