// Room to work in: each thread that calls ops keeps a few buffers from call to call, so that nothing is allocated in the
// long run. The caller takes what the threads of an op need before they begin, so that no task can fail.
#pragma once

#include <cstddef>
#include <cstdint>

#include "macros.hpp"

namespace pyroberta {

// At least `bytes`, aligned to a cache line; the contents are whatever the thread left there. Each number is a buffer
// of its own, valid until the same thread asks for the same number again.
void* scratch_bytes(int number, std::size_t bytes);

template <typename T>
PYROBERTA_INLINE T* scratch(int number, std::int64_t size) {
    return static_cast<T*>(scratch_bytes(number, static_cast<std::size_t>(size) * sizeof(T)));
}

// A part of one buffer for each of an op's threads: rooms[slot], see threads.hpp.
template <typename T>
struct Rooms {
    T* first;
    std::int64_t step;
    PYROBERTA_INLINE T* operator[](int slot) const { return first + slot * step; }
};

// Parts of `size` each, none of which shares a cache line with another.
template <typename T>
PYROBERTA_INLINE Rooms<T> take_rooms(int number, std::int64_t size, int threads) {
    constexpr std::int64_t LINE = 64 / sizeof(T);
    const std::int64_t step = (size + LINE - 1) / LINE * LINE;
    return {scratch<T>(number, step * threads), step};
}

}  // namespace pyroberta
