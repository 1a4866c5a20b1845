// Cross-entropy of the target rows against the token embedding, the table here; pyroberta/ops/cross_entropy.py is the reference.
#include "kernels/kernel.hpp"
#include "kernels/linear.hpp"
#include "kernels/math.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

// What is known of one row of logits after some of its columns: the largest, where, and Σ exp(z - largest).
template <typename T>
struct Peak {
    T top, total;
    std::int64_t where;
};

template <typename T>
PYROBERTA_INLINE Peak<T> peak_of(const T* z, std::int64_t first, std::int64_t last) {
    constexpr T LOWEST = -T(__builtin_huge_val());
    Peak<T> peak{LOWEST, T(0), first};
    Vector<T> highest = Vector<T>{} + LOWEST;
    std::int64_t k = first;
    for (; k + WIDTH<T> <= last; k += WIDTH<T>) {
        const Vector<T> v = load(z + k);
        highest = v > highest ? v : highest;
    }
    for (; k < last; ++k) peak.top = z[k] > peak.top ? z[k] : peak.top;
    for (int i = 0; i < WIDTH<T>; ++i) peak.top = highest[i] > peak.top ? highest[i] : peak.top;
    for (k = first; k < last; ++k) {
        if (z[k] == peak.top) {
            peak.where = k;
            break;
        }
    }
    Vector<T> sums{};
    for_registers<T>(last - first, [&](std::int64_t i, int count) {
        const Vector<T> powers = exp<T>(load(z + first + i, count) - peak.top);
        if (count == WIDTH<T>) {
            sums += powers;
        } else {
            for (int part = 0; part < count; ++part) sums[part] += powers[part];
        }
    });
    peak.total = sum<T>(sums);
    return peak;
}

template <typename T>
void logits(In<T, 'M', 'C'> h, In<T, 'V', 'C'> table, In<T, 'V'> bias, Extent<'M'> M, Extent<'V'> V, Extent<'C'> C,
            Out<T, 'M', 'V'> z) {
    multiply<T>(rows_of<T>(h, C), rows_of<T>(table, C), M, V, C, z, V, false,
         [=](std::int64_t i, std::int64_t i_end, std::int64_t j, std::int64_t j_end) {
             add_bias<T>(z, V, bias, i, i_end, j, j_end);
         });
}
KERNEL(logits)

template <typename T>
void cross_entropy_forward(In<T, 'M', 'C'> h, In<T, 'V', 'C'> table, In<T, 'V'> bias, RowNumbers<'M', 'V'> labels,
                           Extent<'M'> M, Extent<'V'> V, Extent<'C'> C, Out<T, 'M'> losses,
                           Out<std::int64_t, 'M'> predicted, Out<T, 'M'> log_sums, Out<T, 'M', 'V'> z) {
    // Each part of the logits is looked at once, when it has just been made.
    constexpr std::int64_t BLOCK = FLAT_PLAN_DEEP.columns;  // parts begin at multiples of this
    const std::int64_t blocks = (V + BLOCK - 1) / BLOCK;
    const Scratch<Peak<T>> of_parts(Buffer::KERNEL, M * blocks);  // (M, blocks); parts that are wider leave some as they are
    Peak<T>* peaks = of_parts.data();
    std::fill_n(peaks, M * blocks, Peak<T>{-T(__builtin_huge_val()), T(0), 0});
    multiply<T>(rows_of<T>(h, C), rows_of<T>(table, C), M, V, C, z, V, false,
         [=](std::int64_t i, std::int64_t i_end, std::int64_t j, std::int64_t j_end) {
             add_bias<T>(z, V, bias, i, i_end, j, j_end);
             for (; i < i_end; ++i) peaks[i * blocks + j / BLOCK] = peak_of(z + i * V, j, j_end);
         });
    parallel_ranges(M, double(blocks), [=](std::int64_t first, std::int64_t last) {
        for (std::int64_t m = first; m < last; ++m) {
            const Peak<T>* row_peaks = peaks + m * blocks;
            Peak<T> best = row_peaks[0];
            for (std::int64_t b = 1; b < blocks; ++b) best = row_peaks[b].top > best.top ? row_peaks[b] : best;
            T total = 0;
            for (std::int64_t b = 0; b < blocks; ++b) {
                total += row_peaks[b].total * exp<T>(Vector<T>{} + (row_peaks[b].top - best.top))[0];
            }
            const T log_total = static_cast<T>(__builtin_log(static_cast<double>(total)));
            predicted[m] = best.where;
            log_sums[m] = log_total + best.top;
            losses[m] = log_total - (z[m * V + labels[m]] - best.top);
        }
    });
}
KERNEL(cross_entropy_forward)

// dz = dloss · (exp(z - log_sum) - onehot(label)), in place
template <typename T>
void cross_entropy_slopes(InPlace<T, 'M', 'V'> z, In<T, 'M'> dlosses, In<T, 'M'> log_sums, RowNumbers<'M', 'V'> labels,
                          Extent<'M'> M, Extent<'V'> V) {
    parallel_ranges(M, double(V), [=](std::int64_t first, std::int64_t last) {
        for (std::int64_t m = first; m < last; ++m) {
            T* row = z + m * V;
            const T log_sum = log_sums[m], dloss = dlosses[m];
            // The label's is p - 1, of which p·dloss - dloss would round away digits where p is near 1.
            const T of_label = (exp<T>(Vector<T>{} + (row[labels[m]] - log_sum))[0] - T(1)) * dloss;
            for_registers<T>(V, [=](std::int64_t k, int count) {
                store(row + k, exp<T>(load(row + k, count) - log_sum) * dloss, count);
            });
            row[labels[m]] = of_label;
        }
    });
}
KERNEL(cross_entropy_slopes)

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
