#!/usr/bin/env bash
# Where no compiler works, the build still gives a wheel, and that wheel works on NumPy alone.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CC=/nonexistent/cc CXX=/nonexistent/c++ .venv/bin/python -m pip wheel --quiet --no-deps -w "$work" .
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet "$work"/pyroberta-*.whl
cd "$work"
venv/bin/pyroberta doctor
venv/bin/python - <<'PY'
import pyroberta
names = {name: is_there for name, is_there, _ in pyroberta.backends()}
assert names["numpy"] and not names["native"], names
assert pyroberta.MaskedLM.from_preset("roberta_tiny_en").fill_mask("The <mask> of the United States.")
PY
