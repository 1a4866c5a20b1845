"""`pyroberta presets`: lists the presets that have names."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

SUMMARY = "the names of presets that --model takes, beside directories and handles"
EXAMPLES = ("pyroberta presets",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Does nothing, since the command has no arguments."""


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the command. The result has the description of each preset by its name."""
    from pyroberta.presets.built_in import PRESETS

    if not arguments.json:
        for name, preset in PRESETS.items():
            where = " or ".join(preset.handles) or "in the package"
            print(f"{name:<18}{preset.parameters:>12,} parameters   {where}\n  {preset.description}")
    return {name: asdict(preset) for name, preset in PRESETS.items()}
