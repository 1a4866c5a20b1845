// What the kernels of attention share: who does what, and which part of dropout's mask a tile of scores meets.
//
// A block has a tile of some rows of a head, and goes through the columns of their sequence, 64 at a time. In forward
// and for dq the rows are queries and the columns keys; for dk and dv the rows are keys and the columns queries. So
// each number of a result has one block that adds it up, always in the same order.
#pragma once

#include <algorithm>
#include <vector>

#include "cuda/dropout.hpp"
#include "cuda/types.hpp"

namespace pyroberta {
namespace cuda {

enum class Pass { FORWARD, DQ, DK, DV };

__host__ __device__ constexpr bool is_by_keys(Pass pass) { return pass == Pass::DK || pass == Pass::DV; }

// The rows of a block: those from number `first` on, of the rows of their sequence.
struct Tile {
    std::int64_t start, keys;           // rows [start, start + keys) of k and v are the sequence's; keys is S
    std::int64_t first_query, queries;  // rows [first_query, first_query + queries) of q and y
    std::int64_t first;
    std::uint64_t number;  // the stream of its dropout mask
};

// What a kernel gets. T is that of the factors of the products; rows of q, k, v and dy are `step` numbers apart, heads
// `head_step`.
template <typename T>
struct Attention {
    const T *dy, *q, *k, *v;
    std::int64_t step, head_step;
    const float* deltas;   // (R, H), Σ_d dy_d y_d
    float *maxima, *sums;  // (R, H)
    const std::int32_t* query_rows;
    const Tile* tiles;
    std::int64_t H, D;
    float scale;  // 1 / √D
    bool drops;
    Dropout dropout;
    float* out;
};

// The rows of a tile, in float32 and with factors in bfloat16; the sizes of heads for which there are kernels.
constexpr int ROWS_OF_FLOATS = 32, ROWS_OF_SHORTS = 64;

// One launch, in float32, and on tensor cores: attention.cu and attention_bfloat16.cu.
void run_floats(Context& context, Pass pass, Attention<float> attention, const std::vector<Tile>& tiles);
void run_shorts(Context& context, Pass pass, Attention<bfloat16> attention, const std::vector<Tile>& tiles);

// Launches a kernel with a block for each tile and head. `name` is the op's.
template <typename T>
void launch_tiles(Context& context, const char* name, void (*kernel)(Attention<T>), unsigned threads,
                  std::size_t shared_bytes, Attention<T> attention, const std::vector<Tile>& tiles) {
    const Scratch<Tile> uploaded(context, static_cast<std::int64_t>(tiles.size()));
    context.upload(uploaded.data(), tiles.data(), tiles.size() * sizeof(Tile));
    attention.tiles = uploaded.data();
    const dim3 grid(static_cast<unsigned>(tiles.size()), static_cast<unsigned>(attention.H));
    launch(context, name, kernel, grid, threads, shared_bytes, attention);
}

// The tiles of a batch, those with the most columns first. All pointers are the host's.
inline std::vector<Tile> tiles_of(const std::int32_t* starts, const std::uint64_t* numbers, std::int64_t B,
                                  const std::int32_t* query_rows, std::int64_t R, bool by_keys, std::int64_t rows) {
    std::vector<Tile> tiles;
    std::int64_t r = 0;
    for (std::int64_t b = 0; b < B; ++b) {
        const std::int64_t start = starts[b], stop = starts[b + 1], first_query = r;
        while (r < R && (query_rows ? query_rows[r] : r) < stop) ++r;
        Tile tile{start, stop - start, first_query, r - first_query, 0, numbers[b]};
        for (; tile.first < (by_keys ? tile.keys : tile.queries); tile.first += rows) tiles.push_back(tile);
    }
    std::stable_sort(tiles.begin(), tiles.end(), [by_keys](const Tile& one, const Tile& other) {
        return by_keys ? one.queries > other.queries : one.keys > other.keys;
    });
    return tiles;
}

// The position of a query in its sequence; `query` is its number among the sequence's.
__device__ __forceinline__ std::int64_t position_of(const Tile& tile, const std::int32_t* query_rows,
                                                    std::int64_t query) {
    const std::int64_t r = tile.first_query + query;
    return (query_rows ? query_rows[r] : r) - tile.start;
}

// Calls f(row, column, keep) for each place of a part of the scores, by all THREADS of the block. The part has
// `num_rows` rows and `num_columns` columns, from column `first_column` on. The mask counts elements in the order
// (h, i, j).
template <bool BY_KEYS, int ROWS, int COLUMNS, int THREADS, typename F>
__device__ __forceinline__ void draw_tile(const Dropout& dropout, const Tile& tile, const std::int32_t* query_rows,
                                          std::int64_t h, std::int64_t first_column, int num_rows, int num_columns,
                                          const F& f) {
    constexpr int QUERIES = BY_KEYS ? COLUMNS : ROWS, BLOCKS = (BY_KEYS ? ROWS : COLUMNS) / BLOCK_WORDS + 1;
    const int queries = BY_KEYS ? num_columns : num_rows, keys = BY_KEYS ? num_rows : num_columns;
    const std::int64_t first_query = BY_KEYS ? first_column : tile.first;
    const std::int64_t first_key = BY_KEYS ? tile.first : first_column;
    for (int task = static_cast<int>(threadIdx.x); task < QUERIES * BLOCKS; task += THREADS) {
        const int query = task / BLOCKS;
        if (query >= queries) break;
        const std::int64_t i = position_of(tile, query_rows, first_query + query);
        const std::int64_t first = (h * tile.keys + i) * tile.keys + first_key;
        const std::int64_t block = first / BLOCK_WORDS + task % BLOCKS;
        if (block * BLOCK_WORDS >= first + keys) continue;
        float keep[BLOCK_WORDS];
        draw_keep(dropout, tile.number, block, keep);
        UNROLL
        for (int w = 0; w < BLOCK_WORDS; ++w) {
            const std::int64_t key = block * BLOCK_WORDS + w - first;
            if (key >= 0 && key < keys) f(BY_KEYS ? int(key) : query, BY_KEYS ? query : int(key), keep[w]);
        }
    }
}

}  // namespace cuda
}  // namespace pyroberta
