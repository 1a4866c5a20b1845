// The list of the ops in C++: of each its name, what it returns, and its parameters with their shapes. They are listed
// nowhere else.
//
// Who makes something of the list defines OP(result, name, parameters) and includes this file, which undefines OP at
// its end. So it has no include guard. What is made of an entry:
//
//   runtime/dispatch.hpp  the member `name` of the table Ops<T>
//   kernels/kernel.hpp    the declaration of the kernel, a template of that name and type in each instruction set
//   kernels/table.cpp     the member's value in each instruction set: the kernel of that name
//   bind/binding.hpp      the type op::name, by which a binding calls the op, and the declaration of its binding
//   bind/module.cpp       the call that tells Python of the binding, and the name in `_native.OPS`
//
// An entry without a kernel, or without a binding, is an error of the linker; a kernel of another type, one of the
// compiler. Nothing here knows Python. Where pyroberta/ops has the op, it has the same name here.
//
// T is float or double. Arrays are contiguous, row after row, and what is written does not overlap anything else. The
// letters are those of docs/glossary.md; types.hpp explains Factor, Kernel, DropoutKey and MaskRows.
#ifndef OP
#error "define OP(result, name, parameters) before including the list of the ops"
#endif

// --- products of matrices ---------------------------------------------------------------------------------------------

// c = a b, or c += a b
OP(void, gemm,
   (Factor<T> a, Factor<T> b, std::int64_t rows, std::int64_t columns, std::int64_t depth,
    T* c,  // (rows, columns)
    bool accumulate))

// A copy in the order in which products read it, for a matrix that stays the same over many of them. Returns how many
// numbers the copy has; without `prepared` that is all it does.
OP(std::int64_t, prepare,
   (const T* kernel,  // (I, O)
    std::int64_t I, std::int64_t O,
    T* prepared))  // nullptr, or room for the copy

// y = x kernel + bias
OP(void, linear_forward,
   (const T* x,        // (N, I)
    Kernel<T> kernel,  // (I, O)
    const T* bias,     // (O,)
    std::int64_t N, std::int64_t I, std::int64_t O,
    T* y))  // (N, O)

// sums = Σ_n x_n
OP(void, column_sums,
   (const T* x,  // (N, C)
    std::int64_t N, std::int64_t C,
    T* sums))  // (C,)

// y = gelu(x), slope = dy/dx
OP(void, gelu_forward,
   (const T* x,  // (size,)
    std::int64_t size,
    T* y, T* slope))  // (size,)

// The first half of the feed-forward: f = x kernel + bias, the input of GELU;  g = gelu(f)
OP(void, expand_forward,
   (const T* x,        // (N, I)
    Kernel<T> kernel,  // (I, F)
    const T* bias,     // (F,)
    std::int64_t N, std::int64_t I, std::int64_t F,
    T* f,   // (N, F)
    T* g))  // (N, F)

// The way back through the second product of the feed-forward and GELU: df = (dh kernelᵀ) · gelu'(f); and f becomes
// g = gelu(f), which is made again.
OP(void, expand_backward,
   (const T* dh,      // (N, O)
    const T* kernel,  // (F, O), the second product's
    std::int64_t N, std::int64_t F, std::int64_t O,
    T* f,    // (N, F) in place
    T* df))  // (N, F)

// --- norms and dropout ------------------------------------------------------------------------------------------------

// y = gamma · x̂ + beta, where x̂ = (x - mean) · inverse_std, row by row
OP(void, layer_norm_forward,
   (const T* x,                     // (N, C)
    const T* gamma, const T* beta,  // (C,)
    double epsilon, std::int64_t N, std::int64_t C,
    T* y,             // (N, C)
    T* x_hat,         // (N, C)
    T* inverse_std))  // (N,)

// x̂ from layer norm's output, (y - beta) / gamma
OP(void, x_hat_of,
   (const T* y,                     // (N, C)
    const T* gamma, const T* beta,  // (C,)
    std::int64_t N, std::int64_t C,
    T* x_hat))  // (N, C)

// dx, and with `key` also dh = dx · keep / (1 - rate)
OP(void, layer_norm_backward,
   (const T* dy, const T* x_hat,  // (N, C)
    const T* inverse_std,         // (N,)
    const T* gamma,               // (C,)
    std::int64_t N, std::int64_t C,
    const DropoutKey* key,  // nullptr: no dropout
    MaskRows mask,          // of N rows
    T* dx, T* dh,           // (N, C); dh only with dropout
    T* dgamma, T* dbeta))   // (C,)

// y = layer norm of x + dropout(h)
OP(void, add_norm_forward,
   (const T* h, const T* x,         // (N, C)
    const T* gamma, const T* beta,  // (C,)
    double epsilon, std::int64_t N, std::int64_t C, DropoutKey key,
    MaskRows mask,    // of N rows
    T* y,             // (N, C)
    T* x_hat,         // (N, C)
    T* inverse_std))  // (N,)

// y = x · keep / (1 - rate); backward is the same on dy
OP(void, dropout,
   (const T* x,  // (N, C)
    std::int64_t N, std::int64_t C, DropoutKey key,
    MaskRows mask,  // of N rows
    T* y))          // (N, C)

// --- rows by number ---------------------------------------------------------------------------------------------------

// y_n = tokens[ids_n] + rows[positions_n]
OP(void, embedding_forward,
   (const std::int32_t* ids, const std::int32_t* positions,  // (N,)
    const T* tokens,                                         // (V, C)
    const T* rows,                                           // (T, C)
    std::int64_t N, std::int64_t C,
    T* y))  // (N, C)

// y_m = x[rows_m]
OP(void, gather_forward,
   (const T* x,                // (N, C)
    const std::int32_t* rows,  // (M,)
    std::int64_t M, std::int64_t C,
    T* y))  // (M, C)

// x[rows_m] += dy_m, in the order of m
OP(void, scatter_add,
   (const T* dy,               // (M, C)
    const std::int32_t* rows,  // (M,)
    std::int64_t M, std::int64_t C,
    T* x))  // (N, C) in place

// --- attention --------------------------------------------------------------------------------------------------------

// y = dropout(softmax(q kᵀ / √D)) v, per sequence and head; maxima and sums are those of each row of scores: the largest
// one, and Σ exp(score - largest)
OP(void, attention_forward,
   (const T* q,                                      // (R, C)
    const T* k, const T* v,                          // (N, C)
    const std::int32_t* starts, std::int64_t B,      // (B+1,)
    const std::int32_t* query_rows, std::int64_t R,  // (R,) rising; nullptr: all N
    std::int64_t H, std::int64_t D, DropoutKey key,  // C = H · D
    const std::uint64_t* numbers,                    // (B,) each sequence's stream
    T* y,                                            // (R, C)
    T* maxima, T* sums))                             // (R, H)

// dq, dk, dv from dy and from forward's arguments and results
OP(void, attention_backward,
   (const T* dy, const T* q,                         // (R, C)
    const T* k, const T* v,                          // (N, C)
    const T* y,                                      // (R, C)
    const T* maxima, const T* sums,                  // (R, H)
    const std::int32_t* starts, std::int64_t B,      // (B+1,)
    const std::int32_t* query_rows, std::int64_t R,  // (R,) rising; nullptr: all N
    std::int64_t H, std::int64_t D, DropoutKey key,  // C = H · D
    const std::uint64_t* numbers,                    // (B,) each sequence's stream
    T* dq,                                           // (R, C)
    T* dk, T* dv))                                   // (N, C)

// --- the loss ---------------------------------------------------------------------------------------------------------

// z = h tableᵀ + bias
OP(void, logits,
   (const T* h,      // (M, C)
    const T* table,  // (V, C)
    const T* bias,   // (V,)
    std::int64_t M, std::int64_t V, std::int64_t C,
    T* z))  // (M, V)

// losses, the most likely ids, log Σ exp(z), and the logits z themselves
OP(void, cross_entropy_forward,
   (const T* h,                  // (M, C)
    const T* table,              // (V, C)
    const T* bias,               // (V,)
    const std::int32_t* labels,  // (M,)
    std::int64_t M, std::int64_t V, std::int64_t C,
    T* losses,                // (M,)
    std::int64_t* predicted,  // (M,)
    T* log_sums,              // (M,)
    T* z))                    // (M, V)

// dz = dloss · (exp(z - log_sum) - onehot(label)), in place of z
OP(void, cross_entropy_slopes,
   (T* z,                                                             // (M, V) in place
    const T* dlosses, const T* log_sums, const std::int32_t* labels,  // (M,)
    std::int64_t M, std::int64_t V))

// --- the update -------------------------------------------------------------------------------------------------------

// Σ x², in double
OP(double, squared_norm,
   (const T* x,  // (size,)
    std::int64_t size))

// w -= w · decay;  m += (g·scale - m)(1 - β₁);  v += ((g·scale)² - v)(1 - β₂);  w -= learning_rate · m / (√v + epsilon)
OP(void, adam_step,
   (T* w, const T* g, T* m, T* v,  // (P,); w, m, v in place
    std::int64_t P, double learning_rate, double beta_1, double beta_2, double epsilon, double scale, double decay))

#undef OP
