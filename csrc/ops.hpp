// The ops in C++, under the names they have in pyroberta/ops, as a table: the twin of `Ops` in Python.
//
// Nothing here knows Python: bind.cpp checks and calls. Arrays are contiguous, row after row, and what is written does not
// overlap anything else. Each instruction set fills the table for float and for double (table.cpp).
#pragma once

#include <cstdint>
#include <string>

namespace pyroberta {

// One factor of a product: vectors of numbers, number p of vector i at data[i·row_step + p·depth_step]; one of the two
// steps is 1. For the left factor a vector is a row, for the right one a column.
template <typename T>
struct Factor {
    const T* data;
    std::int64_t row_step, depth_step;
};

// The matrix at `data`, with m columns, as a factor whose vectors are its rows, or its columns.
template <typename T>
inline __attribute__((always_inline)) Factor<T> rows_of(const T* data, std::int64_t m) {
    return {data, m, 1};
}
template <typename T>
inline __attribute__((always_inline)) Factor<T> columns_of(const T* data, std::int64_t m) {
    return {data, 1, m};
}

// The matrix of a linear layer, (in, out): as it lies, or as `prepare` wrote it.
template <typename T>
struct Kernel {
    const T* data;
    bool is_prepared;
};

// Where dropout draws its mask: the key's two words, and the rate. rate 0 leaves everything.
struct DropoutKey {
    double rate;
    std::uint64_t key_0, key_1;
};

// Which part of the mask each row meets: row n of C numbers is row positions[n] of stream numbers[n]. Not read at rate 0.
struct MaskRows {
    const std::uint64_t* numbers;   // (N,) of the row's sequence
    const std::int32_t* positions;  // (N,) in it
};

template <typename T>
struct Ops {
    // c = a b, or c += a b
    void (*gemm)(Factor<T> a, Factor<T> b, std::int64_t rows, std::int64_t columns, std::int64_t depth,
                 T* c,  // (rows, columns)
                 bool add);

    // How many numbers `prepare` writes for a matrix of so many columns and rows.
    std::int64_t (*prepared_size)(std::int64_t O, std::int64_t I);

    // A copy in the order in which products read it, for a matrix that stays the same over many of them.
    void (*prepare)(const T* kernel,  // (I, O)
                    std::int64_t I, std::int64_t O,
                    T* prepared);  // (prepared_size(O, I),)

    // y = x kernel + bias
    void (*linear_forward)(const T* x,        // (N, I)
                           Kernel<T> kernel,  // (I, O)
                           const T* bias,     // (O,)
                           std::int64_t N, std::int64_t I, std::int64_t O,
                           T* y);  // (N, O)

    // sums = Σ_n x_n
    void (*column_sums)(const T* x,  // (N, C)
                        std::int64_t N, std::int64_t C,
                        T* sums);  // (C,)

    void (*gelu_forward)(const T* x, std::int64_t size, T* y, T* slope);  // (size,) each; slope = dy/dx

    // f = x kernel + bias, the input of GELU;  g = gelu(f)
    void (*expand_forward)(const T* x,        // (N, I)
                           Kernel<T> kernel,  // (I, F)
                           const T* bias,     // (F,)
                           std::int64_t N, std::int64_t I, std::int64_t F,
                           T* f,   // (N, F)
                           T* g);  // (N, F)

    // The way back through the second product of the feed-forward and GELU: df = (dh kernelᵀ) · gelu'(f); and f becomes
    // g = gelu(f), which is made again.
    void (*expand_backward)(const T* dh,      // (N, O)
                            const T* kernel,  // (F, O), the second product's
                            std::int64_t N, std::int64_t F, std::int64_t O,
                            T* f,    // (N, F) in place
                            T* df);  // (N, F)

    void (*layer_norm_forward)(const T* x,  // (N, C)
                               const T* gamma, const T* beta,  // (C,)
                               double epsilon, std::int64_t N, std::int64_t C,
                               T* y,             // (N, C)
                               T* x_hat,         // (N, C)
                               T* inverse_std);  // (N,)

    // x̂ from layer norm's output, (y - beta) / gamma
    void (*x_hat_of)(const T* y, const T* gamma, const T* beta,  // (N, C), (C,)
                     std::int64_t N, std::int64_t C,
                     T* x_hat);  // (N, C)

    // dx, and with `dropout` also dh = dx · keep / (1 - rate)
    void (*layer_norm_backward)(const T* dy, const T* x_hat,  // (N, C)
                                const T* inverse_std,         // (N,)
                                const T* gamma,               // (C,)
                                std::int64_t N, std::int64_t C,
                                const DropoutKey* dropout,    // nullptr for none
                                MaskRows mask,
                                T* dx, T* dh,           // (N, C); dh only with dropout
                                T* dgamma, T* dbeta);      // (C,)

    // y = layer norm of x + dropout(h)
    void (*add_norm_forward)(const T* h, const T* x,         // (N, C)
                             const T* gamma, const T* beta,  // (C,)
                             double epsilon, std::int64_t N, std::int64_t C, DropoutKey dropout,
                             MaskRows mask,
                             T* y,             // (N, C)
                             T* x_hat,         // (N, C)
                             T* inverse_std);  // (N,)

    // y = x · keep / (1 - rate); backward is the same on dy
    void (*dropout)(const T* x, std::int64_t N, std::int64_t C, DropoutKey dropout, MaskRows mask, T* y);

    void (*embedding_forward)(const std::int32_t* ids, const std::int32_t* positions,  // (N,)
                              const T* tokens, const T* rows,                          // (V, C), (T, C)
                              std::int64_t N, std::int64_t C,
                              T* y);  // (N, C)

    void (*gather_forward)(const T* x, const std::int32_t* rows,  // (N, C), (M,)
                           std::int64_t M, std::int64_t C,
                           T* y);  // (M, C)

    // x[rows[m]] += dy[m], in the order of m
    void (*scatter_add)(const T* dy, const std::int32_t* rows,  // (M, C), (M,)
                        std::int64_t M, std::int64_t C,
                        T* x);  // (N, C) in place

    // y = dropout(softmax(q kᵀ / √D)) v, per sequence and head
    void (*attention_forward)(const T* q,                                // (R, C)
                              const T* k, const T* v,                    // (N, C)
                              const std::int32_t* starts, std::int64_t B,  // (B+1,)
                              const std::int32_t* rows, std::int64_t R,    // (R,) those with a query; nullptr: all
                              std::int64_t H, std::int64_t D, DropoutKey dropout,
                              const std::uint64_t* numbers,  // (B,) each sequence's stream
                              T* y,                 // (R, C)
                              T* maxima, T* sums);  // (R, H) of each row's scores: the largest, Σ exp(score - largest)

    void (*attention_backward)(const T* dy, const T* q, const T* k, const T* v, const T* y, const T* maxima, const T* sums,
                               const std::int32_t* starts, std::int64_t B, const std::int32_t* rows, std::int64_t R,
                               std::int64_t H, std::int64_t D, DropoutKey dropout, const std::uint64_t* numbers,
                               T* dq,           // (R, C)
                               T* dk, T* dv);   // (N, C)

    // losses, the most likely ids, log Σ exp(z), and the logits z themselves
    void (*cross_entropy_forward)(const T* h, const T* table, const T* bias,  // (M, C), (V, C), (V,)
                                  const std::int32_t* labels,                 // (M,)
                                  std::int64_t M, std::int64_t V, std::int64_t C,
                                  T* losses,                // (M,)
                                  std::int64_t* predicted,  // (M,)
                                  T* log_sums,              // (M,)
                                  T* z);                    // (M, V)

    // z = h tableᵀ + bias
    void (*logits)(const T* h, const T* table, const T* bias, std::int64_t M, std::int64_t V, std::int64_t C,
                   T* z);  // (M, V)

    // dz = dloss · (exp(z - log_sum) - onehot(label)), in place of z
    void (*cross_entropy_slopes)(T* z,  // (M, V) in place
                                 const T* dlosses, const T* log_sums, const std::int32_t* labels,  // (M,)
                                 std::int64_t M, std::int64_t V);

    // Σ x², in double
    double (*squared_norm)(const T* x, std::int64_t size);

    // w -= w · decay;  m += (g·scale - m)(1 - β₁);  v += ((g·scale)² - v)(1 - β₂);  w -= learning_rate · m / (√v + epsilon)
    void (*adam_step)(T* w, const T* g, T* m, T* v,  // (P,) each; w, m, v in place
                      std::int64_t P, double learning_rate, double beta_1, double beta_2, double epsilon, double scale,
                      double decay);
};

struct InstructionSet {
    const char* name;
    Ops<float> singles;
    Ops<double> doubles;
};

// The widest that this machine has, or the one that the environment variable PYROBERTA_ISA names.
// Throws std::runtime_error where that is not there.
const InstructionSet& instruction_set();

// The names of those that this machine and build have, with ", " between them, the widest first.
std::string instruction_sets();

}  // namespace pyroberta
