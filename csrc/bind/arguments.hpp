// The checks of the arguments of one call from Python, and the memory of what it returns.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "types.hpp"

namespace pyroberta {

namespace py = pybind11;
using Size = std::int64_t;
using Key = std::pair<std::uint64_t, std::uint64_t>;
using Letters = std::initializer_list<char>;  // of a shape
using Numbers = py::array_t<std::int32_t>;

constexpr Size ANY = -1;
constexpr Size INT32_END = Size{1} << 31;  // ops take numbers of rows as int32: those below

// A linear layer's kernel (I, O) with a copy of it as products like to read it. What is written into the kernel later
// does not reach the copy. `kernel` is a view that nobody else has, so its shape and dtype stay those of the copy.
struct Prepared {
    py::array kernel, copy;
};

// Which part of the dropout mask each of N rows meets: its sequence's stream, and its position there.
struct Mask {
    std::vector<std::uint64_t> numbers;
    std::vector<std::int32_t> positions;
};

// An error names the op and the argument. The first array decides the dtype of the call, and the first array with a
// letter in its shape the letter's number.
class Arguments {
   public:
    explicit Arguments(const char* op) : op_(op) { extents_.fill(ANY); }

    // What the letter stands for, ANY as long as that is not known.
    Size extent(char letter) const { return extents_[static_cast<std::size_t>(letter - 'A')]; }

    // The same where it must be known. Throws std::logic_error: our own mistake in an entry or a binding.
    Size known(char letter) const;
    void set_extent(char letter, Size value) { extents_[static_cast<std::size_t>(letter - 'A')] = value; }

    // An array of floats of that shape to be read: contiguous, copied where it was not.
    py::array to_read(const char* name, const py::handle& value, Letters shape);

    // The same to be changed in place, so that a copy won't do.
    py::array to_change(const char* name, const py::handle& value, Letters shape);

    // A factor of a product: a matrix of floats of either order, copied where it is of neither.
    py::array factor(const char* name, const py::handle& value, Letters shape);

    // A linear layer's kernel of that shape, Prepared or an array: what is read, and whether it is the copy.
    std::pair<py::array, bool> kernel(const char* name, const py::handle& value, Letters shape);

    // Whole numbers in [0, limit) that an int32 holds.
    Numbers numbers(const char* name, const py::handle& value, Size size, Size limit) const;

    // A number that is in no array. Code in Python may run (`__float__`, `__index__`), which could resize an array or
    // make it read-only, so numbers are read before the first array is checked. No other check runs such code.
    double number(const char* name, const py::handle& value) const;

    // True or False.
    bool choice(const char* name, const py::handle& value) const;

    // The first row of each sequence, and the end: from 0 to N, never falling.
    Numbers starts(const char* name, const py::handle& value, Size N) const;

    // Rows of an array of N, rising; None for all.
    std::optional<Numbers> rows(const char* name, const py::handle& value, Size size, Size N) const;

    // The streams of the sequences' masks; None for 0, 1, 2, …
    std::vector<std::uint64_t> streams(const py::handle& value, Size B) const;

    // starts None: all rows are one sequence; rows None: they are all the rows of the sequences, else those numbers.
    Mask mask(double rate, const py::handle& starts, const py::handle& numbers, const py::handle& rows, Size N) const;

    DropoutKey dropout(double rate, const Key& key) const;

    // The columns of a head, of C columns and H heads.
    Size head_dim(Size C, Size H) const;

    // A new array, from the pool.
    py::array fresh(const std::vector<Size>& shape, const py::dtype& dtype) const;

    // What is changed in place shares memory with no other array of floats.
    void check_apart() const;

    const py::dtype& dtype() const { return dtype_; }
    bool is_single() const { return dtype_.itemsize() == sizeof(float); }

   private:
    static constexpr std::size_t MOST_FLOATS = 8;  // arrays of a call
    struct Floats {
        const char* name;
        py::handle array;  // which lives as long as the call
        bool is_changed;
    };

    std::string place(const char* name) const { return std::string(op_) + ": " + name; }
    py::array plain(const char* name, const py::handle& value) const;
    py::array floats(const char* name, const py::handle& value, Letters shape);
    py::array whole_numbers(const char* name, const py::handle& value, Size size) const;
    void check_dtype(const char* name, const py::dtype& dtype);
    void check_shape(const char* name, const py::array& array, const Size* shape, Size axes) const;
    void keep_apart(const char* name, const py::array& array, bool is_changed);

    const char* op_;
    std::string first_;  // the name of the first array
    py::dtype dtype_ = py::dtype::of<float>();
    std::array<Size, 26> extents_;  // of the letters A to Z
    std::array<Floats, MOST_FLOATS> floats_;  // the first floats_used_ of them; a call allocates nothing for its checks
    std::size_t floats_used_ = 0;
    bool is_any_changed_ = false;
};

}  // namespace pyroberta
