// Norms and dropout; pyroberta/ops/layer_norm.py, dropout.py and add_norm.py are the reference. A warp has a row.
#include "cuda/launchers.hpp"
#include "cuda/dropout.hpp"
#include "cuda/sums.hpp"

namespace pyroberta::cuda::launchers {
namespace {

constexpr unsigned ROWS = 4, NORM_THREADS = ROWS * WARP;  // of a block

unsigned blocks_of(std::int64_t N) { return static_cast<unsigned>(quotient_up<std::int64_t>(N, ROWS)); }

__device__ __forceinline__ std::int64_t row_of_warp() { return std::int64_t{blockIdx.x} * ROWS + threadIdx.x / WARP; }

template <bool DROPS>
__global__ void __launch_bounds__(NORM_THREADS)
add_norm_forward_kernel(const float* h, const float* x, const float* gamma, const float* beta, float epsilon,
                        std::int64_t N, std::int64_t C, Dropout dropout, MaskRows mask, float* y, float* x_hat,
                        float* inverse_std) {
    const std::int64_t n = row_of_warp(), lane = threadIdx.x % WARP;
    if (n >= N) return;
    x += n * C;
    y += n * C;
    x_hat += n * C;  // the sum at first
    if (DROPS) {
        h += n * C;
        for_kept(dropout, mask.numbers[n], mask.positions[n] * C, C, [&](std::int64_t c, float keep) {
            x_hat[c] = x[c] + h[c] * keep;
        });
    } else {
        if (h) h += n * C;
        for (std::int64_t c = lane; c < C; c += WARP) x_hat[c] = h ? x[c] + h[c] : x[c];
    }
    __syncwarp();  // other lanes have other columns from here on
    float sum = 0.0f, squares = 0.0f;
    for (std::int64_t c = lane; c < C; c += WARP) sum += x_hat[c];
    const float mean = warp_sum(sum) / float(C);
    for (std::int64_t c = lane; c < C; c += WARP) {
        const float centred = x_hat[c] - mean;
        squares += centred * centred;
    }
    const float scale = 1.0f / sqrtf(warp_sum(squares) / float(C) + epsilon);
    for (std::int64_t c = lane; c < C; c += WARP) {
        const float hat = (x_hat[c] - mean) * scale;
        x_hat[c] = hat;
        y[c] = hat * gamma[c] + beta[c];
    }
    if (lane == 0) inverse_std[n] = scale;
}

// dx = (dx̂ - mean(dx̂) - x̂ · mean(dx̂ · x̂)) · inverse_std, with dx̂ = dy · gamma
template <bool DROPS>
__global__ void __launch_bounds__(NORM_THREADS)
add_norm_backward_kernel(const float* dy, const float* x_hat, const float* inverse_std, const float* gamma,
                         std::int64_t N, std::int64_t C, Dropout dropout, MaskRows mask, float* dx, float* dh) {
    const std::int64_t n = row_of_warp(), lane = threadIdx.x % WARP;
    if (n >= N) return;
    dy += n * C;
    x_hat += n * C;
    dx += n * C;
    float sum = 0.0f, products = 0.0f;
    for (std::int64_t c = lane; c < C; c += WARP) {
        const float slope = dy[c] * gamma[c];
        sum += slope;
        products += slope * x_hat[c];
    }
    const float mean = warp_sum(sum) / float(C), along = warp_sum(products) / float(C), scale = inverse_std[n];
    for (std::int64_t c = lane; c < C; c += WARP) dx[c] = (dy[c] * gamma[c] - mean - x_hat[c] * along) * scale;
    if (DROPS) {
        dh += n * C;
        __syncwarp();
        for_kept(dropout, mask.numbers[n], mask.positions[n] * C, C, [&](std::int64_t c, float keep) {
            dh[c] = dx[c] * keep;  // forward: x + h · keep / (1 - rate)
        });
    }
}

struct NormTerms {
    const float *dy, *x_hat;
    __device__ void operator()(std::int64_t i, float (&terms)[2]) const {
        terms[0] = dy[i] * x_hat[i];  // forward: y = x_hat * gamma
        terms[1] = dy[i];             // forward: y += beta
    }
};

__global__ void __launch_bounds__(NORM_THREADS)
dropout_kernel(const float* x, std::int64_t N, std::int64_t C, Dropout dropout, MaskRows mask, float* y) {
    const std::int64_t n = row_of_warp();
    if (n >= N) return;
    for_kept(dropout, mask.numbers[n], mask.positions[n] * C, C, [&](std::int64_t c, float keep) {
        y[n * C + c] = x[n * C + c] * keep;
    });
}

}  // namespace

void add_norm_forward(Context& context, const float* h, const float* x, const float* gamma, const float* beta,
                      float epsilon, std::int64_t N, std::int64_t C, DropoutKey key, MaskRows mask, float* y,
                      float* x_hat, float* inverse_std) {
    const auto kernel = h && key.rate > 0.0 ? add_norm_forward_kernel<true> : add_norm_forward_kernel<false>;
    launch(context, "add_norm_forward", kernel, blocks_of(N), NORM_THREADS, 0, h, x, gamma, beta, epsilon, N, C,
           dropout_of(key), mask, y, x_hat, inverse_std);
}

void add_norm_backward(Context& context, const float* dy, const float* x_hat, const float* inverse_std,
                       const float* gamma, std::int64_t N, std::int64_t C, DropoutKey key, MaskRows mask, float* dx,
                       float* dh, float* dgamma, float* dbeta) {
    const auto kernel = key.rate > 0.0 ? add_norm_backward_kernel<true> : add_norm_backward_kernel<false>;
    launch(context, "add_norm_backward", kernel, blocks_of(N), NORM_THREADS, 0, dy, x_hat, inverse_std, gamma, N, C,
           dropout_of(key), mask, dx, dh);
    sum_rows<2>(context, "add_norm_backward", N, C, NormTerms{dy, x_hat}, {{dgamma, dbeta}});
}

void dropout(Context& context, const float* x, std::int64_t N, std::int64_t C, DropoutKey key, MaskRows mask,
             float* y) {
    LAUNCH(context, dropout_kernel, blocks_of(N), NORM_THREADS, 0, x, N, C, dropout_of(key), mask, y);
}

}  // namespace pyroberta::cuda::launchers
