#include "runtime/scratch.hpp"

#include <new>

#include "runtime/pages.hpp"
#include "runtime/pool.hpp"

namespace pyroberta {
namespace {

struct Buffer {
    void* data = nullptr;
    std::size_t bytes = 0;
    ~Buffer() { give(); }

    void give() {
        if (data) pages_give(data, bytes);
        data = nullptr;
        bytes = 0;
    }
};

}  // namespace

void* scratch_bytes(int number, std::size_t bytes) {
    thread_local Buffer buffers[5];
    Buffer& buffer = buffers[number];
    if (bytes > buffer.bytes) {
        const std::size_t size = (bytes + bytes / 8 + 63) / 64 * 64;
        buffer.give();
        buffer.data = pages_take(size);
        if (!buffer.data) throw std::bad_alloc();
        buffer.bytes = size;
    }
    ASAN_UNPOISON_MEMORY_REGION(buffer.data, bytes);
    ASAN_POISON_MEMORY_REGION(static_cast<char*>(buffer.data) + bytes, buffer.bytes - bytes);
    return buffer.data;
}

}  // namespace pyroberta
