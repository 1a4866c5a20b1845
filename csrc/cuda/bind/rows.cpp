// Rows by number.
#include <algorithm>
#include <numeric>
#include <vector>

#include "cuda/bind/binding.hpp"

namespace pyroberta {
namespace cuda {
namespace {

Array embedding_forward(const py::object& tokens, const py::object& position_rows, const py::object& ids,
                        const py::object& positions) {
    Call<op::embedding_forward> call;
    const auto tokens_ = call.in<float>("tokens", tokens, {ANY, ANY});
    const Size C = tokens_.shape(1);
    const auto position_rows_ = call.in<float>("position_rows", position_rows, {ANY, C});
    const Uploaded<std::int32_t> ids_(call.context(), call.host.numbers("ids", ids, ANY, tokens_.shape(0)));
    const Size N = ids_.size();
    const Uploaded<std::int32_t> positions_(call.context(),
                                            call.host.numbers("positions", positions, N, position_rows_.shape(0)));
    const auto y = call.out<float>({N, C});
    call.run(tokens_, position_rows_, ids_, positions_, N, C, y);
    return y;
}

Array gather_forward(const py::object& x, const py::object& rows) {
    Call<op::gather_forward> call;
    const auto x_ = call.in<float>("x", x, {ANY, ANY});
    const Uploaded<std::int32_t> rows_(call.context(), call.host.numbers("rows", rows, ANY, x_.shape(0)));
    const auto y = call.out<float>({rows_.size(), x_.shape(1)});
    call.run(x_, rows_, rows_.size(), x_.shape(1), y);
    return y;
}

// Sorts the numbers of rows, so that all that is added to a row is added by the same threads.
void scatter_add(const py::object& x, const py::object& rows, const py::object& dy) {
    Call<op::scatter_add> call;
    const auto x_ = call.in_place<float>("x", x, {ANY, ANY});
    const Numbers rows_ = call.host.numbers("rows", rows, ANY, x_.shape(0));
    const auto dy_ = call.in<float>("dy", dy, {rows_.size(), x_.shape(1)});
    call.check_apart({{"x", x_}, {"dy", dy_}});
    const std::int32_t* row = rows_.data();
    std::vector<std::int32_t> order(static_cast<std::size_t>(rows_.size())), targets, firsts;
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [row](std::int32_t i, std::int32_t j) { return row[i] < row[j]; });
    for (std::size_t k = 0; k < order.size(); ++k) {
        if (!targets.empty() && targets.back() == row[order[k]]) continue;
        targets.push_back(row[order[k]]);
        firsts.push_back(static_cast<std::int32_t>(k));
    }
    firsts.push_back(static_cast<std::int32_t>(order.size()));
    const Uploaded<std::int32_t> targets_(call.context(), targets), firsts_(call.context(), firsts);
    const Uploaded<std::int32_t> order_(call.context(), order);
    call.run(x_, targets_, firsts_, order_, dy_, targets_.size(), x_.shape(1));
}

}  // namespace

void bind_embedding_forward(py::module_& module) {
    define<op::embedding_forward>(module, &embedding_forward, "tokens"_a, "position_rows"_a, "ids"_a, "positions"_a);
}
void bind_gather_forward(py::module_& module) {
    define<op::gather_forward>(module, &gather_forward, "x"_a, "rows"_a);
}
void bind_scatter_add(py::module_& module) {
    define<op::scatter_add>(module, &scatter_add, "x"_a, "rows"_a, "dy"_a);
}

}  // namespace cuda
}  // namespace pyroberta
