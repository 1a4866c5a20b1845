// A device as the host sees it: its stream, its memory, and arrays there. No CUDA header is needed to include this one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

// CUDA's own names for them.
typedef struct CUstream_st* cudaStream_t;
typedef struct CUmemPoolHandle_st* cudaMemPool_t;

namespace pyroberta {
namespace cuda {

// A call of CUDA that failed. The text begins with the call's name, or the kernel's.
struct CudaError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The device has no more memory, after all that was kept has been given back. The device can be used further.
struct OutOfMemory : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Throws CudaError unless `error`, a cudaError_t, is cudaSuccess. `call` is what gave it.
void check(int error, const char* call);
#define CHECKED(call, ...) ::pyroberta::cuda::check(call(__VA_ARGS__), #call)

// One device. All that is asked of it goes through its stream, in order, so memory that is given back serves the next
// array at once. Several threads may use it. There is no global state: who needs the device has a Context.
class Context : public std::enable_shared_from_this<Context> {
   public:
    explicit Context(int device);
    ~Context();
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    int device() const { return device_; }
    int capability() const { return capability_; }  // 75, 80, 90, ...
    int multiprocessors() const { return multiprocessors_; }
    cudaStream_t stream() const { return stream_; }
    std::string about() const;

    // `bytes` of device memory, aligned to 256, for what is launched from now on. Memory that was given back is kept for
    // later. Where there is none the kept memory goes back to the device, then OutOfMemory is thrown.
    void* take(std::size_t bytes);
    void give(void* memory, std::size_t bytes) noexcept;

    std::size_t bytes_used() const;  // in arrays and in what ops work with
    std::size_t bytes_kept() const;  // beyond those
    void trim();                     // gives what is kept back to the device

    // Between host and device, in the stream's order. `upload` has read the source on return; `download` waits.
    void upload(void* to, const void* from, std::size_t bytes);
    void download(void* to, const void* from, std::size_t bytes);
    void copy(void* to, const void* from, std::size_t bytes);  // on the device
    void zero(void* memory, std::size_t bytes);
    void synchronize();

   private:
    int device_, capability_, multiprocessors_;
    cudaStream_t stream_ = nullptr;
    cudaMemPool_t pool_ = nullptr;
};

// As long as there is one of these, the context's device is the calling thread's; then that of before again.
class OnDevice {
   public:
    explicit OnDevice(const Context& context);
    ~OnDevice();
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;

   private:
    int before_ = -1;  // -1: the same one
};

// Room for what an op works with; it is given back, in the stream's order, when this ends.
template <typename T>
class Scratch {
   public:
    Scratch(Context& context, std::int64_t size)
        : context_(context), bytes_(static_cast<std::size_t>(size) * sizeof(T)), data_(context.take(bytes_)) {}
    ~Scratch() { context_.give(data_, bytes_); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    T* data() const { return static_cast<T*>(data_); }

   private:
    Context& context_;
    std::size_t bytes_;
    void* data_;
};

// What the numbers of an array are.
enum class Type { FLOAT32, BFLOAT16, FLOAT64, INT32, INT64 };
std::size_t size_of(Type type);
const char* name_of(Type type);

// An array on a device, contiguous, row after row. Copies share the memory, which lives as long as one of them.
class Array {
   public:
    // A new one, with unknown contents.
    Array(std::shared_ptr<Context> context, Type type, std::vector<std::int64_t> shape);

    // The elements from number `start` on, as an array of that shape.
    Array view(std::int64_t start, std::vector<std::int64_t> shape) const;

    Context& context() const { return *context_; }
    const std::shared_ptr<Context>& shared_context() const { return context_; }
    Type type() const { return type_; }
    const std::vector<std::int64_t>& shape() const { return shape_; }
    std::int64_t shape(std::size_t axis) const { return shape_[axis]; }
    std::int64_t size() const;
    std::size_t bytes() const { return static_cast<std::size_t>(size()) * size_of(type_); }
    void* data() const { return data_; }

   private:
    std::shared_ptr<Context> context_;
    Type type_;
    std::vector<std::int64_t> shape_;
    std::shared_ptr<void> memory_;
    void* data_;
};

}  // namespace cuda
}  // namespace pyroberta
