// Accesses to memory that a kernel does not have: each array ends before a page that nobody may touch. A sanitizer reports
// them itself; the build without one catches the signal, and names the thread and the line.
#pragma once

#include <string>

namespace cusim {

struct Fault {
    const void* address;
    const void* instruction;
    bool is_write;
};

// While a launch runs.
void watch_faults();
void unwatch_faults();

// The fault that ended the fiber, or null.
const Fault* take_fault();

std::string place_of(const Fault& fault);  // file:line
std::string describe(const Fault& fault);

std::string running_thread();

[[noreturn]] void end_fiber();  // the running one, for good

}  // namespace cusim
