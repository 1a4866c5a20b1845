#include "cusim/shared.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "cusim/fiber.hpp"
#include "cusim/run.hpp"

namespace cusim {
namespace {

constexpr std::size_t PAGE = 4096, MOST_STATIC = std::size_t{48} << 10, MOST = std::size_t{227} << 10;
constexpr int MOST_ARRAYS = 64;
constexpr std::size_t ARENA = MOST + (2 * MOST_ARRAYS + 2) * PAGE;
constexpr unsigned char POISON = 0xff;  // as float32, float64 and bfloat16: NaN; as a whole number: -1
constexpr std::size_t ALIGNMENT = 16, BEFORE = 64;

struct Array {
    const void* site;
    const char* name;
    char* start;
    std::size_t bytes;
    char* guard;  // a page; the array ends at most 15 bytes before it
};
Array arrays[MOST_ARRAYS];
int num_arrays;
char *arena, *unused;
std::size_t static_bytes, bytes_of_launch;
char text[512];

char* add_array(const void* site, std::size_t bytes, const char* name) {
    const std::size_t room = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    const std::size_t pages = (room + BEFORE + PAGE - 1) / PAGE;
    char* first = unused;
    char* guard = first + pages * PAGE;
    unused = guard + PAGE;
    std::memset(first, POISON, pages * PAGE);
    mprotect(guard, PAGE, PROT_NONE);
    char* start = guard - room;
    arrays[num_arrays++] = {site, name, start, bytes, guard};
    poison(first, pages * PAGE);
    unpoison(start, bytes);
    return start;
}

}  // namespace

bool begin_shared(std::size_t dynamic_bytes) {
    num_arrays = 0;
    static_bytes = 0;
    bytes_of_launch = dynamic_bytes;
    arena = unused = map_memory(ARENA);
    if (!arena) return false;
    add_array(nullptr, dynamic_bytes, "the dynamic shared memory");
    return true;
}

void end_shared() {
    if (arena) unmap_memory(arena, ARENA);
    arena = nullptr;
}

void* dynamic_shared() { return arrays[0].start; }

void* shared_array(const void* site, std::size_t bytes, const char* name, Place at) {
    for (int i = 1; i < num_arrays; ++i) {
        if (arrays[i].site == site) return arrays[i].start;
    }
    static_bytes += bytes;
    if (num_arrays == MOST_ARRAYS) fail(at, "a kernel has at most %d shared arrays here", MOST_ARRAYS - 1);
    if (static_bytes > MOST_STATIC || static_bytes + bytes_of_launch > MOST) {
        fail(at, "%zu bytes of static and %zu of dynamic shared memory are more than a block may have", static_bytes,
             bytes_of_launch);
    }
    return add_array(site, bytes, name);
}

bool is_shared(const void* memory, std::size_t bytes) {
    const char* first = static_cast<const char*>(memory);
    for (int i = 0; i < num_arrays; ++i) {
        if (first >= arrays[i].start && first + bytes <= arrays[i].start + arrays[i].bytes) return true;
    }
    return false;
}

const char* spoilt_shared() {
    for (int i = 0; i < num_arrays; ++i) {
        const Array& array = arrays[i];
        for (const char* p = array.start - BEFORE; p < array.guard; ++p) {
            if (p == array.start) p += array.bytes;
            if (p < array.guard && static_cast<unsigned char>(*p) != POISON) {
                std::snprintf(text, sizeof text, "a thread of the block has written %s", describe_shared(p).c_str());
                return text;
            }
        }
    }
    return nullptr;
}

std::string describe_shared(const void* address) {
    const char* p = static_cast<const char*>(address);
    if (!arena || p < arena || p >= arena + ARENA) return "";
    for (int i = 0; i < num_arrays; ++i) {
        const Array& array = arrays[i];
        if (p >= array.guard + PAGE) continue;
        char found[256];
        const bool is_before = p < array.start;
        std::snprintf(found, sizeof found, "%td bytes %s %s of %zu bytes", is_before ? array.start - p : p - array.start,
                      is_before ? "before" : "after the start of", array.name, array.bytes);
        return found;
    }
    return "past all shared memory";
}

}  // namespace cusim
