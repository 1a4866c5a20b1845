// What the ops of one instruction set share: vectors of one register, and how to load, store and combine them.
//
// The files of kernels/ are compiled once for each instruction set, within a namespace of its name (CMakeLists.txt says
// PYROBERTA_ISA and PYROBERTA_BYTES). They, and what they include, may define no function outside that namespace that is
// not PYROBERTA_INLINE: the linker would keep one copy of it, perhaps the one that an older machine cannot run.
#pragma once

#include <cstdint>
#include <cstring>

#include "macros.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

constexpr int REGISTER = PYROBERTA_BYTES;  // bytes

template <typename T>
struct Register {
    typedef T type __attribute__((vector_size(REGISTER)));
    static constexpr int WIDTH = REGISTER / sizeof(T);
};
template <typename T>
using Vector = typename Register<T>::type;
template <typename T>
constexpr int WIDTH = Register<T>::WIDTH;

// memcpy is how C++ says "from any address"; each of these is one instruction.
template <typename T>
PYROBERTA_INLINE Vector<T> load(const T* from) {
    Vector<T> v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <typename T>
PYROBERTA_INLINE void store(T* to, Vector<T> v) {
    std::memcpy(to, &v, sizeof v);
}

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
