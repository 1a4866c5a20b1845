"""The vocabulary in fairseq's form: GPT-2's merges, and a list of GPT-2's numbers in the order of the ids.

    merges.txt or vocab.bpe   pairs, one on each line, in the order in which they apply
    dict.txt                  `symbol count` on each line; the symbol is GPT-2's number of a token, as text

GPT-2's numbers follow from its merges alone: first the 256 bytes, in the order of the characters that stand for them,
then the token of each merge, then `<|endoftext|>`. The ids of a model are those of the four special tokens, then those
of the lines of dict.txt, then that of `<mask>`. The package has these two files of roberta-base. They have less than
half the size of a vocab.json.

Source: fairseq's data/dictionary.py, tasks/masked_lm.py and data/encoders/gpt2_bpe_utils.py.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from importlib import resources

from pyroberta.formats.files import shown
from pyroberta.text.byte_level import BYTE_CHARACTERS
from pyroberta.text.tokenizer import Tokenizer
from pyroberta.text.tokenizer_files import merges_of_lines

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3
MASK = "<mask>"
PADDING = re.compile(r"madeupword\d{4}")  # fills a table up to a multiple of eight


def gpt2_tokens(merges: Sequence[tuple[str, str]]) -> list[str]:
    """Returns the tokens in the order of GPT-2's numbers.

    >>> gpt2_tokens([("h", "e"), ("he", "y")])[-4:]
    ['Ń', 'he', 'hey', '<|endoftext|>']
    """
    return [*sorted(BYTE_CHARACTERS), *(left + right for left, right in merges), "<|endoftext|>"]


def read_symbols(text: str, where: str) -> list[str]:
    """Returns the symbols in the text of a dict.txt.

    `where` is the name of the file, for messages.

    Raises:
        ValueError: if a line is not `symbol count`, or a symbol occurs twice.

    >>> read_symbols("13 850314647\\n262 800385005\\n", "dict.txt")
    ['13', '262']
    """
    lines: dict[str, int] = {}
    for i, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        symbol, _, count = line.rstrip().rpartition(" ")
        if not symbol or not count.isdecimal():
            raise ValueError(f"{where}, line {i}: expected a symbol and its count, got {line[:80]!r}")
        if symbol in lines or symbol in SPECIAL_TOKENS:
            first = f"line {lines[symbol]}" if symbol in lines else "a special token's, which comes before all lines"
            raise ValueError(f"{where}, line {i}: the symbol {shown(symbol)} occurs twice; the first is {first}")
        lines[symbol] = i
    return list(lines)


def are_numbers(symbols: Sequence[str]) -> bool:
    """Returns whether the symbols are GPT-2's numbers rather than tokens."""
    return all(symbol.isdecimal() or PADDING.fullmatch(symbol) or symbol == MASK for symbol in symbols)


def vocabulary(symbols: Sequence[str], tokens: Sequence[str] | None, where: str) -> dict[str, int]:
    """Returns the id of every token.

    Args:
        symbols: the symbols that `read_symbols` returned.
        tokens: the tokens in the order of GPT-2's numbers. None if the symbols are the tokens themselves.
        where: the name of the file of the symbols, for messages.

    Raises:
        ValueError: if a number is not one of GPT-2's, or two symbols stand for the same token.

    >>> vocabulary(["1", "0", "madeupword0000"], ["a", "b"], "dict.txt")["b"]
    4
    """
    names = list(SPECIAL_TOKENS)
    for i, symbol in enumerate(symbols, 1):
        if tokens is None or not symbol.isdecimal():
            names.append(symbol)
        elif len(symbol) < 10 and int(symbol) < len(tokens):
            names.append(tokens[int(symbol)])
        else:
            raise ValueError(
                f"{where}, line {i}: {symbol[:40]} is not one of the {len(tokens)} numbers that the merges make"
            )
    if MASK not in names:
        names.append(MASK)
    ids = {name: id for id, name in enumerate(names)}
    for id, name in enumerate(names if len(ids) < len(names) else ()):
        if ids[name] != id:
            line, first = ids[name] - 3, "a special token" if id < len(SPECIAL_TOKENS) else f"line {id - 3}"
            raise ValueError(
                f"{where}, line {line}: {shown(symbols[line - 1])} stands for {shown(name)}, as {first} does already"
            )
    return ids


def roberta_merges() -> list[tuple[str, str]]:
    """Returns the merges of GPT-2, which RoBERTa uses too. They are part of the package."""
    return merges_of_lines(_packaged("merges.txt.gz").splitlines(), "merges.txt.gz")


def roberta_tokenizer() -> Tokenizer:
    """Returns the tokenizer of the published roberta-base and roberta-large. It is part of the package.

    >>> roberta_tokenizer().encode("Hello world")
    [0, 31414, 232, 2]
    """
    merges = roberta_merges()
    symbols = read_symbols(_packaged("dict.txt.gz"), "dict.txt.gz")
    return Tokenizer(vocabulary(symbols, gpt2_tokens(merges), "dict.txt.gz"), merges)


def _packaged(name: str) -> str:
    file = resources.files("pyroberta.presets") / "embedded" / "roberta_vocabulary" / name
    return gzip.decompress(file.read_bytes()).decode("utf-8")
