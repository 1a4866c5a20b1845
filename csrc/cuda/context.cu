#include "cuda/context.hpp"

#include <numeric>

#include "cuda/seam.hpp"

namespace pyroberta {
namespace cuda {

void check(int error, const char* call) {
    if (error == cudaSuccess) return;
    const auto found = static_cast<cudaError_t>(error);
    cudaGetLastError();  // forgets it, where the device can be used further
    throw CudaError(std::string(call) + ": " + cudaGetErrorName(found) + ", " + cudaGetErrorString(found));
}

namespace {

int attribute(cudaDeviceAttr name, int device) {
    int value;
    CHECKED(cudaDeviceGetAttribute, &value, name, device);
    return value;
}

std::uint64_t bytes_of(cudaMemPool_t pool, cudaMemPoolAttr name) {
    std::uint64_t bytes;
    CHECKED(cudaMemPoolGetAttribute, pool, name, &bytes);
    return bytes;
}

}  // namespace

// --- the device -------------------------------------------------------------------------------------------------------

Context::Context(int device) : device_(device) {
    int count = 0;
    CHECKED(cudaGetDeviceCount, &count);
    if (device < 0 || device >= count) {
        throw CudaError("the device " + std::to_string(device) + " is not one of the " + std::to_string(count) +
                        " that CUDA finds");
    }
    capability_ = 10 * attribute(cudaDevAttrComputeCapabilityMajor, device) +
                  attribute(cudaDevAttrComputeCapabilityMinor, device);
    multiprocessors_ = attribute(cudaDevAttrMultiProcessorCount, device);
    if (!attribute(cudaDevAttrMemoryPoolsSupported, device)) {
        throw CudaError("the driver of device " + std::to_string(device) + " has no memory pools");
    }
    const OnDevice here(*this);
    CHECKED(cudaStreamCreateWithFlags, &stream_, cudaStreamNonBlocking);
    // The driver's pool divides and joins memory. It keeps all that was given back, until `trim`.
    cudaMemPoolProps properties{};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id = device;
    std::uint64_t threshold = UINT64_MAX;
    CHECKED(cudaMemPoolCreate, &pool_, &properties);
    CHECKED(cudaMemPoolSetAttribute, pool_, cudaMemPoolAttrReleaseThreshold, &threshold);
}

Context::~Context() {  // at the process's end CUDA may be gone already: errors don't matter
    if (stream_) {
        cudaStreamSynchronize(stream_);
        cudaStreamDestroy(stream_);
    }
    if (pool_) cudaMemPoolDestroy(pool_);
    cudaGetLastError();
}

std::string Context::about() const {
    cudaDeviceProp properties;
    CHECKED(cudaGetDeviceProperties, &properties, device_);
    return std::string(properties.name) + ", compute capability " + std::to_string(capability_ / 10) + "." +
           std::to_string(capability_ % 10);
}

OnDevice::OnDevice(const Context& context) {
    int current;
    CHECKED(cudaGetDevice, &current);
    if (current == context.device()) return;
    before_ = current;
    CHECKED(cudaSetDevice, context.device());
}

OnDevice::~OnDevice() {
    if (before_ >= 0) cudaSetDevice(before_);
}

// --- memory -----------------------------------------------------------------------------------------------------------

void* Context::take(std::size_t bytes) {
    void* memory = nullptr;
    if (bytes == 0) return memory;
    const OnDevice here(*this);
    cudaError_t error = cudaMallocFromPoolAsync(&memory, bytes, pool_, stream_);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        trim();
        error = cudaMallocFromPoolAsync(&memory, bytes, pool_, stream_);
    }
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        std::size_t free = 0, total = 0;
        CHECKED(cudaMemGetInfo, &free, &total);
        throw OutOfMemory("device " + std::to_string(device_) + " has no memory for " + std::to_string(bytes) +
                          " bytes: of its " + std::to_string(total) + " bytes, " + std::to_string(free) +
                          " are free and " + std::to_string(bytes_used()) + " are in use here");
    }
    check(error, "cudaMallocFromPoolAsync");
    return memory;
}

void Context::give(void* memory, std::size_t bytes) noexcept {
    if (bytes) cudaFreeAsync(memory, stream_);  // which fails only after other errors, or at the process's end
}

std::size_t Context::bytes_used() const { return bytes_of(pool_, cudaMemPoolAttrUsedMemCurrent); }

std::size_t Context::bytes_kept() const { return bytes_of(pool_, cudaMemPoolAttrReservedMemCurrent) - bytes_used(); }

void Context::trim() {
    synchronize();  // memory that is given back in the stream is kept from then on
    CHECKED(cudaMemPoolTrimTo, pool_, 0);
}

void Context::upload(void* to, const void* from, std::size_t bytes) {
    CHECKED(cudaMemcpyAsync, to, from, bytes, cudaMemcpyHostToDevice, stream_);
}

void Context::download(void* to, const void* from, std::size_t bytes) {
    CHECKED(cudaMemcpyAsync, to, from, bytes, cudaMemcpyDeviceToHost, stream_);
    synchronize();
}

void Context::copy(void* to, const void* from, std::size_t bytes) {
    CHECKED(cudaMemcpyAsync, to, from, bytes, cudaMemcpyDeviceToDevice, stream_);
}

void Context::zero(void* memory, std::size_t bytes) { CHECKED(cudaMemsetAsync, memory, 0, bytes, stream_); }

void Context::synchronize() { CHECKED(cudaStreamSynchronize, stream_); }

// --- arrays -----------------------------------------------------------------------------------------------------------

std::size_t size_of(Type type) {
    switch (type) {
        case Type::BFLOAT16: return 2;
        case Type::FLOAT32:
        case Type::INT32: return 4;
        case Type::FLOAT64:
        case Type::INT64: return 8;
    }
    return 0;
}

const char* name_of(Type type) {
    switch (type) {
        case Type::FLOAT32: return "float32";
        case Type::BFLOAT16: return "bfloat16";
        case Type::FLOAT64: return "float64";
        case Type::INT32: return "int32";
        case Type::INT64: return "int64";
    }
    return "";
}

Array::Array(std::shared_ptr<Context> context, Type type, std::vector<std::int64_t> shape)
    : context_(std::move(context)), type_(type), shape_(std::move(shape)) {
    data_ = context_->take(bytes());
    memory_ = std::shared_ptr<void>(data_, [context = context_, bytes = bytes()](void* memory) {
        context->give(memory, bytes);
    });
}

Array Array::view(std::int64_t start, std::vector<std::int64_t> shape) const {
    Array part = *this;
    part.shape_ = std::move(shape);
    part.data_ = static_cast<char*>(data_) + static_cast<std::size_t>(start) * size_of(type_);
    return part;
}

std::int64_t Array::size() const {
    return std::accumulate(shape_.begin(), shape_.end(), std::int64_t{1}, std::multiplies<std::int64_t>());
}

}  // namespace cuda
}  // namespace pyroberta
