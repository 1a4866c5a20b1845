#!/usr/bin/env bash
# Every instruction set that this machine can run passes the tests of the rows, not only the widest, which users get: on
# 500 examples a test, drawn anew each time. .ci/instruction_sets.sh 20 does it 20 times, with 25 examples each.
# AVX-512's tiles are tested as `wide` (see CMakeLists.txt) where the machine has no AVX-512. At the end the kernels of
# products and attention are compared with the plain loops of csrc/kernels/plain.hpp.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD python=$PWD/.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tools=$work/tools/bin
python3 -m venv "$work/tools"
"$tools/python" -m pip install --quiet 'pybind11>=2.13' cmake ninja
"$tools/cmake" -S . -B build/sets -G Ninja -DCMAKE_MAKE_PROGRAM="$tools/ninja" -DPYROBERTA_WIDE=ON \
  -DPython_EXECUTABLE="$python" -Dpybind11_DIR="$("$tools/python" -m pybind11 --cmakedir)" >/dev/null
"$tools/cmake" --build build/sets >/dev/null
mkdir "$work/copy"
cp -r pyroberta tests pyproject.toml "$work/copy"
rm -f "$work"/copy/pyroberta/_native*.so
cp build/sets/_native*.so "$work/copy/pyroberta"
cat >"$work/copy/sitecustomize.py" <<'PY'
import sys

sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]
PY
cd "$work/copy"
export PYTHONPATH="$work/copy"
sets=$("$python" -c 'from pyroberta import _native; print(*_native.instruction_sets())')
echo "instruction sets: $sets"
times=${1:-1}
[ "$times" = 1 ] || export HYPOTHESIS_EXAMPLES=25
for set in $sets; do
  for ((i = 0; i < times; i++)); do
    PYROBERTA_ISA=$set HYPOTHESIS_PROFILE=random \
      "$python" -m pytest -q -p no:cacheprovider tests/native/test_rows.py tests/native/test_border.py
  done
done
"$python" "$root/benchmarks/ladder.py" --rounds 1
