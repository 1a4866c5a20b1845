// Rows by number.
#include "bind/binding.hpp"

namespace pyroberta {
namespace {

py::array embedding_forward(const py::object& ids, const py::object& positions, const py::object& tokens,
                            const py::object& rows) {
    Call<op::embedding_forward> call;
    const auto tokens_ = call.in("tokens", tokens, {ANY, ANY});
    const Size C = tokens_.shape(1);
    const auto rows_ = call.in("rows", rows, {ANY, C});
    const auto ids_ = call.numbers("ids", ids, ANY, tokens_.shape(0));
    const auto positions_ = call.numbers("positions", positions, ids_.size(), rows_.shape(0));
    const auto y = call.out({ids_.size(), C});
    call.run(ids_, positions_, tokens_, rows_, ids_.size(), C, y);
    return y;
}

py::array gather_forward(const py::object& x, const py::object& rows) {
    Call<op::gather_forward> call;
    const auto x_ = call.in("x", x, {ANY, ANY});
    const auto rows_ = call.numbers("rows", rows, ANY, x_.shape(0));
    const auto y = call.out({rows_.size(), x_.shape(1)});
    call.run(x_, rows_, rows_.size(), x_.shape(1), y);
    return y;
}

void scatter_add(const py::object& dy, const py::object& rows, const py::object& out) {
    Call<op::scatter_add> call;
    const auto dy_ = call.in("dy", dy, {ANY, ANY});
    const auto out_ = call.in_place("out", out, {ANY, dy_.shape(1)});
    const auto rows_ = call.numbers("rows", rows, dy_.shape(0), out_.shape(0));
    call.check_apart({{"dy", dy_}, {"out", out_}});
    call.run(dy_, rows_, rows_.size(), dy_.shape(1), out_);
}

}  // namespace

void bind_embedding_forward(py::module_& module) {
    define<op::embedding_forward>(module, &embedding_forward, "ids"_a, "positions"_a, "tokens"_a, "rows"_a);
}
void bind_gather_forward(py::module_& module) { define<op::gather_forward>(module, &gather_forward, "x"_a, "rows"_a); }
void bind_scatter_add(py::module_& module) { define<op::scatter_add>(module, &scatter_add, "dy"_a, "rows"_a, "out"_a); }

}  // namespace pyroberta
