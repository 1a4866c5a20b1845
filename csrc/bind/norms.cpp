// Norms and dropout.
#include "bind/binding.hpp"

namespace pyroberta {
namespace {

// -> y, x_hat, inverse_std
py::tuple layer_norm_forward(const py::object& x, const py::object& gamma, const py::object& beta, double epsilon) {
    Call<op::layer_norm_forward> call;
    const auto x_ = call.in("x", x, {ANY, ANY});
    const Size N = x_.shape(0), C = x_.shape(1);
    const auto gamma_ = call.in("gamma", gamma, {C}), beta_ = call.in("beta", beta, {C});
    const auto y = call.out({N, C}), x_hat = call.out({N, C}), inverse_std = call.out({N});
    call.run(x_, gamma_, beta_, epsilon, N, C, y, x_hat, inverse_std);
    return py::make_tuple(y, x_hat, inverse_std);
}

py::array x_hat_of(const py::object& y, const py::object& gamma, const py::object& beta) {
    Call<op::x_hat_of> call;
    const auto y_ = call.in("y", y, {ANY, ANY});
    const Size N = y_.shape(0), C = y_.shape(1);
    const auto gamma_ = call.in("gamma", gamma, {C}), beta_ = call.in("beta", beta, {C});
    const auto x_hat = call.out({N, C});
    call.run(y_, gamma_, beta_, N, C, x_hat);
    return x_hat;
}

// -> dx, dh, dgamma, dbeta; without dropout dh is dx.
py::tuple layer_norm_backward(const py::object& dy, const py::object& x_hat, const py::object& inverse_std,
                              const py::object& gamma, double rate, const Key& key, const py::object& starts,
                              const py::object& numbers, const py::object& rows) {
    Call<op::layer_norm_backward> call;
    const auto dy_ = call.in("dy", dy, {ANY, ANY});
    const Size N = dy_.shape(0), C = dy_.shape(1);
    const auto x_hat_ = call.in("x_hat", x_hat, {N, C}), inverse_std_ = call.in("inverse_std", inverse_std, {N});
    const auto gamma_ = call.in("gamma", gamma, {C});
    const auto key_ = call.dropout(rate, key);
    const auto mask = call.mask(rate, starts, numbers, rows, N);
    const auto dx = call.out({N, C}), dgamma = call.out({C}), dbeta = call.out({C});
    const auto dh = rate > 0.0 ? call.out({N, C}) : dx;
    call.run(dy_, x_hat_, inverse_std_, gamma_, N, C, rate > 0.0 ? &key_ : nullptr, mask, dx, dh, dgamma, dbeta);
    return py::make_tuple(dx, dh, dgamma, dbeta);
}

// -> y, x_hat, inverse_std
py::tuple add_norm_forward(const py::object& h, const py::object& x, const py::object& gamma, const py::object& beta,
                           double epsilon, double rate, const Key& key, const py::object& starts,
                           const py::object& numbers, const py::object& rows) {
    Call<op::add_norm_forward> call;
    const auto h_ = call.in("h", h, {ANY, ANY});
    const Size N = h_.shape(0), C = h_.shape(1);
    const auto x_ = call.in("x", x, {N, C});
    const auto gamma_ = call.in("gamma", gamma, {C}), beta_ = call.in("beta", beta, {C});
    const auto key_ = call.dropout(rate, key);
    const auto mask = call.mask(rate, starts, numbers, rows, N);
    const auto y = call.out({N, C}), x_hat = call.out({N, C}), inverse_std = call.out({N});
    call.run(h_, x_, gamma_, beta_, epsilon, N, C, key_, mask, y, x_hat, inverse_std);
    return py::make_tuple(y, x_hat, inverse_std);
}

py::array dropout(const py::object& x, double rate, const Key& key, const py::object& starts, const py::object& numbers,
                  const py::object& rows) {
    Call<op::dropout> call;
    const auto x_ = call.in("x", x, {ANY, ANY});
    const auto key_ = call.dropout(rate, key);
    const auto mask = call.mask(rate, starts, numbers, rows, x_.shape(0));
    const auto y = call.out({x_.shape(0), x_.shape(1)});
    call.run(x_, x_.shape(0), x_.shape(1), key_, mask, y);
    return y;
}

}  // namespace

void bind_layer_norm_forward(py::module_& module) {
    define<op::layer_norm_forward>(module, &layer_norm_forward, "x"_a, "gamma"_a, "beta"_a, "epsilon"_a);
}
void bind_x_hat_of(py::module_& module) { define<op::x_hat_of>(module, &x_hat_of, "y"_a, "gamma"_a, "beta"_a); }
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
