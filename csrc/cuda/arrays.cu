// What is done to arrays element by element; pyroberta/ops/arrays.py is the reference.
#include "cuda/device.hpp"
#include "cuda/launchers.hpp"

namespace pyroberta::cuda::launchers {
namespace {

struct Fill {
    float* x;
    float value;
    __device__ void operator()(std::int64_t i) const { x[i] = value; }
};

struct Add {
    const float *x, *y;
    float* z;
    __device__ void operator()(std::int64_t i) const { z[i] = x[i] + y[i]; }
};

struct Maximum {
    float* largest;
    const float* x;
    __device__ void operator()(std::int64_t i) const {
        if (x[i] > largest[i] || x[i] != x[i]) largest[i] = x[i];
    }
};

struct Clip {
    float* x;
    float limit;
    __device__ void operator()(std::int64_t i) const {
        if (x[i] > limit) x[i] = limit;
        if (x[i] < -limit) x[i] = -limit;
    }
};

struct RunningMean {
    float* mean;
    const float* x;
    float keep, others;
    __device__ void operator()(std::int64_t i) const { mean[i] = mean[i] * keep + x[i] * others; }
};

constexpr unsigned FINITE_THREADS = 256, FINITE_EACH = 16;  // numbers of a thread

__global__ void __launch_bounds__(FINITE_THREADS)
clear_unless_finite_kernel(const float* x, std::int64_t size, std::int32_t* is_finite) {
    const std::int64_t first = std::int64_t{blockIdx.x} * FINITE_THREADS * FINITE_EACH;
    int is_bad = 0;
    for (unsigned k = 0; k < FINITE_EACH; ++k) {
        const std::int64_t i = first + k * FINITE_THREADS + threadIdx.x;
        if (i < size && x[i] - x[i] != 0.0f) is_bad = 1;
    }
    if (__syncthreads_or(is_bad) && threadIdx.x == 0) atomicAnd(is_finite, 0);
}

}  // namespace

void fill(Context& context, float* x, std::int64_t size, float value) {
    for_each(context, "fill", size, Fill{x, value});
}

void add(Context& context, const float* x, const float* y, std::int64_t size, float* z) {
    for_each(context, "add", size, Add{x, y, z});
}

void copy(Context& context, float* target, const float* source, std::int64_t size) {
    context.copy(target, source, static_cast<std::size_t>(size) * sizeof(float));
}

void maximum(Context& context, float* largest, const float* x, std::int64_t size) {
    for_each(context, "maximum", size, Maximum{largest, x});
}

void clip(Context& context, float* x, std::int64_t size, float limit) {
    for_each(context, "clip", size, Clip{x, limit});
}

void running_mean(Context& context, float* mean, const float* x, std::int64_t P, float keep, float others) {
    for_each(context, "running_mean", P, RunningMean{mean, x, keep, others});
}

void clear_unless_finite(Context& context, const float* x, std::int64_t size, std::int32_t* is_finite) {
    const auto blocks = static_cast<unsigned>(quotient_up<std::int64_t>(size, FINITE_THREADS * FINITE_EACH));
    LAUNCH(context, clear_unless_finite_kernel, blocks, FINITE_THREADS, 0, x, size, is_finite);
}

}  // namespace pyroberta::cuda::launchers
