// What is done to gradients.
#include "cuda/bind/binding.hpp"

namespace pyroberta {
namespace cuda {
namespace {

void accumulate(const py::object& total, const py::object& gradient) {
    Call<op::accumulate> call;
    const auto total_ = call.in_place<float>("total", total, call.any("total", total).shape());
    const auto gradient_ = call.in<float>("gradient", gradient, total_.shape());
    call.check_apart({{"total", total_}, {"gradient", gradient_}});
    call.run(total_, gradient_, total_.size());
}

void adam_step(const py::object& w, const py::object& g, const py::object& m, const py::object& v, double learning_rate,
               double beta_1, double beta_2, double epsilon, const py::object& scale, double decay,
               const py::object& is_finite) {
    Call<op::adam_step> call;
    const auto w_ = call.in_place<float>("w", w, {ANY});
    const auto g_ = call.in<float>("g", g, w_.shape());
    const auto m_ = call.in_place<float>("m", m, w_.shape()), v_ = call.in_place<float>("v", v, w_.shape());
    const auto scale_ = call.in<double>("scale", scale, {});
    const auto is_finite_ = call.in<std::int32_t>("is_finite", is_finite, {});
    call.check_apart({{"w", w_}, {"g", g_}, {"m", m_}, {"v", v_}});
    call.run(w_, g_, m_, v_, w_.size(), static_cast<float>(learning_rate), static_cast<float>(1.0 - beta_1),
             static_cast<float>(1.0 - beta_2), static_cast<float>(epsilon), scale_, static_cast<float>(decay),
             is_finite_);
}

}  // namespace

void bind_accumulate(py::module_& module) { define<op::accumulate>(module, &accumulate, "total"_a, "gradient"_a); }
void bind_adam_step(py::module_& module) {
    define<op::adam_step>(module, &adam_step, "w"_a, "g"_a, "m"_a, "v"_a, "learning_rate"_a, "beta_1"_a, "beta_2"_a,
                          "epsilon"_a, "scale"_a, "decay"_a, "is_finite"_a);
}

}  // namespace cuda
}  // namespace pyroberta
