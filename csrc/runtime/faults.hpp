// Failures on purpose, for tests. In a build with PYROBERTA_FAULTS each allocation of the extension, and each start of a
// thread, asks maybe_fail; in any other build this file is nothing.
#pragma once

#include <atomic>
#include <new>

namespace pyroberta {

#ifdef PYROBERTA_FAULTS
inline std::atomic<long> until_fault{-1};  // allocations that succeed before one fails; negative: none fails

inline bool is_fault() { return until_fault.load() >= 0 && until_fault.fetch_sub(1) == 0; }
#else
constexpr bool is_fault() { return false; }
#endif

// Throws std::bad_alloc where it is time to.
inline void maybe_fail() {
    if (is_fault()) throw std::bad_alloc();
}

}  // namespace pyroberta
