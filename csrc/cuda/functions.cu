// Tanh and GELU; pyroberta/ops/tanh.py and gelu.py are the reference.
#include "cuda/functions.hpp"

#include "cuda/device.hpp"
#include "cuda/launchers.hpp"

namespace pyroberta::cuda::launchers {
namespace {

struct TanhForward {
    const float* x;
    float* y;
    __device__ void operator()(std::int64_t i) const { y[i] = tanhf(x[i]); }
};

struct TanhBackward {
    const float *dy, *y;
    float* dx;
    __device__ void operator()(std::int64_t i) const { dx[i] = dy[i] * (1.0f - y[i] * y[i]); }
};

struct GeluForward {
    const float* x;
    float* y;
    __device__ void operator()(std::int64_t i) const { y[i] = gelu(x[i]); }
};

struct GeluBackward {
    const float *dy, *x;
    float* dx;
    __device__ void operator()(std::int64_t i) const { dx[i] = dy[i] * gelu_slope(x[i]); }
};

}  // namespace

void tanh_forward(Context& context, const float* x, std::int64_t size, float* y) {
    for_each(context, "tanh_forward", size, TanhForward{x, y});
}

void tanh_backward(Context& context, const float* dy, const float* y, std::int64_t size, float* dx) {
    for_each(context, "tanh_backward", size, TanhBackward{dy, y, dx});
}

void gelu_forward(Context& context, const float* x, std::int64_t size, float* y) {
    for_each(context, "gelu_forward", size, GeluForward{x, y});
}

void gelu_backward(Context& context, const float* dy, const float* x, std::int64_t size, float* dx) {
    for_each(context, "gelu_backward", size, GeluBackward{dy, x, dx});
}

}  // namespace pyroberta::cuda::launchers
