"""By which files a directory shows in which format it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pyroberta.formats.files import contents, is_there, read_bytes, read_json, shown

CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
KERAS_PACKAGES = ("keras_hub", "keras_nlp")  # the second name is older
FAIRSEQ_DICTIONARY = "dict.txt"
FAIRSEQ_CHECKPOINTS = ("model.pt", "checkpoint_best.pt", "checkpoint_last.pt")  # the first that is there is read
MOST_LOOKED_AT, DEEPEST = 1000, 3  # entries, and directories in each other, where a model is looked for


@dataclass(frozen=True)
class Kind:
    """A kind of directory that a save may replace.

    Attributes:
        name: of one, for messages.
        mark: the file that every one has.
        fits: whether the object in that file is one of this kind's.
    """

    name: str
    mark: str
    fits: Callable[[Mapping[str, Any]], bool]

    def refusal(self, directory: Path) -> str:
        """Why a directory is none of this kind, with words that follow its name; empty where it is one."""
        file = directory / self.mark
        if not file.is_file():
            return f"it holds files ({contents(directory, 3)}) but no {self.mark}, so it is no {self.name}"
        try:
            values = read_json(file)
        except (OSError, ValueError) as error:
            return f"it is no {self.name} that can be read: {error}"
        if self.fits(values):
            return ""
        what = {key: values[key] for key in ("model_type", "registered_name", "peft_type") if key in values} or values
        return f"its {self.mark} is another program's or model's, and no {self.name}'s: it says {shown(what)}"


def model_type(values: Mapping[str, Any]) -> Any:
    """The model that Hugging Face's config.json is of; None where it doesn't say. Files of 2019 name a class alone."""
    names = values.get("architectures")
    is_old = isinstance(names, list) and any(str(name).startswith("Roberta") for name in names)
    found = values.get("model_type")
    return "roberta" if found is None and is_old else found


def is_of_kerashub(values: Mapping[str, Any], class_name: str) -> bool:
    """Whether an object is a serialized one of KerasHub's class."""
    return values.get("registered_name") in [f"{package}>{class_name}" for package in KERAS_PACKAGES]


PRESET = Kind(
    "preset of a RoBERTa",
    CONFIG,
    lambda values: (
        is_of_kerashub(values, "RobertaBackbone") if "registered_name" in values else model_type(values) == "roberta"
    ),
)
ADAPTER = Kind("LoRA adapter", ADAPTER_CONFIG, lambda values: values.get("peft_type") == "LORA")


def is_kerashub(directory: Path) -> bool:
    """Whether config.json is KerasHub's; Hugging Face's has no `registered_name`.

    Raises:
        ValueError: where it is no JSON.
    """
    file = directory / CONFIG
    return is_there(file) and "registered_name" in read_json(file)


def fairseq_checkpoint(directory: Path) -> Path | None:
    """The checkpoint that is read; None where there is none."""
    return next((directory / name for name in FAIRSEQ_CHECKPOINTS if is_there(directory / name)), None)


def is_fairseq(directory: Path) -> bool:
    """Whether there is a checkpoint, with its dictionary or alone."""
    has_others = is_there(directory / CONFIG) and not is_there(directory / FAIRSEQ_DICTIONARY)
    return fairseq_checkpoint(directory) is not None and not has_others


def refuse_fairseq(directory: Path) -> None:
    """That a preset can be saved there without a checkpoint of fairseq's beside it, which would be read in its place.

    Raises:
        FileExistsError: where there is one.
    """
    if directory.is_dir() and is_fairseq(directory):
        raise FileExistsError(
            f"won't save to {directory}: it holds a checkpoint of fairseq's, which would be read in the place of what "
            f"is saved. Give a new directory, such as {directory / 'preset'}."
        )


def is_hugging_face(directory: Path) -> bool:
    """Whether there is a config.json, where it isn't one of the others."""
    return is_there(directory / CONFIG)


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
