"""By which files a directory shows in which format it is."""

from __future__ import annotations

from pathlib import Path

from pyroberta.text.files import read_json

CONFIG = "config.json"
FAIRSEQ_CHECKPOINT, FAIRSEQ_DICTIONARY = "model.pt", "dict.txt"


def is_kerashub(directory: Path) -> bool:
    """Whether config.json is KerasHub's; Hugging Face's has no `registered_name`.

    Raises:
        ValueError: where it is no JSON.
    """
    file = directory / CONFIG
    return file.exists() and "registered_name" in read_json(file)


def is_fairseq(directory: Path) -> bool:
    """Whether there is a checkpoint, with its dictionary or alone."""
    is_there = {name: (directory / name).exists() for name in (FAIRSEQ_CHECKPOINT, FAIRSEQ_DICTIONARY, CONFIG)}
    return is_there[FAIRSEQ_CHECKPOINT] and (is_there[FAIRSEQ_DICTIONARY] or not is_there[CONFIG])


def is_hugging_face(directory: Path) -> bool:
    """Whether there is a config.json, where it isn't one of the others."""
    return (directory / CONFIG).exists()
