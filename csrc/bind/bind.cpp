// The only file that knows Python: it checks every argument once, makes the outputs, releases the GIL and calls the op.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cxxabi.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/blas.hpp"
#include "runtime/faults.hpp"
#include "ops.hpp"
#include "runtime/pool.hpp"
#include "runtime/processors.hpp"
#include "runtime/threads.hpp"

namespace py = pybind11;
using pyroberta::columns_of;
using pyroberta::DropoutKey;
using pyroberta::Factor;
using pyroberta::instruction_set;
using pyroberta::Kernel;
using pyroberta::MaskRows;
using pyroberta::rows_of;
using Size = std::int64_t;

namespace {

constexpr Size ANY = -1;
using Key = std::pair<std::uint64_t, std::uint64_t>;

std::string text(const py::handle& object) { return py::str(object).cast<std::string>(); }

std::string text(const std::vector<Size>& shape) {
    std::string found = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) {
        found += (i ? ", " : "") + (shape[i] == ANY ? std::string("any") : std::to_string(shape[i]));
    }
    return found + (shape.size() == 1 ? ",)" : ")");
}

// A linear layer's kernel (I, O) with a copy of it as products like to read it. What is written into the kernel later
// does not reach the copy.
struct Prepared {
    py::array kernel, copy;
};

// Takes the GIL again. Before Python 3.14 a daemon thread that asks for it while the interpreter ends is ended by unwinding
// its stack, whose destructors would work on Python's objects without the GIL: it waits for the end of the process instead.
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

// One call of an op: checks its arguments, and remembers the dtype that the first of them had.
class Call {
   public:
    explicit Call(const char* op) : op_(op) {}

    // An array of floats of that shape to be read: contiguous, copied where it was not.
    py::array in(const char* name, const py::handle& value, const std::vector<Size>& shape) {
        py::array array = floats(name, value, shape);
        if (!is_plain(array)) array = py::array::ensure(array.attr("copy")("C"));
        return keep(array);
    }

    // The same to be changed in place, so that a copy won't do.
    py::array in_place(const char* name, const py::handle& value, const std::vector<Size>& shape) {
        py::array array = floats(name, value, shape);
        if (!(array.flags() & py::array::c_style)) {
            throw py::value_error(place(name) + " is changed in place and must be contiguous, got strides " +
                                  text(array.attr("strides")));
        }
        if (!is_plain(array)) throw py::value_error(place(name) + " must be aligned to its element size; pass a copy");
        if (!array.writeable()) {
            throw py::value_error(place(name) + " is changed in place and must be writeable, got a read-only array");
        }
        return keep(array);
    }

    // A linear layer's kernel of that shape, Prepared or an array. What is read may have another shape.
    struct KernelRead {
        py::array array;
        bool is_prepared;
        Size columns;
    };
    KernelRead kernel(const char* name, const py::handle& value, const std::vector<Size>& shape) {
        if (!py::isinstance<Prepared>(value)) {
            const py::array array = in(name, value, shape);
            return {array, false, array.shape(1)};
        }
        const auto& prepared = value.cast<const Prepared&>();
        return {prepared.copy, true, floats(name, prepared.kernel, shape).shape(1)};
    }

    // Whole numbers in [0, limit), as int32; limit ANY leaves them unchecked.
    py::array_t<std::int32_t> numbers(const char* name, const py::handle& value, Size size, Size limit) {
        const py::array array = whole_numbers(name, value, size);
        const auto wide = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>::ensure(array);
        py::array_t<std::int32_t> found(wide.size());
        const std::int64_t* from = wide.data();
        std::int32_t* to = found.mutable_data();
        for (Size i = 0; i < wide.size(); ++i) {
            if (limit != ANY && (from[i] < 0 || from[i] >= limit)) {
                throw py::value_error(place(name) + "[" + std::to_string(i) + "] must be at least 0 and below " +
                                      std::to_string(limit) + ", got " + std::to_string(from[i]));
            }
            to[i] = static_cast<std::int32_t>(from[i]);
        }
        return found;
    }

    // The first row of each sequence, and the end: from 0 to N, never falling.
    py::array_t<std::int32_t> starts(const py::handle& value, Size N) {
        auto found = numbers("starts", value, ANY, N + 1);
        const std::int32_t* s = found.data();
        bool is_good = found.size() > 0 && s[0] == 0 && s[found.size() - 1] == N;
        for (Size b = 1; is_good && b < found.size(); ++b) is_good = s[b] >= s[b - 1];
        if (!is_good) throw py::value_error(place("starts") + " must rise from 0 to the number of rows, " + std::to_string(N));
        return found;
    }

    // Rows of an array of N, rising; None for all.
    std::optional<py::array_t<std::int32_t>> rows(const py::object& value, Size size, Size N) {
        if (value.is_none()) return std::nullopt;
        auto found = numbers("rows", value, size, N);
        for (Size i = 1; i < found.size(); ++i) {
            if (found.data()[i] <= found.data()[i - 1]) throw py::value_error(place("rows") + " must rise");
        }
        return found;
    }

    // The streams of the sequences' masks; None for 0, 1, 2, …
    std::vector<std::uint64_t> streams(const py::object& value, Size B) {
        std::vector<std::uint64_t> found(static_cast<std::size_t>(B));
        if (value.is_none()) {
            std::iota(found.begin(), found.end(), 0);
            return found;
        }
        const py::array array = whole_numbers("numbers", value, B);
        const auto wide = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>::ensure(array);
        for (Size b = 0; b < B; ++b) {
            if (wide.data()[b] < 0) throw py::value_error(place("numbers") + " must be at least 0");
            found[static_cast<std::size_t>(b)] = static_cast<std::uint64_t>(wide.data()[b]);
        }
        return found;
    }

    // Which part of the mask each of N rows meets: its sequence's stream, and its position there.
    struct Mask {
        std::vector<std::uint64_t> numbers;
        std::vector<std::int32_t> positions;
        MaskRows rows() const { return {numbers.data(), positions.data()}; }
    };

    // starts None: all rows are one sequence; rows None: they are all the rows of the sequences, else those numbers.
    Mask mask(double rate, const py::object& starts_given, const py::object& numbers_given, const py::object& rows_given,
              Size N) {
        const auto chosen = rows(rows_given, N, std::int64_t{1} << 31);
        const std::int32_t* row = chosen ? chosen->data() : nullptr;
        const Size total = row ? (N ? row[N - 1] + Size{1} : 0) : N;
        std::vector<std::int32_t> ends{static_cast<std::int32_t>(total)};  // of each sequence
        if (!starts_given.is_none()) {
            const auto found = row ? numbers("starts", starts_given, ANY, ANY) : starts(starts_given, N);
            if (row && (found.size() == 0 || !std::is_sorted(found.data(), found.data() + found.size()) || found.data()[0] != 0 ||
                        found.data()[found.size() - 1] < total)) {
                throw py::value_error(place("starts") + " must rise from 0 and reach beyond the last row, " +
                                      std::to_string(total - 1));
            }
            ends.assign(found.data() + 1, found.data() + found.size());
        }
        const auto stream = streams(numbers_given, static_cast<Size>(ends.size()));
        Mask found;
        if (rate == 0.0) return found;
        found.numbers.reserve(static_cast<std::size_t>(N));
        found.positions.reserve(static_cast<std::size_t>(N));
        for (Size n = 0, b = 0; n < N; ++n) {
            const std::int32_t here = row ? row[n] : static_cast<std::int32_t>(n);
            while (here >= ends[static_cast<std::size_t>(b)]) ++b;
            found.numbers.push_back(stream[static_cast<std::size_t>(b)]);
            found.positions.push_back(here - (b ? ends[static_cast<std::size_t>(b - 1)] : 0));
        }
        return found;
    }

    DropoutKey dropout(double rate, const Key& key) const {
        if (!(rate >= 0.0 && rate < 1.0)) {
            throw py::value_error(place("rate") + " must be in [0, 1), got " + std::to_string(rate));
        }
        return {rate, key.first, key.second};
    }

    // A fresh array of the call's dtype, from the pool.
    py::array out(const std::vector<Size>& shape) const {
        Size size = dtype_.itemsize();
        for (const Size s : shape) size *= s;
        std::unique_ptr<void, void (*)(void*)> memory(pyroberta::pool_take(static_cast<std::size_t>(size)),
                                                      pyroberta::pool_give);
        const py::capsule owner(memory.get(), [](void* given) { pyroberta::pool_give(given); });
        return py::array(dtype_, shape, memory.release(), owner);
    }

    // No two of the arrays that were given share memory.
    void check_apart(const std::vector<std::pair<const char*, py::array>>& arrays) const {
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

    // Calls body(the table of this dtype) without the GIL; the table's type tells body which dtype it is.
    template <typename Body>
    void run(const Body& body) const {
        const auto& set = instruction_set();
        PyThreadState* const thread = PyEval_SaveThread();
        try {
            if (dtype_.itemsize() == sizeof(float)) {
                body(set.singles, float{});
            } else {
                body(set.doubles, double{});
            }
        } catch (...) {
            take_gil(thread);
            throw;
        }
        take_gil(thread);
    }

    std::string place(const char* name) const { return std::string(op_) + ": " + name; }

    py::array floats(const char* name, const py::handle& value, const std::vector<Size>& shape) {
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

   private:
    py::array whole_numbers(const char* name, const py::handle& value, Size size) const {
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

    void check_shape(const char* name, const py::array& array, const std::vector<Size>& shape) const {
        bool is_good = array.ndim() == static_cast<Size>(shape.size());
        for (std::size_t i = 0; is_good && i < shape.size(); ++i) is_good = shape[i] == ANY || shape[i] == array.shape(i);
        if (!is_good) {
            throw py::value_error(place(name) + " must have the shape " + text(shape) + ", got " +
                                  text(array.attr("shape")));
        }
    }

    static bool is_plain(const py::array& array) {
        return (array.flags() & py::array::c_style) && (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_);
    }

    const py::array& keep(const py::array& array) {
        kept_.push_back(array);
        return kept_.back();
    }

    const char* op_;
    std::string first_;
    py::dtype dtype_ = py::dtype::of<float>();
    std::vector<py::array> kept_;  // copies live as long as the call
};

template <typename T>
const T* data(const py::array& array, T) {
    return static_cast<const T*>(array.data());
}
template <typename T>
T* write(const py::array& array, T) {
    return static_cast<T*>(const_cast<void*>(array.data()));
}
template <typename T>
Kernel<T> data(const Call::KernelRead& kernel, T t) {
    return {data(kernel.array, t), kernel.is_prepared};
}
const std::int32_t* data(const std::optional<py::array_t<std::int32_t>>& numbers) {
    return numbers ? numbers->data() : nullptr;
}

// --- products of matrices ---------------------------------------------------------------------------------------------

// A matrix of either order as a factor: its rows, or with `is_left` false its columns, are the vectors.
template <typename T>
Factor<T> factor(const py::array& array, bool is_left, T) {
    const Size step = sizeof(T);
    const Size row = array.strides(0) / step, column = array.strides(1) / step;
    return {static_cast<const T*>(array.data()), is_left ? row : column, is_left ? column : row};
}

py::array either_order(Call& call, const char* name, const py::object& value, const std::vector<Size>& shape) {
    const py::array array = call.floats(name, value, shape);
    const Size item = array.itemsize();
    const auto is_long = [&](int axis) {  // steps of whole elements, forward, past the other axis
        return array.strides(axis) % item == 0 && array.strides(axis) >= item * array.shape(1 - axis);
    };
    const bool is_aligned = (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
    const bool is_good = is_aligned && ((array.strides(1) == item && is_long(0)) || (array.strides(0) == item && is_long(1)));
    return is_good ? array : py::array::ensure(array.attr("copy")("C"));
}

void gemm(const py::object& a, const py::object& b, const py::object& out, bool accumulate) {
    Call call("gemm");
    const auto a_ = either_order(call, "a", a, {ANY, ANY});
    const auto b_ = either_order(call, "b", b, {a_.shape(1), ANY});
    const auto out_ = call.in_place("out", out, {a_.shape(0), b_.shape(1)});
    call.check_apart({{"a", a_}, {"out", out_}});
    call.check_apart({{"b", b_}, {"out", out_}});
    call.run([&](const auto& ops, auto t) {
        ops.gemm(factor(a_, true, t), factor(b_, false, t), a_.shape(0), b_.shape(1), a_.shape(1), write(out_, t), accumulate);
    });
}

py::array matmul(const py::object& a, const py::object& b) {
    Call call("matmul");
    const auto a_ = either_order(call, "a", a, {ANY, ANY});
    const auto b_ = either_order(call, "b", b, {a_.shape(1), ANY});
    const auto c = call.out({a_.shape(0), b_.shape(1)});
    call.run([&](const auto& ops, auto t) {
        ops.gemm(factor(a_, true, t), factor(b_, false, t), a_.shape(0), b_.shape(1), a_.shape(1), write(c, t), false);
    });
    return c;
}

Prepared prepare(const py::object& kernel) {
    Call call("prepare");
    const auto kernel_ = call.in("kernel", kernel, {ANY, ANY});
    const Size I = kernel_.shape(0), O = kernel_.shape(1);
    Size size = 0;
    call.run([&](const auto& ops, auto) { size = ops.prepared_size(O, I); });
    const auto copy = call.out({size});
    call.run([&](const auto& ops, auto t) { ops.prepare(data(kernel_, t), I, O, write(copy, t)); });
    return {kernel_, copy};
}

py::array linear_forward(const py::object& x, const py::object& kernel, const py::object& bias) {
    Call call("linear_forward");
    const auto x_ = call.in("x", x, {ANY, ANY});
    const auto kernel_ = call.kernel("kernel", kernel, {x_.shape(1), ANY});
    const Size N = x_.shape(0), I = x_.shape(1), O = kernel_.columns;
    const auto bias_ = call.in("bias", bias, {O});
    const auto y = call.out({N, O});
    call.run([&](const auto& ops, auto t) {
        ops.linear_forward(data(x_, t), data(kernel_, t), data(bias_, t), N, I, O, write(y, t));
    });
    return y;
}

py::array column_sums(const py::object& x) {
    Call call("column_sums");
    const auto x_ = call.in("x", x, {ANY, ANY});
    const auto sums = call.out({x_.shape(1)});
    call.run([&](const auto& ops, auto t) { ops.column_sums(data(x_, t), x_.shape(0), x_.shape(1), write(sums, t)); });
    return sums;
}

py::tuple gelu_forward(const py::object& x) {
    Call call("gelu_forward");
    const auto x_ = call.in("x", x, {ANY, ANY});
    const auto y = call.out({x_.shape(0), x_.shape(1)}), slope = call.out({x_.shape(0), x_.shape(1)});
    call.run([&](const auto& ops, auto t) { ops.gelu_forward(data(x_, t), x_.size(), write(y, t), write(slope, t)); });
    return py::make_tuple(y, slope);
}

py::tuple expand_forward(const py::object& x, const py::object& kernel, const py::object& bias) {
    Call call("expand_forward");
    const auto x_ = call.in("x", x, {ANY, ANY});
    const auto kernel_ = call.kernel("kernel", kernel, {x_.shape(1), ANY});
    const Size N = x_.shape(0), I = x_.shape(1), F = kernel_.columns;
    const auto bias_ = call.in("bias", bias, {F});
    const auto f = call.out({N, F}), g = call.out({N, F});
    call.run([&](const auto& ops, auto t) {
        ops.expand_forward(data(x_, t), data(kernel_, t), data(bias_, t), N, I, F, write(f, t), write(g, t));
    });
    return py::make_tuple(f, g);
}

// -> df; f becomes g
py::array expand_backward(const py::object& dh, const py::object& kernel, const py::object& f) {
    Call call("expand_backward");
    const auto dh_ = call.in("dh", dh, {ANY, ANY});
    const auto kernel_ = call.in("kernel", kernel, {ANY, dh_.shape(1)});
    const Size N = dh_.shape(0), O = dh_.shape(1), F = kernel_.shape(0);
    const auto f_ = call.in_place("f", f, {N, F});
    const auto df = call.out({N, F});
    call.run([&](const auto& ops, auto t) {
        ops.expand_backward(data(dh_, t), data(kernel_, t), N, F, O, write(f_, t), write(df, t));
    });
    return df;
}

// --- norms and dropout ------------------------------------------------------------------------------------------------

py::tuple layer_norm_forward(const py::object& x, const py::object& gamma, const py::object& beta, double epsilon) {
    Call call("layer_norm_forward");
    const auto x_ = call.in("x", x, {ANY, ANY});
    const Size N = x_.shape(0), C = x_.shape(1);
    const auto gamma_ = call.in("gamma", gamma, {C}), beta_ = call.in("beta", beta, {C});
    const auto y = call.out({N, C}), x_hat = call.out({N, C}), inverse_std = call.out({N});
    call.run([&](const auto& ops, auto t) {
        ops.layer_norm_forward(data(x_, t), data(gamma_, t), data(beta_, t), epsilon, N, C, write(y, t), write(x_hat, t),
                               write(inverse_std, t));
    });
    return py::make_tuple(y, x_hat, inverse_std);
}

py::array x_hat_of(const py::object& y, const py::object& gamma, const py::object& beta) {
    Call call("x_hat_of");
    const auto y_ = call.in("y", y, {ANY, ANY});
    const Size N = y_.shape(0), C = y_.shape(1);
    const auto gamma_ = call.in("gamma", gamma, {C}), beta_ = call.in("beta", beta, {C});
    const auto x_hat = call.out({N, C});
    call.run([&](const auto& ops, auto t) {
        ops.x_hat_of(data(y_, t), data(gamma_, t), data(beta_, t), N, C, write(x_hat, t));
    });
    return x_hat;
}

py::tuple add_norm_forward(const py::object& h, const py::object& x, const py::object& gamma, const py::object& beta,
                           double epsilon, double rate, const Key& key, const py::object& starts,
                           const py::object& numbers, const py::object& rows) {
    Call call("add_norm_forward");
    const auto h_ = call.in("h", h, {ANY, ANY});
    const Size N = h_.shape(0), C = h_.shape(1);
    const auto x_ = call.in("x", x, {N, C});
    const auto gamma_ = call.in("gamma", gamma, {C}), beta_ = call.in("beta", beta, {C});
    const auto dropout = call.dropout(rate, key);
    const auto mask = call.mask(rate, starts, numbers, rows, N);
    const auto y = call.out({N, C}), x_hat = call.out({N, C}), inverse_std = call.out({N});
    call.run([&](const auto& ops, auto t) {
        ops.add_norm_forward(data(h_, t), data(x_, t), data(gamma_, t), data(beta_, t), epsilon, N, C, dropout, mask.rows(),
                             write(y, t), write(x_hat, t), write(inverse_std, t));
    });
    return py::make_tuple(y, x_hat, inverse_std);
}

// -> dx, dh, dgamma, dbeta; without dropout dh is dx.
py::tuple layer_norm_backward(const py::object& dy, const py::object& x_hat, const py::object& inverse_std,
                              const py::object& gamma, double rate, const Key& key, const py::object& starts,
                              const py::object& numbers, const py::object& rows) {
    Call call("layer_norm_backward");
    const auto dy_ = call.in("dy", dy, {ANY, ANY});
    const Size N = dy_.shape(0), C = dy_.shape(1);
    const auto x_hat_ = call.in("x_hat", x_hat, {N, C}), inverse_std_ = call.in("inverse_std", inverse_std, {N});
    const auto gamma_ = call.in("gamma", gamma, {C});
    const auto dropout = call.dropout(rate, key);
    const auto mask = call.mask(rate, starts, numbers, rows, N);
    const auto dx = call.out({N, C}), dgamma = call.out({C}), dbeta = call.out({C});
    const auto dh = rate > 0.0 ? call.out({N, C}) : dx;
    call.run([&](const auto& ops, auto t) {
        ops.layer_norm_backward(data(dy_, t), data(x_hat_, t), data(inverse_std_, t), data(gamma_, t), N, C,
                                rate > 0.0 ? &dropout : nullptr, mask.rows(), write(dx, t), write(dh, t), write(dgamma, t),
                                write(dbeta, t));
    });
    return py::make_tuple(dx, dh, dgamma, dbeta);
}

py::array dropout(const py::object& x, double rate, const Key& key, const py::object& starts, const py::object& numbers,
                  const py::object& rows) {
    Call call("dropout");
    const auto x_ = call.in("x", x, {ANY, ANY});
    const auto dropout = call.dropout(rate, key);
    const auto mask = call.mask(rate, starts, numbers, rows, x_.shape(0));
    const auto y = call.out({x_.shape(0), x_.shape(1)});
    call.run([&](const auto& ops, auto t) {
        ops.dropout(data(x_, t), x_.shape(0), x_.shape(1), dropout, mask.rows(), write(y, t));
    });
    return y;
}

// --- rows by number ---------------------------------------------------------------------------------------------------

py::array embedding_forward(const py::object& ids, const py::object& positions, const py::object& tokens,
                            const py::object& rows) {
    Call call("embedding_forward");
    const auto tokens_ = call.in("tokens", tokens, {ANY, ANY});
    const Size C = tokens_.shape(1);
    const auto rows_ = call.in("rows", rows, {ANY, C});
    const auto ids_ = call.numbers("ids", ids, ANY, tokens_.shape(0));
    const auto positions_ = call.numbers("positions", positions, ids_.size(), rows_.shape(0));
    const auto y = call.out({ids_.size(), C});
    call.run([&](const auto& ops, auto t) {
        ops.embedding_forward(ids_.data(), positions_.data(), data(tokens_, t), data(rows_, t), ids_.size(), C, write(y, t));
    });
    return y;
}

py::array gather_forward(const py::object& x, const py::object& rows) {
    Call call("gather_forward");
    const auto x_ = call.in("x", x, {ANY, ANY});
    const auto rows_ = call.numbers("rows", rows, ANY, x_.shape(0));
    const auto y = call.out({rows_.size(), x_.shape(1)});
    call.run([&](const auto& ops, auto t) {
        ops.gather_forward(data(x_, t), rows_.data(), rows_.size(), x_.shape(1), write(y, t));
    });
    return y;
}

void scatter_add(const py::object& dy, const py::object& rows, const py::object& out) {
    Call call("scatter_add");
    const auto dy_ = call.in("dy", dy, {ANY, ANY});
    const auto out_ = call.in_place("out", out, {ANY, dy_.shape(1)});
    const auto rows_ = call.numbers("rows", rows, dy_.shape(0), out_.shape(0));
    call.check_apart({{"dy", dy_}, {"out", out_}});
    call.run([&](const auto& ops, auto t) {
        ops.scatter_add(data(dy_, t), rows_.data(), rows_.size(), dy_.shape(1), write(out_, t));
    });
}

// --- attention --------------------------------------------------------------------------------------------------------

Size head_size(const Call& call, Size C, Size H) {
    if (H < 1 || C % H) {
        throw py::value_error(call.place("num_heads") + " must divide the columns, " + std::to_string(C) + ", got " +
                              std::to_string(H));
    }
    return C / H;
}

py::tuple attention_forward(const py::object& q, const py::object& k, const py::object& v, const py::object& starts, Size H,
                            double rate, const Key& key, const py::object& numbers, const py::object& rows) {
    Call call("attention_forward");
    const auto k_ = call.in("k", k, {ANY, ANY});
    const Size N = k_.shape(0), C = k_.shape(1), D = head_size(call, C, H);
    const auto v_ = call.in("v", v, {N, C}), q_ = call.in("q", q, {rows.is_none() ? N : ANY, C});
    const Size R = q_.shape(0);
    const auto starts_ = call.starts(starts, N);
    const auto rows_ = call.rows(rows, R, N);
    const auto dropout = call.dropout(rate, key);
    const auto streams = call.streams(numbers, starts_.size() - 1);
    const auto y = call.out({R, C}), maxima = call.out({R, H}), sums = call.out({R, H});
    call.run([&](const auto& ops, auto t) {
        ops.attention_forward(data(q_, t), data(k_, t), data(v_, t), starts_.data(), starts_.size() - 1, data(rows_), R, H, D,
                              dropout, streams.data(), write(y, t), write(maxima, t), write(sums, t));
    });
    return py::make_tuple(y, maxima, sums);
}

py::tuple attention_backward(const py::object& dy, const py::object& q, const py::object& k, const py::object& v,
                             const py::object& y, const py::object& maxima, const py::object& sums, const py::object& starts,
                             Size H, double rate, const Key& key, const py::object& numbers, const py::object& rows) {
    Call call("attention_backward");
    const auto k_ = call.in("k", k, {ANY, ANY});
    const Size N = k_.shape(0), C = k_.shape(1), D = head_size(call, C, H);
    const auto v_ = call.in("v", v, {N, C}), q_ = call.in("q", q, {rows.is_none() ? N : ANY, C});
    const Size R = q_.shape(0);
    const auto dy_ = call.in("dy", dy, {R, C}), y_ = call.in("y", y, {R, C});
    const auto maxima_ = call.in("maxima", maxima, {R, H}), sums_ = call.in("sums", sums, {R, H});
    const auto starts_ = call.starts(starts, N);
    const auto rows_ = call.rows(rows, R, N);
    const auto dropout = call.dropout(rate, key);
    const auto streams = call.streams(numbers, starts_.size() - 1);
    const auto dq = call.out({R, C}), dk = call.out({N, C}), dv = call.out({N, C});
    call.run([&](const auto& ops, auto t) {
        ops.attention_backward(data(dy_, t), data(q_, t), data(k_, t), data(v_, t), data(y_, t), data(maxima_, t),
                               data(sums_, t), starts_.data(), starts_.size() - 1, data(rows_), R, H, D, dropout, streams.data(),
                               write(dq, t), write(dk, t), write(dv, t));
    });
    return py::make_tuple(dq, dk, dv);
}

// --- the loss ---------------------------------------------------------------------------------------------------------

py::array logits(const py::object& h, const py::object& table, const py::object& bias) {
    Call call("logits");
    const auto h_ = call.in("h", h, {ANY, ANY});
    const Size M = h_.shape(0), C = h_.shape(1);
    const auto table_ = call.in("table", table, {ANY, C});
    const Size V = table_.shape(0);
    const auto bias_ = call.in("bias", bias, {V});
    const auto z = call.out({M, V});
    call.run([&](const auto& ops, auto t) {
        ops.logits(data(h_, t), data(table_, t), data(bias_, t), M, V, C, write(z, t));
    });
    return z;
}

// -> losses, predicted, log_sums, z
py::tuple cross_entropy_forward(const py::object& h, const py::object& table, const py::object& bias,
                                const py::object& labels) {
    Call call("cross_entropy_forward");
    const auto h_ = call.in("h", h, {ANY, ANY});
    const Size M = h_.shape(0), C = h_.shape(1);
    const auto table_ = call.in("table", table, {ANY, C});
    const Size V = table_.shape(0);
    const auto bias_ = call.in("bias", bias, {V});
    const auto labels_ = call.numbers("labels", labels, M, V);
    const auto losses = call.out({M}), log_sums = call.out({M}), z = call.out({M, V});
    py::array_t<std::int64_t> predicted(M);
    std::int64_t* predicted_ = predicted.mutable_data();
    call.run([&](const auto& ops, auto t) {
        ops.cross_entropy_forward(data(h_, t), data(table_, t), data(bias_, t), labels_.data(), M, V, C, write(losses, t),
                                  predicted_, write(log_sums, t), write(z, t));
    });
    return py::make_tuple(losses, predicted, log_sums, z);
}

void cross_entropy_slopes(const py::object& z, const py::object& dlosses, const py::object& log_sums,
                          const py::object& labels) {
    Call call("cross_entropy_slopes");
    const auto z_ = call.in_place("z", z, {ANY, ANY});
    const Size M = z_.shape(0), V = z_.shape(1);
    const auto dlosses_ = call.in("dlosses", dlosses, {M}), log_sums_ = call.in("log_sums", log_sums, {M});
    const auto labels_ = call.numbers("labels", labels, M, V);
    call.run([&](const auto& ops, auto t) {
        ops.cross_entropy_slopes(write(z_, t), data(dlosses_, t), data(log_sums_, t), labels_.data(), M, V);
    });
}

// --- the update -------------------------------------------------------------------------------------------------------

double squared_norm(const py::object& x) {
    Call call("squared_norm");
    const auto x_ = call.in("x", x, {ANY});
    double total = 0;
    call.run([&](const auto& ops, auto t) { total = ops.squared_norm(data(x_, t), x_.size()); });
    return total;
}

void adam_step(const py::object& w, const py::object& g, const py::object& m, const py::object& v, double learning_rate,
               double beta_1, double beta_2, double epsilon, double scale, double decay) {
    Call call("adam_step");
    const auto w_ = call.in_place("w", w, {ANY});
    const Size P = w_.size();
    const auto g_ = call.in("g", g, {P});
    const auto m_ = call.in_place("m", m, {P}), v_ = call.in_place("v", v, {P});
    call.check_apart({{"w", w_}, {"g", g_}, {"m", m_}, {"v", v_}});
    call.run([&](const auto& ops, auto t) {
        ops.adam_step(write(w_, t), data(g_, t), write(m_, t), write(v_, t), P, learning_rate, beta_1, beta_2, epsilon, scale,
                      decay);
    });
}

std::string about() {
    return std::string(PYROBERTA_ABOUT) + ", instructions " + instruction_set().name + ", " +
           pyroberta::describe_threads();
}

// Products of matrices of the ops that this thread calls are that library's, until the next call; None for our own code.
void use_blas(const py::object& library) {
    pyroberta::blas_of_thread() = library.is_none() ? nullptr : library.cast<const pyroberta::Blas*>();
}

pyroberta::Blas make_blas(std::uintptr_t sgemm, std::uintptr_t dgemm, bool is_long, std::uintptr_t get_threads,
                          std::uintptr_t set_threads) {
    return {reinterpret_cast<void*>(sgemm), reinterpret_cast<void*>(dgemm), is_long,
            reinterpret_cast<int (*)()>(get_threads), reinterpret_cast<void (*)(int)>(set_threads)};
}

void set_num_threads(int threads) {
    if (threads < 1) throw py::value_error("set_num_threads: threads must be at least 1, got " + std::to_string(threads));
    pyroberta::set_most_threads(threads);
}

py::list instruction_sets() {
    return py::str(pyroberta::instruction_sets()).attr("split")(", ").cast<py::list>();
}

py::tuple pool_counts() {
    std::size_t used, kept;
    pyroberta::pool_counts(used, kept);
    return py::make_tuple(used, kept);
}

}  // namespace

PYBIND11_MODULE(_native, module, py::mod_gil_not_used()) {
    // Loads NumPy's functions now: pybind11 lets the GIL go meanwhile, and takes it again where take_gil is not.
    py::dtype::of<float>();
    module.doc() = "pyroberta's ops in C++; pyroberta.native makes the rows of the table from them.";
    module.def("about", &about, "The compiler, the instruction set in use and the number of threads.");
    module.def("get_num_threads", &pyroberta::most_threads, "The most threads that an op uses.");
    module.def("set_num_threads", &set_num_threads, py::arg("threads"), "Sets the most threads that an op uses.");
    module.def("processors", &pyroberta::processors, py::arg("root") = "",
               "The processors that this process may use; `root` stands before the paths of the system's files.");
#ifdef PYROBERTA_FAULTS
    module.def("fail_after", [](long count) { pyroberta::until_fault.store(count); }, py::arg("count"),
               "After `count` allocations the next one fails; a negative count calls that off.");
    module.def("until_fault", [] { return pyroberta::until_fault.load(); }, "Below 0 once the failure has happened.");
#endif
    module.def("instruction_sets", &instruction_sets, "The instruction sets that this machine and build have.");
    module.def("pool_counts", &pool_counts, "(bytes in arrays that ops returned, bytes kept for the next ones)");
    module.def("pool_release", &pyroberta::pool_release, "Returns what is kept to the system; gives the number of bytes.");
    module.def("gemm", &gemm, py::arg("a"), py::arg("b"), py::arg("out"), py::arg("accumulate") = false,
               "out = a @ b, or out += a @ b; a and b of either order.");
    module.def("matmul", &matmul, py::arg("a"), py::arg("b"), "a @ b; a and b of either order.");
    py::class_<Prepared>(module, "Prepared", "A linear layer's kernel, and a copy of it as products like to read it.")
        .def_readonly("kernel", &Prepared::kernel, "As it was given, or a contiguous copy. (in, out)")
        .def("__array__", [](const Prepared& self, const py::args&, const py::kwargs&) { return self.kernel; })
        .def_property_readonly("nbytes", [](const Prepared& self) { return self.copy.nbytes(); }, "Of the copy.");
    module.def("prepare", &prepare, py::arg("kernel"),
               "A Prepared, to be given as the kernel to linear_forward and expand_forward while its values stay.");
    py::class_<pyroberta::Blas>(module, "Blas", "A library of products of matrices, by the addresses of its functions.")
        .def(py::init(&make_blas), py::arg("sgemm"), py::arg("dgemm"), py::arg("is_long"), py::arg("get_threads"),
             py::arg("set_threads"));
    module.def("use_blas", &use_blas, py::arg("library"),
               "Takes a library, which must live on, for the products of the ops that this thread calls; None for our own.");
    module.def("end_calls_before_fork", &pyroberta::end_calls_before_fork, py::arg("library"),
               "Gives a library back its threads, in a child that was forked while another thread used it.");
    module.def("linear_forward", &linear_forward);
    module.def("column_sums", &column_sums);
    module.def("gelu_forward", &gelu_forward);
    module.def("expand_forward", &expand_forward);
    module.def("expand_backward", &expand_backward);
    module.def("layer_norm_forward", &layer_norm_forward);
    module.def("x_hat_of", &x_hat_of);
    module.def("layer_norm_backward", &layer_norm_backward);
    module.def("add_norm_forward", &add_norm_forward);
    module.def("dropout", &dropout);
    module.def("embedding_forward", &embedding_forward);
    module.def("gather_forward", &gather_forward);
    module.def("scatter_add", &scatter_add);
    module.def("attention_forward", &attention_forward);
    module.def("attention_backward", &attention_backward);
    module.def("logits", &logits);
    module.def("cross_entropy_forward", &cross_entropy_forward);
    module.def("cross_entropy_slopes", &cross_entropy_slopes);
    module.def("squared_norm", &squared_norm);
    module.def("adam_step", &adam_step, py::arg("w"), py::arg("g"), py::arg("m"), py::arg("v"), py::arg("learning_rate"),
               py::arg("beta_1"), py::arg("beta_2"), py::arg("epsilon"), py::arg("scale") = 1.0, py::arg("decay") = 0.0,
               "One update of Adam, in place; see pyroberta.ops.adam.adam_step.\n\n"
               "Raises TypeError or ValueError, naming the argument, unless w, g, m, v are contiguous 1-D arrays of one\n"
               "length and one dtype, float32 or float64, that share no memory; w, m, v writeable.");
}
