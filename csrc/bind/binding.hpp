// The first include of each file with bindings: what the list of the ops is for them.
#pragma once

#include "bind/call.hpp"

namespace pyroberta {

using namespace py::literals;  // "x"_a names an argument in Python, and so in Python's own errors

// A type for each op, by which a Call finds it in the table.
namespace op {
#define OP(result, name, parameters)               \
    struct name {                                  \
        static constexpr const char* NAME = #name; \
        template <typename T>                      \
        static auto of(const Ops<T>& ops) {        \
            return ops.name;                       \
        }                                          \
    };
#include "ops.hpp"
}  // namespace op

// bind_NAME tells Python of the binding of each op.
#define OP(result, name, parameters) PYROBERTA_HERE void bind_##name(py::module_& module);
#include "ops.hpp"

// Gives the module the function, under the name of the op that Op names. `extra` names its arguments.
template <typename Op, typename Function, typename... Extra>
void define(py::module_& module, const Function& function, const Extra&... extra) {
    module.def(Op::NAME, function, extra...);
}

}  // namespace pyroberta
