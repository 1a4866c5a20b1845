#include "cuda/bind/call.hpp"

namespace pyroberta {
namespace cuda {
namespace {

std::string text(const Shape& shape) {
    std::string found = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) {
        found += (i ? ", " : "") + (shape[i] == ANY ? std::string("any") : std::to_string(shape[i]));
    }
    return found + (shape.size() == 1 ? ",)" : ")");
}

}  // namespace

const Array& Arguments::any(const char* name, const py::handle& value) {
    if (!py::isinstance<Array>(value)) {
        throw py::type_error(place(name) + " must be an array on a device, got " +
                             py::str(py::type::of(value)).cast<std::string>());
    }
    const auto& array = value.cast<const Array&>();
    if (!context_) {
        first_ = name;
        context_ = array.shared_context();
    }
    if (array.shared_context() != context_) {
        throw py::value_error(place(name) + " must belong to the context of " + first_);
    }
    return array;
}

const Array& Arguments::array(const char* name, const py::handle& value, Type type, const Shape& shape) {
    const Array& found = any(name, value);
    if (found.type() != type) {
        throw py::type_error(place(name) + " must be " + name_of(type) + ", got " + name_of(found.type()));
    }
    bool is_good = found.shape().size() == shape.size();
    for (std::size_t i = 0; is_good && i < shape.size(); ++i) is_good = shape[i] == ANY || shape[i] == found.shape(i);
    if (!is_good) {
        throw py::value_error(place(name) + " must have the shape " + text(shape) + ", got " + text(found.shape()));
    }
    return found;
}

void Arguments::check_apart(const std::vector<std::pair<const char*, Array>>& arrays) const {
    for (std::size_t i = 0; i < arrays.size(); ++i) {
        const auto* start = static_cast<const char*>(arrays[i].second.data());
        for (std::size_t j = 0; j < i; ++j) {
            const auto* other = static_cast<const char*>(arrays[j].second.data());
            if (start < other + arrays[j].second.bytes() && other < start + arrays[i].second.bytes()) {
                throw py::value_error(place(arrays[i].first) + " must not share memory with " + arrays[j].first);
            }
        }
    }
}

}  // namespace cuda
}  // namespace pyroberta
