// Memory for the arrays that ops return. What an array leaves when it dies is kept for the next one of about its size, so
// that a training step, which makes the same arrays again and again, asks the system for nothing.
#pragma once

#include <cstddef>

// What AddressSanitizer, where it is built in, shall take for nobody's and for somebody's: memory that is kept, and what
// a block has beyond the bytes that were asked for. Else these are nothing.
#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#endif

namespace pyroberta {

// At least `bytes`, aligned to a cache line, with unknown contents. Any thread may take and give.
// Throws std::bad_alloc.
void* pool_take(std::size_t bytes);

// Gives back what pool_take gave.
void pool_give(void* memory) noexcept;

// Returns all that is kept to the system; gives the number of bytes.
std::size_t pool_release();

// Bytes in use, and bytes kept.
void pool_counts(std::size_t& used, std::size_t& kept);

}  // namespace pyroberta
