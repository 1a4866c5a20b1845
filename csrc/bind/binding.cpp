#include "bind/binding.hpp"

#include <cctype>

namespace pyroberta {

std::vector<std::string> names_of(const char* parameters) {
    std::vector<std::string> names{""};
    int depth = 0;  // of < >
    for (; *parameters; ++parameters) {
        const char c = *parameters;
        depth += (c == '<') - (c == '>');
        if (c == ',' && depth == 0) {
            names.emplace_back();
        } else if (std::isalnum(static_cast<unsigned char>(c)) || c == '_') {
            names.back() += c;
        } else if (c != ')') {
            names.back().clear();
        }
    }
    return names;
}

}  // namespace pyroberta
