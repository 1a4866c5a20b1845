// What kernels share.
#pragma once

#include "cuda/seam.hpp"

namespace pyroberta {
namespace cuda {

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr unsigned EACH_THREADS = 256;

template <typename T>
__host__ __device__ constexpr T quotient_up(T a, T b) {
    return (a + b - 1) / b;
}

// --- a thread for each number -----------------------------------------------------------------------------------------

// Calls f(i) for each i in [0, size), a thread for each.
template <typename F>
__global__ void __launch_bounds__(EACH_THREADS) each(std::int64_t size, F f) {
    const std::int64_t i = std::int64_t{blockIdx.x} * EACH_THREADS + threadIdx.x;
    if (i < size) f(i);
}

// `f` is a struct whose operator() is a device function; `name` is the op's.
template <typename F>
void for_each(Context& context, const char* name, std::int64_t size, F f) {
    const auto blocks = static_cast<unsigned>(quotient_up<std::int64_t>(size, EACH_THREADS));
    launch(context, name, each<F>, blocks, EACH_THREADS, 0, size, f);
}

// --- sums and maxima of a warp and of a block -------------------------------------------------------------------------

// Every lane gets the result. Lanes l and l ^ distance add the same two numbers, so all have the same bits.
template <typename T>
__device__ __forceinline__ T warp_sum(T value) {
    for (int distance = WARP / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}
__device__ __forceinline__ float warp_max(float value) {
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, distance));
    }
    return value;
}

// Every thread gets the sum over the block, of at most WARP warps, in an order that does not depend on which warp comes
// first. `shared` has WARP numbers, which no thread uses otherwise.
template <typename T>
__device__ __forceinline__ T block_sum(T value, T* shared) {
    const unsigned lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    value = warp_sum(value);
    __syncthreads();  // the sum before has been read
    if (lane == 0) shared[threadIdx.x / WARP] = value;
    __syncthreads();
    return warp_sum(lane < warps ? shared[lane] : T(0));
}

// --- products in float32 ----------------------------------------------------------------------------------------------

// sums[i][j] += Σ_d left[d][row + i] right[d][column + j], over the DEPTH lines of two panels in shared memory. A line
// begins LEFT_STEP and RIGHT_STEP numbers behind the one before, at a multiple of 16 bytes.
template <int DEPTH, int LEFT_STEP, int RIGHT_STEP>
__device__ __forceinline__ void multiply_panels(const float* left, int row, const float* right, int column,
                                                float (&sums)[4][4]) {
    UNROLL
    for (int d = 0; d < DEPTH; ++d) {
        const float4 l = *reinterpret_cast<const float4*>(left + d * LEFT_STEP + row);
        const float4 r = *reinterpret_cast<const float4*>(right + d * RIGHT_STEP + column);
        const float ls[4] = {l.x, l.y, l.z, l.w}, rs[4] = {r.x, r.y, r.z, r.w};
        UNROLL
        for (int i = 0; i < 4; ++i) {
            UNROLL
            for (int j = 0; j < 4; ++j) sums[i][j] += ls[i] * rs[j];
        }
    }
}

}  // namespace cuda
}  // namespace pyroberta
