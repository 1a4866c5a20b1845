#include "bind/call.hpp"

#include <cxxabi.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <numeric>
#include <thread>

#include "runtime/pool.hpp"

namespace pyroberta {
namespace {

std::string text(const py::handle& object) { return py::str(object).cast<std::string>(); }

std::string text(const std::vector<Size>& shape) {
    std::string found = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) {
        found += (i ? ", " : "") + (shape[i] == ANY ? std::string("any") : std::to_string(shape[i]));
    }
    return found + (shape.size() == 1 ? ",)" : ")");
}

bool is_aligned(const py::array& array) { return (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0; }

bool is_plain(const py::array& array) { return (array.flags() & py::array::c_style) && is_aligned(array); }

py::array copied(const py::array& array) { return py::array::ensure(array.attr("copy")("C")); }

// Takes the GIL again. Before Python 3.14 a daemon thread that asks for it while the interpreter ends is ended by
// unwinding its stack, whose destructors would work on Python's objects without the GIL: it waits for the end of the
// process instead.
void take_gil(PyThreadState* thread) {
#ifdef __GLIBCXX__
    try {
        PyEval_RestoreThread(thread);
    } catch (const abi::__forced_unwind&) {
        for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
#else
    PyEval_RestoreThread(thread);
#endif
}

}  // namespace

WithoutGil::~WithoutGil() { take_gil(thread_); }

// --- arrays of floats -------------------------------------------------------------------------------------------------

In Arguments::in(const char* name, const py::handle& value, const std::vector<Size>& shape) {
    const py::array array = floats(name, value, shape);
    return In(is_plain(array) ? array : copied(array));
}

InPlace Arguments::in_place(const char* name, const py::handle& value, const std::vector<Size>& shape) {
    const py::array array = floats(name, value, shape);
    if (!(array.flags() & py::array::c_style)) {
        throw py::value_error(place(name) + " is changed in place and must be contiguous, got strides " +
                              text(array.attr("strides")));
    }
    if (!is_aligned(array)) throw py::value_error(place(name) + " must be aligned to its element size; pass a copy");
    if (!array.writeable()) {
        throw py::value_error(place(name) + " is changed in place and must be writeable, got a read-only array");
    }
    return InPlace(array);
}

FactorIn Arguments::left(const char* name, const py::handle& value, const std::vector<Size>& shape) {
    return factor(name, value, shape, true);
}

FactorIn Arguments::right(const char* name, const py::handle& value, const std::vector<Size>& shape) {
    return factor(name, value, shape, false);
}

FactorIn Arguments::factor(const char* name, const py::handle& value, const std::vector<Size>& shape, bool is_left) {
    const py::array array = floats(name, value, shape);
    const Size item = array.itemsize();
    const auto is_long = [&](int axis) {  // steps of whole elements, forward, past the other axis
        return array.strides(axis) % item == 0 && array.strides(axis) >= item * array.shape(1 - axis);
    };
    const bool is_good = is_aligned(array) &&
                         ((array.strides(1) == item && is_long(0)) || (array.strides(0) == item && is_long(1)));
    return {is_good ? array : copied(array), is_left};
}

KernelIn Arguments::kernel(const char* name, const py::handle& value, const std::vector<Size>& shape) {
    if (!py::isinstance<Prepared>(value)) {
        const In array = in(name, value, shape);
        return {array, false, array.shape(1)};
    }
    const auto& prepared = value.cast<const Prepared&>();
    return {prepared.copy, true, floats(name, prepared.kernel, shape).shape(1)};
}

Out Arguments::out(const std::vector<Size>& shape) const {
    Size size = dtype_.itemsize();
    for (const Size s : shape) size *= s;
    std::unique_ptr<void, void (*)(void*)> memory(pool_take(static_cast<std::size_t>(size)), pool_give);
    const py::capsule owner(memory.get(), [](void* given) { pool_give(given); });
    return Out(py::array(dtype_, shape, memory.release(), owner));
}

py::array Arguments::floats(const char* name, const py::handle& value, const std::vector<Size>& shape) {
    if (!py::isinstance<py::array>(value)) {
        throw py::type_error(place(name) + " must be a NumPy array, got " + text(py::type::of(value)));
    }
    const auto array = py::reinterpret_borrow<py::array>(value);
    if (!array.dtype().equal(py::dtype::of<float>()) && !array.dtype().equal(py::dtype::of<double>())) {
        throw py::type_error(place(name) + " must be float32 or float64 in the machine's byte order, got dtype " +
                             array.dtype().attr("str").cast<std::string>());
    }
    if (first_.empty()) {
        first_ = name;
        dtype_ = array.dtype();
    }
    if (!array.dtype().equal(dtype_)) {
        throw py::type_error(place(name) + " must have the dtype of " + first_ + ", " + text(dtype_) + ", got " +
                             text(array.dtype()));
    }
    check_shape(name, array, shape);
    return array;
}

void Arguments::check_shape(const char* name, const py::array& array, const std::vector<Size>& shape) const {
    bool is_good = array.ndim() == static_cast<Size>(shape.size());
    for (std::size_t i = 0; is_good && i < shape.size(); ++i) is_good = shape[i] == ANY || shape[i] == array.shape(i);
    if (!is_good) {
        throw py::value_error(place(name) + " must have the shape " + text(shape) + ", got " +
                              text(array.attr("shape")));
    }
}

void Arguments::check_apart(const std::vector<std::pair<const char*, py::array>>& arrays) const {
    for (std::size_t i = 0; i < arrays.size(); ++i) {
        const auto* start = static_cast<const char*>(arrays[i].second.data());
        for (std::size_t j = 0; j < i; ++j) {
            const auto* other = static_cast<const char*>(arrays[j].second.data());
            if (start < other + arrays[j].second.nbytes() && other < start + arrays[i].second.nbytes()) {
                throw py::value_error(place(arrays[i].first) + " must not share memory with " + arrays[j].first);
            }
        }
    }
}

// --- whole numbers ----------------------------------------------------------------------------------------------------

py::array Arguments::whole_numbers(const char* name, const py::handle& value, Size size) const {
    if (!py::isinstance<py::array>(value)) {
        throw py::type_error(place(name) + " must be a NumPy array, got " + text(py::type::of(value)));
    }
    const auto array = py::reinterpret_borrow<py::array>(value);
    if (array.dtype().kind() != 'i' && array.dtype().kind() != 'u') {
        throw py::type_error(place(name) + " must hold whole numbers, got dtype " + text(array.dtype()));
    }
    check_shape(name, array, {size});
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

Numbers Arguments::starts(const py::handle& value, Size N) const {
    const auto found = numbers("starts", value, ANY, N + 1);
    const std::int32_t* s = found.data();
    bool is_good = found.size() > 0 && s[0] == 0 && s[found.size() - 1] == N;
    for (Size b = 1; is_good && b < found.size(); ++b) is_good = s[b] >= s[b - 1];
    if (!is_good) {
        throw py::value_error(place("starts") + " must rise from 0 to the number of rows, " + std::to_string(N));
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
        const auto found = row ? numbers("starts", starts_given, ANY, INT32_END) : starts(starts_given, N);
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
