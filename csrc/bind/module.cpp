// The module pyroberta._native: the bindings of the ops, and what is asked of the runtime.
#include "bind/binding.hpp"
#include "runtime/blas.hpp"
#include "runtime/faults.hpp"
#include "runtime/pool.hpp"
#include "runtime/processors.hpp"
#include "runtime/threads.hpp"

namespace pyroberta {
namespace {

std::string about() {
    return std::string(PYROBERTA_ABOUT) + ", instructions " + instruction_set().name + ", " + describe_threads();
}

// Products of matrices of the ops that this thread calls are that library's, until the next call; None for our own.
void use_blas(const py::object& library) {
    blas_of_thread() = library.is_none() ? nullptr : library.cast<const Blas*>();
}

Blas make_blas(std::uintptr_t sgemm, std::uintptr_t dgemm, bool is_long, std::uintptr_t get_threads,
               std::uintptr_t set_threads) {
    return {reinterpret_cast<void*>(sgemm), reinterpret_cast<void*>(dgemm), is_long,
            reinterpret_cast<int (*)()>(get_threads), reinterpret_cast<void (*)(int)>(set_threads)};
}

void set_num_threads(int threads) {
    if (threads < 1) {
        throw py::value_error("set_num_threads: threads must be at least 1, got " + std::to_string(threads));
    }
    set_most_threads(threads);
}

py::list names_of_sets() { return py::str(instruction_sets()).attr("split")(", ").cast<py::list>(); }

py::tuple counts_of_pool() {
    std::size_t used, kept;
    pool_counts(used, kept);
    return py::make_tuple(used, kept);
}

void bind_ops(py::module_& module) {
    py::list names;
#define OP(result, name, parameters) \
    bind_##name(module);             \
    names.append(#name);
#include "ops.hpp"
    module.attr("OPS") = py::tuple(names);
}

void bind_runtime(py::module_& module) {
    module.def("about", &about, "The compiler, the instruction set in use and the number of threads.");
    module.def("get_num_threads", &most_threads, "The most threads that an op uses.");
    module.def("set_num_threads", &set_num_threads, py::arg("threads"), "Sets the most threads that an op uses.");
    module.def("processors", &processors, py::arg("root") = "",
               "The processors that this process may use; `root` stands before the paths of the system's files.");
#ifdef PYROBERTA_FAULTS
    module.def("fail_after", [](long count) { until_fault.store(count); }, py::arg("count"),
               "After `count` allocations the next one fails; a negative count calls that off.");
    module.def("until_fault", [] { return until_fault.load(); }, "Below 0 once the failure has happened.");
#endif
    module.def("instruction_sets", &names_of_sets, "The instruction sets that this machine and build have.");
    module.def("pool_counts", &counts_of_pool, "(bytes in arrays that ops returned, bytes kept for the next ones)");
    module.def("pool_release", &pool_release, "Returns what is kept to the system; gives the number of bytes.");
    py::class_<Blas>(module, "Blas", "A library of products of matrices, by the addresses of its functions.")
        .def(py::init(&make_blas), py::arg("sgemm"), py::arg("dgemm"), py::arg("is_long"), py::arg("get_threads"),
             py::arg("set_threads"));
    module.def("use_blas", &use_blas, py::arg("library"),
               "Takes a library, which must live on, for the products of the ops that this thread calls; None for our "
               "own.");
    module.def("end_calls_before_fork", &end_calls_before_fork, py::arg("library"),
               "Gives a library back its threads, in a child that was forked while another thread used it.");
}

}  // namespace
}  // namespace pyroberta

PYBIND11_MODULE(_native, module, pybind11::mod_gil_not_used()) {
    // Loads NumPy's functions now: pybind11 lets the GIL go meanwhile, and takes it again without take_gil of call.cpp.
    pybind11::dtype::of<float>();
    module.doc() = "pyroberta's ops in C++; pyroberta.backends.native makes the rows of the ops table from them.";
    pyroberta::bind_runtime(module);
    pyroberta::bind_ops(module);
}
