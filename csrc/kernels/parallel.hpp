// Loops whose turns are shared among threads; see threads.hpp. Results do not depend on the number of threads where each
// turn writes its own part of them.
#pragma once

#include <algorithm>

#include "kernels/simd.hpp"
#include "runtime/threads.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

// A task of a body. With one thread and with many it is the same code, so that a compiler that contracts multiplications
// and additions here and not there cannot make results depend on the number of threads.
template <typename Body>
PYROBERTA_ONE_COPY void run_task(const void* body, std::int64_t task, int slot) {
    (*static_cast<const Body*>(body))(task, slot);
}

// body(task, slot) for each task in [0, tasks), in any order. `slot` is below `threads`: the number of the part of scratch
// memory that is the thread's own meanwhile.
template <typename Body>
PYROBERTA_INLINE void parallel(std::int64_t tasks, int threads, const Body& body, TaskOrder order = TaskOrder::RISING) {
    if (threads <= 1 || tasks <= 1) {
        for (std::int64_t task = 0; task < tasks; ++task) run_task<Body>(&body, task, 0);
    } else {
        run_tasks(tasks, threads, order, run_task<Body>, &body);
    }
}

// body(first, last) for ranges of [0, count) whose starts are multiples of `unit`. `numbers` is what one item costs, in
// numbers that a simple pass goes over.
template <typename Body>
PYROBERTA_INLINE void parallel_ranges(std::int64_t count, double numbers, const Body& body, std::int64_t unit = 1) {
    constexpr std::int64_t RANGES = 4;  // a thread: one that is held up leaves its others to the rest
    if (count <= 0) return;
    const int threads = threads_for(static_cast<double>(count) * numbers / NUMBERS_PER_THREAD);
    const std::int64_t units = (count + unit - 1) / unit, ranges = threads > 1 ? std::min(units, RANGES * threads) : 1;
    const std::int64_t step = (units + ranges - 1) / ranges * unit;
    const auto range = [&](std::int64_t task, int) { body(task * step, std::min(count, (task + 1) * step)); };
    parallel((count + step - 1) / step, threads, range, TaskOrder::INWARDS);
}

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
