// The one header through which device code sees CUDA: nvcc's, or the simulator's (csrc/cusim, for tests), which runs
// kernels on the CPU.
//
// What keeps kernels testable: they use the names of this header; shared memory and launches come from its macros; inline
// assembly stands in the wrappers below alone, one instruction each; no thread returns before a barrier; no CUB and no
// cooperative groups. A block has whole warps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "cuda/context.hpp"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#else
#include <tuple>

#include "cusim/api.hpp"
#include "cusim/names.hpp"
#endif

// Before a loop with a fixed number of turns.
#ifdef __CUDA_ARCH__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL
#endif

// --- shared memory ----------------------------------------------------------------------------------------------------

// T name[size] of the block; and the memory that the launch gives, aligned to 16 bytes, as T* name.
#ifdef __CUDACC__
#define SHARED(T, name, size) __shared__ T name[size]
#define DYNAMIC_SHARED(T, name)                                   \
    extern __shared__ __align__(16) unsigned char shared_bytes_[]; \
    T* name = reinterpret_cast<T*>(shared_bytes_)
#else
#define SHARED(T, name, size)      \
    static const char name##_ = 0; \
    T* const name = static_cast<T*>(cusim::shared_array(&name##_, sizeof(T) * (size), #name, {__FILE__, __LINE__}))
#define DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(cusim::dynamic_shared())
#endif

// --- launches ---------------------------------------------------------------------------------------------------------

namespace pyroberta {
namespace cuda {

constexpr std::size_t USUAL_SHARED = std::size_t{48} << 10;  // bytes that a launch may have without asking

// Of LAUNCH. An empty grid launches nothing. Throws CudaError, which names the kernel.
template <typename... Parameters, typename... Arguments>
void launch(Context& context, const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block,
            std::size_t shared_bytes, const Arguments&... arguments) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    if (shared_bytes > USUAL_SHARED) {
        check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
              name);
    }
#ifdef __CUDACC__
    kernel<<<grid, block, shared_bytes, context.stream()>>>(static_cast<Parameters>(arguments)...);
    check(cudaGetLastError(), name);
#else
    std::tuple<std::decay_t<Parameters>...> copies(static_cast<Parameters>(arguments)...);
    check(cusim::launch(reinterpret_cast<const void*>(kernel), name, grid, block, shared_bytes, context.stream(),
                        [=] { std::apply(kernel, copies); }),
          name);
#endif
}

// LAUNCH(context, kernel, grid, block, shared_bytes, arguments...); a kernel with commas stands in parentheses.
#define LAUNCH(context, kernel, ...) ::pyroberta::cuda::launch(context, #kernel, kernel, __VA_ARGS__)

// --- single instructions ----------------------------------------------------------------------------------------------

// From compute capability 8.0 on. A kernel that uses them compiles for 7.5, too, and ends with an error there: its
// launcher asks context.capability() first.
#ifdef __CUDACC__
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define PYROBERTA_FROM_80(...) asm volatile(__VA_ARGS__)
#else
#define PYROBERTA_FROM_80(...) __trap()
#endif

// d (16, 8) += a (16, 16) b (16, 8) by a warp, in bfloat16 with sums in float32. Which numbers a lane holds is in PTX's
// manual, "Matrix fragments for mma.m16n8k16".
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    PYROBERTA_FROM_80(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four matrices of 8 x 8 numbers of 16 bits from shared memory; lane 8m + r brings the address of row r of matrix m.
__device__ __forceinline__ void ldmatrix_x4(std::uint32_t (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
                 : "memory");
}

// The same of the transposed matrices.
__device__ __forceinline__ void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
                 : "memory");
}

// Copies 16 bytes to shared memory while the thread goes on. Of the source, the first `bytes` are read; the rest is zeros.
__device__ __forceinline__ void cp_async_16(void* to, const void* from, unsigned bytes = 16) {
    PYROBERTA_FROM_80("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                          static_cast<std::uint32_t>(__cvta_generic_to_shared(to))),
                      "l"(from), "r"(bytes)
                      : "memory");
}

// Ends a group of copies; waits until at most N groups of the thread are on their way. Other threads see the copies after
// a barrier.
__device__ __forceinline__ void cp_async_commit() { PYROBERTA_FROM_80("cp.async.commit_group;" ::: "memory"); }
template <int N>
__device__ __forceinline__ void cp_async_wait() {
    PYROBERTA_FROM_80("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
#undef PYROBERTA_FROM_80
#else
inline void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], CUSIM_AT) {
    cusim::mma_m16n8k16(d, a, b, at);
}
inline void ldmatrix_x4(std::uint32_t (&r)[4], const void* row, CUSIM_AT) { cusim::ldmatrix(r, 4, false, row, at); }
inline void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row, CUSIM_AT) { cusim::ldmatrix(r, 4, true, row, at); }
inline void cp_async_16(void* to, const void* from, unsigned bytes = 16, CUSIM_AT) {
    cusim::cp_async_16(to, from, bytes, at);
}
inline void cp_async_commit() { cusim::cp_async_commit(); }
template <int N>
void cp_async_wait() {
    cusim::cp_async_wait(N);
}
#endif

}  // namespace cuda
}  // namespace pyroberta
