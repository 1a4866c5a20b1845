"""By which files a directory shows in which format it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from pyroberta.text.files import read_bytes, read_json

CONFIG = "config.json"
FAIRSEQ_DICTIONARY = "dict.txt"
FAIRSEQ_CHECKPOINTS = ("model.pt", "checkpoint_best.pt", "checkpoint_last.pt")  # the first that is there is read
MOST_LOOKED_AT, DEEPEST = 1000, 3  # entries, and directories in each other, where a model is looked for


def is_kerashub(directory: Path) -> bool:
    """Whether config.json is KerasHub's; Hugging Face's has no `registered_name`.

    Raises:
        ValueError: where it is no JSON.
    """
    file = directory / CONFIG
    return file.exists() and "registered_name" in read_json(file)


def fairseq_checkpoint(directory: Path) -> Path | None:
    """The checkpoint that is read; None where there is none."""
    return next((directory / name for name in FAIRSEQ_CHECKPOINTS if (directory / name).exists()), None)


def is_fairseq(directory: Path) -> bool:
    """Whether there is a checkpoint, with its dictionary or alone."""
    has_others = (directory / CONFIG).exists() and not (directory / FAIRSEQ_DICTIONARY).exists()
    return fairseq_checkpoint(directory) is not None and not has_others


def is_hugging_face(directory: Path) -> bool:
    """Whether there is a config.json, where it isn't one of the others."""
    return (directory / CONFIG).exists()


def hint_of_inside(directory: Path, names: Sequence[str] = (CONFIG, *FAIRSEQ_CHECKPOINTS)) -> str:
    """A sentence, with a space before it, that says where below a directory there are files of these names.

    A hub's cache has them in `models--ORGANISATION--NAME/snapshots/COMMIT`, sentence-transformers in `0_Transformer`,
    and trainers in `checkpoint-500` or the like.

    Returns:
        The sentence; empty where there is nothing of the kind in the first thousand entries, three levels down.
    """
    found: list[Path] = []
    level, left = [directory], MOST_LOOKED_AT
    for _ in range(DEEPEST):
        below = []
        for parent in level:
            try:
                with os.scandir(parent) as opened:
                    entries = list(islice(opened, left))
            except OSError:  # it may not be looked into
                continue
            left -= len(entries)
            below += sorted((Path(entry.path) for entry in entries if entry.is_dir()), reverse=True)
        found += [one for one in below if any((one / name).is_file() for name in names)]
        level = [one for one in below if one not in found]
    if not found:
        return ""
    current = _current_commit(directory)
    found.sort(key=lambda one: one.name != current)
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return f" A model may lie inside: give {str(found[0])!r}{more}"


def _current_commit(directory: Path) -> str:
    """The commit that the main branch of a hub's cache stands for; empty where it isn't told."""
    try:
        return read_bytes(directory / "refs" / "main", 100).decode().strip()
    except (OSError, ValueError):
        return ""
