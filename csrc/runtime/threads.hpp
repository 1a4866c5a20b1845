// The threads that share an op's tasks with the thread that called it.
//
// A worker looks for the next op for some microseconds and then sleeps. Tasks are handed out one by one, and an op waits
// only for workers that have begun one, so that a machine whose processors are busy with other programs delays it by
// little. Several threads may call ops at once; workers help each of them.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

namespace pyroberta {

// The most threads that an op uses, the caller's included. Before set_most_threads: PYROBERTA_NUM_THREADS, else
// OMP_NUM_THREADS, else one for each processor that this process may use (processors.hpp).
// Throws std::runtime_error where PYROBERTA_NUM_THREADS is no whole number from 1 to 65536.
int most_threads();

// Ops that begin later use at most `threads`, which is at least 1.
void set_most_threads(int threads);

// The number of threads in words: what most_threads says, and how many there are where the system refused to start one.
std::string describe_threads();

// As many threads as there are shares of work that are worth waking one for: at least 1, at most most_threads(), and no
// more than there are tasks.
int threads_for(double shares, std::int64_t tasks = std::numeric_limits<std::int64_t>::max());

constexpr double NUMBERS_PER_THREAD = 1 << 15;  // for passes over arrays: a share of work is so many numbers

// A task of an op. `slot` is below the number of threads, and no two threads have the same one at the same time: it
// chooses the thread's part of memory that the caller has taken for all.
using Task = void (*)(const void* body, std::int64_t task, int slot);

// Who takes which task. RISING: each thread takes the next one. INWARDS: the caller goes up from the first one and the
// workers go down from the last, until they meet: for passes over arrays, so that a thread mostly finds what it had in its
// cache from the pass before.
enum class TaskOrder { RISING, INWARDS };

// Runs the tasks [0, tasks) on the calling thread and at most threads - 1 workers, and returns when all are done. Where
// one throws, tasks that nobody has begun are dropped, and the first exception is thrown to the caller. Allocates
// nothing but workers that are not there yet; where none can be started, fewer threads do the work.
void run_tasks(std::int64_t tasks, int threads, TaskOrder order, Task call, const void* body);

}  // namespace pyroberta
