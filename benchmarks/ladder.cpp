// The ladders of docs/backends.md: one product of matrices and one attention, from the definition up to csrc/, one idea a
// rung. ladder.py compiles and runs this; each rung's result is compared with the definition's before it is timed.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "kernels/attention.hpp"
#include "kernels/linear.hpp"

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
        for (Size o = 0; o < O; ++o) {
            const float x = y[n * O + o] + bias[o];
            y[n * O + o] = 0.5f * x * (1.0f + std::erf(x * 0.70710678f));
        }
    }
}

void naive(const float* x, const float* w, Size N, Size I, Size O, float* y) {
    for (Size n = 0; n < N; ++n) {
        for (Size o = 0; o < O; ++o) {
            float sum = 0;
            for (Size i = 0; i < I; ++i) sum += x[n * I + i] * w[i * O + o];  // w is read down a column: a jump each
            y[n * O + o] = sum;
        }
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

// Six rows at once, so that each number of w that is loaded is used six times; blocks for both caches: gemm.hpp.

void with_threads(int threads, const std::function<void()>& work) {
    const int before = most_threads();
#ifdef _OPENMP
    omp_set_num_threads(threads);
    work();
    omp_set_num_threads(before);
#else
    work();
#endif
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
    const auto ours = [&](float* y) { product(rows_of(x.data(), I), columns_of(w.data(), O), N, O, I, y, false); };
    Array f(N * O);
    const std::vector<Rung> rungs = {
        {"naive: the definition", then_gelu(naive)},
        {"row by row", then_gelu(in_rows)},
        {"blocked for the cache", then_gelu(blocked)},
        {"packed, sums in registers", then_gelu(packed)},
        {"a tile of rows and columns, blocks for two caches (gemm.hpp)",
         [&](float* y) {
             with_threads(1, [&] { ours(y); });
             gelu_pass(y, bias.data(), N, O);
         }},
        {"all threads",
         [&](float* y) {
             ours(y);
             gelu_pass(y, bias.data(), N, O);
         }},
        {"bias and GELU fused into the product (linear.hpp)",
         [&](float* y) { expand_forward(x.data(), w.data(), bias.data(), N, I, O, f.data(), y); }},
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

void naive_attention(const Attention& a, float* y) {
    const Size C = a.C();
    std::vector<float> p(a.S);
    for (Size b = 0; b < a.B; ++b) {
        for (Size h = 0; h < a.H; ++h) {
            for (Size i = 0; i < a.S; ++i) {
                const float* q = &a.q[(b * a.S + i) * C + h * a.D];
                float top = -INFINITY, total = 0;
                for (Size j = 0; j < a.S; ++j) {
                    const float* k = &a.k[(b * a.S + j) * C + h * a.D];
                    float score = 0;
                    for (Size d = 0; d < a.D; ++d) score += q[d] * k[d];
                    p[j] = score / std::sqrt(static_cast<float>(a.D));
                    top = std::max(top, p[j]);
                }
                for (Size j = 0; j < a.S; ++j) total += p[j] = std::exp(p[j] - top);
                float* row = y + (b * a.S + i) * C + h * a.D;
                std::fill_n(row, a.D, 0.0f);
                for (Size j = 0; j < a.S; ++j) {
                    const float* v = &a.v[(b * a.S + j) * C + h * a.D];
                    for (Size d = 0; d < a.D; ++d) row[d] += p[j] / total * v[d];
                }
            }
        }
    }
}

// Two products per head through gemm.hpp, with the whole matrix of scores between them.
void attention_by_products(const Attention& a, float* y) {
    const Size C = a.C(), S = a.S, D = a.D;
    Array scores(S * S);
    for (Size b = 0; b < a.B; ++b) {
        for (Size h = 0; h < a.H; ++h) {
            const Size at = b * S * C + h * D;
            gemm(Factor<float>{&a.q[at], C, 1}, Factor<float>{&a.k[at], C, 1}, S, S, D, scores.data(), S, false,
                 [](Size, Size, Size, Size) {});
            for (Size i = 0; i < S; ++i) {
                float* row = &scores[i * S];
                const float scale = 1.0f / std::sqrt(static_cast<float>(D));
                const float top = *std::max_element(row, row + S);
                float total = 0;
                for (Size j = 0; j < S; ++j) total += row[j] = std::exp((row[j] - top) * scale);
                for (Size j = 0; j < S; ++j) row[j] /= total;
            }
            gemm(Factor<float>{scores.data(), S, 1}, Factor<float>{&a.v[at], 1, C}, S, D, S, y + at, C, false,
                 [](Size, Size, Size, Size) {});
        }
    }
}

void climb_attention(Size B, Size S, int rounds) {
    Attention a{B, S, 12, 64, {}, {}, {}, {}};
    const Size size = B * S * a.C();
    a.q = random_array(size, 1), a.k = random_array(size, 2), a.v = random_array(size, 3);
    for (Size b = 0; b <= B; ++b) a.starts.push_back(static_cast<std::int32_t>(b * S));
    Array maxima(B * S * a.H), sums(B * S * a.H);
    const auto ours = [&](double rate) {
        return [&, rate](float* y) {
            attention_forward(a.q.data(), a.k.data(), a.v.data(), a.starts.data(), B, static_cast<std::int32_t*>(nullptr),
                              B * S, a.H, a.D, DropoutKey{rate, 1, 2}, y, maxima.data(), sums.data());
        };
    };
    const std::vector<Rung> rungs = {
        {"naive: the definition", [&](float* y) { naive_attention(a, y); }},
        {"products, all scores kept, one thread", [&](float* y) { with_threads(1, [&] { attention_by_products(a, y); }); }},
        {"block by block, vector exp (attention.hpp), one thread",
         [&](float* y) { with_threads(1, [&] { ours(0.0)(y); }); }},
        {"all threads", ours(0.0)},
    };
    const std::string title = "attention " + std::to_string(B) + " x " + std::to_string(S);
    climb(title.c_str(), rungs, 4.0 * B * S * S * a.C(), size, 1e-4f, rounds);
}

}  // namespace

int main(int, char** arguments) {
    const int rounds = std::atoi(arguments[1]);
    climb_gemm(rounds);
    climb_attention(8, 128, rounds);
    climb_attention(2, 512, rounds);
}
