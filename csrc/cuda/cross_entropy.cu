// Cross-entropy over the vocabulary, of logits; pyroberta/ops/cross_entropy.py is the reference.
#include "cuda/device.hpp"
#include "cuda/launchers.hpp"

namespace pyroberta::cuda::launchers {
namespace {

constexpr unsigned ROW_THREADS = 256;

// The largest number so far, and where: the first of equal ones.
struct Peak {
    float top;
    std::int64_t where;
    __device__ void take(float z, std::int64_t v) {
        if (z > top || (z == top && v < where)) {
            top = z;
            where = v;
        }
    }
};

// A block has a row.
__global__ void __launch_bounds__(ROW_THREADS)
cross_entropy_rows(const float* z, const std::int32_t* labels, std::int64_t V, float* losses, std::int64_t* predicted,
                   float* log_sums) {
    SHARED(Peak, peaks, ROW_THREADS / WARP);
    SHARED(float, shared, WARP);
    const std::int64_t m = blockIdx.x;
    const unsigned lane = threadIdx.x % WARP;
    z += m * V;
    Peak peak{-INFINITY, V};
    for (std::int64_t v = threadIdx.x; v < V; v += ROW_THREADS) peak.take(z[v], v);
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        const float top = __shfl_xor_sync(ALL_LANES, peak.top, distance);
        peak.take(top, __shfl_xor_sync(ALL_LANES, peak.where, distance));
    }
    if (lane == 0) peaks[threadIdx.x / WARP] = peak;
    __syncthreads();
    for (unsigned warp = 0; warp < ROW_THREADS / WARP; ++warp) peak.take(peaks[warp].top, peaks[warp].where);
    float sum = 0.0f;
    for (std::int64_t v = threadIdx.x; v < V; v += ROW_THREADS) sum += expf(z[v] - peak.top);
    const float log_total = logf(block_sum(sum, shared));
    if (threadIdx.x == 0) {
        predicted[m] = peak.where < V ? peak.where : 0;  // no number of the row is above -∞
        log_sums[m] = log_total + peak.top;
        losses[m] = log_total - (z[labels[m]] - peak.top);
    }
}

struct Slopes {
    float* z;
    const float *dlosses, *log_sums;
    const std::int32_t* labels;
    std::int64_t V;
    __device__ void operator()(std::int64_t i) const {
        const std::int64_t m = i / V;
        const float p = expf(z[i] - log_sums[m]);
        z[i] = (i % V == labels[m] ? p - 1.0f : p) * dlosses[m];
    }
};

}  // namespace

void cross_entropy_forward(Context& context, const float* z, const std::int32_t* labels, std::int64_t M, std::int64_t V,
                           float* losses, std::int64_t* predicted, float* log_sums) {
    LAUNCH(context, cross_entropy_rows, static_cast<unsigned>(M), ROW_THREADS, 0, z, labels, V, losses, predicted,
           log_sums);
}

void cross_entropy_slopes(Context& context, float* z, const float* dlosses, const float* log_sums,
                          const std::int32_t* labels, std::int64_t M, std::int64_t V) {
    for_each(context, "cross_entropy_slopes", M * V, Slopes{z, dlosses, log_sums, labels, V});
}

}  // namespace pyroberta::cuda::launchers
