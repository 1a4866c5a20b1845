// Attention.
#include "cuda/bind/binding.hpp"

namespace pyroberta {
namespace cuda {
namespace {

// The arguments that forward and backward have in common, on the host and on the device.
template <typename Op>
struct Given {
    Given(Call<Op>& call, const py::object& q, const py::object& k, const py::object& v, const py::object& starts_given,
          Size num_heads, double rate, const Key& key_given, const py::object& numbers_given,
          const py::object& rows_given)
        : k(call.template in<float>("k", k, {ANY, ANY})),
          N(this->k.shape(0)),
          C(this->k.shape(1)),
          v(call.template in<float>("v", v, {N, C})),
          q(call.template in<float>("q", q, {rows_given.is_none() ? N : ANY, C})),
          R(this->q.shape(0)),
          H(num_heads),
          D(call.host.head_dim(C, H)),
          starts(call.host.starts("starts", starts_given, N)),
          B(starts.size() - 1),
          rows(call.host.rows("query_rows", rows_given, R, N)),
          key(call.host.dropout(rate, key_given)),
          numbers(call.host.streams(numbers_given, B)) {
        if (D > MOST_HEAD_DIM) {
            throw py::value_error(call.place("num_heads") + " must give heads of at most " +
                                  std::to_string(MOST_HEAD_DIM) + " columns, got " +
                                  std::to_string(H) + " heads of " + std::to_string(D));
        }
    }
    const std::int32_t* query_rows() const { return rows ? rows->data() : nullptr; }

    In<float> k;
    Size N, C;
    In<float> v, q;
    Size R, H, D;
    Numbers starts;
    Size B;
    std::optional<Numbers> rows;
    DropoutKey key;
    std::vector<std::uint64_t> numbers;
};

// -> y, maxima, sums
py::tuple attention_forward(const py::object& q, const py::object& k, const py::object& v, const py::object& starts,
                            Size num_heads, double rate, const Key& key, const py::object& numbers,
                            const py::object& query_rows, bool rounds) {
    Call<op::attention_forward> call;
    const Given<op::attention_forward> given(call, q, k, v, starts, num_heads, rate, key, numbers, query_rows);
    const auto y = call.out<float>({given.R, given.C});
    const auto maxima = call.out<float>({given.R, given.H}), sums = call.out<float>({given.R, given.H});
    call.run(given.q, given.k, given.v, given.starts.data(), given.B, given.query_rows(), given.R, given.H, given.D,
             given.key, given.numbers.data(), rounds, y, maxima, sums);
    return py::make_tuple(Array(y), Array(maxima), Array(sums));
}

// -> dq, dk, dv
py::tuple attention_backward(const py::object& dy, const py::object& q, const py::object& k, const py::object& v,
                             const py::object& y, const py::object& maxima, const py::object& sums,
                             const py::object& starts, Size num_heads, double rate, const Key& key,
                             const py::object& numbers, const py::object& query_rows, bool rounds) {
    Call<op::attention_backward> call;
    const Given<op::attention_backward> given(call, q, k, v, starts, num_heads, rate, key, numbers, query_rows);
    const Shape of_queries{given.R, given.C}, of_heads{given.R, given.H}, of_keys{given.N, given.C};
    const auto dy_ = call.in<float>("dy", dy, of_queries), y_ = call.in<float>("y", y, of_queries);
    const auto maxima_ = call.in<float>("maxima", maxima, of_heads), sums_ = call.in<float>("sums", sums, of_heads);
    const auto dq = call.out<float>(of_queries), dk = call.out<float>(of_keys), dv = call.out<float>(of_keys);
    call.run(dy_, given.q, given.k, given.v, y_, maxima_, sums_, given.starts.data(), given.B, given.query_rows(),
             given.R, given.H, given.D, given.key, given.numbers.data(), rounds, dq, dk, dv);
    return py::make_tuple(Array(dq), Array(dk), Array(dv));
}

}  // namespace

void bind_attention_forward(py::module_& module) {
    define<op::attention_forward>(module, &attention_forward, "q"_a, "k"_a, "v"_a, "starts"_a, "num_heads"_a, "rate"_a,
                                  "key"_a, "numbers"_a, "query_rows"_a, "rounds"_a);
}
void bind_attention_backward(py::module_& module) {
    define<op::attention_backward>(module, &attention_backward, "dy"_a, "q"_a, "k"_a, "v"_a, "y"_a, "maxima"_a,
                                   "sums"_a, "starts"_a, "num_heads"_a, "rate"_a, "key"_a, "numbers"_a, "query_rows"_a,
                                   "rounds"_a);
}

}  // namespace cuda
}  // namespace pyroberta
