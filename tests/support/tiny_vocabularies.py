"""Vocabularies of a few tokens."""

from __future__ import annotations

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
