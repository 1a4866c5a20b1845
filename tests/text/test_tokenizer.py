from __future__ import annotations

import copy
import json
import pickle
import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyroberta.formats.budget import type_of
from pyroberta.text import tokenizer as tokenizer_module
from pyroberta.text.bpe import merge
from pyroberta.text.byte_level import BYTE_CHARACTERS, WHITESPACE, split_words, to_bytes, to_characters
from pyroberta.text.tokenizer import Tokenizer

LINES = [
    "The quick brown fox jumped over the lazy dog.",
    "the other fox isn't lazy; the dogs' bones are there: 1234 of them, 12 in a box",
    "Ünïcödé, naïve café, 日本語, 🙂 and\tmore\n\n",
]
TOKENIZER = Tokenizer.train(LINES, vocab_size=320)
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]

any_text = st.text(st.characters(exclude_categories=["Cs"]))


def tokens(text: str, tokenizer: Tokenizer = TOKENIZER) -> list[str]:
    return [tokenizer.id_to_token(id) for id in tokenizer.encode(text, add_special_tokens=False)]


# Words


@given(text=any_text)
def test_words_joined_are_the_text(text):
    assert "".join(split_words(text)) == text


def test_each_byte_has_its_own_visible_character():
    assert len(set(BYTE_CHARACTERS)) == 256
    assert not any(character in WHITESPACE or not character.isprintable() for character in BYTE_CHARACTERS)


@given(data=st.binary())
def test_bytes_survive_being_shown_as_characters(data):
    assert to_bytes(to_characters(data)) == data


def test_letters_are_those_of_unicode_16_whatever_the_regex_package_has():
    letter_of_16, number_of_16, letter_of_17 = "\u1c89", "\U00010d40", "\u0558"
    assert split_words(f"a{letter_of_16}a") == [f"a{letter_of_16}a"]
    assert split_words(f"1{number_of_16}1") == [f"1{number_of_16}1"]
    assert split_words(f"a{letter_of_17}a") == ["a", letter_of_17, "a"]


# Merging


def merge_by_scanning(symbols, ranks, products):
    symbols = list(symbols)
    while True:
        found = [(ranks[pair], i) for i, pair in enumerate(pairwise(symbols)) if pair in ranks]
        if not found:
            return symbols
        _, i = min(found)
        symbols[i : i + 2] = [products[symbols[i], symbols[i + 1]]]


@given(data=st.data())
def test_merging_takes_the_lowest_rank_and_then_the_leftmost(data):
    # Symbols are strings over a and b, by index; the merges come in any order, parts after wholes included.
    strings = ["a", "b"]
    products = {}
    for _ in range(data.draw(st.integers(1, 12))):
        pair = data.draw(st.tuples(*[st.integers(0, len(strings) - 1)] * 2))
        if pair not in products:
            whole = strings[pair[0]] + strings[pair[1]]
            if whole not in strings:
                strings.append(whole)
            products[pair] = strings.index(whole)
    ranks = {pair: rank for rank, pair in enumerate(data.draw(st.permutations(list(products))))}
    symbols = data.draw(st.lists(st.integers(0, 1), max_size=40))
    assert merge(list(symbols), ranks, products) == merge_by_scanning(symbols, ranks, products)


def test_one_long_word_takes_no_quadratic_time():
    # A method that looks through the word for each merge would take hours.
    learnt = Tokenizer.train(["aaaaaaaa " * 10], vocab_size=265)
    ids = learnt.encode("a" * 400_000)
    assert len(ids) == 2 + 50_000
    assert learnt.decode(ids, skip_special_tokens=True) == "a" * 400_000


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["a" * 10_000_000, "The lazy dog, naïve. " * 500_000, " " * 10_000_000, "日" * 3_300_000]
)
def test_ten_megabytes_in_one_string_survive(text):
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    assert TOKENIZER.decode(ids) == text


# Encoding and decoding


@given(text=any_text)
def test_decode_gives_the_text_back(text):
    tokenizer = Tokenizer(TOKENIZER.vocabulary, TOKENIZER.merges, mask_lstrip=False)
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


@given(text=any_text)
def test_offsets_are_in_order_and_inside_the_text(text):
    ids, spans = TOKENIZER.encode_with_offsets(text, add_special_tokens=False)
    assert ids == TOKENIZER.encode(text, add_special_tokens=False)
    assert all(0 <= start <= stop <= len(text) for start, stop in spans)
    assert spans == sorted(spans)


def test_offsets_leave_the_space_out_and_give_special_tokens_nothing():
    text = "The fox <mask>, naïve"
    ids, spans = TOKENIZER.encode_with_offsets(text)
    assert spans[0] == spans[-1] == (0, 0)
    pieces = [text[start:stop] for start, stop in spans[1:-1]]
    assert "<mask>" in pieces
    assert not any(" " in piece for piece in pieces)
    assert ids == TOKENIZER.encode(text)


def test_segments_are_framed_as_roberta_frames_them():
    a, b = (TOKENIZER.encode(text, add_special_tokens=False) for text in ("fox", "dog"))
    assert TOKENIZER.encode("fox") == [0, *a, 2]
    assert TOKENIZER.encode("fox", "dog") == [0, *a, 2, 2, *b, 2]
    assert TOKENIZER.encode("fox", "dog", add_special_tokens=False) == a + b
    assert TOKENIZER.encode("") == [0, 2]
    assert TOKENIZER.encode("", "") == [0, 2, 2, 2]
    _, spans = TOKENIZER.encode_with_offsets("fox", "dog")
    assert spans[len(a) + 3][0] == 0  # the pair's spans count from its own start


def test_batches_are_their_texts_one_by_one():
    assert TOKENIZER.encode_batch(LINES) == [TOKENIZER.encode(line) for line in LINES]
    assert TOKENIZER.encode_batch(iter(LINES), LINES[::-1]) == [
        TOKENIZER.encode(a, b) for a, b in zip(LINES, LINES[::-1], strict=True)
    ]
    assert TOKENIZER.encode_batch([]) == []
    batch = TOKENIZER.encode_batch(LINES)
    assert TOKENIZER.decode_batch(batch) == [TOKENIZER.decode(ids) for ids in batch]


def test_special_tokens_in_raw_text_are_special_tokens():
    assert tokens("a</s>b<pad><unk><s>") == ["a", "</s>", "b", "<pad>", "<unk>", "<s>"]
    assert "<mask>" not in tokens("<MASK> <mask")


@pytest.mark.parametrize("space", WHITESPACE)
def test_mask_takes_the_whitespace_before_it_along(space):
    assert tokens(f"I{space}{space}<mask> you")[:2] == ["I", "<mask>"]
    keeping = Tokenizer(TOKENIZER.vocabulary, TOKENIZER.merges, mask_lstrip=False)
    assert tokens(f"I{space}<mask>", keeping)[1] != "<mask>"


@pytest.mark.parametrize("character", ["\x1c", "\x1f", "\u200b", "\ufeff", "\x00", "_"])
def test_mask_leaves_what_is_not_whitespace(character):
    assert tokens(f"I{character}<mask>")[1] != "<mask>"


def test_a_prefix_space_is_added_where_there_is_none():
    prefixing = Tokenizer(TOKENIZER.vocabulary, TOKENIZER.merges, add_prefix_space=True)
    assert prefixing.encode("the fox") == TOKENIZER.encode(" the fox")
    assert prefixing.encode(" the fox") == TOKENIZER.encode(" the fox")
    assert prefixing.encode("\tthe fox") == TOKENIZER.encode(" \tthe fox")
    assert prefixing.encode("") == [0, 2]


def test_nul_is_a_character_like_others():
    assert TOKENIZER.decode(TOKENIZER.encode("a\x00b"), skip_special_tokens=True) == "a\x00b"


def test_bytes_that_are_no_utf8_decode_to_the_replacement_character():
    lone = TOKENIZER.token_to_id(BYTE_CHARACTERS[0xFF])
    assert TOKENIZER.decode([lone]) == "\ufffd"


def test_added_tokens_are_recognised_and_special_ones_skipped():
    vocabulary = TOKENIZER.vocabulary | {"[user]": 900, "<end>": 901}
    tokenizer = Tokenizer(vocabulary, TOKENIZER.merges, added_tokens={"[user]": False, "<end>": True})
    assert tokens("[user]a<end>", tokenizer) == ["[user]", "a", "<end>"]
    assert tokenizer.vocabulary_size() == 902
    assert tokenizer.decode([900, 901], skip_special_tokens=True) == "[user]"


def test_word_starts_are_tokens_with_their_space_and_special_ones():
    starts = TOKENIZER.is_word_start
    assert starts.shape == (TOKENIZER.vocabulary_size(),)
    assert all(starts[TOKENIZER.token_to_id(token)] for token in ["Ġ", "Ġthe", "<mask>", "<s>", to_characters(b"\n")])
    assert not any(starts[TOKENIZER.token_to_id(token)] for token in ["a", ",", to_characters(b"\xc3")])


def test_an_unknown_token_has_the_id_of_unk():
    assert TOKENIZER.token_to_id("no such token") == TOKENIZER.unk_token_id == 3


# The cache of words


def test_the_cache_of_words_is_bounded(monkeypatch):
    monkeypatch.setattr(tokenizer_module, "_CACHED_WORDS", 10)
    tokenizer = copy.deepcopy(TOKENIZER)
    text = " ".join(f"{chr(97 + i % 26)}x{chr(97 + i // 26)}" for i in range(100)) + "z" * 1000
    assert tokenizer.encode(text) == TOKENIZER.encode(text)
    assert len(tokenizer._words) <= 10
    assert all(len(word) < 100 for word in tokenizer._words)


def test_threads_get_the_same_ids():
    tokenizer = copy.deepcopy(TOKENIZER)
    text = " ".join(LINES) * 20
    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda: results.append(tokenizer.encode(text))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [TOKENIZER.encode(text)] * 4


def test_copies_and_pickles_are_equal():
    for other in (copy.deepcopy(TOKENIZER), pickle.loads(pickle.dumps(TOKENIZER))):
        assert other.vocabulary == TOKENIZER.vocabulary
        assert other.encode_batch(LINES) == TOKENIZER.encode_batch(LINES)


# What cannot be


def test_a_copy_of_a_subclass_is_one_of_its_own():
    class Lower(Tokenizer):
        def _encode_text(self, text, name):
            return super()._encode_text(text.lower(), name)

    original = Lower(TOKENIZER.vocabulary, TOKENIZER.merges)
    for other in (copy.copy(original), copy.deepcopy(original)):
        assert type(other) is Lower
        assert other.encode("The FOX") == original.encode("The FOX") == TOKENIZER.encode("the fox")


@pytest.mark.parametrize("method", ["encode", "encode_with_offsets", "word_ids"])
def test_a_byte_without_any_token_is_named_by_every_method(method):
    vocabulary = {token: id for token, id in TOKENIZER.vocabulary.items() if token not in ("@", "<unk>")}
    with pytest.raises(ValueError, match="text needs the token '@' for '@', but the vocabulary of 282 tokens has nei"):
        getattr(Tokenizer(vocabulary, TOKENIZER.merges), method)("the@")


def test_what_is_no_truth_value_is_not_taken_for_one():
    with pytest.raises(TypeError, match="add_special_tokens must be True or False, got 'no'"):
        TOKENIZER.encode("the fox", add_special_tokens="no")
    with pytest.raises(TypeError, match="add_special_tokens must be True or False, got 'no'"):
        TOKENIZER.encode_with_offsets("the fox", add_special_tokens="no")
    with pytest.raises(TypeError, match="skip_special_tokens must be True or False, got 'no'"):
        TOKENIZER.decode([0], skip_special_tokens="no")
    other = copy.copy(TOKENIZER)
    with pytest.raises(TypeError, match="special must be True or False, got 'no'"):
        other.add_tokens("<new>", special="no")
    assert len(other) == len(TOKENIZER)


def test_added_tokens_say_whether_they_are_special():
    with pytest.raises(
        TypeError, match=r"added_tokens must be a dict of strings, .*; got \['a'\]\. For ordinary ones, "
    ):
        Tokenizer(TOKENIZER.vocabulary, TOKENIZER.merges, added_tokens=["a"])
    with pytest.raises(TypeError, match=r"added_tokens\['a'\] must be True or False, got 'no'"):
        Tokenizer(TOKENIZER.vocabulary, TOKENIZER.merges, added_tokens={"a": "no"})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prefix_space": True}, TypeError, "unexpected keyword argument 'prefix_space'; did you mean 'add_prefix_spa"),
        ({"add_prefix_space": "no"}, TypeError, "add_prefix_space must be True or False, got 'no'"),
        ({"separators": 3}, ValueError, "separators must be 1 or 2, got 3"),
        ({"mask_token": "<s>"}, ValueError, "the special tokens must differ"),
    ],
)
def test_an_option_is_refused_before_a_vocabulary_is_learnt(options, error, message):
    lines = iter(LINES)
    with pytest.raises(error, match=message):
        Tokenizer.train(lines, vocab_size=320, **options)
    assert list(lines) == LINES


def test_a_lone_surrogate_is_named_with_its_index():
    for encode in (TOKENIZER.encode, TOKENIZER.encode_with_offsets):
        with pytest.raises(ValueError, match=r"text has a lone surrogate, '\\ud83d', at index 9"):
            encode("the dog, \ud83d")
    with pytest.raises(ValueError, match=r"pair has a lone surrogate, '\\udfff', at index 0"):
        TOKENIZER.encode("fine", "\udfff")


@pytest.mark.parametrize("wrong", [None, 3, b"bytes", ["a"], float("nan"), np.array(["a"])])
def test_what_is_no_text_is_refused_by_type(wrong):
    with pytest.raises(TypeError, match=rf"text must be a str, got {type_of(wrong)}"):
        TOKENIZER.encode(wrong)


def test_a_batch_must_be_many_texts():
    with pytest.raises(TypeError, match="texts must be an iterable of str, got a str"):
        TOKENIZER.encode_batch("one text")
    with pytest.raises(TypeError, match=r"texts\[1\] must be a str, got an int"):
        TOKENIZER.encode_batch(["a", 1])
    with pytest.raises(ValueError, match="got 2 texts and 1 pair"):
        TOKENIZER.encode_batch(["a", "b"], ["c"])


def test_ids_must_be_ids():
    with pytest.raises(
        ValueError, match=f"token id {TOKENIZER.vocabulary_size()} at position 1 is not in the vocabulary"
    ):
        TOKENIZER.decode([0, TOKENIZER.vocabulary_size()])
    with pytest.raises(ValueError, match="token id -1 at position 0"):
        TOKENIZER.decode([-1])
    with pytest.raises(TypeError, match=r"got 1\.5 at position 0"):
        TOKENIZER.decode([1.5])
    with pytest.raises(TypeError, match="got True at position 1"):
        TOKENIZER.decode([0, True])
    with pytest.raises(TypeError, match=r"got \[0, 2\] at position 0"):
        TOKENIZER.decode([[0, 2]])
    with pytest.raises(
        TypeError, match=r"ids must be a list or an array of token ids, got 5\. For one id, pass \[id\]"
    ):
        TOKENIZER.decode(5)
    assert TOKENIZER.decode(np.array([0, 2], np.int32)) == TOKENIZER.decode(iter([0, 2])) == "<s></s>"


def test_a_vocabulary_that_makes_no_tokenizer_is_refused():
    vocabulary, merges = TOKENIZER.vocabulary, TOKENIZER.merges
    with pytest.raises(ValueError, match=r"merge .* needs the token 'Ġ', which the vocabulary does not have"):
        Tokenizer({token: id for token, id in vocabulary.items() if token != "Ġ"}, merges)
    with pytest.raises(ValueError, match=r"lacks tokens for 1 of the 256 bytes and has '▁the'.* Is it a byte-level"):
        Tokenizer({{"Q": "▁the"}.get(token, token): id for token, id in vocabulary.items()}, merges)
    with pytest.raises(ValueError, match=r"has no '<pad>' \(pad_token\), '<mask>' \(mask_token\)"):
        Tokenizer({token: id for token, id in vocabulary.items() if token not in ("<pad>", "<mask>")}, merges)
    with pytest.raises(ValueError, match="tokens '<s>' and 'new' have the same id 0"):
        Tokenizer(vocabulary | {"new": 0}, merges)
    with pytest.raises(ValueError, match="id of token 'new' must be a whole number of at least 0, got -1"):
        Tokenizer(vocabulary | {"new": -1}, merges)
    with pytest.raises(ValueError, match="id of token 'new' must be a whole number of at least 0, got '7'"):
        Tokenizer(vocabulary | {"new": "7"}, merges)
    with pytest.raises(ValueError, match=rf"merge {len(merges)}, 'q' \+ 'z', needs the token 'qz'"):
        Tokenizer(vocabulary, [*merges, ("q", "z")])
    with pytest.raises(ValueError, match=rf"merge {len(merges)}.* is merge 0 again"):
        Tokenizer(vocabulary, [*merges, merges[0]])
    with pytest.raises(ValueError, match="merge 0 must be a pair of tokens, or a text such as 'Ġ t', got 'ab'"):
        Tokenizer(vocabulary, ["ab"])
    with pytest.raises(TypeError, match=r"vocabulary must be a dict of tokens and their ids, a list .* got 3"):
        Tokenizer(3, merges)
    with pytest.raises(TypeError, match=r"merges must be a list of pairs of tokens, .* got 3"):
        Tokenizer(vocabulary, 3)
    with pytest.raises(TypeError, match=r"a tokenizer needs a vocabulary and merges\. Tokenizer.from_preset"):
        Tokenizer(vocabulary, None)
    with pytest.raises(ValueError, match="has the token '<s>' twice, at the places 0 and 5"):
        Tokenizer(["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<s>"], [])
    with pytest.raises(TypeError, match="must be strings, got 7 at place 1"):
        Tokenizer(["<s>", 7], [])


# Files


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("lstrip", [False, True])
def test_a_saved_tokenizer_loads_as_itself(tmp_path, prefix, lstrip):
    saved = Tokenizer(
        TOKENIZER.vocabulary | {"[user]": 900},
        TOKENIZER.merges,
        add_prefix_space=prefix,
        mask_lstrip=lstrip,
        added_tokens={"[user]": False},
    )
    saved.save(tmp_path / "new" / "directory")
    loaded = Tokenizer.load(tmp_path / "new" / "directory")
    assert loaded._arguments() == saved._arguments()


def test_vocabulary_and_merges_alone_are_enough(tmp_path):
    TOKENIZER.save(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / name).unlink()
    assert Tokenizer.load(tmp_path)._arguments() == TOKENIZER._arguments()
    merges = (tmp_path / "merges.txt").read_text(encoding="utf-8")
    assert merges.startswith("#version: 0.2\n")
    (tmp_path / "merges.txt").write_bytes(merges.split("\n", 1)[1].replace("\n", "\r\n").encode())
    assert Tokenizer.load(tmp_path).merges == TOKENIZER.merges


def edit_tokenizer_json(directory, edit):
    TOKENIZER.save(directory)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        (directory / name).unlink()
    path = directory / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_tokenizer_json_alone_is_enough_in_both_spellings_of_merges(tmp_path):
    edit_tokenizer_json(tmp_path, lambda content: None)
    assert Tokenizer.load(tmp_path)._arguments() == TOKENIZER._arguments()

    def spell_as_strings(content):
        content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]

    edit_tokenizer_json(tmp_path, spell_as_strings)
    assert Tokenizer.load(tmp_path)._arguments() == TOKENIZER._arguments()


def test_tokenizer_json_says_lstrip_and_prefix_space(tmp_path):
    def turn_round(content):
        content["pre_tokenizer"]["add_prefix_space"] = content["post_processor"]["add_prefix_space"] = True
        content["added_tokens"][-1]["lstrip"] = False

    edit_tokenizer_json(tmp_path, turn_round)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.add_prefix_space
    assert not loaded.mask_lstrip


def test_tokenizer_config_holds_over_tokenizer_json(tmp_path):
    TOKENIZER.save(tmp_path)
    config = {"add_prefix_space": True, "mask_token": {"content": "<mask>", "lstrip": False}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    loaded = Tokenizer.load(tmp_path)
    assert (loaded.add_prefix_space, loaded.mask_lstrip) == (True, False)


def test_added_tokens_beside_the_vocabulary_are_read(tmp_path):
    TOKENIZER.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "added_tokens.json").write_text('{"[user]": 900, "<end>": 901}')
    (tmp_path / "special_tokens_map.json").write_text('{"additional_special_tokens": ["<end>"]}')
    loaded = Tokenizer.load(tmp_path)
    assert loaded.added_tokens == {"[user]": False, "<end>": True}
    assert loaded.encode("[user]", add_special_tokens=False) == [900]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["model"].update(type="Unigram"), "the model's type in .* is 'Unigram'"),
        (lambda c: c["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix in .* is '</w>'"),
        (lambda c: c["model"].update(ignore_merges=True), "ignore_merges"),
        (lambda c: c.update(normalizer={"type": "NFC"}), "the normalizer in .* is 'NFC'"),
        (lambda c: c.update(pre_tokenizer={"type": "Whitespace"}), "the pre_tokenizer in .* is 'Whitespace'"),
        (lambda c: c["added_tokens"][0].update(rstrip=True), "rstrip of the added token '<s>'"),
        (lambda c: c["added_tokens"][0].update(id=77), "gives '<s>' two ids, 0 and 77"),
        (lambda c: c["model"].pop("vocab"), "does not have the layout of a tokenizer.json: KeyError"),
        (lambda c: c["model"]["merges"].append("abc"), "must be a merge: two tokens"),
        (lambda c: c.update(model=[]), "does not have the layout of a tokenizer.json"),
    ],
)
def test_a_tokenizer_json_of_another_kind_is_refused(tmp_path, edit, message):
    edit_tokenizer_json(tmp_path, edit)
    with pytest.raises(ValueError, match=message):
        Tokenizer.load(tmp_path)


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        Tokenizer.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no vocab\.json and no merges\.txt"):
        Tokenizer.load(tmp_path)
    (tmp_path / "vocab.json").write_text("{")
    with pytest.raises(FileNotFoundError, match=r"has no merges\.txt"):
        Tokenizer.load(tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\nc\n")
    with pytest.raises(ValueError, match=r"vocab\.json isn't valid JSON"):
        Tokenizer.load(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(ValueError, match=r"line 3 of .*merges\.txt' must be a merge: two tokens .* got 'c'"):
        Tokenizer.load(tmp_path)


def test_special_tokens_may_have_other_names(tmp_path):
    names = {"start_token": "[CLS]", "end_token": "[SEP]", "mask_token": "[MASK]"}
    tokenizer = Tokenizer.train(LINES, vocab_size=300, **names)
    assert (tokenizer.start_token_id, tokenizer.end_token_id) == (0, 2)
    assert tokenizer.mask_token_id == tokenizer.vocabulary_size() - 1
    tokenizer.save(tmp_path)
    assert (
        Tokenizer.load(tmp_path).encode("a [MASK]")
        == tokenizer.encode("a [MASK]")
        == [0, *tokenizer.encode("a", add_special_tokens=False), tokenizer.mask_token_id, 2]
    )
