"""Kernels that were prepared for the products are never older than the parameters."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from native_extension import needs_native
from small_models import TEXTS, small_masked_lm

from pyroberta import MaskedLM
from pyroberta.backends import get_ops
from pyroberta.ops import Ops

KERNEL = "layers.1.feed_forward.output.kernel"


class Prepared:
    """What a table that counts makes of a kernel: an object that only its own forwards understand."""

    def __init__(self, kernel: np.ndarray) -> None:
        self.kernel = kernel.copy()

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        return self.kernel


def counting(ops: Ops) -> tuple[Ops, list[int]]:
    """The reference's table with kernels prepared as copies; and how many were made so far."""
    made = [0]

    def wrap(name, row):
        if name == "prepare":

            def prepare(kernel):
                made[0] += 1
                return Prepared(kernel)

            return prepare
        return lambda *arguments: row(*(np.asarray(a) if isinstance(a, Prepared) else a for a in arguments))

    return ops.wrapped(wrap), made


def masked_lm(**settings) -> tuple[MaskedLM, list[int]]:
    model = small_masked_lm(dtype="float32", **settings)
    model.backbone.ops, made = counting(get_ops("numpy"))
    return model, made


def is_up_to_date(model: MaskedLM) -> bool:
    """Whether it answers as a model does that was made from its parameters just now."""
    fresh = MaskedLM(type(model.backbone).from_parts(model.backbone.config, model.backbone.params), model.preprocessor)
    fresh.backbone.ops = get_ops("numpy")
    return np.array_equal(model.score(TEXTS[:1])[0].log_likelihoods, fresh.score(TEXTS[:1])[0].log_likelihoods)


def test_kernels_are_prepared_once():
    model, made = masked_lm()
    assert made == [0]
    model.fill_mask("a <mask>")
    kernels = sum(name.endswith(".kernel") for name in model.params)
    assert made == [kernels]
    model.fill_mask("the <mask> again")
    model.predict(["b <mask>"])
    model.embed(TEXTS)
    assert made == [kernels]
    assert is_up_to_date(model)


@pytest.mark.parametrize("way", ["fit", "train_on_batch", "set_weights", "changing"])
def test_whatever_changes_the_parameters_is_seen(way):
    model, made = masked_lm()
    model.fill_mask("a <mask>")
    before, count = model.score(TEXTS[:1])[0].total, made[0]
    if way == "fit":
        model.fit(TEXTS, batch_size=4, verbose=0)
    elif way == "train_on_batch":
        model.train_on_batch(TEXTS)
    elif way == "set_weights":
        model.set_weights([1.5 * weight for weight in model.get_weights()])
    else:
        with model.backbone.changing() as params:
            params[KERNEL][:] *= 2.0
    assert model.score(TEXTS[:1])[0].total != before
    assert made[0] > count
    assert is_up_to_date(model)


def test_a_block_that_raises_leaves_every_kernel_up_to_date():
    model, _ = masked_lm()
    model.fill_mask("a <mask>")
    try:
        with model.backbone.changing() as params:
            params[KERNEL][:] *= 2.0
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert is_up_to_date(model)


def test_training_prepares_what_is_frozen_and_nothing_else():
    model, made = masked_lm()
    frozen = model.backbone.freeze(r"layers\.0\..*")
    kernels = sum(name.endswith(".kernel") for name in frozen)
    model.fit(TEXTS, batch_size=2, epochs=3, verbose=0, validation_data=TEXTS)
    assert made == [kernels]
    assert is_up_to_date(model)


def test_what_is_about_to_change_is_freed_before_the_step():
    model, _ = masked_lm()
    model.fill_mask("a <mask>")
    made = weakref.ref(model.backbone.prepared()[KERNEL])
    assert made() is not None
    model.backbone.prepared(changing=list(model.params))
    gc.collect()
    assert made() is None


def test_a_forward_that_a_change_overtakes_leaves_no_old_kernel_behind():
    model, _ = masked_lm()
    slow = model.backbone.prepared()  # as forward in another thread has it
    with model.backbone.changing() as params:
        stale = slow[KERNEL].kernel.copy()
        params[KERNEL][:] *= 2.0
    assert np.array_equal(slow[KERNEL].kernel, stale)
    assert is_up_to_date(model)


def test_another_table_of_ops_prepares_for_itself():
    model, made = masked_lm()
    expected = model.score(TEXTS[:1])[0].log_likelihoods
    model.backbone.ops, other = counting(get_ops("numpy"))
    assert model.score(TEXTS[:1])[0].log_likelihoods == expected
    assert other == made


def test_parameters_are_read_only_outside_the_block():
    model, _ = masked_lm()
    for array in (model.params[KERNEL], model.backbone.params.flat):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0.0
    with model.backbone.changing() as params:
        params["head.bias"][2] = 5.0
    assert model.params["head.bias"][2] == 5.0


@needs_native
def test_answers_from_prepared_kernels_are_those_from_the_kernels():
    model = small_masked_lm(dtype="float32", backend="native", hidden_dim=36, intermediate_dim=300)
    texts = [text[:200] for text in TEXTS]
    found = model.embed(texts)
    prepared = model.backbone.prepared
    model.backbone.prepared = lambda changing=(): prepared(changing=list(model.params))
    for one, other in zip(found, model.embed(texts), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())


@needs_native
def test_a_frozen_encoder_trains_the_head_as_it_does_in_numpy():
    ends = []
    for backend in ("numpy", "native"):
        model = small_masked_lm(dtype="float64", backend=backend)
        model.backbone.freeze(r"layers\.1\..*")
        model.fit(TEXTS, batch_size=3, epochs=3, verbose=0)
        ends.append(model.backbone.params.flat.copy())
    np.testing.assert_allclose(*ends, rtol=0, atol=1e-6)
