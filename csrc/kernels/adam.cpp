// Adam's update on a flat vector; pyroberta/ops/adam.py is the reference.
//
// Every element goes through the reference's operations in the reference's order, and this file is compiled without
// contraction into fused multiply-adds: the result is the reference's to the last bit, on any machine and for any
// number of threads. It reads and writes memory faster than it computes, so a fused multiply-add would buy nothing.
#include <algorithm>
#include <cmath>

#include "kernels/kernel.hpp"
#include "kernels/parallel.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {
namespace {

constexpr std::int64_t CHUNK = 1 << 14;  // elements of a task

}  // namespace

template <typename T>
void adam_step(InPlace<T, 'P'> w, In<T, 'P'> g, InPlace<T, 'P'> m, InPlace<T, 'P'> v, Extent<'P'> P,
               double learning_rate, double beta_1, double beta_2, double epsilon, double scale, double decay) {
    const T rate = static_cast<T>(learning_rate), eps = static_cast<T>(epsilon);
    const T take_1 = static_cast<T>(1.0 - beta_1), take_2 = static_cast<T>(1.0 - beta_2);
    const T scaled = static_cast<T>(scale), decayed = static_cast<T>(decay);
    const std::int64_t tasks = (P + CHUNK - 1) / CHUNK;
    const auto some = [=](std::int64_t task, int) {
        const std::int64_t stop = std::min<std::int64_t>(P, (task + 1) * CHUNK);
        T* PYROBERTA_RESTRICT w_ = w;
        T* PYROBERTA_RESTRICT m_ = m;
        T* PYROBERTA_RESTRICT v_ = v;
        const T* PYROBERTA_RESTRICT g_ = g;
        for (std::int64_t i = task * CHUNK; i < stop; ++i) {
            const T slope = g_[i] * scaled;
            const T rest = w_[i] - w_[i] * decayed;
            m_[i] += (slope - m_[i]) * take_1;
            v_[i] += (slope * slope - v_[i]) * take_2;
            w_[i] = rest - m_[i] / (std::sqrt(v_[i]) + eps) * rate;
        }
    };
    parallel(tasks, threads_for(double(P) / NUMBERS_PER_THREAD), some, TaskOrder::INWARDS);
}
KERNEL(adam_step)

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
