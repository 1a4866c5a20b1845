// Attention on tensor cores: attention.cu's steps, with factors rounded to bfloat16 and sums in float32.
#include "cuda/attention.hpp"

namespace pyroberta::cuda {
namespace {

// A warp has 16 rows of a block's ROWS, and all COLUMNS; of these, a lane has rows g and g + 8 in columns 8n + 2t and
// 8n + 2t + 1, where g = lane / 4 and t = lane % 4. So the weights are the left factor of the next product as they lie.
constexpr int ROWS = ROWS_OF_SHORTS, COLUMNS = 64, THREADS = 128, TILES = COLUMNS / 8;

__device__ __forceinline__ std::uint32_t pair_of(float x, float y) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(x, y);
    std::uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
}

// Two rows of a left factor, as the lane's part of a matrix fragment: numbers p to p + 15. Null rows are zeros.
struct LeftRows {
    const bfloat16 *upper, *lower;
    __device__ __forceinline__ void load(int p, std::uint32_t (&fragment)[4]) const {
        const int t = static_cast<int>(threadIdx.x) % 4;
        UNROLL
        for (int i = 0; i < 4; ++i) {
            const bfloat16* row = i % 2 ? lower : upper;
            fragment[i] = row ? *reinterpret_cast<const std::uint32_t*>(row + p + 2 * t + i / 2 * 8) : 0u;
        }
    }
};

// scores = left · panelᵀ over `depth` numbers, a multiple of 16; the panel's rows are STEP apart.
template <int STEP>
__device__ __forceinline__ void multiply_rows(const LeftRows& left, const bfloat16* panel, int depth,
                                              float (&scores)[TILES][4]) {
    const int lane = static_cast<int>(threadIdx.x) % WARP;
    UNROLL
    for (int n = 0; n < TILES; ++n) {
        UNROLL
        for (int e = 0; e < 4; ++e) scores[n][e] = 0.0f;
    }
    for (int p = 0; p < depth; p += 16) {
        std::uint32_t a[4];
        left.load(p, a);
        UNROLL
        for (int n = 0; n < TILES; n += 2) {
            std::uint32_t r[4];
            ldmatrix_x4(r, panel + (8 * n + lane % 8 + lane / 16 * 8) * STEP + p + lane / 8 % 2 * 8);
            const std::uint32_t first[2] = {r[0], r[1]}, second[2] = {r[2], r[3]};
            mma_m16n8k16(scores[n], a, first);
            mma_m16n8k16(scores[n + 1], a, second);
        }
    }
}

// Starts the copy of rows of x, `depth` numbers each, to a panel; rows from `rows` on are zeros.
template <int STEP>
__device__ __forceinline__ void copy_panel(const bfloat16* x, std::int64_t step, int rows, int depth, bfloat16* panel) {
    const int pieces = depth / 8;  // of 16 bytes
    for (int i = static_cast<int>(threadIdx.x); i < COLUMNS * pieces; i += THREADS) {
        const int r = i / pieces, d = i % pieces * 8;
        const bool is_present = r < rows;
        cp_async_16(panel + r * STEP + d, x + (is_present ? r : 0) * step + d, is_present ? 16 : 0);
    }
}

// out (ROWS, D) = Σ over blocks of columns: weights · values. WIDTH is at least D.
template <Pass PASS, int WIDTH>
__global__ void __launch_bounds__(THREADS) attend_short(Attention<bfloat16> a) {
    constexpr bool BY_KEYS = is_by_keys(PASS);
    constexpr int STEP = WIDTH + 8;
    DYNAMIC_SHARED(bfloat16, panels);
    SHARED(unsigned char, kept, ROWS * COLUMNS);
    bfloat16 *first_panel = panels, *second_panel = panels + COLUMNS * STEP;
    const Tile tile = a.tiles[blockIdx.x];
    const std::int64_t h = blockIdx.y;
    const int depth = static_cast<int>(a.head_step), D = static_cast<int>(a.D);
    const int lane = static_cast<int>(threadIdx.x) % WARP, t = lane % 4;
    const int upper = static_cast<int>(threadIdx.x) / WARP * 16 + lane / 4;  // the lane's other row is upper + 8
    const std::int64_t rows = BY_KEYS ? tile.keys : tile.queries, columns = BY_KEYS ? tile.queries : tile.keys;
    const int num_rows = static_cast<int>(min(std::int64_t{ROWS}, rows - tile.first));
    const std::int64_t first_row = (BY_KEYS ? tile.start : tile.first_query) + tile.first;
    const std::int64_t of_columns = BY_KEYS ? tile.first_query : tile.start;
    const auto rows_of_lane = [&](const bfloat16* x) {
        const bfloat16* row = x + (first_row + upper) * a.step + h * a.head_step;
        return LeftRows{upper < num_rows ? row : nullptr, upper + 8 < num_rows ? row + 8 * a.step : nullptr};
    };
    const LeftRows left = rows_of_lane(BY_KEYS ? a.k : a.q);
    float sums[WIDTH / 8][4] = {};
    float largest[2] = {-INFINITY, -INFINITY}, total[2] = {};  // forward: of both rows
    for (std::int64_t start = 0; start < columns; start += COLUMNS) {
        const int num_columns = static_cast<int>(min(std::int64_t{COLUMNS}, columns - start));
        const std::int64_t at = (of_columns + start) * a.step + h * a.head_step;
        __syncthreads();  // the panels have been read
        copy_panel<STEP>((BY_KEYS ? a.q : a.k) + at, a.step, num_columns, depth, first_panel);
        copy_panel<STEP>((BY_KEYS ? a.dy : a.v) + at, a.step, num_columns, depth, second_panel);
        cp_async_commit();
        if (a.drops) {
            draw_tile<BY_KEYS, ROWS, COLUMNS, THREADS>(
                a.dropout, tile, a.query_rows, h, start, num_rows, num_columns,
                [&](int i, int j, float keep) { kept[i * COLUMNS + j] = keep > 0.0f; });
        }
        cp_async_wait<0>();
        __syncthreads();
        float weights[TILES][4];
        multiply_rows<STEP>(left, first_panel, depth, weights);
        const float gain = a.drops ? float(a.dropout.scale) : 1.0f;
        const auto keep_of = [&](int n, int e) {
            if (!a.drops) return 1.0f;
            return kept[(upper + e / 2 * 8) * COLUMNS + 8 * n + 2 * t + e % 2] ? gain : 0.0f;
        };
        if constexpr (PASS == Pass::FORWARD) {
            float top[2] = {largest[0], largest[1]}, sum[2] = {};
            UNROLL
            for (int n = 0; n < TILES; ++n) {
                UNROLL
                for (int e = 0; e < 4; ++e) {
                    weights[n][e] *= a.scale;
                    if (8 * n + 2 * t + e % 2 < num_columns) top[e / 2] = fmaxf(top[e / 2], weights[n][e]);
                }
            }
            UNROLL
            for (int i = 0; i < 2; ++i) {
                top[i] = fmaxf(top[i], __shfl_xor_sync(ALL_LANES, top[i], 1));
                top[i] = fmaxf(top[i], __shfl_xor_sync(ALL_LANES, top[i], 2));
            }
            UNROLL
            for (int n = 0; n < TILES; ++n) {
                UNROLL
                for (int e = 0; e < 4; ++e) {
                    const bool is_present = 8 * n + 2 * t + e % 2 < num_columns;
                    const float p = is_present ? expf(weights[n][e] - top[e / 2]) : 0.0f;
                    sum[e / 2] += p;
                    weights[n][e] = is_present && upper + e / 2 * 8 < num_rows ? p * keep_of(n, e) : 0.0f;
                }
            }
            UNROLL
            for (int i = 0; i < 2; ++i) {
                sum[i] += __shfl_xor_sync(ALL_LANES, sum[i], 1);
                sum[i] += __shfl_xor_sync(ALL_LANES, sum[i], 2);
                const float fix = expf(largest[i] - top[i]);
                total[i] = total[i] * fix + sum[i];
                largest[i] = top[i];
                UNROLL
                for (int n = 0; n < WIDTH / 8; ++n) {
                    sums[n][2 * i] *= fix;
                    sums[n][2 * i + 1] *= fix;
                }
            }
        } else {
            float dps[TILES][4];
            if constexpr (PASS != Pass::DV) {
                multiply_rows<STEP>(rows_of_lane(BY_KEYS ? a.v : a.dy), second_panel, depth, dps);
            }
            UNROLL
            for (int n = 0; n < TILES; ++n) {
                UNROLL
                for (int e = 0; e < 4; ++e) {
                    const int row = upper + e / 2 * 8, column = 8 * n + 2 * t + e % 2;
                    if (row >= num_rows || column >= num_columns) {
                        weights[n][e] = 0.0f;
                        continue;
                    }
                    const std::int64_t place = (BY_KEYS ? of_columns + start + column : first_row + row) * a.H + h;
                    const float p = expf(weights[n][e] * a.scale - a.maxima[place]) * (1.0f / a.sums[place]);
                    if constexpr (PASS == Pass::DV) {
                        weights[n][e] = p * keep_of(n, e);
                    } else {
                        weights[n][e] = p * (dps[n][e] * keep_of(n, e) - a.deltas[place]) * a.scale;
                    }
                }
            }
        }
        const bfloat16* values = PASS == Pass::FORWARD || PASS == Pass::DV ? second_panel : first_panel;
        UNROLL
        for (int c = 0; c < COLUMNS / 16; ++c) {
            const std::uint32_t w[4] = {pair_of(weights[2 * c][0], weights[2 * c][1]),
                                        pair_of(weights[2 * c][2], weights[2 * c][3]),
                                        pair_of(weights[2 * c + 1][0], weights[2 * c + 1][1]),
                                        pair_of(weights[2 * c + 1][2], weights[2 * c + 1][3])};
            UNROLL
            for (int n = 0; n < WIDTH / 8; n += 2) {
                if (8 * n >= depth) continue;
                std::uint32_t r[4];
                ldmatrix_x4_trans(r, values + (16 * c + lane % 16) * STEP + 8 * n + lane / 16 * 8);
                const std::uint32_t first[2] = {r[0], r[1]}, second[2] = {r[2], r[3]};
                mma_m16n8k16(sums[n], w, first);
                mma_m16n8k16(sums[n + 1], w, second);
            }
        }
    }
    UNROLL
    for (int i = 0; i < 2; ++i) {
        const int row = upper + 8 * i;
        if (row >= num_rows) continue;
        const float factor = PASS == Pass::FORWARD ? 1.0f / total[i] : 1.0f;
        if (PASS == Pass::FORWARD && t == 0) {
            a.maxima[(first_row + row) * a.H + h] = largest[i];
            a.sums[(first_row + row) * a.H + h] = total[i];
        }
        float* out = a.out + ((first_row + row) * a.H + h) * a.D;
        UNROLL
        for (int n = 0; n < WIDTH / 8; ++n) {
            UNROLL
            for (int e = 0; e < 2; ++e) {
                const int d = 8 * n + 2 * t + e;
                if (d < D) out[d] = sums[n][2 * i + e] * factor;
            }
        }
    }
}

template <Pass PASS, int WIDTH>
void run_width(Context& context, const char* name, const Attention<bfloat16>& attention,
               const std::vector<Tile>& tiles) {
    constexpr std::size_t PANELS = 2 * COLUMNS * (WIDTH + 8) * sizeof(bfloat16);
    launch_tiles(context, name, attend_short<PASS, WIDTH>, THREADS, PANELS, attention, tiles);
}

template <Pass PASS>
void run(Context& context, const char* name, const Attention<bfloat16>& attention, const std::vector<Tile>& tiles) {
    if (attention.D <= 64) return run_width<PASS, 64>(context, name, attention, tiles);
    if (attention.D <= 128) return run_width<PASS, 128>(context, name, attention, tiles);
    run_width<PASS, 256>(context, name, attention, tiles);
}

}  // namespace

void run_shorts(Context& context, Pass pass, Attention<bfloat16> attention, const std::vector<Tile>& tiles) {
    switch (pass) {
        case Pass::FORWARD: return run<Pass::FORWARD>(context, "attention_forward", attention, tiles);
        case Pass::DQ: return run<Pass::DQ>(context, "attention_backward, dq", attention, tiles);
        case Pass::DK: return run<Pass::DK>(context, "attention_backward, dk", attention, tiles);
        case Pass::DV: return run<Pass::DV>(context, "attention_backward, dv", attention, tiles);
    }
}

}  // namespace pyroberta::cuda
