// CUDA's names for a compiler that has none: what csrc/cuda/*.cu sees of CUDA when g++ compiles it for the simulator.
//
// A kernel runs on the CPU, each of its threads as a fiber (run.hpp). Only names that the kernels use stand here: a
// kernel with another one does not compile, and the name is added with CUDA's meaning.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cusim/run.hpp"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

#define threadIdx (cusim::current->index)
#define blockIdx (cusim::launched.block)
#define blockDim (cusim::launched.block_dim)
#define gridDim (cusim::launched.grid_dim)

// A parameter that is the place of the call.
#define CUSIM_AT cusim::Place at = {__builtin_FILE(), __builtin_LINE()}

// --- barriers ---------------------------------------------------------------------------------------------------------

inline void __syncthreads(CUSIM_AT) { cusim::barrier(cusim::Barrier::PLAIN, 0, at); }
inline int __syncthreads_count(int predicate, CUSIM_AT) { return cusim::barrier(cusim::Barrier::COUNT, predicate, at); }
inline int __syncthreads_and(int predicate, CUSIM_AT) { return cusim::barrier(cusim::Barrier::AND, predicate, at); }
inline int __syncthreads_or(int predicate, CUSIM_AT) { return cusim::barrier(cusim::Barrier::OR, predicate, at); }
inline void __syncwarp(unsigned mask = ~0u, CUSIM_AT) { cusim::meet(mask, "__syncwarp", {}, at); }
inline void __threadfence() {}
inline void __threadfence_block() {}

// --- what the lanes of a warp give to each other ----------------------------------------------------------------------

namespace cusim {
template <typename T>
T shuffle(unsigned mask, T value, unsigned lane, const char* operation, Place at) {
    static_assert(sizeof(T) <= sizeof(Post));
    Post post{};
    std::memcpy(&post, &value, sizeof value);
    meet(mask, operation, post, at);
    T found;
    std::memcpy(&found, &posted(mask, lane, at), sizeof found);
    return found;
}
}  // namespace cusim

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, CUSIM_AT) {
    const unsigned first = cusim::current->lane & ~unsigned(width - 1);
    return cusim::shuffle(mask, value, first + (unsigned(lane) & unsigned(width - 1)), "__shfl_sync", at);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int distance, int width = 32, CUSIM_AT) {
    const unsigned lane = cusim::current->lane, other = lane ^ unsigned(distance);
    const bool is_inside = other < (lane & ~unsigned(width - 1)) + unsigned(width);
    return cusim::shuffle(mask, value, is_inside ? other : lane, "__shfl_xor_sync", at);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32, CUSIM_AT) {
    const unsigned lane = cusim::current->lane;
    const bool is_inside = (lane & unsigned(width - 1)) + distance < unsigned(width);
    return cusim::shuffle(mask, value, is_inside ? lane + distance : lane, "__shfl_down_sync", at);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32, CUSIM_AT) {
    const unsigned lane = cusim::current->lane;
    const bool is_inside = (lane & unsigned(width - 1)) >= distance;
    return cusim::shuffle(mask, value, is_inside ? lane - distance : lane, "__shfl_up_sync", at);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, CUSIM_AT) {
    cusim::meet(mask, "__ballot_sync", {{std::uint64_t(predicate != 0)}}, at);
    unsigned votes = 0;
    for (unsigned lane = 0; lane < 32; ++lane) {
        if (mask >> lane & 1) votes |= unsigned(cusim::posted(mask, lane, at).words[0]) << lane;
    }
    return votes;
}
inline int __any_sync(unsigned mask, int predicate, CUSIM_AT) { return __ballot_sync(mask, predicate, at) != 0; }
inline int __all_sync(unsigned mask, int predicate, CUSIM_AT) { return __ballot_sync(mask, predicate, at) == mask; }

// --- atomics ----------------------------------------------------------------------------------------------------------

// Relaxed, as CUDA's are, and atomic for ThreadSanitizer, too.
inline int atomicAdd(int* to, int value) {
    cusim::maybe_yield();
    return __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}
inline unsigned atomicAdd(unsigned* to, unsigned value) {
    cusim::maybe_yield();
    return __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}
inline int atomicAnd(int* to, int value) {
    cusim::maybe_yield();
    return __atomic_fetch_and(to, value, __ATOMIC_RELAXED);
}
inline int atomicOr(int* to, int value) {
    cusim::maybe_yield();
    return __atomic_fetch_or(to, value, __ATOMIC_RELAXED);
}
inline int atomicExch(int* to, int value) {
    cusim::maybe_yield();
    return __atomic_exchange_n(to, value, __ATOMIC_RELAXED);
}

// --- vectors, bfloat16 and functions ----------------------------------------------------------------------------------

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

struct __nv_bfloat16 {
    std::uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};
inline float __bfloat162float(__nv_bfloat16 value) {
    const std::uint32_t bits = std::uint32_t{value.bits} << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}
inline __nv_bfloat16 __float2bfloat16(float value) {  // to the nearest, ties to even
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if (value != value) return {0x7fff};
    return {std::uint16_t((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}
inline float2 __bfloat1622float2(__nv_bfloat162 pair) { return {__bfloat162float(pair.x), __bfloat162float(pair.y)}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__float2bfloat16(x), __float2bfloat16(y)}; }

template <typename T>
T __ldg(const T* from) {
    return *from;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
using std::max;
using std::min;
