// The update of the parameters.
#include "bind/binding.hpp"

namespace pyroberta {
namespace {

double squared_norm(const py::object& x) {
    Call<op::squared_norm> call;
    const auto x_ = call.in("x", x, {ANY});
    return call.run(x_, x_.size());
}

void adam_step(const py::object& w, const py::object& g, const py::object& m, const py::object& v, double learning_rate,
               double beta_1, double beta_2, double epsilon, double scale, double decay) {
    Call<op::adam_step> call;
    const auto w_ = call.in_place("w", w, {ANY});
    const Size P = w_.size();
    const auto g_ = call.in("g", g, {P});
    const auto m_ = call.in_place("m", m, {P}), v_ = call.in_place("v", v, {P});
    call.check_apart({{"w", w_}, {"g", g_}, {"m", m_}, {"v", v_}});
    call.run(w_, g_, m_, v_, P, learning_rate, beta_1, beta_2, epsilon, scale, decay);
}

}  // namespace

void bind_squared_norm(py::module_& module) { define<op::squared_norm>(module, &squared_norm, "x"_a); }
void bind_adam_step(py::module_& module) {
    define<op::adam_step>(module, &adam_step, "w"_a, "g"_a, "m"_a, "v"_a, "learning_rate"_a, "beta_1"_a, "beta_2"_a,
                          "epsilon"_a, "scale"_a = 1.0, "decay"_a = 0.0,
                          "One update of Adam, in place; see pyroberta.ops.adam.adam_step.\n\n"
                          "Raises TypeError or ValueError, naming the argument, unless w, g, m, v are contiguous\n"
                          "1-D arrays of one length and one dtype, float32 or float64, that share no memory; w, m, v\n"
                          "writeable.");
}

}  // namespace pyroberta
