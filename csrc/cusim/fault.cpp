#include "cusim/fault.hpp"

#include <dlfcn.h>
#include <signal.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "cusim/device.hpp"
#include "cusim/fiber.hpp"
#include "cusim/run.hpp"
#include "cusim/shared.hpp"

#ifdef CUSIM_ADDRESS
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace cusim {
namespace {

Fault fault;
bool is_pending;

}  // namespace

#if defined(__x86_64__) && !defined(CUSIM_ADDRESS) && !defined(CUSIM_THREAD)

static struct sigaction before;
static stack_t stack_before;
static char signal_stack[1 << 16];

static void catch_signal(int number, siginfo_t* info, void* context) {
    auto* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    if (!current || is_pending) {  // a mistake of the simulator itself
        sigaction(number, &before, nullptr);
        return;
    }
    fault = {info->si_addr, reinterpret_cast<void*>(registers[REG_RIP]), (registers[REG_ERR] & 2) != 0};
    is_pending = true;
    // The fiber goes on in end_fiber, on its own stack, and never comes back.
    const auto stack = static_cast<std::uintptr_t>(registers[REG_RSP]);
    registers[REG_RSP] = static_cast<greg_t>((stack - 256) / 16 * 16 - 8);
    registers[REG_RIP] = reinterpret_cast<greg_t>(&end_fiber);
}

void watch_faults() {
    is_pending = false;
    stack_t stack{};
    stack.ss_sp = signal_stack;
    stack.ss_size = sizeof signal_stack;
    sigaltstack(&stack, &stack_before);
    struct sigaction action {};
    action.sa_sigaction = catch_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(SIGSEGV, &action, &before);
}

void unwatch_faults() {
    sigaction(SIGSEGV, &before, nullptr);
    sigaltstack(&stack_before, nullptr);
}

#elif defined(CUSIM_ADDRESS)

static void name_thread(const char*) { __sanitizer_report_error_summary(("cusim: " + running_thread()).c_str()); }

void watch_faults() { __asan_set_error_report_callback(name_thread); }
void unwatch_faults() { __asan_set_error_report_callback(nullptr); }

#else

void watch_faults() {}
void unwatch_faults() {}

#endif

const Fault* take_fault() {
    if (!is_pending) return nullptr;
    is_pending = false;
    return &fault;
}

std::string place_of(const Fault& found) {
    Dl_info library{};
    if (!dladdr(found.instruction, &library)) return "?";
    const auto offset =
        reinterpret_cast<std::uintptr_t>(found.instruction) - reinterpret_cast<std::uintptr_t>(library.dli_fbase);
    char command[4096], line[4096] = "?";
    std::snprintf(command, sizeof command, "addr2line -e '%s' %zx", library.dli_fname, std::size_t{offset});
    if (FILE* pipe = popen(command, "r")) {
        if (!std::fgets(line, sizeof line, pipe)) line[0] = '?', line[1] = 0;
        pclose(pipe);
    }
    std::string place = line;
    while (!place.empty() && place.back() == '\n') place.pop_back();
    const auto root = place.rfind("csrc/");  // as other messages name files
    return root == std::string::npos ? place : place.substr(root);
}

std::string describe(const Fault& found) {
    std::string subject = describe_shared(found.address);
    if (subject.empty()) subject = describe_device(found.address);
    return std::string(found.is_write ? "writes " : "reads ") + subject;
}

}  // namespace cusim
