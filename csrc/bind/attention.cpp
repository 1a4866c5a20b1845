// Attention.
#include "bind/binding.hpp"

namespace pyroberta {
namespace {

// -> y, maxima, sums
py::tuple attention_forward(const py::object& q, const py::object& k, const py::object& v, const py::object& starts,
                            Size H, double rate, const Key& key, const py::object& numbers,
                            const py::object& query_rows) {
    Call<op::attention_forward> call;
    const auto k_ = call.in("k", k, {ANY, ANY});
    const Size N = k_.shape(0), C = k_.shape(1), D = call.head_dim(C, H);
    const auto v_ = call.in("v", v, {N, C}), q_ = call.in("q", q, {query_rows.is_none() ? N : ANY, C});
    const Size R = q_.shape(0);
    const auto starts_ = call.starts(starts, N);
    const auto query_rows_ = call.rows("query_rows", query_rows, R, N);
    const auto key_ = call.dropout(rate, key);
    const Size B = starts_.size() - 1;
    const auto numbers_ = call.streams(numbers, B);
    const auto y = call.out({R, C}), maxima = call.out({R, H}), sums = call.out({R, H});
    call.run(q_, k_, v_, starts_, B, query_rows_, R, H, D, key_, numbers_, y, maxima, sums);
    return py::make_tuple(y, maxima, sums);
}

// -> dq, dk, dv
py::tuple attention_backward(const py::object& dy, const py::object& q, const py::object& k, const py::object& v,
                             const py::object& y, const py::object& maxima, const py::object& sums,
                             const py::object& starts, Size H, double rate, const Key& key, const py::object& numbers,
                             const py::object& query_rows) {
    Call<op::attention_backward> call;
    const auto k_ = call.in("k", k, {ANY, ANY});
    const Size N = k_.shape(0), C = k_.shape(1), D = call.head_dim(C, H);
    const auto v_ = call.in("v", v, {N, C}), q_ = call.in("q", q, {query_rows.is_none() ? N : ANY, C});
    const Size R = q_.shape(0);
    const auto dy_ = call.in("dy", dy, {R, C}), y_ = call.in("y", y, {R, C});
    const auto maxima_ = call.in("maxima", maxima, {R, H}), sums_ = call.in("sums", sums, {R, H});
    const auto starts_ = call.starts(starts, N);
    const auto query_rows_ = call.rows("query_rows", query_rows, R, N);
    const auto key_ = call.dropout(rate, key);
    const Size B = starts_.size() - 1;
    const auto numbers_ = call.streams(numbers, B);
    const auto dq = call.out({R, C}), dk = call.out({N, C}), dv = call.out({N, C});
    call.run(dy_, q_, k_, v_, y_, maxima_, sums_, starts_, B, query_rows_, R, H, D, key_, numbers_, dq, dk, dv);
    return py::make_tuple(dq, dk, dv);
}

}  // namespace

void bind_attention_forward(py::module_& module) {
    define<op::attention_forward>(module, &attention_forward, "q"_a, "k"_a, "v"_a, "starts"_a, "num_heads"_a, "rate"_a,
                                  "key"_a, "numbers"_a, "query_rows"_a);
}
void bind_attention_backward(py::module_& module) {
    define<op::attention_backward>(module, &attention_backward, "dy"_a, "q"_a, "k"_a, "v"_a, "y"_a, "maxima"_a,
                                   "sums"_a, "starts"_a, "num_heads"_a, "rate"_a, "key"_a, "numbers"_a, "query_rows"_a);
}

}  // namespace pyroberta
