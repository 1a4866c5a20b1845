#include "runtime/threads.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "runtime/faults.hpp"
#include "runtime/processors.hpp"

#ifndef _WIN32
#include <pthread.h>
#include <signal.h>
#endif

namespace pyroberta {
namespace {

constexpr long MOST_THREADS = 1 << 16;

// So long a thread looks for work, or waits for the last task, before it sleeps. Python needs less than this from one op
// to the next; being woken takes about as long on a virtual machine.
constexpr std::chrono::microseconds SPIN{200};

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Calls is_over() until it is true, but not for longer than SPIN. Returns what it was last.
template <typename Condition>
bool spin_until(const Condition& is_over) {
    const auto end = std::chrono::steady_clock::now() + SPIN;
    do {
        for (int i = 0; i < 16; ++i) {
            if (is_over()) return true;
            pause();
        }
    } while (std::chrono::steady_clock::now() < end);
    return is_over();
}

// --- the pool ---------------------------------------------------------------------------------------------------------

// The tasks of one op. It lives on the stack of the thread that called the op.
struct Job {
    const Task call;
    const void* const body;
    const std::int64_t tasks;
    const int most_workers;
    const TaskOrder order;
    std::atomic<std::int64_t> begun{0};  // tasks; what is beyond the number of them was asked for in vain
    std::atomic<std::int64_t> down{0};   // INWARDS: of them, those that workers began
    std::int64_t up = 0;                 // INWARDS: those that the caller began
    std::atomic<int> inside{0};          // workers that may still touch the job
    // The rest is guarded by the pool's mutex.
    int joined = 0;  // workers that ever began, each with a slot of its own
    bool is_awaited = false;
    std::exception_ptr problem{};
    Job *before = nullptr, *after = nullptr;  // in the list of jobs

    bool has_room() const { return joined < most_workers && begun.load(std::memory_order_relaxed) < tasks; }

    // A task for the thread with that slot; -1 where all have been begun.
    std::int64_t take(int slot) {
        const std::int64_t count = begun.fetch_add(1, std::memory_order_relaxed);
        if (count >= tasks) return -1;
        if (order == TaskOrder::RISING) return count;
        return slot == 0 ? up++ : tasks - 1 - down.fetch_add(1, std::memory_order_relaxed);
    }
};

class ThreadPool {
   public:
    void run(Job& job) {
        start_workers(job.most_workers);
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            append(job);
            posted_.fetch_add(1, std::memory_order_relaxed);
            call_for(job, 1);
        }
        work_on(job, 0);
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            remove(job);
        }
        const auto is_done = [&] { return job.inside.load(std::memory_order_acquire) == 0; };
        if (!spin_until(is_done)) {
            std::unique_lock<std::mutex> lock(mutex_);
            job.is_awaited = true;
            done_.wait(lock, is_done);
        }
        if (job.problem) std::rethrow_exception(job.problem);
    }

    // Of the workers that were asked for, those that could be started.
    bool is_short() const { return is_short_.load(std::memory_order_relaxed); }
    int workers() const { return workers_.load(std::memory_order_relaxed); }

    void try_again() { is_short_.store(false, std::memory_order_relaxed); }

   private:
    void append(Job& job) {
        job.before = last_;
        (last_ ? last_->after : first_) = &job;
        last_ = &job;
    }

    void remove(Job& job) {
        (job.before ? job.before->after : first_) = job.after;
        (job.after ? job.after->before : last_) = job.before;
    }

    Job* open_job() const {
        Job* job = first_;
        while (job && !job->has_room()) job = job->after;
        return job;
    }

    // Wakes up to `most` workers that sleep, unless those who are awake are enough for the job. Each of them wakes two
    // more, so that many are awake soon, and no thread spends long on waking others.
    void call_for(const Job& job, int most) {
        if (!job.has_room()) return;
        const int missing = job.most_workers - job.joined - spinning_;
        for (int count = std::min({most, missing, sleeping_}); count > 0; --count) wake_.notify_one();
    }

    void work_on(Job& job, int slot) {
        std::int64_t task;
        try {
            while ((task = job.take(slot)) >= 0) job.call(job.body, task, slot);
        } catch (...) {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (!job.problem) job.problem = std::current_exception();
            job.begun.store(job.tasks, std::memory_order_relaxed);
        }
    }

    [[noreturn]] void work() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            if (Job* const job = open_job()) {
                const int slot = ++job->joined;
                job->inside.fetch_add(1, std::memory_order_relaxed);
                call_for(*job, 2);
                lock.unlock();
                work_on(*job, slot);
                lock.lock();
                // The caller may return, and the job be gone, as soon as nobody is inside.
                const bool is_awaited = job->is_awaited;
                if (job->inside.fetch_sub(1, std::memory_order_release) == 1 && is_awaited) done_.notify_all();
                continue;
            }
            const std::uint32_t seen = posted_.load(std::memory_order_relaxed);
            ++spinning_;
            lock.unlock();
            spin_until([&] { return posted_.load(std::memory_order_relaxed) != seen; });
            lock.lock();
            --spinning_;
            if (posted_.load(std::memory_order_relaxed) != seen) continue;
            ++sleeping_;
            wake_.wait(lock);
            --sleeping_;
        }
    }

    // Sees to it that there are so many workers, as far as the system starts them.
    void start_workers(int count) {
        if (workers() >= count || is_short()) return;
        const std::lock_guard<std::mutex> lock(starting_);
        while (workers() < count && !is_short()) {
            if (start_worker()) {
                workers_.fetch_add(1, std::memory_order_relaxed);
            } else {
                is_short_.store(true, std::memory_order_relaxed);
            }
        }
    }

    bool start_worker() {
        try {
            maybe_fail();
#ifndef _WIN32
            // Signals are for the program's own threads, but for those that tell what a thread itself has done.
            sigset_t others, before;
            sigfillset(&others);
            for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) sigdelset(&others, fault);
            pthread_sigmask(SIG_SETMASK, &others, &before);
            struct Restore {
                const sigset_t& mask;
                ~Restore() { pthread_sigmask(SIG_SETMASK, &mask, nullptr); }
            } restore{before};
#endif
            std::thread([this] {
                use_processors_of_process();
                work();
            }).detach();
            return true;
        } catch (const std::system_error&) {  // the process or the user has as many as are allowed
        } catch (const std::bad_alloc&) {
        }
        return false;
    }

    std::mutex mutex_, starting_;
    std::condition_variable wake_, done_;
    Job *first_ = nullptr, *last_ = nullptr;
    int spinning_ = 0, sleeping_ = 0;  // workers without work
    std::atomic<std::uint32_t> posted_{0};  // jobs ever
    std::atomic<int> workers_{0};
    std::atomic<bool> is_short_{false};
};

// The pool of this process. It is never destroyed: its workers sleep on it until the process ends. A forked child has none
// of its parent's threads, and their locks may be held for ever, so it begins with a pool of its own.
std::atomic<ThreadPool*> current{nullptr};
std::atomic<int> most{0};                // 0 before it is known
std::atomic<bool> is_counted{false};  // `most` is the number of processors, and a child may be given others

ThreadPool& pool() {
    ThreadPool* found = current.load(std::memory_order_acquire);
    if (!found) {
        auto* made = new ThreadPool;
        if (current.compare_exchange_strong(found, made, std::memory_order_acq_rel)) return *made;
        delete made;  // another thread was first
    }
    return *found;
}

int number_wanted() {
    const char* text = std::getenv("PYROBERTA_NUM_THREADS");
    if (text && *text) {
        char* end = nullptr;
        const long number = std::strtol(text, &end, 10);
        while (end != text && *end == ' ') ++end;
        if (end == text || *end || number < 1 || number > MOST_THREADS) {
            throw std::runtime_error("PYROBERTA_NUM_THREADS is '" + std::string(text) +
                                     "'; it should be the number of threads, a whole number from 1 to " + std::to_string(MOST_THREADS));
        }
        return static_cast<int>(number);
    }
    const char* others = std::getenv("OMP_NUM_THREADS");  // "4", or "4,2" for nested loops
    const long number = others ? std::strtol(others, nullptr, 10) : 0;
    if (number > 0) return static_cast<int>(std::min(number, MOST_THREADS));
    is_counted.store(true);
    return processors();
}

#ifndef _WIN32
[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, [] {
    current.store(nullptr);
    if (is_counted.load()) most.store(0);
});
#endif

}  // namespace

int most_threads() {
    int number = most.load(std::memory_order_relaxed);
    if (number == 0) {
        const int wanted = number_wanted();
        return most.compare_exchange_strong(number, wanted) ? wanted : number;  // another thread may have set it
    }
    return number;
}

void set_most_threads(int threads) {
    is_counted.store(false);
    most.store(threads, std::memory_order_relaxed);
    if (ThreadPool* const found = current.load(std::memory_order_acquire)) found->try_again();
}

std::string describe_threads() {
    const std::string wanted = "threads " + std::to_string(most_threads());
    const ThreadPool* const found = current.load(std::memory_order_acquire);
    if (!found || !found->is_short()) return wanted;
    return wanted + " (the system starts no more than " + std::to_string(found->workers() + 1) + ")";
}

int threads_for(double shares, std::int64_t tasks) {
#ifdef PYROBERTA_ALL_THREADS
    shares = most_threads();  // for ThreadSanitizer: what is small is done in parallel too
#endif
    return std::max(1, static_cast<int>(std::min({double(most_threads()), shares, double(tasks)})));
}

void run_tasks(std::int64_t tasks, int threads, TaskOrder order, Task call, const void* body) {
    Job job{call, body, tasks, static_cast<int>(std::min<std::int64_t>(tasks, threads)) - 1, order};
    pool().run(job);
}

}  // namespace pyroberta
