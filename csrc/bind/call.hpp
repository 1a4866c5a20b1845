// One call of an op from Python: checks every argument once, makes the outputs, releases the GIL and calls the op.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/dispatch.hpp"

namespace pyroberta {

namespace py = pybind11;
using Size = std::int64_t;
using Key = std::pair<std::uint64_t, std::uint64_t>;

constexpr Size ANY = -1;
constexpr Size INT32_END = Size{1} << 31;  // ops take numbers of rows as int32: those below

// --- what a binding has after the checks ------------------------------------------------------------------------------

// An array of the call's dtype that is read; one that is changed in place; one that the call has made. The op gets a
// pointer to its numbers; that to numbers which are only read does not go where the op writes.
struct In : py::array {
    explicit In(py::array checked) : py::array(std::move(checked)) {}
};
struct InPlace : py::array {
    explicit InPlace(py::array checked) : py::array(std::move(checked)) {}
};
struct Out : py::array {
    explicit Out(py::array made) : py::array(std::move(made)) {}
};

// One of the two matrices of a product. It may lie in either order.
struct FactorIn : py::array {
    FactorIn(py::array checked, bool is_left) : py::array(std::move(checked)), is_left(is_left) {}
    bool is_left;
};

// A linear layer's kernel (I, O) with a copy of it as products like to read it. What is written into the kernel later
// does not reach the copy. `kernel` is a view that nobody else has, so its shape and dtype stay those of the copy.
struct Prepared {
    py::array kernel, copy;
};

// A linear layer's kernel with O columns, Prepared or an array. What is read may have another shape.
struct KernelIn {
    py::array read;
    bool is_prepared;
    Size O;
};

using Numbers = py::array_t<std::int32_t>;

// Which part of the dropout mask each of N rows meets: its sequence's stream, and its position there.
struct Mask {
    std::vector<std::uint64_t> numbers;
    std::vector<std::int32_t> positions;
};

// What the op gets for each of them; T is the call's dtype. Anything else it gets as it is.
template <typename T>
const T* given(const In& array) {
    return static_cast<const T*>(array.data());
}
template <typename T>
T* given(const InPlace& array) {
    return static_cast<T*>(const_cast<void*>(array.data()));
}
template <typename T>
T* given(const Out& array) {
    return static_cast<T*>(const_cast<void*>(array.data()));
}
template <typename T>
Factor<T> given(const FactorIn& matrix) {
    const Size row = matrix.strides(0) / Size{sizeof(T)}, column = matrix.strides(1) / Size{sizeof(T)};
    return {static_cast<const T*>(matrix.data()), matrix.is_left ? row : column, matrix.is_left ? column : row};
}
template <typename T>
Kernel<T> given(const KernelIn& kernel) {
    return {static_cast<const T*>(kernel.read.data()), kernel.is_prepared};
}
template <typename T>
const std::int32_t* given(const Numbers& numbers) {
    return numbers.data();
}
template <typename T>
const std::int32_t* given(const std::optional<Numbers>& numbers) {
    return numbers ? numbers->data() : nullptr;
}
template <typename T>
const std::uint64_t* given(const std::vector<std::uint64_t>& numbers) {
    return numbers.data();
}
template <typename T>
MaskRows given(const Mask& mask) {
    return {mask.numbers.data(), mask.positions.data()};
}
template <typename T, typename Other>
Other given(const Other& value) {
    return value;
}

// --- the checks -------------------------------------------------------------------------------------------------------

// The checks of one call. An error names the op and the argument. The first array decides the dtype of the call.
class Arguments {
   public:
    explicit Arguments(const char* op) : op_(op) {}

    // An array of floats of that shape to be read: contiguous, copied where it was not.
    In in(const char* name, const py::handle& value, const std::vector<Size>& shape);

    // The same to be changed in place, so that a copy won't do.
    InPlace in_place(const char* name, const py::handle& value, const std::vector<Size>& shape);

    // The left factor of a product, and the right one: a matrix of floats of either order, copied where it is of neither.
    FactorIn left(const char* name, const py::handle& value, const std::vector<Size>& shape);
    FactorIn right(const char* name, const py::handle& value, const std::vector<Size>& shape);

    // A linear layer's kernel of that shape, Prepared or an array.
    KernelIn kernel(const char* name, const py::handle& value, const std::vector<Size>& shape);

    // Whole numbers in [0, limit) that an int32 holds.
    Numbers numbers(const char* name, const py::handle& value, Size size, Size limit) const;

    // The first row of each sequence, and the end: from 0 to N, never falling.
    Numbers starts(const py::handle& value, Size N) const;

    // Rows of an array of N, rising; None for all.
    std::optional<Numbers> rows(const char* name, const py::handle& value, Size size, Size N) const;

    // The streams of the sequences' masks; None for 0, 1, 2, …
    std::vector<std::uint64_t> streams(const py::handle& value, Size B) const;

    // starts None: all rows are one sequence; rows None: they are all the rows of the sequences, else those numbers.
    Mask mask(double rate, const py::handle& starts, const py::handle& numbers, const py::handle& rows, Size N) const;

    DropoutKey dropout(double rate, const Key& key) const;

    // The columns of a head, of C columns and H heads.
    Size head_dim(Size C, Size H) const;

    // A fresh array of the call's dtype, from the pool.
    Out out(const std::vector<Size>& shape) const;

    // No two of the arrays that were given share memory.
    void check_apart(const std::vector<std::pair<const char*, py::array>>& arrays) const;

   protected:
    bool is_single() const { return dtype_.itemsize() == sizeof(float); }

   private:
    FactorIn factor(const char* name, const py::handle& value, const std::vector<Size>& shape, bool is_left);
    std::string place(const char* name) const { return std::string(op_) + ": " + name; }
    py::array floats(const char* name, const py::handle& value, const std::vector<Size>& shape);
    py::array whole_numbers(const char* name, const py::handle& value, Size size) const;
    void check_shape(const char* name, const py::array& array, const std::vector<Size>& shape) const;

    const char* op_;
    std::string first_;  // the name of the first array
    py::dtype dtype_ = py::dtype::of<float>();
};

// --- the call ---------------------------------------------------------------------------------------------------------

// As long as there is one of these, this thread is without the GIL.
class WithoutGil {
   public:
    WithoutGil() : thread_(PyEval_SaveThread()) {}
    ~WithoutGil();
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;

   private:
    PyThreadState* const thread_;
};

// A call of the op of the list that Op names; see binding.hpp.
template <typename Op>
class Call : public Arguments {
   public:
    explicit Call(const char* name = Op::NAME) : Arguments(name) {}

    // Calls the op for the call's dtype, without the GIL. Arguments in the order of the list; they must live on.
    template <typename... Values>
    auto run(const Values&... values) const {
        const InstructionSet& set = instruction_set();
        const WithoutGil released;
        if (is_single()) return Op::of(set.singles)(given<float>(values)...);
        return Op::of(set.doubles)(given<double>(values)...);
    }
};

}  // namespace pyroberta
