// What launchers take beside pointers and numbers.
#pragma once

#include <cstdint>

#include "../types.hpp"

struct __nv_bfloat16;  // CUDA's

namespace pyroberta {
namespace cuda {

using bfloat16 = __nv_bfloat16;

constexpr std::int64_t MOST_HEAD_DIM = 256;  // of attention

}  // namespace cuda
}  // namespace pyroberta
