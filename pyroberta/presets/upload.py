"""Upload of presets to a hub with the hub's client: the files that `from_preset` reads, and a card."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pyroberta.formats.budget import shown
from pyroberta.formats.directory import Directory
from pyroberta.formats.files import exists
from pyroberta.formats.stored import beside
from pyroberta.model.attributes import true_or_false
from pyroberta.presets import hub, kerashub
from pyroberta.presets.detect import detect
from pyroberta.presets.model_card import CARD, model_card

BESIDE = ("LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE")


def upload(
    directory: str | os.PathLike[str],
    handle: str,
    *,
    private: bool = False,
    licence: str | None = None,
    trained_from: str | None = None,
    message: str = "A model saved by pyroberta",
) -> str:
    """Uploads a preset to the Hugging Face hub or Kaggle, in one commit or version. Returns the address of its page.

    It uploads the files that `from_preset` reads, including the optimizer's state, and README.md and LICENSE if they
    exist. If neither the directory nor the hub has a README.md, `model_card` makes one.

    Args:
        directory: the directory of a preset.
        handle: `hf://ORGANISATION/NAME[@BRANCH]`, or `kaggle://OWNER/MODEL/FRAMEWORK/VARIATION`. A missing repository
            is created. Kaggle creates a new version by itself.
        private: whether a new repository is private. New models on Kaggle always are.
        licence: the licence in the hub's spelling: `"apache-2.0"` on the Hugging Face hub, `"Apache 2.0"` on Kaggle.
            Without one, the card asks the author for it.
        trained_from: the preset from which training began, a handle or a name, for the card.
        message: the message of the commit or version.

    Raises:
        FileNotFoundError: if the directory has no weights, or lacks a shard that its index names.
        ValueError: if the handle is malformed, or the directory is not a preset of a RoBERTa.
        ImportError, PermissionError, ConnectionError, OSError: see `hub.open_handle`.
    """
    directory, scheme, private = Directory.of(directory), check_handle(handle), true_or_false("private", private)
    if not directory.path.is_dir():
        raise FileNotFoundError(f"{directory}: the directory to upload does not exist")
    format, fetch = detect(directory), hub.in_directory(directory)
    config = format.read_config(directory)
    files = hub.files(fetch, directory, format.FILES, state=True)
    if not hub.weight_files(fetch, directory, format.FILES):
        raise FileNotFoundError(f"{directory} has no weights to upload, only {', '.join(file.name for file in files)}")
    for file in files:
        if file.name in [index for _, index in format.FILES.weights]:
            for shard in hub.shards_of(directory, file.name):
                beside(file, shard)
    named = {file.relative_to(directory.path).as_posix(): file for file in files}
    named |= {name: directory / name for name in (CARD, *BESIDE) if exists(directory / name)}
    formats = ["keras_hub"] if format is kerashub else ["transformers"]
    card = model_card(config, handle, formats=formats, licence=licence, trained_from=trained_from)
    return SENDERS[scheme](handle, named, card, private, licence, message)


def check_handle(handle: str) -> str:
    """Checks that a handle is one for uploads, and returns its scheme.

    Raises:
        ValueError: if it is not.
    """
    scheme, separator, _ = handle.partition("://") if isinstance(handle, str) else ("", "", "")
    if scheme not in SENDERS or not separator:
        raise ValueError(
            f"{shown(handle)} is not a place for uploads. Give hf://ORGANISATION/NAME or "
            "kaggle://OWNER/MODEL/FRAMEWORK/VARIATION"
        )
    return scheme


def _to_hugging_face(
    handle: str, files: dict[str, Path], card: str, private: bool, licence: str | None, message: str
) -> str:
    repository, branch = hub.parse_hf(handle)
    try:
        from huggingface_hub import CommitOperationAdd, HfApi
    except ImportError:
        raise hub.missing("huggingface_hub", handle) from None
    api = HfApi()
    with hub.hf_errors(handle, "the upload"):
        url = str(api.create_repo(repository, private=private, exist_ok=True))
        if branch:
            api.create_branch(repository, branch=branch, exist_ok=True)
        operations = [CommitOperationAdd(name, str(file)) for name, file in files.items()]
        if CARD not in files and not api.file_exists(repository, CARD, revision=branch):
            operations.append(CommitOperationAdd(CARD, card.encode("utf-8")))
        api.create_commit(repository, operations, commit_message=message, revision=branch)
    return url


def _to_kaggle(handle: str, files: dict[str, Path], card: str, private: bool, licence: str | None, message: str) -> str:
    variation, version = hub.parse_kaggle(handle)
    if version:
        raise ValueError(f"{handle!r}: Kaggle numbers versions by itself; leave the /{version} out")
    try:
        import kagglehub
    except ImportError:
        raise hub.missing("kagglehub", handle) from None
    with tempfile.TemporaryDirectory() as staged:  # the client uploads a directory with all its files
        for name, file in files.items():
            place = Path(staged, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file.resolve())
        if CARD not in files:
            Path(staged, CARD).write_text(card, encoding="utf-8")
        with hub.kaggle_errors(handle, "the upload"):
            kagglehub.model_upload(variation, staged, license_name=licence, version_notes=message)
    return f"https://www.kaggle.com/models/{variation}"


SENDERS = {"hf": _to_hugging_face, "kaggle": _to_kaggle}
