// Products of matrices by another library, for the backend native-blas. Our threads call it, each for a block of the
// product, and its own threads stay asleep: two pools that both wait for the same processors hold each other up.
#pragma once

#include "types.hpp"

namespace pyroberta {

struct Blas {
    void *sgemm, *dgemm;           // cblas_sgemm, cblas_dgemm
    bool is_long;                  // sizes are 64-bit numbers
    int (*get_threads)();          // of the library; null, with set_threads, where that can't be said: then one call
    void (*set_threads)(int);      // makes the whole product
};

// The library that ops called from this thread use for products; null for our own code.
const Blas*& blas_of_thread();

// c (rows, columns) = or += a b
void blas_gemm(const Blas& blas, Factor<float> a, Factor<float> b, std::int64_t rows, std::int64_t columns,
               std::int64_t depth, float* c, std::int64_t c_step, bool add);
void blas_gemm(const Blas& blas, Factor<double> a, Factor<double> b, std::int64_t rows, std::int64_t columns,
               std::int64_t depth, double* c, std::int64_t c_step, bool add);

// As long as there is one of these, the library works on one thread. Afterwards it has as many as before.
class OneBlasThread {
   public:
    explicit OneBlasThread(const Blas& blas);
    ~OneBlasThread();
    OneBlasThread(const OneBlasThread&) = delete;
    OneBlasThread& operator=(const OneBlasThread&) = delete;

   private:
    const Blas& blas_;
};

// For a forked child, which has no thread that would end the calls of its parent's.
void end_calls_before_fork(const Blas& blas);

}  // namespace pyroberta
