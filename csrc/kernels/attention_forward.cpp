// Attention over packed sequences, block by block, so that no (S, S) matrix is ever stored: pyroberta/ops/attention.py.
//
// Forward follows Milakov and Gimelshein 2018 ("Online normalizer calculation for softmax", arXiv:1805.02867) and
// Dao et al. 2022 ("FlashAttention", arXiv:2205.14135): each query keeps the largest score so far, max, and
// Σ exp(scores - max); where a block of keys brings a larger one, what has been summed up is scaled down to it.
// Backward makes the probabilities again from these two numbers for each row: p = exp(scores - max) / sum.
#include <cmath>
#include <limits>

#include "kernels/attention.hpp"
#include "kernels/kernel.hpp"
#include "kernels/math.hpp"
#include "kernels/parallel.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

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
            multiply_lying(rows_of(q_block, D), k_panels + j0 * D, tall, padded, D, p, step, false);
            for (std::int64_t i = 0; i < tall; ++i) {
                T* row = p + i * step;
                for (std::int64_t j = wide; j < padded; ++j) row[j] = -std::numeric_limits<T>::infinity();
                if (heads.is_dropping) draw_keep_row(heads, sequence, h, i0 + i, j0, padded, keep);
                const T by = softmax_row(row, padded, heads.is_dropping ? keep : nullptr, max[i], exp_sum[i]);
                if (j0 > 0 && by != T(1)) scale_row(y_block + i * C, D, by);
            }
            // y = (p · keep) (v / (1 - rate)), but for the division of p by its sum
            multiply_lying(rows_of(p, step), v_panels + j0 * width, tall, D, wide, y_block, C, j0 > 0);
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
// If query_rows are all rows, R is N. Sequence b's dropout mask is stream numbers[b] of the key.
//
// For backward: maxima is max_j scores_ij, sums is Σ_j exp(scores_ij - max). They are not made one number,
// max + log(sum): its rounding would become a relative error of p in backward, in float up to 5e-4 for scores of 10⁴.
template <typename T>
void attention_forward(In<T, 'R', 'C'> q, In<T, 'N', 'C'> k, In<T, 'N', 'C'> v, Starts<'B', 'N'> starts,
                       Extent<'B'> B, ChosenRows<'R', 'N'> query_rows, Extent<'R'> R, Extent<'H'> H, Extent<'D'> D,
                       DropoutKey key, const std::uint64_t* numbers, Out<T, 'R', 'C'> y, Out<T, 'R', 'H'> maxima,
                       Out<T, 'R', 'H'> sums) {
    const Heads heads = heads_of(H, D, query_rows, key);
    const Scratch<Sequence> batch(Buffer::SEQUENCES, B);
    const Sequence* sequences = batch.data();
    sort_sequences(starts, numbers, B, query_rows, R, batch.data());
    std::int64_t most_queries = 0;
    for (std::int64_t n = 0; n < B; ++n) most_queries = std::max(most_queries, sequences[n].queries);
    const double operations = 4.0 * count_scores(sequences, B) * static_cast<double>(heads.C);
    const std::int64_t parts = (most_queries + QUERY_TASK - 1) / QUERY_TASK;  // of a sequence and head
    const int threads = threads_for(operations / FLOPS_PER_THREAD, B * H * parts);
    const Rooms<T> rooms(Buffer::KERNEL, Workspace<T>(nullptr, most_keys(sequences, B), D).size, threads);

    parallel(B * H * parts, threads, [&](std::int64_t task, int slot) {
        const std::int64_t n = task / (H * parts), h = task / parts % H, part = task % parts;
        const std::int64_t end = sequences[n].first_query + sequences[n].queries;
        const std::int64_t first = sequences[n].first_query + part * QUERY_TASK, last = std::min(first + QUERY_TASK, end);
        if (first < last) attend<T>(heads, sequences[n], h, first, last, q, k, v, y, maxima, sums, rooms[slot]);
    });
}
KERNEL(attention_forward)

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
