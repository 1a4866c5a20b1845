// Device memory.
#pragma once

#include <cstddef>
#include <string>

namespace cusim {

// New memory, filled with NaN, or null.
void* make_device_memory(std::size_t bytes);
void drop_device_memory(void* memory);  // nobody may touch it afterwards
std::size_t bytes_of_device_memory(const void* memory);  // that begins there; -1 where none does

bool is_device(const void* memory, std::size_t bytes);

// What was written beside the memory; empty if nothing was.
std::string spoilt_device();

// Where an address is, relative to the nearest memory.
std::string describe_device(const void* address);

}  // namespace cusim
