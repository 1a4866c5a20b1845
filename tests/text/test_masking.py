"""Masking: of whole words or tokens, and KerasHub's layer, which masks as the preprocessor does."""

from __future__ import annotations

import copy
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import TEXTS, small_tokenizer
from strategies import seeds

from pyroberta import MaskedLMPreprocessor, layers
from pyroberta.layers import MaskedLMMaskGenerator
from pyroberta.ops import Key
from pyroberta.text.masking import DRAWS, corrupt, exact_count, number_words, select, token_draws, word_edges

MASK = 4

# The value that a chi-square variable with so many degrees of freedom passes with probability 0.001.
CHI_SQUARE_0_001 = {1: 10.828, 2: 13.816, 3: 16.266, 4: 18.467, 9: 27.877, 11: 31.264, 14: 36.123}


def chi_square(observed, expected) -> float:
    observed, expected = np.asarray(observed, float), np.asarray(expected, float)
    assert observed.sum() == pytest.approx(expected.sum())
    assert expected.min() > 5  # below that the statistic has another distribution
    return float(((observed - expected) ** 2 / expected).sum())


def binomial(n: int, p: float) -> np.ndarray:
    return np.array([math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)])


def each_alone(lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Owners and words of sequences of that many candidates, each a word."""
    return np.repeat(np.arange(len(lengths)), lengths), np.arange(sum(lengths))


def in_words(sizes: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Owners and words of sequences whose words have those sizes."""
    flat = [size for sequence in sizes for size in sequence]
    owners = np.repeat(np.arange(len(sizes)), [sum(sequence) for sequence in sizes])
    return owners, np.repeat(np.arange(len(flat)), flat)


some_lengths = st.lists(st.integers(0, 40), max_size=6)
some_rates = st.sampled_from([0.01, 0.15, 0.3, 0.5, 0.99, 1.0])
some_counts = st.sampled_from(["exact", "bernoulli"])
some_words = st.lists(st.lists(st.integers(1, 5), max_size=12), max_size=5)


# --------------------------------------------------------------------------------------------------------- how many


def test_the_exact_count_is_the_ceiling_of_the_decimal_that_was_written():
    n = np.arange(1, 1025)
    for hundredths in range(1, 101):
        want = [max(1, math.ceil(Fraction(hundredths, 100) * int(k))) for k in n]
        assert exact_count(hundredths / 100, n).tolist() == want


@given(lengths=some_lengths, rate=some_rates, limit=st.integers(1, 50), seed=seeds)
def test_exact_selects_the_ceiling_but_at_least_one_and_at_most_the_limit(lengths, rate, limit, seed):
    owners, words = each_alone(lengths)
    is_selected = select(owners, words, rate, limit, np.random.default_rng(seed).random(len(owners)))
    selected = np.bincount(owners[is_selected], minlength=len(lengths))
    want = [min(max(1, math.ceil(Fraction(str(rate)) * n)), limit) if n else 0 for n in lengths]
    assert selected.tolist() == want


@given(sizes=some_words, rate=some_rates, count=some_counts, more=st.integers(0, 40), seed=seeds)
def test_a_text_that_can_be_trained_on_always_has_a_masked_token_and_never_more_than_the_limit(
    sizes, rate, count, more, seed
):
    owners, words = in_words(sizes)
    limit = max((size for sequence in sizes for size in sequence), default=1) + more
    is_selected = select(owners, words, rate, limit, np.random.default_rng(seed).random(len(owners)), count=count)
    selected = np.bincount(owners[is_selected], minlength=len(sizes))
    for sequence, number in zip(sizes, selected, strict=True):
        assert min(1, sum(sequence)) <= number <= limit


def test_bernoulli_selects_each_token_with_the_given_probability():
    n, rate, trials = 12, 0.15, 20_000
    owners, words = each_alone([n] * trials)
    is_selected = select(owners, words, rate, n, np.random.default_rng(0).random(len(owners)), count="bernoulli")
    numbers = np.bincount(owners[is_selected], minlength=trials)

    # The binomial, with its zero moved to one, and the tail from 5 up in one class.
    p = binomial(n, rate)
    expected = [p[0] + p[1], p[2], p[3], p[4], p[5:].sum()]
    observed = [(numbers <= 1).sum(), *((numbers == k).sum() for k in (2, 3, 4)), (numbers >= 5).sum()]
    assert chi_square(observed, np.multiply(expected, trials)) < CHI_SQUARE_0_001[4]


# ------------------------------------------------------------------------------------------------------------ which


@pytest.mark.parametrize("count", ["exact", "bernoulli"])
def test_every_token_is_selected_equally_often(count):
    n, trials = 15, 12_000
    owners, words = each_alone([n] * trials)
    is_selected = select(
        owners, words, 0.1, 1, np.random.default_rng(1).random(len(owners)), count=count
    )  # one token of each text
    chosen = np.flatnonzero(is_selected) % n
    assert len(chosen) == trials
    assert chi_square(np.bincount(chosen, minlength=n), np.full(n, trials / n)) < CHI_SQUARE_0_001[14]


def test_every_pair_of_tokens_is_selected_equally_often():
    n, trials = 5, 10_000
    owners, words = each_alone([n] * trials)
    is_selected = select(owners, words, 0.4, 96, np.random.default_rng(2).random(len(owners))).reshape(
        trials, n
    )  # two of five
    pairs = is_selected @ 2 ** np.arange(n)
    _, observed = np.unique(pairs, return_counts=True)
    assert len(observed) == math.comb(n, 2)
    assert chi_square(observed, np.full(10, trials / 10)) < CHI_SQUARE_0_001[9]


@given(lengths=some_lengths, rate=some_rates, count=some_counts, seed=seeds)
def test_the_same_draws_give_the_same_masks(lengths, rate, count, seed):
    owners, words = each_alone(lengths)
    once, again = (
        select(owners, words, rate, 9, np.random.default_rng(seed).random(len(owners)), count=count) for _ in range(2)
    )
    assert np.array_equal(once, again)


# ------------------------------------------------------------------------------------------------------ whole words


@given(sizes=some_words, rate=some_rates, count=some_counts, more=st.integers(0, 40), seed=seeds)
def test_a_word_is_selected_as_a_whole_or_not_at_all(sizes, rate, count, more, seed):
    owners, words = in_words(sizes)
    is_selected = select(owners, words, rate, 5 + more, np.random.default_rng(seed).random(len(owners)), count=count)
    selected = np.bincount(words[is_selected], minlength=words.max(initial=-1) + 1)
    assert all(number in (0, size) for number, size in zip(selected, np.bincount(words), strict=True))


@given(sizes=some_words, rate=some_rates, more=st.integers(0, 40), seed=seeds)
def test_whole_words_meet_the_count_to_within_one_word(sizes, rate, more, seed):
    owners, words = in_words(sizes)
    limit = 5 + more
    is_selected = select(owners, words, rate, limit, np.random.default_rng(seed).random(len(owners)))
    selected = np.bincount(owners[is_selected], minlength=len(sizes))
    for sequence, number in zip(sizes, selected, strict=True):
        if sequence:
            target = min(exact_count(rate, np.array(sum(sequence))), limit)
            assert target - max(sequence) < number < target + max(sequence)


def words_of(tokens: list[str], limit: int = 96, special: tuple[str, ...] = ("<s>", "</s>", "<mask>", "<unk>")):
    """The words that are found in one sequence of tokens, each as its tokens joined."""
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*special, *tokens]))}
    ids = np.array([vocabulary[token] for token in tokens])
    rows = np.flatnonzero(ids >= len(special))
    words = number_words(ids, rows, np.zeros(len(rows), int), *word_edges(vocabulary), limit)
    return ["".join(tokens[row] for row in rows[words == w]) for w in range(words.max(initial=-1) + 1)]


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ("<s> The Ġquick Ġbro wn Ġfox </s>", "The Ġquick Ġbrown Ġfox"),
        ("<s> un believ able </s>", "unbelievable"),  # the start of the text begins a word without a space
        ("<s> Ġdon 't Ġgo , Ġnow ! </s>", "Ġdon't Ġgo, Ġnow!"),  # punctuation joins the word it touches
        ('<s> He Ġsaid Ġ" hi " </s>', 'He Ġsaid Ġ"hi"'),
        ("<s> a </s> </s> b c </s>", "a bc"),  # segments are borders
        ("<s> un <mask> able </s>", "un able"),  # so is a mask that is there already
        ("<s> Ġa Ġ Ã ¯ Ġb </s>", "Ġa ĠÃ¯ Ġb"),  # a space that no merge took along is still part of the word after it
        ("<s> a Ċ b ĊĊ Ġc ĉ d </s>", "a Ċ b ĊĊ Ġc ĉ d"),  # a newline or tab is not
        ("<s> a Ġ Ġb </s>", "a Ġ Ġb"),
        ("<s> a ĊĠ Ġb </s>", "a ĊĠ Ġb"),
        ("<s> Â ł x </s>", "Âłx"),  # U+00A0 is no ASCII whitespace
        ("<s> </s>", ""),
    ],
)
def test_words_are_what_stands_between_whitespace(tokens, words):
    assert words_of(tokens.split()) == words.split()


def test_a_stretch_longer_than_the_limit_is_several_words():
    assert words_of(["Ġa", "b", "c", "d", "e", "Ġf", "g"], limit=2) == ["Ġab", "cd", "e", "Ġfg"]


def test_the_border_between_two_sequences_is_a_border_between_words():
    opens, closes = word_edges({"a": 0})
    words = number_words(np.zeros(4, int), np.arange(4), np.array([0, 0, 1, 1]), opens, closes, 96)
    assert words.tolist() == [0, 0, 1, 1]


def test_word_edges_follow_the_ids_even_with_holes():
    opens, closes = word_edges({"Ċ": 5, "Ġa": 2, "x": 0})
    assert np.flatnonzero(opens).tolist() == [2, 5]
    assert np.flatnonzero(closes).tolist() == [5]


# -------------------------------------------------------------------------------------------- what the model sees


def test_eighty_percent_are_masked_ten_random_ten_kept():
    n, ordinary = 50_000, np.arange(10, 210)
    labels = np.full(n, 10)
    seen = corrupt(labels, MASK, ordinary, 0.8, 0.1, *np.random.default_rng(3).random((2, n)))
    same = 0.1 / len(ordinary)  # a random token may be the very one that was there
    observed = [(seen == MASK).sum(), (seen == 10).sum(), ((seen != MASK) & (seen != 10)).sum()]
    expected = np.multiply([0.8, 0.1 + same, 0.1 - same], n)
    assert chi_square(observed, expected) < CHI_SQUARE_0_001[2]


def test_random_tokens_are_uniform_over_the_ordinary_ids():
    n, ordinary = 24_000, np.array([3, *range(7, 17), 99])
    seen = corrupt(np.zeros(n, int), MASK, ordinary, 0.0, 1.0, *np.random.default_rng(4).random((2, n)))
    values, observed = np.unique(seen, return_counts=True)
    assert values.tolist() == ordinary.tolist()
    assert chi_square(observed, np.full(12, n / 12)) < CHI_SQUARE_0_001[11]


@given(n=st.integers(0, 30), seed=seeds)
def test_rates_of_zero_and_one_leave_nothing_to_chance(n, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(5, 50, n)
    ordinary = np.arange(50, 60)
    draws = rng.random((2, n))
    assert (corrupt(labels, MASK, ordinary, 1.0, 0.0, *draws) == MASK).all()
    assert (corrupt(labels, MASK, ordinary, 0.0, 0.0, *draws) == labels).all()
    assert (corrupt(labels, MASK, ordinary, 0.0, 1.0, *draws) >= 50).all()


def test_the_statistic_notices_a_wrong_distribution():
    n, ordinary = 50_000, np.arange(10, 210)
    seen = corrupt(np.full(n, 10), MASK, ordinary, 0.79, 0.11, *np.random.default_rng(3).random((2, n)))
    observed = [(seen == MASK).sum(), (seen != MASK).sum()]
    assert chi_square(observed, np.multiply([0.8, 0.2], n)) > CHI_SQUARE_0_001[1]


# ----------------------------------------------------------------------------------------------------- what is drawn


@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6), seed=st.integers(0, 2**64 - 1), more=seeds)
def test_a_sequence_has_the_same_draws_in_whichever_batch_it_stands(lengths, seed, more):
    key = Key.of_masks(seed, 3)
    numbers = np.random.default_rng(more).permutation(len(lengths))
    starts = np.cumsum([0, *lengths])
    together = token_draws(key, starts, numbers)
    assert together.shape == (sum(lengths), DRAWS)
    assert ((together >= 0.0) & (together < 1.0)).all()
    for number, start, length in zip(numbers, starts, lengths, strict=False):
        alone = token_draws(key, np.array([0, length]), np.array([number]))
        np.testing.assert_array_equal(together[start : start + length], alone)


def test_examples_passes_seeds_and_purposes_have_draws_of_their_own():
    keys = [Key.of_masks(0, 0), Key.of_masks(0, 1), Key.of_masks(1, 0), Key.of_evaluation(), Key.of_single_update(0, 0)]
    draws = [token_draws(key, np.array([0, 1]), np.array([number])).tobytes() for key in keys for number in (0, 1)]
    assert len(set(draws)) == len(draws)


def test_the_draws_are_uniform_and_independent():
    draws = token_draws(Key.of_masks(5, 0), np.arange(0, 30_001, 3), np.arange(10_000))
    cells = (draws * 2).astype(int) @ [1, 2, 4]
    assert chi_square(np.bincount(cells, minlength=8), np.full(8, len(draws) / 8)) < CHI_SQUARE_0_001[9]
    tenths = np.bincount((draws[:, 0] * 10).astype(int), minlength=10)
    assert chi_square(tenths, np.full(10, len(draws) / 10)) < CHI_SQUARE_0_001[9]


# --- KerasHub's layer that masks ids ----------------------------------------------------------------------------------


SETTINGS = {"mask_selection_rate": 0.5, "mask_token_rate": 0.6, "random_token_rate": 0.0, "seed": 3}


class Refusing:
    """An array that NumPy can't have, as a tensor of torch with a gradient."""

    def __array__(self, *given, **options):
        raise RuntimeError("use detach()")


def masker(**arguments):
    return MaskedLMMaskGenerator(**{"vocabulary_size": 20, "mask_token_id": 4, "mask_selection_rate": 0.5, **arguments})


@pytest.mark.parametrize("calls", [1, 3])
def test_the_layer_masks_what_the_preprocessor_masks(calls):
    tokenizer = small_tokenizer()
    preprocessor = MaskedLMPreprocessor(tokenizer, sequence_length=40, mask_selection_length=8, **SETTINGS)
    layer = MaskedLMMaskGenerator(
        tokenizer.vocabulary_size(),
        mask_token_id=tokenizer.mask_token_id,
        mask_selection_length=8,
        unselectable_token_ids=tokenizer.special_token_ids,
        **SETTINGS,
    )
    sequences = preprocessor.encode(TEXTS)
    for _ in range(calls):
        features, labels, weights = preprocessor(TEXTS)
        found = layer(sequences)
    for row, expected in zip(found["token_ids"], features["token_ids"], strict=True):
        assert row == expected[: len(row)].tolist()
    np.testing.assert_array_equal(found["mask_positions"], features["mask_positions"])
    np.testing.assert_array_equal(found["mask_ids"], labels)
    np.testing.assert_array_equal(found["mask_weights"], weights)


def test_without_a_length_the_slots_are_those_that_are_used():
    found = masker(unselectable_token_ids=[0])([[5, 6, 7, 8], [9, 0, 0, 0]])
    assert found["token_ids"].shape == (2, 4)
    assert [len(row) for row in found["mask_positions"]] == [2, 1]
    assert found["mask_ids"][1] == [9]
    assert found["mask_weights"] == [[1.0, 1.0], [1.0]]
    alike = masker()([[5, 6, 7, 8], [9, 10, 11, 12]])
    assert {name: value.shape for name, value in alike.items()} == {
        "token_ids": (2, 4), "mask_positions": (2, 2), "mask_ids": (2, 2), "mask_weights": (2, 2)
    }  # fmt: skip
    assert {name: value.dtype.name for name, value in alike.items()} == {
        "token_ids": "int32", "mask_positions": "int32", "mask_ids": "int32", "mask_weights": "float32"
    }  # fmt: skip


def test_random_tokens_are_any_id_of_the_vocabulary():
    layer = masker(mask_selection_rate=1.0, mask_token_rate=0.0, random_token_rate=1.0)
    assert set(layer(np.full(2000, 7))["token_ids"].tolist()) == set(range(20))


def test_each_call_masks_anew_and_a_copy_goes_on_alike():
    layer, ids = masker(), np.arange(5, 20)
    before = layer(ids)["mask_positions"].tolist()
    one, other = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    positions = [each(ids)["mask_positions"].tolist() for each in (layer, one, other)]
    assert positions[0] == positions[1] == positions[2] != before
    assert masker()(ids)["mask_positions"].tolist() == before
    assert masker(seed=1)(ids)["mask_positions"].tolist() != before


@pytest.mark.parametrize(
    ("inputs", "positions"), [([], []), ([[]], [[]]), ([[], [5]], [[], [0]]), (np.zeros((2, 0), int), [[], []])]
)
def test_a_sequence_may_be_empty(inputs, positions):
    found = masker()(inputs)["mask_positions"]
    assert (found if isinstance(found, list) else found.tolist()) == positions


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ("abc", TypeError, r"the input must be ids, or a batch of them; got 'abc' \(str\)"),
        (7, TypeError, r"the input must be ids, or a batch of them; got 7 \(int\)"),
        ([0.5], TypeError, r"input must be a sequence of ids, whole numbers; got \[0.5\] \(list\)"),
        ([[5], 6], TypeError, r"input 1 must be a sequence of ids, whole numbers; got 6 \(int\)"),
        ([[5], [[6], [7, 8]]], TypeError, "input 1 must be a sequence of ids, whole numbers"),
        ([True], TypeError, "input must be a sequence of ids"),
        ([[5], [5, 20]], ValueError, "input 1 has the id 20, and vocabulary_size is 20"),
        ([-1], ValueError, "input has the id -1"),
    ],
)
def test_what_are_no_ids_is_refused_by_its_place(inputs, error, message):
    with pytest.raises(error, match=message):
        masker()(inputs)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mask_token_id": 20}, ValueError, "mask_token_id must be one of the vocabulary's 20 ids"),
        ({"mask_selection_rate": 1.5}, ValueError, "mask_selection_rate must be from 0 to 1, got 1.5"),
        ({"random_token_rate": 0.5}, ValueError, "cannot sum to more than 1"),
        ({"mask_selection_length": -1}, ValueError, "mask_selection_length must be a whole number of at least 0"),
        ({"unselectable_token_ids": 0}, TypeError, "unselectable_token_ids must be a list of ids, got 0"),
        ({"trainable": False}, ValueError, "has nothing that is trained, so trainable=False has no effect"),
        ({"rate": 0.5}, TypeError, "unexpected keyword argument 'rate'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        masker(**arguments)


@pytest.mark.parametrize("length", [None, 3])
def test_an_empty_array_is_a_batch_of_no_sequences(length):
    found = masker(mask_selection_length=length)(np.zeros((0, 4), int))
    assert found["token_ids"].shape == (0, 4)
    assert {len(value) for value in found.values()} == {0}


@pytest.mark.parity
def test_ids_come_in_a_column_with_an_index_of_its_own():
    import pandas

    column = pandas.Series([5, 6, 7], index=[7, 8, 9])
    assert masker()(column)["mask_positions"].tolist() == masker()([5, 6, 7])["mask_positions"].tolist()


def test_ids_come_in_rows_of_any_length():
    rows = np.array([np.array([5, 6]), np.array([7])], dtype=object)
    found = masker(mask_selection_length=2)(rows)["mask_positions"]
    assert found.tolist() == masker(mask_selection_length=2)([[5, 6], [7]])["mask_positions"].tolist()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.array(3), r"the input must be ids, or a batch of them; got"),
        ({5, 6}, r"the input must be ids, or a batch of them; got \{5, 6\} \(set\)"),
        (np.ones((1, 2, 2), int), r"input 0 must be a sequence of ids, whole numbers; got an array of int64 \(2, 2\)"),
        (Refusing(), r"the input must be a sequence of ids, whole numbers; got .*: use detach\(\)"),
    ],
)
def test_what_holds_no_ids_is_refused_with_what_it_is(inputs, message):
    with pytest.raises(TypeError, match=message):
        masker()(inputs)


@pytest.mark.parametrize("name", ["vocabulary_size", "mask_selection_length"])
def test_numbers_beyond_int32_are_refused(name):
    with pytest.raises(
        ValueError, match=f"{name} must be a whole number of at least . and at most 2147483647, got 2147483648"
    ):
        masker(**{name: 1 << 31})


def test_what_is_set_is_checked():
    layer = masker()
    with pytest.raises(ValueError, match="mask_token_id must be one of the vocabulary's 3 ids"):
        layer.vocabulary_size = 3
    layer.mask_selection_rate = 0.0
    assert layer([5, 6])["token_ids"].tolist() == [5, 6]
    with pytest.raises(AttributeError, match="Keras has it, and setting it here would do nothing"):
        layer.dtype = "int64"


@pytest.mark.parametrize(
    ("name", "said"), [("MultiSegmentPacker", "preprocessors"), ("Dense", "pyroberta has whole models")]
)
def test_other_layers_are_errors_that_say_what_there_is(name, said):
    with pytest.raises(AttributeError, match=f"module 'pyroberta.layers' has no attribute '{name}': .*{said}"):
        getattr(layers, name)


@pytest.mark.parity
@pytest.mark.parametrize("length", [None, 4])
@pytest.mark.parametrize("inputs", [[5, 3, 2, 0], [[5, 3, 2], [1, 2, 3, 0]], [[5, 3, 2], [1, 2, 3]]])
def test_kerashubs_layer_gives_the_same_where_nothing_is_left_to_chance(inputs, length):
    import keras_hub

    settings = {"mask_selection_rate": 1.0, "mask_token_rate": 1.0, "random_token_rate": 0.0}
    ours = masker(mask_selection_length=length, **settings)
    theirs = keras_hub.layers.MaskedLMMaskGenerator(**ours.get_config())
    again = MaskedLMMaskGenerator.from_config(theirs.get_config())
    assert again.get_config() == ours.get_config()
    expected, found = theirs(inputs), again(inputs)
    assert set(found) == set(expected)
    for name, values in expected.items():
        plain = [np.asarray(row).tolist() for row in values] if np.ndim(inputs[0]) else np.asarray(values).tolist()
        assert [np.asarray(row).tolist() for row in found[name]] == plain
