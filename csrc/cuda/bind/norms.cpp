// Norms and dropout.
#include "cuda/bind/binding.hpp"

namespace pyroberta {
namespace cuda {
namespace {

// -> y, x_hat, inverse_std; h may be None
py::tuple add_norm_forward(const py::object& h, const py::object& x, const py::object& gamma, const py::object& beta,
                           float epsilon, double rate, const Key& key, const py::object& starts,
                           const py::object& numbers, const py::object& rows) {
    Call<op::add_norm_forward> call;
    const auto x_ = call.in<float>("x", x, {ANY, ANY});
    const Size N = x_.shape(0), C = x_.shape(1);
    const float* h_ = h.is_none() ? nullptr : given(call.in<float>("h", h, {N, C}));
    const auto gamma_ = call.in<float>("gamma", gamma, {C}), beta_ = call.in<float>("beta", beta, {C});
    const auto key_ = call.host.dropout(rate, key);
    const UploadedMask mask(call.context(), call.host.mask(rate, starts, numbers, rows, N));
    const auto y = call.out<float>({N, C}), x_hat = call.out<float>({N, C}), inverse_std = call.out<float>({N});
    call.run(h_, x_, gamma_, beta_, epsilon, N, C, key_, mask, y, x_hat, inverse_std);
    return py::make_tuple(Array(y), Array(x_hat), Array(inverse_std));
}

// -> dx, dh, dgamma, dbeta; without dropout dh is dx
py::tuple add_norm_backward(const py::object& dy, const py::object& x_hat, const py::object& inverse_std,
                            const py::object& gamma, double rate, const Key& key, const py::object& starts,
                            const py::object& numbers, const py::object& rows) {
    Call<op::add_norm_backward> call;
    const auto dy_ = call.in<float>("dy", dy, {ANY, ANY});
    const Size N = dy_.shape(0), C = dy_.shape(1);
    const auto x_hat_ = call.in<float>("x_hat", x_hat, {N, C});
    const auto inverse_std_ = call.in<float>("inverse_std", inverse_std, {N});
    const auto gamma_ = call.in<float>("gamma", gamma, {C});
    const auto key_ = call.host.dropout(rate, key);
    const UploadedMask mask(call.context(), call.host.mask(rate, starts, numbers, rows, N));
    const auto dx = call.out<float>({N, C}), dh = rate > 0.0 ? call.out<float>({N, C}) : dx;
    const auto dgamma = call.out<float>({C}), dbeta = call.out<float>({C});
    call.run(dy_, x_hat_, inverse_std_, gamma_, N, C, key_, mask, dx, dh, dgamma, dbeta);
    return py::make_tuple(Array(dx), Array(dh), Array(dgamma), Array(dbeta));
}

Array dropout(const py::object& x, double rate, const Key& key, const py::object& starts, const py::object& numbers,
              const py::object& rows) {
    Call<op::dropout> call;
    const auto x_ = call.in<float>("x", x, {ANY, ANY});
    const Size N = x_.shape(0), C = x_.shape(1);
    const auto key_ = call.host.dropout(rate, key);
    const UploadedMask mask(call.context(), call.host.mask(rate, starts, numbers, rows, N));
    const auto y = call.out<float>({N, C});
    call.run(x_, N, C, key_, mask, y);
    return y;
}

}  // namespace

void bind_add_norm_forward(py::module_& module) {
    define<op::add_norm_forward>(module, &add_norm_forward, "h"_a, "x"_a, "gamma"_a, "beta"_a, "epsilon"_a, "rate"_a,
                                 "key"_a, "starts"_a, "numbers"_a, "rows"_a);
}
void bind_add_norm_backward(py::module_& module) {
    define<op::add_norm_backward>(module, &add_norm_backward, "dy"_a, "x_hat"_a, "inverse_std"_a, "gamma"_a, "rate"_a,
                                  "key"_a, "starts"_a, "numbers"_a, "rows"_a);
}
void bind_dropout(py::module_& module) {
    define<op::dropout>(module, &dropout, "x"_a, "rate"_a, "key"_a, "starts"_a, "numbers"_a, "rows"_a);
}

}  // namespace cuda
}  // namespace pyroberta
