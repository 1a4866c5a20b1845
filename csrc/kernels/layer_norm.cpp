// Layer norm; pyroberta/ops/layer_norm.py is the reference. Its backward is that of add and norm, too.
#include "kernels/kernel.hpp"
#include "kernels/norm.hpp"
#include "kernels/parallel.hpp"
#include "kernels/philox.hpp"
#include "runtime/scratch.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

constexpr std::int64_t NORM_ROWS = 32;  // a task; sums over rows are added up task by task, whatever thread did which

template <typename T>
void layer_norm_forward(In<T, 'N', 'C'> x, In<T, 'C'> gamma, In<T, 'C'> beta, double epsilon, Extent<'N'> N,
                        Extent<'C'> C, Out<T, 'N', 'C'> y, Out<T, 'N', 'C'> x_hat, Out<T, 'N'> inverse_std) {
    parallel_ranges(N, double(C), [=](std::int64_t first, std::int64_t last) {
        for (std::int64_t n = first; n < last; ++n) {
            T* hat_row = x_hat + n * C;
            std::memcpy(hat_row, x + n * C, C * sizeof(T));
            inverse_std[n] = normalise<T>(hat_row, gamma, beta, static_cast<T>(epsilon), C, y + n * C);
        }
    });
}
KERNEL(layer_norm_forward)

template <typename T>
void x_hat_of(In<T, 'N', 'C'> y, In<T, 'C'> gamma, In<T, 'C'> beta, Extent<'N'> N, Extent<'C'> C,
              Out<T, 'N', 'C'> x_hat) {
    parallel_ranges(N, double(C), [=](std::int64_t first, std::int64_t last) {
        for (std::int64_t n = first; n < last; ++n) {
            const T* PYROBERTA_RESTRICT from_row = y + n * C;
            T* PYROBERTA_RESTRICT to_row = x_hat + n * C;
            for (std::int64_t k = 0; k < C; ++k) to_row[k] = (from_row[k] - beta[k]) / gamma[k];
        }
    });
}
KERNEL(x_hat_of)

template <typename T>
void layer_norm_backward(In<T, 'N', 'C'> dy, In<T, 'N', 'C'> x_hat, In<T, 'N'> inverse_std, In<T, 'C'> gamma,
                         Extent<'N'> N, Extent<'C'> C, const DropoutKey* key, MaskRows mask, Out<T, 'N', 'C'> dx,
                         Out<T, 'N', 'C'> dh, Out<T, 'C'> dgamma, Out<T, 'C'> dbeta) {
    const std::int64_t tasks = (N + NORM_ROWS - 1) / NORM_ROWS;
    const Dropout dropout = key ? dropout_of(*key) : Dropout{};
    const Scratch<T> shares(Buffer::KERNEL, tasks * 2 * C);  // (tasks, 2, C): each task's of dgamma and dbeta
    T* partial = shares.data();
    const auto some_rows = [=](std::int64_t task, int) {
        T* PYROBERTA_RESTRICT task_dgamma = partial + task * 2 * C;
        T* PYROBERTA_RESTRICT task_dbeta = task_dgamma + C;
        std::memset(task_dgamma, 0, 2 * C * sizeof(T));
        for (std::int64_t n = task * NORM_ROWS; n < std::min<std::int64_t>(N, (task + 1) * NORM_ROWS); ++n) {
            const T* dy_row = dy + n * C;
            const T* hat = x_hat + n * C;
            // dx = (dx̂ - mean(dx̂) - x̂ · mean(dx̂ · x̂)) / std, with dx̂ = dy · gamma
            const T mean = row_sum<T>(C, [=](std::int64_t k, int count) {
                               return load(dy_row + k, count) * load(gamma + k, count);
                           }) / T(C);
            const T along = row_sum<T>(C, [=](std::int64_t k, int count) {
                                return load(dy_row + k, count) * load(gamma + k, count) * load(hat + k, count);
                            }) / T(C);
            T* PYROBERTA_RESTRICT dx_row = dx + n * C;
            const T scale = inverse_std[n];
            for (std::int64_t k = 0; k < C; ++k) {
                task_dgamma[k] += dy_row[k] * hat[k];  // forward: y = x_hat * gamma
                task_dbeta[k] += dy_row[k];            // forward: y += beta
                dx_row[k] = (dy_row[k] * gamma[k] - mean - hat[k] * along) * scale;
            }
            if (key) {
                T* PYROBERTA_RESTRICT dh_row = dh + n * C;
                draw_keep(dropout, mask.numbers[n], mask.positions[n] * C, C, dh_row);
                for (std::int64_t k = 0; k < C; ++k) dh_row[k] *= dx_row[k];  // forward: x + h · keep / (1 - rate)
            }
        }
    };
    parallel(tasks, threads_for(double(N) * C / NUMBERS_PER_THREAD), some_rows, TaskOrder::INWARDS);
    std::memset(dgamma, 0, C * sizeof(T));
    std::memset(dbeta, 0, C * sizeof(T));
    for (std::int64_t task = 0; task < tasks; ++task) {
        const T* PYROBERTA_RESTRICT task_sums = partial + task * 2 * C;
        for (std::int64_t k = 0; k < C; ++k) dgamma[k] += task_sums[k];
        for (std::int64_t k = 0; k < C; ++k) dbeta[k] += task_sums[C + k];
    }
}
KERNEL(layer_norm_backward)

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
