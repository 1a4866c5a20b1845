// Memory in large blocks, straight from the system where it can be had: what is given back is gone at once, and leaves no
// hole between neighbours that nobody can fill.
#pragma once

#include <cstddef>

namespace pyroberta {

// At least `bytes`, aligned to a cache line; large ones to a huge page, which the system is asked to use.
// nullptr where there is none.
void* pages_take(std::size_t bytes) noexcept;

// Gives back what pages_take gave for so many bytes.
void pages_give(void* memory, std::size_t bytes) noexcept;

}  // namespace pyroberta
