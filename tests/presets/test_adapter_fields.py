"""PEFT's adapters: what each field of their config does, which layers they change, and the files that they lie in."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from small_models import gradients, random_batch, small_config
from small_pickles import state, tensor, zipped

from pyroberta import Backbone
from pyroberta.backends import get_ops
from pyroberta.model.parameters import is_lora
from pyroberta.presets import hf_writer, lora
from pyroberta.presets.writing import Contents

CONFIG = small_config(num_layers=3)
RANK, ALPHA, C = 2, 6.0, CONFIG.hidden_dim
ROOT = "base_model.model.roberta.encoder.layer"
Tensors = dict[str, np.ndarray]


def factors(layers: Any = range(3), modules: tuple[str, ...] = ("query", "value"), root: str = ROOT) -> Tensors:
    rng = np.random.default_rng(0)
    found = {}
    for i in layers:
        for module in modules:
            for factor, shape in (("A", (RANK, C)), ("B", (C, RANK))):
                name = f"{root}.{i}.attention.self.{module}.lora_{factor}.weight"
                found[name] = rng.standard_normal(shape).astype(np.float32)
    return found


def said(**changes: Any) -> dict[str, Any]:
    return {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": ["query", "value"], **changes}


def adapter(directory: Path, tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "adapter_config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(dict(tensors), directory / "adapter_model.safetensors")
    return directory


# --- every field


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"init_lora_weights": "pissa"},
            "init_lora_weights is 'pissa', only True can be read: PEFT changes the model's",
        ),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_niter_4'"),
        ({"init_lora_weights": "olora"}, "path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights is 'loftq'"),
        ({"init_lora_weights": ["x"]}, "init_lora_weights is "),
        ({"trainable_token_indices": [3]}, r"trainable_token_indices is \[3\]"),
        ({"trainable_token_indices": {"word_embeddings": [3]}}, "rows of the token embedding would be part"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "the model would have more layers"),
        ({"alora_invocation_tokens": [1, 2]}, "after an invocation alone"),
        ({"use_qalora": True}, "QALoRA"),
        ({"target_parameters": ["x"]}, "target_parameters is"),
        ({"megatron_config": {"a": 1}}, "megatron_config is"),
        ({"lora_bias": True}, "the change has no bias here"),
        ({"use_the_force": True}, "'use_the_force' is True, an unknown field"),
        ({"rate_of_change": 0.5}, "'rate_of_change' is 0.5"),
    ],
)
def test_a_field_that_changes_what_is_computed_is_refused(tmp_path: Path, changes: Any, message: str) -> None:
    directory = adapter(tmp_path / "a", factors(), said(**changes))
    with pytest.raises(ValueError, match=message):
        lora.read(directory, CONFIG)


@pytest.mark.parametrize(
    "changes",
    [
        {"init_lora_weights": "gaussian"}, {"init_lora_weights": False}, {"init_lora_weights": "eva"},
        {"use_the_force": False}, {"use_the_force": None}, {"forces": []}, {"task_type": "SEQ_CLS"},
        {"inference_mode": True, "base_model_name_or_path": "roberta-base", "revision": "main"}, {"peft_version": "1"},
        {"megatron_core": "megatron.core", "qalora_group_size": 16, "runtime_config": {"ephemeral_gpu_offload": False}},
    ],
)  # fmt: skip
def test_a_field_that_changes_nothing_is_read(tmp_path: Path, changes: Any) -> None:
    _, found = lora.read(adapter(tmp_path / "a", factors(), said(**changes)), CONFIG)
    _, expected = lora.read(adapter(tmp_path / "b", factors(), said()), CONFIG)
    assert all(np.array_equal(found[name], expected[name]) for name in {**found, **expected})


def test_dropout_of_the_factors_is_said_to_be_left_out(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"lora_dropout is 0\.1\. It only affects training"):
        lora.read(adapter(tmp_path / "a", factors(), said(lora_dropout=0.1)), CONFIG)


def test_no_field_is_decided_about_twice() -> None:
    fields = [*lora.FOLLOWED, *lora.NO_EFFECT, *(key for key, _, _ in lora.ONLY)]
    assert len(fields) == len(set(fields))


@pytest.mark.parity
def test_every_field_of_peft_s_config_is_decided_about() -> None:
    import dataclasses

    from peft import LoraConfig

    decided = {*lora.FOLLOWED, *lora.NO_EFFECT, *(key for key, _, _ in lora.ONLY)}
    fields = {field.name for field in dataclasses.fields(LoraConfig)}
    assert fields - decided == set(), "add each to FOLLOWED, ONLY or NO_EFFECT of presets/lora.py"
    written = json.loads(json.dumps(LoraConfig(target_modules=["query"]).to_dict(), default=sorted))
    lora._refuse_other_adapters(Path("adapter_config.json"), written)


# --- layers


def changed(found: Mapping[str, np.ndarray]) -> set[tuple[int, str]]:
    return {lora._place(name) for name, array in found.items() if array.any()}


@pytest.mark.parametrize(
    ("changes", "layers", "modules"),
    [
        ({"layers_to_transform": [1]}, [1], ("query", "value")),
        ({"layers_to_transform": 1}, [1], ("query", "value")),
        ({"layers_to_transform": [2, 0], "layers_pattern": "layer"}, [0, 2], ("query", "value")),
        ({"layers_to_transform": [0], "layers_pattern": ["h", "layer"]}, [0], ("query", "value")),
        ({"layers_to_transform": []}, [0, 1, 2], ("query", "value")),
        ({"target_modules": ["0.attention.self.query", "2.attention.self.query"]}, [0, 2], ("query",)),
        ({"target_modules": None, "layers_to_transform": [1]}, [1], ("key",)),
        ({"exclude_modules": [f"layer.1.attention.self.{m}" for m in ("query", "value")]}, [0, 2], ("query", "value")),
    ],
)  # fmt: skip
def test_the_layers_that_an_adapter_leaves_out_stay_what_they_are(
    tmp_path: Path, changes: Any, layers: list[int], modules: tuple[str, ...]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config, found = lora.read(adapter(tmp_path / "a", factors(layers, modules), said(**changes)), CONFIG)
    assert config.lora_targets == modules
    assert changed(found) == {(i, module) for i in layers for module in modules}
    everywhere = {lora._place(name) for name in found}
    assert everywhere == {(i, module) for i in range(3) for module in modules}


def test_a_layer_that_is_left_out_has_no_gradient(tmp_path: Path) -> None:
    backbone = _random()
    backbone.load_lora_weights(adapter(tmp_path / "a", factors([1]), said(layers_to_transform=[1])))
    batch = random_batch(backbone.config, [5, 3], seed=1)
    names = backbone.trainable_names()
    _, sums = gradients(get_ops("numpy"), backbone.params, backbone.config, batch, names)
    assert {lora._place(name) for name in names if sums[name].any()} == {(1, "query"), (1, "value")}


def _random() -> Backbone:
    return Backbone(**{name: getattr(CONFIG, name) for name in SIZES}, dropout=0.0, dtype="float64", backend="numpy")


SIZES = ("vocabulary_size", "num_layers", "num_heads", "hidden_dim", "intermediate_dim", "max_sequence_length")


@pytest.mark.parametrize(
    ("changes", "layers", "modules"),
    [
        ({"target_modules": r".*layer\.[02]\.attention\.self\.query"}, [0, 2], ("query",)),
        ({"target_modules": r".*\.(query|value)"}, [0, 1, 2], ("query", "value")),
        ({"target_modules": r"^(roberta\.)?encoder.layer.(?:0|1).attention.self.[kv]\w+$"}, [0, 1], ("key", "value")),
        ({"target_modules": ["query"], "exclude_modules": r".*\.[1-9]\..*"}, [0], ("query",)),
    ],
)  # fmt: skip
def test_a_pattern_is_followed(tmp_path: Path, changes: Any, layers: list[int], modules: tuple[str, ...]) -> None:
    _, found = lora.read(adapter(tmp_path / "a", factors(layers, modules), said(**changes)), CONFIG)
    assert changed(found) == {(i, module) for i in layers for module in modules}
    with pytest.raises(ValueError, match=r"do not select"):
        lora.read(adapter(tmp_path / "b", factors(range(3), ("query", "key", "value")), said(**changes)), CONFIG)


EVIL = (
    "(.*)*" * 40 + "x", "(.+)+[a-e]", "(.|.)" * 40 + "[a-e]", ".*" * 9 + "[a-e]", "(.?){99}", "(((x{99}){99}){99})",
    "(" * 9999, "()" * 999 + ".*.*", r"(?=.*(.+)+)", r"(\w)\1", "(a?|b)*", "(.?.?)" * 30,
)  # fmt: skip


@pytest.mark.parametrize("pattern", EVIL)
def test_a_pattern_that_could_take_forever_is_not_run_which_is_said(tmp_path: Path, pattern: str) -> None:
    file = adapter(tmp_path / "a", factors([0, 2], ("query",)), said(target_modules=pattern))
    with pytest.warns(
        UserWarning, match="a pattern that is not evaluated.* are used, in 2 layers for query. Other modules"
    ):
        _, found = lora.read(file, CONFIG)
    assert changed(found) == {(0, "query"), (2, "query")}


def without(*parts: str) -> Tensors:
    return {name: array for name, array in factors().items() if not all(part in name for part in parts)}


@pytest.mark.parametrize(
    ("tensors", "changes", "message"),
    [
        (without("layer.1"), {}, r"layers.1.attention.query.lora_a is missing, the model's shape \(8, 2\)"),
        (without("layer.1", "lora_B"), {"target_modules": r".*\.(query|value)"}, "layers.1.*query.lora_b is missing"),
        (factors(), {"target_modules": ".*query"}, "do not select: 'base_model.*self.value.lora_A.weight'"),
        (factors(), {"target_modules": "all-linear"}, "layers.0.attention.key.lora_a is missing"),
        (factors(), {"target_modules": "*query"}, r"'\*query' is not a regular expression: nothing to repeat"),
        (
            factors(),
            {"target_modules": ".*query", "layers_to_transform": [1]},
            r"transform is \[1\] beside a",
        ),
        (factors(), {"layers_to_transform": [0, 2]}, r"do not select: 'base_model.*layer\.1\..*lora_A.weight'"),
        (factors(), {"exclude_modules": ["value"]}, "do not select: 'base_model.*self.value.lora_A.weight'"),
        (factors(), {"target_modules": ["query"]}, "do not select: 'base_model.*self.value.lora_A.weight'"),
        (factors(), {"layers_to_transform": [3]}, r"layers_to_transform is \[3\]; .* from 0 to 2 in this model"),
        (factors(), {"layers_to_transform": [True]}, "layers_to_transform is"),
        (factors(), {"layers_to_transform": "1"}, "layers_to_transform is '1'"),
        (
            factors([1]),
            {"layers_to_transform": [1], "layers_pattern": "h"},
            "layers_pattern is 'h'; .* the name 'layer'",
        ),
        (factors(), {"target_modules": [1]}, r"target_modules should be a list of names or a pattern, got \[1\]"),
        (factors(), {"exclude_modules": {}}, "exclude_modules should be a list of names or a pattern, got {}"),
        (factors(range(4)), {}, "layers.3.attention.query.lora_a is .* the model's shape has no such layer"),
    ],
)
def test_factors_that_the_config_does_not_call_for_are_named(
    tmp_path: Path, tensors: Tensors, changes: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        lora.read(adapter(tmp_path / "a", tensors, said(**changes)), CONFIG)


# --- files and names


@pytest.mark.parametrize(
    "name",
    [
        lambda n: "_orig_mod." + n,
        lambda n: "module._orig_mod." + n,
        lambda n: n.replace("base_model.model.", "base_model.model._orig_mod."),
        lambda n: n.replace("roberta.", ""),
    ],
)
def test_what_wrappers_put_in_front_of_all_names_is_left_out(tmp_path: Path, name: Callable[[str], str]) -> None:
    _, expected = lora.read(adapter(tmp_path / "a", factors(), said()), CONFIG)
    tensors = {name(n): array for n, array in factors().items()}
    _, found = lora.read(adapter(tmp_path / "b", tensors, said()), CONFIG)
    assert all(np.array_equal(found[n], expected[n]) for n in {**found, **expected})


def test_an_adapter_is_read_from_a_pickle_too(tmp_path: Path) -> None:
    _, expected = lora.read(adapter(tmp_path / "a", factors(), said()), CONFIG)
    directory = adapter(tmp_path / "b", factors(), said())
    (directory / "adapter_model.safetensors").unlink()
    body = state(**{name: tensor(str(i), array.shape) for i, (name, array) in enumerate(factors().items())})
    data = {str(i): array.tobytes() for i, array in enumerate(factors().values())}
    zipped(directory / "adapter_model.bin", body, data)
    _, found = lora.read(directory, CONFIG)
    assert all(np.array_equal(found[n], expected[n]) for n in {**found, **expected})
    (directory / "adapter_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no adapter_model\.safetensors"):
        lora.read(directory, CONFIG)


def test_an_adapter_further_below_is_pointed_at(tmp_path: Path) -> None:
    adapter(tmp_path / "checkpoint-500", factors(), said())
    with pytest.raises(
        FileNotFoundError, match=r"has no adapter_config\.json\. There may be a model inside: give .*point-500'"
    ):
        lora.read(tmp_path, CONFIG)


# --- beside peft

FEED_FORWARDS = [f"{i}.{module}" for i in range(3) for module in ("intermediate.dense", "output.dense")]
FEED_FORWARDS.append("lm_head.dense")


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": ["query", "value"], "layers_to_transform": [1]},
        {"target_modules": ["query", "dense"], "exclude_modules": FEED_FORWARDS},
        {"target_modules": r".*layer\.[02]\.attention\.self\.(key|value)"},
        {"target_modules": ["query"], "init_lora_weights": "gaussian"},
        {"target_modules": ["query"], "init_lora_weights": "orthogonal", "r": 2},
    ],
)  # fmt: skip
def test_what_is_followed_is_peft_s(tmp_path: Path, changes: dict[str, Any]) -> None:
    difference, scale = _difference(tmp_path, changes)
    assert difference <= 1e-10 * scale


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_why_other_initial_values_are_refused(tmp_path: Path, init: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"target_modules": ["query", "value"], "init_lora_weights": init, "r": 2}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match=f"init_lora_weights is '{init}'"):
        _difference(tmp_path / "a", changes, "float32")
    monkeypatch.setattr(lora, "ONLY", [row for row in lora.ONLY if row[0] != "init_lora_weights"])
    monkeypatch.setattr(lora, "FOLLOWED", (*lora.FOLLOWED, "init_lora_weights"))
    difference, scale = _difference(tmp_path / "b", changes, "float32")
    assert difference > 1e-3 * scale


def _difference(directory: Path, changes: dict[str, Any], dtype: str = "float64") -> tuple[float, float]:
    """Between the logits of PEFT's model and of ours with the adapter that it saved, and how large they are."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import RobertaForMaskedLM

    backbone = _random()
    rng = np.random.default_rng(4)
    with backbone.changing() as params:
        for name, array in params.items():
            array[...] = 0.4 * rng.standard_normal(array.shape) + (1.0 if name.endswith(".gamma") else 0.0)
    base_directory = directory / "base"
    hf_writer.write(base_directory, Contents(backbone.config, backbone.params), dtype=np.float64)

    def base() -> Any:
        made = RobertaForMaskedLM.from_pretrained(
            base_directory, dtype=getattr(torch, dtype), attn_implementation="eager"
        )
        return made.eval()

    torch.manual_seed(0)
    peer = get_peft_model(base(), LoraConfig(**{"r": 4, "lora_alpha": 6, **changes}), autocast_adapter_dtype=False)
    with torch.no_grad():
        for name, parameter in peer.named_parameters():
            if "lora_" in name:
                parameter += 0.3 * torch.randn(parameter.shape, dtype=parameter.dtype)
    peer.save_pretrained(directory / "adapter")
    again = PeftModel.from_pretrained(base(), directory / "adapter", autocast_adapter_dtype=False).eval()
    ids = np.array([[0, 5, 9, 12, 2], [0, 7, 7, 8, 2]])
    with torch.no_grad():
        expected = again(input_ids=torch.tensor(ids), output_hidden_states=True).hidden_states[-1].numpy()
    backbone.load_lora_weights(directory / "adapter")
    assert any(backbone.params[name].any() for name in backbone.params if is_lora(name))
    found = backbone({"token_ids": ids})
    return float(np.abs(found - expected).max()), float(np.abs(expected).max())
