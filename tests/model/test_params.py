"""The configuration, the layout of the parameters, the vector that holds them, and their first values."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import random_batch, small_config
from strategies import dtypes, seeds

from pyroberta.model.config import RobertaConfig
from pyroberta.model.encoder import encoder_forward
from pyroberta.model.initial_values import INITIALIZERS, initialise
from pyroberta.model.parameters import Arrays, is_backbone, select, shapes
from pyroberta.ops import REFERENCE

layouts = st.dictionaries(
    st.text("abc.", min_size=1, max_size=4), st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple), max_size=6
)

# --- Arrays ---


@given(layout=layouts, dtype=dtypes)
def test_arrays_are_views_into_one_vector_without_gaps(layout, dtype):
    arrays = Arrays(layout, dtype)
    arrays.flat[:] = np.arange(len(arrays.flat))
    assert list(arrays) == list(layout)
    assert {name: array.shape for name, array in arrays.items()} == layout
    assert all(np.shares_memory(array, arrays.flat) for array in arrays.values() if array.size)
    assert np.array_equal(np.concatenate([np.zeros(0), *(array.ravel() for array in arrays.values())]), arrays.flat)
    assert arrays.dtype == dtype


@given(layout=layouts)
def test_a_write_to_a_view_shows_in_its_range_of_the_vector_alone(layout):
    for name in layout:
        arrays = Arrays(layout)
        arrays[name][...] = 1.0
        start, stop = arrays.ranges[name]
        assert np.flatnonzero(arrays.flat).tolist() == list(range(start, stop))


def test_copies_share_nothing_and_have_the_same_layout():
    arrays = Arrays({"a": (2,), "b": (3, 1)}, np.float64)
    arrays.flat[:] = 1.5
    zeros, narrow, copy = arrays.zeros_like(), arrays.astype(np.float32), arrays.astype(np.float64)
    copy.flat[:] = 9.0
    assert arrays.flat.tolist() == [1.5] * 5
    assert not zeros.flat.any()
    assert (zeros.dtype, narrow.dtype) == (np.float64, np.float32)
    assert narrow["b"].tolist() == [[1.5]] * 3
    assert zeros.ranges == narrow.ranges == arrays.ranges


@given(layout=layouts, data=st.data())
def test_spans_cover_the_named_arrays_exactly_and_join_neighbours(layout, data):
    arrays = Arrays(layout)
    names = data.draw(st.sets(st.sampled_from(sorted(layout)))) if layout else set()
    spans = arrays.spans(names)
    covered = [place for start, stop in spans for place in range(start, stop)]
    assert covered == sorted(place for name in names for place in range(*arrays.ranges[name]))
    assert all(before[1] < after[0] for before, after in pairwise(spans))


def test_all_parameters_together_are_one_span():
    arrays = Arrays(shapes(small_config()))
    assert arrays.spans(arrays) == [(0, len(arrays.flat))]


# --- names ---


@pytest.mark.parametrize(
    ("sizes", "parameters"), [((12, 12, 768, 3072), 124_052_736), ((24, 16, 1024, 4096), 354_307_072)]
)
def test_backbones_have_kerashubs_number_of_parameters(sizes, parameters):
    config = RobertaConfig(50265, *sizes)
    assert sum(math.prod(shape) for name, shape in shapes(config).items() if is_backbone(name)) == parameters


def test_the_backbone_is_all_but_the_head():
    heads = [name for name in shapes(small_config(tie_embeddings=False)) if not is_backbone(name)]
    assert heads == [
        "head.dense.kernel", "head.dense.bias", "head.norm.gamma", "head.norm.beta", "head.decoder", "head.bias"
    ]  # fmt: skip
    assert "head.decoder" not in shapes(small_config())


def test_a_pattern_selects_whole_names():
    names = shapes(small_config(num_layers=11))
    assert len(select(names, r"layers\.1\..*")) == 16  # and not those of layer 10
    assert select(names, "head.bias") == ["head.bias"]
    with pytest.raises(ValueError, match="no parameter's name"):
        select(names, r"layers\.1")


def test_a_pattern_that_matches_nothing_is_an_error_that_shows_what_names_look_like():
    with pytest.raises(ValueError, match=r"no parameter's name matches 'layer\.0'; names look like embeddings\.token"):
        select(shapes(small_config()), "layer.0")


@pytest.mark.parametrize(
    ("pattern", "example"),
    [
        ("embeddings", "embeddings.*"),
        (re.compile("embeddings"), "embeddings.*"),
        ("norm", ".*norm.*"),
        ("nothing", "embeddings.*"),
    ],
)
def test_an_expression_that_matches_no_whole_name_is_answered_with_one_that_does(pattern, example):
    names = shapes(small_config())
    with pytest.raises(ValueError, match=re.escape(f"must match the whole name, such as {example!r}")):
        select(names, pattern)
    assert select(names, example)


# --- config ---


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("vocabulary_size", 0, "vocabulary_size must be a whole number of at least 1, got 0"),
        ("num_layers", 1.0, "num_layers must be a whole number of at least 1, got 1.0"),
        ("num_heads", True, "num_heads must be a whole number"),
        ("hidden_dim", -8, "hidden_dim must be a whole number of at least 1, got -8"),
        ("hidden_dim", 9, "hidden_dim 9 is not a multiple of num_heads 2"),
        ("intermediate_dim", "12", "intermediate_dim must be a whole number of at least 1, got '12'"),
        ("max_sequence_length", 0, "max_sequence_length must be a whole number"),
        ("dropout", 1.0, "dropout must be in [0, 1), got 1.0"),
        ("dropout", math.nan, "dropout must be in [0, 1), got nan"),
        ("attention_dropout", -0.1, "attention_dropout must be in [0, 1), got -0.1"),
        ("layer_norm_epsilon", 0.0, "layer_norm_epsilon must be above 0 and finite, got 0.0"),
    ],
)
def test_a_config_names_the_field_that_is_out_of_range(field, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        small_config(**{field: value})


def test_one_dropout_rate_serves_for_both_unless_the_second_is_given():
    assert small_config(dropout=0.3).attention_dropout == 0.3
    assert small_config(dropout=0.3, attention_dropout=0.0).attention_dropout == 0.0


# --- initial values ---

WIDE = small_config(vocabulary_size=3000, hidden_dim=64, intermediate_dim=256)
DRAWN = [name for name in shapes(WIDE) if not name.endswith((".bias", ".beta", ".gamma"))]


def fresh(initializer, seed=0, dtype=np.float64, config=WIDE):
    params = Arrays(shapes(config), dtype)
    initialise(params, config, initializer, seed)
    return params


def drawn_values(params):
    return np.concatenate([params[name].ravel() for name in DRAWN])


def test_kerass_values_are_normal_cut_at_two_deviations_and_not_rescaled():
    values = drawn_values(fresh("keras"))
    # A standard normal cut at 2 has the variance 1 - 2·2·φ(2) / (2Φ(2) - 1).
    phi, mass = math.exp(-2.0) / math.sqrt(2.0 * math.pi), math.erf(math.sqrt(2.0))
    deviation = 0.02 * math.sqrt(1.0 - 4.0 * phi / mass)
    assert deviation == pytest.approx(0.0176, abs=5e-5)
    assert np.abs(values).max() <= 0.04
    assert np.abs(values).max() > 0.0399
    assert values.std() == pytest.approx(deviation, rel=5.0 / math.sqrt(2.0 * len(values)))
    assert abs(values.mean()) <= 5.0 * deviation / math.sqrt(len(values))


def test_hfs_values_are_normal_with_a_pad_row_of_zeros():
    params = fresh("hf")
    assert not params["embeddings.token"][WIDE.pad_id].any()
    values = drawn_values(params)
    values = values[values != 0.0]
    assert len(values) == sum(params[name].size for name in DRAWN) - WIDE.hidden_dim
    assert values.std() == pytest.approx(0.02, rel=5.0 / math.sqrt(2.0 * len(values)))
    beyond_two = np.mean(np.abs(values) > 0.04)
    assert beyond_two == pytest.approx(math.erfc(math.sqrt(2.0)), rel=0.05)


@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_biases_start_at_zero_and_norms_as_the_identity(initializer):
    params = fresh(initializer)
    for name in params:
        if name not in DRAWN:
            assert np.all(params[name] == (1.0 if name.endswith(".gamma") else 0.0)), name


@pytest.mark.parametrize("initializer", INITIALIZERS)
@given(seed=seeds)
def test_a_seed_gives_the_same_values_in_both_dtypes_and_another_gives_others(initializer, seed):
    config = small_config()
    values = fresh(initializer, seed, config=config).flat
    assert np.array_equal(values, fresh(initializer, seed, config=config).flat)
    assert not np.array_equal(values, fresh(initializer, seed + 1, config=config).flat)
    narrow = fresh(initializer, seed, np.float32, config).flat
    np.testing.assert_allclose(narrow, values, rtol=1e-6, atol=1e-8)


def test_an_unknown_initializer_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"initializer must be one of 'keras', 'hf'.*, got 'xavier'"):
        fresh("xavier")


def test_neighbour_heads_start_by_looking_at_their_neighbour():
    config = small_config(num_layers=2, num_heads=4, hidden_dim=128, max_sequence_length=40)
    params = fresh("neighbour", config=config)
    batch = random_batch(config, [40], seed=0)
    looked_at = {}

    def note(name, op):
        def noted(q, k, *others):
            D = config.head_dim
            for h in range(config.num_heads):
                scores = q[:, h * D : (h + 1) * D] @ k[:, h * D : (h + 1) * D].T
                looked_at.setdefault(h, scores[5:-5].argmax(axis=1) - np.arange(5, 35))
            return op(q, k, *others)

        return noted if name == "attention_forward" else op

    encoder_forward(REFERENCE.wrapped(note), params, config, batch)
    for h, offset in enumerate((-1, 1, -2, 2)):
        assert np.mean(looked_at[h] == offset) > 0.9
