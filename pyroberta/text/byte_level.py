"""The steps of byte-level BPE before merging: bytes as characters, and the split of text into words.

Both come from GPT-2 (Radford et al., 2019, `encoder.py`) and are the same in RoBERTa.
"""

from __future__ import annotations

import functools
import re

import numpy as np
import regex
from numpy.typing import NDArray

# Unicode's White_Space, all 25 of it: what `\s` means in the split below and what `<mask>` eats on its left.
# (`str.isspace` and the standard library's `\s` have 1C to 1F on top.)
WHITESPACE = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


SURROGATE = re.compile("[\ud800-\udfff]")  # in a str it is always a lone one, which UTF-8 can't hold


def _byte_characters() -> str:
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]  # controls, spaces, the soft hyphen
    characters = {byte: chr(byte) for byte in shown} | {byte: chr(0x100 + i) for i, byte in enumerate(hidden)}
    return "".join(characters[byte] for byte in range(256))


# Vocabulary files hold text, not bytes: byte b is written as BYTE_CHARACTERS[b].
BYTE_CHARACTERS = _byte_characters()
CHARACTER_BYTES = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}
SPACE = BYTE_CHARACTERS[0x20]  # "Ġ"


def to_characters(data: bytes) -> str:
    """Returns bytes as vocabulary files write them, with a character for each byte.

    >>> to_characters(" é".encode())
    'ĠÃ©'
    """
    return data.decode("latin-1").translate(BYTE_CHARACTERS)


def to_bytes(token: str) -> bytes:
    """Returns the bytes that a token stands for. A token with a character that stands for no byte stands for its own
    UTF-8.

    >>> to_bytes("ĠÃ©").decode(), to_bytes("日").decode()
    (' é', '日')
    """
    try:
        return bytes([CHARACTER_BYTES[character] for character in token])
    except KeyError:
        return token.encode()


# The split: contractions, then runs of letters, of numbers, of the rest, each with at most one space before it, then
# whitespace, of which the last character is left to the word that follows. The two first alternatives begin like
# no other, so they may come first, and this order is the fastest.
_WORDS = regex.compile(r" ?\p{L}+| ?\p{N}+|'(?:[stmd]|re|ve|ll)| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")

# The same for ASCII, in the standard library's engine, which is twice as fast.
_ASCII_WORDS = re.compile(
    r" ?[A-Za-z]+| ?[0-9]+|'(?:[stmd]|re|ve|ll)| ?[^\t-\r A-Za-z0-9]+|[\t-\r ]+(?![^\t-\r ])|[\t-\r ]+"
)

# What is a letter depends on the edition of Unicode: `tokenizers` 0.20 to 0.23 goes by edition 16, the `regex`
# package by 15.1 or later (18 when this was written). They differ on these code points: letters and numbers that came
# with 16, and what was nothing yet in 16. A text that holds one is cut as if it held a character of the same class
# that every edition has.
_NEW_LETTERS = """
    1C89-1C8A A7CB-A7CD A7DA-A7DC 105C0-105F3 10D4A-10D65 10D6F-10D85 10EC2-10EC4 11380-11389 1138B 1138E
    11390-113B5 113B7 113D1 113D3 11BC0-11BE0 13460-143FA 16100-1611D 16D40-16D6C 18CFF 1E5D0-1E5ED 1E5F0
"""
_NEW_NUMBERS = """
    10D40-10D49 116D0-116E3 11BF0-11BF9 16130-16139 16D70-16D79 1CCF0-1CCF9 1E5F1-1E5FA
"""
_NEITHER = """
    558 58B-58C 88F C5C CDC 208F 209D-209F A7CE-A7CF A7D2 A7D4 A7DD A7E2 A7F1 AB6C-AB6D 107BB-107BF
    10940-10959 10EC5-10EC7 10ED9-10EEE 11B0A 11DB0-11DDB 11DE0-11DE9 11DF1 1246F 12475-1247F 12550-12686
    16EA0-16EB8 16EBB-16ED3 16FF2-16FF3 16FF4-16FF6 187F8-187FF 18CD6-18CDA 18D09-18D20 18D80-18DF2
    18E00-19191 191A0-191D2 1B123-1B128 1B168 1D6A6 1DF1F-1DF24 1DF2B-1DF81 1DF90-1DF96 1DFCD-1DFFF
    1E6C0-1E6DE 1E6E0-1E6E2 1E6E4-1E6E5 1E6E7-1E6ED 1E6F0-1E6F4 1E6FE-1E6FF 2B73A-2B73F 2B81E 2CEA2-2CEAD
    323B0-33479 3D000-3FC3F
"""


@functools.cache
def _stand_ins() -> dict[int, str]:
    """Code points whose class differs, and a character of the class that each has in edition 16."""
    stand_ins: dict[int, str] = {}
    for stand_in, ranges in {"b": _NEW_LETTERS, "0": _NEW_NUMBERS, "!": _NEITHER}.items():
        for bounds in ranges.split():
            first, _, last = bounds.partition("-")
            stand_ins |= dict.fromkeys(range(int(first, 16), int(last or first, 16) + 1), stand_in)
    return stand_ins


@functools.cache
def _in_doubt() -> NDArray[np.bool_]:
    table = np.zeros(0x110000, np.bool_)
    table[list(_stand_ins())] = True
    return table


def split_words(text: str) -> list[str]:
    r"""Splits a text into the words to which BPE is applied. The words joined are the text.

    The words are those of `tokenizers`' `ByteLevel`, whose pattern is `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+|
    ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.

    >>> split_words("I'm  here, 42 times")
    ['I', "'m", ' ', ' here', ',', ' 42', ' times']
    """
    if text.isascii():
        return _ASCII_WORDS.findall(text)
    code_points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    if not _in_doubt()[code_points].any():
        return _WORDS.findall(text)
    stand_in = text.translate(_stand_ins())
    return [text[word.start() : word.end()] for word in _WORDS.finditer(stand_in)]
