// The list of the ops in C++: of each its name, what it returns, and its parameters. They are listed nowhere else.
//
// Who makes something of the list defines OP(result, name, parameters) and includes this file, which undefines OP at
// its end. So it has no include guard. What is made of an entry:
//
//   runtime/dispatch.hpp  the member `name` of the table Ops<T>
//   kernels/kernel.hpp    the declaration of the kernel, a template of that name and type in each instruction set
//   kernels/table.cpp     the member's value in each instruction set: the kernel of that name
//   bind/binding.hpp      the type op::name, by which a binding calls the op; the binding
//   bind/module.cpp       the name in `_native.OPS`
//
// A binding takes what the op reads or changes, in the order of the entry, and returns what the op fills. It is written
// by hand, bind_name, only where a parameter has a type that bind/checked.hpp does not have.
//
// An entry without a kernel, or without a binding that must be written, is an error of the linker; a kernel of another
// type, one of the compiler. Nothing here knows Python. Where pyroberta/ops has the op, it has the same name here.
//
// T is float or double. types.hpp has the types. Arrays are contiguous, row after row, and what is written does not
// overlap anything else. An Extent comes after the arrays that it belongs to, row numbers after the array of the rows.
#ifndef OP
#error "define OP(result, name, parameters) before including the list of the ops"
#endif

// --- products of matrices ---------------------------------------------------------------------------------------------

// out = a b, or out += a b
OP(void, gemm,
   (LeftFactor<T, 'N', 'I'> a, RightFactor<T, 'I', 'O'> b, Extent<'N'> N, Extent<'I'> I, Extent<'O'> O,
    InPlace<T, 'N', 'O'> out, bool accumulate))

// The same into a fresh array
OP(void, matmul,
   (LeftFactor<T, 'N', 'I'> a, RightFactor<T, 'I', 'O'> b, Extent<'N'> N, Extent<'I'> I, Extent<'O'> O,
    Out<T, 'N', 'O'> y))

// A copy in the order in which products read it, for a matrix that stays the same over many of them. Returns how many
// numbers the copy has; without `prepared` that is all it does.
OP(std::int64_t, prepare,
   (In<T, 'I', 'O'> kernel, Extent<'I'> I, Extent<'O'> O,
    T* prepared))  // nullptr, or room for the copy

// y = x kernel + bias
OP(void, linear_forward,
   (In<T, 'N', 'I'> x, KernelIn<T, 'I', 'O'> kernel, In<T, 'O'> bias, Extent<'N'> N, Extent<'I'> I, Extent<'O'> O,
    Out<T, 'N', 'O'> y))

// sums = Σ_n x_n
OP(void, column_sums, (In<T, 'N', 'C'> x, Extent<'N'> N, Extent<'C'> C, Out<T, 'C'> sums))

// y = gelu(x), slope = dy/dx
OP(void, gelu_forward,
   (In<T, 'N', 'F'> x, Extent<'N'> N, Extent<'F'> F, Out<T, 'N', 'F'> y, Out<T, 'N', 'F'> slope))

// The first half of the feed-forward: f = x kernel + bias, the input of GELU;  g = gelu(f)
OP(void, expand_forward,
   (In<T, 'N', 'I'> x, KernelIn<T, 'I', 'F'> kernel, In<T, 'F'> bias, Extent<'N'> N, Extent<'I'> I, Extent<'F'> F,
    Out<T, 'N', 'F'> f, Out<T, 'N', 'F'> g))

// The way back through the second product of the feed-forward, whose kernel it is, and GELU: df = (dh kernelᵀ) · gelu'(f);
// and f becomes g = gelu(f), which is made again.
OP(void, expand_backward,
   (In<T, 'N', 'O'> dh, In<T, 'F', 'O'> kernel, InPlace<T, 'N', 'F'> f, Extent<'N'> N, Extent<'F'> F, Extent<'O'> O,
    Out<T, 'N', 'F'> df))

// --- norms and dropout ------------------------------------------------------------------------------------------------

// y = gamma · x̂ + beta, where x̂ = (x - mean) · inverse_std, row by row
OP(void, layer_norm_forward,
   (In<T, 'N', 'C'> x, In<T, 'C'> gamma, In<T, 'C'> beta, double epsilon, Extent<'N'> N, Extent<'C'> C,
    Out<T, 'N', 'C'> y, Out<T, 'N', 'C'> x_hat, Out<T, 'N'> inverse_std))

// x̂ from layer norm's output, (y - beta) / gamma
OP(void, x_hat_of,
   (In<T, 'N', 'C'> y, In<T, 'C'> gamma, In<T, 'C'> beta, Extent<'N'> N, Extent<'C'> C, Out<T, 'N', 'C'> x_hat))

// dx, and with `key` also dh = dx · keep / (1 - rate)
OP(void, layer_norm_backward,
   (In<T, 'N', 'C'> dy, In<T, 'N', 'C'> x_hat, In<T, 'N'> inverse_std, In<T, 'C'> gamma, Extent<'N'> N, Extent<'C'> C,
    const DropoutKey* key,  // nullptr: no dropout
    MaskRows mask,          // of N rows
    Out<T, 'N', 'C'> dx,
    Out<T, 'N', 'C'> dh,  // only with dropout
    Out<T, 'C'> dgamma, Out<T, 'C'> dbeta))

// y = layer norm of x + dropout(h)
OP(void, add_norm_forward,
   (In<T, 'N', 'C'> h, In<T, 'N', 'C'> x, In<T, 'C'> gamma, In<T, 'C'> beta, double epsilon, Extent<'N'> N,
    Extent<'C'> C, DropoutKey key,
    MaskRows mask,  // of N rows
    Out<T, 'N', 'C'> y, Out<T, 'N', 'C'> x_hat, Out<T, 'N'> inverse_std))

// y = x · keep / (1 - rate); backward is the same on dy
OP(void, dropout,
   (In<T, 'N', 'C'> x, Extent<'N'> N, Extent<'C'> C, DropoutKey key,
    MaskRows mask,  // of N rows
    Out<T, 'N', 'C'> y))

// --- rows by number ---------------------------------------------------------------------------------------------------

// y_n = tokens[ids_n] + position_rows[positions_n]
OP(void, embedding_forward,
   (In<T, 'V', 'C'> tokens, In<T, 'T', 'C'> position_rows, RowNumbers<'N', 'V'> ids,
    RowNumbers<'N', 'T'> positions, Extent<'N'> N, Extent<'C'> C, Out<T, 'N', 'C'> y))

// y_m = x[rows_m]
OP(void, gather_forward,
   (In<T, 'N', 'C'> x, RowNumbers<'M', 'N'> rows, Extent<'M'> M, Extent<'C'> C, Out<T, 'M', 'C'> y))

// x[rows_m] += dy_m, in the order of m
OP(void, scatter_add,
   (InPlace<T, 'N', 'C'> x, RowNumbers<'M', 'N'> rows, In<T, 'M', 'C'> dy, Extent<'M'> M, Extent<'C'> C))

// --- attention --------------------------------------------------------------------------------------------------------

// y = dropout(softmax(q kᵀ / √D)) v, per sequence and head; maxima and sums are those of each row of scores: the largest
// one, and Σ exp(score - largest)
OP(void, attention_forward,
   (In<T, 'R', 'C'> q, In<T, 'N', 'C'> k, In<T, 'N', 'C'> v,
    Starts<'B', 'N'> starts, Extent<'B'> B, ChosenRows<'R', 'N'> query_rows, Extent<'R'> R, Extent<'H'> H,
    Extent<'D'> D, DropoutKey key,
    const std::uint64_t* numbers,  // (B,) each sequence's stream
    Out<T, 'R', 'C'> y, Out<T, 'R', 'H'> maxima, Out<T, 'R', 'H'> sums))

// dq, dk, dv from dy and from forward's arguments and results
OP(void, attention_backward,
   (In<T, 'R', 'C'> dy, In<T, 'R', 'C'> q, In<T, 'N', 'C'> k, In<T, 'N', 'C'> v, In<T, 'R', 'C'> y,
    In<T, 'R', 'H'> maxima, In<T, 'R', 'H'> sums,
    Starts<'B', 'N'> starts, Extent<'B'> B, ChosenRows<'R', 'N'> query_rows, Extent<'R'> R, Extent<'H'> H,
    Extent<'D'> D, DropoutKey key,
    const std::uint64_t* numbers,  // (B,) each sequence's stream
    Out<T, 'R', 'C'> dq, Out<T, 'N', 'C'> dk, Out<T, 'N', 'C'> dv))

// --- the loss ---------------------------------------------------------------------------------------------------------

// z = h tableᵀ + bias
OP(void, logits,
   (In<T, 'M', 'C'> h, In<T, 'V', 'C'> table, In<T, 'V'> bias, Extent<'M'> M, Extent<'V'> V, Extent<'C'> C,
    Out<T, 'M', 'V'> z))

// losses, the most likely ids, log Σ exp(z), and the logits z themselves
OP(void, cross_entropy_forward,
   (In<T, 'M', 'C'> h, In<T, 'V', 'C'> table, In<T, 'V'> bias, RowNumbers<'M', 'V'> labels, Extent<'M'> M,
    Extent<'V'> V, Extent<'C'> C, Out<T, 'M'> losses, Out<std::int64_t, 'M'> predicted, Out<T, 'M'> log_sums,
    Out<T, 'M', 'V'> z))

// dz = dloss · (exp(z - log_sum) - onehot(label)), in place of z
OP(void, cross_entropy_slopes,
   (InPlace<T, 'M', 'V'> z, In<T, 'M'> dlosses, In<T, 'M'> log_sums, RowNumbers<'M', 'V'> labels, Extent<'M'> M,
    Extent<'V'> V))

// --- the update -------------------------------------------------------------------------------------------------------

// Σ x², in double
OP(double, squared_norm, (In<T, 'P'> x, Extent<'P'> P))

// w -= w · decay;  m += (g·scale - m)(1 - β₁);  v += ((g·scale)² - v)(1 - β₂);  w -= learning_rate · m / (√v + epsilon)
OP(void, adam_step,
   (InPlace<T, 'P'> w, In<T, 'P'> g, InPlace<T, 'P'> m, InPlace<T, 'P'> v, Extent<'P'> P, double learning_rate,
    double beta_1, double beta_2, double epsilon, double scale, double decay))

#undef OP
