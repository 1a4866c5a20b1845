// Dropout's mask in kernels.
#pragma once

#include "cuda/device.hpp"

#define PYROBERTA_ISA cuda
#include "random.hpp"
#undef PYROBERTA_ISA

namespace pyroberta {
namespace cuda {

// What dropout multiplies numbers block·BLOCK_WORDS + i of the stream by.
__device__ __forceinline__ void draw_keep(const Dropout& dropout, std::uint64_t stream, std::int64_t block,
                                          float (&keep)[BLOCK_WORDS]) {
    std::uint32_t words[BLOCK_WORDS];
    philox(dropout, stream, static_cast<std::uint64_t>(block), words);
    UNROLL
    for (int i = 0; i < BLOCK_WORDS; ++i) keep[i] = words[i] >= dropout.threshold ? float(dropout.scale) : 0.0f;
}

// Calls f(c, keep) for the columns c of the lane, among C of a row: the row is numbers first to first + C of the
// stream. A lane takes the numbers of whole blocks.
template <typename F>
__device__ __forceinline__ void for_kept(const Dropout& dropout, std::uint64_t stream, std::int64_t first,
                                         std::int64_t C, const F& f) {
    const std::int64_t end = first + C;
    for (std::int64_t block = first / BLOCK_WORDS + threadIdx.x % WARP; block * BLOCK_WORDS < end; block += WARP) {
        float keep[BLOCK_WORDS];
        draw_keep(dropout, stream, block, keep);
        UNROLL
        for (int i = 0; i < BLOCK_WORDS; ++i) {
            const std::int64_t c = block * BLOCK_WORDS + i - first;
            if (c >= 0 && c < C) f(c, keep[i]);
        }
    }
}

}  // namespace cuda
}  // namespace pyroberta
