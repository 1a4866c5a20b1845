"""A trace has everything that passed, under its place's name, and what it says of each tensor is so."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections import Counter
from pathlib import Path

import by_hand
import numpy as np
import pytest
from small_models import TEXTS, gradients_of, random_params, small_masked_lm
from traces import CONFIGS, LOSS, TRACES, parts_of, traced

from pyroberta import TextClassifier, TextClassifierPreprocessor, optimizers, schedules
from pyroberta.data.examples import numbered
from pyroberta.formats.safetensors_io import read_with_metadata
from pyroberta.ops import REFERENCE, Key
from pyroberta.oracle import call_bounds
from pyroberta.oracle.bounds import Arithmetic
from pyroberta.oracle.calls import Recomputed
from pyroberta.oracle.conformance.case import Case
from pyroberta.oracle.golden import Entry, Trace, TraceFile, read_trace
from pyroberta.oracle.names import names_of
from pyroberta.oracle.plain import PLAIN
from pyroberta.oracle.trace import trace, trace_updates
from pyroberta.training.state import TrainState
from pyroberta.training.step import Trained, train_step


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
            for kind, arrays in (("updated", params), ("slots.m", optimizer.m), ("slots.v", optimizer.v)):
                np.testing.assert_allclose(found[f"{prefix}{kind}.{one}"], arrays[one], rtol=1e-9, atol=1e-11)


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
    optimizer = optimizers.AdamW(0.1, global_clipnorm=0.05)
    trace_updates(single, config, params, parts_of(config), LOSS, optimizer, precision=None)
    names = [name.removeprefix("bound.") for name in found if name.startswith("bound.")]
    assert len(names) > 50
    for name in names:
        assert found[f"bound.{name}"].shape == found[name].shape == single[name].shape
        assert (found[f"bound.{name}"] >= 0).all()
    first = "embeddings.norm.output"  # of exact inputs but for the parameters' own rounding
    assert np.abs(single[first] - found[first]).max() < 1e-5


OPTIMIZERS = {
    "adamw": lambda: optimizers.AdamW(0.1, weight_decay=0.5, global_clipnorm=0.05),
    "adam": lambda: optimizers.Adam(schedules.Linear(0.1, 10, warmup_steps=2), clipvalue=0.003),
    "torchadamw": lambda: optimizers.TorchAdamW(0.1, weight_decay=0.5, clipnorm=0.01),
    "torchadam": lambda: optimizers.TorchAdam(0.1),
}


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(("optimizer", "name"), list(zip(OPTIMIZERS, CONFIGS, strict=True)))
def test_what_follows_the_ops_stays_within_its_bounds(optimizer: str, name: str, precision: str):
    """Updates in float32, each of their tensors beside what float64 makes of the ones that it came from."""
    config, found, exact, steps = CONFIGS[name], Trace(), Trace(), 2
    params = random_params(config, 0).astype(np.float32)
    given = {"steps": steps, "precision": precision}
    trace_updates(found, config, params, parts_of(config, True), LOSS, OPTIMIZERS[optimizer](), **given)
    trace_updates(exact, config, params.astype(float), parts_of(config, True), LOSS, OPTIMIZERS[optimizer](), **given)
    kinds = Counter()
    for key, entry in found.entries.items():
        is_of_loss = entry.op == "cross_entropy" and "denominator" in entry.inputs
        is_copy = entry.op == "sum" and entry.value == "parameters"
        if (entry.op in PLAIN and not is_of_loss) or entry.op in ("", "argmax") or entry.value == "bound" or is_copy:
            continue
        prefix = f"step_{entry.step}." if entry.step else ""
        limit = found[f"{prefix}bound.{key.removeprefix(prefix)}"]
        arguments = {of: found[one].astype(float) for of, one in entry.inputs.items()} | dict(entry.others)
        expected = Recomputed(found, [key], entry).values(arguments, {})[entry.value]
        assert limit.shape == found[key].shape
        assert (np.abs(found[key] - expected) <= limit).all(), key
        if entry.op != "clip_scale":  # none is wider than a few units in the last place of what goes into it
            size = max(np.abs(found[one]).max(initial=0.0) for one in entry.inputs.values())
            assert limit.max() <= 1e-4 * max(size, np.abs(expected).max(), 0.1), key
        if not prefix and "key.bias" not in key:  # whose true gradient is 0
            assert exact[f"bound.{key}"].max() == pytest.approx(limit.max(), rel=0.1), key
        kinds[entry.op] += 1
    assert set(kinds) - {"clip_scale"} == {"cross_entropy", "share", "add", "sum", "clip", "update"}
    assert kinds["update"] == 3 * steps * len(params)


TRAINABLE = {
    "all": "",
    "none below layer 1": r"^layers\.1|^head",
    "the embeddings' norm": r"^embeddings\.norm",
    "the head": "^head",
    "the bias": r"^head\.bias",
    "LoRA": r"lora_[ab]$|^head",
}


@pytest.mark.parametrize("trainable", TRAINABLE)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_tensor_that_is_computed_has_a_bound(name: str, trainable: str):
    params = random_params(CONFIGS[name], 0)
    found = traced(CONFIGS[name], trainable=[one for one in params if re.search(TRAINABLE[trainable], one)])
    without = {key for key in found if f"bound.{key}" not in found and not key.startswith("bound.")}
    for key in without:
        entry = found.entries[key]
        is_copy = entry.op in PLAIN and set(entry.inputs) == {"dy"}
        assert is_copy or entry.op in ("", "argmax"), key


def test_a_bound_of_a_sum_in_a_file_is_that_in_memory(tmp_path):
    config, found = CONFIGS["masked_lm"], traced(CONFIGS["masked_lm"], cut=True)
    with TraceFile(tmp_path / "golden.safetensors") as sink:
        optimizer = optimizers.AdamW(0.1, global_clipnorm=0.05)
        trace_updates(sink, config, random_params(config, 0), parts_of(config, True), LOSS, optimizer)
        assert np.array_equal(sink["batch.ids"], found["batch.ids"])
    again = read_trace(tmp_path / "golden.safetensors")
    assert list(again) == list(found)
    assert all(np.array_equal(again[one], found[one]) for one in found)


def test_bounds_of_updates_are_made_some_numbers_at_a_time(monkeypatch):
    monkeypatch.setattr(call_bounds, "PIECE", 7)
    found = traced(CONFIGS["masked_lm"], steps=2)
    monkeypatch.undo()
    whole = traced(CONFIGS["masked_lm"], steps=2)
    assert list(found) == list(whole)
    assert all(np.array_equal(found[name], whole[name]) for name in whole)


def test_bounds_of_an_update_take_little_more_memory_than_they_have_themselves():
    names, numbers = ("updated", "slots.m", "slots.v"), {"rate": 0.1, "step": 0, "decays": True}
    entries = {f"{of}.x": Entry("update", "x", of) for of in names}
    array = np.full(1 << 21, 0.5)
    settings = {"optimizer": optimizers.AdamW(0.1).get_config()}
    of = call_bounds.CallBounds(Arithmetic("float32"), settings)
    tracemalloc.start()
    try:
        found = of.of_update(entries, dict.fromkeys("wgmv", array.__getitem__), numbers, array.shape)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert list(found) == list(entries)
    assert peak < 5 * array.nbytes


def test_an_optimizer_of_ones_own_has_no_bound():
    class Plain(optimizers.Optimizer):
        def update_range(self, ops, rate, step, params, grads, slots, scale, decay, is_finite):
            params -= rate * scale * grads

    found = traced(CONFIGS["masked_lm"], optimizer=Plain(0.1))
    assert np.isinf(found["bound.updated.head.bias"]).all()
    assert np.isfinite(found["bound.clipped.head.bias"]).all()
    assert found.entries["updated.head.bias"].formula == "the result of Plain"


# --- what is said of each ---------------------------------------------------------------------------------------------


def sections(page: Path) -> set[str]:
    titles = re.findall(r"^#+ +(.+?) *$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_tensor_has_a_formula_or_a_meaning_and_a_page(name: str):
    found, docs = traced(CONFIGS[name], steps=2), Path(__file__).parents[2] / "docs"
    for page in {entry.page for entry in found.entries.values()}:
        file, _, section = page.partition("#")
        assert (docs / file).is_file()
        assert file.endswith(".md")
        assert not section or section in sections(docs / file), page
    for key, entry in found.entries.items():
        assert entry.formula, key
        assert "\n" not in entry.formula, key


@pytest.mark.parametrize("name", CONFIGS)
def test_a_parameters_page_is_that_of_the_op_that_takes_it(name: str):
    found = TRACES[name]
    for key in found:
        entry = found.entries[key]
        if entry.op in PLAIN and not key.startswith(("d.", "bound.")):
            for one in entry.inputs.values():
                if one.startswith("parameters.") and (one, entry.op) != (
                    "parameters.embeddings.token",
                    "cross_entropy",
                ):
                    assert found.entries[one].page == f"ops/{entry.op}.md", one


def test_gradients_have_the_formulas_of_their_ops():
    entries = TRACES["masked_lm"].entries
    assert entries["d.layers.0.attention.query.kernel"].formula == "xᵀ @ dy"
    assert entries["d.layers.0.attention.query.output"].formula == "dy"
    assert entries["d.loss.losses"].formula == "weights / denominator, 0 where that is 0"
    assert entries["d.layers.0.feed_forward.x.added"].formula == "x + y"
    assert entries["updated.head.bias"].formula.startswith("w - rate · weight_decay · w - rate · c_2 / c_1 · m / (")
    assert entries["slots.v.head.bias"].formula == "v + (g² - v)(1 - beta_2)"


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
    optimizer.exclude_from_weight_decay(var_names=["bias$", "norm"])
    params = random_params(config, 0)
    before = params.flat.copy()
    found = Trace()
    trace_updates(found, config, params, parts_of(config), LOSS, optimizer, precision=None)
    assert np.array_equal(params.flat, before)
    optimizer.build(params)
    model = Trained(REFERENCE, config, LOSS, optimizer, list(params), params.zeros_like(), all_rows=True)
    train_step(model, TrainState(params, optimizer.slots), parts_of(config))
    for one in params:
        for kind, arrays in (("updated", params), ("slots.m", optimizer.m), ("slots.v", optimizer.v)):
            assert np.array_equal(found[f"{kind}.{one}"], arrays[one]), f"{kind}.{one}"


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


@pytest.mark.parametrize("parts", [2, 4, 6])
def test_parts_make_the_update_of_the_whole_batch(parts: int):
    model = small_masked_lm(dropout=0.2)
    whole, found = (trace(model, TEXTS, parts=n, precision=None) for n in (1, parts))
    for name in whole:
        if name.startswith(("gradients.", "updated.", "loss.denominator")):
            np.testing.assert_allclose(found[name], whole[name], rtol=1e-9, atol=1e-12, err_msg=name)
    numbers = ["", *(f"_{n}" for n in range(2, parts + 1))]
    assert f"batch_{parts + 1}.ids" not in found
    for of in ("ids", "positions", "labels", "weights", "numbers", "unmasked_ids"):
        pieces = [found[f"batch{number}.{of}"] for number in numbers]
        assert max(map(len, pieces)) > 0
        assert np.array_equal(np.concatenate(pieces), whole[f"batch.{of}"])
    counts = [len(found[f"batch{number}.starts"]) - 1 for number in numbers]
    assert max(counts) - min(counts) <= 1
    shares = sum(float(found[f"loss.share{number}"]) for number in numbers)
    assert shares == pytest.approx(float(whole["loss.share"]), rel=1e-12)


def test_parts_are_those_of_a_training_that_accumulates():
    model = small_masked_lm(dropout=0.2)
    found = trace(model, TEXTS, parts=3, precision=None)
    batches = [
        model._reader().examples(TEXTS, None, None).take(np.arange(a, a + 2)).masked(Key.of_evaluation())
        for a in (0, 2, 4)
    ]
    params = model.params.astype("float64")
    sums, _ = gradients_of(params, model.backbone.config, numbered(batches), model.loss)
    for name in sums:
        np.testing.assert_allclose(found[f"gradients.{name}"], sums[name], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(
    ("parts", "message"), [(0, "at least 1, got 0"), (7, "parts must be at most 6, the number of sequences")]
)
def test_impossible_parts_are_refused(parts: int, message: str):
    with pytest.raises(ValueError, match=message):
        trace(small_masked_lm(), TEXTS, parts=parts)


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({}, 1),
        ({"mask_selection_rate": 0.6, "random_token_rate": 0.2, "mask_selection_length": 5}, 2),
        ({"mask_selection_rate": 0.4, "count": "bernoulli"}, 1),
        ({"mask_selection_rate": 0.5, "whole_words": True, "mask_selection_length": 9}, 3),
    ],
)
def test_the_masks_can_be_drawn_again_from_what_the_trace_has(settings: dict, parts: int):
    """By what was written from the README of the conformance suite alone."""
    found = trace(small_masked_lm(settings=settings), TEXTS, parts=parts, precision=None)
    key = [int(word) for word in found["masking.key"]]
    for number in ("", *(f"_{n}" for n in range(2, parts + 1))):
        inputs = {
            "ids": found[f"batch{number}.unmasked_ids"],
            "starts": found[f"batch{number}.starts"],
            "words": found[f"batch{number}.words"],
            "ordinary": found["masking.ordinary"],
        }
        lengths = np.diff(inputs["starts"]).tolist()
        streams = zip(found[f"batch{number}.numbers"].tolist(), lengths, strict=True)
        words = [word for stream, length in streams for word in by_hand.philox(key, stream, 3 * length)]
        inputs["draws"] = np.array([(word >> 11) * 2.0**-53 for word in words]).reshape(-1, 3)
        assert np.array_equal(inputs["draws"], found[f"batch{number}.draws"])
        again = by_hand.mask(Case("mask/of/trace", "", "", found.settings["masking"], {}, inputs))
        assert np.array_equal(again["masked_ids"], found[f"batch{number}.ids"])
        assert np.array_equal(again["target_rows"], found[f"batch{number}.target_rows"])
        assert np.array_equal(again["labels"], found[f"batch{number}.labels"])
        assert not np.array_equal(again["masked_ids"], inputs["ids"])


def test_the_masks_of_dropout_can_be_drawn_again_from_the_key_and_the_numbers():
    found = trace(small_masked_lm(dropout=0.3), TEXTS, parts=2, precision=None, steps=2)
    for step in ("", "step_1."):
        seed, place = (int(word) for word in found[f"{step}dropout.key"])
        for part in ("", "_2"):
            numbers, starts = found[f"{step}batch{part}.numbers"], found[f"{step}batch{part}.starts"]
            for site, name in ((0, "embeddings.dropout"), (5, "layers.1.attention.norm")):
                keep = found[f"{step}{name}{part}.keep"]
                for number, start, stop in zip(numbers.tolist(), starts, starts[1:], strict=False):
                    one = keep[start:stop]
                    words = by_hand.philox([seed, place + site], number, one.size // 2)
                    halves = [half for word in words for half in (word & 0xFFFFFFFF, word >> 32)]
                    assert np.array_equal(one.ravel(), np.array(halves) >= round(0.3 * 2**32))


def test_what_was_masked_before_has_no_masking():
    model = small_masked_lm()
    features, labels, weights = model.preprocessor(TEXTS)
    found = trace(model, features, labels, weights, precision=None)
    assert not any("masking" in name or "unmasked" in name for name in found)
    assert "masking" not in found.settings


def test_a_classifier_is_traced_with_its_labels():
    base = small_masked_lm(dropout=0.0, dtype="float64")
    model = TextClassifier(base.backbone, 3, TextClassifierPreprocessor(base.preprocessor.tokenizer, 40))
    found = trace(model, TEXTS, [0, 1, 2, 0, 1, 2], precision=None)
    assert found["loss.logits"].shape == (6, 3)
    assert float(found["loss.share"]) == pytest.approx(
        model.evaluate(TEXTS, [0, 1, 2, 0, 1, 2], verbose=0)[0], rel=1e-9
    )
    assert not any("masking" in name or "unmasked" in name for name in found)


def test_the_model_comes_first():
    with pytest.raises(TypeError, match=r"as in trace\(model, texts\); got a list"):
        trace(TEXTS, small_masked_lm())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "golden"),
        (lambda file: file.write_text("x"), "not a safetensors file"),
        (lambda file: small_masked_lm().save_to_preset(file.parent / "p"), ""),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path, change, message: str):
    file = tmp_path / "golden.safetensors"
    TRACES["untied"].save(file)
    change(file)
    if not message:
        file, message = tmp_path / "p" / "model.safetensors", "is not a trace: its metadata has no 'pyroberta_trace'"
    with pytest.raises(ValueError, match=message):
        read_trace(file)
