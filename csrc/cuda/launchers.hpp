// The declarations of the launchers; ops.hpp lists them.
#pragma once

#include <cstdint>

#include "cuda/context.hpp"
#include "cuda/types.hpp"
#include "macros.hpp"

namespace pyroberta::cuda::launchers {

#define PYROBERTA_PARAMETERS(...) (Context & context, __VA_ARGS__)
#define OP(name, parameters) PYROBERTA_HERE void name PYROBERTA_PARAMETERS parameters;
#include "cuda/ops.hpp"

}  // namespace pyroberta::cuda::launchers
