#!/usr/bin/env bash
# The C++ ops' tests under AddressSanitizer with UndefinedBehaviorSanitizer, then under ThreadSanitizer: any finding
# fails. Under the first one each allocation also fails once (tests/native/faults.py). Needs .venv with the extra [test] and the
# objects of its build, both of which .ci/run makes. Under five minutes on two idle cores.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD python=$PWD/.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() { echo "sanitizers: $*" >&2; exit 1; }
[ -x "$python" ] || fail "there is no .venv; make it with python3 -m venv .venv && .venv/bin/python -m pip install -e '.[test]'"

# --- what the linker may choose ---------------------------------------------------------------------------------------

# A weak function (an inline one, a template's) that the objects for AVX2 or AVX-512 define outside the namespace of their
# own may be the copy that the linker keeps for everybody: SIGILL on an older machine. Looked for in what pip has built.
# DW.ref.* is a pointer, no code.
if [ "$(uname -m)" = x86_64 ]; then
  for set in avx2 avx512; do
    objects=$(find build -path "build/cp*/CMakeFiles/$set.dir/*.o") || true
    [ -n "$objects" ] || fail "pip has left no objects for $set in build/; run" \
      "SKBUILD_BUILD_DIR='build/{wheel_tag}' .venv/bin/python -m pip install -e '.[test]'"
    inside=" (_Z[A-Z]*NK?9pyroberta${#set}$set|DW\.ref\.)" # as the linker spells pyroberta::$set::
    weak=$(nm --defined-only $objects | grep -E '^[0-9a-f]+ [WVu] ' | grep -vE "$inside" | c++filt || true)
    [ -z "$weak" ] || fail "compiled for $set, but visible to all:"$'\n'"$weak"
  done
fi

# --- tools ------------------------------------------------------------------------------------------------------------

asan() { clang++ -print-file-name="libclang_rt.asan-$(uname -m).so"; }
if ! command -v clang++ >/dev/null || ! command -v cmake >/dev/null || [ ! -f "$(asan)" ]; then
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
    fail "needs clang++ with its sanitizers, g++ and cmake, and can install them only as root and with apt-get"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends clang g++ cmake make >/dev/null
  apt-get install -y -qq --no-install-recommends "libclang-rt-$(clang++ -dumpversion | cut -d. -f1)-dev" >/dev/null
fi
"$python" -m pip install --quiet --target build/sanitize-tools --upgrade 'pybind11>=2.13'

# Clang 14's own runtime of ThreadSanitizer dies when it is preloaded into a program; GCC's does the same work.
# That it does is seen below.
tsan=$(realpath "$(g++ -print-file-name=libtsan.so)")

# --- one build and its tests ------------------------------------------------------------------------------------------

# Runs a command beside the package's copy, so that `import` finds that one. A finding ends up in $work/found.*
with_sanitizer() ( # NAME COMMAND...
  name=$1
  shift
  cd "$work/$name"
  case $name in
    address) preload=$(asan) ;;
    thread) preload=$tsan ;;
  esac
  # PYTHONMALLOC: an array for each allocation, whose ends are seen. Leaks are looked for by tests: Python itself leaves
  # much behind when it ends. Modules without instrumentation (NumPy) show ThreadSanitizer half of what they do.
  env LD_PRELOAD="$preload" PYTHONPATH="$work/$name" PYTHONMALLOC=malloc CI=1 HYPOTHESIS_PROFILE=few \
    PYROBERTA_NUM_THREADS=4 OPENBLAS_NUM_THREADS=1 \
    ASAN_OPTIONS="detect_leaks=0:log_path=$work/found" \
    UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1:log_path=$work/found" \
    TSAN_OPTIONS="ignore_noninstrumented_modules=1:log_path=$work/found" "$@"
)

# Fails where something was found, and prints it.
nothing_found() {
  if compgen -G "$work/found*" >/dev/null; then
    cat "$work"/found* >&2
    return 1
  fi
}

build() { # NAME SANITIZERS
  local name=$1 objects=build/sanitize-$1
  # pybind11 strips a Release of the names and lines that a report should show
  cmake -S . -B "$objects" -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=RelWithDebInfo -DPYROBERTA_SANITIZE="$2" -DPYROBERTA_FAULTS=ON \
    -DPython_EXECUTABLE="$python" -Dpybind11_DIR="$root/build/sanitize-tools/pybind11/share/cmake/pybind11" >/dev/null
  cmake --build "$objects" -j "$(nproc)"
  mkdir "$work/$name"
  cp -r pyroberta tests pyproject.toml "$work/$name"
  rm -f "$work/$name"/pyroberta/_native*.so
  cp "$objects"/_native*.so "$work/$name/pyroberta"
  # The copy is to be imported, not what an editable install would find.
  cat >"$work/$name/sitecustomize.py" <<'PY'
import sys

sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]
PY
}

# A mistake made on purpose is found: a sanitizer that is not in force would find nothing anywhere.
plant() { # NAME MISTAKE FLAG
  clang++ -shared -fPIC -g -O1 "-fsanitize=$3" -o "$work/$2.so" -x c++ - <<'CPP'
#include <cstdlib>
#include <mutex>
#include <thread>
extern "C" {
int counter;
void race(int times) {
    std::thread other([=] { for (int i = 0; i < times; ++i) counter += i; });
    for (int i = 0; i < times; ++i) counter -= i;
    other.join();
}
void overrun(int size) {
    char* volatile memory = static_cast<char*>(std::malloc(size));
    memory[size] = 1;
    std::free(memory);
}
void overflow(int number) { counter = number + 0x7fffffff; }
void fine(int number) {
    std::mutex mutex;
    const auto add = [&] {
        const std::lock_guard<std::mutex> lock(mutex);
        for (int i = 0; i < number; ++i) counter += i;
    };
    std::thread other(add);
    add();
    other.join();
}
}
CPP
  with_sanitizer "$1" "$python" -c "import ctypes; ctypes.CDLL('$work/$2.so').fine(100)"
  nothing_found || fail "$1: a finding where there is nothing"
  with_sanitizer "$1" "$python" -c "import ctypes; ctypes.CDLL('$work/$2.so').$2(100)" 2>/dev/null || true
  compgen -G "$work/found*" >/dev/null || fail "$1 does not see the $2 that was planted"
  rm "$work"/found*
}

tests() { # NAME PYTEST_ARGUMENTS...
  local name=$1 status=0
  shift
  with_sanitizer "$name" "$python" -m pytest -q -rs -p no:cacheprovider "$@" | tee "$work/pytest.log" || status=$?
  nothing_found || fail "$name: see above"
  [ $status = 0 ] || fail "$name: the tests failed"
  ! tail -n 1 "$work/pytest.log" | grep -q skipped || fail "$name: tests were skipped: that counts as failed"
}

is_copy="from pyroberta import _native; assert _native.__file__.startswith('$work'), _native.__file__; print(_native.about())"
files="tests/native/test_border.py tests/native/test_rows.py tests/native/test_training.py"

for name in address thread; do
  printf '\n=== %s (%ss)\n' "$name" "$SECONDS"
  if [ $name = address ]; then
    build address "address;undefined"
    plant address overrun address
    plant address overflow undefined
  else
    build thread thread
    plant thread race thread
  fi
  with_sanitizer $name "$python" -c "$is_copy"
  tests $name $files
  # Forks do not go with ThreadSanitizer, nor does a small address space with AddressSanitizer.
  [ $name = thread ] || tests $name tests/native/faults.py tests/native/test_threads.py -k "not starts_no_thread"
  # The other instruction sets have tiles of other sizes; which memory is whose depends on that alone.
  if [ $name = address ]; then
    for set in $(with_sanitizer address "$python" -c "from pyroberta import _native; print(*_native.instruction_sets()[1:])"); do
      PYROBERTA_ISA=$set tests address tests/native/test_rows.py
    done
  fi
done
printf '\n=== no findings (%ss)\n' "$SECONDS"
