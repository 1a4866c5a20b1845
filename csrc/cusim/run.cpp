#include "cusim/run.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "cusim/fault.hpp"
#include "cusim/fiber.hpp"
#include "cusim/shared.hpp"

namespace cusim {
namespace {

constexpr unsigned MOST_THREADS = 1024, WARP = 32;

enum class State { READY, AT_BARRIER, IN_WARP, RETURNED };

struct Copy {
    void* to;
    const void* from;
    unsigned bytes;
    int group;
    bool is_made;
};

struct Running : Thread {
    State state;
    Fiber fiber;
    Place at;  // of the barrier or the collective where it waits, and that one's name
    const char* operation;
    Barrier kind;
    int predicate;
    Post post;
    Copy copies[256];
    int num_copies, groups;
};

// Lanes that wait for each other.
struct Meeting {
    unsigned mask, arrived;
    char* tag;
};
struct Warp {
    Post posts[WARP];
    Meeting meetings[WARP];
    int num_meetings;
    char tags[2 * WARP];  // by which ThreadSanitizer knows the meetings; a lane may be at the next one already
    unsigned next_tag;
};

// While a fiber runs, nothing here is allocated: ThreadSanitizer would see malloc and free as accesses of the threads.
std::vector<Running> threads;
std::vector<Warp> warps;
unsigned num_threads, alive, at_barrier;
std::uint64_t ready[MOST_THREADS / 64];
char* stacks;
std::size_t bytes_of_stacks;
const std::function<void()>* body;
const char* kernel_name = "";
int barrier_result;
char barrier_tags[2];
unsigned barriers;  // that the block has passed

bool has_failed;
char failure[4096];
std::string last_message;

std::uint64_t order, random_state = 1;

Running& running() { return *static_cast<Running*>(current); }

void set_ready(Running& thread) {
    thread.state = State::READY;
    ready[thread.number / 64] |= std::uint64_t{1} << thread.number % 64;
}

// The next thread, or -1. It is taken from those that are ready.
int take_next() {
    const int words = MOST_THREADS / 64;
    const unsigned first = order > 1 ? unsigned(draw() % num_threads) : 0;
    int found = -1;
    for (int i = 0; found < 0 && i <= words; ++i) {  // the first word twice: from `first` on, and up to it
        const int w = order == 1 ? words - 1 - i : int(first / 64 + unsigned(i)) % words;
        if (w < 0) break;
        std::uint64_t set = ready[w];
        if (order > 1 && i == 0) set &= ~std::uint64_t{0} << first % 64;
        if (set) found = w * 64 + (order == 1 ? 63 - __builtin_clzll(set) : __builtin_ctzll(set));
    }
    if (found >= 0) ready[found / 64] &= ~(std::uint64_t{1} << found % 64);
    return found;
}

void write_failure(const Running& thread, const char* where, const char* text) {
    has_failed = true;
    const uint3 b = launched.block, t = thread.index;
    std::snprintf(failure, sizeof failure, "%s: block (%u, %u, %u), thread (%u, %u, %u), %s: %s", kernel_name, b.x, b.y, b.z,
                  t.x, t.y, t.z, where, text);
}

// Who waits where.
std::string waiting() {
    struct Group {
        int count;
        uint3 first;
    };
    std::map<std::string, Group> groups;
    for (unsigned i = 0; i < num_threads; ++i) {
        const Running& thread = threads[i];
        const std::string name = thread.state == State::RETURNED ? "have returned"
                                 : thread.state == State::READY
                                     ? "can go on"
                                     : std::string("wait at ") + thread.operation + ", " + thread.at.file + ":" +
                                           std::to_string(thread.at.line);
        ++groups.emplace(name, Group{0, thread.index}).first->second.count;
    }
    std::string text;
    for (const auto& [name, group] : groups) {
        const uint3 t = group.first;
        text += (text.empty() ? "" : "; ") + std::to_string(group.count) + " threads, from (" + std::to_string(t.x) +
                ", " + std::to_string(t.y) + ", " + std::to_string(t.z) + ") on, " + name;
    }
    return text;
}

// The block's end is not reached: says why, from the scheduler.
void fail_waiting(const char* reason) {
    for (unsigned i = 0; i < num_threads; ++i) {
        const Running& thread = threads[i];
        if (thread.state == State::RETURNED) continue;
        const std::string where = std::string(thread.at.file) + ":" + std::to_string(thread.at.line);
        write_failure(thread, where.c_str(), (std::string(reason) + ": " + waiting()).c_str());
        return;
    }
}

void yield() {
    set_ready(running());
    leave(running().fiber);
}

void make_copy(Copy& copy) {
    if (copy.is_made) return;
    copy.is_made = true;
    std::memcpy(copy.to, copy.from, copy.bytes);
    std::memset(static_cast<char*>(copy.to) + copy.bytes, 0, 16 - copy.bytes);
}

void note_copy(const Copy& copy) {
    note_read(copy.from, copy.bytes);
    note_write(copy.to, 16);
}

void run_thread() {
    begin_fiber();
    (*body)();
    Running& thread = running();
    if (thread.num_copies) fail(thread.at, "a thread has returned before its cp.async was waited for");
    thread.state = State::RETURNED;
    --alive;
    end_fiber();
}

// All that have not returned are at a barrier: they may go on if it is the same one.
void open_barrier() {
    const Running* first = nullptr;
    int count = 0;
    for (unsigned i = 0; i < num_threads; ++i) {
        const Running& thread = threads[i];
        if (thread.state != State::AT_BARRIER) continue;
        if (!first) first = &thread;
        if (thread.at.line != first->at.line || std::strcmp(thread.at.file, first->at.file)) {
            return fail_waiting("the threads of a block are at different barriers");
        }
        count += thread.predicate != 0;
    }
    if (alive != num_threads) return fail_waiting("a barrier in a block of which some threads have returned");
    const Barrier kind = first->kind;
    barrier_result = kind == Barrier::COUNT ? count : kind == Barrier::AND ? count == int(num_threads) : count != 0;
    at_barrier = 0;
    ++barriers;
    for (unsigned i = 0; i < num_threads; ++i) set_ready(threads[i]);
}

bool make_stacks() {
    const std::size_t bytes = num_threads * STACK;
    if (stacks && !FRESH_MEMORY && bytes_of_stacks >= bytes) {
        unpoison(stacks, bytes);  // AddressSanitizer's marks of frames that were left for good
        return true;
    }
    if (stacks) unmap_memory(stacks, bytes_of_stacks);
    stacks = map_memory(bytes);
    bytes_of_stacks = bytes;
    return stacks != nullptr;
}

void begin_threads() {
    alive = num_threads;
    at_barrier = barriers = 0;
    std::memset(ready, 0, sizeof ready);
    for (unsigned i = 0; i < num_threads; ++i) {
        Running& thread = threads[i];
        const dim3 dim = launched.block_dim;
        thread.index = {i % dim.x, i / dim.x % dim.y, i / (dim.x * dim.y)};
        thread.number = i;
        thread.lane = i % WARP;
        thread.warp = i / WARP;
        thread.num_copies = thread.groups = 0;
        thread.at = {"?", 0};
        make_fiber(thread.fiber, stacks + i * STACK, run_thread);
        set_ready(thread);
    }
    for (Warp& warp : warps) warp.num_meetings = 0;
}

void run_block(std::size_t shared_bytes) {
    begin_block(num_threads);
    if (!make_stacks() || !begin_shared(shared_bytes)) {
        has_failed = true;
        std::snprintf(failure, sizeof failure, "%s: the simulator has no memory for a block", kernel_name);
        return;
    }
    begin_threads();
    while (alive && !has_failed) {
        if (at_barrier == alive) {
            open_barrier();
            continue;
        }
        const int next = take_next();
        if (next < 0) {
            fail_waiting("no thread can go on (deadlock)");
            break;
        }
        current = &threads[unsigned(next)];
        enter(running().fiber);
        if (const Fault* fault = take_fault()) {
            const std::string text = describe(*fault);
            write_failure(running(), place_of(*fault).c_str(), text.c_str());
        }
    }
    if (const char* text = has_failed ? nullptr : spoilt_shared()) write_failure(running(), "at the block's end", text);
    for (unsigned i = 0; i < num_threads; ++i) retire(threads[i].fiber);
    end_shared();
}

}  // namespace

Thread* current;
Launched launched;

// --- order ------------------------------------------------------------------------------------------------------------

void set_order(std::uint64_t seed) {
    order = seed;
    random_state = (seed + 1) * 0x9E3779B97F4A7C15u | 1;
}

std::uint64_t draw() {  // xorshift64
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

bool is_random() { return order > 1; }

// --- a launch ---------------------------------------------------------------------------------------------------------

bool run(const char* kernel, dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& function) {
    kernel_name = kernel;
    body = &function;
    launched.block_dim = block;
    launched.grid_dim = grid;
    num_threads = block.x * block.y * block.z;
    if (threads.size() < num_threads) threads.resize(num_threads);
    warps.resize(num_threads / WARP);
    has_failed = false;
    std::vector<std::uint64_t> blocks(std::uint64_t{grid.x} * grid.y * grid.z);
    for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = order == 1 ? blocks.size() - 1 - i : i;
    for (std::size_t i = blocks.size(); order > 1 && i > 1; --i) std::swap(blocks[i - 1], blocks[draw() % i]);
    begin_launch();
    watch_faults();
    for (const std::uint64_t b : blocks) {
        launched.block = {unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / grid.x / grid.y)};
        run_block(shared_bytes);
        if (has_failed) break;
    }
    unwatch_faults();
    end_launch();
    if (has_failed) last_message = failure;
    return !has_failed;
}

const char* message() { return last_message.c_str(); }

std::string running_thread() {
    const uint3 b = launched.block, t = current ? current->index : uint3{};
    char text[512];
    std::snprintf(text, sizeof text, "%s: block (%u, %u, %u), thread (%u, %u, %u)", kernel_name, b.x, b.y, b.z, t.x, t.y,
                  t.z);
    return text;
}

void end_fiber() {
    leave(running().fiber, true);
    std::abort();
}

void fail(Place at, const char* format, ...) {
    char text[2048], where[1024];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    std::snprintf(where, sizeof where, "%s:%d", at.file, at.line);
    write_failure(running(), where, text);
    end_fiber();
}

// --- barriers and warps -----------------------------------------------------------------------------------------------

int barrier(Barrier kind, int predicate, Place at) {
    Running& thread = running();
    thread.state = State::AT_BARRIER;
    thread.at = at;
    thread.operation = "__syncthreads";
    thread.kind = kind;
    thread.predicate = predicate;
    ++at_barrier;
    char* tag = &barrier_tags[barriers % 2];
    release(tag);
    leave(thread.fiber);
    acquire(tag);
    return barrier_result;
}

void meet(unsigned mask, const char* operation, const Post& post, Place at) {
    Running& thread = running();
    Warp& warp = warps[thread.warp];
    if (!(mask >> thread.lane & 1)) {
        fail(at, "%s: the mask %08x does not have the calling lane, %u", operation, mask, thread.lane);
    }
    Meeting* meeting = nullptr;
    for (int i = 0; i < warp.num_meetings; ++i) {
        Meeting& other = warp.meetings[i];
        if (other.mask == mask) {
            meeting = &other;
        } else if (other.mask & mask) {
            fail(at, "%s: the mask %08x meets the mask %08x of other lanes of the warp", operation, mask, other.mask);
        }
    }
    if (!meeting) {
        meeting = &warp.meetings[warp.num_meetings++];
        *meeting = {mask, 0, &warp.tags[warp.next_tag++ % (2 * WARP)]};
    }
    thread.state = State::IN_WARP;
    thread.at = at;
    thread.operation = operation;
    thread.post = post;
    meeting->arrived |= 1u << thread.lane;
    char* tag = meeting->tag;
    release(tag);
    if (meeting->arrived == mask) {
        Running* lanes = &threads[thread.warp * WARP];
        for (unsigned lane = 0; lane < WARP; ++lane) {
            if (!(mask >> lane & 1)) continue;
            const Running& other = lanes[lane];
            if (other.at.line != at.line || std::strcmp(other.at.file, at.file) || std::strcmp(other.operation, operation)) {
                fail(at, "%s: lane %u of the mask %08x is at another operation, %s, %s:%d", operation, lane, mask,
                     other.operation, other.at.file, other.at.line);
            }
            warp.posts[lane] = other.post;
            set_ready(lanes[lane]);
        }
        *meeting = warp.meetings[--warp.num_meetings];
    }
    leave(thread.fiber);
    acquire(tag);
}

const Post& posted(unsigned mask, unsigned lane, Place at) {
    if (lane >= WARP || !(mask >> lane & 1)) fail(at, "reads lane %u, which the mask %08x does not have", lane, mask);
    return warps[running().warp].posts[lane];
}

void maybe_yield() {
    if (is_random() && draw() % 4 == 0) yield();
}

// --- asynchronous copies ----------------------------------------------------------------------------------------------

void cp_async_16(void* to, const void* from, unsigned bytes, Place at) {
    Running& thread = running();
    if ((reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from)) % 16) {
        fail(at, "cp.async: the addresses %p and %p must be multiples of 16", to, from);
    }
    if (bytes > 16) fail(at, "cp.async: at most 16 bytes are read, not %u", bytes);
    if (!is_shared(to, 16)) fail(at, "cp.async: the target is not in shared memory");
    if (is_poisoned(from, bytes)) fail(at, "cp.async: the source runs past its memory");
    if (thread.num_copies == 256) fail(at, "cp.async: the simulator holds 256 copies of a thread");
    thread.at = at;
    Copy copy{to, from, bytes, thread.groups, false};
    note_copy(copy);
    if (order == 1 || (is_random() && draw() % 2)) make_copy(copy);
    thread.copies[thread.num_copies++] = copy;
}

void cp_async_commit() { ++running().groups; }

void cp_async_wait(int groups_left) {
    Running& thread = running();
    int kept = 0;
    for (int i = 0; i < thread.num_copies; ++i) {
        Copy copy = thread.copies[i];
        if (copy.group >= thread.groups - groups_left) {
            thread.copies[kept++] = copy;
            continue;
        }
        note_copy(copy);
        make_copy(copy);
    }
    thread.num_copies = kept;
}

}  // namespace cusim
