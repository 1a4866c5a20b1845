"""What hooks take from a living transformers model aligns to a trace of the same model and batch, and is close."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import random_batch
from small_presets import HF_SIZES

from pyroberta import optimizers
from pyroberta.formats.directory import Directory
from pyroberta.model.batch import pack
from pyroberta.oracle.foreign import align, names_of, read_tensors
from pyroberta.oracle.golden import Trace
from pyroberta.oracle.trace import trace_updates
from pyroberta.presets import hf, kerashub
from pyroberta.training.losses import SparseCategoricalCrossentropy

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the peers' own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

LENGTHS = [5, 9, 3]
# argv: where the preset goes, and the arrays: what each layer's call gives, and each variable, by its path
KERAS = """
import sys
import numpy as np, torch, keras, keras_hub

keras.utils.set_random_seed(3)
backbone = keras_hub.models.RobertaBackbone(
    vocabulary_size=30, num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=24, max_sequence_length=20,
)
model = keras_hub.models.RobertaMaskedLM(backbone)
for weight in model.weights:
    weight.assign(weight + 0.3 * keras.random.normal(weight.shape, dtype="float32"))
model.save_to_preset(sys.argv[1])
found = {weight.path: weight.value.detach().numpy().copy() for weight in model.weights}

def watch(layer):
    call = layer.call
    def watched(*args, **kwargs):
        result = call(*args, **kwargs)
        if layer.path and isinstance(result, torch.Tensor):
            found.setdefault(layer.path, result.detach().numpy())  # the table is asked once more for the logits
        return result
    layer.call = watched

for layer in model._flatten_layers(include_self=False):
    if "Input" not in type(layer).__name__:
        watch(layer)
ids = np.array([[0, 5, 9, 4, 2, 1, 1, 1], [0, 7, 7, 8, 9, 10, 2, 1]])
mask = (ids != 1).astype("int32")
positions = np.array([[1, 3, 0], [2, 4, 5]])  # the first has two, and one that is of no token
model({"token_ids": ids, "padding_mask": mask, "mask_positions": positions}, training=False)
np.savez(sys.argv[2], token_ids=ids, padding_mask=mask, **found)
"""


def dumped(directory: Path, side: str, **changes: Any) -> tuple[Trace, dict[str, np.ndarray]]:
    """A trace in float64, and everything that hooks took in float32: outputs, their gradients, parameters', slots."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {**HF_SIZES, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **changes}
    model = transformers.RobertaForMaskedLM(transformers.RobertaConfig(**sizes, attn_implementation="eager"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.save_pretrained(directory)

    config = hf.read_config(Directory(directory))
    params = hf.read_params(Directory(directory), config, np.float64)
    batch = random_batch(config, LENGTHS, seed=3)
    batch.ids[batch.ids == config.pad_id] = 5  # torch gives its row no gradient
    golden = Trace()
    loss = SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    trace_updates(golden, config, params, [batch], loss, optimizers.AdamW(0.01, weight_decay=0.0), precision=None)

    B, S = len(LENGTHS), max(LENGTHS) + 2
    ids, mask, labels = np.full((B, S), config.pad_id), np.zeros((B, S), int), np.full((B, S), -100)
    all_labels = np.full(batch.num_tokens, -100)
    all_labels[batch.target_rows] = batch.labels
    for b, (start, stop) in enumerate(zip(batch.starts, batch.starts[1:], strict=False)):
        at = slice(S - (stop - start), S) if side == "left" else slice(0, stop - start)
        ids[b, at], mask[b, at], labels[b, at] = batch.ids[start:stop], 1, all_labels[start:stop]
    positions = config.pad_id + np.cumsum(mask, axis=1) * mask
    found: dict[str, Any] = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}

    def keep(name: str) -> Any:
        def hook(_: Any, __: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else getattr(output, "logits", output)
            if isinstance(first, torch.Tensor):
                found[name] = first
                if first.requires_grad:
                    first.retain_grad()

        return hook

    for name, module in model.named_modules():
        if name not in ("", "roberta", "roberta.encoder"):
            module.register_forward_hook(keep(name))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, eps=1e-7, weight_decay=0.0)
    result = model(
        input_ids=found["input_ids"], attention_mask=found["attention_mask"], position_ids=torch.tensor(positions),
        labels=torch.tensor(labels), output_attentions=True, output_hidden_states=True,
    )  # fmt: skip
    result.loss.backward()
    found |= {"loss": result.loss, "logits": result.logits}
    found |= {f"attentions.{i}": one for i, one in enumerate(result.attentions)}
    found |= {f"hidden_states.{i}": one for i, one in enumerate(result.hidden_states)}
    kept = {name: x for name, x in found.items() if x.requires_grad and x.retains_grad}
    found |= {f"{name}.grad": x.grad for name, x in kept.items() if x.grad is not None}
    for name, parameter in model.named_parameters():
        found[name] = parameter.detach().clone()
        if parameter.grad is not None:
            found[f"gradients.{name}"] = parameter.grad
    optimizer.step()
    for name, parameter in model.named_parameters():
        if parameter.grad is None:  # lm_head.bias of an untied model
            continue
        found |= {f"{slot}.{name}": optimizer.state[parameter][slot] for slot in ("exp_avg", "exp_avg_sq")}
        found[f"updated.{name}"] = parameter
    return golden, {name: x.detach().numpy() for name, x in found.items()}


def bound(name: str) -> float:
    return 1e-2 if name.startswith("updated.") else 1e-4  # torch's Adam adds its epsilon elsewhere


def distance(theirs: np.ndarray, ours: np.ndarray) -> float:
    return float(np.abs(theirs - ours).max(initial=0) / max(1e-3, np.abs(ours).max(initial=0)))


@pytest.mark.parametrize("knows", ["mask", "ids", "nothing"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_what_hooks_take_aligns_and_is_close(tmp_path: Path, side: str, knows: str) -> None:
    golden, theirs = dumped(tmp_path, side)
    for name, key in (("attention_mask", "mask"), ("input_ids", "ids")):
        if knows != key:
            del theirs[name]
    found = align(golden, theirs)
    for name, x in found.theirs.items():
        assert x.shape == golden[name].shape
        assert distance(x, golden[name]) < bound(name), (name, found.names[name], found.notes[name])
    wanted = {name for name in golden if "hf" in names_of(name) and names_of(name)["hf"] in theirs}
    assert wanted <= found.theirs.keys()
    assert len([name for name in found.theirs if name.startswith("layers.1.")]) > 10
    assert len([name for name in found.theirs if name.startswith("d.layers.1.")]) > 7
    pads = [note for note in found.notes.values() if "padded rows removed" in note]
    words = {"mask": "by their mask", "ids": f"on the {side}, by their ids", "nothing": f"on the {side}"}[knows]
    assert pads
    assert all(words in note for note in pads)
    assert all(re.search(r"token_type|dropout\.grad|(word|position)_embeddings\.grad$", one) for one in found.unknown)


def test_what_torch_saved_is_read(tmp_path: Path) -> None:
    import torch

    golden, theirs = dumped(tmp_path, "left", tie_word_embeddings=False)
    torch.save({name: torch.tensor(x) for name, x in theirs.items()}, tmp_path / "theirs.pt")
    again = read_tensors(tmp_path / "theirs.pt")
    assert again.keys() == theirs.keys()
    found = align(golden, again)
    assert "gradients.head.decoder" in found.theirs
    assert [name for name, x in found.theirs.items() if distance(x, golden[name]) >= bound(name)] == []


def test_what_keras_layers_give_aligns_and_is_close(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KERAS, str(tmp_path / "preset"), str(tmp_path / "theirs.npz")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": "torch"})
    assert done.returncode == 0, done.stderr[-3000:]
    directory, golden = Directory(tmp_path / "preset"), Trace()
    config = replace(kerashub.read_config(directory), dropout=0.0, attention_dropout=0.0)
    params = kerashub.read_params(directory, config, np.float64)
    batch = pack([np.array([0, 5, 9, 4, 2]), np.array([0, 7, 7, 8, 9, 10, 2])])
    batch = replace(batch, target_rows=np.array([1, 3, 7, 9, 10]), labels=np.arange(5), weights=np.ones(5))
    loss = SparseCategoricalCrossentropy(from_logits=True)
    trace_updates(golden, config, params, [batch], loss, optimizers.Adam(), precision=None)
    theirs = read_tensors(tmp_path / "theirs.npz")
    found = align(golden, theirs)
    for name, x in found.theirs.items():
        assert distance(x, golden[name]) < 1e-4, (name, found.names[name], found.notes[name])
    assert found.unknown == []
    named = {name for name in golden if "keras" in names_of(name) and not re.match(r"d\.|grad|clip|slots|upd", name)}
    missing = named - found.theirs.keys()
    assert all(re.search(r"dropout|probabilities", name) for name in missing), missing  # they have no path there
    assert found.notes["loss.logits"] == "target rows read from mask slots"
