#!/usr/bin/env bash
# The ops in CUDA, without a GPU. Their tests run in the simulator: plainly, then with fewer examples under
# AddressSanitizer with UndefinedBehaviorSanitizer, and each op once under ThreadSanitizer; any finding fails. Then nvcc
# compiles all sources for two kinds of GPUs, and the extension is imported. Needs .venv with the extra [test], g++, and
# nvcc or a registry of packages.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$PWD/.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() { echo "cuda: $*" >&2; exit 1; }
[ -x "$python" ] || fail "there is no .venv; make it with python3 -m venv .venv && .venv/bin/python -m pip install -e '.[test]'"
tools=$work/tools/bin
python3 -m venv "$work/tools"
"$tools/python" -m pip install --quiet 'pybind11>=2.13' cmake ninja

# Makes one target in build/cuda-NAME.
build() { # NAME TARGET OPTIONS...
  local name=$1 target=$2
  shift 2
  "$tools/cmake" -S . -B "build/cuda-$name" -G Ninja -DCMAKE_MAKE_PROGRAM="$tools/ninja" -DPython_EXECUTABLE="$python" \
    -Dpybind11_DIR="$("$tools/python" -m pybind11 --cmakedir)" "$@" >"$work/cmake.log" || { cat "$work/cmake.log" >&2; return 1; }
  "$tools/cmake" --build "build/cuda-$name" --target "$target"
}

# The tests in $files, in the simulator. A skip counts as failed, and so does what a sanitizer has found.
tests() { # NAME ENVIRONMENT...
  local name=$1 status=0
  shift
  env "$@" PYROBERTA_CUDA_SIM="$(echo "$PWD/build/cuda-$name"/csrc/cusim/_cuda_sim*.so)" OPENBLAS_NUM_THREADS=1 \
    ASAN_OPTIONS="detect_leaks=0:log_path=$work/found" \
    UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1:log_path=$work/found" \
    TSAN_OPTIONS="ignore_noninstrumented_modules=1:log_path=$work/found" \
    "$python" -m pytest -n auto --maxprocesses 4 --dist worksteal -q -rs -p no:cacheprovider --durations=3 -m cuda $files | tee "$work/pytest.log" || status=$?
  if compgen -G "$work/found*" >/dev/null; then
    cat "$work"/found* >&2
    fail "$name: see above"
  fi
  [ $status = 0 ] || fail "$name: the tests failed"
  ! tail -n 1 "$work/pytest.log" | grep -q skipped || fail "$name: tests were skipped: that counts as failed"
}

# Sets CUDACXX to the nvcc of pip's packages, which are 300 MB and of no use once their folder is moved.
packaged_nvcc() {
  echo "there is no nvcc in the PATH: taking that of pip's packages"
  "$tools/python" -m pip install --quiet nvidia-cuda-{nvcc,runtime,crt,cccl}=='13.0.*' nvidia-nvvm=='13.0.*' || return 1
  local cuda
  cuda=$(echo "$work"/tools/lib/python3*/site-packages/nvidia/cu13)
  ln -s libcudart.so.13 "$cuda/lib/libcudart.so" # CMake looks for this name
  export CUDACXX=$cuda/bin/nvcc NVCC_APPEND_FLAGS=-L$cuda/lib
}

step() { printf '\n=== cuda: %s (%ss)\n' "$1" "$SECONDS"; }

files=tests/cuda
step "the simulator"
build simulator _cuda_sim -DPYROBERTA_CUDA_SIM=ON
tests simulator HYPOTHESIS_PROFILE=random HYPOTHESIS_EXAMPLES=25

# The preset's updates launch the kernels that the other tests launch. Under ThreadSanitizer a CUDA thread costs almost a
# millisecond.
files="$files --ignore tests/cuda/test_preset_cuda.py"
few="tests/cuda/test_each_op_once.py tests/cuda/test_simulator.py"
for name in address thread; do
  step "$name"
  # libstdc++ beside AddressSanitizer: at its start it looks for the function that throws, and Python has none.
  sanitizers="address;undefined" libraries="libasan.so libstdc++.so"
  [ $name = address ] || sanitizers=thread libraries=libtsan.so files=$few
  build $name _cuda_sim -DPYROBERTA_CUDA_SIM=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo "-DPYROBERTA_SANITIZE=$sanitizers"
  tests $name HYPOTHESIS_PROFILE=random HYPOTHESIS_EXAMPLES=5 PYROBERTA_CUDA_ORDERS=1 PYTHONMALLOC=malloc \
    LD_PRELOAD="$(for library in $libraries; do realpath "$(g++ -print-file-name=$library)"; done | paste -sd:)"
done

step "nvcc"
command -v nvcc >/dev/null || [ -n "${CUDACXX:-}" ] || packaged_nvcc ||
  fail "NOTHING WAS COMPILED FOR A GPU: there is no nvcc in the PATH, CUDACXX is not set, and pip's nvidia-cuda-nvcc can't be installed"
build nvcc _cuda -DPYROBERTA_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=75-real;90"
PYTHONPATH=build/cuda-nvcc/csrc/cuda "$python" -c 'import _cuda; print(f"_cuda has {len(_cuda.OPS)} ops and is imported")'
step "done"
