// PYROBERTA_CLONES before a function compiles it for the baseline and again for AVX2; the loader picks at start.
// So a wheel built for any x86-64 uses what the machine has. Needs GCC and glibc's ifunc; elsewhere it is empty.
#pragma once

#include <cstdint>  // defines __GLIBC__ where there is one

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__ELF__) && defined(__GLIBC__)
#define PYROBERTA_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define PYROBERTA_CLONES
#endif

// Inlined into every clone, and so compiled for each.
#if defined(__GNUC__)
#define PYROBERTA_INLINE inline __attribute__((always_inline))
#elif defined(_MSC_VER)
#define PYROBERTA_INLINE __forceinline
#else
#define PYROBERTA_INLINE inline
#endif

#if defined(__GNUC__) || defined(_MSC_VER)
#define PYROBERTA_RESTRICT __restrict
#else
#define PYROBERTA_RESTRICT
#endif
