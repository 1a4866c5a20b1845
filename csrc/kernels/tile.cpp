#include "kernels/tile.hpp"

#include <algorithm>
#include <type_traits>

#include "kernels/kernel.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

// A packed panel of A, as a factor whose steps the compiler knows.
template <typename T>
struct Panel {
    const T* data;
    static constexpr std::int64_t row_step = 1, depth_step = Tile<T>::ROWS;
};

// A strip of B, Tile::COLUMNS wide, from row to row `step`: just packed, prepared long ago, or as it lies. `fetch` is
// called for row p, which is at `line`, and calls into the cache what comes later.
template <typename T>
struct PackedStrip {
    const T* data;
    static constexpr std::int64_t step = Tile<T>::COLUMNS;
    PYROBERTA_INLINE void fetch(const T*, std::int64_t) const {}  // all of it is in the cache
};
template <typename T>
struct PreparedStrip {
    const T *data, *next;
    std::int64_t share;  // of a row of the next strip, so that the tiles that read this one call the next one together
    static constexpr std::int64_t step = Tile<T>::COLUMNS;
    PYROBERTA_INLINE void fetch(const T*, std::int64_t p) const { __builtin_prefetch(next + p * share); }
};
template <typename T>
struct Strip {
    const T* data;
    std::int64_t step, ahead;
    PYROBERTA_INLINE void fetch(const T* line, std::int64_t) const { __builtin_prefetch(line + ahead); }
};

// The innermost loop: tile (ROWS, COLUMNS) = or += A (ROWS, depth) times a strip of B (depth, COLUMNS). A is a Panel, or
// a Factor that lies in memory as it is.
template <int ROWS, typename T, typename Left, typename Right>
PYROBERTA_INLINE void multiply_tile(Left a, Right strip, std::int64_t depth, T* PYROBERTA_RESTRICT c,
                                    std::int64_t c_step, bool add) {
    constexpr int W = WIDTH<T>;
    const T* PYROBERTA_RESTRICT column = a.data;
    const T* PYROBERTA_RESTRICT b = strip.data;
    Vector<T> tile[ROWS][2];
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
        __builtin_prefetch(c + i * c_step, 1);  // for the end, when it would be waited for
        tile[i][0] = tile[i][1] = Vector<T>{};
    }
    for (std::int64_t p = 0; p < depth; ++p) {
        const Vector<T> left = load(b), right = load(b + W);
        strip.fetch(b, p);
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i) {
            tile[i][0] += column[i * a.row_step] * left;  // one fused multiply-add where the machine has it
            tile[i][1] += column[i * a.row_step] * right;
        }
        column += a.depth_step;
        b += strip.step;
    }
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
        T* row = c + i * c_step;
        if (add) {
            tile[i][0] += load(row);
            tile[i][1] += load(row + W);
        }
        store(row, tile[i][0]);
        store(row + W, tile[i][1]);
    }
}

// The same for as few rows as a tile may have at the lower edge.
template <int ROWS, typename T, typename Left, typename Right>
PYROBERTA_INLINE void multiply_rows(int rows, Left a, Right b, std::int64_t depth, T* c, std::int64_t c_step, bool add) {
    if (rows == ROWS) {
        multiply_tile<ROWS>(a, b, depth, c, c_step, add);
    } else if constexpr (ROWS > 1) {
        multiply_rows<ROWS - 1>(rows, a, b, depth, c, c_step, add);
    }
}

// A tile at an edge. Whole tiles are inlined where they are called, these are not.
template <typename T, typename Left, typename Right>
PYROBERTA_ONE_COPY void multiply_edge(int rows, Left a, Right b, std::int64_t depth, T* c, std::int64_t c_step, bool add) {
    multiply_rows<Tile<T>::ROWS>(rows, a, b, depth, c, c_step, add);
}

// C (rows, columns) = or += A B, tile by tile: left_of(i) is A from row i on, right_of(j, i) the strip of B at column j.
template <typename T, typename LeftOf, typename RightOf>
PYROBERTA_INLINE void multiply_tiles(const LeftOf& left_of, const RightOf& right_of, std::int64_t rows,
                                     std::int64_t columns, std::int64_t depth, T* c, std::int64_t c_step, bool add) {
    constexpr int R = Tile<T>::ROWS, W = Tile<T>::COLUMNS;
    for (std::int64_t j = 0; j < columns; j += W) {
        for (std::int64_t i = 0; i < rows; i += R) {
            const auto b = right_of(j, i);
            T* tile = c + i * c_step + j;
            const int tall = static_cast<int>(std::min<std::int64_t>(R, rows - i));
            if (columns - j >= W) {
                if (tall == R) {
                    multiply_tile<R>(left_of(i), b, depth, tile, c_step, add);
                } else {
                    multiply_edge(tall, left_of(i), b, depth, tile, c_step, add);
                }
                continue;
            }
            T whole[R * W];  // the right edge: computed whole, of which a part is taken
            const std::int64_t wide = columns - j;
            multiply_edge<T>(tall, left_of(i), b, depth, whole, W, false);
            for (int r = 0; r < tall; ++r) {
                for (std::int64_t k = 0; k < wide; ++k) {
                    tile[r * c_step + k] = (add ? tile[r * c_step + k] : T(0)) + whole[r * W + k];
                }
            }
        }
    }
}

// Where A's rows begin: in packed panels, or as they lie.
template <typename T>
PYROBERTA_INLINE auto panels_of(const T* a, std::int64_t depth) {
    return [=](std::int64_t i) { return Panel<T>{a + i * depth}; };
}
template <typename T>
PYROBERTA_INLINE auto lying(Factor<T> a) {
    return [=](std::int64_t i) { return from(a, i, 0); };
}

template <typename T, typename LeftOf>
PYROBERTA_INLINE void multiply_by_prepared(const LeftOf& left_of, const T* b, const T* then, std::int64_t rows,
                                           std::int64_t columns, std::int64_t depth, T* c, std::int64_t c_step,
                                           bool add) {
    constexpr int R = Tile<T>::ROWS, W = Tile<T>::COLUMNS;
    const std::int64_t share = std::max<std::int64_t>(1, W / ((rows + R - 1) / R));
    multiply_tiles(left_of,
                   [=](std::int64_t j, std::int64_t i) {
                       const T* next = j + W < columns ? b + (j + W) * depth : then;
                       return PreparedStrip<T>{b + j * depth, next + i / R * share * depth, share};
                   },
                   rows, columns, depth, c, c_step, add);
}

// ROWS rows of A times `columns` columns of B: each column of B is loaded once, for all of its products.
template <int ROWS, typename T>
void multiply_few(Factor<T> a, Factor<T> b, std::int64_t columns, std::int64_t depth, T* c, std::int64_t c_step,
                  bool add) {
    constexpr int W = WIDTH<T>, AT_ONCE = 8 / ROWS;  // columns: eight sums keep the multiply-add units busy
    const auto some = [&](std::int64_t j, auto count) {
        constexpr int COUNT = decltype(count)::value;
        Vector<T> sums[COUNT][ROWS] = {};
        std::int64_t p = 0;
        for (; p + W <= depth; p += W) {
#pragma GCC unroll 8
            for (int k = 0; k < COUNT; ++k) {
                const Vector<T> column = load(b.data + (j + k) * b.row_step + p);
#pragma GCC unroll 8
                for (int r = 0; r < ROWS; ++r) sums[k][r] += column * load(a.data + r * a.row_step + p);
            }
        }
#pragma GCC unroll 8
        for (int k = 0; k < COUNT; ++k) {
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; ++r) {
                T total = add ? c[r * c_step + j + k] : T(0);
                for (int i = 0; i < W; ++i) total += sums[k][r][i];
                for (std::int64_t q = p; q < depth; ++q) {
                    total += a.data[r * a.row_step + q] * b.data[(j + k) * b.row_step + q];
                }
                c[r * c_step + j + k] = total;
            }
        }
    };
    std::int64_t j = 0;
    for (; j + AT_ONCE <= columns; j += AT_ONCE) some(j, std::integral_constant<int, AT_ONCE>{});
    for (; j < columns; ++j) some(j, std::integral_constant<int, 1>{});
}

template <typename T>
void multiply_packed(const T* a, const T* b, std::int64_t rows, std::int64_t columns, std::int64_t depth, T* c,
                     std::int64_t c_step, bool add) {
    multiply_tiles(panels_of(a, depth), [=](std::int64_t j, std::int64_t) { return PackedStrip<T>{b + j * depth}; },
                   rows, columns, depth, c, c_step, add);
}
KERNEL(multiply_packed)

template <typename T>
void multiply_lying(Factor<T> a, const T* b, std::int64_t rows, std::int64_t columns, std::int64_t depth, T* c,
                    std::int64_t c_step, bool add) {
    multiply_tiles(lying(a), [=](std::int64_t j, std::int64_t) { return PackedStrip<T>{b + j * depth}; }, rows, columns,
                   depth, c, c_step, add);
}
KERNEL(multiply_lying)

template <typename T>
void multiply_prepared(const T* a, const T* b, const T* then, std::int64_t rows, std::int64_t columns,
                       std::int64_t depth, T* c, std::int64_t c_step, bool add) {
    multiply_by_prepared(panels_of(a, depth), b, then, rows, columns, depth, c, c_step, add);
}
KERNEL(multiply_prepared)

template <typename T>
void multiply_lying_prepared(Factor<T> a, const T* b, const T* then, std::int64_t rows, std::int64_t columns,
                             std::int64_t depth, T* c, std::int64_t c_step, bool add) {
    multiply_by_prepared(lying(a), b, then, rows, columns, depth, c, c_step, add);
}
KERNEL(multiply_lying_prepared)

constexpr std::int64_t STRIPS_AHEAD = 3;  // of B, fetched while one is worked on

template <typename T>
void multiply_strips(const T* a, Factor<T> b, std::int64_t rows, std::int64_t columns, std::int64_t depth, T* c,
                     std::int64_t c_step, bool add, T* room) {
    constexpr int W = Tile<T>::COLUMNS;
    const auto left_of = panels_of(a, depth);
    const std::int64_t whole = columns / W * W;
    multiply_tiles(
        left_of,
        [=](std::int64_t j, std::int64_t) {
            // After the last strip come the first ones of the rows below.
            const bool is_last = j + STRIPS_AHEAD * W >= whole;
            return Strip<T>{b.data + j, b.depth_step, STRIPS_AHEAD * W + (is_last ? depth * b.depth_step - whole : 0)};
        },
        rows, whole, depth, c, c_step, add);
    if (whole < columns) {
        pack_panel<W>(from(b, whole, 0), columns - whole, depth, room);
        multiply_tiles(left_of, [=](std::int64_t, std::int64_t) { return PackedStrip<T>{room}; }, rows, columns - whole,
                       depth, c + whole, c_step, add);
    }
}
KERNEL(multiply_strips)

template <typename T>
void multiply_vectors(Factor<T> a, Factor<T> b, std::int64_t rows, std::int64_t columns, std::int64_t depth, T* c,
                      std::int64_t c_step, bool add) {
    static_assert(FEW_ROWS == 4);
    if (rows == 1) multiply_few<1>(a, b, columns, depth, c, c_step, add);
    if (rows == 2) multiply_few<2>(a, b, columns, depth, c, c_step, add);
    if (rows == 3) multiply_few<3>(a, b, columns, depth, c, c_step, add);
    if (rows == 4) multiply_few<4>(a, b, columns, depth, c, c_step, add);
}
KERNEL(multiply_vectors)

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
