// Small kernels with a mistake each: tests see that the simulator finds them.
#pragma once

#include <string>
#include <vector>

#include "cuda/context.hpp"

namespace pyroberta::cuda::planted {

std::vector<std::string> names();

// On an array of 128 float32 numbers; waits.
void run(const std::string& name, const Array& array);

}  // namespace pyroberta::cuda::planted
