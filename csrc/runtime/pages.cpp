#include "runtime/pages.hpp"

#include <cstdint>
#include <cstdlib>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "runtime/faults.hpp"

namespace pyroberta {
namespace {

constexpr std::size_t LARGE = 1 << 17;  // below, malloc is as good
constexpr std::size_t HUGE_PAGE = 1 << 21;

std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

// Sanitizers look at the ends of what malloc gives.
#if defined(__linux__) && defined(MADV_HUGEPAGE) && !defined(PYROBERTA_SANITIZED)
void* map(std::size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? nullptr : memory;
}

void* large(std::size_t bytes) {
    if (bytes < HUGE_PAGE) return map(bytes);
    auto* memory = static_cast<char*>(map(bytes + HUGE_PAGE));  // with room to choose where it starts
    if (!memory) return nullptr;
    const std::size_t before = round_up(reinterpret_cast<std::uintptr_t>(memory), HUGE_PAGE) -
                               reinterpret_cast<std::uintptr_t>(memory);
    if (before) munmap(memory, before);
    munmap(memory + before + bytes, HUGE_PAGE - before);
    madvise(memory + before, bytes, MADV_HUGEPAGE);
    return memory + before;
}

constexpr std::size_t PAGE = 1 << 16;  // no system has larger ones

void give_large(void* memory, std::size_t bytes) { munmap(memory, bytes); }
#else
constexpr std::size_t PAGE = 64;

void* large(std::size_t bytes) { return std::aligned_alloc(64, bytes); }

void give_large(void* memory, std::size_t) { std::free(memory); }
#endif

}  // namespace

void* pages_take(std::size_t bytes) noexcept {
    if (is_fault()) return nullptr;
    return bytes < LARGE ? std::aligned_alloc(64, round_up(bytes, 64)) : large(round_up(bytes, PAGE));
}

void pages_give(void* memory, std::size_t bytes) noexcept {
    if (bytes < LARGE) {
        std::free(memory);
    } else {
        give_large(memory, round_up(bytes, PAGE));
    }
}

}  // namespace pyroberta
