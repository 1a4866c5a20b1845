#include "threads.hpp"

#include <algorithm>
#include <cstdlib>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace pyroberta {

#ifdef _OPENMP
namespace {

const int at_start = omp_get_max_threads();

int wanted() {
    const char* text = std::getenv("PYROBERTA_NUM_THREADS");
    const int number = text ? std::atoi(text) : 0;
    return number > 0 ? number : at_start;
}

}  // namespace

int most_threads() {
    static const int own = wanted();
    const int now = omp_get_max_threads();
    return now == at_start ? own : std::min(own, now);
}
#else
int most_threads() { return 1; }
#endif

int threads_for(double shares) {
#ifdef PYROBERTA_ALL_THREADS
    shares = most_threads();  // for ThreadSanitizer: what is small is done in parallel too
#endif
    return std::max(1, static_cast<int>(std::min<double>(most_threads(), shares)));
}

}  // namespace pyroberta
