// The first include of each file with bindings: what the list of the ops is for them.
#pragma once

#include "cuda/bind/call.hpp"

namespace pyroberta {
namespace cuda {

// A type for each op, by which a Call finds its launcher.
namespace op {
#define OP(name, parameters)                                 \
    struct name {                                            \
        static constexpr const char* NAME = #name;           \
        static constexpr auto launch = &launchers::name;     \
    };
#include "cuda/ops.hpp"
}  // namespace op

// bind_NAME tells Python of the binding of each op.
#define OP(name, parameters) PYROBERTA_HERE void bind_##name(py::module_& module);
#include "cuda/ops.hpp"

// Gives the module the function, under the name of the op that Op names. `extra` names its arguments.
template <typename Op, typename Function, typename... Extra>
void define(py::module_& module, const Function& function, const Extra&... extra) {
    module.def(Op::NAME, function, extra...);
}

}  // namespace cuda
}  // namespace pyroberta
