#!/usr/bin/env bash
# The C++ ops compile for aarch64 without a warning, with NEON's registers and tiles of their own size (CMakeLists.txt),
# and pass their tests there: cross-compiled, and run under emulation. Under five minutes, half of it attention over 4096
# tokens.
#
# What a machine of that kind may do and emulation does not show: reorder what one thread writes and another reads, and
# how fast any of it is.
#
# The distribution's packages for arm64 are unpacked beside everything else, not installed: this machine knows of no
# second architecture, before or after.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() { echo "aarch64: $*" >&2; exit 1; }
step() { printf '\n=== %s (%ss)\n' "$1" "$SECONDS"; }
if [[ $(uname -m) =~ ^(aarch64|arm64)$ ]]; then
  echo "this machine is one: its own build and tests have shown it"
  exit 0
fi
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
  fail "takes Python for arm64 from Debian's packages, and there is no apt-get here"

# --- tools ------------------------------------------------------------------------------------------------------------

step "tools"
cross=aarch64-linux-gnu
if ! command -v qemu-aarch64 >/dev/null || ! command -v $cross-g++ >/dev/null; then
  [ "$(id -u)" = 0 ] || fail "needs qemu-aarch64 and $cross-g++, and can install them only as root"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends qemu-user g++-$cross >/dev/null
fi
python3 -m venv "$work/tools"
tools=$work/tools/bin
"$tools/python" -m pip install --quiet 'pybind11>=2.13' cmake ninja

# --- Python for aarch64 -----------------------------------------------------------------------------------------------

step "Python for aarch64"
# An apt that has nothing installed and is of the other architecture; the mirrors and their keys are this machine's.
mkdir -p "$work"/apt/{lists,cache/archives}/partial "$work/system"
touch "$work/apt/status"
cat >"$work/apt.conf" <<CONF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "root";
Dir::State "$work/apt";
Dir::State::Lists "$work/apt/lists";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt/cache";
Acquire::Languages "none";
Acquire::Retries "3";
CONF
APT_CONFIG=$work/apt.conf apt-get update -qq
APT_CONFIG=$work/apt.conf apt-get install -y -qq --no-install-recommends --download-only \
  python3 libpython3-dev libstdc++6 >/dev/null ||
  fail "the mirrors in /etc/apt have no Python for arm64 (Ubuntu's are others than for amd64)"
for package in "$work"/apt/cache/archives/*.deb; do
  dpkg-deb -x "$package" "$work/system"
done
[ -e "$work/system/lib" ] || ln -s usr/lib "$work/system/lib" # where packages have given /lib up

# A virtual environment whose `python` is the emulator. Cortex-A72 has the first version of the architecture and no more:
# an instruction of a later one stops the program.
python=$work/venv/bin/python
mkdir -p "$work/venv/bin"
echo "home = $work/system/usr/bin" >"$work/venv/pyvenv.cfg"
cat >"$python" <<SCRIPT
#!/bin/sh
exec qemu-aarch64 -cpu cortex-a72 -L "$work/system" -0 "\$0" "$work/system/usr/bin/python3" "\$@"
SCRIPT
chmod +x "$python"
version=$("$python" -c 'import platform, sys; assert platform.machine() == "aarch64"; print("%d.%d" % sys.version_info[:2])') ||
  fail "Python for arm64 does not run under emulation"
"$tools/python" -m pip install --quiet --target "$work/venv/lib/python$version/site-packages" --only-binary=:all: \
  --implementation cp --python-version "$version" --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 \
  numpy regex safetensors tqdm pytest hypothesis # pyproject.toml's, as far as the tests below need them

# --- build ------------------------------------------------------------------------------------------------------------

step "build"
# Python is asked under emulation for its headers and for what an extension of it is called.
"$tools/cmake" -S . -B "$work/build" -G Ninja -DCMAKE_MAKE_PROGRAM="$tools/ninja" -DCMAKE_CXX_COMPILER=$cross-g++ \
  -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_SYSROOT="$work/system" -DCMAKE_CXX_FLAGS=-Werror \
  -DPython_EXECUTABLE="$python" -Dpybind11_DIR="$("$tools/python" -m pybind11 --cmakedir)" >/dev/null ||
  fail "CMake found no way to build; see above"
"$tools/cmake" --build "$work/build" || fail "the C++ ops do not compile"

# --- tests ------------------------------------------------------------------------------------------------------------

step "tests"
mkdir "$work/copy"
cp -r pyroberta tests pyproject.toml "$work/copy"
rm -f "$work"/copy/pyroberta/_native*.so
cp "$work"/build/_native*.so "$work/copy/pyroberta"
cd "$work/copy"
export PYTHONPATH="$work/copy" CI=1 HYPOTHESIS_PROFILE=few PYROBERTA_NUM_THREADS=2 OPENBLAS_NUM_THREADS=1
unset PYROBERTA_ISA
"$python" - "$work" <<'PY' || fail "the extension cannot be imported, or is not the one that was built here"
import platform
import sys

from pyroberta import _native

assert _native.__file__.startswith(sys.argv[1]), _native.__file__
print(platform.machine(), _native.about(), sep=": ")
PY
# Every row, and a whole model's step made of them. The rest of the tests of training would take another minute.
training=tests/native/test_training.py
"$python" -m pytest -q -rs -p no:cacheprovider tests/native/test_rows.py tests/native/test_border.py \
  $training::test_a_step_is_as_near_to_float64_as_numpys $training::test_ten_steps_end_where_numpys_do |
  tee "$work/pytest.log" || fail "the tests failed"
! tail -n 1 "$work/pytest.log" | grep -q skipped || fail "tests were skipped: that counts as failed"
step "done"
