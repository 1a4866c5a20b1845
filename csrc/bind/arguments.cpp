#include "bind/arguments.hpp"

#include <algorithm>
#include <limits>
#include <memory>
#include <numeric>
#include <stdexcept>

#include "runtime/pool.hpp"

namespace pyroberta {
namespace {

std::string text(const py::handle& object) { return py::str(object).cast<std::string>(); }

std::string text(const Size* shape, Size axes) {
    std::string found = "(";
    for (Size i = 0; i < axes; ++i) found += (i ? ", " : "") + (shape[i] == ANY ? "any" : std::to_string(shape[i]));
    return found + (axes == 1 ? ",)" : ")");
}

bool is_aligned(const py::array& array) { return (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0; }

bool is_plain(const py::array& array) { return (array.flags() & py::array::c_style) && is_aligned(array); }

// From the first number to the end of the last; the steps are forward.
std::pair<const char*, const char*> span_of(const py::array& array) {
    const auto* first = static_cast<const char*>(array.data());
    if (array.size() == 0) return {first, first};
    Size bytes = array.itemsize();
    for (Size axis = 0; axis < array.ndim(); ++axis) bytes += (array.shape(axis) - 1) * array.strides(axis);
    return {first, first + bytes};
}

py::array copied(const py::array& array) { return py::array::ensure(array.attr("copy")("C")); }

}  // namespace

Size Arguments::known(char letter) const {
    if (extent(letter) == ANY) throw std::logic_error(place("no array says what ") + letter + " is");
    return extent(letter);
}

// An object of a subclass may have methods in Python, which are not called here: it is looked at as a plain array.
py::array Arguments::plain(const char* name, const py::handle& value) const {
    if (Py_TYPE(value.ptr()) == py::detail::npy_api::get().PyArray_Type_) {
        return py::reinterpret_borrow<py::array>(value);
    }
    if (!py::isinstance<py::array>(value)) {
        throw py::type_error(place(name) + " must be a NumPy array, got " + text(py::type::of(value)));
    }
    auto array = py::array::ensure(value);
    if (!array) throw py::type_error(place(name) + " can't be read as a NumPy array");
    return array;
}

// --- arrays of floats -------------------------------------------------------------------------------------------------

py::array Arguments::to_read(const char* name, const py::handle& value, Letters shape) {
    py::array array = floats(name, value, shape);
    if (!is_plain(array)) array = copied(array);
    keep_apart(name, array, false);
    return array;
}

py::array Arguments::to_change(const char* name, const py::handle& value, Letters shape) {
    py::array array = floats(name, value, shape);
    if (!(array.flags() & py::array::c_style)) {
        throw py::value_error(place(name) + " is changed in place and must be contiguous, got strides " +
                              text(array.attr("strides")));
    }
    if (!is_aligned(array)) throw py::value_error(place(name) + " must be aligned to its element size; pass a copy");
    if (!array.writeable()) {
        throw py::value_error(place(name) + " is changed in place and must be writeable, got a read-only array");
    }
    keep_apart(name, array, true);
    return array;
}

py::array Arguments::factor(const char* name, const py::handle& value, Letters shape) {
    py::array array = floats(name, value, shape);
    const Size item = array.itemsize();
    const auto is_long = [&](int axis) {  // steps of whole elements, forward, past the other axis
        return array.strides(axis) % item == 0 && array.strides(axis) >= item * array.shape(1 - axis);
    };
    const bool is_good = is_aligned(array) &&
                         ((array.strides(1) == item && is_long(0)) || (array.strides(0) == item && is_long(1)));
    if (!is_good) array = copied(array);
    keep_apart(name, array, false);
    return array;
}

std::pair<py::array, bool> Arguments::kernel(const char* name, const py::handle& value, Letters shape) {
    // The type itself, which has no subclass: isinstance would ask the object for its __class__, so run code in Python.
    if (!py::type::handle_of(value).is(py::type::of<Prepared>())) return {to_read(name, value, shape), false};
    const auto& prepared = value.cast<const Prepared&>();
    floats(name, prepared.kernel, shape);
    return {prepared.copy, true};
}

py::array Arguments::fresh(const std::vector<Size>& shape, const py::dtype& dtype) const {
    Size size = dtype.itemsize();
    for (const Size s : shape) size *= s;
    std::unique_ptr<void, void (*)(void*)> memory(pool_take(static_cast<std::size_t>(size)), pool_give);
    const py::capsule owner(memory.get(), [](void* given) { pool_give(given); });
    return py::array(dtype, shape, memory.release(), owner);
}

py::array Arguments::floats(const char* name, const py::handle& value, Letters shape) {
    py::array array = plain(name, value);
    check_dtype(name, array.dtype());
    std::array<Size, 2> expected;  // no op has an array of more axes
    std::size_t axes = 0;
    for (const char letter : shape) expected.at(axes++) = extent(letter);
    check_shape(name, array, expected.data(), static_cast<Size>(axes));
    Size axis = 0;
    for (const char letter : shape) set_extent(letter, array.shape(axis++));
    return array;
}

void Arguments::check_dtype(const char* name, const py::dtype& dtype) {
    if (!first_.empty() && dtype.is(dtype_)) return;  // NumPy mostly has one object for each
    if (!dtype.equal(py::dtype::of<float>()) && !dtype.equal(py::dtype::of<double>())) {
        throw py::type_error(place(name) + " must be float32 or float64 in the machine's byte order, got dtype " +
                             dtype.attr("str").cast<std::string>());
    }
    if (first_.empty()) {
        first_ = name;
        dtype_ = dtype;
    }
    if (!dtype.equal(dtype_)) {
        throw py::type_error(place(name) + " must have the dtype of " + first_ + ", " + text(dtype_) + ", got " +
                             text(dtype));
    }
}

void Arguments::check_shape(const char* name, const py::array& array, const Size* shape, Size axes) const {
    bool is_good = array.ndim() == axes;
    for (Size i = 0; is_good && i < axes; ++i) is_good = shape[i] == ANY || shape[i] == array.shape(i);
    if (!is_good) {
        throw py::value_error(place(name) + " must have the shape " + text(shape, axes) + ", got " +
                              text(array.attr("shape")));
    }
}

void Arguments::keep_apart(const char* name, const py::array& array, bool is_changed) {
    floats_.at(floats_used_++) = {name, array, is_changed};
    is_any_changed_ = is_any_changed_ || is_changed;
}

void Arguments::check_apart() const {
    if (!is_any_changed_) return;
    std::array<std::pair<const char*, const char*>, MOST_FLOATS> spans;
    for (std::size_t i = 0; i < floats_used_; ++i) {
        spans[i] = span_of(py::reinterpret_borrow<py::array>(floats_[i].array));
    }
    for (std::size_t i = 0; i < floats_used_; ++i) {
        for (std::size_t j = 0; floats_[i].is_changed && j < floats_used_; ++j) {
            if (i != j && spans[i].first < spans[j].second && spans[j].first < spans[i].second) {
                throw py::value_error(place(floats_[i].name) + " must not share memory with " + floats_[j].name);
            }
        }
    }
}

// --- whole numbers ----------------------------------------------------------------------------------------------------

py::array Arguments::whole_numbers(const char* name, const py::handle& value, Size size) const {
    const py::array array = plain(name, value);
    if (array.dtype().kind() != 'i' && array.dtype().kind() != 'u') {
        throw py::type_error(place(name) + " must hold whole numbers, got dtype " + text(array.dtype()));
    }
    check_shape(name, array, &size, 1);
    return array;
}

Numbers Arguments::numbers(const char* name, const py::handle& value, Size size, Size limit) const {
    const py::array array = whole_numbers(name, value, size);
    const auto wide = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>::ensure(array);
    Numbers found(wide.size());
    const std::int64_t* from = wide.data();
    std::int32_t* to = found.mutable_data();
    limit = std::min(limit, INT32_END);
    for (Size i = 0; i < wide.size(); ++i) {
        if (from[i] < 0 || from[i] >= limit) {
            throw py::value_error(place(name) + "[" + std::to_string(i) + "] must be at least 0 and below " +
                                  std::to_string(limit) + ", got " + text(array[py::int_(i)]));
        }
        to[i] = static_cast<std::int32_t>(from[i]);
    }
    return found;
}

Numbers Arguments::starts(const char* name, const py::handle& value, Size N) const {
    const auto found = numbers(name, value, ANY, N + 1);
    const std::int32_t* s = found.data();
    bool is_good = found.size() > 0 && s[0] == 0 && s[found.size() - 1] == N;
    for (Size b = 1; is_good && b < found.size(); ++b) is_good = s[b] >= s[b - 1];
    if (!is_good) {
        throw py::value_error(place(name) + " must rise from 0 to the number of rows, " + std::to_string(N));
    }
    return found;
}

std::optional<Numbers> Arguments::rows(const char* name, const py::handle& value, Size size, Size N) const {
    if (value.is_none()) return std::nullopt;
    const auto found = numbers(name, value, size, N);
    for (Size i = 1; i < found.size(); ++i) {
        if (found.data()[i] <= found.data()[i - 1]) throw py::value_error(place(name) + " must rise");
    }
    return found;
}

double Arguments::number(const char* name, const py::handle& value) const {
    const double found = PyFloat_AsDouble(value.ptr());
    if (found == -1.0 && PyErr_Occurred()) {
        const bool is_wide = PyErr_ExceptionMatches(PyExc_OverflowError);
        if (!is_wide && !PyErr_ExceptionMatches(PyExc_TypeError)) throw py::error_already_set();
        PyErr_Clear();
        if (is_wide) throw py::value_error(place(name) + " must be a number that a double holds, got a larger one");
        throw py::type_error(place(name) + " must be a number, got " + text(py::type::of(value)));
    }
    return found;
}

bool Arguments::choice(const char* name, const py::handle& value) const {
    if (!PyBool_Check(value.ptr())) {
        throw py::type_error(place(name) + " must be True or False, got " + text(py::type::of(value)));
    }
    return value.ptr() == Py_True;
}

Size Arguments::head_dim(Size C, Size H) const {
    if (H < 1 || C % H) {
        throw py::value_error(place("num_heads") + " must divide the columns, " + std::to_string(C) + ", got " +
                              std::to_string(H));
    }
    return C / H;
}

// --- dropout ----------------------------------------------------------------------------------------------------------

DropoutKey Arguments::dropout(double rate, const Key& key) const {
    if (!(rate >= 0.0 && rate < 1.0)) {
        throw py::value_error(place("rate") + " must be in [0, 1), got " + std::to_string(rate));
    }
    return {rate, key.first, key.second};
}

std::vector<std::uint64_t> Arguments::streams(const py::handle& value, Size B) const {
    std::vector<std::uint64_t> found(static_cast<std::size_t>(B));
    if (value.is_none()) {
        std::iota(found.begin(), found.end(), 0);
        return found;
    }
    const py::array array = whole_numbers("numbers", value, B);
    const auto wide = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>::ensure(array);
    for (Size b = 0; b < B; ++b) {
        if (wide.data()[b] < 0) {
            throw py::value_error(place("numbers") + "[" + std::to_string(b) + "] must be at least 0 and at most " +
                                  std::to_string(std::numeric_limits<Size>::max()) + ", got " +
                                  text(array[py::int_(b)]));
        }
        found[static_cast<std::size_t>(b)] = static_cast<std::uint64_t>(wide.data()[b]);
    }
    return found;
}

Mask Arguments::mask(double rate, const py::handle& starts_given, const py::handle& numbers_given,
                     const py::handle& rows_given, Size N) const {
    const auto chosen = rows("rows", rows_given, N, INT32_END);
    const std::int32_t* row = chosen ? chosen->data() : nullptr;
    const Size total = row ? (N ? row[N - 1] + Size{1} : 0) : N;
    std::vector<Size> ends{total};  // of each sequence
    if (!starts_given.is_none()) {
        const auto found = row ? numbers("starts", starts_given, ANY, INT32_END) : starts("starts", starts_given, N);
        if (row && (found.size() == 0 || !std::is_sorted(found.data(), found.data() + found.size()) ||
                    found.data()[0] != 0 || found.data()[found.size() - 1] < total)) {
            throw py::value_error(place("starts") + " must rise from 0 and reach beyond the last row, " +
                                  std::to_string(total - 1));
        }
        ends.assign(found.data() + 1, found.data() + found.size());
    }
    const auto stream = streams(numbers_given, static_cast<Size>(ends.size()));
    Mask found;
    if (rate == 0.0) return found;
    if (N > INT32_END) {
        throw py::value_error(place(first_.c_str()) + " must have at most " + std::to_string(INT32_END) +
                              " rows with dropout, got " + std::to_string(N));
    }
    found.numbers.reserve(static_cast<std::size_t>(N));
    found.positions.reserve(static_cast<std::size_t>(N));
    for (Size n = 0, b = 0; n < N; ++n) {
        const Size here = row ? row[n] : n;
        while (here >= ends[static_cast<std::size_t>(b)]) ++b;
        found.numbers.push_back(stream[static_cast<std::size_t>(b)]);
        const Size start = b ? ends[static_cast<std::size_t>(b - 1)] : 0;
        found.positions.push_back(static_cast<std::int32_t>(here - start));
    }
    return found;
}

}  // namespace pyroberta
