// The shared memory of the running block: fresh for each block, filled with NaN, and each array ends before a page that
// nobody may touch.
#pragma once

#include <cstddef>
#include <string>

namespace cusim {

bool begin_shared(std::size_t dynamic_bytes);
void end_shared();

bool is_shared(const void* memory, std::size_t bytes);

// What was written beside an array, or null.
const char* spoilt_shared();

// Where an address is, relative to the nearest array; empty if it is elsewhere.
std::string describe_shared(const void* address);

}  // namespace cusim
