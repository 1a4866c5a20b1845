#include "cusim/device.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <deque>
#include <map>

#include "cusim/fiber.hpp"

namespace cusim {
namespace {

constexpr std::size_t PAGE = 4096, BEFORE = 64;
constexpr unsigned char POISON = 0xff, BESIDE = 0xa5;
// CUDA aligns to 256 bytes. Kernels need 16; with these a kernel that runs past an array's end is found sooner.
constexpr std::size_t ALIGNMENT = 16;
constexpr std::size_t MOST_DROPPED = 256;

struct Memory {
    std::size_t bytes;
    char* region;  // of so many bytes; its last page is nobody's
    std::size_t region_bytes;
};
std::map<char*, Memory> live;  // by the first byte
std::map<char*, Memory> dropped;
std::deque<char*> order_of_dropped;

// The memory that has the address, or whose region has it.
std::map<char*, Memory>::const_iterator find(const std::map<char*, Memory>& memories, const void* address) {
    char* p = static_cast<char*>(const_cast<void*>(address));
    for (auto it = memories.begin(); it != memories.end(); ++it) {
        if (p >= it->second.region && p < it->second.region + it->second.region_bytes) return it;
    }
    return memories.end();
}

}  // namespace

void* make_device_memory(std::size_t bytes) {
    const std::size_t room = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    const std::size_t pages = (room + BEFORE + PAGE - 1) / PAGE * PAGE;
    char* region = map_memory(pages + PAGE);
    if (!region) return nullptr;
    char* start = region + pages - room;
    mprotect(region + pages, PAGE, PROT_NONE);
    std::memset(region, BESIDE, pages);
    std::memset(start, POISON, bytes);
    poison(region, pages);
    unpoison(start, bytes);
    live[start] = {bytes, region, pages + PAGE};
    return start;
}

void drop_device_memory(void* memory) {
    const auto it = live.find(static_cast<char*>(memory));
    if (it == live.end()) return;
    const Memory gone = it->second;
    live.erase(it);
    madvise(gone.region, gone.region_bytes, MADV_DONTNEED);
    mprotect(gone.region, gone.region_bytes, PROT_NONE);
    dropped[static_cast<char*>(memory)] = gone;
    order_of_dropped.push_back(static_cast<char*>(memory));
    if (order_of_dropped.size() > MOST_DROPPED) {
        const auto oldest = dropped.find(order_of_dropped.front());
        unmap_memory(oldest->second.region, oldest->second.region_bytes);
        dropped.erase(oldest);
        order_of_dropped.pop_front();
    }
}

std::size_t bytes_of_device_memory(const void* memory) {
    const auto it = live.find(static_cast<char*>(const_cast<void*>(memory)));
    return it == live.end() ? std::size_t(-1) : it->second.bytes;
}

bool is_device(const void* memory, std::size_t bytes) {
    char* p = static_cast<char*>(const_cast<void*>(memory));
    auto it = live.upper_bound(p);
    return it != live.begin() && (--it, p + bytes <= it->first + it->second.bytes);
}

std::string spoilt_device() {
    for (const auto& [start, memory] : live) {
        const char* guard = memory.region + memory.region_bytes - PAGE;
        for (const char* p = start - BEFORE; p < guard; ++p) {
            if (p == start) p += memory.bytes;
            if (p < guard && static_cast<unsigned char>(*p) != BESIDE) {
                std::string text = "a thread has written " + describe_device(p);
                std::memset(const_cast<char*>(p), BESIDE, 1);  // it is said once
                return text;
            }
        }
    }
    return "";
}

std::string describe_device(const void* address) {
    const char* p = static_cast<const char*>(address);
    auto it = find(live, address);
    if (it != live.end()) {
        const bool is_before = p < it->first;
        return std::to_string(is_before ? it->first - p : p - it->first) +
               (is_before ? " bytes before" : " bytes after the start of") + " device memory of " +
               std::to_string(it->second.bytes) + " bytes";
    }
    it = find(dropped, address);
    if (it != dropped.end()) {
        return "device memory of " + std::to_string(it->second.bytes) + " bytes that was freed before";
    }
    char text[64];
    std::snprintf(text, sizeof text, "the address %p, which is nobody's", address);
    return text;
}

}  // namespace cusim
