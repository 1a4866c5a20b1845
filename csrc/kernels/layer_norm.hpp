// Layer norm, and the sum before it with dropout; pyroberta/ops/layer_norm.py and add_norm.py are the references.
#pragma once

#include "kernels/linear.hpp"
#include "kernels/philox.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

constexpr std::int64_t NORM_ROWS = 32;  // a task; sums over rows are added up task by task, whatever thread did which

// Σ value(k) over a row of C, in four registers: value(k, count) gives the numbers k … k + count - 1.
template <typename T, typename Value>
PYROBERTA_INLINE T row_sum(std::int64_t C, const Value& value) {
    constexpr int W = WIDTH<T>;
    Vector<T> parts[4] = {};
    std::int64_t k = 0;
    for (; k + 4 * W <= C; k += 4 * W) {
        for (int part = 0; part < 4; ++part) parts[part] += value(k + part * W, W);
    }
    for (; k + W <= C; k += W) parts[0] += value(k, W);
    if (k < C) parts[1] += value(k, static_cast<int>(C - k));  // zeros in the rest of the register
    return sum<T>((parts[0] + parts[1]) + (parts[2] + parts[3]));
}

// x_hat holds a row of x and is normalised in place; y = gamma · x_hat + beta. Returns 1 / √(variance + epsilon).
template <typename T>
PYROBERTA_INLINE T normalise(T* PYROBERTA_RESTRICT x_hat, const T* gamma, const T* beta, T epsilon, std::int64_t C,
                             T* PYROBERTA_RESTRICT y) {
    const T mean = row_sum<T>(C, [=](std::int64_t k, int count) { return load(x_hat + k, count); }) / T(C);
    for (std::int64_t k = 0; k < C; ++k) x_hat[k] -= mean;
    const T variance = row_sum<T>(C, [=](std::int64_t k, int count) {
                           const Vector<T> centred = load(x_hat + k, count);
                           return centred * centred;
                       }) / T(C);
    const T inverse_std = T(1) / T(__builtin_sqrt(variance + epsilon));
    for (std::int64_t k = 0; k < C; ++k) {
        x_hat[k] *= inverse_std;
        y[k] = x_hat[k] * gamma[k] + beta[k];
    }
    return inverse_std;
}

template <typename T>
void layer_norm_forward(const T* x,                     // (N, C)
                        const T* gamma, const T* beta,  // (C,)
                        double epsilon, std::int64_t N, std::int64_t C,
                        T* y,              // (N, C)
                        T* x_hat,          // (N, C)
                        T* inverse_std) {  // (N,)
    parallel_ranges(N, double(C), [=](std::int64_t first, std::int64_t last) {
        for (std::int64_t n = first; n < last; ++n) {
            T* own = x_hat + n * C;
            std::memcpy(own, x + n * C, C * sizeof(T));
            inverse_std[n] = normalise(own, gamma, beta, static_cast<T>(epsilon), C, y + n * C);
        }
    });
}

// y = layer norm of x + dropout(h): the sum is made in x_hat's place.
template <typename T>
void add_norm_forward(const T* h, const T* x,         // (N, C)
                      const T* gamma, const T* beta,  // (C,)
                      double epsilon, std::int64_t N, std::int64_t C, DropoutKey key,
                      MaskRows mask,
                      T* y,              // (N, C)
                      T* x_hat,          // (N, C)
                      T* inverse_std) {  // (N,)
    const Dropout dropout = dropout_of(key);
    parallel_ranges(N, double(C), [=](std::int64_t first, std::int64_t last) {
        for (std::int64_t n = first; n < last; ++n) {
            T* PYROBERTA_RESTRICT own = x_hat + n * C;
            const T* PYROBERTA_RESTRICT h_row = h + n * C;
            const T* PYROBERTA_RESTRICT x_row = x + n * C;
            if (key.rate > 0) {
                draw_keep(dropout, mask.numbers[n], mask.positions[n] * C, C, own);
                for (std::int64_t k = 0; k < C; ++k) own[k] = x_row[k] + h_row[k] * own[k];
            } else {
                for (std::int64_t k = 0; k < C; ++k) own[k] = x_row[k] + h_row[k];
            }
            inverse_std[n] = normalise(own, gamma, beta, static_cast<T>(epsilon), C, y + n * C);
        }
    });
}

template <typename T>
void x_hat_of(const T* y, const T* gamma, const T* beta,  // (N, C), (C,)
              std::int64_t N, std::int64_t C,
              T* x_hat) {  // (N, C)
    parallel_ranges(N, double(C), [=](std::int64_t first, std::int64_t last) {
        for (std::int64_t n = first; n < last; ++n) {
            const T* PYROBERTA_RESTRICT from_row = y + n * C;
            T* PYROBERTA_RESTRICT to_row = x_hat + n * C;
            for (std::int64_t k = 0; k < C; ++k) to_row[k] = (from_row[k] - beta[k]) / gamma[k];
        }
    });
}

template <typename T>
void layer_norm_backward(const T* dy, const T* x_hat,  // (N, C)
                         const T* inverse_std,         // (N,)
                         const T* gamma,               // (C,)
                         std::int64_t N, std::int64_t C, const DropoutKey* key,
                         MaskRows mask,
                         T* dx, T* dh,           // (N, C); dh with dropout alone
                         T* dgamma, T* dbeta) {  // (C,)
    const std::int64_t tasks = (N + NORM_ROWS - 1) / NORM_ROWS;
    const Dropout dropout = key ? dropout_of(*key) : Dropout{};
    T* partial = scratch<T>(3, tasks * 2 * C);  // (tasks, 2, C): each task's share of dgamma and dbeta
    const auto some_rows = [=](std::int64_t task, int) {
        T* PYROBERTA_RESTRICT own_dgamma = partial + task * 2 * C;
        T* PYROBERTA_RESTRICT own_dbeta = own_dgamma + C;
        std::memset(own_dgamma, 0, 2 * C * sizeof(T));
        for (std::int64_t n = task * NORM_ROWS; n < std::min(N, (task + 1) * NORM_ROWS); ++n) {
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
                own_dgamma[k] += dy_row[k] * hat[k];  // forward: y = x_hat * gamma
                own_dbeta[k] += dy_row[k];            // forward: y += beta
                dx_row[k] = (dy_row[k] * gamma[k] - mean - hat[k] * along) * scale;
            }
            if (key) {
                T* PYROBERTA_RESTRICT dh_row = dh + n * C;
                draw_keep(dropout, mask.numbers[n], mask.positions[n] * C, C, dh_row);
                for (std::int64_t k = 0; k < C; ++k) dh_row[k] *= dx_row[k];  // forward: x + h · keep / (1 - rate)
            }
        }
    };
    parallel(tasks, threads_for(double(N) * C / NUMBERS_PER_THREAD), some_rows, Order::INWARDS);
    std::memset(dgamma, 0, C * sizeof(T));
    std::memset(dbeta, 0, C * sizeof(T));
    for (std::int64_t task = 0; task < tasks; ++task) {
        const T* PYROBERTA_RESTRICT own = partial + task * 2 * C;
        for (std::int64_t k = 0; k < C; ++k) dgamma[k] += own[k];
        for (std::int64_t k = 0; k < C; ++k) dbeta[k] += own[C + k];
    }
}

// y = x · keep / (1 - rate)
template <typename T>
void apply_dropout(const T* x, std::int64_t N, std::int64_t C, DropoutKey key, MaskRows mask, T* y) {
    const Dropout dropout = dropout_of(key);
    parallel_ranges(N, double(C), [=](std::int64_t first, std::int64_t last) {
        for (std::int64_t n = first; n < last; ++n) {
            T* PYROBERTA_RESTRICT y_row = y + n * C;
            const T* PYROBERTA_RESTRICT x_row = x + n * C;
            draw_keep(dropout, mask.numbers[n], mask.positions[n] * C, C, y_row);
            for (std::int64_t k = 0; k < C; ++k) y_row[k] *= x_row[k];
        }
    });
}

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
