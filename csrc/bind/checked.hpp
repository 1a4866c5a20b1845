// How Python gives each type of parameter of an op, and what the op gets then.
#pragma once

#include "bind/arguments.hpp"

namespace pyroberta {

// What a binding has of a parameter, whose type is that for float: the value is checked, or made, and `pass<T>` is what
// the op gets, where T is the dtype of the call. Types that are not here are for bindings that are written by hand.
template <typename Parameter>
struct Checked {
    static constexpr bool IS_KNOWN = false;
};

template <typename Value>
struct Given {  // by Python
    static constexpr bool IS_KNOWN = true, IS_GIVEN = true, IS_RETURNED = false;
    Value value;
};

template <typename Value>
struct Made {  // by the binding; Python gets it
    static constexpr bool IS_KNOWN = true, IS_GIVEN = false, IS_RETURNED = true;
    Value value;
};

template <typename T>
T* numbers_of(const py::array& array) {
    return static_cast<T*>(const_cast<void*>(array.data()));
}

template <char... SHAPE>
struct Checked<In<float, SHAPE...>> : Given<py::array> {
    Checked(Arguments& call, const char* name, const py::handle& object)
        : Given{call.to_read(name, object, {SHAPE...})} {}
    template <typename T>
    In<T, SHAPE...> pass() const {
        return {numbers_of<T>(value)};
    }
};

template <char... SHAPE>
struct Checked<InPlace<float, SHAPE...>> : Given<py::array> {
    Checked(Arguments& call, const char* name, const py::handle& object)
        : Given{call.to_change(name, object, {SHAPE...})} {}
    template <typename T>
    InPlace<T, SHAPE...> pass() const {
        return {numbers_of<T>(value)};
    }
};

template <char ROWS, char COLUMNS>
struct Checked<LeftFactor<float, ROWS, COLUMNS>> : Given<py::array> {
    Checked(Arguments& call, const char* name, const py::handle& object)
        : Given{call.factor(name, object, {ROWS, COLUMNS})} {}
    template <typename T>
    LeftFactor<T, ROWS, COLUMNS> pass() const {
        return {{numbers_of<T>(value), value.strides(0) / Size{sizeof(T)}, value.strides(1) / Size{sizeof(T)}}};
    }
};

template <char ROWS, char COLUMNS>
struct Checked<RightFactor<float, ROWS, COLUMNS>> : Given<py::array> {
    Checked(Arguments& call, const char* name, const py::handle& object)
        : Given{call.factor(name, object, {ROWS, COLUMNS})} {}
    template <typename T>
    RightFactor<T, ROWS, COLUMNS> pass() const {
        return {{numbers_of<T>(value), value.strides(1) / Size{sizeof(T)}, value.strides(0) / Size{sizeof(T)}}};
    }
};

template <char ROWS, char COLUMNS>
struct Checked<KernelIn<float, ROWS, COLUMNS>> : Given<std::pair<py::array, bool>> {
    Checked(Arguments& call, const char* name, const py::handle& object)
        : Given{call.kernel(name, object, {ROWS, COLUMNS})} {}
    template <typename T>
    KernelIn<T, ROWS, COLUMNS> pass() const {
        return {{numbers_of<T>(value.first), value.second}};
    }
};

template <char LENGTH, char ROWS>
struct Checked<RowNumbers<LENGTH, ROWS>> : Given<Numbers> {
    Checked(Arguments& call, const char* name, const py::handle& object)
        : Given{call.numbers(name, object, call.extent(LENGTH), call.known(ROWS))} {
        call.set_extent(LENGTH, value.size());
    }
    template <typename T>
    RowNumbers<LENGTH, ROWS> pass() const {
        return {value.data()};
    }
};

template <char SEQUENCES, char ROWS>
struct Checked<Starts<SEQUENCES, ROWS>> : Given<Numbers> {
    Checked(Arguments& call, const char* name, const py::handle& object)
        : Given{call.starts(name, object, call.known(ROWS))} {
        call.set_extent(SEQUENCES, value.size() - 1);
    }
    template <typename T>
    Starts<SEQUENCES, ROWS> pass() const {
        return {value.data()};
    }
};

template <char LENGTH, char ROWS>
struct Checked<ChosenRows<LENGTH, ROWS>> : Given<std::optional<Numbers>> {
    Checked(Arguments& call, const char* name, const py::handle& object)
        : Given{call.rows(name, object, call.known(LENGTH), call.known(ROWS))} {}
    template <typename T>
    ChosenRows<LENGTH, ROWS> pass() const {
        return {value ? value->data() : nullptr};
    }
};

template <>
struct Checked<double> : Given<double> {
    explicit Checked(double number) : Given{number} {}  // which was read before the first array was checked
    template <typename T>
    double pass() const {
        return value;
    }
};

template <>
struct Checked<bool> : Given<bool> {
    Checked(Arguments& call, const char* name, const py::handle& object) : Given{call.choice(name, object)} {}
    template <typename T>
    bool pass() const {
        return value;
    }
};

template <typename Number, char... SHAPE>
struct Checked<Out<Number, SHAPE...>> : Made<py::array> {
    static constexpr bool IS_FLOAT = std::is_same_v<Number, float>;  // of the call's dtype

    explicit Checked(const Arguments& call)
        : Made{call.fresh({call.known(SHAPE)...}, IS_FLOAT ? call.dtype() : py::dtype::of<Number>())} {}
    template <typename T>
    auto pass() const {
        using Passed = std::conditional_t<IS_FLOAT, T, Number>;
        return Out<Passed, SHAPE...>{numbers_of<Passed>(value)};
    }
};

template <char LETTER>
struct Checked<Extent<LETTER>> {
    static constexpr bool IS_KNOWN = true, IS_GIVEN = false, IS_RETURNED = false;
    Extent<LETTER> value;

    explicit Checked(const Arguments& call) : value{call.known(LETTER)} {}
    template <typename T>
    Extent<LETTER> pass() const {
        return value;
    }
};

}  // namespace pyroberta
