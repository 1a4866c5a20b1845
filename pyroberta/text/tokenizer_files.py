"""The files in which Hugging Face keeps RoBERTa's tokenizer: read into, and written from, `Tokenizer`'s arguments."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from pyroberta.formats.budget import Budget
from pyroberta.text.files import read_bytes, read_json, shown

# Tokenizer's name for each special token, and transformers' names for it.
ROLES = {
    "start_token": ("bos_token", "cls_token"),
    "pad_token": ("pad_token",),
    "end_token": ("eos_token", "sep_token"),
    "unk_token": ("unk_token",),
    "mask_token": ("mask_token",),
}

MOST_ADDED = 10_000
BYTES_PER_LETTER = 256  # of an added token: a state of the automaton that looks for it
STEPS_PER_MERGE = 2  # of the 16 for each token: trained vocabularies have one merge for a token, converted ones a few
DEFAULTS = dict(zip(ROLES, ("<s>", "<pad>", "</s>", "<unk>", "<mask>"), strict=True))


def read(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """The arguments of the `Tokenizer` that the files of a directory describe.

    `tokenizer.json` is read if it is there, else `vocab.json`, `merges.txt` and, if there, `added_tokens.json`. What
    `tokenizer_config.json` says of the special tokens, of `add_prefix_space` and of `<mask>`'s lstrip holds over
    `tokenizer.json`, as in transformers. Where nothing is said, `add_prefix_space` is off and lstrip on.

    Raises:
        FileNotFoundError: where the files are not there, naming those that are missing.
        ValueError: where a file is broken, or asks for what this tokenizer does not do.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"there is no directory {str(directory)!r} to load a tokenizer from")
    config = _read_if_there(directory / "tokenizer_config.json")
    named = _read_if_there(directory / "special_tokens_map.json") | config
    arguments: dict[str, Any] = {}
    for role, names in ROLES.items():
        for token in filter(None, (_content(named.get(name)) for name in names)):
            arguments.setdefault(role, token)
    if (directory / "tokenizer.json").exists():
        arguments = _read_tokenizer_json(directory / "tokenizer.json", arguments)
    else:
        special_tokens = named.get("additional_special_tokens") or []
        if not isinstance(special_tokens, list):
            raise ValueError(f"{directory}: additional_special_tokens should be a list, got {shown(special_tokens)}")
        arguments |= _read_vocabulary_and_merges(directory, {_content(token) for token in special_tokens})
    if len(arguments["added_tokens"]) > MOST_ADDED:
        raise ValueError(
            f"{directory}: there are {len(arguments['added_tokens'])} added tokens, the most that can be had is "
            f"{MOST_ADDED}, since each is looked for in every text"
        )
    letters = sum(len(token) for token in arguments["added_tokens"] if isinstance(token, str))
    Budget(directory).make(f"looking for added tokens of {letters} letters", BYTES_PER_LETTER * letters)
    if isinstance(config.get("add_prefix_space"), bool):
        arguments["add_prefix_space"] = config["add_prefix_space"]
    mask = config.get("mask_token")
    if isinstance(mask, Mapping) and isinstance(mask.get("lstrip"), bool):
        arguments["mask_lstrip"] = mask["lstrip"]
    return arguments


def write(
    directory: str | os.PathLike[str],
    *,
    vocabulary: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    add_prefix_space: bool,
    mask_lstrip: bool,
    added_tokens: Mapping[str, bool],
    **special_tokens: str,
) -> None:
    """Writes all five files; `special_tokens` has the keys of `ROLES`."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
    mask = special_tokens["mask_token"]
    is_special = dict.fromkeys(special_tokens.values(), True) | dict(added_tokens)

    def flags(token: str) -> dict[str, Any]:
        return {
            "content": token,
            "single_word": False,
            "lstrip": mask_lstrip and token == mask,
            "rstrip": False,
            "normalized": False,
        }

    byte_level = {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": vocabulary[token]} | flags(token) | {"special": is_special[token]}
            for token in sorted(is_special, key=vocabulary.__getitem__)
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [special_tokens["end_token"], vocabulary[special_tokens["end_token"]]],
            "cls": [special_tokens["start_token"], vocabulary[special_tokens["start_token"]]],
            "trim_offsets": True,
            "add_prefix_space": add_prefix_space,
        },
        "decoder": byte_level | {"add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": special_tokens["unk_token"],
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [list(pair) for pair in merges],
        },
    }
    names = {name: special_tokens[role] for role, names in ROLES.items() for name in names}
    special_tokens_map = {name: flags(token) if token == mask else token for name, token in names.items()}
    config = {
        "tokenizer_class": "RobertaTokenizer",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": True,
        "errors": "replace",
        "clean_up_tokenization_spaces": False,
        **{
            name: {"__type": "AddedToken"} | token if isinstance(token, dict) else token
            for name, token in special_tokens_map.items()
        },
        "added_tokens_decoder": {
            str(vocabulary[token]): flags(token) | {"special": is_special[token]}
            for token in sorted(is_special, key=vocabulary.__getitem__)
        },
    }
    merges_text = "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges)
    _write(directory / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    _write(directory / "merges.txt", merges_text)
    _write(directory / "tokenizer.json", json.dumps(tokenizer, ensure_ascii=False, indent=1))
    _write(directory / "tokenizer_config.json", json.dumps(config, ensure_ascii=False, indent=2))
    _write(directory / "special_tokens_map.json", json.dumps(special_tokens_map, ensure_ascii=False, indent=2))


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode())  # bytes: the same file on every system


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _content(token: Any) -> str | None:
    """A special token is written as its text, or as an object with its text and flags."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _read_vocabulary_and_merges(directory: Path, special_tokens: AbstractSet[str | None]) -> dict[str, Any]:
    files = [directory / "vocab.json", directory / "merges.txt"]
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise FileNotFoundError(
            f"{str(directory)!r} has no {' and no '.join(missing)}; a tokenizer is read from tokenizer.json, "
            "or from vocab.json and merges.txt"
        )
    vocabulary = read_json(files[0])
    added_tokens = _read_if_there(directory / "added_tokens.json")
    return {
        "vocabulary": added_tokens | vocabulary,
        "merges": read_merges(files[1], len(vocabulary)),
        "added_tokens": {token: token in special_tokens for token in added_tokens},
    }


def read_merges(path: Path, tokens: int | None = None) -> list[tuple[str, str]]:
    """The pairs of a merges file, one a line; a first line that begins with `#version` is none.

    Args:
        path: of the file.
        tokens: of the vocabulary, which tells how many merges there can be; None for any number.

    Raises:
        ValueError: for a line that is no pair, naming it.
        OverBudget: for more merges than the vocabulary can have use for.
    """
    content = read_bytes(path)
    if tokens is not None:
        spend_merges(path, content.count(b"\n"), tokens)
    try:
        lines = content.decode().replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(path)!r} is not UTF-8: {error}") from error
    stop = len(lines) - 1 if not lines[-1] else len(lines)  # a file ends with a line's end
    return merges_of_lines(lines[:stop], repr(str(path)))


def spend_merges(path: Path, count: int, tokens: int) -> None:
    """Raises OverBudget where a vocabulary of so many tokens has no use for so many merges."""
    Budget(path, items=tokens).step(f"a list of {count} merges for {tokens} tokens", STEPS_PER_MERGE * count)


def merges_of_lines(lines: Sequence[str], where: str) -> list[tuple[str, str]]:
    """The pairs, one a line; a first line that begins with `#version` is none.

    Raises:
        ValueError: for a line that is no pair, naming it as one of `where`.

    >>> merges_of_lines(["#version: 0.2", "h e", "he y"], "merges.txt")
    [('h', 'e'), ('he', 'y')]
    """
    start = 1 if lines and lines[0].startswith("#version") else 0
    return [_split_merge(lines[i], f"line {i + 1} of {where}") for i in range(start, len(lines))]


def _split_merge(merge: Any, where: str) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2 or not all(part and isinstance(part, str) for part in parts):
        raise ValueError(f"{where} must be a merge: two tokens with a space between them, got {shown(merge)}")
    return parts[0], parts[1]


def _read_tokenizer_json(path: Path, named: Mapping[str, Any]) -> dict[str, Any]:
    content = read_json(path)
    try:
        _refuse_other_tokenizers(path, content)
        arguments = dict(named)
        post_processor = content.get("post_processor") or {}
        if post_processor.get("type") == "RobertaProcessing":
            arguments |= {"start_token": post_processor["cls"][0], "end_token": post_processor["sep"][0]}
        merges = content["model"]["merges"]
        spend_merges(path, len(merges), len(content["model"]["vocab"]))
        arguments["merges"] = [_split_merge(merge, f"merge {i} of {str(path)!r}") for i, merge in enumerate(merges)]
        arguments["add_prefix_space"] = content["pre_tokenizer"]["add_prefix_space"]

        vocabulary = arguments["vocabulary"] = {**content["model"]["vocab"]}
        added_tokens = arguments["added_tokens"] = {}
        special_tokens = {role: arguments.get(role, token) for role, token in DEFAULTS.items()}
        mask_token = special_tokens["mask_token"]
        arguments["mask_lstrip"] = False
        for token in content.get("added_tokens") or []:
            text, id = token["content"], token["id"]
            if vocabulary.setdefault(text, id) != id:
                raise ValueError(
                    f"{str(path)!r} gives {shown(text)} two ids, {shown(vocabulary[text])} and {shown(id)}"
                )
            if text == mask_token:
                arguments["mask_lstrip"] = token["lstrip"]
            elif token["lstrip"]:
                raise _refusal(
                    path, f"lstrip of the added token {shown(text)}", True, f"it for {shown(mask_token)} alone"
                )
            for flag in ("rstrip", "single_word"):
                if token[flag]:
                    raise _refusal(path, f"{flag} of the added token {shown(text)}", True, "it for no token")
            if text not in special_tokens.values():
                added_tokens[text] = bool(token["special"])
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{str(path)!r} is not laid out as a tokenizer.json is: {shown(error)}") from error
    return arguments


def _refuse_other_tokenizers(path: Path, content: Mapping[str, Any]) -> None:
    model = content["model"]
    pre_tokenizer = content["pre_tokenizer"] or {}
    normalizer = content.get("normalizer")
    if model.get("type", "BPE") != "BPE":
        raise _refusal(path, "the model's type", model["type"], "BPE")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"):
        if model.get(key):
            raise _refusal(path, f"the model's {key}", model[key], "none")
    if normalizer is not None:
        raise _refusal(path, "the normalizer", normalizer.get("type"), "none")
    if pre_tokenizer.get("type") != "ByteLevel":
        raise _refusal(path, "the pre_tokenizer", pre_tokenizer.get("type"), "ByteLevel")
    if not pre_tokenizer.get("use_regex", True):
        raise _refusal(path, "the pre_tokenizer's use_regex", False, "true")


def _refusal(path: Path, what: str, got: Any, expected: str) -> ValueError:
    return ValueError(f"{what} in {str(path)!r} is {shown(got)}; RoBERTa's tokenizer, and so this one, has {expected}")
