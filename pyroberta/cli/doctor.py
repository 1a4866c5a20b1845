"""`pyroberta doctor`: shows versions, backends, presets, and the packages of each extra."""

from __future__ import annotations

import argparse
import os
import platform
import re
from typing import Any

from pyroberta.backends import BackendError, backends, get_ops
from pyroberta.presets.built_in import PRESETS

SUMMARY = "which backends are there, and why others are not"
EXAMPLES = ("pyroberta doctor",)

PURPOSES = {
    "plot": "History.plot()",
    "tensorboard": "the callback TensorBoard",
    "tables": "Parquet files, pyarrow's tables, and files packed by Zstandard",
    "keras": "KerasHub's presets, which are HDF5",
    "hub": "presets from the Hugging Face hub and Kaggle, and upload",
    "test": "the tests",
    "parity": "comparisons with other packages",
    "bench": "benchmarks",
    "dev": "changing pyroberta",
    "docs": "a site of its pages",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Does nothing, since the command has no arguments."""


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the command. The result is that of `report`."""
    found = report()
    if not arguments.json:
        for part, rows in found.items():
            print(part)
            for name, value in rows.items():
                print(f"  {name:<12} {value}")
    return found


def report() -> dict[str, dict[str, str]]:
    """Returns the findings as a dict of part -> name -> finding, which `pyroberta doctor` prints.

    >>> report()["backends"]["numpy"].split()[:2]
    ['yes:', 'NumPy']
    """
    from importlib import metadata

    from pyroberta import __version__

    parts = {
        "versions": {
            "pyroberta": __version__,
            "python": platform.python_version(),
            "numpy": metadata.version("numpy"),
            "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        },
        "backends": {name: f"{'yes' if is_available else 'no'}: {reason}" for name, is_available, reason in backends()},
        "presets": {
            name: f"{preset.handles[0] if preset.handles else 'embedded'}: {preset.description}"
            for name, preset in PRESETS.items()
        },
        "extras": {extra: _state(extra, packages) for extra, packages in extras().items()},
    }
    try:
        parts["backends"]["auto"] = f"takes {get_ops('auto').name}"
    except BackendError as error:
        parts["backends"]["auto"] = f"no: {error}"
    return parts


def extras() -> dict[str, list[str]]:
    """Returns the packages of each extra, including those of extras within it, from the metadata of the installed
    package.

    The result is empty if pyroberta is not installed.

    >>> extras()["keras"]
    ['h5py']
    """
    from importlib import metadata

    try:
        about = metadata.metadata("pyroberta")
    except metadata.PackageNotFoundError:
        return {}
    lines = about.get_all("Requires-Dist") or []

    def packages(extra: str) -> list[str]:
        found: dict[str, None] = {}
        for line in lines:
            needed = re.match(r"([\w.-]+)\s*(?:\[([^]]*)\])?", line)
            if needed and re.search(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""", line):
                name, within = needed.groups()
                for part in (within or "").split(",") if name == "pyroberta" else ():
                    found |= dict.fromkeys(packages(part.strip()))
                if name != "pyroberta":
                    found[name] = None
        return list(found)

    return {extra: packages(extra) for extra in about.get_all("Provides-Extra") or []}


def _state(extra: str, packages: list[str]) -> str:
    missing = [name for name in packages if not _is_installed(name)]
    purpose = f"for {PURPOSES[extra]}" if extra in PURPOSES else f"with {', '.join(packages)}"
    if missing:
        return f"no: {purpose}; {', '.join(missing)} not there  (pip install 'pyroberta[{extra}]')"
    return f"yes: {purpose}"


def _is_installed(package: str) -> bool:
    from importlib import metadata

    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
