// The ops in C++, under the names they have in pyroberta/ops. Nothing here knows Python: bind.cpp checks and calls.
// Arrays are contiguous, aligned, and do not overlap. Each op exists for float and double.
#pragma once

#include <cstdint>

namespace pyroberta {

// m += (g - m)(1 - beta_1);  v += (g² - v)(1 - beta_2);  w -= learning_rate · m / (√v + epsilon)
template <typename T>
void adam_step(T* w,        // (P,) in place
               const T* g,  // (P,)
               T* m,        // (P,) in place
               T* v,        // (P,) in place
               std::int64_t P, double learning_rate, double beta_1, double beta_2, double epsilon);

}  // namespace pyroberta
