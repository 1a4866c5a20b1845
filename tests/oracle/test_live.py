"""A check of a function of NumPy arrays: it is given the batch and the parameters, and its departures are named."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_models import TEXTS, small_masked_lm, small_tokenizer

from pyroberta import TextClassifier
from pyroberta.oracle import LiveReport, check_callable
from pyroberta.oracle.compare import Report
from pyroberta.oracle.live.sides import padded, traced
from pyroberta.tasks.backbone import Backbone
from pyroberta.text.classifier_preprocessor import TextClassifierPreprocessor

Arrays = dict[str, np.ndarray]
IDS = [[0, 5, 9, 4, 2], [0, 7, 7, 8, 9, 10, 11, 2], [0, 2]]


def erf_gelu(x: np.ndarray) -> np.ndarray:
    return (x * 0.5 * (1.0 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2.0)))).astype(x.dtype)


def tanh_gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def forward(
    batch: Arrays,
    params: Arrays,
    *,
    activation: Callable[[np.ndarray], np.ndarray] = erf_gelu,
    epsilon: float = 1e-5,
    offset: int = 0,
    hidden: float = -1e30,
    scale: bool = True,
) -> Arrays:
    """A masked LM over padded arrays, with mistakes to choose from, in the layer 1 where they are of one layer."""
    mask, H = batch["attention_mask"] > 0, 2
    found: Arrays = {}

    def dense(name: str, x: np.ndarray) -> np.ndarray:
        found[f"{name}.output"] = x @ params[f"{name}.kernel"] + params[f"{name}.bias"]
        return found[f"{name}.output"]

    def norm(name: str, x: np.ndarray, epsilon: float = 1e-5) -> np.ndarray:
        x_hat = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + x.dtype.type(epsilon))
        found[f"{name}.output"] = x_hat * params[f"{name}.gamma"] + params[f"{name}.beta"]
        return found[f"{name}.output"]

    positions = np.minimum(batch["padded_positions"] + offset, len(params["embeddings.position"]) - 1)
    x = params["embeddings.token"][batch["padded_ids"]] + params["embeddings.position"][positions]
    found["embeddings.output"] = x
    x = norm("embeddings.norm", x)
    B, S, C = x.shape
    for i in range(2):
        at = f"layers.{i}.attention"
        q, k, v = (
            dense(f"{at}.{of}", x).reshape(B, S, H, C // H).transpose(0, 2, 1, 3) for of in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 1, 3, 2)
        scores = scores / np.sqrt(x.dtype.type(C // H)) if scale or not i else scores
        scores = np.where(mask[:, None, None, :], scores, x.dtype.type(hidden if i else -1e30))
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        found[f"{at}.probabilities"] = powers / powers.sum(axis=-1, keepdims=True)
        context = (found[f"{at}.probabilities"] @ v).transpose(0, 2, 1, 3).reshape(B, S, C)
        found[f"{at}.context"] = context
        x = norm(f"{at}.norm", x + dense(f"{at}.output", context))
        at = f"layers.{i}.feed_forward"
        found[f"{at}.intermediate"] = x @ params[f"{at}.intermediate.kernel"] + params[f"{at}.intermediate.bias"]
        found[f"{at}.activation"] = (activation if i else erf_gelu)(found[f"{at}.intermediate"])
        found[f"{at}.output"] = found[f"{at}.activation"] @ params[f"{at}.output.kernel"] + params[f"{at}.output.bias"]
        x = norm(f"{at}.norm", x + found[f"{at}.output"], epsilon if i else 1e-5)
    h = norm("head.norm", erf_gelu(dense("head.dense", x)))
    found["loss.logits"] = h @ params["embeddings.token"].T + params["head.bias"]
    return found


def check(texts: Any = TEXTS, precision: str = "float32", padding_side: str = "right", **mistakes: Any) -> LiveReport:
    return check_callable(
        lambda batch, params: forward(batch, params, **mistakes),
        small_masked_lm(dropout=0.1),
        texts,
        precision=precision,
        padding_side=padding_side,
    )


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1], IDS, [*IDS, []]], ids=["texts", "one", "ids", "empty"])
def test_a_function_that_does_as_roberta_does_is_silent(texts: Any, precision: str, side: str) -> None:
    report = check(texts, precision, side)
    assert report.departures == []
    assert len(report.findings) > 25
    assert report.aligned.unknown == []
    assert isinstance(report, Report)
    assert f"tensors compared as {precision}, " in str(report)
    json.dumps(report.to_dict())


@pytest.mark.parametrize(
    ("mistakes", "name", "cause"),
    [
        ({"activation": tanh_gelu}, "layers.1.feed_forward.activation", "GELU by tanh"),
        ({"epsilon": 1e-3}, "layers.1.feed_forward.norm.output", "epsilon is 0.001"),
        ({"offset": 1}, "embeddings.output", "positions begin 1 row too late"),
        ({"scale": False}, "layers.1.attention.probabilities.0", "not divided by the root of D"),
        ({"hidden": 0.0}, "layers.1.attention.probabilities.0", ""),
    ],
    ids=["activation", "epsilon", "positions", "scale", "padding"],
)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_mistake_is_found_where_it_is(mistakes: dict[str, Any], name: str, cause: str, precision: str) -> None:
    report = check(precision=precision, **mistakes)
    first = report.departures[0]
    assert first.name == name
    assert cause in first.cause
    assert {finding.place for finding in report.departures} == {first.place}


def test_the_batch_is_the_traces_and_belongs_to_the_function() -> None:
    model = small_masked_lm(dropout=0.1)
    before = model.backbone.params.flat.copy()
    golden = traced(model, TEXTS)
    seen: dict[str, Any] = {}

    def spoil(batch: Arrays, params: Arrays) -> Arrays:
        seen.update({name: array.copy() for name, array in batch.items()})
        for array in (*batch.values(), *params.values()):
            array[...] = 0
        return {"batch.ids": golden["batch.ids"]}

    check_callable(spoil, model, TEXTS)
    assert np.array_equal(model.backbone.params.flat, before)
    mask = seen["attention_mask"] > 0
    assert np.array_equal(seen["padded_ids"][mask], golden["batch.ids"])
    assert np.array_equal(np.flatnonzero(seen["padded_labels"][mask] != -100), golden["batch.target_rows"])
    for name in ("ids", "positions", "starts", "target_rows", "labels", "weights"):
        assert np.array_equal(seen[name], golden[f"batch.{name}"])
    assert seen["padded_ids"].shape[1] == np.diff(golden["batch.starts"]).max() + 2
    assert golden.settings["config"]["dropout"] == 0.0


@pytest.mark.parametrize("format", ["hf", "keras"])
def test_parameters_come_in_the_names_and_layouts_of_others(format: str) -> None:
    def embed(batch: Arrays, params: Arrays) -> Arrays:
        ids, positions = batch["padded_ids"], batch["padded_positions"]
        if format == "hf":
            token = params["roberta.embeddings.word_embeddings.weight"]
            x = token[ids] + params["roberta.embeddings.position_embeddings.weight"][positions + 2]
            assert params["roberta.encoder.layer.1.intermediate.dense.weight"].shape == (12, 8)
        else:
            x = params["embeddings/token_embedding/embeddings"][ids]
            x = x + params["embeddings/position_embedding/embeddings"][positions]
            assert params["transformer_layer_1/self_attention_layer/query/kernel"].shape == (8, 2, 4)
        return {"embeddings.output": x, **{f"parameters.{name}": array for name, array in params.items()}}

    report = check_callable(embed, small_masked_lm(), TEXTS, parameters=format)
    assert report.departures == []
    assert "embeddings.output" in report.aligned.theirs


def test_a_classifier_has_classes_in_turn_and_gradients_and_names_are_taken() -> None:
    tokenizer = small_tokenizer()
    sizes = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 12, "max_sequence_length": 40}
    backbone = Backbone(vocabulary_size=tokenizer.vocabulary_size(), **sizes)
    classifier = TextClassifier(backbone, 3, TextClassifierPreprocessor(tokenizer, 40))
    golden = traced(classifier, TEXTS)
    assert golden["batch.labels"].tolist() == [0, 1, 2, 0, 1, 2]
    assert traced(classifier, IDS, [2, 2, 1])["batch.labels"].tolist() == [2, 2, 1]

    def theirs(batch: Arrays, params: Arrays) -> Arrays:
        gradient = golden["d.loss.logits"].astype(np.float32)
        return {"mine": gradient, "gradients.head.bias": 2.0 * gradient.sum(axis=0)}

    report = check_callable(theirs, classifier, TEXTS, names={"mine": "d.loss.logits"})
    assert [finding.name for finding in report.departures] == ["gradients.head.bias"]


def test_what_is_left_out_is_among_the_remarks() -> None:
    def one_is_odd(batch: Arrays, params: Arrays) -> Arrays:
        return {**forward(batch, params), "loss.losses": np.zeros((3, 3, 3))}

    report = check_callable(one_is_odd, small_masked_lm(dropout=0.1), TEXTS)
    (remark,) = report.remarks
    assert remark.endswith("Left out: 'loss.losses'")
    assert str(report).endswith(remark)
    assert report.to_dict()["remarks"] == [remark]


def test_padding_is_no_wider_than_the_model() -> None:
    model = small_masked_lm(settings={"sequence_length": 12})
    golden = traced(model, [[0] * 39, [5]])
    assert padded(golden).ids.shape == (2, 40)
    assert padded(golden, spare=0).ids.shape == (2, 39)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"texts": "A dog."}, TypeError, "one text"),
        ({"texts": []}, ValueError, "texts is empty"),
        ({"fn": "mine"}, TypeError, r"fn should be a function, as in check_callable\(fn, model, texts\); got a str"),
        ({"model": TEXTS}, TypeError, r"model should be a MaskedLM or a TextClassifier, as in .*; got a list"),
        ({"texts": [[0, 5], [0.5]]}, TypeError, "sequence 1 should be a text or"),
        ({"texts": [[0, 5], [999]]}, ValueError, "sequence 1 has ids from 999 to 999"),
        ({"texts": [[0] * 41]}, ValueError, "sequence 0 has 41 tokens, and the model reads at most 40"),
        ({"texts": IDS, "sample_weight": [1, 1, 1]}, ValueError, "y and sample_weight can.t be given with sequences"),
        ({"fn": lambda batch, params: [1]}, TypeError, "should return a dict from names to arrays, got a list"),
        ({"fn": lambda batch, params: {"mine": np.ones(2)}}, ValueError, "nothing to compare.*mine.*names="),
        ({"precision": "float16"}, ValueError, "precision should be one of 'float32'"),
        ({"parameters": "torch"}, ValueError, "parameters should be one of 'pyroberta'"),
        ({"padding_side": "both"}, ValueError, "padding_side should be"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    arguments = {"fn": forward, "model": small_masked_lm(), "texts": TEXTS, **changes}
    with pytest.raises(error, match=words):
        check_callable(**arguments)


def test_texts_need_a_tokenizer() -> None:
    model = small_masked_lm()
    model.preprocessor = None
    with pytest.raises(ValueError, match="there is no tokenizer for the texts: give tokenizer="):
        check_callable(forward, model, TEXTS)
