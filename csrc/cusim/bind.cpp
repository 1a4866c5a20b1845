// What tests ask of the simulator.
#include "cuda/bind/call.hpp"
#include "cusim/api.hpp"
#include "cusim/planted.hpp"

namespace pyroberta {
namespace cuda {

void bind_simulator(py::module_& module) {
    module.def("set_order", &cusim::set_order, "seed"_a, "0: forward, 1: reverse, others: drawn.");
    module.def("set_memory_limit", &cusim::set_memory_limit, "bytes"_a, "What the device has.");
    module.def("set_capability", &cusim::set_capability, "major"_a, "minor"_a);
    module.def("reset", &cusim::reset, "After a mistake of a kernel: the device works again.");
    module.def(
        "empty", [](const Array& x) { return Array(x.shared_context(), x.type(), x.shape()); }, "like"_a,
        "An array that nobody wrote.");
    module.def(
        "run_planted",
        [](const std::string& name, const Array& array) {
            without_gil(array.context(), [&] { planted::run(name, array); });
        },
        "name"_a, "array"_a, "Runs a kernel with a mistake.");
    module.attr("SANITIZER") = CUSIM_SANITIZER;
    module.attr("PLANTED") = py::tuple(py::cast(planted::names()));
}

}  // namespace cuda
}  // namespace pyroberta
