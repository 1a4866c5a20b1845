// exp and the normal distribution's Φ on whole registers.
//
// The polynomials are minimax fits for the relative error, made with the Remez algorithm in 50 digits; the bound is
// beside each. What the fit leaves is below half a unit in the last place, so that rounding decides.
#pragma once

#include "kernels/simd.hpp"

namespace pyroberta {
namespace PYROBERTA_ISA {

// p[0] + p[1]·x + … by Horner's scheme.
template <typename T, int COUNT>
PYROBERTA_INLINE Vector<T> polynomial(const T (&p)[COUNT], Vector<T> x) {
    Vector<T> sum = Vector<T>{} + p[COUNT - 1];
    for (int i = COUNT - 2; i >= 0; --i) sum = sum * x + p[i];
    return sum;
}

template <typename T>
struct Constants;

template <>
struct Constants<float> {
    typedef std::uint32_t Bits;
    static constexpr int MANTISSA = 23;
    static constexpr float LOWEST = -87.3f, HIGHEST = 88.7f;  // exp is a normal number between them
    static constexpr float ROUNDER = 12582912.0f;             // 1.5 · 2²³: added and taken away, it rounds
    static constexpr float LN2_HIGH = 0x1.62ep-1f, LN2_LOW = 0x1.0bfbe8p-15f;
    // (exp(r) - 1 - r) / r² for |r| <= ln 2 / 2; 2e-10
    static constexpr float EXP[] = {0.500000001338708091f, 0.16666666532458411f,    0.0416664654531970763f,
                                    0.008333360656101245f, 0.00139336061393941817f, 0.000198578488870140166f};
    // (1 + 2t) · exp(t²) · erfc(t) in u = (t - 3) / (t + 3), for t from 0 to 9.6; 1.5e-9
    static constexpr float CENTRE = 3.0f, FARTHEST = 9.6f;
    static constexpr float ERFC[] = {1.25300805870939836f,    -0.135621134739297095f,  -0.0475623526769546013f,
                                     0.129646300026828681f,   -0.119271840301275879f,  0.0682960495041201704f,
                                     -0.0237923992052994203f, 0.00257099439270647365f, 0.00199338020208340877f,
                                     -0.000790291997885495958f, -0.000272928047120461619f};
};

template <>
struct Constants<double> {
    typedef std::uint64_t Bits;
    static constexpr int MANTISSA = 52;
    static constexpr double LOWEST = -708.3, HIGHEST = 709.7;
    static constexpr double ROUNDER = 6755399441055744.0;  // 1.5 · 2⁵²
    static constexpr double LN2_HIGH = 0x1.62e42feep-1, LN2_LOW = 0x1.a39ef35793c76p-33;
    // 2e-19
    static constexpr double EXP[] = {0.5,
                                     0.16666666666666671,
                                     0.0416666666666666185,
                                     0.00833333333332616215,
                                     0.00138888888889179323,
                                     0.000198412698747394862,
                                     0.0000248015872458295715,
                                     2.75572554903762457e-6,
                                     2.75573495122138825e-7,
                                     2.51051836200931991e-8,
                                     2.08894172399221524e-9};
    // (1 + 2t) · exp(t²) · erfc(t) in u = (t - 4) / (t + 4), for t from 0 to 28; 1e-17
    static constexpr double CENTRE = 4.0, FARTHEST = 28.0;
    static constexpr double ERFC[] = {1.23299511862555251,
                                      -0.139621116840562886,
                                      0.0153796521026197644,
                                      0.0680970542547365815,
                                      -0.10103906603630117,
                                      0.0937328349968243719,
                                      -0.0663303658125634704,
                                      0.0371675155618451043,
                                      -0.0161977340484305282,
                                      0.005031969763623772,
                                      -0.000757773404810135515,
                                      -0.000199255561496852765,
                                      0.000150622471309602096,
                                      -0.0000244029409226963953,
                                      -0.0000112252822414933427,
                                      5.71729444287969763e-6,
                                      3.01954978811667847e-7,
                                      -8.34239953801766233e-7,
                                      6.2390462738527652e-8,
                                      1.14561445787225493e-7,
                                      -7.77943642376919057e-9,
                                      -1.33864612905459977e-8,
                                      -1.71761922533037858e-9};
};

// exp(x) = 2ⁿ · exp(r), with n the nearest whole number to x / ln 2. Below the smallest normal number it is 0; NaN stays.
template <typename T>
PYROBERTA_INLINE Vector<T> exp(Vector<T> x) {
    using K = Constants<T>;
    typedef typename K::Bits BitVector __attribute__((vector_size(REGISTER)));
    const Vector<T> shifted = x * T(1.4426950408889634) + K::ROUNDER;
    const Vector<T> n = shifted - K::ROUNDER;
    const Vector<T> r = (x - n * K::LN2_HIGH) - n * K::LN2_LOW;
    const Vector<T> power = T(1) + r + r * r * polynomial<T>(K::EXP, r);
    // The lowest bits of `shifted` are n; moved to where the exponent is, they multiply by 2ⁿ.
    BitVector bits, scaled;
    std::memcpy(&bits, &shifted, sizeof bits);
    std::memcpy(&scaled, &power, sizeof scaled);
    scaled += bits << K::MANTISSA;
    Vector<T> y;
    std::memcpy(&y, &scaled, sizeof y);
    y = x < K::LOWEST ? Vector<T>{} : y;
    y = x > K::HIGHEST ? Vector<T>{} + T(__builtin_huge_val()) : y;
    return x == x ? y : x;
}

// Φ(x) and φ(x): the normal distribution and its density. With t = |x| / √2, Φ(-|x|) = erfc(t) / 2, and erfc(t) is
// exp(-t²) = exp(-x²/2), which φ needs too, times a slowly changing factor.
template <typename T>
PYROBERTA_INLINE void normal(Vector<T> x, Vector<T>& cdf, Vector<T>& density) {
    using K = Constants<T>;
    const Vector<T> bell = exp<T>(x * x * T(-0.5));
    Vector<T> t = (x < T(0) ? -x : x) * T(0.70710678118654752);
    t = t < K::FARTHEST ? t : Vector<T>{} + K::FARTHEST;  // beyond, exp(-t²) is 0; NaN comes through it
    const Vector<T> u = (t - K::CENTRE) / (t + K::CENTRE);
    const Vector<T> tail = T(0.5) * bell * polynomial<T>(K::ERFC, u) / (T(1) + t + t);
    cdf = x < T(0) ? tail : T(1) - tail;
    density = bell * T(0.39894228040143268);
}

// y = x Φ(x) and its slope Φ(x) + x φ(x).
template <typename T>
PYROBERTA_INLINE void gelu(Vector<T> x, Vector<T>& y, Vector<T>& slope) {
    Vector<T> cdf, density;
    normal<T>(x, cdf, density);
    y = x * cdf;
    slope = cdf + x * density;
}

// Calls body(i, count) for each register's worth of [0, size); count is smaller for the last one alone.
template <typename T, typename Body>
PYROBERTA_INLINE void for_registers(std::int64_t size, const Body& body) {
    std::int64_t i = 0;
    for (; i + WIDTH<T> <= size; i += WIDTH<T>) body(i, WIDTH<T>);
    if (i < size) body(i, static_cast<int>(size - i));
}

// `count` numbers, the rest of the register zeros; and back.
template <typename T>
PYROBERTA_INLINE Vector<T> load(const T* from, int count) {
    if (count == WIDTH<T>) return load(from);
    Vector<T> v{};
    for (int k = 0; k < count; ++k) v[k] = from[k];
    return v;
}

template <typename T>
PYROBERTA_INLINE void store(T* to, Vector<T> v, int count) {
    if (count == WIDTH<T>) return store(to, v);
    for (int k = 0; k < count; ++k) to[k] = v[k];
}

template <typename T>
PYROBERTA_INLINE T sum(Vector<T> v) {
    T total = v[0];
    for (int k = 1; k < WIDTH<T>; ++k) total += v[k];
    return total;
}

}  // namespace PYROBERTA_ISA
}  // namespace pyroberta
