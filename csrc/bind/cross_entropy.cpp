// The logits and the loss.
#include "bind/binding.hpp"

namespace pyroberta {
namespace {

py::array logits(const py::object& h, const py::object& table, const py::object& bias) {
    Call<op::logits> call;
    const auto h_ = call.in("h", h, {ANY, ANY});
    const Size M = h_.shape(0), C = h_.shape(1);
    const auto table_ = call.in("table", table, {ANY, C});
    const Size V = table_.shape(0);
    const auto bias_ = call.in("bias", bias, {V});
    const auto z = call.out({M, V});
    call.run(h_, table_, bias_, M, V, C, z);
    return z;
}

// -> losses, predicted, log_sums, z
py::tuple cross_entropy_forward(const py::object& h, const py::object& table, const py::object& bias,
                                const py::object& labels) {
    Call<op::cross_entropy_forward> call;
    const auto h_ = call.in("h", h, {ANY, ANY});
    const Size M = h_.shape(0), C = h_.shape(1);
    const auto table_ = call.in("table", table, {ANY, C});
    const Size V = table_.shape(0);
    const auto bias_ = call.in("bias", bias, {V});
    const auto labels_ = call.numbers("labels", labels, M, V);
    const auto losses = call.out({M}), log_sums = call.out({M}), z = call.out({M, V});
    py::array_t<std::int64_t> predicted(M);
    std::int64_t* predicted_ = predicted.mutable_data();
    call.run(h_, table_, bias_, labels_, M, V, C, losses, predicted_, log_sums, z);
    return py::make_tuple(losses, predicted, log_sums, z);
}

void cross_entropy_slopes(const py::object& z, const py::object& dlosses, const py::object& log_sums,
                          const py::object& labels) {
    Call<op::cross_entropy_slopes> call;
    const auto z_ = call.in_place("z", z, {ANY, ANY});
    const Size M = z_.shape(0), V = z_.shape(1);
    const auto dlosses_ = call.in("dlosses", dlosses, {M}), log_sums_ = call.in("log_sums", log_sums, {M});
    const auto labels_ = call.numbers("labels", labels, M, V);
    call.check_apart({{"dlosses", dlosses_}, {"z", z_}});
    call.check_apart({{"log_sums", log_sums_}, {"z", z_}});
    call.run(z_, dlosses_, log_sums_, labels_, M, V);
}

}  // namespace

void bind_logits(py::module_& module) { define<op::logits>(module, &logits, "h"_a, "table"_a, "bias"_a); }
void bind_cross_entropy_forward(py::module_& module) {
    define<op::cross_entropy_forward>(module, &cross_entropy_forward, "h"_a, "table"_a, "bias"_a, "labels"_a);
}
void bind_cross_entropy_slopes(py::module_& module) {
    define<op::cross_entropy_slopes>(module, &cross_entropy_slopes, "z"_a, "dlosses"_a, "log_sums"_a, "labels"_a);
}

}  // namespace pyroberta
