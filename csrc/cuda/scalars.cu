// Scalars: numbers that one row gives to another, in float64; pyroberta/ops/arrays.py and adam.py are the reference.
#include "cuda/device.hpp"
#include "cuda/launchers.hpp"

namespace pyroberta::cuda::launchers {
namespace {

struct AddScalars {
    const double *x, *y;
    double* z;
    __device__ void operator()(std::int64_t) const { *z = *x + *y; }
};

struct ClipScale {
    const double* square;
    double limit;
    double* scale;
    __device__ void operator()(std::int64_t) const {
        const double norm = sqrt(*square);
        *scale = norm > limit ? limit / norm : 1.0;
    }
};

constexpr unsigned NORM_THREADS = 256;
constexpr std::int64_t NORM_PART = 32 * NORM_THREADS;  // numbers of x that a block sums up

// sums[b] = Σ x² over part b
__global__ void __launch_bounds__(NORM_THREADS) square_parts(const float* x, std::int64_t P, double* sums) {
    SHARED(double, shared, WARP);
    const std::int64_t first = blockIdx.x * NORM_PART, last = min(P, first + NORM_PART);
    double sum = 0.0;
    for (std::int64_t i = first + threadIdx.x; i < last; i += NORM_THREADS) sum += double(x[i]) * double(x[i]);
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// total = Σ sums, by one block
__global__ void __launch_bounds__(NORM_THREADS) add_up(const double* sums, std::int64_t size, double* total) {
    SHARED(double, shared, WARP);
    double sum = 0.0;
    for (std::int64_t i = threadIdx.x; i < size; i += NORM_THREADS) sum += sums[i];
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) *total = sum;
}

}  // namespace

void add_scalars(Context& context, const double* x, const double* y, double* z) {
    for_each(context, "add_scalars", 1, AddScalars{x, y, z});
}

void clip_scale(Context& context, const double* square, double limit, double* scale) {
    for_each(context, "clip_scale", 1, ClipScale{square, limit, scale});
}

void squared_norm(Context& context, const float* x, std::int64_t P, double* square) {
    const std::int64_t parts = quotient_up(P, NORM_PART);
    const Scratch<double> sums(context, parts);
    LAUNCH(context, square_parts, static_cast<unsigned>(parts), NORM_THREADS, 0, x, P, sums.data());
    LAUNCH(context, add_up, 1, NORM_THREADS, 0, sums.data(), parts, square);
}

}  // namespace pyroberta::cuda::launchers
