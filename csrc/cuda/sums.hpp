// Sums over the rows of matrices, always in the same order: parts of ROWS_OF_PART rows, then the parts one by one.
#pragma once

#include "cuda/device.hpp"

namespace pyroberta {
namespace cuda {

constexpr std::int64_t ROWS_OF_PART = 64;
constexpr unsigned SUM_THREADS = 128;  // columns of a block

template <int COUNT>
struct Sums {
    float* of[COUNT];  // (C,) each
};

// parts[p, k, c] = Σ_n term k of (n, c), over the rows of part p. f(i, terms) gives the terms of element i.
template <int COUNT, typename F>
__global__ void __launch_bounds__(SUM_THREADS) sum_parts(std::int64_t N, std::int64_t C, F f, float* parts) {
    const std::int64_t c = std::int64_t{blockIdx.y} * SUM_THREADS + threadIdx.x, first = blockIdx.x * ROWS_OF_PART;
    if (c >= C) return;
    float sums[COUNT] = {};
    for (std::int64_t n = first; n < min(N, first + ROWS_OF_PART); ++n) {
        float terms[COUNT];
        f(n * C + c, terms);
        for (int k = 0; k < COUNT; ++k) sums[k] += terms[k];
    }
    for (int k = 0; k < COUNT; ++k) parts[(blockIdx.x * std::int64_t{COUNT} + k) * C + c] = sums[k];
}

template <int COUNT>
struct AddParts {
    const float* parts;
    std::int64_t num_parts, C;
    Sums<COUNT> sums;
    __device__ void operator()(std::int64_t i) const {
        float sum = 0.0f;
        for (std::int64_t p = 0; p < num_parts; ++p) sum += parts[p * COUNT * C + i];
        sums.of[i / C][i % C] = sum;
    }
};

// `f` is a struct with a device function operator()(std::int64_t i, float (&terms)[COUNT]); `name` is the op's.
template <int COUNT, typename F>
void sum_rows(Context& context, const char* name, std::int64_t N, std::int64_t C, F f, Sums<COUNT> sums) {
    const std::int64_t num_parts = quotient_up(N, ROWS_OF_PART);
    const Scratch<float> parts(context, num_parts * COUNT * C);
    const dim3 grid(static_cast<unsigned>(num_parts), static_cast<unsigned>(quotient_up<std::int64_t>(C, SUM_THREADS)));
    launch(context, name, sum_parts<COUNT, F>, grid, SUM_THREADS, 0, N, C, f, parts.data());
    for_each(context, name, COUNT * C, AddParts<COUNT>{parts.data(), num_parts, C, sums});
}

}  // namespace cuda
}  // namespace pyroberta
