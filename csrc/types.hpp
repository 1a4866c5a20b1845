// The types of the ops' parameters. Each says what the parameter is for and its shape, in the letters of docs/glossary.md.
// So two parameters in each other's place do not compile where one of these differs.
#pragma once

#include <cstdint>
#include <type_traits>

#include "macros.hpp"

namespace pyroberta {

// An array of numbers that the op reads; one that it changes; one that it fills. In<T, 'N', 'C'> has the shape (N, C).
template <typename Number, char... SHAPE>
struct In {
    const Number* data;
    PYROBERTA_INLINE operator const Number*() const { return data; }
};
template <typename Number, char... SHAPE>
struct InPlace {
    Number* data;
    PYROBERTA_INLINE operator Number*() const { return data; }
};
template <typename Number, char... SHAPE>
struct Out {
    Number* data;
    PYROBERTA_INLINE operator Number*() const { return data; }
};

// The number that a letter stands for.
template <char LETTER>
struct Extent {
    std::int64_t value;
    PYROBERTA_INLINE operator std::int64_t() const { return value; }
};

// RowNumbers<'M', 'N'> is (M,) numbers of rows of an array that has N.
template <char LENGTH, char ROWS>
struct RowNumbers {
    const std::int32_t* data;
    PYROBERTA_INLINE operator const std::int32_t*() const { return data; }
};

// Starts<'B', 'N'> is (B+1,) numbers of rows of an array that has N: the first row of each of B sequences, and N.
template <char SEQUENCES, char ROWS>
struct Starts {
    const std::int32_t* data;
    PYROBERTA_INLINE operator const std::int32_t*() const { return data; }
};

// ChosenRows<'R', 'N'> is (R,) rising numbers of rows of an array that has N; nullptr: all N.
template <char LENGTH, char ROWS>
struct ChosenRows {
    const std::int32_t* data;
    PYROBERTA_INLINE operator const std::int32_t*() const { return data; }
};

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

// The same as parameters of an op: the matrix (ROWS, COLUMNS), of either order, as the left or right factor of a product;
// and the kernel of a linear layer, prepared or not.
template <typename T, char ROWS, char COLUMNS>
struct LeftFactor : Factor<T> {};
template <typename T, char ROWS, char COLUMNS>
struct RightFactor : Factor<T> {};
template <typename T, char ROWS, char COLUMNS>
struct KernelIn : Kernel<T> {};

// None of them becomes another one of other letters or of another use.
template <typename One, typename Other>
constexpr bool ARE_APART = !std::is_convertible_v<One, Other> && !std::is_convertible_v<Other, One>;
static_assert(ARE_APART<Starts<'B', 'N'>, ChosenRows<'R', 'N'>> && ARE_APART<Starts<'B', 'N'>, RowNumbers<'B', 'N'>> &&
              ARE_APART<ChosenRows<'R', 'N'>, RowNumbers<'R', 'N'>>);
static_assert(ARE_APART<RowNumbers<'N', 'V'>, RowNumbers<'N', 'T'>> && ARE_APART<Extent<'N'>, Extent<'C'>>);
static_assert(ARE_APART<In<float, 'N'>, In<float, 'C'>> && ARE_APART<In<float, 'N'>, InPlace<float, 'N'>> &&
              ARE_APART<In<float, 'N'>, Out<float, 'N'>> && ARE_APART<InPlace<float, 'N'>, Out<float, 'N'>>);
static_assert(ARE_APART<LeftFactor<float, 'N', 'I'>, RightFactor<float, 'N', 'I'>> &&
              ARE_APART<KernelIn<float, 'I', 'O'>, In<float, 'I', 'O'>>);

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
