// The innermost loops of products: a tile of C stays in registers while the loop runs down the depth. tile.cpp has them,
// so that they are compiled once and not for each op with a product in it.
//
// C (rows, columns) = or += A B, and C's rows are c_step apart. The functions differ in how A and B lie.
#pragma once

#include "kernels/pack.hpp"
#include "types.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

// A and B packed, in panels `depth` long.
template <typename T>
PYROBERTA_HERE void multiply_packed(const T* a, const T* b, std::int64_t rows, std::int64_t columns, std::int64_t depth,
                                    T* c, std::int64_t c_step, bool add);

// A as it lies, B packed.
template <typename T>
PYROBERTA_HERE void multiply_lying(Factor<T> a, const T* b, std::int64_t rows, std::int64_t columns, std::int64_t depth,
                                   T* c, std::int64_t c_step, bool add);

// A packed, B prepared; after its last strip here comes the one at `then`.
template <typename T>
PYROBERTA_HERE void multiply_prepared(const T* a, const T* b, const T* then, std::int64_t rows, std::int64_t columns,
                                      std::int64_t depth, T* c, std::int64_t c_step, bool add);

// A as it lies, B prepared.
template <typename T>
PYROBERTA_HERE void multiply_lying_prepared(Factor<T> a, const T* b, const T* then, std::int64_t rows,
                                            std::int64_t columns, std::int64_t depth, T* c, std::int64_t c_step,
                                            bool add);

// A packed, B as it lies along its columns. B's last columns, less than a strip, are packed into `room`.
template <typename T>
PYROBERTA_HERE void multiply_strips(const T* a, Factor<T> b, std::int64_t rows, std::int64_t columns, std::int64_t depth,
                                    T* c, std::int64_t c_step, bool add, T* room);

// At most FEW_ROWS rows of A, and B, both read along the depth as they lie. Nothing is packed, since nothing would be
// read twice.
constexpr std::int64_t FEW_ROWS = 4;
template <typename T>
PYROBERTA_HERE void multiply_vectors(Factor<T> a, Factor<T> b, std::int64_t rows, std::int64_t columns,
                                     std::int64_t depth, T* c, std::int64_t c_step, bool add);

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
