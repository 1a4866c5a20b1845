"""A trace has everything that passed, under its place's name, and what it says of each tensor is so."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from small_models import TEXTS, gradients_of, random_batch, random_params, small_config, small_masked_lm

from pyroberta import TextClassifier, TextClassifierPreprocessor, optimizers
from pyroberta.data.examples import numbered
from pyroberta.formats.safetensors_io import read_with_metadata
from pyroberta.model.batch import take
from pyroberta.ops import REFERENCE
from pyroberta.oracle.golden import Trace, TraceFile, read_trace
from pyroberta.oracle.names import names_of
from pyroberta.oracle.plain import PLAIN
from pyroberta.oracle.trace import trace, trace_updates
from pyroberta.training.losses import SparseCategoricalCrossentropy
from pyroberta.training.state import TrainState
from pyroberta.training.step import Trained, train_step

LOSS = SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
CONFIGS = {
    "masked_lm": small_config(dropout=0.1),
    "untied": small_config(dropout=0.0, tie_embeddings=False),
    "lora": small_config(dropout=0.1, lora_rank=2, lora_targets=("query", "output")),
    "classifier": small_config(dropout=0.1, num_classes=3, classifier_dropout=0.2, lora_rank=2),
}


def parts_of(config, cut: bool = False):
    whole = random_batch(config, [3, 1, 6], seed=1, masked_share=0.5)
    whole = replace(whole, weights=np.linspace(0.5, 1.0, len(whole.labels)))
    if config.num_classes:
        whole = replace(whole, target_rows=whole.starts[:-1], labels=np.array([0, 2, 1]), weights=np.ones(3))
    return numbered([take(whole, np.arange(2)), take(whole, np.arange(2, 3))]) if cut else [whole]


def traced(config, cut: bool = False, **options) -> Trace:
    found = Trace()
    optimizer = options.pop("optimizer", None) or optimizers.AdamW(0.1, global_clipnorm=0.05)
    trace_updates(found, config, random_params(config, 0), parts_of(config, cut), LOSS, optimizer, **options)
    return found


TRACES = {name: traced(config) for name, config in CONFIGS.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_op_of_every_layer_is_there_in_order(name: str):
    found, config = TRACES[name], CONFIGS[name]
    for i in range(config.num_layers):
        layer = f"layers.{i}"
        wanted = [
            *(f"{layer}.attention.{part}.output" for part in ("key", "value", "query")),
            *(f"{layer}.attention.{of}.0" for of in ("scores", "probabilities", "dropped")),
            f"{layer}.attention.context",
            f"{layer}.attention.output.output",
            *(f"{layer}.attention.norm.{of}" for of in ("dropped", "sum", "mean", "variance", "x_hat", "output")),
            *(f"{layer}.feed_forward.{of}" for of in ("intermediate", "activation", "output")),
            *(f"{layer}.feed_forward.norm.{of}" for of in ("dropped", "sum", "mean", "variance", "x_hat", "output")),
        ]
        order = [list(found).index(one) for one in wanted]
        assert order == sorted(order)
        assert all(f"d.{one}" in found for one in wanted if not one.endswith((".mean", ".variance", ".dropped")))
    assert "loss.losses" in found
    assert list(found).index("embeddings.output") < list(found).index("layers.0.attention.key.output")


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_said_of_an_op_is_so(name: str):
    """Its values are those of the plain op on the tensors that are named as its inputs."""
    found, checked = TRACES[name], 0
    for key, entry in found.entries.items():
        if key.startswith(("d.", "bound.")) or entry.op not in PLAIN:
            continue
        plain = PLAIN[entry.op]
        arguments = []
        for of in plain.arguments:
            if of in entry.inputs:
                arguments.append(found[entry.inputs[of]])
            else:
                value = entry.others.get(of)
                arguments.append(tuple(value) if isinstance(value, list) else value)
        value = plain.forward(*arguments)[entry.value]
        if isinstance(value, list):
            value = value[int(key.rpartition(".")[2])]
        np.testing.assert_allclose(found[key], value, rtol=1e-12, atol=1e-13, err_msg=key)
        checked += 1
    assert checked > 60


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_update_is_the_trainers(name: str, cut: bool):
    config, steps = CONFIGS[name], 3
    params, parts = random_params(config, 0), parts_of(config, cut)
    optimizer = optimizers.AdamW(0.1, global_clipnorm=0.05)
    optimizer.build(params)
    found = traced(config, cut, steps=steps, precision=None)
    model = Trained(REFERENCE, config, LOSS, optimizer, list(params), params.zeros_like())
    state = TrainState(params, optimizer.slots)
    for step in range(steps):
        results = train_step(model, state, parts)
        prefix = f"step_{step}." if step else ""
        share = sum(float(result.weights @ result.losses) for result in results) / results[0].denominator
        shares = [found[f"{prefix}loss.share"], *([found[f"{prefix}loss.share_2"]] if cut else [])]
        assert sum(map(float, shares)) == pytest.approx(share, rel=1e-12)
        for one in params:
            for what, arrays in (("updated", params), ("slots.m", optimizer.m), ("slots.v", optimizer.v)):
                np.testing.assert_allclose(found[f"{prefix}{what}.{one}"], arrays[one], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_gradients_of_the_ops_add_up_to_the_parameters_gradients(name: str):
    config, found = CONFIGS[name], TRACES[name]
    sums, _ = gradients_of(random_params(config, 0), config, parts_of(config), LOSS)
    for one in sums:
        np.testing.assert_allclose(found[f"gradients.{one}"], sums[one], rtol=0, atol=1e-12)
        terms = found.entries[f"gradients.{one}"].inputs.values()
        np.testing.assert_allclose(sum(found[term] for term in terms), sums[one], rtol=0, atol=1e-12, err_msg=one)
    tied = list(found.entries["gradients.embeddings.token"].inputs.values())
    assert tied == [*(["d.loss.table"] if name in ("masked_lm", "lora") else []), "d.embeddings.tokens"]
    norm = np.sqrt(sum((found[f"gradients.{one}"] ** 2).sum() for one in sums))
    clipped = np.sqrt(sum((found[f"clipped.{one}"] ** 2).sum() for one in sums))
    assert norm > 0.05
    assert clipped == pytest.approx(0.05)


def test_all_rows_of_the_last_layer_are_there_and_change_no_gradient():
    config, found = CONFIGS["masked_lm"], TRACES["masked_lm"]
    last = f"layers.{config.num_layers - 1}"
    assert found[f"{last}.feed_forward.norm.output"].shape == (10, config.hidden_dim)
    assert len(found["head.target_rows.output"]) == len(found["batch.labels"]) < 10


def test_each_result_has_a_bound_within_which_float32_stays():
    config = CONFIGS["masked_lm"]
    found, single = TRACES["masked_lm"], Trace()
    params = random_params(config, 0).astype(np.float32)
    trace_updates(single, config, params, parts_of(config), LOSS, optimizers.Adam(), precision=None)
    names = [name.removeprefix("bound.") for name in found if name.startswith("bound.")]
    assert len(names) > 50
    for name in names:
        assert found[f"bound.{name}"].shape == found[name].shape == single[name].shape
        assert (found[f"bound.{name}"] >= 0).all()
    first = "embeddings.norm.output"  # of exact inputs but for the parameters' own rounding
    assert np.abs(single[first] - found[first]).max() < 1e-5


def test_a_trace_is_kept_in_a_file_and_read_again(tmp_path):
    found = TRACES["lora"]
    found.save(tmp_path / "golden.safetensors")
    again = read_trace(tmp_path / "golden.safetensors")
    assert list(again) == list(found)
    for name in found:
        assert again[name].dtype == found[name].dtype
        assert np.array_equal(again[name], found[name])
        assert again[name].shape == found[name].shape
        assert again.entries[name].op == found.entries[name].op
        assert dict(again.entries[name].inputs) == dict(found.entries[name].inputs)
    assert again.settings["config"]["lora_rank"] == 2


@pytest.mark.parametrize("name", CONFIGS)
def test_a_file_has_the_names_of_other_implementations(tmp_path, name: str):
    TRACES[name].save(tmp_path / "golden.safetensors")
    _, remarks = read_with_metadata(tmp_path / "golden.safetensors")
    entries = json.loads(remarks["pyroberta_trace"])["tensors"]
    assert list(entries) == list(TRACES[name])
    for one, entry in entries.items():
        assert entry.get("names", {}) == names_of(one, CONFIGS[name].head)
    assert entries["layers.1.attention.query.output"]["names"] == {
        "hf": "roberta.encoder.layer.1.attention.self.query",
        "keras": "transformer_layer_1/self_attention_layer/query",
        "fairseq": "encoder.sentence_encoder.layers.1.self_attn.q_proj",
    }


def test_a_trace_that_goes_into_a_file_as_it_arises_is_the_same(tmp_path):
    config, file = CONFIGS["masked_lm"], tmp_path / "golden.safetensors"
    with TraceFile(file) as sink:
        trace_updates(
            sink, config, random_params(config, 0), parts_of(config), LOSS, optimizers.AdamW(0.1, global_clipnorm=0.05)
        )
        assert not file.exists()
    again = read_trace(file)
    assert all(np.array_equal(again[name], TRACES["masked_lm"][name]) for name in TRACES["masked_lm"])


def test_a_failed_trace_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError, match="stop"), TraceFile(tmp_path / "golden.safetensors"):
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("clip", ["clipnorm", "clipvalue", "global_clipnorm", None])
def test_the_update_clips_and_decays_as_the_optimizer_does(clip: str | None):
    config = CONFIGS["masked_lm"]
    optimizer = optimizers.AdamW(0.1, weight_decay=0.5, **({clip: 0.01} if clip else {}))
    optimizer.exclude_from_weight_decay(["bias$", "norm"])
    params = random_params(config, 0)
    before = params.flat.copy()
    found = Trace()
    trace_updates(found, config, params, parts_of(config), LOSS, optimizer, precision=None)
    assert np.array_equal(params.flat, before)
    optimizer.build(params)
    model = Trained(REFERENCE, config, LOSS, optimizer, list(params), params.zeros_like(), all_rows=True)
    train_step(model, TrainState(params, optimizer.slots), parts_of(config))
    for one in params:
        for what, arrays in (("updated", params), ("slots.m", optimizer.m), ("slots.v", optimizer.v)):
            assert np.array_equal(found[f"{what}.{one}"], arrays[one]), f"{what}.{one}"


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_is_traced_on_texts_and_stays_as_it_is(dtype: str, steps: int):
    model = small_masked_lm(dtype=dtype, dropout=0.2)
    model.fit(TEXTS, verbose=0)
    before = model.params.flat.copy(), model.optimizer.m.flat.copy(), model.optimizer.iterations
    found = trace(model, TEXTS, steps=steps)
    assert found["embeddings.output"].dtype == np.float64
    assert np.array_equal(model.params.flat, before[0])
    assert np.array_equal(model.optimizer.m.flat, before[1])
    assert model.optimizer.iterations == before[2]
    assert found["batch.ids"].size > 0


def test_a_classifier_is_traced_with_its_labels():
    base = small_masked_lm(dropout=0.0, dtype="float64")
    model = TextClassifier(base.backbone, 3, TextClassifierPreprocessor(base.preprocessor.tokenizer, 40))
    found = trace(model, TEXTS, [0, 1, 2, 0, 1, 2], precision=None)
    assert found["loss.logits"].shape == (6, 3)
    assert float(found["loss.share"]) == pytest.approx(
        model.evaluate(TEXTS, [0, 1, 2, 0, 1, 2], verbose=0)[0], rel=1e-9
    )


def test_the_model_comes_first():
    with pytest.raises(TypeError, match=r"as in trace\(model, texts\); got a list"):
        trace(TEXTS, small_masked_lm())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "golden"),
        (lambda file: file.write_text("x"), "no safetensors file"),
        (lambda file: small_masked_lm().save_to_preset(file.parent / "p"), ""),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path, change, message: str):
    file = tmp_path / "golden.safetensors"
    TRACES["untied"].save(file)
    change(file)
    if not message:
        file, message = tmp_path / "p" / "model.safetensors", "is no trace: its metadata has no 'pyroberta_trace'"
    with pytest.raises(ValueError, match=message):
        read_trace(file)
