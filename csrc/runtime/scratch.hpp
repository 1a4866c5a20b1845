// Room to work in: each thread that calls ops keeps a few buffers from call to call, so that nothing is allocated in the
// long run. The caller takes what the threads of an op need before they begin, so that no task can fail.
#pragma once

#include <cstddef>
#include <cstdint>

#include "macros.hpp"

namespace pyroberta {

// The buffers, each with the one file that may take it. Who wants a buffer of its own adds a name.
enum class Buffer {
    LEFT_PANELS,    // kernels/multiply.hpp: the left factor, packed
    RIGHT_PANELS,   // kernels/multiply.hpp: the right factor, packed by all threads together
    THREAD_PANELS,  // kernels/multiply.hpp: what each thread packs of the right factor for itself
    SEQUENCES,      // kernels/attention.hpp: the sequences of the batch
    KERNEL,         // the kernel that was called, kernels/*.cpp, for whatever it needs; kernels do not call each other
    COUNT           // of them
};

// At least `bytes`, aligned to a cache line; the contents are whatever the thread left there.
// Throws std::bad_alloc, and std::logic_error where the buffer is taken already.
void* scratch_take(Buffer buffer, std::size_t bytes);

// Ends what scratch_take began. The thread keeps the memory.
void scratch_give(Buffer buffer) noexcept;

// A buffer with `size` numbers, taken as long as there is one of these.
template <typename T>
class Scratch {
   public:
    PYROBERTA_INLINE Scratch(Buffer buffer, std::int64_t size)
        : buffer_(buffer), data_(static_cast<T*>(scratch_take(buffer, static_cast<std::size_t>(size) * sizeof(T)))) {}
    PYROBERTA_INLINE ~Scratch() { scratch_give(buffer_); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    PYROBERTA_INLINE T* data() const { return data_; }

   private:
    const Buffer buffer_;
    T* const data_;
};

// A buffer with a part of `size` numbers for each of an op's threads: rooms[slot], see threads.hpp. No two parts share a
// cache line.
template <typename T>
class Rooms {
   public:
    PYROBERTA_INLINE Rooms(Buffer buffer, std::int64_t size, int threads)
        : step_((size + LINE - 1) / LINE * LINE), scratch_(buffer, step_ * threads) {}

    PYROBERTA_INLINE T* operator[](int slot) const { return scratch_.data() + slot * step_; }

   private:
    static constexpr std::int64_t LINE = 64 / sizeof(T);
    const std::int64_t step_;
    const Scratch<T> scratch_;
};

}  // namespace pyroberta
