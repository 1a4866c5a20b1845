#include "cusim/planted.hpp"

#include "cuda/device.hpp"

namespace pyroberta::cuda::planted {

namespace {

constexpr int THREADS = 64;

// Each thread reads what its neighbour has written, too early.
__global__ void missing_barrier(float* x) {
    SHARED(float, shared, THREADS);
    shared[threadIdx.x] = float(threadIdx.x);
    x[threadIdx.x] = shared[(threadIdx.x + 1) % THREADS] + shared[(threadIdx.x + THREADS - 1) % THREADS];
}

__global__ void divergent_barrier(float* x) {
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        x[threadIdx.x] = 1.0f;
        __syncthreads();
    }
}

__global__ void returns_before_a_barrier(float* x) {
    if (threadIdx.x == 5) return;
    __syncthreads();
    x[threadIdx.x] = 1.0f;
}

__global__ void mask_without_the_caller(float* x) { x[threadIdx.x] = __shfl_sync(0x7fffffffu, 1.0f, 0); }

__global__ void lane_outside_the_mask(float* x) {
    if (threadIdx.x % 32 < 16) x[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 20);
}

__global__ void masks_that_overlap(float* x) {
    x[threadIdx.x] = __shfl_sync(threadIdx.x % 32 < 16 ? 0x0001ffffu : 0xffff0000u, 1.0f, 16);
}

__global__ void deadlock(float* x) {
    if (threadIdx.x < 16) {
        __syncwarp();  // the other lanes of the warp wait elsewhere
    } else {
        __syncthreads();
    }
    x[threadIdx.x] = 1.0f;
}

__global__ void reads_past_the_end(float* x, int size) { x[threadIdx.x] = x[threadIdx.x + size]; }

__global__ void writes_past_the_end(float* x, int size) { x[blockIdx.x * THREADS + threadIdx.x + size / 2] = 1.0f; }

__global__ void writes_past_shared_memory(float* x) {
    SHARED(float, shared, THREADS);
    shared[threadIdx.x + blockIdx.x] = 1.0f;
    __syncthreads();
    x[threadIdx.x] = shared[threadIdx.x];
}

__global__ void writes_before_dynamic_shared_memory(float* x) {
    DYNAMIC_SHARED(float, shared);
    shared[int(threadIdx.x) - 1] = 1.0f;
    __syncthreads();
    x[threadIdx.x] = 1.0f;
}

__global__ void reads_shared_memory_unwritten(float* x) {
    SHARED(float, shared, THREADS);
    x[threadIdx.x] = shared[threadIdx.x];
}

// Two blocks add to the same number: one addition may be lost.
__global__ void lost_update(float* x) {
    if (threadIdx.x == 0) x[0] = x[0] + 1.0f;
}

__global__ void copy_without_a_wait(float* x) {
    SHARED(float, shared, 4 * THREADS);
    cp_async_16(shared + 4 * threadIdx.x, x);
    cp_async_commit();
}

// The second copy comes into the place that the first one's reader has not left.
__global__ void copy_too_early(float* x) {
    SHARED(float, shared, 4);
    if (threadIdx.x == 0) {
        cp_async_16(shared, x);
        cp_async_commit();
        cp_async_wait<0>();
        cp_async_16(shared, x + 4);
        cp_async_commit();
    }
    __syncthreads();
    x[8 + threadIdx.x] = shared[0];
    __syncthreads();
    if (threadIdx.x == 0) cp_async_wait<0>();
}

__global__ void too_much_shared_memory(float* x) {
    SHARED(float, shared, 13000);
    x[threadIdx.x] = shared[threadIdx.x];
}

struct Planted {
    const char* name;
    void (*run)(Context& context, float* x, int size);
};

#define PLANTED(kernel, blocks, shared_bytes, ...)                                              \
    {                                                                                           \
        #kernel, [](Context& context, [[maybe_unused]] float* x, [[maybe_unused]] int size) {   \
            LAUNCH(context, kernel, blocks, THREADS, shared_bytes, __VA_ARGS__);                \
        }                                                                                       \
    }
const Planted PLANTED_KERNELS[] = {
    PLANTED(missing_barrier, 1, 0, x),
    PLANTED(divergent_barrier, 1, 0, x),
    PLANTED(returns_before_a_barrier, 1, 0, x),
    PLANTED(mask_without_the_caller, 1, 0, x),
    PLANTED(lane_outside_the_mask, 1, 0, x),
    PLANTED(masks_that_overlap, 1, 0, x),
    PLANTED(deadlock, 1, 0, x),
    PLANTED(reads_past_the_end, 1, 0, x, size),
    PLANTED(writes_past_the_end, 2, 0, x, size),
    PLANTED(writes_past_shared_memory, 2, 0, x),
    PLANTED(writes_before_dynamic_shared_memory, 1, THREADS * sizeof(float), x),
    PLANTED(reads_shared_memory_unwritten, 1, 0, x),
    PLANTED(lost_update, 2, 0, x),
    PLANTED(copy_without_a_wait, 1, 0, x),
    PLANTED(copy_too_early, 1, 0, x),
    PLANTED(too_much_shared_memory, 1, 0, x),
};

}  // namespace

std::vector<std::string> names() {
    std::vector<std::string> found;
    for (const Planted& planted : PLANTED_KERNELS) found.push_back(planted.name);
    return found;
}

void run(const std::string& name, const Array& array) {
    for (const Planted& planted : PLANTED_KERNELS) {
        if (planted.name == name) {
            planted.run(array.context(), static_cast<float*>(array.data()), static_cast<int>(array.size()));
            array.context().synchronize();
            return;
        }
    }
    throw std::invalid_argument("there is no planted kernel " + name);
}

}  // namespace pyroberta::cuda::planted
