// Chooses the instruction set, once, when the first op is called.
#include "runtime/dispatch.hpp"

#include <cstdlib>
#include <stdexcept>

namespace pyroberta {

// The sets that this build holds, the widest first: PYROBERTA_SETS(X) calls X(name, whether this machine has it).
#if defined(__x86_64__)
#define PYROBERTA_SETS(X)                                                                                     \
    X(avx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&                      \
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&                 \
                  __builtin_cpu_supports("fma"))                                                              \
    X(avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))                                  \
    PYROBERTA_WIDE_SET(X)                                                                                     \
    X(baseline, true)
// Made for tests, and never chosen but by name: the table for AVX-512, compiled for AVX2.
#ifdef PYROBERTA_WIDE
#define PYROBERTA_WIDE_SET(X) X(wide, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#else
#define PYROBERTA_WIDE_SET(X)
#endif
#else
#define PYROBERTA_SETS(X) X(baseline, true)
#endif

#define DECLARE(name, is_available) \
    namespace name {            \
    extern const InstructionSet set; \
    }
PYROBERTA_SETS(DECLARE)
#undef DECLARE

namespace {

const InstructionSet& choose() {
    const char* wanted = std::getenv("PYROBERTA_ISA");
#define TRY(name, is_available) \
    if ((is_available) && (!wanted || std::string(wanted) == #name)) return name::set;
    PYROBERTA_SETS(TRY)
#undef TRY
    throw std::runtime_error("PYROBERTA_ISA is '" + std::string(wanted) + "', but this machine and build have " +
                             instruction_sets());
}

}  // namespace

std::string instruction_sets() {
    std::string names;
#define ADD(name, is_available) \
    if (is_available) names += names.empty() ? #name : ", " #name;
    PYROBERTA_SETS(ADD)
#undef ADD
    return names;
}

const InstructionSet& instruction_set() {
    static const InstructionSet& chosen = choose();
    return chosen;
}

}  // namespace pyroberta
