// Attributes that GCC, Clang and nvcc understand.
#pragma once

#ifdef __CUDACC__  // for the host and for the device
#define PYROBERTA_INLINE __host__ __device__ __forceinline__
#else
#define PYROBERTA_INLINE inline __attribute__((always_inline))
#endif
#define PYROBERTA_RESTRICT __restrict

// Of a function: there is one copy of its code, in which nothing of a caller is known.
#ifdef __clang__
#define PYROBERTA_ONE_COPY __attribute__((noinline))
#else
#define PYROBERTA_ONE_COPY __attribute__((noipa))
#endif

// Of a declaration: it is defined within this extension. So the linker refuses what is missing; without this the error
// would come when the extension is imported.
#define PYROBERTA_HERE __attribute__((visibility("hidden")))
