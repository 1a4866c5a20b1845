"""Encoder and head together."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import padded_losses, random_batch, random_params, small_config
from strategies import examples, seeds

from pyroberta.model.batch import pack, pack_padded, pad
from pyroberta.model.encoder import encoder_backward, encoder_forward
from pyroberta.model.gradients import Gradients
from pyroberta.model.model import model_backward, model_forward, model_logits
from pyroberta.model.parameters import is_backbone, shapes
from pyroberta.ops import REFERENCE, Key
from pyroberta.oracle import check_backward

KEY = Key.of_update(seed=3, update=5)
TIED, UNTIED = small_config(), small_config(tie_embeddings=False)
CLASSIFIER = small_config(num_classes=3)
NAMES = list(shapes(UNTIED) | shapes(CLASSIFIER))
# The layers are the same code whatever the head is; the whole gradient of each config is checked, too.
EVERY_NAME = [(TIED, name) for name in shapes(TIED)]
EVERY_NAME += [(config, name) for config in (UNTIED, CLASSIFIER) for name in shapes(config) if name[:7] != "layers."]

some_lengths = st.lists(st.integers(0, 7), min_size=1, max_size=4)
configs = st.sampled_from([TIED, UNTIED, CLASSIFIER])


def losses_of(params, config, batch, key=None):
    (losses, _), _ = model_forward(REFERENCE, params, config, batch, key)
    return losses


def gradients_of(params, config, batch, dlosses, trainable, key=None, ops=REFERENCE):
    grads = Gradients(params.zeros_like(), trainable)
    _, cache = model_forward(ops, params, config, batch, key, grads.lowest)
    model_backward(ops, grads, dlosses, cache)
    return grads.sums


def counting(ops):
    """The table, and a count of the calls through it."""
    calls = Counter()

    def count(name, op):
        def counted(*arguments):
            calls[name] += 1
            return op(*arguments)

        return counted

    return ops.wrapped(count), calls


# --- gradients ---


@pytest.mark.parametrize(("config", "name"), EVERY_NAME, ids=lambda part: part if isinstance(part, str) else "")
def test_backward_is_the_derivative_for_every_parameter_with_dropout_on(config, name):
    batch = random_batch(config, [5, 1, 0, 7], seed=1)
    params = random_params(config, seed=2)

    def forward(value):
        moved = params.astype(np.float64)
        moved[name][...] = value
        (losses, _), cache = model_forward(REFERENCE, moved, config, batch, KEY, keep_from=-1)
        return losses, cache

    def backward(dlosses, cache):
        grads = Gradients(params.zeros_like(), shapes(config))
        model_backward(REFERENCE, grads, dlosses, cache)
        return grads.sums[name]

    assert check_backward(forward, backward, [params[name]]).error <= 1e-8


@examples(10)
@given(lengths=some_lengths, config=configs, seed=seeds)
def test_the_whole_gradient_is_the_derivative_whatever_the_batch(lengths, config, seed):
    batch = random_batch(config, lengths, seed)
    params = random_params(config, seed)

    def forward(flat):
        moved = params.zeros_like()
        moved.flat[:] = flat
        (losses, _), cache = model_forward(REFERENCE, moved, config, batch, KEY, keep_from=-1)
        return losses, cache

    def backward(dlosses, cache):
        grads = Gradients(params.zeros_like(), shapes(config))
        model_backward(REFERENCE, grads, dlosses, cache)
        return grads.sums.flat

    assert check_backward(forward, backward, [params.flat], seed).error <= 1e-7


def test_the_gradient_of_every_hidden_state_reaches_the_embeddings():
    """The encoder's own backward, for any use of the last hidden state."""
    batch, params = random_batch(TIED, [4, 3], seed=0), random_params(TIED, seed=1)

    def forward(table):
        moved = params.astype(np.float64)
        moved["embeddings.token"][...] = table
        hidden, caches = encoder_forward(REFERENCE, moved, TIED, batch, KEY, keep_from=-1)
        return hidden[-1], caches

    def backward(dx, caches):
        grads = Gradients(params.zeros_like(), shapes(TIED))
        encoder_backward(REFERENCE, grads, dx, caches)
        return grads.sums["embeddings.token"]

    assert check_backward(forward, backward, [params["embeddings.token"]]).error <= 1e-8


@given(trainable=st.sets(st.sampled_from(NAMES)), config=configs, seed=seeds)
def test_freezing_changes_no_bit_of_the_other_gradients(trainable, config, seed):
    trainable &= set(shapes(config))
    batch, params = random_batch(config, [3, 0, 6], seed), random_params(config, seed)
    dlosses = np.random.default_rng(seed).standard_normal(len(batch.target_rows))
    full = gradients_of(params, config, batch, dlosses, shapes(config), KEY)
    some = gradients_of(params, config, batch, dlosses, trainable, KEY)
    for name in params:
        wanted = full[name] if name in trainable else np.zeros_like(full[name])
        assert np.array_equal(some[name], wanted), name


@pytest.mark.parametrize("config", [TIED, UNTIED, CLASSIFIER], ids=["tied", "untied", "classifier"])
def test_a_frozen_backbone_keeps_no_encoder_cache_and_calls_no_encoder_backward(config):
    batch, params = random_batch(config, [3, 6], seed=0), random_params(config, seed=0)
    grads = Gradients(params.zeros_like(), [name for name in params if not is_backbone(name)])
    ops, calls = counting(REFERENCE)
    _, cache = model_forward(ops, params, config, batch, KEY, grads.lowest)
    _, caches = encoder_forward(REFERENCE, params, config, batch, KEY, grads.lowest)
    assert caches == {}
    calls.clear()
    model_backward(ops, grads, np.ones(len(batch.target_rows)), cache)
    # the head's list, once each, and nothing else
    loss = "cross_entropy_backward" if config is not TIED else "cross_entropy_backward_input"
    heads = [loss, "layer_norm_backward", "gelu_backward", "linear_backward"]
    if config is CLASSIFIER:
        heads = [loss, "dropout_backward", "tanh_backward", "linear_backward", "dropout_backward"]
    del calls["accumulate"]  # what they gave, added to its sums
    assert calls == Counter(heads)


@pytest.mark.parametrize("lowest", [-1, 0, 1, 2])
def test_caches_are_kept_from_the_lowest_trainable_layer_up_and_backward_stops_there(lowest):
    config = small_config(num_layers=3)
    batch, params = random_batch(config, [3, 6], seed=0), random_params(config, seed=0)
    name = "embeddings.norm.beta" if lowest < 0 else f"layers.{lowest}.attention.query.bias"
    grads = Gradients(params.zeros_like(), [name])
    assert grads.lowest == lowest
    ops, calls = counting(REFERENCE)
    _, caches = encoder_forward(ops, params, config, batch, KEY, keep_from=grads.lowest)
    assert sorted(caches) == list(range(lowest, 3))
    encoder_backward(ops, grads, np.ones((batch.num_tokens, config.hidden_dim)), caches)
    assert calls["attention_backward"] == 3 - max(0, lowest)
    assert calls["embedding_backward"] == 0  # its norm alone was asked for
    assert caches == {}  # backward drops each one after use, so that memory falls


def test_without_keep_from_nothing_is_kept():
    batch, params = random_batch(TIED, [3], seed=0), random_params(TIED, seed=0)
    assert encoder_forward(REFERENCE, params, TIED, batch)[1] == {}


def test_frozen_parameters_of_the_loss_cost_no_table_gradient():
    batch, params = random_batch(TIED, [3, 6], seed=0), random_params(TIED, seed=0)
    ops, calls = counting(REFERENCE)
    gradients_of(params, TIED, batch, np.ones(len(batch.target_rows)), ["head.dense.kernel"], ops=ops)
    assert calls["cross_entropy_backward_input"] == 1
    assert calls["cross_entropy_backward"] == 0


@given(lengths=some_lengths, seed=seeds)
def test_a_tied_tables_gradient_is_the_lookups_plus_the_outputs(lengths, seed):
    batch = random_batch(UNTIED, lengths, seed)
    untied, tied = random_params(UNTIED, seed), random_params(TIED, seed)
    for name in tied:
        tied[name][...] = untied[name]
    untied["head.decoder"][...] = untied["embeddings.token"]
    dlosses = np.ones(len(batch.target_rows))
    apart = gradients_of(untied, UNTIED, batch, dlosses, shapes(UNTIED), KEY)
    together = gradients_of(tied, TIED, batch, dlosses, shapes(TIED), KEY)
    np.testing.assert_allclose(
        together["embeddings.token"], apart["embeddings.token"] + apart["head.decoder"], atol=1e-13
    )
    if len(batch.target_rows):
        assert together["embeddings.token"].any(axis=1).all()  # every row, the pad row too


@given(seed=seeds)
def test_gradients_of_parts_of_a_batch_add_up_to_the_batchs(seed):
    batch, params = random_batch(TIED, [3, 6, 2], seed), random_params(TIED, seed)
    dlosses = np.random.default_rng(seed).standard_normal(len(batch.target_rows))
    whole = gradients_of(params, TIED, batch, dlosses, shapes(TIED))
    grads = Gradients(params.zeros_like(), shapes(TIED))
    for start, stop in pairwise(batch.starts):
        inside = (batch.target_rows >= start) & (batch.target_rows < stop)
        part = replace(
            pack([batch.ids[start:stop]]), target_rows=batch.target_rows[inside] - start, labels=batch.labels[inside]
        )
        _, cache = model_forward(REFERENCE, params, TIED, part, keep_from=-1)
        model_backward(REFERENCE, grads, dlosses[inside], cache)
    np.testing.assert_allclose(grads.sums.flat, whole.flat, atol=1e-12 * max(1.0, np.abs(whole.flat).max()))


# --- padding, order, batch mates ---


@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4), config=configs, seed=seeds)
def test_a_packed_batch_gives_what_the_padded_model_gives(lengths, config, seed):
    batch, params = random_batch(config, lengths, seed), random_params(config, seed)
    losses = losses_of(params, config, batch)
    for extra in (0, 2):
        wider = replace(config, max_sequence_length=max(lengths) + extra)
        positions = np.zeros((wider.max_sequence_length, config.hidden_dim))
        positions[: max(lengths)] = params["embeddings.position"][: max(lengths)]
        padded = pad(batch, max(lengths) + extra, mask_slots=7, pad_id=config.pad_id)
        reference = padded_losses(
            {**params, "embeddings.position": positions}, wider, *padded[:3], labels=padded.labels
        )
        np.testing.assert_allclose(losses, reference[padded.weights > 0.0], rtol=1e-11, atol=1e-11)


@given(lengths=some_lengths, columns=st.integers(0, 5), seed=seeds)
def test_padding_never_changes_the_loss(lengths, columns, seed):
    batch, params = random_batch(TIED, lengths, seed), random_params(TIED, seed)
    padded = pad(batch, 7 + columns, mask_slots=7 + columns, pad_id=TIED.pad_id)
    token_ids = padded.token_ids.copy()
    junk = np.random.default_rng(seed).integers(-5, 99, token_ids.shape)
    token_ids[~padded.padding_mask] = junk[~padded.padding_mask]
    again = pack_padded(
        token_ids, *padded[1:], vocabulary_size=TIED.vocabulary_size, max_sequence_length=TIED.max_sequence_length
    )
    assert np.array_equal(losses_of(params, TIED, again), losses_of(params, TIED, batch))


@given(lengths=some_lengths, seed=seeds)
def test_permuting_the_sequences_permutes_the_outputs(lengths, seed):
    params, rng = random_params(TIED, seed), np.random.default_rng(seed)
    sequences = [rng.integers(0, TIED.vocabulary_size, length) for length in lengths]
    order = rng.permutation(len(sequences))
    straight, permuted = pack(sequences), pack([sequences[b] for b in order])
    (*_, x), _ = encoder_forward(REFERENCE, params, TIED, straight)
    (*_, y), _ = encoder_forward(REFERENCE, params, TIED, permuted)
    for place, b in enumerate(order):
        permuted_rows, straight_rows = slice(*permuted.starts[place : place + 2]), slice(*straight.starts[b : b + 2])
        np.testing.assert_allclose(y[permuted_rows], x[straight_rows], atol=1e-12)


@given(lengths=some_lengths, seed=seeds)
def test_a_sequences_output_does_not_depend_on_its_batch_mates(lengths, seed):
    batch, params = random_batch(TIED, lengths, seed), random_params(TIED, seed)
    together, _ = encoder_forward(REFERENCE, params, TIED, batch)
    for start, stop in pairwise(batch.starts):
        alone, _ = encoder_forward(REFERENCE, params, TIED, pack([batch.ids[start:stop]]))
        for depth, x in enumerate(alone):
            np.testing.assert_allclose(x, together[depth][start:stop], atol=1e-12)


@pytest.mark.parametrize("lengths", [[], [0], [0, 0], [1], [0, 1, 0]])
def test_batches_of_next_to_nothing_work_forward_and_back(lengths):
    params = random_params(TIED, seed=0)
    for share in (0.0, 1.0):  # nothing masked, all masked
        batch = random_batch(TIED, lengths, 0, share)
        losses = losses_of(params, TIED, batch, KEY)
        grads = gradients_of(params, TIED, batch, np.ones(len(losses)), shapes(TIED), KEY)
        assert losses.shape == (sum(lengths) * share,)
        assert np.isfinite(grads.flat).all()
        assert grads.flat.any() == (len(losses) > 0)


# --- dropout ---


def test_the_same_key_gives_the_same_loss_and_another_gives_another():
    batch, params = random_batch(TIED, [5, 7], seed=0), random_params(TIED, seed=0)
    keys = [Key.of_update(1, 1), Key.of_update(1, 1), Key.of_update(1, 2), Key.of_update(2, 1), None]
    losses = [losses_of(params, TIED, batch, key).tolist() for key in keys]
    assert losses[0] == losses[1]
    assert len(set(map(tuple, losses))) == 4


def test_rates_of_zero_with_a_key_are_no_dropout_at_all():
    config = small_config(dropout=0.0)
    batch, params = random_batch(config, [5, 7], seed=0), random_params(config, seed=0)
    assert np.array_equal(losses_of(params, config, batch, KEY), losses_of(params, config, batch))


@pytest.mark.parametrize("rates", [(0.5, 0.0), (0.0, 0.5)])
def test_each_of_the_two_rates_acts(rates):
    config = small_config(dropout=rates[0], attention_dropout=rates[1])
    batch, params = random_batch(config, [5, 7], seed=0), random_params(config, seed=0)
    assert not np.array_equal(losses_of(params, config, batch, KEY), losses_of(params, config, batch))


def test_every_site_of_every_update_has_a_key_of_its_own():
    sites = range(0, 2**16, 5)  # 16 bits: 21,844 layers
    keys = {Key.of_update(7, update).at(site) for update in (0, 1, 2**47) for site in sites}
    assert len(keys) == 3 * len(sites)
    assert max(key.place for key in keys) < 2**64


@pytest.mark.parametrize("config", [TIED, replace(CLASSIFIER, classifier_dropout=0.3)], ids=["lm", "classifier"])
def test_dropout_sites_are_the_embeddings_and_three_per_layer_and_two_in_the_classifiers_head(config):
    batch, params = random_batch(config, [5, 7], seed=0), random_params(config, seed=0)
    drawn = []

    def note(name, op):
        def noted(*arguments):
            if name in ("dropout_forward", "attention_forward", "add_norm_forward"):
                at = next(i for i, argument in enumerate(arguments) if isinstance(argument, Key))
                drawn.append((name, *arguments[at - 1 : at + 1]))
            return op(*arguments)

        return noted

    model_forward(REFERENCE.wrapped(note), params, config, batch, KEY)
    in_head = 2 if config.num_classes else 0
    assert [name for name, _, _ in drawn] == [
        "dropout_forward",
        *["attention_forward", "add_norm_forward", "add_norm_forward"] * config.num_layers,
        *["dropout_forward"] * in_head,
    ]
    before = len(drawn) - in_head
    assert [{rate for _, rate, _ in part} for part in (drawn[:before], drawn[before:])] == [
        {0.1},
        {0.3} if in_head else set(),
    ]
    assert [key for *_, key in drawn] == [KEY.at(site) for site in range(3 * config.num_layers + 1 + in_head)]


# --- dtypes and cost ---


@pytest.mark.parametrize(("lengths", "seed"), [([7, 0, 3], 0), ([1], 1), ([4, 4, 4, 4], 2), ([6, 2], 3)])  # a figure
def test_a_float32_model_computes_in_float32_and_comes_near_the_float64_one(lengths, seed):
    batch, wide = random_batch(TIED, lengths, seed), random_params(TIED, seed)
    narrow = wide.astype(np.float32)
    dtypes = set()

    def note(name, op):
        def noted(*arguments):
            result = op(*arguments)
            parts = result if isinstance(result, tuple) else (result,)
            dtypes.update(part.dtype for part in parts if isinstance(part, np.ndarray) and part.dtype.kind == "f")
            return result

        return noted

    ones = np.ones(len(batch.target_rows))
    grads = gradients_of(narrow, TIED, batch, ones.astype(np.float32), shapes(TIED), KEY, REFERENCE.wrapped(note))
    assert dtypes == {np.dtype(np.float32)}
    wanted = gradients_of(wide, TIED, batch, ones, shapes(TIED), KEY)
    for name in wanted:
        scale = np.abs(wanted[name.replace(".key.bias", ".query.bias")]).max()  # the keys' bias has a gradient of 0
        assert np.abs(grads[name] - wanted[name]).max() <= 1e-4 * scale, name


def test_logits_are_made_for_masked_tokens_alone():
    config = small_config(num_layers=3)
    batch, params = random_batch(config, [7, 7, 7], seed=0, masked_share=0.2), random_params(config, seed=0)
    rows = {}

    def note(name, op):
        def noted(*arguments):
            if name in ("linear_forward", "feed_forward_forward", "cross_entropy_forward"):
                rows.setdefault(name, []).append(len(arguments[0]))
            return op(*arguments)

        return noted

    model_forward(REFERENCE.wrapped(note), params, config, batch)
    M, N = len(batch.target_rows), batch.num_tokens
    assert 0 < M < N
    assert rows == {
        "linear_forward": [N, N, N, N] * 2 + [N, N, M, M] + [M],  # key, value, query, output; dense
        "feed_forward_forward": [N, N, M],
        "cross_entropy_forward": [M],
    }


@given(lengths=some_lengths, config=configs, seed=seeds)
def test_the_last_layer_for_some_rows_is_those_rows_of_the_last_layer(lengths, config, seed):
    """With dropout on: a row meets the mask that it meets among all."""
    batch, params = random_batch(config, lengths, seed, masked_share=0.3), random_params(config, seed)
    query_rows = batch.target_rows
    drawn = np.random.default_rng(seed).standard_normal((batch.num_tokens, config.hidden_dim))
    found = []
    for wanted, dx in (
        (None, np.where(np.isin(np.arange(batch.num_tokens), query_rows)[:, None], drawn, 0)),
        (query_rows, drawn[query_rows]),
    ):
        (*_, x), caches = encoder_forward(REFERENCE, params, config, batch, KEY, keep_from=-1, query_rows=wanted)
        grads = Gradients(params.zeros_like(), shapes(config))
        encoder_backward(REFERENCE, grads, dx, caches)
        found.append((x if wanted is not None else x[query_rows], grads.sums.flat))
    (x_all, of_all), (x_some, of_some) = found
    np.testing.assert_allclose(x_some, x_all, rtol=0, atol=1e-12)
    np.testing.assert_allclose(of_some, of_all, rtol=0, atol=1e-11 * max(1.0, np.abs(of_all).max()))


@given(lengths=some_lengths, config=configs, seed=seeds)
def test_recomputing_changes_no_bit(lengths, config, seed):
    batch, params = random_batch(config, lengths, seed), random_params(config, seed)
    found = []
    for recompute in (False, True):
        grads = Gradients(params.zeros_like(), shapes(config))
        (losses, _), cache = model_forward(REFERENCE, params, config, batch, KEY, grads.lowest, recompute)
        model_backward(REFERENCE, grads, np.ones_like(losses), cache)
        found.append((losses, grads.sums.flat))
    assert np.array_equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], found[1][1])


def test_masked_positions_may_come_in_any_order_and_twice():
    batch, params = random_batch(TIED, [6, 5], seed=0), random_params(TIED, seed=0)
    wild = replace(
        batch, target_rows=np.array([7, 2, 7, 0]), labels=np.array([1, 2, 3, 4]), weights=np.ones(4)
    )  # fmt: skip
    (losses, _), _ = model_forward(REFERENCE, params, TIED, wild, KEY)
    for m in range(4):
        one = replace(wild, target_rows=wild.target_rows[m : m + 1], labels=wild.labels[m : m + 1], weights=np.ones(1))
        (alone, _), _ = model_forward(REFERENCE, params, TIED, one, KEY)
        np.testing.assert_allclose(losses[m], alone[0], atol=1e-12)


@given(lengths=some_lengths, config=configs, seed=seeds)
def test_logits_and_losses_tell_the_same(lengths, config, seed):
    batch, params = random_batch(config, lengths, seed), random_params(config, seed)
    logits = model_logits(REFERENCE, params, config, batch, batch.target_rows)
    (losses, predicted), _ = model_forward(REFERENCE, params, config, batch)
    assert logits.shape == (len(batch.target_rows), config.num_classes or config.vocabulary_size)
    log_sums = np.log(np.exp(logits).sum(axis=1))
    np.testing.assert_allclose(log_sums - logits[np.arange(len(losses)), batch.labels], losses, atol=1e-12)
    assert np.array_equal(logits.argmax(axis=1), predicted)
