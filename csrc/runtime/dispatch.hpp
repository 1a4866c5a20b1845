// The table of the ops, the twin of `Ops` in Python, and the choice of one for this machine.
#pragma once

#include <string>

#include "types.hpp"

namespace pyroberta {

// A pointer for each op of the list.
template <typename T>
struct Ops {
#define OP(result, name, parameters) result(*name) parameters;
#include "ops.hpp"
};

// What kernels/table.cpp makes, once for each instruction set.
struct InstructionSet {
    const char* name;
    Ops<float> singles;
    Ops<double> doubles;
};

// The widest that this machine has, or the one that the environment variable PYROBERTA_ISA names.
// Throws std::runtime_error where that is not there.
const InstructionSet& instruction_set();

// The names of those that this machine and build have, with ", " between them, the widest first.
std::string instruction_sets();

}  // namespace pyroberta
