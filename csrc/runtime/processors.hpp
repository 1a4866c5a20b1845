// How many processors this process may use.
#pragma once

#include <string>

namespace pyroberta {

// Those in the affinity mask of the process's main thread; on Linux no more than the CPU quotas of the control groups above this
// process allow, rounded down, at least 1. Files that cannot be read limit nothing.
// root: stands before "/proc/self/cgroup" and "/sys/fs/cgroup", for tests.
int processors(const std::string& root = "");

// Lets the calling thread run where the main thread may, whatever thread it was started by.
void use_processors_of_process();

}  // namespace pyroberta
