from __future__ import annotations

import json
import pickle
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds

from pyroberta.text.preprocessor import MaskedLMPreprocessor
from pyroberta.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["the quick brown fox jumped over the lazy dog, and I forgot my homework"] * 3, 300)
TEXTS = ["The quick brown fox jumped.", "I forgot my homework."]

some_texts = st.lists(st.text(st.characters(codec="utf-8"), max_size=30), max_size=5)


def preprocessor(**settings) -> MaskedLMPreprocessor:
    return MaskedLMPreprocessor(TOKENIZER, **{"sequence_length": 24, "mask_selection_length": 5, **settings})


def decoded(texts, **settings) -> list[str]:
    return [TOKENIZER.decode(ids) for ids in preprocessor(**settings).encode(texts)]


# ---------------------------------------------------------------------------------------------------- what comes in


@pytest.mark.parametrize(
    "texts",
    [
        ["a b", "ç"],
        (["a b", "ç"],),
        iter(["a b", "ç"]),
        np.array(["a b", "ç"]),
        np.array(["a b", "ç"], object),
        ["a b", np.str_("ç")],
        [("a b",), ("ç",)],
    ],
    ids=["list", "tuple of a list", "iterator", "str array", "object array", "mixed", "segments"],
)
def test_every_kind_of_batch_of_texts_is_read(texts):
    assert decoded(texts) == ["<s>a b</s>", "<s>ç</s>"]


@pytest.mark.parametrize("text", ["ab", np.str_("ab"), np.array("ab")])
def test_a_single_text_is_a_batch_of_one(text):
    assert decoded(text) == ["<s>ab</s>"]


@pytest.mark.parametrize(
    "pairs",
    [
        [("a", "b"), ("c", "d")],
        (["a", "c"], ["b", "d"]),
        (np.array(["a", "c"]), iter(["b", "d"])),
    ],
    ids=["list of tuples", "Keras's tuple of lists", "tuple of iterables"],
)
def test_pairs_come_row_by_row_or_as_keras_has_them_column_by_column(pairs):
    assert decoded(pairs) == ["<s>a</s></s>b</s>", "<s>c</s></s>d</s>"]


def test_a_tuple_of_strings_is_one_text_of_segments():
    assert decoded(("a", "b")) == ["<s>a</s></s>b</s>"]
    features, labels, _ = preprocessor()(("a", "b"))
    assert features["token_ids"].shape == (24,)
    assert labels.shape == (5,)


def test_texts_of_one_and_of_several_segments_go_into_one_batch():
    assert decoded(["a", ("b", "", "c")]) == ["<s>a</s>", "<s>b</s></s></s></s>c</s>"]


def test_no_text_at_all_is_an_empty_batch():
    features, labels, weights = preprocessor()([])
    assert features["token_ids"].shape == features["padding_mask"].shape == (0, 24)
    assert features["mask_positions"].shape == labels.shape == weights.shape == (0, 5)


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        (3, TypeError, "texts must be a string, a list of strings .* got an int"),
        (None, TypeError, "got None"),
        ({"token_ids": [[1]]}, TypeError, "got a dict. A dict of preprocessed features goes to .* preprocessor=None"),
        (
            ["a", float("nan")],
            TypeError,
            r"text 1 must be a string or a tuple of strings, its segments; got nan \(float\)\. Fill or leave out",
        ),
        (["a", None], TypeError, r"text 1 must be .* got None \(NoneType\)\. Fill or leave"),
        (
            [("a", 2)],
            TypeError,
            r"segment 1 of text 0 must be a string, got 2 \(int\). Labels go beside the texts: x = ",
        ),
        (["a", ()], TypeError, r"text 1 must be .* got \(\) \(tuple\)"),
        (("a", ["b"]), TypeError, "its entries are a str and a list. For a batch of texts pass a list"),
        ((["a", "b"], ["c"]), ValueError, r"a segment of each text in every list, but their lengths are \[2, 1\]"),
        ((), ValueError, "a tuple of lists needs"),
        (["a", b"a"], TypeError, r"text 1 is bytes, b'a', .* \[text.decode\(\) for text in texts\]"),
        (np.array(b"a"), TypeError, r"the text is bytes, b'a', .* Decode them: text.decode\(\)"),
        ([["a"]], TypeError, r"text 0 is a list of one string, .* \[text for \(text,\) in texts\]"),
        ({"text": ["a"]}, TypeError, r'texts is a dict with the column text. Pass .*: texts\["text"\]'),
        ([{"text": "a"}], TypeError, r'texts holds records, dicts of text. .* \[row\["text"\] for row in texts\]'),
        (["a", "\ud800"], ValueError, "text 1: .*surrogate"),
        ([("a",) * 13], ValueError, "text 0: sequence_length 24 cannot hold the 26 special tokens"),
    ],
)
def test_what_is_no_text_is_named_with_its_place(texts, error, message):
    with pytest.raises(error, match=message):
        preprocessor().encode(texts)


# ---------------------------------------------------------------------------------------------------------- encoding


@given(texts=some_texts)
def test_encoding_is_the_tokenizers_own_where_nothing_is_cut(texts):
    long = preprocessor(sequence_length=500)
    assert [ids.tolist() for ids in long.encode(texts)] == [TOKENIZER.encode(text) for text in texts]
    assert all(ids.dtype == np.int32 for ids in long.encode(texts))


@pytest.mark.filterwarnings("ignore:.* more than .* tokens")
@given(texts=some_texts, sequence_length=st.integers(3, 20))
def test_a_long_text_is_cut_and_keeps_its_end_token(texts, sequence_length):
    for text, ids in zip(texts, preprocessor(sequence_length=sequence_length).encode(texts), strict=True):
        whole = TOKENIZER.encode(text)
        assert len(ids) == min(len(whole), sequence_length)
        assert ids.tolist() == [*whole[: len(ids) - 1], TOKENIZER.end_token_id]


@pytest.mark.filterwarnings("ignore:.* more than .* tokens")
def test_segments_are_cut_as_truncate_says():
    pair = ("aaaaaaaaaa", "bbbbbbbbbb")
    byte_level = MaskedLMPreprocessor(Tokenizer.train([""], 261), sequence_length=13)
    assert byte_level.tokenizer.decode(byte_level.encode(pair)[0]) == "<s>aaaaa</s></s>bbbb</s>"
    byte_level = MaskedLMPreprocessor(byte_level.tokenizer, sequence_length=13, truncate="waterfall")
    assert byte_level.tokenizer.decode(byte_level.encode(pair)[0]) == "<s>aaaaaaaaa</s></s></s>"


# ----------------------------------------------------------------------------------------------------------- masking


@pytest.mark.filterwarnings("ignore:.* more than .* tokens")
@given(
    texts=some_texts,
    rate=st.sampled_from([0.01, 0.15, 1.0]),
    count=st.sampled_from(["exact", "bernoulli"]),
    whole_words=st.booleans(),
    limit=st.integers(1, 9),
    seed=seeds,
)
def test_masking_keeps_its_promises_on_any_text(texts, rate, count, whole_words, limit, seed):
    texts = [*texts, "a<mask>b<unk>c<pad>"]
    masking = preprocessor(mask_selection_rate=rate, count=count, whole_words=whole_words, mask_selection_length=limit)
    sequences = masking.encode(texts)
    original = np.concatenate(sequences)
    batch = masking.mask(sequences, np.random.default_rng(seed))

    # Only selected tokens change, and the labels bring them back.
    assert np.all(np.diff(batch.target_rows) > 0)
    restored = batch.ids.copy()
    restored[batch.target_rows] = batch.labels
    assert np.array_equal(restored, original)

    # No special token is selected, or put in but for the mask.
    special = [TOKENIZER.start_token_id, TOKENIZER.pad_token_id, TOKENIZER.end_token_id, TOKENIZER.unk_token_id]
    assert not np.isin(batch.labels, [*special, TOKENIZER.mask_token_id]).any()
    assert not np.isin(batch.ids[batch.target_rows], special).any()

    # One at least where there is anything to select, and no more than fit.
    for b, sequence in enumerate(sequences):
        here = (batch.target_rows >= batch.starts[b]) & (batch.target_rows < batch.starts[b + 1])
        ordinary = sum(int(i) not in TOKENIZER.special_token_ids for i in sequence)
        assert min(ordinary, 1) <= here.sum() <= min(ordinary, limit)
    assert batch.weights.tolist() == [1.0] * len(batch.target_rows)
    assert batch.slots == len(texts) * limit
    assert batch.ids.dtype == batch.target_rows.dtype == batch.labels.dtype == np.int32


def test_masking_leaves_the_encoded_texts_alone():
    masking = preprocessor(mask_selection_rate=1.0, mask_token_rate=1.0, random_token_rate=0.0)
    sequences = masking.encode(TEXTS)
    copies = [ids.copy() for ids in sequences]
    masking.mask(sequences, np.random.default_rng(0))
    masking.mask(sequences[:1], np.random.default_rng(0))
    assert all(np.array_equal(a, b) for a, b in zip(sequences, copies, strict=True))


def test_whole_words_are_masked_whole():
    masking = preprocessor(
        whole_words=True, mask_selection_rate=0.01, mask_token_rate=1.0, random_token_rate=0.0,
        mask_selection_length=20, sequence_length=50,
    )  # fmt: skip
    seen = set()
    for seed in range(60):
        batch = masking.mask(masking.encode(["unzippable things, don't they"]), np.random.default_rng(seed))
        seen.add((TOKENIZER.decode(batch.labels), re.sub("(<mask>)+", "_", TOKENIZER.decode(batch.ids))))
    assert seen == {
        ("unzippable", "<s>_ things, don't they</s>"),
        (" things,", "<s>unzippable_ don't they</s>"),
        (" don't", "<s>unzippable things,_ they</s>"),
        (" they", "<s>unzippable things, don't_</s>"),
    }


def test_whole_words_are_those_of_the_tokenizer_at_hand():
    special = TOKENIZER.special_tokens
    turned = {token: id if token in special else 302 - id for token, id in TOKENIZER.vocabulary.items()}
    other = Tokenizer(turned, TOKENIZER.merges)
    assert other.vocabulary_size() == TOKENIZER.vocabulary_size()

    def masked(masking: MaskedLMPreprocessor) -> list[str]:
        batches = [masking.mask(masking.encode(["I forgot the lazy dog"]), np.random.default_rng(i)) for i in range(9)]
        return [masking.tokenizer.decode(batch.labels) for batch in batches]

    masking = preprocessor(whole_words=True, mask_selection_rate=0.01)
    expected = masked(masking)
    masking.tokenizer = other
    assert masked(masking) == expected


@pytest.mark.filterwarnings("ignore:.* more than .* tokens")
def test_a_full_length_has_the_count_that_its_ordinary_tokens_ask_for():
    long = preprocessor(sequence_length=128, mask_selection_length=96)
    features, labels, weights = long(["The quick brown fox jumped over the lazy dog. " * 12] * 16)
    assert features["token_ids"].shape == (16, 128)
    assert features["padding_mask"].all()
    assert weights.sum(axis=1).tolist() == [19] * 16  # ceil(0.15 · 126)
    assert labels.shape == (16, 96)


# ------------------------------------------------------------------------------------------------ called as in Keras


@pytest.mark.filterwarnings("ignore:.* more than .* tokens")
@given(texts=some_texts, seed=seeds)
def test_a_call_pads_what_mask_packs(texts, seed):
    both = preprocessor()
    features, labels, weights = both(texts, rng=np.random.default_rng(seed))
    packed = both.mask(both.encode(texts), np.random.default_rng(seed))

    token_ids, padding_mask = features["token_ids"], features["padding_mask"]
    assert np.array_equal(token_ids[padding_mask], packed.ids)
    assert np.array_equal(padding_mask, token_ids != TOKENIZER.pad_token_id) or any("<pad>" in text for text in texts)
    rows, slots = np.nonzero(weights)
    assert np.array_equal(labels[rows, slots], packed.labels)
    assert np.array_equal(features["mask_positions"][rows, slots] + packed.starts[rows], packed.target_rows)
    assert not labels[weights == 0].any()
    assert not features["mask_positions"][weights == 0].any()


def test_types_and_shapes_are_keras_hubs():
    features, labels, weights = preprocessor()(TEXTS)
    assert {name: (array.dtype.name, array.shape) for name, array in features.items()} == {
        "token_ids": ("int32", (2, 24)),
        "padding_mask": ("bool", (2, 24)),
        "mask_positions": ("int32", (2, 5)),
    }
    assert (labels.dtype, labels.shape) == (np.int32, (2, 5))
    assert (weights.dtype, weights.shape) == (np.float32, (2, 5))


def test_a_single_text_gives_arrays_without_a_batch_axis():
    both = preprocessor()
    one = both(TEXTS[0], rng=np.random.default_rng(1))
    batch = both(TEXTS[:1], rng=np.random.default_rng(1))
    for name, array in one[0].items():
        assert np.array_equal(array, batch[0][name][0])
    assert np.array_equal(one[1], batch[1][0])
    assert np.array_equal(one[2], batch[2][0])


def all_ids(result) -> list[int]:
    return result[0]["token_ids"].ravel().tolist()


def test_each_call_masks_anew_and_each_preprocessor_repeats_it():
    first, second, other = preprocessor(), preprocessor(), preprocessor(seed=1)
    runs = [[all_ids(each(TEXTS)) for _ in range(4)] for each in (first, second, other)]
    assert runs[0] == runs[1] != runs[2]
    assert len({tuple(ids) for ids in runs[0]}) > 1


def test_the_same_generator_masks_the_same():
    both = preprocessor()
    assert all_ids(both(TEXTS, rng=np.random.default_rng(3))) == all_ids(both(TEXTS, rng=np.random.default_rng(3)))


def test_a_seed_is_no_generator():
    with pytest.raises(TypeError, match=r"rng should be a generator of random numbers, .*; got 3 \(int\)"):
        preprocessor()(TEXTS, rng=3)


def test_a_call_with_a_generator_of_its_own_does_not_move_the_others():
    disturbed, quiet = preprocessor(), preprocessor()
    disturbed(TEXTS, rng=np.random.default_rng(3))
    assert all_ids(disturbed(TEXTS)) == all_ids(quiet(TEXTS))


@pytest.mark.parametrize("name", ["y", "sample_weight"])
def test_labels_beside_raw_texts_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} was passed with raw texts, but masking makes"):
        preprocessor()(TEXTS, **{name: [1, 0]})


# --------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"sequence_length": 2}, ValueError, "sequence_length must be a whole number of at least 3, got 2"),
        ({"sequence_length": 12.0}, ValueError, "sequence_length must be a whole number of at least 3, got 12.0"),
        ({"sequence_length": None}, ValueError, "sequence_length must be a whole number"),
        ({"truncate": "longest"}, ValueError, "truncate must be one of round_robin, waterfall, got 'longest'"),
        ({"mask_selection_rate": 15}, ValueError, "mask_selection_rate must be from 0 to 1, got 15"),
        ({"mask_selection_rate": float("nan")}, ValueError, "mask_selection_rate must be from 0 to 1, got nan"),
        ({"mask_selection_length": 0}, ValueError, "mask_selection_length must be a whole number of at least 1, got 0"),
        ({"mask_token_rate": -0.1}, ValueError, "mask_token_rate must be from 0 to 1, got -0.1"),
        ({"random_token_rate": "0.x"}, TypeError, "random_token_rate must be a number from 0 to 1"),
        ({"mask_token_rate": 0.8, "random_token_rate": 0.3}, ValueError, "cannot sum to more than 1"),
        ({"count": "binomial"}, ValueError, "count must be one of exact, bernoulli, got 'binomial'"),
        ({"seed": -1}, ValueError, "seed must be a whole number of at least 0, got -1"),
    ],
)
def test_an_argument_out_of_range_is_named(settings, error, message):
    with pytest.raises(error, match=message):
        preprocessor(**settings)


def test_rates_that_sum_to_one_but_for_rounding_are_fine():
    preprocessor(mask_token_rate=0.9, random_token_rate=0.1 + 1e-16)
    preprocessor(mask_token_rate=0.7 + 0.1, random_token_rate=0.2)


@pytest.mark.filterwarnings("ignore:.* more than .* tokens")
def test_the_config_makes_another_of_its_kind_even_by_way_of_json():
    original = preprocessor(
        sequence_length=np.int64(12), truncate="waterfall", mask_selection_rate=np.float32(0.5),
        mask_token_rate=0.5, random_token_rate=0.25, count="bernoulli", whole_words=True, seed=9,
    )  # fmt: skip
    again = MaskedLMPreprocessor.from_config(json.loads(json.dumps(original.get_config())))
    assert again.get_config() == original.get_config()
    assert MaskedLMPreprocessor(TOKENIZER, **original.preset_settings()).get_config() == original.get_config()
    assert all_ids(again(TEXTS)) == all_ids(original(TEXTS))


def test_threads_that_share_a_preprocessor_never_get_the_same_masks():
    """Whichever call comes when, together they are the calls 0, 1, 2, … of one thread."""
    text = " ".join(TEXTS * 3)

    def masks(made: MaskedLMPreprocessor) -> bytes:
        features, _, _ = made(text)
        return features["mask_positions"].tobytes()

    alone, shared = (preprocessor(sequence_length=64) for _ in range(2))
    expected = sorted(masks(alone) for _ in range(200))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = sorted(pool.map(lambda _: masks(shared), range(200)))
    finally:
        sys.setswitchinterval(interval)
    assert found == expected


def test_a_preprocessor_goes_through_a_pickle():
    made = preprocessor(whole_words=True)
    assert pickle.loads(pickle.dumps(made)).get_config() == made.get_config()
