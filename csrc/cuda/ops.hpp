// The list of the ops in CUDA, as csrc/ops.hpp is that of the ops in C++: of each its name and its parameters with their
// shapes. They are listed nowhere else.
//
// Who makes something of the list defines OP(name, parameters) and includes this file, which undefines OP at its end. So
// it has no include guard. What is made of an entry:
//
//   launchers.hpp        the declaration of the launcher, which is defined in <op>.cu
//   bind/binding.hpp     the type op::name, by which a binding calls the launcher, and the declaration of the binding
//   bind/module.cpp      the call that tells Python of the binding, and the name in `_cuda.OPS`
//
// A launcher takes a Context& before the parameters. Arrays are on its device, contiguous, row after row, and what is
// written does not overlap anything else. A launcher puts its kernels into the context's stream and does not wait for
// them. Results do not depend on the order of blocks and threads: sums have a fixed order. The letters are those of
// docs/glossary.md; types.hpp explains Number. Where pyroberta/ops has the op, it has the same name here.
#ifndef OP
#error "define OP(name, parameters) before including the list of the ops"
#endif

// --- arrays -----------------------------------------------------------------------------------------------------------

// x = value
OP(fill, (float* x,  // (size,)
          std::int64_t size, float value))

// z = x + y
OP(add, (const float* x, const float* y,  // (size,)
         std::int64_t size,
         float* z))  // (size,)

// target = source
OP(copy, (float* target, const float* source,  // (size,)
          std::int64_t size))

// largest = max(largest, x); NaN stays
OP(maximum, (float* largest, const float* x,  // (size,)
             std::int64_t size))

// x is brought into [-limit, limit]; NaN stays
OP(clip, (float* x,  // (size,)
          std::int64_t size, float limit))

// mean = keep · mean + others · x
OP(running_mean, (float* mean, const float* x,  // (P,)
                  std::int64_t P, float keep, float others))

// is_finite = 0 if a number of x is NaN or infinite; else it stays
OP(clear_unless_finite, (const float* x,  // (size,)
                         std::int64_t size, std::int32_t* is_finite))

// --- scalars: numbers that one row gives to another, in float64 -------------------------------------------------------

// z = x + y
OP(add_scalars, (const double* x, const double* y, double* z))

// square = Σ x²
OP(squared_norm, (const float* x,  // (P,)
                  std::int64_t P, double* square))

// scale = limit / √square if √square is above limit, else 1
OP(clip_scale, (const double* square, double limit, double* scale))

// --- functions of single numbers --------------------------------------------------------------------------------------

// y = tanh(x)
OP(tanh_forward, (const float* x,  // (size,)
                  std::int64_t size, float* y))

// dx = dy · (1 - y²)
OP(tanh_backward, (const float* dy, const float* y,  // (size,)
                   std::int64_t size, float* dx))

// y = gelu(x), with the error function
OP(gelu_forward, (const float* x,  // (size,)
                  std::int64_t size, float* y))

// dx = dy · gelu'(x)
OP(gelu_backward, (const float* dy, const float* x,  // (size,)
                   std::int64_t size, float* dx))

// --- norms and dropout ------------------------------------------------------------------------------------------------

// y = gamma · x̂ + beta, where x̂ = (s - mean) · inverse_std, row by row. s is x without h, else x + dropout(h).
OP(add_norm_forward, (const float* h,                   // (N, C), nullptr: none
                      const float* x,                   // (N, C)
                      const float* gamma, const float* beta,  // (C,)
                      float epsilon, std::int64_t N, std::int64_t C, DropoutKey key,
                      MaskRows mask,                    // of N rows
                      float* y, float* x_hat,           // (N, C)
                      float* inverse_std))              // (N,)

// dx, and with dropout also dh = dx · keep / (1 - rate)
OP(add_norm_backward, (const float* dy, const float* x_hat,  // (N, C)
                       const float* inverse_std,             // (N,)
                       const float* gamma,                   // (C,)
                       std::int64_t N, std::int64_t C, DropoutKey key,
                       MaskRows mask,                        // of N rows
                       float* dx, float* dh,                 // (N, C); dh only with dropout
                       float* dgamma, float* dbeta))         // (C,)

// y = x · keep / (1 - rate); backward is the same on dy
OP(dropout, (const float* x,  // (N, C)
             std::int64_t N, std::int64_t C, DropoutKey key,
             MaskRows mask,  // of N rows
             float* y))      // (N, C)

// --- rows by number ---------------------------------------------------------------------------------------------------

// y_n = tokens[ids_n] + position_rows[positions_n]
OP(embedding_forward, (const float* tokens,                              // (V, C)
                       const float* position_rows,                       // (T, C)
                       const std::int32_t* ids, const std::int32_t* positions,  // (N,)
                       std::int64_t N, std::int64_t C,
                       float* y))                                        // (N, C)

// y_m = x[rows_m]
OP(gather_forward, (const float* x,            // (N, C)
                    const std::int32_t* rows,  // (M,)
                    std::int64_t M, std::int64_t C,
                    float* y))                 // (M, C)

// x[targets_u] += Σ_m dy_m over the m = order_k with k in [firsts_u, firsts_(u+1)), in the order of k. No row is a
// target twice.
OP(scatter_add, (float* x,                     // (N, C)
                 const std::int32_t* targets,  // (U,)
                 const std::int32_t* firsts,   // (U+1,)
                 const std::int32_t* order,    // (M,)
                 const float* dy,              // (M, C)
                 std::int64_t U, std::int64_t C))

// --- products of matrices ---------------------------------------------------------------------------------------------

// y = scale · a b + bias. With `rounds` the numbers of a and b are rounded to bfloat16, and tensor cores multiply them:
// from compute capability 8.0 on.
OP(multiply, (Factor<float> a, Factor<float> b,  // (N, I), (I, O)
              std::int64_t N, std::int64_t I, std::int64_t O, float scale,
              const float* bias,                 // (O,), nullptr: none
              bool rounds,
              float* y))                         // (N, O)

// total += a b
OP(add_product, (Factor<float> a, Factor<float> b,  // (N, I), (I, O)
                 std::int64_t N, std::int64_t I, std::int64_t O, bool rounds,
                 float* total))                     // (N, O)

// sums = Σ_n x_n
OP(column_sums, (const float* x,  // (N, C)
                 std::int64_t N, std::int64_t C,
                 float* sums))    // (C,)

// --- attention --------------------------------------------------------------------------------------------------------

// y = dropout(softmax(q kᵀ / √D)) v, per sequence and head; maxima and sums are those of each row of scores: the
// largest one, and Σ exp(score - largest). D is at most MOST_HEAD_DIM. starts, query_rows and numbers are the host's.
OP(attention_forward, (const float* q,                     // (R, C)
                       const float* k, const float* v,     // (N, C)
                       const std::int32_t* starts,         // (B+1,)
                       std::int64_t B,
                       const std::int32_t* query_rows,     // (R,) rising; nullptr: all N
                       std::int64_t R, std::int64_t H, std::int64_t D, DropoutKey key,
                       const std::uint64_t* numbers,       // (B,) each sequence's stream
                       bool rounds,                        // factors to bfloat16, for tensor cores
                       float* y,                           // (R, C)
                       float* maxima, float* sums))        // (R, H)

// dq, dk, dv from dy and from forward's arguments and results
OP(attention_backward, (const float* dy, const float* q,   // (R, C)
                        const float* k, const float* v,    // (N, C)
                        const float* y,                    // (R, C)
                        const float* maxima, const float* sums,  // (R, H)
                        const std::int32_t* starts,        // (B+1,)
                        std::int64_t B,
                        const std::int32_t* query_rows,    // (R,) rising; nullptr: all N
                        std::int64_t R, std::int64_t H, std::int64_t D, DropoutKey key,
                        const std::uint64_t* numbers,      // (B,) each sequence's stream
                        bool rounds,                       // factors to bfloat16, for tensor cores
                        float* dq,                         // (R, C)
                        float* dk, float* dv))             // (N, C)

// --- the loss ---------------------------------------------------------------------------------------------------------

// losses, the most likely ids, and log Σ exp(z), of the logits z
OP(cross_entropy_forward, (const float* z,                                            // (M, V)
                           const std::int32_t* labels, std::int64_t M, std::int64_t V,  // (M,)
                           float* losses, std::int64_t* predicted, float* log_sums))  // (M,)

// dz = dloss · (exp(z - log_sum) - onehot(label)), in place of z
OP(cross_entropy_slopes, (float* z,                                      // (M, V)
                          const float* dlosses, const float* log_sums,   // (M,)
                          const std::int32_t* labels, std::int64_t M, std::int64_t V))  // (M,)

// --- the update -------------------------------------------------------------------------------------------------------

// total += gradient
OP(accumulate, (float* total, const float* gradient,  // (size,)
                std::int64_t size))

// w -= w · decay;  m += (g·scale - m) · rise_1;  v += ((g·scale)² - v) · rise_2;
// w -= learning_rate · m / (√v + epsilon)
// where rise_1 = 1 - β₁ and rise_2 = 1 - β₂. Nothing changes if is_finite is 0.
OP(adam_step, (float* w, const float* g, float* m, float* v,  // (P,)
               std::int64_t P, float learning_rate, float rise_1, float rise_2, float epsilon, const double* scale,
               float decay, const std::int32_t* is_finite))

#undef OP
