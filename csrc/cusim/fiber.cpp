#include "cusim/fiber.hpp"

#include <sys/mman.h>

#include <vector>

#ifdef CUSIM_ADDRESS
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CUSIM_THREAD
#include <sanitizer/tsan_interface.h>
extern "C" void __tsan_read_range(void* memory, unsigned long bytes);
extern "C" void __tsan_write_range(void* memory, unsigned long bytes);
#endif
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace cusim {
namespace {

void* scheduler;  // its stack pointer, while a fiber runs
#ifdef CUSIM_ADDRESS
void* fake_stack_of_scheduler;
const void* bottom_of_scheduler;
std::size_t stack_of_scheduler;
#endif
#ifdef CUSIM_THREAD
void* tsan_of_scheduler;
std::vector<void*> spent;
constexpr std::size_t MOST_FIBERS = 6000;  // ThreadSanitizer counts up to 8000 threads
char launch_tag;

void destroy_spent() {
    for (void* fiber : spent) __tsan_destroy_fiber(fiber);
    spent.clear();
}
#endif

}  // namespace

// --- switching --------------------------------------------------------------------------------------------------------

#ifdef __x86_64__
// Saves the registers that a called function must keep, and the stack pointer; takes those that were saved elsewhere.
extern "C" void cusim_switch(void** saved, void* taken);
asm(R"(.text
.type cusim_switch, @function
cusim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    retq
.size cusim_switch, .-cusim_switch
)");

static void prepare(Fiber& fiber, void (*entry)()) {
    void** top = reinterpret_cast<void**>(fiber.stack + STACK) - 1;  // 8 off a multiple of 16, as after a call
    *--top = reinterpret_cast<void*>(entry);
    fiber.stack_pointer = top - 6;  // six registers, of any value
}
static void switch_to(Fiber& fiber) { cusim_switch(&scheduler, fiber.stack_pointer); }
static void switch_from(Fiber& fiber) { cusim_switch(&fiber.stack_pointer, scheduler); }
#else
static ucontext_t scheduler_context;

static void prepare(Fiber& fiber, void (*entry)()) {
    auto* context = reinterpret_cast<ucontext_t*>(fiber.stack);
    constexpr std::size_t TAKEN = (sizeof(ucontext_t) + 63) / 64 * 64;
    getcontext(context);
    context->uc_stack.ss_sp = fiber.stack + TAKEN;
    context->uc_stack.ss_size = STACK - TAKEN;
    context->uc_link = nullptr;
    makecontext(context, entry, 0);
    fiber.stack_pointer = context;
}
static void switch_to(Fiber& fiber) {
    swapcontext(&scheduler_context, static_cast<ucontext_t*>(fiber.stack_pointer));
}
static void switch_from(Fiber& fiber) {
    swapcontext(static_cast<ucontext_t*>(fiber.stack_pointer), &scheduler_context);
}
#endif

void make_fiber(Fiber& fiber, char* stack, void (*entry)()) {
    fiber.stack = stack;
    fiber.fake_stack = nullptr;
#ifdef CUSIM_THREAD
    fiber.tsan = __tsan_create_fiber(0);
#endif
    prepare(fiber, entry);
}

void enter(Fiber& fiber) {
#ifdef CUSIM_ADDRESS
    __sanitizer_start_switch_fiber(&fake_stack_of_scheduler, fiber.stack, STACK);
#endif
#ifdef CUSIM_THREAD
    __tsan_switch_to_fiber(fiber.tsan, __tsan_switch_to_fiber_no_sync);
#endif
    switch_to(fiber);
#ifdef CUSIM_ADDRESS
    __sanitizer_finish_switch_fiber(fake_stack_of_scheduler, nullptr, nullptr);
#endif
}

void leave(Fiber& fiber, [[maybe_unused]] bool is_last) {
#ifdef CUSIM_THREAD
    if (is_last) __tsan_release(&launch_tag);
    __tsan_switch_to_fiber(tsan_of_scheduler, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef CUSIM_ADDRESS
    __sanitizer_start_switch_fiber(is_last ? nullptr : &fiber.fake_stack, bottom_of_scheduler, stack_of_scheduler);
#endif
    switch_from(fiber);
#ifdef CUSIM_ADDRESS
    __sanitizer_finish_switch_fiber(fiber.fake_stack, &bottom_of_scheduler, &stack_of_scheduler);
#endif
}

void begin_fiber() {
#ifdef CUSIM_ADDRESS
    __sanitizer_finish_switch_fiber(nullptr, &bottom_of_scheduler, &stack_of_scheduler);
#endif
}

void release([[maybe_unused]] void* tag) {
#ifdef CUSIM_THREAD
    __tsan_release(tag);
#endif
}

void acquire([[maybe_unused]] void* tag) {
#ifdef CUSIM_THREAD
    __tsan_acquire(tag);
#endif
}

// --- launches ---------------------------------------------------------------------------------------------------------

void begin_launch() {
#ifdef CUSIM_THREAD
    tsan_of_scheduler = __tsan_get_current_fiber();
#endif
}

void begin_block([[maybe_unused]] unsigned count) {
#ifdef CUSIM_THREAD
    if (spent.size() + count > MOST_FIBERS) destroy_spent();
#endif
}

void retire([[maybe_unused]] Fiber& fiber) {
#ifdef CUSIM_THREAD
    spent.push_back(fiber.tsan);
#endif
}

void end_launch() {
#ifdef CUSIM_THREAD
    __tsan_acquire(&launch_tag);
    destroy_spent();
#endif
}

// --- memory -----------------------------------------------------------------------------------------------------------

char* map_memory(std::size_t bytes) {
    void* memory =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<char*>(memory);
}

void unmap_memory(char* memory, std::size_t bytes) {
    unpoison(memory, bytes);
    munmap(memory, bytes);
}

void note_read([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#ifdef CUSIM_THREAD
    __tsan_read_range(const_cast<void*>(memory), bytes);
#endif
}

void note_write([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#ifdef CUSIM_THREAD
    __tsan_write_range(memory, bytes);
#endif
}

void poison([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#ifdef CUSIM_ADDRESS
    __asan_poison_memory_region(memory, bytes);
#endif
}

void unpoison([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#ifdef CUSIM_ADDRESS
    __asan_unpoison_memory_region(memory, bytes);
#endif
}

bool is_poisoned([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#ifdef CUSIM_ADDRESS
    return __asan_region_is_poisoned(const_cast<void*>(memory), bytes) != nullptr;
#else
    return false;
#endif
}

}  // namespace cusim
