// Norms with dropout, and dropout.
#include "bind/binding.hpp"

namespace pyroberta {
namespace {

// -> dx, dh, dgamma, dbeta; without dropout dh is dx.
py::tuple layer_norm_backward(const py::object& dy, const py::object& x_hat, const py::object& inverse_std,
                              const py::object& gamma, double rate, const Key& key, const py::object& starts,
                              const py::object& numbers, const py::object& rows) {
    Call<op::layer_norm_backward> call;
    const auto dy_ = call.in<'N', 'C'>("dy", dy), x_hat_ = call.in<'N', 'C'>("x_hat", x_hat);
    const auto inverse_std_ = call.in<'N'>("inverse_std", inverse_std);
    const auto gamma_ = call.in<'C'>("gamma", gamma);
    const auto N = call.size<'N'>();
    const auto C = call.size<'C'>();
    const auto key_ = call.dropout(rate, key);
    const auto mask = call.mask(rate, starts, numbers, rows, N);
    const auto dx = call.out<'N', 'C'>(), dh = rate > 0.0 ? call.out<'N', 'C'>() : dx;
    const auto dgamma = call.out<'C'>(), dbeta = call.out<'C'>();
    call.run(dy_, x_hat_, inverse_std_, gamma_, N, C, rate > 0.0 ? &key_ : nullptr, mask, dx, dh, dgamma, dbeta);
    return py::make_tuple(dx.value, dh.value, dgamma.value, dbeta.value);
}

// -> y, x_hat, inverse_std
py::tuple add_norm_forward(const py::object& h, const py::object& x, const py::object& gamma, const py::object& beta,
                           double epsilon, double rate, const Key& key, const py::object& starts,
                           const py::object& numbers, const py::object& rows) {
    Call<op::add_norm_forward> call;
    const auto h_ = call.in<'N', 'C'>("h", h), x_ = call.in<'N', 'C'>("x", x);
    const auto gamma_ = call.in<'C'>("gamma", gamma), beta_ = call.in<'C'>("beta", beta);
    const auto N = call.size<'N'>();
    const auto C = call.size<'C'>();
    const auto key_ = call.dropout(rate, key);
    const auto mask = call.mask(rate, starts, numbers, rows, N);
    const auto y = call.out<'N', 'C'>(), x_hat = call.out<'N', 'C'>();
    const auto inverse_std = call.out<'N'>();
    call.run(h_, x_, gamma_, beta_, epsilon, N, C, key_, mask, y, x_hat, inverse_std);
    return py::make_tuple(y.value, x_hat.value, inverse_std.value);
}

py::array dropout(const py::object& x, double rate, const Key& key, const py::object& starts, const py::object& numbers,
                  const py::object& rows) {
    Call<op::dropout> call;
    const auto x_ = call.in<'N', 'C'>("x", x);
    const auto N = call.size<'N'>();
    const auto C = call.size<'C'>();
    const auto key_ = call.dropout(rate, key);
    const auto mask = call.mask(rate, starts, numbers, rows, N);
    const auto y = call.out<'N', 'C'>();
    call.run(x_, N, C, key_, mask, y);
    return y.value;
}

}  // namespace

void bind_layer_norm_backward(py::module_& module) {
    define<op::layer_norm_backward>(module, &layer_norm_backward, "dy"_a, "x_hat"_a, "inverse_std"_a, "gamma"_a,
                                    "rate"_a, "key"_a, "starts"_a, "numbers"_a, "rows"_a);
}
void bind_add_norm_forward(py::module_& module) {
    define<op::add_norm_forward>(module, &add_norm_forward, "h"_a, "x"_a, "gamma"_a, "beta"_a, "epsilon"_a, "rate"_a,
                                 "key"_a, "starts"_a, "numbers"_a, "rows"_a);
}
void bind_dropout(py::module_& module) {
    define<op::dropout>(module, &dropout, "x"_a, "rate"_a, "key"_a, "starts"_a, "numbers"_a, "rows"_a);
}

}  // namespace pyroberta
