"""The files in which Hugging Face keeps RoBERTa's tokenizer. They are read into `Tokenizer`'s arguments and written
from them.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from pyroberta.formats.budget import Budget
from pyroberta.formats.directory import Directory
from pyroberta.formats.files import boolean, exists, number, read_bytes, shown
from pyroberta.formats.new_files import NewFile
from pyroberta.model.callers import callers_level
from pyroberta.text.byte_level import BYTE_CHARACTERS

# Tokenizer's name for each special token, and transformers' names for it. Of two, the first is what texts are framed
# with; the second is a special token besides, where it is another.
ROLES = {
    "start_token": ("cls_token", "bos_token"),
    "pad_token": ("pad_token",),
    "end_token": ("sep_token", "eos_token"),
    "unk_token": ("unk_token",),
    "mask_token": ("mask_token",),
}

CONFIG = "tokenizer_config.json"
EXTRAS = "pyroberta"  # the key of settings that transformers lacks and ignores
DEFAULT_EXTRAS: dict[str, Any] = {"sequence_length": None, "dtype": "int32"}  # of what a tokenizer's call gives
TRUNCATION = ("direction", "max_length", "strategy", "stride")  # a stride is for texts cut into several
DEFAULT_LENGTH = 512  # of a preprocessor's sequences
LARGEST_LENGTH = 1_000_000  # above it, transformers writes a number that stands for "no limit"
MOST_ADDED = 10_000
MOST_COMPARED = 2_000_000  # pairs of places, in the search for added tokens that overlap
# Classes of transformers that cut texts as this tokenizer does; the last two do what tokenizer.json says. Each may end
# in "Fast".
CLASSES = (
    "RobertaTokenizer", "BartTokenizer", "LongformerTokenizer", "LEDTokenizer", "PreTrainedTokenizer",
    "TokenizersBackend",
)  # fmt: skip
# The keys that a tokenizer.json and its parts may have.
PARTS = (
    "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder",
    "model",
)  # fmt: skip
BYTE_LEVEL = ("type", "add_prefix_space", "trim_offsets", "use_regex")
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
# The model's `unk_token` and `fuse_unk` are about bytes without a token; see `_follow_unknown`.
MODEL = (
    "type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback",
    "ignore_merges", "vocab", "merges",
)  # fmt: skip
BYTES_PER_LETTER = 256  # of an added token: a state of the automaton that looks for it
STEPS_PER_MERGE = 2  # of the 16 for each token: trained vocabularies have one merge for a token, converted ones a few
DEFAULTS = dict(zip(ROLES, ("<s>", "<pad>", "</s>", "<unk>", "<mask>"), strict=True))


def read(directory: Directory) -> dict[str, Any]:
    """Returns the arguments of the `Tokenizer` that the files of a directory describe.

    `tokenizer.json` is read if it exists. Otherwise `vocab.json`, `merges.txt` and, if it exists, `added_tokens.json`
    are read. For the special tokens, added tokens (`added_tokens_decoder`), `add_prefix_space`, `trim_offsets` and the
    lstrip of `<mask>`, `tokenizer_config.json` takes precedence over `tokenizer.json`, as in transformers. By default
    `add_prefix_space` is off and lstrip is on. Texts begin with `cls_token` and end with `sep_token`.

    Each part of a tokenizer.json is either applied or refused by name. Truncation is a setting of a preprocessor: see
    `read_settings`. Padding changes no result, since sequences are packed, but the padding token must be in the
    vocabulary.

    Raises:
        FileNotFoundError: if files are missing. The message names them.
        ValueError: if a file is damaged, or has a setting that this tokenizer does not have.

    Warns:
        UserWarning: if a setting is applied in part.
    """
    if not exists(directory.path) or not directory.path.is_dir():
        raise FileNotFoundError(f"there is no directory {str(directory)!r} to load a tokenizer from")
    config = _read_if_present(directory, CONFIG)
    named = {**_read_if_present(directory, "special_tokens_map.json"), **config}
    _refuse_other_classes(directory / CONFIG, config)
    arguments: dict[str, Any] = {}
    others: set[str] = set()
    for role, names in ROLES.items():
        for name in names:
            token = _special_token(directory, name, named.get(name))
            if token is not None and arguments.setdefault(role, token) != token:
                others.add(token)
    others |= _more_special_tokens(directory, named)
    reading = _Reading(arguments)
    reading.mask_lstrip = boolean(directory, named.get("mask_token"), "lstrip", default=True)
    if exists(directory / "tokenizer.json"):
        _read_tokenizer_json(directory, reading, named, config)
    else:
        _read_vocabulary_and_merges(directory, reading, others)
    _read_added_tokens_decoder(directory / CONFIG, reading, config)
    for token in sorted(others - set(reading.roles().values())):
        reading.added_tokens[token] = True
        reading.normalized.setdefault(token, False)
    if len(reading.added_tokens) > MOST_ADDED:
        raise ValueError(
            f"{directory}: there are {len(reading.added_tokens)} added tokens; at most {MOST_ADDED} are possible, "
            "since each is searched in every text"
        )
    letters = sum(len(token) for token in reading.added_tokens if isinstance(token, str))
    Budget(directory.path).make(f"the search for added tokens of {letters} letters", BYTES_PER_LETTER * letters)
    reading.refuse_overlaps(directory)
    reading.mask_lstrip = boolean(directory / CONFIG, config.get("mask_token"), "lstrip", reading.mask_lstrip)
    if "unk_token" not in named or named["unk_token"] is not None:  # null: there is none, unless the vocabulary has it
        arguments.setdefault("unk_token", DEFAULTS["unk_token"])
    arguments["add_prefix_space"] = boolean(
        directory / CONFIG, config, "add_prefix_space", arguments.get("add_prefix_space", False)
    )
    extras = config.get(EXTRAS, {})
    if not isinstance(extras, Mapping):
        raise ValueError(f"{str(directory / CONFIG)!r}: {EXTRAS} should be an object, got {shown(extras)}")
    return arguments | {
        **{name: extras.get(name, default) for name, default in DEFAULT_EXTRAS.items()},
        "vocabulary": reading.vocabulary,
        "added_tokens": reading.added_tokens,
        "mask_lstrip": reading.mask_lstrip,
    }


def read_settings(directory: Directory) -> dict[str, Any]:
    """Returns the preprocessor's settings in a tokenizer's files: `sequence_length`, the smallest length that they
    have.

    The lengths are `max_length` of the truncation in tokenizer.json, and `model_max_length` in tokenizer_config.json.
    Both count the special tokens, as `sequence_length` does.

    Warns:
        UserWarning: if the files cut texts elsewhere than at the right, or pairs by another strategy.

    Raises:
        ValueError: if a file is not JSON, a length is not a whole number, or a side or strategy is unknown.
    """
    file, config = directory / CONFIG, _read_if_present(directory, CONFIG)
    lengths = []
    longest = config.get("model_max_length")
    if longest is not None and not (isinstance(longest, (int, float)) and longest > LARGEST_LENGTH):  # "no limit"
        lengths.append(min(number(file, config, "model_max_length", 0), DEFAULT_LENGTH))  # a bound, no wish
    ways: list[tuple[Path, str, Any, tuple[str, ...]]] = [
        (file, "truncation_side", config.get("truncation_side"), ("right", "left"))
    ]
    file = directory / "tokenizer.json"
    truncation = _read_if_present(directory, file.name).get("truncation")
    if truncation is not None:
        _refuse_unknown_keys(file, "truncation", truncation, TRUNCATION)
        lengths.append(number(file, truncation, "max_length", 0))
        ways.append((file, "the truncation's direction", truncation.get("direction"), ("Right", "Left")))
        strategies = ("LongestFirst", "OnlyFirst", "OnlySecond")
        ways.append((file, "the truncation's strategy", truncation.get("strategy"), strategies))
    for file, name, way, known in ways:
        if way is not None and way not in known:
            raise ValueError(f"{name} in {str(file)!r} is {shown(way)}; it should be one of {', '.join(known)}")
        # Not refused: texts within the limit are the same, and of others every call says how many were cut.
        if way not in (None, known[0]):
            warnings.warn(
                f"{name} in {str(file)!r} is {shown(way)}, which is not applied: a preprocessor cuts texts of more "
                "than sequence_length tokens at the right, and the segments of a pair by its own truncate=. Shorter "
                "texts are not affected",
                stacklevel=callers_level(),
            )
    return {"sequence_length": min(lengths)} if lengths else {}


def new_files(
    *,
    vocabulary: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    add_prefix_space: bool,
    mask_lstrip: bool,
    added_tokens: Mapping[str, bool],
    separators: int,
    trim_offsets: bool,
    sequence_length: int | None,
    dtype: str,
    **special_tokens: str | None,
) -> dict[str, NewFile]:
    """Returns all five files, by name. `special_tokens` has the keys of `ROLES`. The unknown token may be None.

    Raises:
        ValueError: if a merge needs a token that the vocabulary lacks, since `tokenizers` refuses such a merge.
    """
    for left, right in merges:
        for token in (left, right, left + right):
            if token not in vocabulary:
                raise ValueError(
                    f"the merge {shown(left)} + {shown(right)} needs the token {shown(token)}, which the vocabulary "
                    "lacks. Hugging Face's tokenizers do not read such files. Add the token to the vocabulary, or save "
                    "with format='keras'"
                )
    lacks_bytes = any(character not in vocabulary for character in BYTE_CHARACTERS)
    vocabulary = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
    roles = {role: token for role, token in special_tokens.items() if token is not None}
    is_special = dict.fromkeys(roles.values(), True) | dict(added_tokens)
    mask = roles["mask_token"]

    def flags(token: str) -> dict[str, Any]:
        return {
            "content": token,
            "single_word": False,
            "lstrip": mask_lstrip and token == mask,
            "rstrip": False,
            "normalized": False,
        }

    byte_level = {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": True}
    framing = {
        "type": "RobertaProcessing",
        "sep": [roles["end_token"], vocabulary[roles["end_token"]]],
        "cls": [roles["start_token"], vocabulary[roles["start_token"]]],
    }
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": vocabulary[token]} | flags(token) | {"special": is_special[token]}
            for token in sorted(is_special, key=vocabulary.__getitem__)
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": framing | {"trim_offsets": trim_offsets, "add_prefix_space": add_prefix_space},
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
    if separators == 1:  # BERT's framing, which doesn't trim by itself
        framing["type"] = "BertProcessing"
        trimming = byte_level | {"trim_offsets": trim_offsets}
        tokenizer["post_processor"] = {"type": "Sequence", "processors": [trimming, framing]}
    is_other = separators != 2 or lacks_bytes or special_tokens["unk_token"] is None
    names = {name: special_tokens[role] for role, names in ROLES.items() for name in names}
    special_tokens_map = {name: flags(mask) if token == mask else token for name, token in names.items()}
    config: dict[str, Any] = {
        # Whatever tokenizer.json says, transformers' RobertaTokenizer puts two </s> between the segments of a pair, has
        # an unknown token, and (in version 5) leaves out bytes that the vocabulary lacks. The other class follows it.
        "tokenizer_class": "PreTrainedTokenizerFast" if is_other else "RobertaTokenizer",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": trim_offsets,
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
    extras = {"sequence_length": sequence_length, "dtype": dtype}
    if extras != DEFAULT_EXTRAS:
        config[EXTRAS] = {name: value for name, value in extras.items() if value != DEFAULT_EXTRAS[name]}
    merges_text = "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges)
    return {
        "vocab.json": NewFile.of(json.dumps(vocabulary, ensure_ascii=False)),
        "merges.txt": NewFile.of(merges_text),
        "tokenizer.json": NewFile.of(json.dumps(tokenizer, ensure_ascii=False, indent=1)),
        "tokenizer_config.json": NewFile.of(json.dumps(config, ensure_ascii=False, indent=2)),
        "special_tokens_map.json": NewFile.of(json.dumps(special_tokens_map, ensure_ascii=False, indent=2)),
    }


def _read_if_present(directory: Directory, name: str) -> Mapping[str, Any]:
    return directory.json(name) if exists(directory / name) else {}


class _Reading:
    """What the files have said so far: `arguments` of the `Tokenizer`, and what is put together from several files."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.arguments = arguments
        self.vocabulary: dict[str, int] = {}
        self.added_tokens: dict[str, bool] = {}
        self.normalized: dict[str, bool] = {}
        self.mask_lstrip = True

    def roles(self) -> dict[str, str]:
        """The special tokens by their roles."""
        return {role: self.arguments.get(role, token) for role, token in DEFAULTS.items()}

    def add(self, path: Path, text: Any, id: Any, flags: Mapping[str, Any]) -> None:
        """Takes an added token over, with its `FLAGS`."""
        if not isinstance(text, str) or not text:
            raise ValueError(f"{str(path)!r} has an added token that is not a text: {shown(text)}")
        if self.vocabulary.setdefault(text, id) != id:
            raise ValueError(
                f"{str(path)!r} gives {shown(text)} two ids, {shown(self.vocabulary[text])} and {shown(id)}"
            )
        for flag in FLAGS:
            if not isinstance(flags[flag], bool):
                raise ValueError(
                    f"{flag} of the added token {shown(text)} in {str(path)!r} should be true or false, got "
                    f"{shown(flags[flag])}"
                )
        roles = self.roles()
        if text == roles["mask_token"]:
            self.mask_lstrip = flags["lstrip"]
        elif flags["lstrip"]:
            raise _refusal(
                path, f"lstrip of the added token {shown(text)}", True, f"it for {shown(roles['mask_token'])} alone"
            )
        for flag in ("rstrip", "single_word"):
            if flags[flag]:
                raise _refusal(path, f"{flag} of the added token {shown(text)}", True, "it for no token")
        self.normalized[text] = flags["normalized"]
        if text not in roles.values():
            self.added_tokens[text] = flags["special"] or self.added_tokens.get(text, False)

    def refuse_overlaps(self, directory: Directory) -> None:
        """Checks that it makes no difference which added tokens are `normalized`.

        `tokenizers` looks for those that aren't first, and for the others in what is left; here all are looked for at
        once, the longest first at each place. That is the same unless one that is normalized begins before, and
        reaches into, or begins with, one that isn't.
        """
        tokens = dict.fromkeys([*self.roles().values(), *self.added_tokens])
        first = [text for text in tokens if not self.normalized.get(text, False)]
        by_letter: dict[str, list[str]] = {}
        for text in first:
            by_letter.setdefault(text[0], []).append(text)
        left = MOST_COMPARED
        for text in (text for text, is_normalized in self.normalized.items() if is_normalized):
            for i, letter in enumerate(text):
                others = by_letter.get(letter, ())
                left -= 1 + len(others)
                if left < 0:
                    raise ValueError(f"{directory}: too many added tokens are alike, some of them normalized")
                for other in others:
                    if text.startswith(other, i) or (i and other.startswith(text[i : i + len(other)])):
                        raise ValueError(
                            f"{directory}: the added token {shown(text)} is normalized and {shown(other)} isn't, and "
                            "they overlap. That decides which of them a text holds, and it is not supported here. Give "
                            "both the same value of normalized"
                        )


def _refuse_other_classes(path: Path, config: Mapping[str, Any]) -> None:
    name = config.get("tokenizer_class")
    if name is not None and (not isinstance(name, str) or name.removesuffix("Fast") not in CLASSES):
        raise _refusal(path, "tokenizer_class", name, "RobertaTokenizer")
    if config.get("split_special_tokens"):
        raise _refusal(path, "split_special_tokens", config["split_special_tokens"], "false")


def _special_token(directory: os.PathLike[str], name: str, token: Any) -> str | None:
    """A special token is written as its text, or as an object with its text and flags; None where it is null."""
    content = token.get("content") if isinstance(token, Mapping) else token
    if token is not None and not (isinstance(content, str) and content):
        raise ValueError(f"{directory}: {name} should be a token's text, or an object with it, got {shown(token)}")
    for flag in ("rstrip", "single_word"):
        if isinstance(token, Mapping) and token.get(flag):
            raise _refusal(directory, f"{flag} of the {name} {shown(content)}", token[flag], "it for no token")
    if isinstance(token, Mapping) and token.get("lstrip") and name != "mask_token":
        raise _refusal(directory, f"lstrip of the {name} {shown(content)}", token["lstrip"], "it for mask_token alone")
    return content


def _more_special_tokens(directory: Directory, named: Mapping[str, Any]) -> set[str]:
    """Those without a role; version 5 of transformers calls them `extra_special_tokens`, and may give them names."""
    found = set()
    for key in ("additional_special_tokens", "extra_special_tokens"):
        tokens = named.get(key) or []
        if key == "extra_special_tokens" and isinstance(tokens, Mapping):
            tokens = list(tokens.values())
        if not isinstance(tokens, list):
            raise ValueError(f"{directory}: {key} should be a list, got {shown(tokens)}")
        found |= {token for one in tokens if (token := _special_token(directory, key, one)) is not None}
    return found


def _read_added_tokens_decoder(path: Path, reading: _Reading, config: Mapping[str, Any]) -> None:
    """The added tokens that tokenizer_config.json has by their ids, with flags that are off where they are missing."""
    tokens = config.get("added_tokens_decoder") or {}
    if not isinstance(tokens, Mapping):
        raise ValueError(f"{str(path)!r}: added_tokens_decoder should be an object, got {shown(tokens)}")
    for key, token in tokens.items():
        if not key.isascii() or not key.isdecimal() or len(key) > 9 or not isinstance(token, Mapping):
            raise ValueError(
                f"{str(path)!r}: added_tokens_decoder should have an object by each token's id, got {shown(key)}: "
                f"{shown(token)}"
            )
        _refuse_unknown_keys(path, f"added_tokens_decoder's {key}", token, ("content", "__type", *FLAGS))
        flags = dict.fromkeys(FLAGS, False) | {"normalized": not token.get("special", False)} | dict(token)
        reading.add(path, flags.pop("content", None), int(key), flags)


def _read_vocabulary_and_merges(directory: Directory, reading: _Reading, special_tokens: AbstractSet[str]) -> None:
    files = [directory / "vocab.json", directory / "merges.txt"]
    missing = [file.name for file in files if not exists(file)]
    if missing:
        raise FileNotFoundError(
            f"{str(directory)!r} has no {' and no '.join(missing)}; a tokenizer is read from tokenizer.json, "
            "or from vocab.json and merges.txt"
        )
    added_tokens = _read_if_present(directory, "added_tokens.json")
    vocabulary = directory.json("vocab.json")
    reading.vocabulary = {**added_tokens, **vocabulary}
    reading.arguments["merges"] = read_merges(files[1], len(vocabulary))
    reading.added_tokens = {token: token in special_tokens for token in added_tokens}
    reading.normalized = {token: not is_special for token, is_special in reading.added_tokens.items()}
    config = _read_if_present(directory, CONFIG)
    reading.arguments["trim_offsets"] = boolean(directory / CONFIG, config, "trim_offsets", default=True)


def read_merges(path: Path, tokens: int | None = None) -> list[tuple[str, str]]:
    """Returns the pairs of a merges file; see `parse_merges`."""
    return parse_merges(read_bytes(path), path, tokens)


def parse_merges(content: bytes, path: Path, tokens: int | None = None) -> list[tuple[str, str]]:
    """Returns the pairs of a merges file, which has one a line. A first line that begins with `#version` is skipped.

    Args:
        content: the bytes of the file.
        path: the path of the file, for messages.
        tokens: the number of tokens of the vocabulary, which limits the number of merges. None for no limit.

    Raises:
        ValueError: if a line is not a pair. The message names the line.
        OverBudget: if there are more merges than the vocabulary can use.
    """
    if tokens is not None:
        spend_merges(path, content.count(b"\n"), tokens)
    try:
        lines = content.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(path)!r} is not UTF-8: {error}") from error
    stop = len(lines) - 1 if not lines[-1] else len(lines)  # a file ends with a line's end
    return merges_of_lines(lines[:stop], repr(str(path)))


def spend_merges(path: Path, count: int, tokens: int) -> None:
    """Checks that a vocabulary of so many tokens can use so many merges. If it can't, raises OverBudget."""
    Budget(path, items=tokens).step(f"a list of {count} merges for {tokens} tokens", STEPS_PER_MERGE * count)


def merges_of_lines(lines: Sequence[str], where: str) -> list[tuple[str, str]]:
    """Returns the pairs of the lines, one a line. A first line that begins with `#version` is skipped.

    Raises:
        ValueError: if a line is not a pair. The message names the line and `where`.

    >>> merges_of_lines(["#version: 0.2", "h e", "he y"], "merges.txt")
    [('h', 'e'), ('he', 'y')]
    """
    start = 1 if lines and lines[0].startswith("#version") else 0
    return _split_merges(lines[start:], lambda i: f"line {start + i + 1} of {where}")


def _split_merges(merges: Iterable[Any], name: Callable[[int], str]) -> list[tuple[str, str]]:
    """The pairs of merges that are texts or lists; `name` tells of the number of one that is no pair what it is."""
    pairs = []
    for i, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if isinstance(parts, list) and len(parts) == 2:
            left, right = parts
            if isinstance(left, str) and isinstance(right, str) and left and right:
                pairs.append((left, right))
                continue
        raise ValueError(f"{name(i)} must be a merge: two tokens with a space between them, got {shown(merge)}")
    return pairs


def _read_tokenizer_json(
    directory: Directory, reading: _Reading, named: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
    path, content = directory / "tokenizer.json", directory.json("tokenizer.json")
    arguments = reading.arguments
    try:
        _refuse_other_tokenizers(path, content)
        reading.vocabulary = {**content["model"]["vocab"]}
        merges = content["model"]["merges"]
        spend_merges(path, len(merges), len(content["model"]["vocab"]))
        arguments["merges"] = _split_merges(merges, lambda i: f"merge {i} of {str(path)!r}")
        prefix = arguments["add_prefix_space"] = content["pre_tokenizer"]["add_prefix_space"]
        _follow_unknown(path, content["model"], reading)
        _follow_padding(path, content.get("padding"), reading)

        framing = _framing(path, content.get("post_processor"), reading.vocabulary)
        its_prefix = framing.pop("add_prefix_space", prefix)
        is_settled = config.get("add_prefix_space") is not None  # for both, as in transformers
        if framing["trim_offsets"] and its_prefix != prefix and not is_settled:
            warnings.warn(
                f"add_prefix_space of the post_processor in {str(path)!r} is {shown(its_prefix)}, unlike that of the "
                "pre_tokenizer, which is used for both. The ids are the same, but the offsets of a text that begins "
                "with a space may differ",
                stacklevel=callers_level(),
            )
        if framing["trim_offsets"] is None:
            framing["trim_offsets"] = False  # what doesn't trim can't be told to
        else:
            framing["trim_offsets"] = boolean(path.parent / CONFIG, config, "trim_offsets", framing["trim_offsets"])
        for role, name in (("start_token", "cls_token"), ("end_token", "sep_token")):
            said = _special_token(path.parent, name, named.get(name))
            if said is not None and said != framing[role]:
                raise ValueError(
                    f"the post_processor in {str(path)!r} frames texts with {shown(framing[role])}, but {name} is "
                    f"{shown(said)}. Correct one of them"
                )
            if (other := arguments.get(role, framing[role])) != framing[role]:  # of bos_token or eos_token
                reading.added_tokens[other] = True
        arguments |= framing

        reading.mask_lstrip = False
        for token in content.get("added_tokens") or []:
            _refuse_unknown_keys(path, "an added token", token, ("id", "content", *FLAGS))
            reading.add(path, token["content"], token["id"], {flag: token[flag] for flag in FLAGS})
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{str(path)!r} does not have the layout of a tokenizer.json: {shown(error)}") from error


def _follow_unknown(path: Path, model: Mapping[str, Any], reading: _Reading) -> None:
    """The unknown token, which stands for a byte that the vocabulary lacks."""
    unknown = model.get("unk_token")
    if isinstance(unknown, str):
        reading.arguments.setdefault("unk_token", unknown)
    if all(character in model["vocab"] for character in BYTE_CHARACTERS):
        return
    if model.get("fuse_unk"):
        raise _refusal(path, "the model's fuse_unk", True, "one unknown token for each byte that the vocabulary lacks")
    wanted = reading.roles()["unk_token"]
    if unknown is None and wanted in model["vocab"]:
        warnings.warn(
            f"the vocabulary in {str(path)!r} lacks some bytes, and its model has no unk_token, so `tokenizers` leaves "
            f"such bytes out. Here each of them becomes {wanted}",
            stacklevel=callers_level(),
        )
    elif unknown not in (None, wanted):
        raise ValueError(
            f"{str(path)!r} has {shown(unknown)} for the bytes that its vocabulary lacks, but unk_token is "
            f"{shown(wanted)}. Correct one of them"
        )


def _follow_padding(path: Path, padding: Any, reading: _Reading) -> None:
    """The token that sequences are padded with; how far and on which side changes no answer."""
    if padding is None:
        return
    _refuse_unknown_keys(
        path, "padding", padding, ("strategy", "direction", "pad_to_multiple_of", "pad_id", "pad_type_id", "pad_token")
    )
    token = reading.arguments.setdefault("pad_token", padding["pad_token"])
    if padding["pad_token"] != token:
        raise ValueError(
            f"{str(path)!r} pads with {shown(padding['pad_token'])}, but pad_token is {shown(token)}. Correct one of "
            "them"
        )
    if reading.vocabulary.get(token, padding["pad_id"]) != padding["pad_id"]:
        raise ValueError(
            f"{str(path)!r} pads with the id {shown(padding['pad_id'])}, but {shown(token)} has the id "
            f"{shown(reading.vocabulary[token])}"
        )


def _framing(path: Path, processor: Any, vocabulary: Mapping[str, int]) -> dict[str, Any]:
    """What a post_processor puts around texts, as arguments of the `Tokenizer`.

    `trim_offsets` is None where nothing is said of it, `add_prefix_space` is missing there.

    Raises:
        ValueError: for a framing that RoBERTa's tokenizer hasn't got.
    """
    parts = processor["processors"] if processor and processor["type"] == "Sequence" else [processor]
    found: dict[str, Any] = {"trim_offsets": None}
    for part in parts:
        kind = part["type"] if part is not None else None
        if kind == "ByteLevel":
            _refuse_unknown_keys(path, "the post_processor", part, BYTE_LEVEL)
        elif kind in ("RobertaProcessing", "BertProcessing") and "separators" not in found:
            _refuse_unknown_keys(
                path, "the post_processor", part, ("type", "sep", "cls", "trim_offsets", "add_prefix_space")
            )
            found |= _tokens_of(path, {"start_token": part["cls"], "end_token": part["sep"]}, vocabulary)
            found["separators"] = 2 if kind == "RobertaProcessing" else 1
        elif kind == "TemplateProcessing" and "separators" not in found:
            found |= _template(path, part, vocabulary)
        else:
            raise _refusal(path, "the post_processor", kind or "none", "RobertaProcessing, which frames texts, once")
        if kind in ("ByteLevel", "RobertaProcessing"):
            found |= {key: part[key] for key in ("trim_offsets", "add_prefix_space")}
    if "separators" not in found:
        raise _refusal(path, "the post_processor", parts[0]["type"], "RobertaProcessing, which frames texts")
    return found


def _template(path: Path, part: Mapping[str, Any], vocabulary: Mapping[str, int]) -> dict[str, Any]:
    """The framing of a TemplateProcessing."""
    _refuse_unknown_keys(path, "the post_processor", part, ("type", "single", "pair", "special_tokens"))

    def names(template: Any) -> list[tuple[str, str]]:
        return [(kind, piece["id"]) for pieces in template for kind, piece in pieces.items()]

    single, pair = names(part["single"]), names(part["pair"])
    a, b = ("Sequence", "A"), ("Sequence", "B")
    if len(single) != 3 or single[1] != a or {single[0][0], single[2][0]} != {"SpecialToken"}:
        raise _refusal(path, "the post_processor's single template", _spelt(single), "'<s> $A </s>'")
    start, end = single[0], single[2]
    counts = {count: [start, a, *[end] * count, b, end] for count in (1, 2)}
    separators = next((count for count, template in counts.items() if template == pair), None)
    if separators is None:
        raise _refusal(
            path, "the post_processor's pair template", _spelt(pair), "'<s> $A </s></s> $B </s>', or one </s> between"
        )
    types = [piece[kind]["type_id"] for piece in [*part["single"], *part["pair"]] for kind in piece]
    if any(types):
        warnings.warn(
            f"the post_processor in {str(path)!r} gives the second segment another token type, which is ignored: "
            "RoBERTa has one token type",
            stacklevel=callers_level(),
        )
    tokens = {}
    for role, (_, name) in (("start_token", start), ("end_token", end)):
        token = part["special_tokens"][name]
        if len(token["ids"]) != 1 or len(token["tokens"]) != 1:
            raise _refusal(path, f"the post_processor's special token {shown(name)}", token["tokens"], "one token")
        tokens[role] = [token["tokens"][0], token["ids"][0]]
    return _tokens_of(path, tokens, vocabulary) | {"separators": separators}


def _spelt(template: Sequence[tuple[str, str]]) -> str:
    return " ".join(f"${name}" if kind == "Sequence" else name for kind, name in template)


def _tokens_of(path: Path, pairs: Mapping[str, Any], vocabulary: Mapping[str, int]) -> dict[str, Any]:
    """The special tokens of `pairs`, each a token and its id, which must be the vocabulary's."""
    for pair in pairs.values():
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(
                f"the post_processor in {str(path)!r} should give a token and its id as a list of two, "
                f"got {shown(pair)}"
            )
        token, id = pair
        if vocabulary.get(token, id) != id:
            raise ValueError(
                f"the post_processor in {str(path)!r} gives {shown(token)} the id {shown(id)}, the vocabulary "
                f"{shown(vocabulary[token])}"
            )
    return {role: pair[0] for role, pair in pairs.items()}


def _refuse_unknown_keys(path: Path, name: str, found: Any, known: Sequence[str]) -> None:
    if not isinstance(found, Mapping):
        raise ValueError(f"{name} in {str(path)!r} should be an object, got {shown(found)}")
    unknown = [key for key in found if key not in known]
    if unknown:
        raise ValueError(
            f"{name} in {str(path)!r} has {shown(unknown[0])}, which is unknown and can't be applied; the known keys "
            f"are {', '.join(known)}"
        )


def _refuse_other_tokenizers(path: Path, content: Mapping[str, Any]) -> None:
    model = content["model"]
    pre_tokenizer = content["pre_tokenizer"] or {}
    normalizer, decoder = content.get("normalizer"), content.get("decoder")
    _refuse_unknown_keys(path, "the object", content, PARTS)
    if content.get("version", "1.0") != "1.0":
        raise _refusal(path, "the version", content["version"], "1.0")
    if model.get("type", "BPE") != "BPE":
        raise _refusal(path, "the model's type", model["type"], "BPE")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"):
        if model.get(key):
            raise _refusal(path, f"the model's {key}", model[key], "none")
    _refuse_unknown_keys(path, "the model", model, MODEL)
    if normalizer is not None:
        raise _refusal(path, "the normalizer", normalizer.get("type"), "none")
    if pre_tokenizer.get("type") != "ByteLevel":
        raise _refusal(path, "the pre_tokenizer", pre_tokenizer.get("type"), "ByteLevel")
    if not pre_tokenizer.get("use_regex", True):
        raise _refusal(path, "the pre_tokenizer's use_regex", False, "true")
    _refuse_unknown_keys(path, "the pre_tokenizer", pre_tokenizer, BYTE_LEVEL)
    if not isinstance(pre_tokenizer["add_prefix_space"], bool):
        raise _refusal(path, "the pre_tokenizer's add_prefix_space", pre_tokenizer["add_prefix_space"], "true or false")
    if decoder is None:
        warnings.warn(
            f"{str(path)!r} has no decoder, so `tokenizers` joins tokens with spaces. Here they are joined without "
            "spaces, as RoBERTa's tokens are",
            stacklevel=callers_level(),
        )
    elif decoder["type"] != "ByteLevel":
        raise _refusal(path, "the decoder", decoder["type"], "ByteLevel")


def _refusal(path: os.PathLike[str], name: str, got: Any, expected: str) -> ValueError:
    return ValueError(
        f"{name} in {str(path)!r} is {shown(got)}; only {expected} can be read, as in RoBERTa's tokenizer"
    )
