"""What is there: versions, backends, presets."""

from __future__ import annotations

import os
import platform
from importlib import metadata, util

from pyroberta.backends import BackendError, backends, get_ops
from pyroberta.presets.registry import PRESETS

EXTRAS = {
    "matplotlib": "History.plot()  (pip install 'pyroberta[plot]')",
    "huggingface_hub": "presets from the Hugging Face hub  (pip install 'pyroberta[hub]')",
    "kagglehub": "presets from Kaggle  (pip install 'pyroberta[hub]')",
    "torch": "comparisons with torch  (pip install 'pyroberta[parity]')",
    "transformers": "comparisons with transformers  (pip install 'pyroberta[parity]')",
    "tokenizers": "comparisons with tokenizers  (pip install 'pyroberta[parity]')",
}


def report() -> dict[str, dict[str, str]]:
    """Part -> name -> what was found, as `pyroberta doctor` prints it.

    >>> report()["backends"]["numpy"].split()[:2]
    ['yes:', 'NumPy']
    """
    from pyroberta import __version__

    parts = {
        "versions": {
            "pyroberta": __version__,
            "python": platform.python_version(),
            "numpy": metadata.version("numpy"),
            "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        },
        "backends": {name: f"{'yes' if is_there else 'no'}: {reason}" for name, is_there, reason in backends()},
        "presets": {
            name: f"{preset.handles[0] if preset.handles else 'embedded'}: {preset.description}"
            for name, preset in PRESETS.items()
        },
        "extras": {
            name: f"{'yes' if util.find_spec(name) else 'no'}: for {purpose}" for name, purpose in EXTRAS.items()
        },
    }
    try:
        parts["backends"]["auto"] = f"takes {get_ops('auto').name}"
    except BackendError as error:
        parts["backends"]["auto"] = f"no: {error}"
    return parts
