// The module pyroberta._cuda: contexts, arrays, and the bindings of the ops. The simulator's module, _cuda_sim, is made of
// the same files.
#include "cuda/bind/binding.hpp"

namespace pyroberta {
namespace cuda {

#ifdef PYROBERTA_CUDA_SIM
void bind_simulator(py::module_& module);
#endif

namespace {

Type type_of(const py::handle& dtype) {
    if (py::isinstance<py::str>(dtype) && dtype.cast<std::string>() == "bfloat16") return Type::BFLOAT16;
    const auto given = py::dtype::from_args(py::reinterpret_borrow<py::object>(dtype));
    for (const Type type : {Type::FLOAT32, Type::FLOAT64, Type::INT32, Type::INT64}) {
        if (given.equal(py::dtype(name_of(type)))) return type;
    }
    throw py::type_error("an array on a device is float32, bfloat16, float64, int32 or int64, not " +
                         py::str(given).cast<std::string>());
}

py::object dtype_of(const Array& array) {
    if (array.type() == Type::BFLOAT16) return py::str(name_of(array.type()));
    return py::dtype(name_of(array.type()));
}

Array zeros(const std::shared_ptr<Context>& context, const Shape& shape, const py::object& dtype) {
    for (const Size s : shape) {
        if (s < 0) throw py::value_error("zeros: shape must not be negative, got " + py::str(py::cast(shape)).cast<std::string>());
    }
    const Array array(context, type_of(dtype), shape);
    without_gil(*context, [&] { context->zero(array.data(), array.bytes()); });
    return array;
}

Array from_host(const std::shared_ptr<Context>& context, const py::array& x) {
    const Type type = type_of(x.dtype());
    const auto plain = py::array::ensure(x, py::array::c_style);
    const Array array(context, type, Shape(x.shape(), x.shape() + x.ndim()));
    without_gil(*context, [&] { context->upload(array.data(), plain.data(), array.bytes()); });
    return array;
}

// NumPy has no bfloat16: the numbers come as float32, exactly.
py::object to_host(const Array& array) {
    const bool is_short = array.type() == Type::BFLOAT16;
    py::array found(is_short ? py::dtype("uint16") : py::dtype(name_of(array.type())), array.shape());
    void* data = found.mutable_data();
    without_gil(array.context(), [&] { array.context().download(data, array.data(), array.bytes()); });
    if (is_short) found = (found.attr("astype")("uint32") << py::int_(16)).attr("view")("float32");
    return array.shape().empty() ? found.attr("item")() : py::object(found);
}

Array view(const Array& x, Size start, Size stop, const Shape& shape) {
    Size size = 1;
    for (const Size s : shape) size *= s;
    if (x.shape().size() != 1 || start < 0 || start > stop || stop > x.size() || size != stop - start) {
        throw py::value_error("view: elements " + std::to_string(start) + " to " + std::to_string(stop) +
                              " can't be seen in the shape " + py::str(py::tuple(py::cast(shape))).cast<std::string>() +
                              ", of an array of the shape " + py::str(py::tuple(py::cast(x.shape()))).cast<std::string>());
    }
    return x.view(start, shape);
}

Array rows(const Array& x, Size start, Size stop) {
    if (x.shape().empty() || start < 0 || start > stop || stop > x.shape(0)) {
        const std::string shape = py::str(py::tuple(py::cast(x.shape())));
        throw py::value_error("rows: an array of the shape " + shape + " has no rows " +
                              std::to_string(start) + " to " + std::to_string(stop));
    }
    Shape shape = x.shape();
    const Size size = shape[0] ? x.size() / shape[0] : 0;  // of a row
    shape[0] = stop - start;
    return x.view(start * size, shape);
}

py::object refuse(const py::args&, const py::kwargs&) {
    throw py::type_error("an array on a device is read by to_host, and computed with by the rows of its backend");
}

void bind_context(py::module_& module) {
    py::class_<Context, std::shared_ptr<Context>>(module, "Context", "One device: its stream and its memory.")
        .def(py::init<int>(), "device"_a)
        .def_property_readonly("device", &Context::device)
        .def_property_readonly("capability", &Context::capability, "75, 80, 90, ...")
        .def("about", &Context::about)
        .def("bytes_used", &Context::bytes_used, "Bytes in arrays.")
        .def("bytes_kept", &Context::bytes_kept, "Bytes kept for later arrays.")
        .def("trim", [](Context& context) { without_gil(context, [&] { context.trim(); }); },
             "Gives what is kept back to the device.")
        .def("zeros", &zeros, "shape"_a, "dtype"_a)
        .def("from_host", &from_host, "x"_a);
}

void bind_array(py::module_& module) {
    py::class_<Array> array(module, "Array", "An array on a device.");
    array.def_property_readonly("shape", [](const Array& x) { return py::tuple(py::cast(x.shape())); })
        .def_property_readonly("dtype", &dtype_of, "NumPy's dtype; 'bfloat16', which NumPy has not, as a text.")
        .def_property_readonly("nbytes", &Array::bytes);
    for (const char* name : {"__array__", "__bool__", "__len__", "__iter__", "__getitem__", "__eq__", "__ne__", "__add__",
                             "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__"}) {
        array.def(name, &refuse);
    }
    array.attr("__array_ufunc__") = py::none();
    array.attr("__hash__") = py::none();
    module.def("view", &view, "x"_a, "start"_a, "stop"_a, "shape"_a);
    module.def("rows", &rows, "x"_a, "start"_a, "stop"_a, "These rows, which share the memory of x.");
    module.def("to_host", &to_host, "x"_a);
}

void bind_ops(py::module_& module) {
    py::list names;
#define OP(name, parameters) \
    bind_##name(module);     \
    names.append(#name);
#include "cuda/ops.hpp"
    module.attr("OPS") = py::tuple(names);
}

}  // namespace
}  // namespace cuda
}  // namespace pyroberta

PYBIND11_MODULE(PYROBERTA_MODULE, module) {
    module.doc() = "pyroberta's ops in CUDA; pyroberta.backends.cuda makes the rows of the ops table from them.";
    pybind11::register_local_exception<pyroberta::cuda::OutOfMemory>(module, "OutOfMemory", PyExc_MemoryError);
    pyroberta::cuda::bind_context(module);
    pyroberta::cuda::bind_array(module);
    pyroberta::cuda::bind_ops(module);
#ifdef PYROBERTA_CUDA_SIM
    pyroberta::cuda::bind_simulator(module);
#endif
}
