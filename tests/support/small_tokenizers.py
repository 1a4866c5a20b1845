"""Vocabularies of a few tokens; directories whose tokenizer.json is edited by hand, and framings one can have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from small_models import small_tokenizer

# A vocabulary as small as KerasHub's own tests have: no unknown token, few bytes, merges through absent tokens.
TINY = ["<s>", "<pad>", "</s>", "air", "Ġair", "plane", "Ġat", "port", "<mask>"]
TINY_MERGES = [
    "Ġ a",
    "Ġ t",
    "Ġ i",
    "Ġ b",
    "a i",
    "p l",
    "n e",
    "Ġa t",
    "p o",
    "r t",
    "Ġt h",
    "ai r",
    "pl a",
    "po rt",
    "Ġai r",
    "Ġa i",
    "pla ne",
]
LOVE = ["<s>", "<pad>", "</s>", "<unk>", *"Ġloveys", "lo", "ve", "love", "Ġlove", "<mask>"]
LOVE_MERGES = ["l o", "v e", "lo ve", "Ġ love"]

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
ROBERTA = {
    "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": True, "add_prefix_space": False,
}  # fmt: skip
BERT = {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}


def sequence(*processors: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "processors": list(processors)}


def template(single: str, pair: str, tokens: dict[str, int] | None = None) -> dict[str, Any]:
    """A TemplateProcessing of pieces such as `<s>` and `$A`."""

    def pieces(text: str) -> list[dict[str, Any]]:
        return [
            {"Sequence": {"id": piece[1:], "type_id": 0}}
            if piece[0] == "$"
            else {"SpecialToken": {"id": piece, "type_id": 0}}
            for piece in text.split()
        ]

    ids = {"<s>": 0, "</s>": 2} if tokens is None else tokens
    special = {token: {"id": token, "ids": [id], "tokens": [token]} for token, id in ids.items()}
    return {"type": "TemplateProcessing", "single": pieces(single), "pair": pieces(pair), "special_tokens": special}


TEMPLATES = {
    "a template of two": template("<s> $A </s>", "<s> $A </s> </s> $B </s>"),
    "a template of one": template("<s> $A </s>", "<s> $A </s> $B </s>"),
}


def directory_of(
    directory: Path,
    edit: Callable[[dict[str, Any]], Any] | None = None,
    config: dict[str, Any] | None = None,
    form: str = "tokenizer.json",
) -> Path:
    """A directory with an edited tokenizer.json and a tokenizer_config.json, and nothing else.

    With the form "vocab.json" it has the vocabulary and the merges that the tokenizer.json would have had.
    """
    directory.mkdir(parents=True, exist_ok=True)
    small_tokenizer().save(directory)
    content = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    if edit is not None:
        edit(content)
    (directory / "special_tokens_map.json").unlink()
    (directory / "tokenizer_config.json").write_text(json.dumps(config or {}))
    if form == "vocab.json":
        (directory / "tokenizer.json").unlink()
        (directory / "vocab.json").write_text(json.dumps(content["model"]["vocab"]), encoding="utf-8")
    else:
        (directory / "vocab.json").unlink()
        (directory / "merges.txt").unlink()
        (directory / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return directory
