#include "runtime/blas.hpp"

#include <algorithm>
#include <mutex>

#ifndef _WIN32
#include <pthread.h>
#endif

namespace pyroberta {
namespace {

enum MatrixOrder : int { ROW_MAJOR = 101 };
enum Transpose : int { AS_IT_IS = 111, TRANSPOSED = 112 };

// A factor as BLAS wants it: where its inner step is 1 it lies as it is read, else it is the transpose of what lies there.
struct BlasFactor {
    Transpose transpose;
    std::int64_t step;
};

BlasFactor blas_factor(std::int64_t outer_step, std::int64_t inner_step, std::int64_t outer, std::int64_t inner) {
    if (inner_step == 1) return {AS_IT_IS, std::max({outer_step, inner, std::int64_t{1}})};
    return {TRANSPOSED, std::max({inner_step, outer, std::int64_t{1}})};
}

template <typename Int, typename T>
void call(void* function, Factor<T> a, Factor<T> b, std::int64_t rows, std::int64_t columns, std::int64_t depth, T* c,
          std::int64_t c_step, bool add) {
    using Gemm = void (*)(MatrixOrder, Transpose, Transpose, Int, Int, Int, T, const T*, Int, const T*, Int, T, T*, Int);
    const BlasFactor left = blas_factor(a.row_step, a.depth_step, rows, depth);
    const BlasFactor right = blas_factor(b.depth_step, b.row_step, depth, columns);
    reinterpret_cast<Gemm>(function)(ROW_MAJOR, left.transpose, right.transpose, static_cast<Int>(rows),
                                     static_cast<Int>(columns), static_cast<Int>(depth), T(1), a.data,
                                     static_cast<Int>(left.step), b.data, static_cast<Int>(right.step), T(add ? 1 : 0), c,
                                     static_cast<Int>(std::max(c_step, columns)));
}

// How many calls want the library on one thread, and how many it had before the first of them.
std::mutex mutex;
int users = 0, threads_before = 0;

#ifndef _WIN32
[[maybe_unused]] const int at_fork = pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); },
                                                    [] { mutex.unlock(); });
#endif

}  // namespace

const Blas*& blas_of_thread() {
    thread_local const Blas* chosen = nullptr;
    return chosen;
}

void blas_gemm(const Blas& blas, Factor<float> a, Factor<float> b, std::int64_t rows, std::int64_t columns,
               std::int64_t depth, float* c, std::int64_t c_step, bool add) {
    const auto gemm = blas.is_long ? call<std::int64_t, float> : call<int, float>;
    gemm(blas.sgemm, a, b, rows, columns, depth, c, c_step, add);
}

void blas_gemm(const Blas& blas, Factor<double> a, Factor<double> b, std::int64_t rows, std::int64_t columns,
               std::int64_t depth, double* c, std::int64_t c_step, bool add) {
    const auto gemm = blas.is_long ? call<std::int64_t, double> : call<int, double>;
    gemm(blas.dgemm, a, b, rows, columns, depth, c, c_step, add);
}

OneBlasThread::OneBlasThread(const Blas& blas) : blas_(blas) {
    if (!blas_.set_threads) return;
    const std::lock_guard<std::mutex> lock(mutex);
    if (users++ > 0) return;
    threads_before = blas_.get_threads();
    if (threads_before != 1) blas_.set_threads(1);
}

OneBlasThread::~OneBlasThread() {
    if (!blas_.set_threads) return;
    const std::lock_guard<std::mutex> lock(mutex);
    // Where it has another number by now, somebody else has set it.
    if (--users == 0 && threads_before != 1 && blas_.get_threads() == 1) blas_.set_threads(threads_before);
}

void end_calls_before_fork(const Blas& blas) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (users > 0 && blas.set_threads && threads_before != 1) blas.set_threads(threads_before);
    users = 0;
}

}  // namespace pyroberta
