#include "runtime/pool.hpp"

#include <algorithm>
#include <map>
#include <mutex>
#include <new>
#include <unordered_map>

#ifndef _WIN32
#include <pthread.h>
#endif

#include "runtime/pages.hpp"

namespace pyroberta {
namespace {

constexpr std::size_t SMALL = 1 << 12;  // what is below is rounded up to it, so that few sizes exist

struct MemoryPool {
    std::mutex mutex;
    std::unordered_map<void*, std::size_t> sizes;    // of everything in use
    std::multimap<std::size_t, void*> kept;          // by size
    std::size_t used_bytes = 0, kept_bytes = 0, most_bytes = 0;

    std::size_t release(std::size_t down_to) {
        const std::size_t before = kept_bytes;
        while (kept_bytes > down_to && !kept.empty()) {
            const auto largest = std::prev(kept.end());
            kept_bytes -= largest->first;
            ASAN_UNPOISON_MEMORY_REGION(largest->second, largest->first);
            pages_give(largest->second, largest->first);
            kept.erase(largest);
        }
        return before - kept_bytes;
    }
};

MemoryPool& pool() {
    static MemoryPool* const only = new MemoryPool;  // never destroyed: arrays may outlive static objects
    return *only;
}

// A child is forked while no other thread changes the pool, so that it finds it whole and unlocked.
#ifndef _WIN32
[[maybe_unused]] const int at_fork = pthread_atfork([] { pool().mutex.lock(); }, [] { pool().mutex.unlock(); },
                                                    [] { pool().mutex.unlock(); });
#endif

}  // namespace

void* pool_take(std::size_t bytes) {
    [[maybe_unused]] const std::size_t asked = bytes;
    bytes = std::max(SMALL, (bytes + 63) / 64 * 64);
    MemoryPool& blocks = pool();
    const std::lock_guard<std::mutex> lock(blocks.mutex);
    void* memory = nullptr;
    const auto fit = blocks.kept.lower_bound(bytes);
    if (fit != blocks.kept.end() && fit->first <= bytes + bytes / 4) {
        memory = fit->second;
        bytes = fit->first;
        blocks.kept_bytes -= bytes;
        blocks.kept.erase(fit);
    } else {
        // All together never take more than was in use at once: what is kept makes room for what is asked for.
        blocks.most_bytes = std::max(blocks.most_bytes, blocks.used_bytes + bytes);
        blocks.release(blocks.most_bytes - blocks.used_bytes - bytes);
        memory = pages_take(bytes);
        if (!memory) throw std::bad_alloc();
    }
    try {
        blocks.sizes.emplace(memory, bytes);
    } catch (...) {
        pages_give(memory, bytes);
        throw;
    }
    blocks.used_bytes += bytes;
    blocks.most_bytes = std::max(blocks.most_bytes, blocks.used_bytes);
    ASAN_UNPOISON_MEMORY_REGION(memory, asked);
    ASAN_POISON_MEMORY_REGION(static_cast<char*>(memory) + asked, bytes - asked);
    return memory;
}

void pool_give(void* memory) noexcept {
    MemoryPool& blocks = pool();
    const std::lock_guard<std::mutex> lock(blocks.mutex);
    const auto place = blocks.sizes.find(memory);
    const std::size_t bytes = place->second;
    blocks.sizes.erase(place);
    blocks.used_bytes -= bytes;
    try {
        blocks.kept.emplace(bytes, memory);
        blocks.kept_bytes += bytes;
        ASAN_POISON_MEMORY_REGION(memory, bytes);
    } catch (...) {
        pages_give(memory, bytes);
    }
}

std::size_t pool_release() {
    MemoryPool& blocks = pool();
    const std::lock_guard<std::mutex> lock(blocks.mutex);
    blocks.most_bytes = blocks.used_bytes;
    return blocks.release(0);
}

void pool_counts(std::size_t& used, std::size_t& kept) {
    MemoryPool& blocks = pool();
    const std::lock_guard<std::mutex> lock(blocks.mutex);
    used = blocks.used_bytes;
    kept = blocks.kept_bytes;
}

}  // namespace pyroberta
