// Adam's step, which is compiled on its own; see adam.cpp.
#pragma once

#include <cstdint>

namespace pyroberta {
namespace PYROBERTA_ISA {

template <typename T>
void adam_step(T* w, const T* g, T* m, T* v,  // (P,) each; w, m, v in place
               std::int64_t P, double learning_rate, double beta_1, double beta_2, double epsilon, double scale,
               double decay);

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
