// Attention's way back; pyroberta/ops/attention.py is the reference.
#include <cmath>

#include "kernels/attention.hpp"
#include "kernels/kernel.hpp"
#include "kernels/math.hpp"
#include "kernels/parallel.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

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
            multiply_lying(rows_of(q_block, D), k_columns + j0 * D, tall, padded, D, p, step, false);  // scores, again
            // forward: y = (p · keep) (v / (1 - rate))
            multiply_lying(rows_of(dy_block, C), v_columns + j0 * D, tall, padded, D, dp, step, false);
            for (std::int64_t i = 0; i < tall; ++i) {
                if (heads.is_dropping) draw_keep_row(heads, sequence, h, i0 + i, j0, padded, keep);
                const std::int64_t row = (i0 + i) * heads.H + h;
                softmax_row_backward(p + i * step, dp + i * step, heads.is_dropping ? keep : nullptr, padded,
                                     maxima[row], T(1) / sums[row], delta[i]);
            }
            // forward: y = (p · keep) (v / (1 - rate))
            multiply_lying(columns_of(p, step), dy_rows, wide, D, tall, dv + j0 * C, C, i0 > first);
            // forward: scores = (q / √D) kᵀ
            multiply_lying(columns_of(dp, step), q_rows, wide, D, tall, dk + j0 * C, C, i0 > first);
            multiply_lying(rows_of(dp, step), k_rows + j0 * width, tall, D, wide, dq_block, C, j0 > 0);
        }
        for (std::int64_t i = 0; i < tall; ++i) scale_row(dq_block + i * C, D, scale);
    }
}

// dy (R, C) -> dq (R, C), dk, dv (N, C), from forward's arguments and results. A task owns the columns of one head in
// the rows of one sequence, so that the order of additions does not depend on the number of threads.
template <typename T>
void attention_backward(In<T, 'R', 'C'> dy, In<T, 'R', 'C'> q, In<T, 'N', 'C'> k, In<T, 'N', 'C'> v, In<T, 'R', 'C'> y,
                        In<T, 'R', 'H'> maxima, In<T, 'R', 'H'> sums, Starts<'B', 'N'> starts, Extent<'B'> B,
                        ChosenRows<'R', 'N'> query_rows, Extent<'R'> R, Extent<'H'> H, Extent<'D'> D, DropoutKey key,
                        const std::uint64_t* numbers, Out<T, 'R', 'C'> dq, Out<T, 'N', 'C'> dk, Out<T, 'N', 'C'> dv) {
    const Heads heads = heads_of(H, D, query_rows, key);
    const Scratch<Sequence> batch(Buffer::SEQUENCES, B);
    const Sequence* sequences = batch.data();
    sort_sequences(starts, numbers, B, query_rows, R, batch.data());
    const double operations = 10.0 * count_scores(sequences, B) * static_cast<double>(heads.C);
    const int threads = threads_for(operations / FLOPS_PER_THREAD, B * H);
    const Rooms<T> rooms(Buffer::KERNEL, BackwardWorkspace<T>(nullptr, most_keys(sequences, B), D).size, threads);

    parallel(B * H, threads, [&](std::int64_t task, int slot) {
        const std::int64_t n = task / H, h = task % H;
        attend_backward<T>(heads, sequences[n], h, dy, q, k, v, y, maxima, sums, dq, dk, dv, rooms[slot]);
    });
}
KERNEL(attention_backward)

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
