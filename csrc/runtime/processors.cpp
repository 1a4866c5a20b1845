#include "runtime/processors.hpp"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <thread>

#ifdef __linux__
#include <sched.h>
#include <unistd.h>
#endif

namespace pyroberta {
namespace {

constexpr double NO_LIMIT = std::numeric_limits<double>::infinity();

#ifdef __linux__
// Calls use(mask, its size in bytes) with the affinity mask of the main thread. Returns what that gives, 0 without a mask.
template <typename Use>
int with_affinity_mask(const Use& use) {
    // Kernels with room for more processors than the mask refuse it.
    for (int room = 1024; room <= (1 << 16); room *= 2) {
        cpu_set_t* mask = CPU_ALLOC(static_cast<std::size_t>(room));
        if (!mask) break;
        const std::size_t size = CPU_ALLOC_SIZE(static_cast<std::size_t>(room));
        const int found = sched_getaffinity(getpid(), size, mask) == 0 ? use(mask, size) : 0;
        CPU_FREE(mask);
        if (found > 0) return found;
    }
    return 0;
}

int in_affinity_mask() {
    const int count = with_affinity_mask([](cpu_set_t* mask, std::size_t size) { return CPU_COUNT_S(size, mask); });
    return count > 0 ? count : static_cast<int>(std::thread::hardware_concurrency());
}
#else
int in_affinity_mask() { return static_cast<int>(std::thread::hardware_concurrency()); }
#endif

double number_in(const std::string& path) {
    std::ifstream file(path);
    double number = 0;
    return file >> number ? number : 0;
}

// Processors that one group's quota pays for. Version 2 has "QUOTA PERIOD" or "max PERIOD" in one file, version 1 a file
// for each, and a quota of -1 for none.
double quota_of(const std::string& group, bool is_version_2) {
    double quota = 0, period = 0;
    if (is_version_2) {
        std::ifstream file(group + "/cpu.max");
        if (!(file >> quota >> period)) return NO_LIMIT;
    } else {
        quota = number_in(group + "/cpu.cfs_quota_us");
        period = number_in(group + "/cpu.cfs_period_us");
    }
    return quota > 0 && period > 0 ? quota / period : NO_LIMIT;
}

// The least quota of a group and all above it. In a container the path may be that of the host, and not be there: then the
// groups above it, up to what is mounted, count.
double least_quota(const std::string& mount, std::string path, bool is_version_2) {
    double least = NO_LIMIT;
    for (;;) {
        while (!path.empty() && path.back() == '/') path.pop_back();
        least = std::min(least, quota_of(mount + path, is_version_2));
        if (path.empty()) return least;
        path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
}

// Each line of /proc/self/cgroup is "0::PATH" in version 2, "NUMBER:CONTROLLERS:PATH" in version 1.
double control_groups(const std::string& root) {
    double least = NO_LIMIT;
    std::ifstream file(root + "/proc/self/cgroup");
    for (std::string line; std::getline(file, line);) {
        const std::size_t first = line.find(':'), second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
        if (controllers.empty()) {
            least = std::min(least, least_quota(root + "/sys/fs/cgroup", path, true));
        } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
            least = std::min(least, least_quota(root + "/sys/fs/cgroup/" + controllers, path, false));
            least = std::min(least, least_quota(root + "/sys/fs/cgroup/cpu", path, false));
        }
    }
    return least;
}

}  // namespace

void use_processors_of_process() {
#ifdef __linux__
    with_affinity_mask([](cpu_set_t* mask, std::size_t size) { return sched_setaffinity(0, size, mask) == 0 ? 1 : 0; });
#endif
}

int processors(const std::string& root) {
    const double allowed = std::min<double>(std::max(1, in_affinity_mask()), control_groups(root));
    return std::max(1, static_cast<int>(allowed));
}

}  // namespace pyroberta
