// What a running kernel asks of the simulator, and how a launch is run. For tests only.
//
// A block's threads run one at a time, each as a fiber on the calling thread. They change places at barriers, at
// collectives of a warp and, in some orders, at atomics. The order is drawn from a seed, so that a run can be repeated.
// A mistake ends the launch; the message names the kernel, the block, the thread, the file and the line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace cusim {

struct Place {
    const char* file;
    int line;
};

// A thread, as far as a kernel may look at it.
struct Thread {
    uint3 index;
    unsigned number, lane, warp;  // in the block; in the warp; the warp's in the block
};
struct Launched {
    uint3 block;
    dim3 block_dim, grid_dim;
};
extern Thread* current;
extern Launched launched;

// Ends the launch. The message begins with the kernel, the block, the thread and the place.
[[noreturn]] void fail(Place at, const char* format, ...) __attribute__((format(printf, 2, 3)));

enum class Barrier { PLAIN, COUNT, AND, OR };
int barrier(Barrier kind, int predicate, Place at);

// A collective of the lanes in the mask: each brings a post, and may read those of the others until the next one.
struct Post {
    std::uint64_t words[4];
};
void meet(unsigned mask, const char* operation, const Post& post, Place at);
const Post& posted(unsigned mask, unsigned lane, Place at);

// A moment at which another thread may go on.
void maybe_yield();

// Shared memory of the running block: an array, by the place of its declaration, and the memory that the launch gave.
void* shared_array(const void* site, std::size_t bytes, const char* name, Place at);
void* dynamic_shared();

void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], Place at);
void ldmatrix(std::uint32_t* registers, int matrices, bool is_transposed, const void* row, Place at);

// `bytes` of the 16 are copied, and the rest of them zeroed: at the latest when the group has been waited for.
void cp_async_16(void* to, const void* from, unsigned bytes, Place at);
void cp_async_commit();
void cp_async_wait(int groups_left);

// Runs all blocks. Returns false after a mistake; `message()` has it.
bool run(const char* kernel, dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& body);
const char* message();

// 0: the lowest thread and block that can go on; 1: the highest; others: drawn from the seed. 0 makes an asynchronous
// copy as late as it may be made, 1 as early; others draw that, too.
void set_order(std::uint64_t seed);
std::uint64_t draw();  // of the order's stream of random numbers
bool is_random();

}  // namespace cusim
