// Rows by number; pyroberta/ops/gather.py and embedding.py are the reference.
#include "cuda/device.hpp"
#include "cuda/launchers.hpp"

namespace pyroberta::cuda::launchers {
namespace {

struct Embed {
    const float *tokens, *position_rows;
    const std::int32_t *ids, *positions;
    std::int64_t C;
    float* y;
    __device__ void operator()(std::int64_t i) const {
        const std::int64_t n = i / C, c = i % C;
        y[i] = tokens[ids[n] * C + c] + position_rows[positions[n] * C + c];
    }
};

struct Gather {
    const float* x;
    const std::int32_t* rows;
    std::int64_t C;
    float* y;
    __device__ void operator()(std::int64_t i) const { y[i] = x[rows[i / C] * C + i % C]; }
};

// A thread for each number of the target rows, so that no two threads add to one number.
struct ScatterAdd {
    float* x;
    const std::int32_t *targets, *firsts, *order;
    const float* dy;
    std::int64_t C;
    __device__ void operator()(std::int64_t i) const {
        const std::int64_t u = i / C, c = i % C;
        float sum = 0.0f;
        for (std::int32_t k = firsts[u]; k < firsts[u + 1]; ++k) sum += dy[order[k] * C + c];
        x[targets[u] * C + c] += sum;
    }
};

}  // namespace

void embedding_forward(Context& context, const float* tokens, const float* position_rows, const std::int32_t* ids,
                       const std::int32_t* positions, std::int64_t N, std::int64_t C, float* y) {
    for_each(context, "embedding_forward", N * C, Embed{tokens, position_rows, ids, positions, C, y});
}

void gather_forward(Context& context, const float* x, const std::int32_t* rows, std::int64_t M, std::int64_t C,
                    float* y) {
    for_each(context, "gather_forward", M * C, Gather{x, rows, C, y});
}

void scatter_add(Context& context, float* x, const std::int32_t* targets, const std::int32_t* firsts,
                 const std::int32_t* order, const float* dy, std::int64_t U, std::int64_t C) {
    for_each(context, "scatter_add", U * C, ScatterAdd{x, targets, firsts, order, dy, C});
}

}  // namespace pyroberta::cuda::launchers
