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
void use_blas(const Blas* library) { blas_of_thread() = library; }

Blas make_blas(std::uintptr_t sgemm, std::uintptr_t dgemm, bool is_long, std::uintptr_t get_threads,
               std::uintptr_t set_threads) {
    if (!sgemm || !dgemm) throw py::value_error("make_blas: sgemm and dgemm must be addresses of functions, got 0");
    if (!get_threads != !set_threads) {
        throw py::value_error("make_blas: get_threads and set_threads must both be addresses of functions, or both 0");
    }
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
#define OP(result, name, parameters)                  \
    if constexpr (FromEntry<op::name>::IS_POSSIBLE) { \
        FromEntry<op::name>::define(module);          \
    } else {                                          \
        bind_##name(module);                          \
    }                                                 \
    names.append(#name);
#include "ops.hpp"
    module.attr("OPS") = py::tuple(names);
}

void bind_runtime(py::module_& module) {
    module.def("about", &about, "The compiler, the instruction set in use and the number of threads.");
    module.def("get_num_threads", &most_threads, "The most threads that an op uses.");
    module.def("set_num_threads", &set_num_threads, "threads"_a, "Sets the most threads that an op uses.");
    module.def("processors", &processors, "root"_a = "",
               "The processors that this process may use; `root` stands before the paths of the system's files.");
#ifdef PYROBERTA_FAULTS
    module.def("fail_after", [](long count) { until_fault.store(count); }, "count"_a,
               "After `count` allocations the next one fails; a negative count calls that off.");
    module.def("until_fault", [] { return until_fault.load(); }, "Below 0 once the failure has happened.");
#endif
    module.def("instruction_sets", &names_of_sets, "The instruction sets that this machine and build have.");
    module.def("pool_counts", &counts_of_pool, "(bytes in arrays that ops returned, bytes kept for the next ones)");
    module.def("pool_release", &pool_release, "Returns what is kept to the system; gives the number of bytes.");
    // never freed: a thread may still have it for its products
    seal(define_class<Blas, std::unique_ptr<Blas, py::nodelete>>(module, "Blas", "A library of products of matrices."));
    module.def("make_blas", &make_blas, "sgemm"_a, "dgemm"_a, "is_long"_a, "get_threads"_a, "set_threads"_a,
               "A library of products of matrices, by the addresses of its functions.");
    module.def("use_blas", &use_blas, "library"_a,
               "Takes a library for the products of the ops that this thread calls; None for our own.");
    module.def("end_calls_before_fork", &end_calls_before_fork, "library"_a,
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
