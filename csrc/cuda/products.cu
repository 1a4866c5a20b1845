// Products of matrices, in float32 by multiply-adds and in bfloat16 on tensor cores.
#include "cuda/launchers.hpp"
#include "cuda/sums.hpp"

namespace pyroberta::cuda::launchers {
namespace {

// A block makes a TILE x TILE part of the result, and reads both factors DEPTH numbers at a time.
constexpr int TILE = 64;

// What is done with a number of the result when its sum is complete.
struct Finish {
    float scale;
    const float* bias;  // (O,), nullptr: none
    bool accumulates;
    std::int64_t N, O;
    float* y;  // (N, O)
    __device__ void operator()(std::int64_t n, std::int64_t o, float sum) const {
        if (n >= N || o >= O) return;
        float& target = y[n * O + o];
        const float value = sum * scale + (bias ? bias[o] : 0.0f);
        target = accumulates ? target + value : value;
    }
};

// Number p of vector v of a factor that has `vectors` of them, of `depth` numbers; 0 beyond.
__device__ __forceinline__ float number_of(const Factor<float>& factor, std::int64_t v, std::int64_t p,
                                           std::int64_t vectors, std::int64_t depth) {
    return v < vectors && p < depth ? factor.data[v * factor.row_step + p * factor.depth_step] : 0.0f;
}

// --- float32 ----------------------------------------------------------------------------------------------------------

constexpr int DEPTH = 16, SIDE = 16, EACH = TILE / SIDE;  // SIDE x SIDE threads have EACH x EACH numbers each
constexpr int STEP = TILE + 4;                            // from one depth to the next; rows of 16 bytes

// to[p][v], by all threads; neighbours read what lies side by side.
__device__ __forceinline__ void load_panel(const Factor<float>& factor, std::int64_t first, std::int64_t vectors,
                                           std::int64_t start, std::int64_t depth, float* to) {
    const bool is_along_depth = factor.depth_step == 1;
    for (int i = static_cast<int>(threadIdx.x); i < TILE * DEPTH; i += SIDE * SIDE) {
        const int v = is_along_depth ? i / DEPTH : i % TILE, p = is_along_depth ? i % DEPTH : i / TILE;
        to[p * STEP + v] = number_of(factor, first + v, start + p, vectors, depth);
    }
}

__global__ void __launch_bounds__(SIDE * SIDE)
multiply_floats(Factor<float> a, Factor<float> b, std::int64_t N, std::int64_t I, std::int64_t O, Finish finish) {
    SHARED(float, left, DEPTH * STEP);
    SHARED(float, right, DEPTH * STEP);
    const std::int64_t first_n = std::int64_t{blockIdx.x} * TILE, first_o = std::int64_t{blockIdx.y} * TILE;
    const int row = static_cast<int>(threadIdx.x) / SIDE * EACH, column = static_cast<int>(threadIdx.x) % SIDE * EACH;
    float sums[EACH][EACH] = {};
    for (std::int64_t start = 0; start < I; start += DEPTH) {
        load_panel(a, first_n, N, start, I, left);
        load_panel(b, first_o, O, start, I, right);
        __syncthreads();
        multiply_panels<DEPTH, STEP, STEP>(left, row, right, column, sums);
        __syncthreads();  // before the panels are overwritten
    }
    UNROLL
    for (int i = 0; i < EACH; ++i) {
        UNROLL
        for (int j = 0; j < EACH; ++j) finish(first_n + row + i, first_o + column + j, sums[i][j]);
    }
}

// --- bfloat16 ---------------------------------------------------------------------------------------------------------

// Four warps, each with a WARP_TILE x WARP_TILE part.
constexpr int DEPTH_SHORT = 32, WARP_TILE = 32, THREADS_SHORT = 128;
constexpr int STEP_SHORT = DEPTH_SHORT + 8;  // from one vector to the next: rows of 16 bytes in different banks

// to[v][p], rounded. A thread reads two numbers that follow each other along the depth.
__device__ __forceinline__ void load_panel_short(const Factor<float>& factor, std::int64_t first, std::int64_t vectors,
                                                 std::int64_t start, std::int64_t depth, bfloat16* to) {
    const bool is_along_depth = factor.depth_step == 1;
    constexpr int PAIRS = DEPTH_SHORT / 2;
    for (int i = static_cast<int>(threadIdx.x); i < TILE * PAIRS; i += THREADS_SHORT) {
        const int v = is_along_depth ? i / PAIRS : i % TILE, p = 2 * (is_along_depth ? i % PAIRS : i / TILE);
        const float x = number_of(factor, first + v, start + p, vectors, depth);
        const float y = number_of(factor, first + v, start + p + 1, vectors, depth);
        *reinterpret_cast<__nv_bfloat162*>(to + v * STEP_SHORT + p) = __floats2bfloat162_rn(x, y);
    }
}

__global__ void __launch_bounds__(THREADS_SHORT)
multiply_short(Factor<float> a, Factor<float> b, std::int64_t N, std::int64_t I, std::int64_t O, Finish finish) {
    SHARED(uint4, left_bytes, TILE * STEP_SHORT / 8);
    SHARED(uint4, right_bytes, TILE * STEP_SHORT / 8);
    auto* left = reinterpret_cast<bfloat16*>(left_bytes);
    auto* right = reinterpret_cast<bfloat16*>(right_bytes);
    const std::int64_t first_n = std::int64_t{blockIdx.x} * TILE, first_o = std::int64_t{blockIdx.y} * TILE;
    const int lane = static_cast<int>(threadIdx.x) % WARP, warp = static_cast<int>(threadIdx.x) / WARP;
    const int row = warp / 2 * WARP_TILE, column = warp % 2 * WARP_TILE;
    float sums[WARP_TILE / 16][WARP_TILE / 8][4] = {};
    for (std::int64_t start = 0; start < I; start += DEPTH_SHORT) {
        load_panel_short(a, first_n, N, start, I, left);
        load_panel_short(b, first_o, O, start, I, right);
        __syncthreads();
        UNROLL
        for (int p = 0; p < DEPTH_SHORT; p += 16) {
            std::uint32_t ls[WARP_TILE / 16][4], rs[WARP_TILE / 16][4];
            UNROLL
            for (int i = 0; i < WARP_TILE / 16; ++i) {
                ldmatrix_x4(ls[i], left + (row + 16 * i + lane % 16) * STEP_SHORT + p + lane / 16 * 8);
                const int vector = column + 16 * i + lane % 8 + lane / 16 * 8;
                ldmatrix_x4(rs[i], right + vector * STEP_SHORT + p + lane / 8 % 2 * 8);
            }
            UNROLL
            for (int i = 0; i < WARP_TILE / 16; ++i) {
                UNROLL
                for (int j = 0; j < WARP_TILE / 8; ++j) {
                    const std::uint32_t right_pair[2] = {rs[j / 2][j % 2 * 2], rs[j / 2][j % 2 * 2 + 1]};
                    mma_m16n8k16(sums[i][j], ls[i], right_pair);
                }
            }
        }
        __syncthreads();  // before the panels are overwritten
    }
    UNROLL
    for (int i = 0; i < WARP_TILE / 16; ++i) {
        UNROLL
        for (int j = 0; j < WARP_TILE / 8; ++j) {
            UNROLL
            for (int k = 0; k < 4; ++k) {
                const int n = row + 16 * i + lane / 4 + k / 2 * 8, o = column + 8 * j + lane % 4 * 2 + k % 2;
                finish(first_n + n, first_o + o, sums[i][j][k]);
            }
        }
    }
}

// ----------------------------------------------------------------------------------------------------------------------

void run(Context& context, const char* name, Factor<float> a, Factor<float> b, std::int64_t N, std::int64_t I,
         std::int64_t O, bool rounds, const Finish& finish) {
    const dim3 grid(static_cast<unsigned>(quotient_up<std::int64_t>(N, TILE)),
                    static_cast<unsigned>(quotient_up<std::int64_t>(O, TILE)));
    if (rounds) {
        launch(context, name, multiply_short, grid, THREADS_SHORT, 0, a, b, N, I, O, finish);
    } else {
        launch(context, name, multiply_floats, grid, SIDE * SIDE, 0, a, b, N, I, O, finish);
    }
}

struct OneTerm {
    const float* x;
    __device__ void operator()(std::int64_t i, float (&terms)[1]) const { terms[0] = x[i]; }
};

}  // namespace

void multiply(Context& context, Factor<float> a, Factor<float> b, std::int64_t N, std::int64_t I, std::int64_t O,
              float scale, const float* bias, bool rounds, float* y) {
    run(context, "multiply", a, b, N, I, O, rounds, {scale, bias, false, N, O, y});
}

void add_product(Context& context, Factor<float> a, Factor<float> b, std::int64_t N, std::int64_t I, std::int64_t O,
                 bool rounds, float* total) {
    run(context, "add_product", a, b, N, I, O, rounds, {1.0f, nullptr, true, N, O, total});
}

void column_sums(Context& context, const float* x, std::int64_t N, std::int64_t C, float* sums) {
    sum_rows<1>(context, "column_sums", N, C, OneTerm{x}, {{sums}});
}

}  // namespace pyroberta::cuda::launchers
