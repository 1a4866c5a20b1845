// The ladders of docs/backends.md: one product of matrices and one attention, from the definition up to csrc/, one idea a
// rung. ladder.py compiles and runs this; each rung's result is compared with the definition's before it is timed. The
// definitions are those of csrc/kernels/plain.hpp.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/kernel.hpp"
#include "kernels/multiply.hpp"
#include "kernels/plain.hpp"

using namespace pyroberta;
using namespace pyroberta::PYROBERTA_ISA;
using Size = std::int64_t;
using Array = std::vector<float>;

namespace {

Array random_array(Size size, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    Array values(size);
    for (float& value : values) value = normal(generator);
    return values;
}

struct Rung {
    std::string name;
    std::function<void(float*)> run;
};

// Best of several, since other work on the machine can only make a run longer; the rungs take turns.
void climb(const char* title, const std::vector<Rung>& rungs, double operations, Size size, float tolerance, int rounds) {
    std::vector<double> best(rungs.size(), 1e30);
    Array wanted(size), found(size);
    rungs[0].run(wanted.data());
    for (int round = 0; round < rounds; ++round) {
        for (std::size_t r = 0; r < rungs.size(); ++r) {
            if (r == 0 && round > 0) continue;  // the definition takes long
            const auto start = std::chrono::steady_clock::now();
            rungs[r].run(found.data());
            best[r] = std::min(best[r], std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
            for (Size i = 0; i < size; ++i) {
                if (!(std::fabs(found[i] - wanted[i]) <= tolerance)) {
                    std::fprintf(stderr, "%s: %s differs at %lld: %g, not %g\n", title, rungs[r].name.c_str(),
                                 static_cast<long long>(i), found[i], wanted[i]);
                    std::exit(1);
                }
            }
        }
    }
    for (std::size_t r = 0; r < rungs.size(); ++r) {
        std::printf("%s\t%s\t%.4f\t%.2f\n", title, rungs[r].name.c_str(), best[r] * 1e3, operations / best[r] / 1e9);
    }
}

// --- y = gelu(x W + b), the first half of roberta-base's feed-forward: x (N, I), W (I, O) ------------------------------

void gelu_pass(float* y, const float* bias, Size N, Size O) {
    for (Size n = 0; n < N; ++n) {
        for (Size o = 0; o < O; ++o) y[n * O + o] = plain::gelu(y[n * O + o] + bias[o]);
    }
}

// Rows of W from end to end: the compiler makes vectors of it, but y goes to memory and back for every row.
void in_rows(const float* x, const float* w, Size N, Size I, Size O, float* y) {
    std::fill_n(y, N * O, 0.0f);
    for (Size n = 0; n < N; ++n) {
        for (Size i = 0; i < I; ++i) {
            const float factor = x[n * I + i];
            for (Size o = 0; o < O; ++o) y[n * O + o] += factor * w[i * O + o];
        }
    }
}

// The same within blocks, so that what is read again is still in the cache.
void blocked(const float* x, const float* w, Size N, Size I, Size O, float* y) {
    constexpr Size DEEP = 64, WIDE = 512;
    std::fill_n(y, N * O, 0.0f);
    for (Size j = 0; j < O; j += WIDE) {
        for (Size p = 0; p < I; p += DEEP) {
            for (Size n = 0; n < N; ++n) {
                for (Size i = p; i < std::min(I, p + DEEP); ++i) {
                    const float factor = x[n * I + i];
                    for (Size o = j; o < std::min(O, j + WIDE); ++o) y[n * O + o] += factor * w[i * O + o];
                }
            }
        }
    }
}

// A row of a tile (16 columns) stays in registers all the way down the depth, and w lies in panels of 16 columns.
void packed(const float* x, const float* w, Size N, Size I, Size O, float* y) {
    constexpr Size COLUMNS = 16;
    Array panel(I * COLUMNS);
    for (Size j = 0; j < O; j += COLUMNS) {
        for (Size i = 0; i < I; ++i) std::copy_n(w + i * O + j, COLUMNS, panel.data() + i * COLUMNS);
        for (Size n = 0; n < N; ++n) {
            Vector<float> sums[COLUMNS / WIDTH<float>] = {};
            for (Size i = 0; i < I; ++i) {
                for (Size c = 0; c < COLUMNS / WIDTH<float>; ++c) {
                    sums[c] += x[n * I + i] * load(&panel[i * COLUMNS + c * WIDTH<float>]);
                }
            }
            for (Size c = 0; c < COLUMNS / WIDTH<float>; ++c) store(y + n * O + j + c * WIDTH<float>, sums[c]);
        }
    }
}

// Six rows at once, so that each number of w that is loaded is used six times; blocks for both caches: kernels/multiply.hpp.

void with_threads(int threads, const std::function<void()>& work) {
    const int before = most_threads();
    set_most_threads(threads);
    work();
    set_most_threads(before);
}

void climb_gemm(int rounds) {
    const Size N = 768, I = 768, O = 3072;  // a multiple of every tile, so that the rungs below stay simple
    const Array x = random_array(N * I, 1), w = random_array(I * O, 2), bias = random_array(O, 3);
    const auto then_gelu = [&](void (*product_of)(const float*, const float*, Size, Size, Size, float*)) {
        return [&, product_of](float* y) {
            product_of(x.data(), w.data(), N, I, O, y);
            gelu_pass(y, bias.data(), N, O);
        };
    };
    const auto ours = [&](float* y) { 
        matmul<float>({rows_of(x.data(), I)}, {columns_of(w.data(), O)}, {N}, {I}, {O}, {y});
     };
    Array f(N * O);
    const std::vector<Rung> rungs = {
        {"naive: the definition",
         [&](float* y) { plain::expand_forward(x.data(), w.data(), bias.data(), N, I, O, f.data(), y); }},
        {"row by row", then_gelu(in_rows)},
        {"blocked for the cache", then_gelu(blocked)},
        {"packed, sums in registers", then_gelu(packed)},
        {"a tile of rows and columns, blocks for two caches (multiply.hpp)",
         [&](float* y) {
             with_threads(1, [&] { ours(y); });
             gelu_pass(y, bias.data(), N, O);
         }},
        {"all threads",
         [&](float* y) {
             ours(y);
             gelu_pass(y, bias.data(), N, O);
         }},
        {"bias and GELU fused into the product (feed_forward.cpp)",
         [&](float* y) {
             expand_forward<float>({x.data()}, {{w.data(), false}}, {bias.data()}, {N}, {I}, {O}, {f.data()}, {y});
         }},
    };
    climb("gemm", rungs, 2.0 * N * I * O, N * O, 2e-3f, rounds);
}

// --- attention of B sequences of S tokens, H heads of D ----------------------------------------------------------------

struct Attention {
    Size B, S, H, D;
    Array q, k, v;
    std::vector<std::int32_t> starts;
    Size C() const { return H * D; }
};

// Two products per head through kernels/multiply.hpp, with the whole matrix of scores between them.
void attention_by_products(const Attention& a, float* y) {
    const Size C = a.C(), S = a.S, D = a.D;
    Array scores(S * S);
    for (Size b = 0; b < a.B; ++b) {
        for (Size h = 0; h < a.H; ++h) {
            const Size at = b * S * C + h * D;
            multiply(Factor<float>{&a.q[at], C, 1}, Factor<float>{&a.k[at], C, 1}, S, S, D, scores.data(), S, false,
                 [](Size, Size, Size, Size) {});
            for (Size i = 0; i < S; ++i) {
                float* row = &scores[i * S];
                const float scale = 1.0f / std::sqrt(static_cast<float>(D));
                const float top = *std::max_element(row, row + S);
                float total = 0;
                for (Size j = 0; j < S; ++j) total += row[j] = std::exp((row[j] - top) * scale);
                for (Size j = 0; j < S; ++j) row[j] /= total;
            }
            multiply(Factor<float>{scores.data(), S, 1}, Factor<float>{&a.v[at], 1, C}, S, D, S, y + at, C, false,
                 [](Size, Size, Size, Size) {});
        }
    }
}

void climb_attention(Size B, Size S, int rounds) {
    Attention a{B, S, 12, 64, {}, {}, {}, {}};
    const Size size = B * S * a.C();
    a.q = random_array(size, 1), a.k = random_array(size, 2), a.v = random_array(size, 3);
    for (Size b = 0; b <= B; ++b) a.starts.push_back(static_cast<std::int32_t>(b * S));
    std::vector<std::uint64_t> numbers(B);
    Array maxima(B * S * a.H), sums(B * S * a.H);
    const auto ours = [&](float* y) {
        attention_forward<float>({a.q.data()}, {a.k.data()}, {a.v.data()}, {a.starts.data()}, {B}, {nullptr}, {B * S}, {a.H},
                                 {a.D}, {0.0, 0, 0}, numbers.data(), {y}, {maxima.data()}, {sums.data()});
    };
    const std::vector<Rung> rungs = {
        {"naive: the definition",
         [&](float* y) {
             plain::attention_forward(a.q.data(), a.k.data(), a.v.data(), a.starts.data(), B, a.H, a.D, y);
         }},
        {"products, all scores kept, one thread", [&](float* y) { with_threads(1, [&] { attention_by_products(a, y); }); }},
        {"block by block, vector exp (attention_forward.cpp), one thread", [&](float* y) { with_threads(1, [&] { ours(y); }); }},
        {"all threads", ours},
    };
    const std::string title = "attention " + std::to_string(B) + " x " + std::to_string(S);
    climb(title.c_str(), rungs, 4.0 * B * S * S * a.C(), size, 1e-4f, rounds);

    // The way back; dq, dk and dv lie one after another.
    const Array dy = random_array(size, 4);
    Array y(size);
    ours(y.data());
    const auto back = [&](float* d) {
        attention_backward<float>({dy.data()}, {a.q.data()}, {a.k.data()}, {a.v.data()}, {y.data()}, {maxima.data()},
                                  {sums.data()}, {a.starts.data()}, {B}, {nullptr}, {B * S}, {a.H}, {a.D}, {0.0, 0, 0},
                                  numbers.data(), {d}, {d + size}, {d + 2 * size});
    };
    const std::vector<Rung> rungs_back = {
        {"naive: the definition",
         [&](float* d) {
             plain::attention_backward(dy.data(), a.q.data(), a.k.data(), a.v.data(), a.starts.data(), B, a.H, a.D, d,
                                       d + size, d + 2 * size);
         }},
        {"block by block (attention_backward.cpp), one thread", [&](float* d) { with_threads(1, [&] { back(d); }); }},
        {"all threads", back},
    };
    climb((title + ", backward").c_str(), rungs_back, 10.0 * B * S * S * a.C(), 3 * size, 1e-3f, rounds);
}

}  // namespace

int main(int, char** arguments) {
    const int rounds = std::atoi(arguments[1]);
    climb_gemm(rounds);
    climb_attention(8, 128, rounds);
    climb_attention(2, 512, rounds);
}
