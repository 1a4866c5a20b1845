// Dropout's mask, many numbers at a time.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/simd.hpp"
#include "random.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

// keep[n] = what dropout multiplies element first + n of the stream by, for n in [0, count).
template <typename T>
void draw_keep(const Dropout& dropout, std::uint64_t stream, std::int64_t first, std::int64_t count, T* keep) {
    constexpr std::int64_t MANY = 256;  // so that the vector loads come long after the 64-bit stores they read
    std::uint32_t words[MANY];
    const T scale = static_cast<T>(dropout.scale);
    const std::uint32_t threshold = dropout.threshold;
    while (count > 0) {
        const std::int64_t skip = first % BLOCK_WORDS, n = std::min(count, MANY - skip);
        const std::uint64_t block = static_cast<std::uint64_t>(first / BLOCK_WORDS);
        for (std::int64_t w = 0; w < skip + n; w += BLOCK_WORDS) {
            philox(dropout, stream, block + static_cast<std::uint64_t>(w / BLOCK_WORDS), words + w);
        }
        for (std::int64_t i = 0; i < n; ++i) keep[i] = words[skip + i] >= threshold ? scale : T(0);
        first += n;
        count -= n;
        keep += n;
    }
}

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
