"""Low-rank changes: the derivative, what is trained, what is saved."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from native_extension import needs_native
from small_models import KEY, TEXTS, gradients, random_batch, random_params, small_config, small_masked_lm
from strategies import examples, seeds

from pyroberta import Backbone, MaskedLM, TextClassifier, TextClassifierPreprocessor
from pyroberta.backends import get_ops
from pyroberta.formats import safetensors_io
from pyroberta.model.config import LORA_TARGETS, RobertaConfig
from pyroberta.model.gradients import Gradients
from pyroberta.model.lora import merged, with_lora
from pyroberta.model.model import model_backward, model_forward
from pyroberta.model.parameters import Arrays, is_lora, shapes
from pyroberta.ops import REFERENCE
from pyroberta.oracle import check_backward
from pyroberta.training import optimizers

EVERYWHERE = small_config(lora_rank=3, lora_alpha=5.0, lora_targets=LORA_TARGETS)
FACTORS = [name for name in shapes(EVERYWHERE) if is_lora(name)]

rank_and_targets = st.tuples(st.integers(1, 9), st.sets(st.sampled_from(LORA_TARGETS), min_size=1))


def stirred(backbone: Backbone, seed: int = 0) -> None:
    """Factors with which the change is anything but zero."""
    rng = np.random.default_rng(seed)
    with backbone.changing() as params:
        for name, array in params.items():
            if is_lora(name):
                array[...] = 0.3 * rng.standard_normal(array.shape)


# --- the derivative ---


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("name", [*FACTORS, "layers.0.attention.value.kernel", "embeddings.token"])
def test_backward_is_the_derivative_for_factors_and_for_what_lies_below_them(name, num_classes):
    config = replace(EVERYWHERE, num_classes=num_classes)
    batch, params = random_batch(config, [5, 1, 7], seed=1), random_params(config, seed=2)
    if num_classes:
        labels = np.array([0, 2, 1], np.int32)
        batch = replace(batch, target_rows=batch.starts[:-1], labels=labels, weights=np.ones(3))

    def forward(value):
        moved = params.astype(np.float64)
        moved[name][...] = value
        (losses, _), cache = model_forward(REFERENCE, moved, config, batch, KEY, keep_from=-1)
        return losses, cache

    def backward(dlosses, cache):
        grads = Gradients(params.zeros_like(), {name})
        model_backward(REFERENCE, grads, dlosses, cache)
        return grads.sums[name]

    assert check_backward(forward, backward, [params[name]]).error <= 1e-8


@given(seeds, rank_and_targets, st.floats(0.1, 10.0))
def test_the_losses_are_those_of_the_model_with_the_changes_folded_in(seed, rank_and_targets, alpha):
    rank, targets = rank_and_targets
    config = small_config(lora_rank=rank, lora_alpha=alpha, lora_targets=tuple(targets))
    params, batch = random_params(config, seed), random_batch(config, [5, 3], seed)
    plain, folded = merged(config, params)
    (expected, _), _ = model_forward(REFERENCE, folded, plain, batch, KEY)
    (found, _), _ = model_forward(REFERENCE, params, config, batch, KEY)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("recompute", [False, True])
def test_with_all_else_frozen_no_gradient_of_a_frozen_matrix_is_made(recompute):
    batch, params = random_batch(EVERYWHERE, [5, 7], seed=1), random_params(EVERYWHERE, seed=2)
    _, everything = gradients(REFERENCE, params, EVERYWHERE, batch, set(params))
    called = set()

    def note(name, row):
        return lambda *arguments: (called.add(name), row(*arguments))[1]

    _, found = gradients(REFERENCE.wrapped(note), params, EVERYWHERE, batch, set(FACTORS), recompute)
    assert "low_rank_backward" in called
    of_matrices = {"linear_backward", "feed_forward_backward", "cross_entropy_backward", "embedding_backward"}
    assert not called & of_matrices
    for name in params:
        np.testing.assert_array_equal(found[name], everything[name] if is_lora(name) else 0.0)


@needs_native
@pytest.mark.parametrize("backend", ["native", "native-blas"])
def test_the_extension_gives_the_references_losses_and_gradients(backend):
    config = small_config(hidden_dim=36, num_heads=3, lora_rank=5, lora_alpha=7.0, lora_targets=LORA_TARGETS)
    batch, params = random_batch(config, [6, 1, 7], seed=1), random_params(config, seed=2)
    trainable = {name for name in params if is_lora(name)}
    losses, grads = gradients(REFERENCE, params, config, batch, trainable)
    ours, found = gradients(get_ops(backend), params, config, batch, trainable)
    np.testing.assert_allclose(ours, losses, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found.flat, grads.flat, rtol=0, atol=1e-10 * np.abs(grads.flat).max())


# --- a classifier's ---


def small_classifier(**options: object) -> TextClassifier:
    lm = small_masked_lm(dtype="float64")
    preprocessor = TextClassifierPreprocessor(lm.preprocessor.tokenizer, sequence_length=16)
    return TextClassifier(lm.backbone, 3, preprocessor, **options)


@pytest.mark.parametrize("train_head", [False, True])
def test_a_classifier_trains_its_factors_saves_them_and_folds_them_in(train_head, tmp_path):
    classifier, texts = small_classifier(), ["go on", "stop it", "why not"]
    outputs = classifier.predict(texts)
    classifier.backbone.enable_lora(2, train_head=train_head)
    np.testing.assert_array_equal(classifier.predict(texts), outputs)
    before = {name: array.copy() for name, array in classifier.params.items()}
    classifier.compile(optimizers.Adam(0.01))
    classifier.fit(texts, [0, 1, 2], epochs=3, verbose=0)
    changed = {name for name in before if not np.array_equal(before[name], classifier.params[name])}
    head = {name for name in before if name.startswith("head.")} if train_head else set()
    assert changed == {name for name in before if is_lora(name)} | head
    assert any(is_lora(name) for name in changed)

    classifier.backbone.save_lora_weights(tmp_path / "adapter")
    another = small_classifier()
    with another.backbone.changing() as params:
        for name in params:
            params[name][...] = classifier.params[name]
    another.backbone.load_lora_weights(tmp_path / "adapter")
    np.testing.assert_allclose(another.predict(texts), classifier.predict(texts), rtol=0, atol=1e-6)

    outputs = classifier.predict(texts)
    classifier.backbone.merge_lora()
    assert not any(is_lora(name) for name in classifier.params)
    np.testing.assert_allclose(classifier.predict(texts), outputs, rtol=0, atol=1e-12)


def test_a_fresh_head_keeps_the_factors():
    backbone = small_masked_lm(dtype="float64").backbone
    backbone.enable_lora(2)
    stirred(backbone)
    hidden = backbone({"token_ids": [[0, 5, 6, 2]]})
    classifier = TextClassifier(backbone, 3)
    np.testing.assert_array_equal(classifier.backbone({"token_ids": [[0, 5, 6, 2]]}), hidden)
    assert {name for name in classifier.params if is_lora(name)} == {name for name in backbone.params if is_lora(name)}


# --- enabling ---


@pytest.mark.filterwarnings("ignore:LoRA's rank 9 adds nothing")
@given(seeds, rank_and_targets)
def test_enabling_keeps_every_parameter_bit_for_bit_and_every_output(seed, rank_and_targets):
    rank, targets = rank_and_targets
    model = small_masked_lm(dtype="float32", seed=seed)
    before, outputs = dict(model.params), model.backbone({"token_ids": [[0, 5, 6, 2]]})
    model.backbone.enable_lora(rank, targets=targets, seed=seed)
    for name, array in before.items():
        assert array.tobytes() == model.params[name].tobytes()
    np.testing.assert_array_equal(model.backbone({"token_ids": [[0, 5, 6, 2]]}), outputs)
    added = [name for name in model.params if name not in before]
    assert model.backbone.trainable_names() == added
    assert model.backbone.params.spans(added) == [(sum(a.size for a in before.values()), model.count_params())]


def test_it_can_be_enabled_once():
    backbone = small_masked_lm().backbone
    backbone.enable_lora(2)
    with pytest.raises(RuntimeError, match="enabled already, with rank 2"):
        backbone.enable_lora(2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "rank must be a whole number of at least 1"),
        ({"rank": -1}, "lora_rank must be a whole number"),
        ({"rank": 2.0}, "lora_rank must be a whole number"),
        ({"rank": 2, "alpha": 0.0}, "lora_alpha must be above 0"),
        ({"rank": 2, "targets": []}, "one or more of query, key, value, output"),
        ({"rank": 2, "targets": ["dense"]}, "one or more of query, key, value, output"),
        ({"rank": 2, "targets": "query"}, "a list of one or more of query, .*; got 'query'"),
        ({"rank": 2, "targets": None}, "a list of one or more of query, .*; got None"),
    ],
)
def test_arguments_out_of_range_are_refused_and_nothing_has_changed(arguments, message):
    backbone = small_masked_lm().backbone
    before = backbone.config, list(backbone.params)
    with pytest.raises(ValueError, match=message):
        backbone.enable_lora(**arguments)
    assert (backbone.config, list(backbone.params)) == before


def test_a_rank_above_that_of_any_change_is_taken_with_one_warning(tmp_path):
    def model():
        return small_masked_lm(dtype="float32").backbone

    backbone = model()
    C = backbone.config.hidden_dim
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model().enable_lora(C)
    with pytest.warns(
        UserWarning, match=rf"rank {C + 1} adds nothing to rank {C}: .* Give a rank of at most {C}"
    ) as found:
        backbone.enable_lora(C + 1)
    assert len(found) == 1
    assert found[0].filename == __file__
    assert backbone.config.lora_rank == C + 1
    refused = model()
    before = refused.config, list(refused.params), refused.trainable_names()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="adds nothing"):
            refused.enable_lora(C + 1, train_head=True)
    assert (refused.config, list(refused.params), refused.trainable_names()) == before
    backbone.save_lora_weights(tmp_path / "adapter")
    other = model()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.load_lora_weights(tmp_path / "adapter")  # the file is as it is
    assert other.config == backbone.config


@pytest.mark.parametrize("backend", ["numpy", pytest.param("native", marks=needs_native)])
@pytest.mark.parametrize("recompute", [False, True])
def test_training_changes_the_factors_alone_and_lowers_the_loss(backend, recompute):
    model = small_masked_lm(dtype="float32", backend=backend)
    model.backbone.enable_lora(4)
    model.compile(optimizer=optimizers.Adam(3e-2), recompute=recompute)
    before = {name: array.copy() for name, array in model.params.items()}
    loss = model.evaluate(TEXTS, verbose=0)[0]
    model.fit(TEXTS, batch_size=3, epochs=20, verbose=0)
    assert model.evaluate(TEXTS, verbose=0)[0] < loss
    assert {name for name in before if not np.array_equal(before[name], model.params[name])} == {
        name for name in before if is_lora(name)
    }


def test_the_head_is_trained_too_when_asked():
    model = small_masked_lm()
    model.backbone.enable_lora(2, train_head=True)
    names = model.backbone.trainable_names()
    assert {name.split(".")[0] for name in names} == {"head", "layers"}
    assert "embeddings.token" not in names


def test_an_optimizer_that_has_worked_on_the_old_parameters_is_told_of():
    model = small_masked_lm()
    model.train_on_batch(TEXTS)
    model.backbone.enable_lora(2)
    for train in (model.train_on_batch, lambda x: model.fit(x, verbose=0)):
        with pytest.raises(ValueError, match=r"call compile\(\), which resets the optimizer"):
            train(TEXTS)
    model.compile(optimizer=model.optimizer)
    model.train_on_batch(TEXTS)
    model.backbone.merge_lora()
    model.compile()
    model.train_on_batch(TEXTS)


def test_a_config_with_a_rank_makes_such_a_model():
    backbone = Backbone(**vars(EVERYWHERE))
    assert backbone.trainable_names() == FACTORS
    assert backbone.params["layers.0.attention.key.lora_a"].any()
    assert not backbone.params["layers.0.attention.key.lora_b"].any()


MEMORY = """
import resource
import numpy as np
from pyroberta import Backbone, MaskedLM

model = MaskedLM(Backbone(
    vocabulary_size=200_000, num_layers=1, num_heads=1, hidden_dim=64, intermediate_dim=64, backend="numpy"
))
model.backbone.enable_lora(4)
features = {"token_ids": [[0, 5, 6, 2]], "mask_positions": [[1]]}
model(features)
peak = lambda: 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
model.train_on_batch(features, [[7]])
print((peak() - before) / model.backbone.params.flat.nbytes)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss has another unit")
def test_sums_and_moments_of_what_is_frozen_take_no_memory():
    """They are there as addresses, three times the vector; pages that nobody writes to cost nothing."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.25


# --- merging and saving ---


def test_merging_gives_the_same_answers_and_an_ordinary_model():
    model = small_masked_lm()
    plain = model.backbone.config
    model.backbone.enable_lora(3, alpha=5.0, targets=LORA_TARGETS)
    stirred(model.backbone)
    expected = model.predict(["The <mask> fox"], verbose=0)
    model.backbone.merge_lora()
    np.testing.assert_allclose(model.predict(["The <mask> fox"], verbose=0), expected, rtol=0, atol=1e-12)
    assert model.backbone.config == plain
    assert model.backbone.trainable_names() == list(model.params)
    with pytest.raises(RuntimeError, match="not enabled"):
        model.backbone.merge_lora()


def test_a_saved_model_has_the_changes_in_its_kernels_and_the_model_keeps_them_apart(tmp_path):
    model = small_masked_lm(dtype="float32")
    model.backbone.enable_lora(3)
    stirred(model.backbone)
    before = model.backbone.params.flat.copy()
    model.save_to_preset(tmp_path / "preset")
    np.testing.assert_array_equal(model.backbone.params.flat, before)
    loaded = MaskedLM.from_preset(tmp_path / "preset")
    assert loaded.backbone.config.lora_rank == 0
    model.backbone.save_to_preset(tmp_path / "encoder")
    encoder = Backbone.from_preset(tmp_path / "encoder")
    kernel = "layers.1.attention.value.kernel"
    np.testing.assert_array_equal(encoder.params[kernel], loaded.params[kernel])
    np.testing.assert_allclose(
        loaded.predict(["The <mask> fox"], verbose=0), model.predict(["The <mask> fox"], verbose=0), rtol=0, atol=1e-5
    )


def test_a_preset_has_no_place_for_the_factors_moments(tmp_path):
    model = small_masked_lm(dtype="float32")
    model.backbone.enable_lora(3)
    model.train_on_batch(TEXTS)
    with pytest.raises(ValueError, match=r"the optimizer's state belongs to LoRA's factors.*merge_lora\(\) first"):
        model.save_to_preset(tmp_path / "preset", include_optimizer=True)
    assert not (tmp_path / "preset").exists()


@pytest.mark.parametrize("enabled", [False, True])
def test_factors_come_back_from_their_file(tmp_path, enabled):
    model = small_masked_lm(dtype="float32")
    model.backbone.enable_lora(3, alpha=5.0, targets=LORA_TARGETS)
    stirred(model.backbone)
    for _ in range(2):  # made, then replaced
        model.backbone.save_lora_weights(tmp_path / "adapter")
    (tmp_path / "adapter" / "README.md").write_text("mine")
    model.backbone.save_lora_weights(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "README.md").exists()

    other = small_masked_lm(dtype="float32")
    if enabled:
        other.backbone.enable_lora(3, alpha=5.0, targets=LORA_TARGETS, seed=8)
    other.backbone.load_lora_weights(tmp_path / "adapter")
    assert other.backbone.config == model.backbone.config
    np.testing.assert_array_equal(other.backbone.params.flat, model.backbone.params.flat)
    assert all(is_lora(name) for name in other.backbone.trainable_names())


@pytest.fixture
def adapter(tmp_path) -> Path:
    backbone = small_masked_lm(dtype="float32").backbone
    backbone.enable_lora(3)
    stirred(backbone)
    backbone.save_lora_weights(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_another_rank_than_the_models_is_refused(adapter):
    backbone = small_masked_lm().backbone
    backbone.enable_lora(2)
    before = backbone.params.flat.copy()
    with pytest.raises(ValueError, match=r"has rank 3, alpha 3 on .*; the model has LoRA with rank 2"):
        backbone.load_lora_weights(adapter)
    np.testing.assert_array_equal(backbone.params.flat, before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA', only 'LORA'"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"modules_to_save": ["lm_head"]}, "whole layers would be part"),
        ({"use_dora": True}, "DoRA"),
        ({"use_rslora": True}, "alpha / √r"),
        ({"rank_pattern": {"query": 4}}, "one rank"),
        ({"r": 0}, "lora_rank|lora_alpha"),
        ({"r": 4}, "is not for this model"),
        ({"lora_alpha": "much"}, "lora_alpha should be a number"),
    ],
)
def test_another_kind_of_adapter_is_refused_and_nothing_has_changed(adapter, changes, message):
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    backbone = small_masked_lm().backbone
    with pytest.raises(ValueError, match=message):
        backbone.load_lora_weights(adapter)
    assert backbone.config.lora_rank == 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.pop(next(iter(t))), "missing"),
        (
            lambda t: t.update({"base_model.model.classifier.weight": np.zeros((2, 2))}),
            "can't be used: here LoRA changes only",
        ),
        (lambda t: t.update({next(iter(t)).replace("layer.0", "layer.9"): np.zeros((3, 8))}), "no such layer"),
    ],
)
def test_tensors_that_do_not_fit_are_named(adapter, damage, message):
    tensors = {name: s.array().copy() for name, s in safetensors_io.read(adapter / "adapter_model.safetensors").items()}
    damage(tensors)
    safetensors_io.write(adapter / "adapter_model.safetensors", tensors)
    with pytest.raises(ValueError, match=message):
        small_masked_lm().backbone.load_lora_weights(adapter)


def test_places_that_hold_something_else_are_left_alone(tmp_path):
    backbone = small_masked_lm().backbone
    with pytest.raises(RuntimeError, match="not enabled"):
        backbone.save_lora_weights(tmp_path / "a")
    backbone.enable_lora(2)
    small_masked_lm(dtype="float32").save_to_preset(tmp_path / "preset")
    with pytest.raises(FileExistsError, match=r"no adapter_config\.json"):
        backbone.save_lora_weights(tmp_path / "preset")
    (tmp_path / "d.lora.h5").mkdir()
    with pytest.raises(FileExistsError, match=r"d\.lora\.h5 is a directory"):
        backbone.save_lora_weights(tmp_path / "d.lora.h5")
    other = small_masked_lm().backbone
    other.enable_lora(2, targets=["query", "key"])
    with pytest.raises(
        ValueError, match=r"only the kernels of query and value, but this model changes that of key too"
    ):
        other.save_lora_weights(tmp_path / "x.lora.h5")
    assert not (tmp_path / "x.lora.h5").exists()
    with pytest.raises(FileNotFoundError, match="no directory"):
        backbone.load_lora_weights(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="no file"):
        backbone.load_lora_weights(tmp_path / "nothing.lora.h5")


def test_kerashubs_factors_are_read_as_the_change_that_they_make(tmp_path):
    import h5py

    config = small_config()
    C, H, D, r = config.hidden_dim, config.num_heads, config.head_dim, 3
    rng = np.random.default_rng(0)
    theirs = {(i, t): (rng.normal(size=(C, H, r)), rng.normal(size=(r, D))) for i in (0, 1) for t in ("query", "value")}
    with h5py.File(tmp_path / "x.lora.h5", "w") as file:
        file["lora/vars/rank"] = r
        for (i, target), (a, b) in theirs.items():
            place = f"lora/{10 * i + {'value': 11, 'query': 13}[target]}/vars"
            file[f"{place}/lora_kernel_a"], file[f"{place}/lora_kernel_b"] = a, b
    backbone = Backbone.from_parts(config, random_params(config, seed=1))
    before = backbone.params
    backbone.load_lora_weights(tmp_path / "x.lora.h5")
    assert (backbone.config.lora_rank, backbone.config.lora_scale) == (H * r, 1.0)
    backbone.merge_lora()
    for (i, target), (a, b) in theirs.items():
        change = np.einsum("chr,rd->chd", a, b).reshape(C, C)
        name = f"layers.{i}.attention.{target}.kernel"
        np.testing.assert_allclose(backbone.params[name], before[name] + change, rtol=1e-12, atol=1e-12)


def changed_kernels(backbone):
    _, params = merged(backbone.config, backbone.params)
    return {name: array for name, array in params.items() if name.endswith(("query.kernel", "value.kernel"))}


@examples(20)
@given(rank=st.integers(1, 5), alpha=st.floats(0.5, 20), targets=st.sampled_from([["query"], ["query", "value"]]))
def test_what_is_written_for_kerashub_changes_the_kernels_alike(tmp_path_factory, rank, alpha, targets):
    config = small_config()
    backbone = Backbone.from_parts(config, random_params(config, seed=1))
    backbone.enable_lora(rank, alpha=alpha, targets=targets)
    with backbone.changing() as params:
        params.flat[:] = random_params(backbone.config, seed=rank).flat
    file = tmp_path_factory.mktemp("written") / "x.lora.h5"
    backbone.save_lora_weights(file)
    again = Backbone.from_parts(config, select_plain(backbone))
    again.load_lora_weights(file)
    assert again.config.lora_rank == config.num_heads * min(config.num_heads * rank, config.head_dim)
    expected = changed_kernels(backbone)
    for name, found in changed_kernels(again).items():
        np.testing.assert_allclose(found, expected[name], rtol=0, atol=1e-5 * np.abs(expected[name]).max())


def select_plain(backbone):
    """The parameters without the factors."""
    plain = Arrays(shapes(small_config()), backbone.params.dtype)
    plain.flat[:] = backbone.params.flat[: plain.flat.size]
    return plain


def test_kerashub_s_own_factors_are_written_with_their_own_rank(tmp_path):
    import h5py

    config = small_config()
    C, H, D, r = config.hidden_dim, config.num_heads, config.head_dim, 1
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "x.lora.h5", "w") as file:
        file["lora/vars/rank"] = r
        for i in (0, 1):
            for k in (11, 13):
                place = f"lora/{10 * i + k}/vars"
                file[f"{place}/lora_kernel_a"] = rng.normal(size=(C, H, r)).astype("f4")
                file[f"{place}/lora_kernel_b"] = rng.normal(size=(r, D)).astype("f4")
    backbone = Backbone.from_parts(config, random_params(config, seed=1))
    backbone.load_lora_weights(tmp_path / "x.lora.h5")
    backbone.save_lora_weights(tmp_path / "y.lora.h5")
    with h5py.File(tmp_path / "x.lora.h5") as x, h5py.File(tmp_path / "y.lora.h5") as y:
        assert y["lora/vars/rank"][()] == r
        for k in (11, 13, 21, 23):
            changes = [
                np.einsum("chr,rd->chd", *(file[f"lora/{k}/vars/lora_kernel_{letter}"][()] for letter in "ab"))
                for file in (x, y)
            ]
            np.testing.assert_allclose(changes[1], changes[0], rtol=1e-5, atol=1e-5)


def test_with_lora_and_merged_are_inverse_while_b_is_zero():
    config = small_config()
    params = random_params(config, seed=4)
    larger_config, larger = with_lora(config, params, 3, None, ("key",))
    plain, smaller = merged(larger_config, larger)
    assert plain == config
    np.testing.assert_array_equal(smaller.flat, params.flat)
    assert merged(config, params) == (config, params)
    assert isinstance(larger_config, RobertaConfig)
