// Attention.
#include "bind/binding.hpp"

namespace pyroberta {
namespace {

// -> y, maxima, sums
py::tuple attention_forward(const py::object& q, const py::object& k, const py::object& v, const py::object& starts,
                            Size num_heads, double rate, const Key& key, const py::object& numbers,
                            const py::object& query_rows) {
    Call<op::attention_forward> call;
    const auto k_ = call.in<'N', 'C'>("k", k), v_ = call.in<'N', 'C'>("v", v);
    const auto N = call.size<'N'>();
    const auto H = call.set_size<'H'>(num_heads);
    const auto D = call.set_size<'D'>(call.head_dim(call.size<'C'>(), H));
    if (query_rows.is_none()) call.set_size<'R'>(N);
    const auto q_ = call.in<'R', 'C'>("q", q);
    const auto R = call.size<'R'>();
    const Checked<Starts<'B', 'N'>> starts_(call, "starts", starts);
    const Checked<ChosenRows<'R', 'N'>> query_rows_(call, "query_rows", query_rows);
    const auto key_ = call.dropout(rate, key);
    const auto B = call.size<'B'>();
    const auto numbers_ = call.streams(numbers, B);
    const auto y = call.out<'R', 'C'>();
    const auto maxima = call.out<'R', 'H'>(), sums = call.out<'R', 'H'>();
    call.run(q_, k_, v_, starts_, B, query_rows_, R, H, D, key_, numbers_, y, maxima, sums);
    return py::make_tuple(y.value, maxima.value, sums.value);
}

// -> dq, dk, dv
py::tuple attention_backward(const py::object& dy, const py::object& q, const py::object& k, const py::object& v,
                             const py::object& y, const py::object& maxima, const py::object& sums,
                             const py::object& starts, Size num_heads, double rate, const Key& key, const py::object& numbers,
                             const py::object& query_rows) {
    Call<op::attention_backward> call;
    const auto k_ = call.in<'N', 'C'>("k", k), v_ = call.in<'N', 'C'>("v", v);
    const auto N = call.size<'N'>();
    const auto H = call.set_size<'H'>(num_heads);
    const auto D = call.set_size<'D'>(call.head_dim(call.size<'C'>(), H));
    if (query_rows.is_none()) call.set_size<'R'>(N);
    const auto q_ = call.in<'R', 'C'>("q", q);
    const auto R = call.size<'R'>();
    const auto dy_ = call.in<'R', 'C'>("dy", dy), y_ = call.in<'R', 'C'>("y", y);
    const auto maxima_ = call.in<'R', 'H'>("maxima", maxima), sums_ = call.in<'R', 'H'>("sums", sums);
    const Checked<Starts<'B', 'N'>> starts_(call, "starts", starts);
    const Checked<ChosenRows<'R', 'N'>> query_rows_(call, "query_rows", query_rows);
    const auto key_ = call.dropout(rate, key);
    const auto B = call.size<'B'>();
    const auto numbers_ = call.streams(numbers, B);
    const auto dq = call.out<'R', 'C'>();
    const auto dk = call.out<'N', 'C'>(), dv = call.out<'N', 'C'>();
    call.run(dy_, q_, k_, v_, y_, maxima_, sums_, starts_, B, query_rows_, R, H, D, key_, numbers_, dq, dk, dv);
    return py::make_tuple(dq.value, dk.value, dv.value);
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
