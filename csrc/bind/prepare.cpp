// Linear layers' kernels prepared for many products.
#include "bind/binding.hpp"

namespace pyroberta {
namespace {

// Another object than that of the Prepared, whose shape and dtype the caller may set.
py::object kernel_of(const Prepared& prepared) { return prepared.kernel.attr("view")(); }

// NumPy's protocol: a copy if `copy` is True; if it is None, only for another dtype; if it is False, never.
py::object array_of(const Prepared& prepared, const py::object& dtype, const py::object& copy) {
    if (!copy.is_none() && !PyBool_Check(copy.ptr())) {
        throw py::type_error("Prepared.__array__: copy must be True, False or None, got " +
                             py::str(py::type::of(copy)).cast<std::string>());
    }
    const py::object kernel = kernel_of(prepared);
    const py::object found = dtype.is_none() ? kernel : kernel.attr("astype")(dtype, "copy"_a = false);
    if (!found.is(kernel)) {
        if (copy.ptr() == Py_False) {
            throw py::value_error("Prepared.__array__: a kernel of dtype " +
                                  py::str(prepared.kernel.dtype()).cast<std::string>() + " must be copied to have dtype " +
                                  py::str(found.attr("dtype")).cast<std::string>() + ", got copy=False");
        }
        return found;
    }
    return copy.ptr() == Py_True ? kernel.attr("copy")() : kernel;
}

Prepared prepare(const py::object& kernel) {
    Call<op::prepare> call;
    const auto kernel_ = call.in<'I', 'O'>("kernel", kernel);
    const auto I = call.size<'I'>();
    const auto O = call.size<'O'>();
    call.set_size<'P'>(call.run(kernel_, I, O, nullptr));
    const auto copy = call.out<'P'>();
    call.run(kernel_, I, O, copy);
    return {kernel_.value.attr("view")(), copy.value};
}

}  // namespace

void bind_prepare(py::module_& module) {
    seal(define_class<Prepared>(module, "Prepared",
                                "A linear layer's kernel, and a copy of it as products like to read it.")
        .def_property_readonly("kernel", &kernel_of, "A view of what was given, or of a contiguous copy. (in, out)")
        .def("__array__", &array_of, "dtype"_a = py::none(), "copy"_a = py::none(),
             "The kernel, as NumPy asks for it: a view of it, or a copy where `copy` or another dtype wants one.")
        .def_property_readonly("nbytes", [](const Prepared& self) { return self.copy.nbytes(); }, "Of the copy."));
    define<op::prepare>(module, &prepare, "kernel"_a,
                        "A Prepared, to be given as the kernel to linear_forward and expand_forward while its values "
                        "stay.");
}

}  // namespace pyroberta
