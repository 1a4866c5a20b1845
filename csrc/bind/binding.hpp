// The first include of each file with bindings: calls of ops, and the bindings that follow from their entries.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "bind/checked.hpp"
#include "bind/gil.hpp"
#include "runtime/dispatch.hpp"

namespace pyroberta {

using namespace py::literals;  // "x"_a names an argument in Python, and so in Python's own errors

// --- the list of the ops ----------------------------------------------------------------------------------------------

// A type for each op, by which a Call finds it in the table.
namespace op {
#define OP(result, name, parameters)                           \
    struct name {                                              \
        static constexpr const char* NAME = #name;             \
        static constexpr const char* PARAMETERS = #parameters; \
        template <typename T>                                  \
        static auto of(const Ops<T>& ops) {                    \
            return ops.name;                                   \
        }                                                      \
    };
#include "ops.hpp"
}  // namespace op

// bind_NAME tells Python of the binding of the op, where one is written by hand.
#define OP(result, name, parameters) PYROBERTA_HERE void bind_##name(py::module_& module);
#include "ops.hpp"

// --- a call -----------------------------------------------------------------------------------------------------------

// What the op gets for what a binding has; T is the call's dtype. Anything that is not here it gets as it is.
template <typename T, typename Parameter>
auto given(const Checked<Parameter>& value) {
    return value.template pass<T>();
}
template <typename T>
const std::uint64_t* given(const std::vector<std::uint64_t>& numbers) {
    return numbers.data();
}
template <typename T>
MaskRows given(const Mask& mask) {
    return {mask.numbers.data(), mask.positions.data()};
}
template <typename T, typename Other>
Other given(const Other& value) {
    return value;
}

// A call of the op of the list that Op names.
template <typename Op>
class Call : public Arguments {
   public:
    Call() : Arguments(Op::NAME) {}

    // An array of that shape to be read; a new one; the number that a letter stands for, and what says it beside shapes.
    template <char... SHAPE>
    Checked<In<float, SHAPE...>> in(const char* name, const py::handle& value) {
        return {*this, name, value};
    }
    template <char... SHAPE>
    Checked<Out<float, SHAPE...>> out() {
        return Checked<Out<float, SHAPE...>>(*this);
    }
    template <char LETTER>
    Extent<LETTER> size() const {
        return {known(LETTER)};
    }
    template <char LETTER>
    Extent<LETTER> set_size(Size value) {
        set_extent(LETTER, value);
        return {value};
    }

    // Calls the op for the call's dtype, without the GIL. Arguments in the order of the list; they must live on.
    template <typename... Values>
    auto run(const Values&... values) const {
        check_apart();
        const InstructionSet& set = instruction_set();
        const WithoutGil released;
        if (is_single()) return Op::of(set.singles)(given<float>(values)...);
        return Op::of(set.doubles)(given<double>(values)...);
    }
};

// --- bindings ---------------------------------------------------------------------------------------------------------

// Gives the module the function, under the name of the op that Op names. `extra` names its arguments.
template <typename Op, typename Function, typename... Extra>
void define(py::module_& module, const Function& function, const Extra&... extra) {
    module.def(Op::NAME, function, extra...);
}

// The names of the parameters in the text of an entry: the last word before each comma that is not within < >.
std::vector<std::string> names_of(const char* parameters);

// The binding that follows from the entry of the op that Op names. Function is the type that the entry gives for float.
// The binding takes what Python gives, in the order of the entry, and returns what the op fills.
template <typename Op, typename Function = decltype(Op::of(Ops<float>{}))>
struct FromEntry;

template <typename Op, typename Result, typename... Parameters>
struct FromEntry<Op, Result (*)(Parameters...)> {
    static constexpr bool IS_POSSIBLE = (Checked<Parameters>::IS_KNOWN && ...);

    static void define(py::module_& module) {
        constexpr std::size_t GIVEN = (std::size_t{Checked<Parameters>::IS_GIVEN} + ...);
        define(module, std::index_sequence_for<Parameters...>(), std::make_index_sequence<GIVEN>());
    }

   private:
    template <std::size_t>
    using Object = const py::object&;

    template <std::size_t... P, std::size_t... G>
    static void define(py::module_& module, std::index_sequence<P...>, std::index_sequence<G...>) {
        static const std::vector<std::string> names = names_of(Op::PARAMETERS);
        std::vector<std::string> names_given;
        (..., (Checked<Parameters>::IS_GIVEN ? names_given.push_back(names[P]) : void()));
        const auto function = [](Object<G>... objects) {
            const py::handle values[] = {objects...};
            Call<Op> call;
            // All numbers before the first array: code in Python, which may read a number, could change an array that
            // is checked already. The checks of everything else run no such code.
            const py::handle* unread = values;
            const double numbers[] = {read<Parameters>(call, names[P].c_str(), unread)...};
            const py::handle* next = values;
            const std::tuple<Checked<Parameters>...> checked{
                take<Parameters>(call, names[P].c_str(), next, numbers[P])...};
            const auto run = [&](const auto&... all) { return call.run(all...); };
            if constexpr (std::is_void_v<Result>) {
                std::apply(run, checked);
                return std::apply([](const auto&... all) { return returned(std::tuple_cat(result(all)...)); }, checked);
            } else {
                return std::apply(run, checked);
            }
        };
        pyroberta::define<Op>(module, function, py::arg(names_given[G].c_str())...);
    }

    // The number, where the parameter is one.
    template <typename Parameter>
    static double read(const Arguments& call, const char* name, const py::handle*& next) {
        if constexpr (std::is_same_v<Parameter, double>) {
            return call.number(name, *next++);
        } else {
            next += Checked<Parameter>::IS_GIVEN;
            return 0.0;
        }
    }

    // `number` is what `read` found.
    template <typename Parameter>
    static Checked<Parameter> take(Arguments& call, const char* name, const py::handle*& next, double number) {
        if constexpr (std::is_same_v<Parameter, double>) {
            ++next;
            return Checked<Parameter>(number);
        } else if constexpr (Checked<Parameter>::IS_GIVEN) {
            return {call, name, *next++};
        } else {
            return Checked<Parameter>(call);
        }
    }

    // A tuple of the array, if Python gets it.
    template <typename Parameter>
    static auto result(const Checked<Parameter>& value) {
        if constexpr (Checked<Parameter>::IS_RETURNED) {
            return std::make_tuple(value.value);
        } else {
            return std::tuple<>();
        }
    }
    static py::none returned(const std::tuple<>&) { return {}; }
    template <typename Array>
    static Array returned(const std::tuple<Array>& arrays) {
        return std::get<0>(arrays);
    }
    template <typename... Arrays>
    static py::tuple returned(const std::tuple<Arrays...>& arrays) {
        return std::apply([](const auto&... all) { return py::make_tuple(all...); }, arrays);
    }
};

// --- classes ----------------------------------------------------------------------------------------------------------

// Gives the module a class whose objects the extension alone makes. Python can't make one, nor a subclass: an object of
// which nothing was filled in would crash the interpreter. After the last attribute, `seal` fixes the class.
template <typename Class, typename... Holder>
py::class_<Class, Holder...> define_class(py::module_& module, const char* name, const char* doc) {
    const auto refuse_instances = [](PyHeapTypeObject* type) {
        type->ht_type.tp_new = [](PyTypeObject* asked, PyObject*, PyObject*) -> PyObject* {
            return PyErr_Format(PyExc_TypeError, "%s: only functions of pyroberta._native make one", asked->tp_name);
        };
    };
    return {module, name, doc, py::is_final(), py::custom_type_setup(refuse_instances)};
}

// From now on no attribute of the class changes, and no object of another class becomes one of this.
inline void seal(const py::handle& type) {
    reinterpret_cast<PyTypeObject*>(type.ptr())->tp_flags |= Py_TPFLAGS_IMMUTABLETYPE;
    PyType_Modified(reinterpret_cast<PyTypeObject*>(type.ptr()));
}

}  // namespace pyroberta
