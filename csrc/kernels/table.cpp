// The table of the ops for one instruction set. Each member is the kernel of its name.
#include "kernels/kernel.hpp"
#include "runtime/dispatch.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

template <typename T>
constexpr Ops<T> table() {
    Ops<T> ops{};
#define OP(result, name, parameters) ops.name = name<T>;
#include "ops.hpp"
    return ops;
}

extern const InstructionSet set;
const InstructionSet set = {PYROBERTA_NAME, table<float>(), table<double>()};

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
