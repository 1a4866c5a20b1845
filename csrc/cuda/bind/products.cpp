// Products of matrices, and the loss. A turned factor is the transpose of the array.
#include "cuda/bind/binding.hpp"

namespace pyroberta {
namespace cuda {
namespace {

struct Factors {
    Factor<float> a, b;
    Size N, I, O;
};

// Both arrays, with what the letters of a (N, I) and b (I, O) stand for.
template <typename Op>
Factors factors_of(Call<Op>& call, const py::object& a, bool a_turned, const py::object& b, bool b_turned) {
    const auto a_ = call.template in<float>("a", a, {ANY, ANY});
    const Size N = a_.shape(a_turned), I = a_.shape(!a_turned);
    const auto b_ = call.template in<float>("b", b, b_turned ? Shape{ANY, I} : Shape{I, ANY});
    return {a_turned ? columns_of(given(a_), N) : rows_of(given(a_), I),
            b_turned ? rows_of(given(b_), I) : columns_of(given(b_), b_.shape(1)), N, I, b_.shape(!b_turned)};
}

Array multiply(const py::object& a, const py::object& b, bool a_turned, bool b_turned, const py::object& bias,
               float scale, bool rounds) {
    Call<op::multiply> call;
    const Factors factors = factors_of(call, a, a_turned, b, b_turned);
    const float* bias_ = bias.is_none() ? nullptr : given(call.in<float>("bias", bias, {factors.O}));
    const auto y = call.out<float>({factors.N, factors.O});
    call.run(factors.a, factors.b, factors.N, factors.I, factors.O, scale, bias_, rounds, y);
    return y;
}

void add_product(const py::object& total, const py::object& a, const py::object& b, bool a_turned, bool b_turned,
                 bool rounds) {
    Call<op::add_product> call;
    const Factors factors = factors_of(call, a, a_turned, b, b_turned);
    const auto total_ = call.in_place<float>("total", total, {factors.N, factors.O});
    call.check_apart({{"total", total_}, {"a", call.any("a", a)}});
    call.check_apart({{"total", total_}, {"b", call.any("b", b)}});
    call.run(factors.a, factors.b, factors.N, factors.I, factors.O, rounds, total_);
}

Array column_sums(const py::object& x) {
    Call<op::column_sums> call;
    const auto x_ = call.in<float>("x", x, {ANY, ANY});
    const auto sums = call.out<float>({x_.shape(1)});
    call.run(x_, x_.shape(0), x_.shape(1), sums);
    return sums;
}

void cross_entropy_forward(const py::object& z, const py::object& labels, const py::object& losses,
                           const py::object& predicted, const py::object& log_sums) {
    Call<op::cross_entropy_forward> call;
    const auto z_ = call.in<float>("z", z, {ANY, ANY});
    const Size M = z_.shape(0), V = z_.shape(1);
    const Uploaded<std::int32_t> labels_(call.context(), call.host.numbers("labels", labels, M, V));
    const auto losses_ = call.in_place<float>("losses", losses, {M});
    const auto predicted_ = call.in_place<std::int64_t>("predicted", predicted, {M});
    const auto log_sums_ = call.in_place<float>("log_sums", log_sums, {M});
    call.check_apart({{"z", z_}, {"losses", losses_}, {"predicted", predicted_}, {"log_sums", log_sums_}});
    call.run(z_, labels_, M, V, losses_, predicted_, log_sums_);
}

void cross_entropy_slopes(const py::object& z, const py::object& dlosses, const py::object& log_sums,
                          const py::object& labels) {
    Call<op::cross_entropy_slopes> call;
    const auto z_ = call.in_place<float>("z", z, {ANY, ANY});
    const Size M = z_.shape(0), V = z_.shape(1);
    const auto dlosses_ = call.in<float>("dlosses", dlosses, {M});
    const auto log_sums_ = call.in<float>("log_sums", log_sums, {M});
    const Uploaded<std::int32_t> labels_(call.context(), call.host.numbers("labels", labels, M, V));
    call.check_apart({{"z", z_}, {"dlosses", dlosses_}});
    call.check_apart({{"z", z_}, {"log_sums", log_sums_}});
    call.run(z_, dlosses_, log_sums_, labels_, M, V);
}

}  // namespace

void bind_multiply(py::module_& module) {
    define<op::multiply>(module, &multiply, "a"_a, "b"_a, "a_turned"_a, "b_turned"_a, "bias"_a, "scale"_a, "rounds"_a);
}
void bind_add_product(py::module_& module) {
    define<op::add_product>(module, &add_product, "total"_a, "a"_a, "b"_a, "a_turned"_a, "b_turned"_a, "rounds"_a);
}
void bind_column_sums(py::module_& module) { define<op::column_sums>(module, &column_sums, "x"_a); }
void bind_cross_entropy_forward(py::module_& module) {
    define<op::cross_entropy_forward>(module, &cross_entropy_forward, "z"_a, "labels"_a, "losses"_a, "predicted"_a,
                                      "log_sums"_a);
}
void bind_cross_entropy_slopes(py::module_& module) {
    define<op::cross_entropy_slopes>(module, &cross_entropy_slopes, "z"_a, "dlosses"_a, "log_sums"_a, "labels"_a);
}

}  // namespace cuda
}  // namespace pyroberta
