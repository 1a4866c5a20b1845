"""Presets on the Hugging Face hub and on Kaggle. A handle becomes a directory in the cache of the hub's own client.

    hf://ORGANISATION/NAME[@REVISION]                       by the package huggingface_hub
    kaggle://OWNER/MODEL/FRAMEWORK/VARIATION[/VERSION]      by the package kagglehub

Each file is requested once, by its name, and nothing else is downloaded. config.json comes first, so that a model of
another architecture is refused before its weights are downloaded. Then come the files of the tokenizer and the
preprocessor, the optimizer's state if it is wanted, and the weights, as safetensors if they exist, else as a pickle. A
missing file is requested once and remembered. So a preset that was downloaded completely loads without a network.

The clients and their settings decide about caches, progress bars, tokens, mirrors and retries.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies

from pyroberta.formats.budget import Budget, shown
from pyroberta.formats.directory import Directory
from pyroberta.formats.files import check_file, exists
from pyroberta.presets import hf, kerashub
from pyroberta.presets.detect import CONFIG, FileNames, Format, detect
from pyroberta.presets.watching import Stalled, watched

MOST_SHARDS = 1000  # each is a request
SHARD = re.compile(r"[\w-][\w.-]{,240}\.(safetensors|bin|h5)")  # a file system has room for these

REFUSALS = (401, 403)

Fetch = Callable[[str], "Path | None"]


class Source(Protocol):
    """A preset on a hub."""

    def fetch(self, name: str) -> Path | None:
        """Returns the file of this name in the cache, or None if the preset has no such file. It is downloaded if
        needed.
        """


def open_handle(handle: str) -> tuple[Directory, Format, Callable[[bool, bool], None]]:
    """Opens a preset on a hub. Its config is downloaded.

    Args:
        handle: a handle `hf://…` or `kaggle://…`; see the module.

    Returns:
        The directory in the cache, the format of the preset, and a function `download(weights, state)` that downloads
        the other files of the preset. Its two bools say whether the weights and the optimizer's state are downloaded
        too. The function returns None, and raises a FileNotFoundError if weights are wanted and the preset has none
        that can be read.

    Raises:
        ValueError: if the handle is malformed.
        ImportError: if the hub's package is not installed. The message says how to install it.
        FileNotFoundError: if the preset, the revision or a file does not exist; or, offline, if it is not in the cache.
        PermissionError: if the user must log in, or ask for access.
        ConnectionError: if the hub can't be reached or fails, or no more data arrives (`Stalled`).
        OSError: if a downloaded file is damaged.
    """
    fetch = cache(SOURCES[handle.partition("://")[0]](handle).fetch)
    config = fetch(CONFIG)
    if config is None:
        raise FileNotFoundError(f"{handle} has no {CONFIG}, so it is not a preset that can be read")
    directory = Directory(config.parent)
    format = detect(directory)
    for name in format.FILES.config:
        fetch(name)

    def download(weights: bool, state: bool) -> None:
        files(fetch, directory, format.FILES, weights, state)
        if weights and not any(SHARD.fullmatch(file.name) for file in weight_files(fetch, directory, format.FILES)):
            raise FileNotFoundError(
                f"{handle} has no weights that can be read: {hf.WEIGHTS}, {hf.PICKLE} or KerasHub's "
                f"{kerashub.WEIGHTS}, or shards of them. TensorFlow's, Flax's and ONNX's files are not read"
            )

    return directory, format, download


def files(
    fetch: Fetch, directory: Directory, names: FileNames, weights: bool = True, state: bool = False
) -> list[Path]:
    """Fetches the files of a format, the weights last. Returns those that exist.

    Args:
        fetch: a function that returns a file by its name, or None.
        directory: the directory of the files.
        names: the names of the format's files.
        weights: whether to fetch the weights.
        state: whether to fetch the optimizer's state. KerasHub's state is in a file of weights.

    >>> import tempfile
    >>> directory = Directory(Path(tempfile.mkdtemp()))
    >>> for name in ("config.json", "vocab.json", "model.safetensors", "pytorch_model.bin", "train.py"):
    ...     _ = (directory / name).write_text("{}")
    >>> [file.name for file in files(in_directory(directory), directory, hf.FILES)]
    ['config.json', 'vocab.json', 'model.safetensors']
    """
    wanted = [*names.config, *names.others, *(names.head if weights else ()), *(names.optimizer_state if state else ())]
    found = [fetch(name) for name in wanted]
    found += weight_files(fetch, directory, names) if weights else ()
    return [file for file in found if file is not None]


def weight_files(fetch: Fetch, directory: Directory, names: FileNames) -> list[Path]:
    """Fetches the files of the weights: one file, or an index and its shards. Returns those that exist."""
    for whole, index in names.weights:
        if file := fetch(whole):
            return [file]
        if file := fetch(index):
            shards = [fetch(shard) for shard in _shards(directory, index)]
            return [file, *(shard for shard in shards if shard is not None)]
    return []


def in_directory(directory: Directory) -> Fetch:
    """Returns a `fetch` function that finds files in a directory."""

    def fetch(name: str) -> Path | None:
        if not exists(directory / name):
            return None
        check_file(directory / name)
        return directory / name

    return fetch


def _shards(directory: Directory, index: str) -> list[str]:
    """The names in an index that are plain; the reader refuses it if there are others.

    Raises:
        ValueError: if it is no index.
        OverBudget: for too many names.
    """
    shards = [name for name in shards_of(directory, index) if SHARD.fullmatch(name)]
    Budget(directory / index, steps=MOST_SHARDS).step("its shards", len(shards))
    return shards


def shards_of(directory: Directory, index: str) -> list[str]:
    """Returns the names of all files in an index of shards.

    Raises:
        ValueError: if the file is not an index.
    """
    places = directory.json(index).get("weight_map")
    if not isinstance(places, dict):
        raise ValueError(
            f"{directory / index} should have a weight_map from tensor names to file names, got {shown(places)}"
        )
    names = [name for place in places.values() for name in (place if isinstance(place, list) else [place])]
    return sorted({name for name in names if isinstance(name, str)})


def missing(package: str, handle: str) -> ImportError:
    """Returns the error for a client that is not installed."""
    return ImportError(f"{handle} needs the package {package}: python -m pip install 'pyroberta[hub]'")


# --- the Hugging Face hub ---------------------------------------------------------------------------------------------

HF_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token from https://huggingface.co/settings/tokens"


HF_NAME = r"\w(?:[\w.-]{0,94}\w)?"
HF_PART = r"\w(?:[\w.-]{0,98}[\w-])?"


def parse_hf(handle: str) -> tuple[str, str | None]:
    """Returns the repository, and the branch, tag or commit. The second is None for the default branch.

    Raises:
        ValueError: if the handle is malformed.

    >>> parse_hf("hf://FacebookAI/roberta-base@e2da8e2")
    ('FacebookAI/roberta-base', 'e2da8e2')
    """
    # Names as the hub has them; a revision as Git has it, without parts that could be paths.
    match = re.fullmatch(rf"hf://({HF_NAME}/{HF_NAME})(?:@({HF_PART}(?:/{HF_PART})*))?", handle, re.ASCII)
    if not match or ".." in handle or "--" in match[1] or match[1].endswith(".git"):
        raise ValueError(
            f"{handle!r} is not a handle of the Hugging Face hub. These have the form hf://ORGANISATION/NAME or "
            "hf://ORGANISATION/NAME@REVISION, such as hf://FacebookAI/roberta-base"
        )
    return match[1], match[2]


class HuggingFace:
    """A repository at one commit, which the revision has when the first file is requested."""

    def __init__(self, handle: str) -> None:
        self.handle = handle
        self.repository, self.revision = parse_hf(handle)
        self.commit: str | None = None
        self.unreachable: OSError | None = None  # the reason for not asking the hub
        try:
            import huggingface_hub
        except ImportError:
            raise missing("huggingface_hub", handle) from None
        self.client: Any = huggingface_hub

    def fetch(self, name: str) -> Path | None:
        """See `Source`."""
        from huggingface_hub import constants, errors

        if self.commit:
            cached = self.client.try_to_load_from_cache(self.repository, name, revision=self.commit)
            if cached is not None:  # the path, or the client's sign that there is no such file
                return Path(cached) if isinstance(cached, str) else None
        else:
            self.unreachable = _unreachable()
        try:
            with hf_errors(self.handle, name):
                path = watched(
                    lambda: self._download(name),
                    Path(constants.HF_HUB_CACHE, f"models--{self.repository.replace('/', '--')}"),
                    f"{self.handle}: {name}",
                )
        except errors.EntryNotFoundError:
            return None
        file = Path(path)
        _check_hash(file, self.handle)
        self.commit = self.commit or file.parent.name
        return file

    def _download(self, name: str) -> str:
        from huggingface_hub import errors

        how = {"revision": self.commit or self.revision, "local_files_only": self.unreachable is not None}
        try:
            return str(self.client.hf_hub_download(self.repository, name, **how))
        except errors.LocalEntryNotFoundError as error:
            if self.unreachable is None:
                raise
            raise error from self.unreachable


def _unreachable() -> OSError | None:
    """The error of a connection to the hub; None if there is a connection, or a proxy.

    The client would retry for 20 s, with a line each time, before it looks into its cache.
    """
    from huggingface_hub import constants

    address = urlsplit(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE or getproxies() or address.hostname is None:
        return None
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname, port), constants.HF_HUB_ETAG_TIMEOUT).close()
    except OSError as error:
        return error
    return None


@contextlib.contextmanager
def hf_errors(handle: str, item: str) -> Iterator[None]:
    """A `with` block that turns the client's errors into errors that say what to do. EntryNotFoundError is not changed.

    Args:
        handle: the handle of the preset.
        item: the file that is downloaded, or the upload.
    """
    from huggingface_hub import constants, errors

    repository, revision = parse_hf(handle)

    def refused(status: int) -> PermissionError:
        return PermissionError(
            f"{handle}: {constants.ENDPOINT} refuses {item} ({status}). Check the token and its permissions, or "
            f"{HF_LOG_IN}"
        )

    try:
        yield
    except errors.LocalEntryNotFoundError as error:  # neither there nor here; its cause says why it isn't there
        if _status(error.__cause__) in REFUSALS:
            raise refused(_status(error.__cause__)) from None
        where = f"{handle}: {item} is not in the cache ({constants.HF_HUB_CACHE})"
        if constants.HF_HUB_OFFLINE:
            raise FileNotFoundError(
                f"{where}, and HF_HUB_OFFLINE forbids the download. Unset it once, or copy the cache of a machine that "
                "has the preset"
            ) from None
        raise ConnectionError(
            f"{where}, and {constants.ENDPOINT} can't be reached ({_first_line(error.__cause__ or error)}). When there "
            "is a connection, call again: complete files are kept"
        ) from error
    except (errors.EntryNotFoundError, Stalled):
        raise
    except errors.GatedRepoError:
        raise PermissionError(
            f"{handle} is gated: ask for access at {constants.ENDPOINT}/{repository}, then {HF_LOG_IN}"
        ) from None
    except errors.RepositoryNotFoundError:
        raise FileNotFoundError(
            f"{handle}: {constants.ENDPOINT} has no repository {repository}, or it is private. Check the spelling of "
            f"the name. For a private repository, {HF_LOG_IN}"
        ) from None
    except errors.RevisionNotFoundError:
        raise FileNotFoundError(
            f"{handle}: {repository} has no branch, tag or commit {revision or 'main'!r}; "
            f"{constants.ENDPOINT}/{repository}/tree/main lists them"
        ) from None
    except errors.HfHubHTTPError as error:
        if _status(error) in REFUSALS:
            raise refused(_status(error)) from None
        raise ConnectionError(f"{handle}: {constants.ENDPOINT} fails at {item}: {_first_line(error)}") from error
    except Exception as error:
        if (
            isinstance(error, OSError) and type(error).__module__ == "builtins"
        ):  # no space; or not the size that was told
            raise type(error)(f"{handle}: {item} failed: {_first_line(error)}") from error
        raise ConnectionError(  # whose types differ from version to version of the client
            f"{handle}: the download of {item} broke off: {_first_line(error)}. Call again: complete files are kept"
        ) from error


def _check_hash(file: Path, handle: str) -> None:
    """Checks a file's hash, after which the cache names it: SHA-256 for large files, Git's for others.

    Raises:
        OSError: if the hash differs. The file is then removed from the cache.
    """
    if not file.is_symlink():  # a file system without links, where the name isn't kept
        return
    blob = file.parent / os.readlink(file)
    size = blob.stat().st_size
    digest = hashlib.sha256() if len(blob.name) == 64 else hashlib.sha1(b"blob %d\0" % size)
    with open(blob, "rb") as opened:
        while part := opened.read(1 << 20):
            digest.update(part)
    if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", blob.name) and digest.hexdigest() != blob.name:
        file.unlink()
        blob.unlink()
        raise OSError(
            f"{handle}: {file.name} arrived damaged: its hash is {digest.hexdigest()}, not {blob.name}. It was "
            "removed; call again to download it anew"
        )


def _status(error: BaseException | None) -> int:
    """The status of the hub's answer; 0 if there was none."""
    return getattr(getattr(error, "response", None), "status_code", 0)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join([f"{type(error).__name__}:", *lines[:1]]) if lines else type(error).__name__


# --- Kaggle -----------------------------------------------------------------------------------------------------------

KAGGLE_LOG_IN = (
    "make a token at https://www.kaggle.com/settings and set KAGGLE_API_TOKEN to it, or KAGGLE_USERNAME and "
    "KAGGLE_KEY, or save it as ~/.kaggle/kaggle.json"
)


def parse_kaggle(handle: str) -> tuple[str, str | None]:
    """Returns the model with its variation, and the version. The version is None for the latest one.

    Raises:
        ValueError: if the handle is malformed.

    >>> parse_kaggle("kaggle://keras/roberta/keras/roberta_base_en/3")
    ('keras/roberta/keras/roberta_base_en', '3')
    """
    match = re.fullmatch(r"kaggle://((?:[\w-][\w.-]{0,99}/){3}[\w-][\w.-]{0,99})(?:/([1-9]\d{0,9}))?", handle, re.ASCII)
    if not match or ".." in handle:
        raise ValueError(
            f"{handle!r} is not a handle of Kaggle. These have the form kaggle://OWNER/MODEL/FRAMEWORK/VARIATION for "
            "the latest version, or end in /VERSION, a number, such as kaggle://keras/roberta/keras/roberta_base_en/3"
        )
    return match[1], match[2]


class Kaggle:
    """A variation of a model at one version. If the handle has no version, it is the latest one when the first file is
    requested.
    """

    def __init__(self, handle: str) -> None:
        self.handle = handle
        self.variation, self.version = parse_kaggle(handle)
        self.directory: Path | None = None
        try:
            import kagglehub
        except ImportError:
            raise missing("kagglehub", handle) from None
        self.client: Any = kagglehub

    def fetch(self, name: str) -> Path | None:
        """See `Source`."""
        absent = self._mark_of_absence(name)
        if absent and absent.exists():
            return None
        try:
            with kaggle_errors(self.handle, name):
                path = watched(lambda: self._download(name), self._folder(), f"{self.handle}: {name}")
        except FileNotFoundError:
            if name == CONFIG:
                raise
            if absent:
                with contextlib.suppress(OSError):  # a cache that is mounted read-only, as in Kaggle's notebooks
                    absent.parent.mkdir(parents=True, exist_ok=True)
                    absent.touch()
            return None
        if name == CONFIG:
            self.directory = path.parent
            if path.parent.name.isdecimal():
                self.version = path.parent.name
        return path

    def _download(self, name: str) -> Path:
        from requests.exceptions import ConnectionError, Timeout

        if self.version is not None:
            return Path(self.client.model_download(f"{self.variation}/{self.version}", name))
        try:
            return Path(self.client.model_download(self.variation, name))
        except (ConnectionError, Timeout):
            versions = [
                int(file.parent.name) for file in self._folder().glob(f"*/{name}") if file.parent.name.isdecimal()
            ]
            if not versions:
                raise
            return Path(self.client.model_download(f"{self.variation}/{max(versions)}", name))

    def _folder(self) -> Path:
        """The folder in which the client keeps the variation's versions."""
        from kagglehub.config import get_cache_folder

        return Path(get_cache_folder(), "models", self.variation)

    def _mark_of_absence(self, name: str) -> Path | None:
        """The mark of a missing file, beside the client's of complete files. It stays valid: a version is final."""
        if self.directory is None:
            return None
        return self.directory.parent / ".absent" / self.directory.name / name


@contextlib.contextmanager
def kaggle_errors(handle: str, item: str) -> Iterator[None]:
    """A `with` block that turns the client's errors into errors that say what to do; see `hf_errors`."""
    from kagglehub import exceptions
    from requests.exceptions import RequestException

    try:
        yield
    except exceptions.KaggleApiHTTPError as error:
        status = _status(error)
        if status == 404:
            raise FileNotFoundError(
                f"{handle}: Kaggle has no such model, version or file ({item}). "
                f"https://www.kaggle.com/models/{'/'.join(parse_kaggle(handle)[0].split('/')[:2])} lists them"
            ) from None
        if status in REFUSALS:
            raise PermissionError(
                f"{handle}: Kaggle refuses {item} ({status}): there is no such model, it is private, or its licence "
                f"must be accepted on its page first. To log in, {KAGGLE_LOG_IN}"
            ) from None
        raise ConnectionError(f"{handle}: Kaggle fails at {item}: {_first_line(error)}") from error
    except (exceptions.UnauthenticatedError, exceptions.CredentialError) as error:
        raise PermissionError(f"{handle}: Kaggle wants a login for {item} ({error}): {KAGGLE_LOG_IN}") from None
    except exceptions.DataCorruptionError:
        raise OSError(
            f"{handle}: {item} arrived damaged: its MD5 is not the one that Kaggle names. It was removed; call again "
            "to download it anew"
        ) from None
    except RequestException as error:
        raise ConnectionError(
            f"{handle}: {item} is not in the cache, and Kaggle can't be reached or the download broke off "
            f"({_first_line(error)}). When there is a connection, call again: the download continues where it stopped"
        ) from error


SOURCES: dict[str, Callable[[str], Source]] = {"hf": HuggingFace, "kaggle": Kaggle}
