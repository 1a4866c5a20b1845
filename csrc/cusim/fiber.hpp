// Fibers: stacks of their own on one thread, which AddressSanitizer and ThreadSanitizer are told about.
//
// This file's code is compiled without instrumentation (CMakeLists.txt), and with CUSIM_ADDRESS or CUSIM_THREAD where
// the kernels have it.
#pragma once

#include <cstddef>

namespace cusim {

constexpr std::size_t STACK = std::size_t{128} << 10;

struct Fiber {
    void* stack_pointer;
    char* stack;  // STACK bytes
    void* fake_stack;
    void* tsan;
};

// Makes a fiber that will call `entry`, which must end with `leave`.
void make_fiber(Fiber& fiber, char* stack, void (*entry)());

// From the scheduler to a fiber, and back.
void enter(Fiber& fiber);
void leave(Fiber& fiber, bool is_last = false);

void begin_fiber();  // the first thing that `entry` calls

void release(void* tag);  // what this fiber did comes before
void acquire(void* tag);  // what the fiber does that acquires the tag

// A fiber of ThreadSanitizer that is destroyed gives its identity to a later one, whose accesses would then seem to be
// the same thread's, and races between blocks would be missed. They live to the end of the launch.
void begin_launch();
void begin_block(unsigned count);  // of so many fibers
void retire(Fiber& fiber);
void end_launch();

// Fresh memory, or null. ThreadSanitizer would take what a former block did to the same memory for a race.
char* map_memory(std::size_t bytes);
void unmap_memory(char* memory, std::size_t bytes);
#ifdef CUSIM_THREAD
constexpr bool FRESH_MEMORY = true;
#else
constexpr bool FRESH_MEMORY = false;
#endif

// What the simulator reads or writes in a thread's stead.
void note_read(const void* memory, std::size_t bytes);
void note_write(void* memory, std::size_t bytes);

// What AddressSanitizer takes for nobody's memory.
void poison(const void* memory, std::size_t bytes);
void unpoison(const void* memory, std::size_t bytes);
bool is_poisoned(const void* memory, std::size_t bytes);

}  // namespace cusim
