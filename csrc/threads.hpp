// How many threads an op takes.
#pragma once

namespace pyroberta {

// The most that may be used now: what threadpoolctl or the caller has limited OpenMP to, else PYROBERTA_NUM_THREADS,
// else OpenMP's own number.
int most_threads();

// As many as there are shares of work that are worth waking a thread for; at least one.
int threads_for(double shares);

constexpr double NUMBERS_PER_THREAD = 1 << 15;  // for passes over arrays: a share of work is so many numbers

}  // namespace pyroberta
