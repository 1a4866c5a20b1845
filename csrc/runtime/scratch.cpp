#include "runtime/scratch.hpp"

#include <new>
#include <stdexcept>
#include <string>

#include "runtime/pages.hpp"
#include "runtime/pool.hpp"

namespace pyroberta {
namespace {

struct Memory {
    void* data = nullptr;
    std::size_t bytes = 0;
    bool is_taken = false;
    ~Memory() { give(); }

    void give() {
        ASAN_UNPOISON_MEMORY_REGION(data, bytes);
        if (data) pages_give(data, bytes);
        data = nullptr;
        bytes = 0;
    }
};

Memory& memory_of(Buffer buffer) {
    thread_local Memory buffers[static_cast<int>(Buffer::COUNT)];
    return buffers[static_cast<int>(buffer)];
}

}  // namespace

void* scratch_take(Buffer buffer, std::size_t bytes) {
    Memory& memory = memory_of(buffer);
    if (memory.is_taken) {
        throw std::logic_error("scratch.hpp: buffer " + std::to_string(static_cast<int>(buffer)) +
                               " is taken a second time; whoever took it first still works in it");
    }
    if (bytes > memory.bytes) {
        const std::size_t size = (bytes + bytes / 8 + 63) / 64 * 64;
        memory.give();
        memory.data = pages_take(size);
        if (!memory.data) throw std::bad_alloc();
        memory.bytes = size;
    }
    memory.is_taken = true;
    ASAN_UNPOISON_MEMORY_REGION(memory.data, bytes);
    ASAN_POISON_MEMORY_REGION(static_cast<char*>(memory.data) + bytes, memory.bytes - bytes);
    return memory.data;
}

void scratch_give(Buffer buffer) noexcept {
    Memory& memory = memory_of(buffer);
    memory.is_taken = false;
    ASAN_POISON_MEMORY_REGION(memory.data, memory.bytes);
}

}  // namespace pyroberta
