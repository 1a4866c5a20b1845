#include "bind/gil.hpp"

#include <cxxabi.h>

#include <chrono>
#include <thread>

namespace pyroberta {
namespace {

// Takes the GIL again. Before Python 3.14 a daemon thread that asks for it while the interpreter ends is ended by
// unwinding its stack, whose destructors would work on Python's objects without the GIL: it waits for the end of the
// process instead.
void take_gil(PyThreadState* thread) {
#ifdef __GLIBCXX__
    try {
        PyEval_RestoreThread(thread);
    } catch (const abi::__forced_unwind&) {
        for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
#else
    PyEval_RestoreThread(thread);
#endif
}

}  // namespace

WithoutGil::~WithoutGil() { take_gil(thread_); }

}  // namespace pyroberta
