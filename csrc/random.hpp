// Dropout's random numbers from a counter-based generator, for processors and GPUs: pyroberta/ops/dropout.py, bit for
// bit.
//
// Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") turns a counter of four 64-bit
// words into four random ones, so any part of a mask can be drawn, in any order and by any thread, and drawn again in
// backward.
//
// Who includes this file has defined PYROBERTA_ISA, the namespace in which the compiler's options hold.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "macros.hpp"
#include "types.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

__extension__ typedef unsigned __int128 Product;  // of two 64-bit numbers

// What dropout does to element e of stream s: times 1 / (1 - rate) where word e of the stream is at least the
// threshold, else times 0.
struct Dropout {
    std::uint64_t key_0, key_1;
    std::uint32_t threshold;  // min(rate · 2³² rounded half to even, 2³² - 1)
    double scale;             // 1 / (1 - rate)
};

inline Dropout dropout_of(DropoutKey key) {
    const double threshold = std::min(::nearbyint(key.rate * 4294967296.0), 4294967295.0);
    return {key.key_0, key.key_1, static_cast<std::uint32_t>(threshold), 1.0 / (1.0 - key.rate)};
}

constexpr int BLOCK_WORDS = 8;  // 32-bit words that one counter gives

// The words of one block: ten rounds, which between them raise the key by Weyl's constants. As in NumPy the counter is
// raised before the first block is drawn, so that block b has the counter {b + 1, 0, stream, 0}.
PYROBERTA_INLINE void philox(const Dropout& dropout, std::uint64_t stream, std::uint64_t block, std::uint32_t* words) {
    std::uint64_t c0 = block + 1, c1 = 0, c2 = stream, c3 = 0, key_0 = dropout.key_0, key_1 = dropout.key_1;
#ifdef __CUDA_ARCH__
#pragma unroll
#elif !defined(__CUDACC__)
#pragma GCC unroll 10
#endif
    for (int round = 0; round < 10; ++round) {
        const Product left = static_cast<Product>(0xD2E7470EE14C6C93u) * c0;
        const Product right = static_cast<Product>(0xCA5A826395121157u) * c2;
        c0 = static_cast<std::uint64_t>(right >> 64) ^ c1 ^ key_0;
        c1 = static_cast<std::uint64_t>(right);
        c2 = static_cast<std::uint64_t>(left >> 64) ^ c3 ^ key_1;
        c3 = static_cast<std::uint64_t>(left);
        key_0 += 0x9E3779B97F4A7C15u;
        key_1 += 0xBB67AE8584CAA73Bu;
    }
    const std::uint64_t outputs[4] = {c0, c1, c2, c3};
    memcpy(words, outputs, sizeof outputs);  // the low half first, as little-endian machines have it anyway
}

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
