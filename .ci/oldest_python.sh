#!/usr/bin/env bash
# The oldest Python that pyproject.toml promises installs the package and runs it, where there is one.
set -euo pipefail
cd "$(dirname "$0")/.."
oldest=$(sed -n 's/^requires-python = ">=\(.*\)"$/\1/p' pyproject.toml)

# one that runs: a shim of pyenv may be in the path with nothing behind it
python=""
while read -r candidate; do
  if [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$oldest" ]; then
    python=$candidate
    break
  fi
done < <(type -ap "python$oldest"; ls -d "$HOME"/.pyenv/versions/"$oldest".*/bin/python 2>/dev/null)
if [ -z "$python" ]; then
  echo "no Python $oldest that runs was found: NOT CHECKED that the package works on it"
  exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet .
cd "$work"
venv/bin/pyroberta doctor
venv/bin/python - <<'PY'
import sys

import pyroberta

masked_lm = pyroberta.MaskedLM.from_preset("roberta_tiny_en")
history = masked_lm.fit(["The quick brown fox jumped.", "I forgot my homework."], batch_size=2, verbose=0)
assert 0.0 < history.history["loss"][0] < 20.0, history.history
print("fitted two texts on Python", sys.version.split()[0])
PY
