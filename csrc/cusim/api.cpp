#include "cusim/api.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "cusim/device.hpp"
#include "cusim/fiber.hpp"

// An event that a stream waits for, or a command.
struct Command {
    std::function<void()> run;
    cudaEvent_t event = nullptr;
    std::uint64_t record = 0;  // of the event, that is waited for
};
struct CUstream_st {
    std::deque<Command> queue;
};
struct CUevent_st {
    cudaStream_t stream = nullptr;  // of the last record
    std::uint64_t recorded = 0, completed = 0;
};
struct CUmemPoolHandle_st {
    std::multimap<std::size_t, int> kept;  // sizes of blocks that are in no use
    std::size_t used = 0, reserved = 0;
};

namespace cusim {
namespace {

constexpr std::size_t UNIT = 512, MOST_SHARED = std::size_t{227} << 10, USUAL_SHARED = std::size_t{48} << 10;

std::recursive_mutex mutex;
CUstream_st default_stream;
std::vector<cudaStream_t> streams{&default_stream};
std::map<void*, std::pair<cudaMemPool_t, std::size_t>> pooled;  // memory from pools, with the sizes of its blocks
std::map<const void*, std::size_t> allowed_shared;
std::size_t limit = std::size_t{8} << 30, in_use;  // by cudaMalloc and by the pools' reserves
int major = 9, minor = 0;

cudaError_t last_error = cudaSuccess, error_of_launch = cudaSuccess;
std::string last_text;

using Lock = std::lock_guard<std::recursive_mutex>;

cudaError_t failed(cudaError_t error, std::string text) {
    last_text = std::move(text);
    return last_error = error;
}

CUstream_st& stream_of(cudaStream_t stream) { return stream ? *stream : default_stream; }

void queue(cudaStream_t stream, std::function<void()> run) { stream_of(stream).queue.push_back({std::move(run)}); }

// Runs what is next in a stream; before a wait for an event, what that one's stream has.
void step(CUstream_st& stream) {
    const Command command = stream.queue.front();
    if (command.event && command.event->completed < command.record) {
        step(*command.event->stream);
        return;
    }
    stream.queue.pop_front();
    if (command.run) command.run();
}

void drain(CUstream_st& stream) {
    while (!stream.queue.empty()) step(stream);
}

// In random orders the streams take turns by chance.
void drain_all() {
    for (;;) {
        std::vector<cudaStream_t> busy;
        for (cudaStream_t stream : streams) {
            if (!stream->queue.empty()) busy.push_back(stream);
        }
        if (busy.empty()) return;
        step(*busy[is_random() ? draw() % busy.size() : 0]);
    }
}

std::size_t rounded(std::size_t bytes) { return std::max(UNIT, (bytes + UNIT - 1) / UNIT * UNIT); }

cudaError_t out_of_memory(const char* call, std::size_t bytes) {
    return failed(cudaErrorMemoryAllocation, std::string(call) + ": " + std::to_string(bytes) + " bytes asked for, " +
                                                 std::to_string(limit - std::min(limit, in_use)) + " free");
}

// A block of the pool: one that is kept, up to twice too large, or a new one. A block is never divided, so that a pool
// whose blocks do not fit has to be trimmed.
bool take_block(CUmemPoolHandle_st& pool, std::size_t size, std::size_t& block) {
    const auto kept = pool.kept.lower_bound(size);
    if (kept != pool.kept.end() && kept->first <= 2 * size) {
        block = kept->first;
        pool.kept.erase(kept);
    } else {
        if (in_use + size > limit) return false;
        block = size;
        in_use += size;
        pool.reserved += size;
    }
    pool.used += block;
    return true;
}

}  // namespace

cudaError_t allow_shared(const void* function, int bytes) {
    const Lock lock(mutex);
    if (bytes < 0 || std::size_t(bytes) > MOST_SHARED) {
        return failed(cudaErrorInvalidValue, "cudaFuncSetAttribute: " + std::to_string(bytes) + " bytes of shared memory");
    }
    allowed_shared[function] = std::size_t(bytes);
    return cudaSuccess;
}

cudaError_t launch(const void* function, const char* name, dim3 grid, dim3 block, std::size_t shared_bytes,
                   cudaStream_t stream, std::function<void()> body) {
    const Lock lock(mutex);
    if (error_of_launch) return error_of_launch;
    const std::size_t threads = std::size_t{block.x} * block.y * block.z;
    const auto allowed = allowed_shared.find(function);
    std::string text;
    if (threads == 0 || threads > 1024) text = std::to_string(threads) + " threads in a block";
    if (threads % 32) text = std::to_string(threads) + " threads in a block, which are no whole warps";
    if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) text = "the grid's size";
    if (shared_bytes > (allowed == allowed_shared.end() ? USUAL_SHARED : allowed->second)) {
        text = std::to_string(shared_bytes) + " bytes of dynamic shared memory are not allowed";
    }
    if (!text.empty()) return failed(cudaErrorInvalidConfiguration, std::string(name) + ": " + text);
    queue(stream, [=] {
        if (error_of_launch) return;
        const bool is_good = run(name, grid, block, shared_bytes, body);
        std::string found = is_good ? spoilt_device() : message();
        if (found.empty()) return;
        if (is_good) found = std::string(name) + ": " + found;
        error_of_launch = failed(cudaErrorLaunchFailure, found);
    });
    return cudaSuccess;
}

void set_memory_limit(std::size_t bytes) {
    const Lock lock(mutex);
    limit = bytes;
}

void set_capability(int new_major, int new_minor) {
    const Lock lock(mutex);
    major = new_major;
    minor = new_minor;
}

void reset() {
    const Lock lock(mutex);
    for (cudaStream_t stream : streams) drain(*stream);  // launches do nothing now, frees free
    spoilt_device();
    last_error = error_of_launch = cudaSuccess;
}

}  // namespace cusim

using namespace cusim;

// --- errors and devices -----------------------------------------------------------------------------------------------

const char* cudaGetErrorName(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "cudaSuccess";
        case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
        case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
        case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
        case cudaErrorNoDevice: return "cudaErrorNoDevice";
        case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
        case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    }
    return "unknown";
}

const char* cudaGetErrorString(cudaError_t error) {
    const Lock lock(mutex);
    return error == cudaSuccess ? "no error" : last_text.c_str();
}

cudaError_t cudaGetLastError() {
    const Lock lock(mutex);
    const cudaError_t error = last_error;
    last_error = error_of_launch;  // stays until the device is reset
    return error;
}

cudaError_t cudaPeekAtLastError() {
    const Lock lock(mutex);
    return last_error;
}

cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    return device == 0 ? cudaSuccess : failed(cudaErrorInvalidDevice, "invalid device ordinal");
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    const Lock lock(mutex);
    switch (attribute) {
        case cudaDevAttrMultiProcessorCount: *value = 4; break;
        case cudaDevAttrComputeCapabilityMajor: *value = major; break;
        case cudaDevAttrComputeCapabilityMinor: *value = minor; break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = int(MOST_SHARED); break;
        case cudaDevAttrMemoryPoolsSupported: *value = 1; break;
    }
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
    std::strcpy(properties->name, "simulator");
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
    const Lock lock(mutex);
    drain_all();
    return error_of_launch;
}

// --- memory -----------------------------------------------------------------------------------------------------------

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
    const Lock lock(mutex);
    *total = limit;
    *free = limit - std::min(limit, in_use);
    return error_of_launch;
}

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
    const Lock lock(mutex);
    if (error_of_launch) return error_of_launch;
    if (in_use + rounded(bytes) > limit || !(*memory = make_device_memory(bytes))) {
        return out_of_memory("cudaMalloc", bytes);
    }
    in_use += rounded(bytes);
    return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
    const Lock lock(mutex);
    if (!memory) return cudaSuccess;
    drain_all();
    const std::size_t bytes = bytes_of_device_memory(memory);
    if (bytes == std::size_t(-1) || pooled.count(memory)) {
        return failed(cudaErrorInvalidValue, "cudaFree: the memory is not from cudaMalloc");
    }
    in_use -= rounded(bytes);
    drop_device_memory(memory);
    return error_of_launch;
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
    *pool = new CUmemPoolHandle_st;
    return cudaSuccess;
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
    const Lock lock(mutex);
    cudaMemPoolTrimTo(pool, 0);
    if (pool->reserved) return failed(cudaErrorInvalidValue, "cudaMemPoolDestroy: memory of the pool is in use");
    delete pool;
    return cudaSuccess;
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, std::size_t kept) {
    const Lock lock(mutex);
    while (pool->reserved > kept && !pool->kept.empty()) {
        const auto largest = std::prev(pool->kept.end());
        pool->reserved -= largest->first;
        in_use -= largest->first;
        pool->kept.erase(largest);
    }
    return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }  // none is given back

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
    const Lock lock(mutex);
    const std::uint64_t found = attribute == cudaMemPoolAttrUsedMemCurrent ? pool->used : pool->reserved;
    std::memcpy(value, &found, sizeof found);
    return cudaSuccess;
}

cudaError_t cudaMallocFromPoolAsync(void** memory, std::size_t bytes, cudaMemPool_t pool, cudaStream_t) {
    const Lock lock(mutex);
    if (error_of_launch) return error_of_launch;
    std::size_t block;
    if (!take_block(*pool, rounded(bytes), block)) {
        drain_all();  // memory that is freed in a stream serves what comes later in it
        if (!take_block(*pool, rounded(bytes), block)) return out_of_memory("cudaMallocFromPoolAsync", bytes);
    }
    *memory = make_device_memory(bytes);
    pooled[*memory] = {pool, block};
    return cudaSuccess;
}

cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
    const Lock lock(mutex);
    const auto it = pooled.find(memory);
    if (it == pooled.end()) return failed(cudaErrorInvalidValue, "cudaFreeAsync: the memory is not from a pool");
    const auto [pool, block] = it->second;
    pooled.erase(it);
    queue(stream, [memory, pool = pool, block = block] {
        drop_device_memory(memory);
        pool->used -= block;
        pool->kept.emplace(block, 0);
    });
    return error_of_launch;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    const Lock lock(mutex);
    if (error_of_launch) return error_of_launch;
    if (bytes == 0) return cudaSuccess;
    if (is_device(to, bytes) != (kind != cudaMemcpyDeviceToHost) ||
        is_device(from, bytes) != (kind != cudaMemcpyHostToDevice)) {
        return failed(cudaErrorInvalidValue, "cudaMemcpyAsync: " + std::to_string(bytes) +
                                                 " bytes are not where the kind of the copy says, or run past an array");
    }
    if (kind == cudaMemcpyHostToDevice) {
        const auto* first = static_cast<const char*>(from);
        queue(stream, [to, staged = std::vector<char>(first, first + bytes)] {
            std::memcpy(to, staged.data(), staged.size());
        });
        return cudaSuccess;
    }
    queue(stream, [=] {
        if (!error_of_launch) std::memcpy(to, from, bytes);
    });
    if (kind == cudaMemcpyDeviceToHost) drain(stream_of(stream));
    return error_of_launch;
}

cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream) {
    const Lock lock(mutex);
    if (error_of_launch) return error_of_launch;
    if (bytes && !is_device(memory, bytes)) {
        return failed(cudaErrorInvalidValue, "cudaMemsetAsync: " + std::to_string(bytes) + " bytes run past an array");
    }
    queue(stream, [=] { std::memset(memory, value, bytes); });
    return cudaSuccess;
}

// --- streams and events -----------------------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    const Lock lock(mutex);
    streams.push_back(*stream = new CUstream_st);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    const Lock lock(mutex);
    drain(*stream);
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    const Lock lock(mutex);
    drain(stream_of(stream));
    return error_of_launch;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = new CUevent_st;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    const Lock lock(mutex);
    drain_all();
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    const Lock lock(mutex);
    event->stream = &stream_of(stream);
    const std::uint64_t record = ++event->recorded;
    queue(stream, [=] { event->completed = record; });
    return error_of_launch;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    const Lock lock(mutex);
    stream_of(stream).queue.push_back({{}, event, event->recorded});
    return error_of_launch;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    const Lock lock(mutex);
    while (event->completed < event->recorded) step(*event->stream);
    return error_of_launch;
}
