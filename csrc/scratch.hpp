// Room to work in: each thread keeps a few buffers from call to call, so that nothing is allocated in the long run.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyroberta {

// At least `bytes`, aligned to a cache line; the contents are whatever the thread left there. Each number is a buffer
// of its own, valid until the same thread asks for the same number again.
void* scratch_bytes(int number, std::size_t bytes);

template <typename T>
inline __attribute__((always_inline)) T* scratch(int number, std::int64_t size) {
    return static_cast<T*>(scratch_bytes(number, static_cast<std::size_t>(size) * sizeof(T)));
}

}  // namespace pyroberta
