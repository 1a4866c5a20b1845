// A call from Python to a launcher: each argument is checked here, once, and outputs are made. What has passed is pointers
// and numbers.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <utility>
#include <vector>

#include "bind/arguments.hpp"
#include "bind/gil.hpp"
#include "cuda/launchers.hpp"

namespace pyroberta {
namespace cuda {

namespace py = pybind11;
using namespace py::literals;  // "x"_a names an argument in Python, and so in Python's own errors
using Size = std::int64_t;
using Shape = std::vector<Size>;

constexpr Size ANY = -1;

template <typename T>
constexpr Type TYPE = Type::FLOAT32;
template <>
inline constexpr Type TYPE<bfloat16> = Type::BFLOAT16;
template <>
inline constexpr Type TYPE<double> = Type::FLOAT64;
template <>
inline constexpr Type TYPE<std::int32_t> = Type::INT32;
template <>
inline constexpr Type TYPE<std::int64_t> = Type::INT64;

// --- what a binding has after the checks ------------------------------------------------------------------------------

// An array of T's that is read; one that is changed in place; one that the call has made. The launcher gets a pointer.
template <typename T>
struct In : Array {
    explicit In(Array checked) : Array(std::move(checked)) {}
};
template <typename T>
struct InPlace : Array {
    explicit InPlace(Array checked) : Array(std::move(checked)) {}
};
template <typename T>
struct Out : Array {
    explicit Out(Array made) : Array(std::move(made)) {}
};

template <typename T>
const T* given(const In<T>& array) {
    return static_cast<const T*>(array.data());
}
template <typename T>
T* given(const InPlace<T>& array) {
    return static_cast<T*>(array.data());
}
template <typename T>
T* given(const Out<T>& array) {
    return static_cast<T*>(array.data());
}
template <typename Other>
const Other& given(const Other& value) {
    return value;
}

// --- the checks -------------------------------------------------------------------------------------------------------

// The checks of one call. An error names the op and the argument. The first array decides the device of the call.
class Arguments {
   public:
    explicit Arguments(const char* op) : host(op), op_(op) {}

    // The checks of NumPy's arrays and of numbers.
    const pyroberta::Arguments host;

    // An array of T's of that shape, to be read; the same to be changed in place.
    template <typename T>
    In<T> in(const char* name, const py::handle& value, const Shape& shape) {
        return In<T>(array(name, value, TYPE<T>, shape));
    }
    template <typename T>
    InPlace<T> in_place(const char* name, const py::handle& value, const Shape& shape) {
        return InPlace<T>(array(name, value, TYPE<T>, shape));
    }

    // An array of any type and shape.
    const Array& any(const char* name, const py::handle& value);

    // A new array on the call's device.
    template <typename T>
    Out<T> out(const Shape& shape) const {
        return Out<T>(Array(context_, TYPE<T>, shape));
    }

    // No two of the arrays that were given share memory.
    void check_apart(const std::vector<std::pair<const char*, Array>>& arrays) const;

    Context& context() const { return *context_; }
    std::string place(const char* name) const { return std::string(op_) + ": " + name; }

   private:
    const Array& array(const char* name, const py::handle& value, Type type, const Shape& shape);

    const char* op_;
    std::string first_;  // the name of the first array
    std::shared_ptr<Context> context_;
};

// --- the call ---------------------------------------------------------------------------------------------------------

// Runs `work` without the GIL, with the context's device as the thread's.
template <typename Work>
auto without_gil(const Context& context, const Work& work) {
    const WithoutGil released;
    const OnDevice here(context);
    return work();
}

// Numbers of the host, copied to the device for the time of a call.
template <typename T>
struct Uploaded : Scratch<T> {
    Uploaded(Context& context, const T* numbers, Size size) : Scratch<T>(context, size), size_(size) {
        without_gil(context, [&] {
            context.upload(this->data(), numbers, static_cast<std::size_t>(size) * sizeof(T));
        });
    }
    Uploaded(Context& context, const std::vector<T>& numbers)
        : Uploaded(context, numbers.data(), static_cast<Size>(numbers.size())) {}
    Uploaded(Context& context, const py::array_t<T>& numbers) : Uploaded(context, numbers.data(), numbers.size()) {}

    Size size() const { return size_; }

   private:
    Size size_;
};

template <typename T>
const T* given(const Uploaded<T>& numbers) {
    return numbers.data();
}

// Which part of the dropout mask each row meets.
struct UploadedMask {
    UploadedMask(Context& context, const Mask& mask)
        : numbers(context, mask.numbers), positions(context, mask.positions) {}
    Uploaded<std::uint64_t> numbers;
    Uploaded<std::int32_t> positions;
};

inline MaskRows given(const UploadedMask& mask) { return {mask.numbers.data(), mask.positions.data()}; }

// A call of the op of the list that Op names; see binding.hpp.
template <typename Op>
class Call : public Arguments {
   public:
    explicit Call(const char* name = Op::NAME) : Arguments(name) {}

    // Calls the launcher, without the GIL. Arguments in the order of the list.
    template <typename... Values>
    void run(const Values&... values) const {
        without_gil(context(), [&] { Op::launch(context(), given(values)...); });
    }
};

}  // namespace cuda
}  // namespace pyroberta
