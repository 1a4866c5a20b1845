// The first include of each file with kernels: declares a kernel for each op of the list.
#pragma once

#include "types.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

#define OP(result, name, parameters) \
    template <typename T>            \
    PYROBERTA_HERE result name parameters;
#include "ops.hpp"

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta

// Stands after the definition of a kernel and compiles it for float and for double. Where the definition has another
// type than the declaration there are two functions of the name, and this does not compile.
#define KERNEL(name)                            \
    template decltype(name<float>) name<float>; \
    template decltype(name<double>) name<double>;
