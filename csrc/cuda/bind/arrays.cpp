// Arrays and scalars, and functions of single numbers.
#include "cuda/bind/binding.hpp"

namespace pyroberta {
namespace cuda {
namespace {

void fill(const py::object& x, float value) {
    Call<op::fill> call;
    const auto x_ = call.in_place<float>("x", x, call.any("x", x).shape());
    call.run(x_, x_.size(), value);
}

void copy(const py::object& target, const py::object& source) {
    Call<op::copy> call;
    const auto target_ = call.in_place<float>("target", target, call.any("target", target).shape());
    const auto source_ = call.in<float>("source", source, target_.shape());
    call.check_apart({{"target", target_}, {"source", source_}});
    call.run(target_, source_, target_.size());
}

void maximum(const py::object& largest, const py::object& x) {
    Call<op::maximum> call;
    const auto largest_ = call.in_place<float>("largest", largest, call.any("largest", largest).shape());
    const auto x_ = call.in<float>("x", x, largest_.shape());
    call.check_apart({{"largest", largest_}, {"x", x_}});
    call.run(largest_, x_, largest_.size());
}

void clip(const py::object& x, float limit) {
    Call<op::clip> call;
    const auto x_ = call.in_place<float>("x", x, call.any("x", x).shape());
    call.run(x_, x_.size(), limit);
}

void running_mean(const py::object& mean, const py::object& x, double keep) {
    Call<op::running_mean> call;
    const auto mean_ = call.in_place<float>("mean", mean, {ANY});
    const auto x_ = call.in<float>("x", x, mean_.shape());
    call.check_apart({{"mean", mean_}, {"x", x_}});
    call.run(mean_, x_, mean_.size(), static_cast<float>(keep), static_cast<float>(1.0 - keep));
}

void clear_unless_finite(const py::object& x, const py::object& is_finite) {
    Call<op::clear_unless_finite> call;
    const auto x_ = call.in<float>("x", x, call.any("x", x).shape());
    call.run(x_, x_.size(), call.in_place<std::int32_t>("is_finite", is_finite, {}));
}

Array add_scalars(const py::object& x, const py::object& y) {
    Call<op::add_scalars> call;
    const auto x_ = call.in<double>("x", x, {}), y_ = call.in<double>("y", y, {});
    const auto z = call.out<double>({});
    call.run(x_, y_, z);
    return z;
}

Array squared_norm(const py::object& x) {
    Call<op::squared_norm> call;
    const auto x_ = call.in<float>("x", x, {ANY});
    const auto square = call.out<double>({});
    call.run(x_, x_.size(), square);
    return square;
}

Array clip_scale(const py::object& square, double limit) {
    Call<op::clip_scale> call;
    const auto square_ = call.in<double>("square", square, {});
    const auto scale = call.out<double>({});
    call.run(square_, limit, scale);
    return scale;
}

// An op that makes an array of another one, and of two, number by number.
template <typename Op>
Array of_one(const char* name, const py::object& x) {
    Call<Op> call;
    const auto x_ = call.template in<float>(name, x, call.any(name, x).shape());
    const auto y = call.template out<float>(x_.shape());
    call.run(x_, x_.size(), y);
    return y;
}
template <typename Op>
Array of_two(const char* x_name, const py::object& x, const char* y_name, const py::object& y) {
    Call<Op> call;
    const auto x_ = call.template in<float>(x_name, x, call.any(x_name, x).shape());
    const auto y_ = call.template in<float>(y_name, y, x_.shape());
    const auto z = call.template out<float>(x_.shape());
    call.run(x_, y_, x_.size(), z);
    return z;
}

Array add(const py::object& x, const py::object& y) { return of_two<op::add>("x", x, "y", y); }
Array tanh_forward(const py::object& x) { return of_one<op::tanh_forward>("x", x); }
Array tanh_backward(const py::object& dy, const py::object& y) { return of_two<op::tanh_backward>("dy", dy, "y", y); }
Array gelu_forward(const py::object& x) { return of_one<op::gelu_forward>("x", x); }
Array gelu_backward(const py::object& dy, const py::object& x) { return of_two<op::gelu_backward>("dy", dy, "x", x); }

}  // namespace

void bind_fill(py::module_& module) { define<op::fill>(module, &fill, "x"_a, "value"_a); }
void bind_add(py::module_& module) { define<op::add>(module, &add, "x"_a, "y"_a); }
void bind_copy(py::module_& module) { define<op::copy>(module, &copy, "target"_a, "source"_a); }
void bind_maximum(py::module_& module) { define<op::maximum>(module, &maximum, "largest"_a, "x"_a); }
void bind_clip(py::module_& module) { define<op::clip>(module, &clip, "x"_a, "limit"_a); }
void bind_running_mean(py::module_& module) {
    define<op::running_mean>(module, &running_mean, "mean"_a, "x"_a, "keep"_a);
}
void bind_clear_unless_finite(py::module_& module) {
    define<op::clear_unless_finite>(module, &clear_unless_finite, "x"_a, "is_finite"_a);
}
void bind_add_scalars(py::module_& module) { define<op::add_scalars>(module, &add_scalars, "x"_a, "y"_a); }
void bind_squared_norm(py::module_& module) { define<op::squared_norm>(module, &squared_norm, "x"_a); }
void bind_clip_scale(py::module_& module) { define<op::clip_scale>(module, &clip_scale, "square"_a, "limit"_a); }
void bind_tanh_forward(py::module_& module) { define<op::tanh_forward>(module, &tanh_forward, "x"_a); }
void bind_tanh_backward(py::module_& module) { define<op::tanh_backward>(module, &tanh_backward, "dy"_a, "y"_a); }
void bind_gelu_forward(py::module_& module) { define<op::gelu_forward>(module, &gelu_forward, "x"_a); }
void bind_gelu_backward(py::module_& module) { define<op::gelu_backward>(module, &gelu_backward, "dy"_a, "x"_a); }

}  // namespace cuda
}  // namespace pyroberta
