// In builds with PYROBERTA_FAULTS the extension's own `new` fails when a test asks for it; in any other this file is nothing.
#include "runtime/faults.hpp"

#ifdef PYROBERTA_FAULTS

#include <cstdlib>

void* operator new(std::size_t bytes) {
    pyroberta::maybe_fail();
    if (void* memory = std::malloc(bytes ? bytes : 1)) return memory;
    throw std::bad_alloc();
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

#endif
