// What ops take beside pointers and numbers.
#pragma once

#include <cstdint>

#include "macros.hpp"

namespace pyroberta {

// One factor of a product: vectors of numbers, number p of vector i at data[i·row_step + p·depth_step]; one of the two
// steps is 1. For the left factor a vector is a row, for the right one a column.
template <typename T>
struct Factor {
    const T* data;
    std::int64_t row_step, depth_step;
};

// The matrix at `data`, with m columns, as a factor whose vectors are its rows, or its columns.
template <typename T>
PYROBERTA_INLINE Factor<T> rows_of(const T* data, std::int64_t m) {
    return {data, m, 1};
}
template <typename T>
PYROBERTA_INLINE Factor<T> columns_of(const T* data, std::int64_t m) {
    return {data, 1, m};
}

// The matrix of a linear layer, (in, out): as it lies, or as `prepare` wrote it.
template <typename T>
struct Kernel {
    const T* data;
    bool is_prepared;
};

// Where dropout draws its mask: the key's two words, and the rate. rate 0 leaves everything.
struct DropoutKey {
    double rate;
    std::uint64_t key_0, key_1;
};

// Which part of the mask each row meets: row n of C numbers is row positions[n] of stream numbers[n]. Not read at rate 0.
struct MaskRows {
    const std::uint64_t* numbers;   // (N,) of the row's sequence
    const std::int32_t* positions;  // (N,) in it
};

}  // namespace pyroberta
