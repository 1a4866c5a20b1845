// Attention in float32, by multiply-adds; pyroberta/ops/attention.py is the reference. No array of all scores exists:
// forward keeps the largest score and the sum of each row, and backward makes the probabilities again from them.
#include "cuda/attention.hpp"

#include "cuda/launchers.hpp"

namespace pyroberta::cuda {
namespace launchers {
namespace {

// A thread has EACH x EACH scores of a block's ROWS x COLUMNS, and as many numbers of each CHUNK columns of the result.
constexpr int ROWS = ROWS_OF_FLOATS, COLUMNS = 64, CHUNK = 64, EACH = 4, THREADS = 128, DEPTH = 32;
constexpr int ROW_STEP = ROWS + 4, COLUMN_STEP = COLUMNS + 4;  // rows of 16 bytes in different banks
constexpr int SHARES = THREADS / ROWS;                         // threads that look at one row of scores

// to[d][r] = x[r, first + d], 0 beyond `rows` and D. Rows of x are C apart.
template <int SIZE, int STEP>
__device__ __forceinline__ void load_turned(const float* x, std::int64_t C, int rows, int first, int D, float* to) {
    for (int i = static_cast<int>(threadIdx.x); i < SIZE * DEPTH; i += THREADS) {
        const int r = i / DEPTH, d = i % DEPTH;
        to[d * STEP + r] = r < rows && first + d < D ? x[r * C + first + d] : 0.0f;
    }
}

// products[i][j] = the product of row `row + i` of x and row `column + j` of y, by all threads.
__device__ __forceinline__ void multiply_rows(const float* x, int x_rows, const float* y, int y_rows, std::int64_t C,
                                              int D, int row, int column, float* left, float* right,
                                              float (&products)[EACH][EACH]) {
    UNROLL
    for (int i = 0; i < EACH; ++i) {
        UNROLL
        for (int j = 0; j < EACH; ++j) products[i][j] = 0.0f;
    }
    for (int first = 0; first < D; first += DEPTH) {
        load_turned<ROWS, ROW_STEP>(x, C, x_rows, first, D, left);
        load_turned<COLUMNS, COLUMN_STEP>(y, C, y_rows, first, D, right);
        __syncthreads();
        multiply_panels<DEPTH, ROW_STEP, COLUMN_STEP>(left, row, right, column, products);
        __syncthreads();  // before the panels are overwritten
    }
}

// out (ROWS, D) = Σ over blocks of columns: weights · values. CHUNKS · CHUNK is at least D.
template <Pass PASS, int CHUNKS>
__global__ void __launch_bounds__(THREADS) attend(Attention<float> a) {
    constexpr bool BY_KEYS = is_by_keys(PASS);
    SHARED(float, left, DEPTH * ROW_STEP);
    SHARED(float, right, DEPTH * COLUMN_STEP);
    SHARED(float, weights, ROWS * COLUMN_STEP);
    SHARED(float, values, COLUMNS * COLUMN_STEP);
    SHARED(float, fixes, ROWS);  // forward: what the sums so far are multiplied by
    const Tile tile = a.tiles[blockIdx.x];
    const std::int64_t h = blockIdx.y, C = a.step;
    const int D = static_cast<int>(a.D), thread = static_cast<int>(threadIdx.x);
    const int row = thread / (COLUMNS / EACH) * EACH, column = thread % (COLUMNS / EACH) * EACH;
    const std::int64_t rows = BY_KEYS ? tile.keys : tile.queries, columns = BY_KEYS ? tile.queries : tile.keys;
    const int num_rows = static_cast<int>(min(std::int64_t{ROWS}, rows - tile.first));
    const std::int64_t first_row = (BY_KEYS ? tile.start : tile.first_query) + tile.first;
    const std::int64_t of_columns = BY_KEYS ? tile.first_query : tile.start;
    const float* row_factor = (BY_KEYS ? a.k : a.q) + first_row * C + h * D;
    float sums[CHUNKS][EACH][EACH] = {};
    float largest = -INFINITY, total = 0.0f;  // forward: of row thread / SHARES
    for (std::int64_t start = 0; start < columns; start += COLUMNS) {
        const int num_columns = static_cast<int>(min(std::int64_t{COLUMNS}, columns - start));
        const std::int64_t at = (of_columns + start) * C + h * D;
        float scores[EACH][EACH];
        multiply_rows(row_factor, num_rows, (BY_KEYS ? a.q : a.k) + at, num_columns, C, D, row, column, left, right,
                      scores);
        if constexpr (PASS == Pass::FORWARD) {
            UNROLL
            for (int i = 0; i < EACH; ++i) {
                UNROLL
                for (int j = 0; j < EACH; ++j) weights[(row + i) * COLUMN_STEP + column + j] = scores[i][j] * a.scale;
            }
            __syncthreads();
            float* mine = weights + thread / SHARES * COLUMN_STEP;  // a row; the thread has each SHARES-th number
            const int share = thread % SHARES;
            float top = largest, sum = 0.0f;
            for (int j = share; j < num_columns; j += SHARES) top = fmaxf(top, mine[j]);
            for (int distance = SHARES / 2; distance > 0; distance /= 2) {
                top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, distance));
            }
            for (int j = share; j < COLUMNS; j += SHARES) {
                mine[j] = j < num_columns ? expf(mine[j] - top) : 0.0f;
                sum += mine[j];
            }
            for (int distance = SHARES / 2; distance > 0; distance /= 2) {
                sum += __shfl_xor_sync(ALL_LANES, sum, distance);
            }
            const float fix = expf(largest - top);
            total = total * fix + sum;
            largest = top;
            if (share == 0) fixes[thread / SHARES] = fix;
            __syncthreads();
            if (a.drops) {
                draw_tile<BY_KEYS, ROWS, COLUMNS, THREADS>(
                    a.dropout, tile, a.query_rows, h, start, num_rows, num_columns,
                    [&](int i, int j, float keep) { weights[i * COLUMN_STEP + j] *= keep; });
            }
        } else {
            float dps[EACH][EACH];
            if constexpr (PASS != Pass::DV) {
                multiply_rows((BY_KEYS ? a.v : a.dy) + first_row * C + h * D, num_rows, (BY_KEYS ? a.dy : a.v) + at,
                              num_columns, C, D, row, column, left, right, dps);
            }
            if (a.drops) {
                draw_tile<BY_KEYS, ROWS, COLUMNS, THREADS>(
                    a.dropout, tile, a.query_rows, h, start, num_rows, num_columns,
                    [&](int i, int j, float keep) { weights[i * COLUMN_STEP + j] = keep; });
                __syncthreads();
            }
            UNROLL
            for (int i = 0; i < EACH; ++i) {
                UNROLL
                for (int j = 0; j < EACH; ++j) {
                    float& weight = weights[(row + i) * COLUMN_STEP + column + j];
                    if (row + i >= num_rows || column + j >= num_columns) {
                        weight = 0.0f;
                        continue;
                    }
                    const std::int64_t query = BY_KEYS ? of_columns + start + column + j : first_row + row + i;
                    const std::int64_t place = query * a.H + h;
                    const float p = expf(scores[i][j] * a.scale - a.maxima[place]) * (1.0f / a.sums[place]);
                    const float keep = a.drops ? weight : 1.0f;
                    if constexpr (PASS == Pass::DV) {
                        weight = p * keep;
                    } else {
                        weight = p * (dps[i][j] * keep - a.deltas[place]) * a.scale;
                    }
                }
            }
        }
        __syncthreads();
        const float* of_queries = PASS == Pass::DK ? a.q : a.dy;
        const float* column_values = PASS == Pass::FORWARD ? a.v : PASS == Pass::DQ ? a.k : of_queries;
        UNROLL
        for (int chunk = 0; chunk < CHUNKS; ++chunk) {
            for (int i = thread; i < COLUMNS * CHUNK; i += THREADS) {
                const int j = i / CHUNK, d = i % CHUNK, from = chunk * CHUNK + d;
                values[j * COLUMN_STEP + d] = j < num_columns && from < D ? column_values[at + j * C + from] : 0.0f;
            }
            __syncthreads();
            if constexpr (PASS == Pass::FORWARD) {
                UNROLL
                for (int i = 0; i < EACH; ++i) {
                    UNROLL
                    for (int j = 0; j < EACH; ++j) sums[chunk][i][j] *= fixes[row + i];
                }
            }
            for (int c = 0; c < COLUMNS; ++c) {
                const float4 r = *reinterpret_cast<const float4*>(values + c * COLUMN_STEP + column);
                const float rs[EACH] = {r.x, r.y, r.z, r.w};
                UNROLL
                for (int i = 0; i < EACH; ++i) {
                    const float weight = weights[(row + i) * COLUMN_STEP + c];
                    UNROLL
                    for (int j = 0; j < EACH; ++j) sums[chunk][i][j] += weight * rs[j];
                }
            }
            __syncthreads();  // before the values and weights are overwritten
        }
    }
    if constexpr (PASS == Pass::FORWARD) {
        if (thread % SHARES == 0) {
            fixes[thread / SHARES] = 1.0f / total;
            if (thread / SHARES < num_rows) {
                const std::int64_t place = (first_row + thread / SHARES) * a.H + h;
                a.maxima[place] = largest;
                a.sums[place] = total;
            }
        }
        __syncthreads();
    }
    UNROLL
    for (int chunk = 0; chunk < CHUNKS; ++chunk) {
        UNROLL
        for (int i = 0; i < EACH; ++i) {
            UNROLL
            for (int j = 0; j < EACH; ++j) {
                const int d = chunk * CHUNK + column + j;
                if (row + i >= num_rows || d >= D) continue;
                const float factor = PASS == Pass::FORWARD ? fixes[row + i] : 1.0f;
                a.out[(first_row + row + i) * C + h * D + d] = sums[chunk][i][j] * factor;
            }
        }
    }
}

// deltas[r, h] = Σ_d dy_d y_d, which is Σ_j p_j dp_j, with dropout too. A warp has a row of a head.
constexpr unsigned DELTA_THREADS = 128;
__global__ void __launch_bounds__(DELTA_THREADS)
delta_kernel(const float* dy, const float* y, std::int64_t size, std::int64_t D, float* deltas) {
    const std::int64_t place = (std::int64_t{blockIdx.x} * DELTA_THREADS + threadIdx.x) / WARP;
    if (place >= size) return;
    float sum = 0.0f;
    for (std::int64_t d = threadIdx.x % WARP; d < D; d += WARP) sum += dy[place * D + d] * y[place * D + d];
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0) deltas[place] = sum;
}

template <Pass PASS>
void run(Context& context, const char* name, const Attention<float>& attention, const std::vector<Tile>& tiles) {
    const std::int64_t D = attention.D;
    const auto kernel = D <= CHUNK ? attend<PASS, 1> : D <= 2 * CHUNK ? attend<PASS, 2> : attend<PASS, 4>;
    launch_tiles(context, name, kernel, THREADS, 0, attention, tiles);
}

// The factor x (rows, H · D) rounded once: (rows, H, D_padded), so that rows begin at multiples of 16 bytes and are
// filled up with zeros.
struct Round {
    const float* x;
    std::int64_t D, D_padded;
    bfloat16* rounded;
    __device__ void operator()(std::int64_t i) const {
        const std::int64_t d = i % D_padded;
        rounded[i] = __float2bfloat16(d < D ? x[i / D_padded * D + d] : 0.0f);
    }
};

constexpr std::int64_t MMA_DEPTH = 16;

class Rounded : public Scratch<bfloat16> {
   public:
    Rounded(Context& context, const float* x, std::int64_t rows, std::int64_t H, std::int64_t D)
        : Scratch<bfloat16>(context, rows * H * quotient_up(D, MMA_DEPTH) * MMA_DEPTH) {
        const std::int64_t D_padded = quotient_up(D, MMA_DEPTH) * MMA_DEPTH;
        for_each(context, "round", rows * H * D_padded, Round{x, D, D_padded, data()});
    }
};

// The arguments of a call, on the host and on the device.
struct Batch {
    Context& context;
    const std::int32_t* starts;
    const std::uint64_t* numbers;
    std::int64_t B;
    const std::int32_t* query_rows;
    std::int64_t R, H, D;
    Scratch<std::int32_t> rows;  // query_rows on the device

    Batch(Context& context, const std::int32_t* starts, const std::uint64_t* numbers, std::int64_t B,
          const std::int32_t* query_rows, std::int64_t R, std::int64_t H, std::int64_t D)
        : context(context), starts(starts), numbers(numbers), B(B), query_rows(query_rows), R(R), H(H), D(D),
          rows(context, query_rows ? R : 0) {
        if (query_rows) context.upload(rows.data(), query_rows, static_cast<std::size_t>(R) * sizeof(std::int32_t));
    }
    std::int64_t N() const { return starts[B]; }

    // With the factors as they are, and rounded.
    template <typename T>
    Attention<T> of(const T* dy, const T* q, const T* k, const T* v, std::int64_t head_step, const float* deltas,
                    float* maxima, float* sums, DropoutKey key) const {
        const float scale = static_cast<float>(1.0 / std::sqrt(double(D)));
        return {dy,          q,       k, v, H * head_step, head_step,      deltas,          maxima, sums,
                rows.data(), nullptr, H, D, scale,         key.rate > 0.0, dropout_of(key), nullptr};
    }
    void run(Pass pass, Attention<float> attention, float* out) const {
        attention.out = out;
        run_floats(context, pass, attention,
                   tiles_of(starts, numbers, B, query_rows, R, is_by_keys(pass), ROWS_OF_FLOATS));
    }
    void run(Pass pass, Attention<bfloat16> attention, float* out) const {
        attention.out = out;
        run_shorts(context, pass, attention,
                   tiles_of(starts, numbers, B, query_rows, R, is_by_keys(pass), ROWS_OF_SHORTS));
    }
    template <typename T>
    void run_backward(const Attention<T>& attention, float* dq, float* dk, float* dv) const {
        run(Pass::DQ, attention, dq);
        run(Pass::DK, attention, dk);
        run(Pass::DV, attention, dv);
    }
};

}  // namespace

void attention_forward(Context& context, const float* q, const float* k, const float* v, const std::int32_t* starts,
                       std::int64_t B, const std::int32_t* query_rows, std::int64_t R, std::int64_t H, std::int64_t D,
                       DropoutKey key, const std::uint64_t* numbers, bool rounds, float* y, float* maxima,
                       float* sums) {
    const Batch batch(context, starts, numbers, B, query_rows, R, H, D);
    if (!rounds) return batch.run(Pass::FORWARD, batch.of<float>(nullptr, q, k, v, D, nullptr, maxima, sums, key), y);
    const Rounded q_(context, q, R, H, D), k_(context, k, batch.N(), H, D), v_(context, v, batch.N(), H, D);
    const std::int64_t head_step = quotient_up(D, MMA_DEPTH) * MMA_DEPTH;
    batch.run(Pass::FORWARD,
              batch.of<bfloat16>(nullptr, q_.data(), k_.data(), v_.data(), head_step, nullptr, maxima, sums, key), y);
}

void attention_backward(Context& context, const float* dy, const float* q, const float* k, const float* v,
                        const float* y, const float* maxima, const float* sums, const std::int32_t* starts,
                        std::int64_t B, const std::int32_t* query_rows, std::int64_t R, std::int64_t H,
                        std::int64_t D, DropoutKey key, const std::uint64_t* numbers, bool rounds, float* dq,
                        float* dk, float* dv) {
    const Batch batch(context, starts, numbers, B, query_rows, R, H, D);
    const Scratch<float> deltas(context, R * H);
    const auto blocks = static_cast<unsigned>(quotient_up<std::int64_t>(R * H * WARP, DELTA_THREADS));
    LAUNCH(context, delta_kernel, blocks, DELTA_THREADS, 0, dy, y, R * H, D, deltas.data());
    float *maxima_ = const_cast<float*>(maxima), *sums_ = const_cast<float*>(sums);  // backward reads them alone
    if (!rounds) {
        return batch.run_backward(batch.of<float>(dy, q, k, v, D, deltas.data(), maxima_, sums_, key), dq, dk, dv);
    }
    const Rounded dy_(context, dy, R, H, D), q_(context, q, R, H, D);
    const Rounded k_(context, k, batch.N(), H, D), v_(context, v, batch.N(), H, D);
    const std::int64_t head_step = quotient_up(D, MMA_DEPTH) * MMA_DEPTH;
    const auto attention = batch.of<bfloat16>(dy_.data(), q_.data(), k_.data(), v_.data(), head_step, deltas.data(),
                                              maxima_, sums_, key);
    batch.run_backward(attention, dq, dk, dv);
}

}  // namespace launchers

void run_floats(Context& context, Pass pass, Attention<float> attention, const std::vector<Tile>& tiles) {
    switch (pass) {
        case Pass::FORWARD: return launchers::run<Pass::FORWARD>(context, "attention_forward", attention, tiles);
        case Pass::DQ: return launchers::run<Pass::DQ>(context, "attention_backward, dq", attention, tiles);
        case Pass::DK: return launchers::run<Pass::DK>(context, "attention_backward, dk", attention, tiles);
        case Pass::DV: return launchers::run<Pass::DV>(context, "attention_backward, dv", attention, tiles);
    }
}

}  // namespace pyroberta::cuda
