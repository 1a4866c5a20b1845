// The only file that knows Python: it checks every argument once, releases the GIL and calls the op.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <string>
#include <utility>

#include "ops.hpp"

namespace py = pybind11;

namespace {

struct Argument {
    const char* name;
    py::handle value;
    bool is_written;
};

std::string text(const py::handle& object) { return py::str(object).cast<std::string>(); }

// A contiguous 1-D array of float32 or float64, writeable where it is written.
py::array check_vector(const std::string& op, const Argument& argument) {
    const std::string place = op + ": " + argument.name;
    if (!py::isinstance<py::array>(argument.value)) {
        throw py::type_error(place + " must be a NumPy array, got " + text(py::type::of(argument.value)));
    }
    const auto array = py::reinterpret_borrow<py::array>(argument.value);
    if (!array.dtype().equal(py::dtype::of<float>()) && !array.dtype().equal(py::dtype::of<double>())) {
        throw py::type_error(place + " must be float32 or float64 in the machine's byte order, got dtype " +
                             array.dtype().attr("str").cast<std::string>());
    }
    if (array.ndim() != 1) {
        throw py::value_error(place + " must have 1 axis, got shape " + text(array.attr("shape")) +
                              "; pass array.reshape(-1)");
    }
    if (!(array.flags() & py::array::c_style)) {
        throw py::value_error(place + " must be contiguous, got strides " + text(array.attr("strides")));
    }
    if (!(array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_)) {
        throw py::value_error(place + " must be aligned to its element size; pass a copy");
    }
    if (argument.is_written && !array.writeable()) {
        throw py::value_error(place + " is changed in place and must be writeable, got a read-only array");
    }
    return array;
}

// All of them vectors of one dtype and one length that share no memory.
template <std::size_t Count>
std::array<py::array, Count> check_vectors(const std::string& op, const std::array<Argument, Count>& arguments) {
    std::array<py::array, Count> arrays;
    for (std::size_t i = 0; i < Count; ++i) {
        arrays[i] = check_vector(op, arguments[i]);
        const std::string place = op + ": " + arguments[i].name;
        if (!arrays[i].dtype().equal(arrays[0].dtype())) {
            throw py::type_error(place + " must have the dtype of " + arguments[0].name + ", " +
                                 text(arrays[0].dtype()) + ", got " + text(arrays[i].dtype()));
        }
        if (arrays[i].size() != arrays[0].size()) {
            throw py::value_error(place + " must have the length of " + arguments[0].name + ", " +
                                  std::to_string(arrays[0].size()) + ", got " + std::to_string(arrays[i].size()));
        }
        const auto* start = static_cast<const char*>(arrays[i].data());
        for (std::size_t j = 0; j < i; ++j) {
            const auto* other = static_cast<const char*>(arrays[j].data());
            if (start < other + arrays[j].nbytes() && other < start + arrays[i].nbytes()) {
                throw py::value_error(place + " must not share memory with " + arguments[j].name);
            }
        }
    }
    return arrays;
}

void adam_step(const py::object& w, const py::object& g, const py::object& m, const py::object& v,
               double learning_rate, double beta_1, double beta_2, double epsilon) {
    auto arrays = check_vectors<4>("adam_step", {{{"w", w, true}, {"g", g, false}, {"m", m, true}, {"v", v, true}}});
    const auto run = [&](auto* w_, const auto* g_, auto* m_, auto* v_) {
        const std::int64_t P = arrays[0].size();
        const py::gil_scoped_release released;
        pyroberta::adam_step(w_, g_, m_, v_, P, learning_rate, beta_1, beta_2, epsilon);
    };
    const auto run_as = [&](auto type) {
        using T = decltype(type);
        run(static_cast<T*>(arrays[0].mutable_data()), static_cast<const T*>(arrays[1].data()),
            static_cast<T*>(arrays[2].mutable_data()), static_cast<T*>(arrays[3].mutable_data()));
    };
    if (arrays[0].itemsize() == sizeof(float)) {
        run_as(float{});
    } else {
        run_as(double{});
    }
}

}  // namespace

PYBIND11_MODULE(_native, module, py::mod_gil_not_used()) {
    module.doc() = "pyroberta's ops in C++; pyroberta.ops has each one's reference.";
    module.attr("about") = PYROBERTA_ABOUT;
    module.def("adam_step", &adam_step, py::arg("w"), py::arg("g"), py::arg("m"), py::arg("v"),
               py::arg("learning_rate"), py::arg("beta_1"), py::arg("beta_2"), py::arg("epsilon"),
               "One update of Adam, in place; see pyroberta.ops.adam.adam_step.\n\n"
               "Raises TypeError or ValueError, naming the argument, unless w, g, m, v are contiguous 1-D arrays of one\n"
               "length and one dtype, float32 or float64, that share no memory; w, m, v writeable.");
}
