"""The tokenizer against Hugging Face's, live: the same ids and the same offsets for every text."""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Iterable
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
import texts_at_hand
from hypothesis import given, settings
from hypothesis import strategies as st

from pyroberta.text.byte_level import WHITESPACE, split_words
from pyroberta.text.tokenizer import Tokenizer

pytestmark = pytest.mark.parity

SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
GPT2 = Path(__file__).resolve().parents[2] / ".cache" / "gpt2"

CODE_POINTS = [*range(0xD800), *range(0xE000, 0x110000)]

any_character = st.characters(exclude_categories=["Cs"])
fragments = st.one_of(
    st.text(any_character, max_size=20),
    st.text("abcdef eiou", max_size=20),
    st.text(WHITESPACE + "\x1c\x1f\u200b\ufeff", max_size=4),
    st.sampled_from(
        [*SPECIAL_TOKENS, "<S>", "<mask", "'s", "'ll", "'LL", "it's", "\x00", "é", "e\u0301", "日本語", "🙂", "६"]
    ),
    st.integers(0, 10**9).map(str),
)
texts = st.lists(fragments, max_size=8).map("".join)


def peer(tokenizer: Tokenizer) -> Any:
    """A tokenizer of the `tokenizers` package put together from the same vocabulary, merges and options."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    other = Tokenizer(models.BPE(tokenizer.vocabulary, tokenizer.merges))
    other.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=tokenizer.add_prefix_space)
    other.decoder = decoders.ByteLevel()
    other.post_processor = processors.RobertaProcessing(
        ("</s>", tokenizer.end_token_id), ("<s>", tokenizer.start_token_id), True, tokenizer.add_prefix_space
    )
    other.add_special_tokens(
        [AddedToken(t, lstrip=tokenizer.mask_lstrip and t == "<mask>", normalized=False) for t in SPECIAL_TOKENS]
    )
    return other


def assert_equal(ours: Tokenizer, theirs: Any, text: str, pair: str | None = None, special: bool = True) -> None:
    expected = theirs.encode(text, pair, add_special_tokens=special)
    ids, offsets = ours.encode_with_offsets(text, pair, add_special_tokens=special)
    assert ids == expected.ids
    assert offsets == expected.offsets
    assert ours.encode(text, pair, add_special_tokens=special) == expected.ids


class Variants(dict[tuple[bool, bool], Any]):
    """(ours, theirs) by `add_prefix_space` and `mask_lstrip`."""

    def __repr__(self) -> str:  # theirs is some megabytes
        return f"Variants({len(self)})"


def variants(vocabulary: dict[str, int], merges: Iterable[tuple[str, str]]) -> Variants:
    merges = list(merges)
    made = Variants()
    for prefix in (False, True):
        for lstrip in (False, True):
            ours = Tokenizer(vocabulary, merges, add_prefix_space=prefix, mask_lstrip=lstrip)
            made[prefix, lstrip] = (ours, peer(ours))
    return made


@pytest.fixture(scope="module")
def gpt2() -> Variants:
    if not (GPT2 / "vocab.bpe").exists():
        pytest.fail(f"GPT-2's vocabulary is not in {GPT2}; scripts/fetch_gpt2_vocabulary.py gets it", pytrace=False)
    vocabulary = json.loads((GPT2 / "encoder.json").read_text(encoding="utf-8"))
    for token in SPECIAL_TOKENS:
        vocabulary.setdefault(token, len(vocabulary))
    lines = (GPT2 / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
    return variants(vocabulary, [tuple(line.split(" ")) for line in lines])  # type: ignore[misc]


@pytest.fixture(scope="module")
def trained() -> Variants:
    learnt = Tokenizer.train([texts_at_hand.source_code(1_000_000)], vocab_size=4000)
    return variants(learnt.vocabulary, learnt.merges)


@pytest.fixture(scope="module", params=["gpt2", "trained"])
def both(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def test_gpt2_gives_its_known_ids(gpt2):
    ours, _ = gpt2[False, True]
    assert ours.encode("Hello world", add_special_tokens=False) == [15496, 995]


@settings(max_examples=300)
@given(text=texts, prefix=st.booleans(), lstrip=st.booleans())
def test_any_text_has_equal_ids_and_offsets(both, text, prefix, lstrip):
    assert_equal(*both[prefix, lstrip], text)


@settings(max_examples=300)
@given(text=texts, prefix=st.booleans(), lstrip=st.booleans())
def test_the_tokens_of_any_text_make_the_same_words(both, text, prefix, lstrip):
    ours, theirs = both[prefix, lstrip]
    # Theirs count anew after each special token, whose number is 0 or the last one's: groups are what is the same.
    encoded = theirs.encode(text, add_special_tokens=False)
    special = [id in ours.special_token_ids for id in encoded.ids]
    keys = list(zip(encoded.word_ids, accumulate(special), special, strict=True))
    borders = [a != b for a, b in pairwise(keys)]
    assert [a != b for a, b in pairwise(ours.word_ids(text))] == borders


@settings(max_examples=300)
@given(text=texts, pair=texts, prefix=st.booleans(), special=st.booleans())
def test_any_pair_has_equal_ids_and_offsets(both, text, pair, prefix, special):
    assert_equal(*both[prefix, True], text, pair, special)


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize(
    "text", ["", " ", "  ", "\t", "\n\n", " a", "\ta", "\x1ca", "<mask>", "a <mask>", "<s>a", "\x00"]
)
def test_edges_have_equal_ids_and_offsets(both, text, prefix):
    for lstrip in (False, True):
        assert_equal(*both[prefix, lstrip], text)
        assert_equal(*both[prefix, lstrip], text, text)


def test_every_code_point_is_split_alike():
    # Assigned or not; among letters, digits, spaces and punctuation, which shows the class that the split has it in.
    from tokenizers.pre_tokenizers import ByteLevel

    byte_level = ByteLevel(add_prefix_space=False)
    for code in CODE_POINTS:
        text = "a{0}a 1{0}1  {0} !{0}! {0}{0} '{0}".format(chr(code))
        ends = [span[1] for _, span in byte_level.pre_tokenize_str(text)]
        assert list(accumulate(map(len, split_words(text)))) == ends, hex(code)


@pytest.mark.parametrize("pattern", ["{0}", "a{0}a"])
def test_every_assigned_code_point_has_equal_ids(both, pattern):
    ours, theirs = both[False, True]
    assigned = [code for code in CODE_POINTS if unicodedata.category(chr(code)) not in ("Cn", "Co")]
    assert len(assigned) > 140_000
    strings = [pattern.format(chr(code)) for code in assigned]
    expected = [encoding.ids for encoding in theirs.encode_batch_fast(strings)]
    for string, ids, expected_ids in zip(strings, ours.encode_batch(strings), expected, strict=True):
        assert ids == expected_ids, ascii(string)


def test_mask_eats_whitespace_and_nothing_else(both):
    ours, theirs = both[False, True]
    characters = [chr(code) for code in CODE_POINTS if code < 0x10000]
    text = "I" + "".join(f"{character}<mask>" for character in characters)
    ids = ours.encode(text)
    assert ids == theirs.encode(text).ids
    eaten = [a for a, b in pairwise(ids) if a == b == ours.mask_token_id]
    assert len(eaten) == len(WHITESPACE) == 25


@pytest.mark.parametrize("kind", ["prose", "source_code"])
def test_five_megabytes_have_equal_ids_and_offsets(both, kind):
    text = getattr(texts_at_hand, kind)(5_000_000)
    assert len(text) == 5_000_000
    ours, theirs = both[False, True]
    assert_equal(ours, theirs, text)
    lines = text.splitlines(keepends=True)
    assert ours.encode_batch(lines) == [encoding.ids for encoding in theirs.encode_batch_fast(lines)]


@settings(max_examples=300)
@given(data=st.data(), skip=st.booleans())
def test_any_ids_decode_to_the_same_text(both, data, skip):
    ours, theirs = both[False, True]
    ids = data.draw(st.lists(st.integers(0, ours.vocabulary_size() - 1), max_size=20))
    assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)


@settings(max_examples=300)
@given(text=st.text("abcd ", max_size=60), seed=st.integers(0, 10**6))
def test_merges_in_any_order_have_equal_ids(text, seed):
    # Training lists a token's merge before the merges that use it; a file need not.
    learnt = Tokenizer.train(["".join(random.Random(seed).choices("abcd ", k=300))], vocab_size=300)
    merges = list(learnt.merges)
    random.Random(seed).shuffle(merges)
    ours = Tokenizer(learnt.vocabulary, merges)
    assert ours.encode(text) == peer(ours).encode(text).ids


def train_peer(strings: list[str], vocab_size: int, min_frequency: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    other = Tokenizer(models.BPE())
    other.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,  # <mask> comes last, and on top
        min_frequency=min_frequency,
        special_tokens=SPECIAL_TOKENS[:4],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    other.train_from_iterator(strings, trainer)
    model = json.loads(other.to_str())["model"]
    vocabulary = model["vocab"]
    return vocabulary | {"<mask>": len(vocabulary)}, [tuple(merge) for merge in model["merges"]]


@settings(max_examples=300)
@given(
    strings=st.lists(st.text("aabbcd eé1", max_size=40), max_size=10),
    vocab_size=st.integers(261, 320),
    min_frequency=st.integers(1, 4),
)
def test_training_learns_the_same_vocabulary(strings, vocab_size, min_frequency):
    ours = Tokenizer.train(strings, vocab_size=vocab_size, min_frequency=min_frequency)
    assert (ours.vocabulary, ours.merges) == train_peer(strings, vocab_size, min_frequency)


@pytest.mark.parametrize("kind", ["prose", "source_code"])
def test_training_on_real_text_learns_the_same_vocabulary(kind):
    lines = getattr(texts_at_hand, kind)(1_000_000).splitlines()
    ours = Tokenizer.train(lines, vocab_size=5000)
    assert (ours.vocabulary, ours.merges) == train_peer(lines, 5000, 2)


SENTENCES = ["I <mask> you", " lead", "tab\t<mask>", "", "a</s>b", "naïve\n\n<mask><mask>"]


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("lstrip", [False, True])
def test_transformers_loads_what_we_save(trained, tmp_path, prefix, lstrip):
    from transformers import AutoTokenizer, RobertaTokenizer, RobertaTokenizerFast

    ours, _ = trained[prefix, lstrip]
    ours.save(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    for loader in (AutoTokenizer, RobertaTokenizer, RobertaTokenizerFast):
        theirs = loader.from_pretrained(tmp_path)
        assert len(theirs) == ours.vocabulary_size()
        assert sorted(set(theirs.all_special_ids)) == ours.special_token_ids
        for sentence in SENTENCES:
            encoding = theirs(sentence, return_offsets_mapping=True)
            assert (encoding["input_ids"], encoding["offset_mapping"]) == ours.encode_with_offsets(sentence)
            if sentence:  # transformers takes an empty pair for none, `tokenizers` does not
                assert theirs(sentence, sentence)["input_ids"] == ours.encode(sentence, sentence)
            assert theirs.decode(encoding["input_ids"]) == ours.decode(encoding["input_ids"])


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("lstrip", [False, True])
def test_we_load_what_transformers_saves(trained, tmp_path, prefix, lstrip):
    from transformers import AddedToken, RobertaTokenizerFast

    ours, _ = trained[prefix, lstrip]
    ours.save(tmp_path / "ours")
    theirs = RobertaTokenizerFast.from_pretrained(
        tmp_path / "ours", add_prefix_space=prefix, mask_token=AddedToken("<mask>", lstrip=lstrip, normalized=False)
    )
    theirs.add_tokens(["[new]"])
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = Tokenizer.load(tmp_path / "theirs")
    assert loaded.vocabulary_size() == len(theirs)
    for sentence in [*SENTENCES, "a [new]b"]:
        assert loaded.encode(sentence) == theirs(sentence)["input_ids"]
