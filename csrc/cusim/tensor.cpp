// The instructions of the tensor cores, whose registers are spread over a warp's lanes as PTX's manual has it ("Matrix
// fragments for mma.m16n8k16" and "ldmatrix").
#include <cstring>

#include "cusim/fiber.hpp"
#include "cusim/run.hpp"
#include "cusim/shared.hpp"

namespace cusim {
namespace {

constexpr unsigned ALL = ~0u;

float half(std::uint32_t pair, unsigned which) {
    const std::uint32_t bits = (which ? pair >> 16 : pair) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

struct Factors {
    std::uint32_t a[4], b[2];
};

}  // namespace

// d (16, 8) += a (16, 16) b (16, 8). Lane 4g + t has, of d, rows g and g + 8 in columns 2t and 2t + 1. The order in which
// the hardware adds, and where it rounds, is not documented.
void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], Place at) {
    Factors factors;
    std::memcpy(factors.a, a, sizeof a);
    std::memcpy(factors.b, b, sizeof b);
    Post post{};
    static_assert(sizeof factors <= sizeof post);
    std::memcpy(&post, &factors, sizeof factors);
    meet(ALL, "mma.m16n8k16", post, at);
    const unsigned g = current->lane / 4, t = current->lane % 4;
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned is_lower = i / 2, column = 2 * t + i % 2;
        float sum = d[i];
        for (unsigned k = 0; k < 16; ++k) {
            const unsigned lane = k % 8 / 2, second = k / 8;
            Factors left, right;
            std::memcpy(&left, &posted(ALL, 4 * g + lane, at), sizeof left);
            std::memcpy(&right, &posted(ALL, 4 * column + lane, at), sizeof right);
            sum += half(left.a[is_lower + 2 * second], k % 2) * half(right.b[second], k % 2);
        }
        d[i] = sum;
    }
}

// Matrices of 8 x 8 numbers of 16 bits; lane 8m + r brings the address of row r of matrix m. Lane 4g + t gets columns 2t
// and 2t + 1 of row g of each; of the transposed matrix where that is asked for.
void ldmatrix(std::uint32_t* registers, int matrices, bool is_transposed, const void* row, Place at) {
    Post post{{reinterpret_cast<std::uint64_t>(row)}};
    if (int(current->lane) < 8 * matrices) {
        if (post.words[0] % 16) fail(at, "ldmatrix: the address %p of a row must be a multiple of 16", row);
        if (!is_shared(row, 16)) fail(at, "ldmatrix: a row of 16 bytes is not in shared memory");
    }
    meet(ALL, "ldmatrix", post, at);
    const unsigned g = current->lane / 4, t = current->lane % 4;
    for (int m = 0; m < matrices; ++m) {
        std::uint16_t pair[2];
        for (unsigned i = 0; i < 2; ++i) {
            const unsigned r = is_transposed ? 2 * t + i : g, column = is_transposed ? g : 2 * t + i;
            const auto address = posted(ALL, unsigned(8 * m) + r, at).words[0];
            const auto* from = reinterpret_cast<const std::uint16_t*>(address) + column;
            note_read(from, sizeof *from);
            std::memcpy(&pair[i], from, sizeof pair[i]);
        }
        registers[m] = std::uint32_t{pair[1]} << 16 | pair[0];
    }
}

}  // namespace cusim
