// Products of matrices, and what is fused with them.
#include "bind/binding.hpp"

namespace pyroberta {
namespace {

void gemm(const py::object& a, const py::object& b, const py::object& out, bool accumulate) {
    Call<op::gemm> call;
    const auto a_ = call.left("a", a, {ANY, ANY});
    const auto b_ = call.right("b", b, {a_.shape(1), ANY});
    const auto out_ = call.in_place("out", out, {a_.shape(0), b_.shape(1)});
    call.check_apart({{"a", a_}, {"out", out_}});
    call.check_apart({{"b", b_}, {"out", out_}});
    call.run(a_, b_, a_.shape(0), b_.shape(1), a_.shape(1), out_, accumulate);
}

// The same op with a fresh array to write into.
py::array matmul(const py::object& a, const py::object& b) {
    Call<op::gemm> call("matmul");
    const auto a_ = call.left("a", a, {ANY, ANY});
    const auto b_ = call.right("b", b, {a_.shape(1), ANY});
    const auto c = call.out({a_.shape(0), b_.shape(1)});
    call.run(a_, b_, a_.shape(0), b_.shape(1), a_.shape(1), c, false);
    return c;
}

// Another object than that of the Prepared, whose shape and dtype the caller may set.
py::object kernel_of(const Prepared& prepared) { return prepared.kernel.attr("view")(); }

Prepared prepare(const py::object& kernel) {
    Call<op::prepare> call;
    const auto kernel_ = call.in("kernel", kernel, {ANY, ANY});
    const Size I = kernel_.shape(0), O = kernel_.shape(1);
    const auto copy = call.out({call.run(kernel_, I, O, nullptr)});
    call.run(kernel_, I, O, copy);
    return {kernel_.attr("view")(), copy};
}

py::array linear_forward(const py::object& x, const py::object& kernel, const py::object& bias) {
    Call<op::linear_forward> call;
    const auto x_ = call.in("x", x, {ANY, ANY});
    const auto kernel_ = call.kernel("kernel", kernel, {x_.shape(1), ANY});
    const Size N = x_.shape(0), I = x_.shape(1), O = kernel_.O;
    const auto bias_ = call.in("bias", bias, {O});
    const auto y = call.out({N, O});
    call.run(x_, kernel_, bias_, N, I, O, y);
    return y;
}

py::array column_sums(const py::object& x) {
    Call<op::column_sums> call;
    const auto x_ = call.in("x", x, {ANY, ANY});
    const auto sums = call.out({x_.shape(1)});
    call.run(x_, x_.shape(0), x_.shape(1), sums);
    return sums;
}

// -> y, slope
py::tuple gelu_forward(const py::object& x) {
    Call<op::gelu_forward> call;
    const auto x_ = call.in("x", x, {ANY, ANY});
    const auto y = call.out({x_.shape(0), x_.shape(1)}), slope = call.out({x_.shape(0), x_.shape(1)});
    call.run(x_, x_.size(), y, slope);
    return py::make_tuple(y, slope);
}

// -> f, g
py::tuple expand_forward(const py::object& x, const py::object& kernel, const py::object& bias) {
    Call<op::expand_forward> call;
    const auto x_ = call.in("x", x, {ANY, ANY});
    const auto kernel_ = call.kernel("kernel", kernel, {x_.shape(1), ANY});
    const Size N = x_.shape(0), I = x_.shape(1), F = kernel_.O;
    const auto bias_ = call.in("bias", bias, {F});
    const auto f = call.out({N, F}), g = call.out({N, F});
    call.run(x_, kernel_, bias_, N, I, F, f, g);
    return py::make_tuple(f, g);
}

// -> df; f becomes g
py::array expand_backward(const py::object& dh, const py::object& kernel, const py::object& f) {
    Call<op::expand_backward> call;
    const auto dh_ = call.in("dh", dh, {ANY, ANY});
    const auto kernel_ = call.in("kernel", kernel, {ANY, dh_.shape(1)});
    const Size N = dh_.shape(0), O = dh_.shape(1), F = kernel_.shape(0);
    const auto f_ = call.in_place("f", f, {N, F});
    call.check_apart({{"dh", dh_}, {"f", f_}});
    call.check_apart({{"kernel", kernel_}, {"f", f_}});
    const auto df = call.out({N, F});
    call.run(dh_, kernel_, N, F, O, f_, df);
    return df;
}

}  // namespace

void bind_gemm(py::module_& module) {
    define<op::gemm>(module, &gemm, "a"_a, "b"_a, "out"_a, "accumulate"_a = false,
                     "out = a @ b, or out += a @ b; a and b of either order.");
    module.def("matmul", &matmul, "a"_a, "b"_a, "a @ b; a and b of either order.");
}

void bind_prepare(py::module_& module) {
    py::class_<Prepared>(module, "Prepared", "A linear layer's kernel, and a copy of it as products like to read it.")
        .def_property_readonly("kernel", &kernel_of, "A view of what was given, or of a contiguous copy. (in, out)")
        .def("__array__", [](const Prepared& self, const py::args&, const py::kwargs&) { return kernel_of(self); })
        .def_property_readonly("nbytes", [](const Prepared& self) { return self.copy.nbytes(); }, "Of the copy.");
    define<op::prepare>(module, &prepare, "kernel"_a,
                        "A Prepared, to be given as the kernel to linear_forward and expand_forward while its values "
                        "stay.");
}

void bind_linear_forward(py::module_& module) {
    define<op::linear_forward>(module, &linear_forward, "x"_a, "kernel"_a, "bias"_a);
}
void bind_column_sums(py::module_& module) { define<op::column_sums>(module, &column_sums, "x"_a); }
void bind_gelu_forward(py::module_& module) { define<op::gelu_forward>(module, &gelu_forward, "x"_a); }
void bind_expand_forward(py::module_& module) {
    define<op::expand_forward>(module, &expand_forward, "x"_a, "kernel"_a, "bias"_a);
}
void bind_expand_backward(py::module_& module) {
    define<op::expand_backward>(module, &expand_backward, "dh"_a, "kernel"_a, "f"_a);
}

}  // namespace pyroberta
