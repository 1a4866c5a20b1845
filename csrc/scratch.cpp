#include "scratch.hpp"

#include <cstdlib>
#include <new>

#include "pool.hpp"

namespace pyroberta {
namespace {

struct Buffer {
    void* data = nullptr;
    std::size_t bytes = 0;
    ~Buffer() { std::free(data); }
};

}  // namespace

void* scratch_bytes(int number, std::size_t bytes) {
    thread_local Buffer buffers[8];
    Buffer& buffer = buffers[number];
    if (bytes > buffer.bytes) {
        const std::size_t size = (bytes + bytes / 8 + 63) / 64 * 64;
        std::free(buffer.data);
        buffer.bytes = 0;
        buffer.data = std::aligned_alloc(64, size);
        if (!buffer.data) throw std::bad_alloc();
        buffer.bytes = size;
    }
    ASAN_UNPOISON_MEMORY_REGION(buffer.data, bytes);
    ASAN_POISON_MEMORY_REGION(static_cast<char*>(buffer.data) + bytes, buffer.bytes - bytes);
    return buffer.data;
}

}  // namespace pyroberta
