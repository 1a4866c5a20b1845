"""Vocabularies as fairseq keeps them, and the one of roberta-base, which ships with the package."""

from __future__ import annotations

from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyroberta.presets.fairseq_vocabulary import (
    are_numbers,
    gpt2_tokens,
    read_symbols,
    roberta_merges,
    roberta_tokenizer,
    vocabulary,
)
from pyroberta.text.byte_level import to_characters
from pyroberta.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return roberta_tokenizer()


def test_the_published_ids_come_out(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocabulary_size() == len(tokenizer) == 50265
    assert tokenizer.encode("Hello world") == [0, 31414, 232, 2]
    assert tokenizer.encode("The capital of France is <mask>.") == [0, 133, 812, 9, 1470, 16, 50264, 4, 2]


def test_the_special_tokens_and_the_padding_have_the_published_ids(tokenizer: Tokenizer) -> None:
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "madeupword0000", "madeupword0001", "madeupword0002", "<mask>"]
    assert [tokenizer.vocabulary[token] for token in tokens] == [0, 1, 2, 3, 50261, 50262, 50263, 50264]
    assert tokenizer.vocabulary["<|endoftext|>"] == 50260


def test_gpt2_s_numbers_follow_from_its_merges() -> None:
    """`Hello world` is 15496 995 to GPT-2; the first number is the exclamation mark's, the last the end of a text's."""
    tokens = gpt2_tokens(roberta_merges())
    assert (tokens[15496], tokens[995], tokens[0], tokens[50256]) == ("Hello", "Ġworld", "!", "<|endoftext|>")
    assert len(tokens) == len(set(tokens)) == 50257
    assert sorted(tokens[:256]) == sorted(to_characters(bytes([byte])) for byte in range(256))


def test_the_files_are_small_and_bear_their_licence() -> None:
    folder = resources.files("pyroberta.presets") / "embedded" / "roberta_vocabulary"
    assert sum(len((folder / name).read_bytes()) for name in ("dict.txt.gz", "merges.txt.gz")) < 400_000
    assert "2019 OpenAI" in (folder / "README.md").read_text("utf-8")


@given(text=st.text(max_size=40))
def test_every_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=False)[3:-4] == text


@given(symbols=st.lists(st.integers(0, 10**6).map(str), unique=True))
def test_the_symbols_are_read_in_their_order(symbols: list[str]) -> None:
    assert read_symbols("".join(f"{symbol} {len(symbol)}\n" for symbol in symbols) or "0 1\n", "d") == (
        symbols or ["0"]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("13 5\n262\n", "d, line 2: expected a symbol and its count, got '262'"),
        ("13 many\n", "line 1: expected a symbol and its count"),
        ("\n", "line 1: expected a symbol and its count"),
        ("13 5\n262 4\n13 3\n", "line 3: the symbol '13' occurs twice; the first is line 1"),
        ("<pad> 5\n", "line 1: the symbol '<pad>' occurs twice; the first is a special token's"),
        ("<pad> 5 #fairseq:overwrite\n", "expected a symbol and its count"),
    ],
)
def test_a_wrong_line_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_symbols(text, "d")


def test_a_number_beyond_the_merges_is_named() -> None:
    with pytest.raises(ValueError, match="d, line 2: 7 is not one of the 2 numbers"):
        vocabulary(["0", "7"], ["a", "b"], "d")


def test_the_mask_comes_last_or_where_the_lines_have_it() -> None:
    assert vocabulary(["0"], ["a"], "d")["<mask>"] == 5
    assert vocabulary(["<mask>", "0"], ["a"], "d") == {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4, "a": 5}


def test_numbers_are_told_from_tokens() -> None:
    assert are_numbers(["13", "madeupword0000", "<mask>"])
    assert not are_numbers(["13", "Ġthe"])
