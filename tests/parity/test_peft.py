"""LoRA beside peft, on transformers' model with the same weights; files go both ways. keras-hub's file is read too."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from small_models import random_params, small_config

from pyroberta import Backbone
from pyroberta.model.batch import pack_padded
from pyroberta.model.config import LORA_TARGETS
from pyroberta.model.gradients import Gradients
from pyroberta.model.model import model_backward, model_forward
from pyroberta.model.parameters import is_lora
from pyroberta.ops import REFERENCE
from pyroberta.presets import hf_writer
from pyroberta.presets.lora import _theirs
from pyroberta.presets.writing import Contents

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings(
        "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"
    ),  # peft on transformers
]

IDS = np.array([[0, 5, 9, 12, 2], [0, 7, 7, 8, 2]])
MASKED = np.array([[1, 3], [2, 3]])
LABELS = np.array([[4, 6], [7, 8]])


def ours() -> Backbone:
    """In float64, with factors that are not zero."""
    config = small_config(dropout=0.0, max_sequence_length=8)
    backbone = Backbone.from_parts(config, random_params(config, seed=1), backend="numpy")
    backbone.enable_lora(3, alpha=5.0, targets=LORA_TARGETS)
    rng = np.random.default_rng(2)
    with backbone.changing() as params:
        for name, array in params.items():
            if is_lora(name):
                array[...] = (0.3 * rng.standard_normal(array.shape)).astype(np.float32)  # the file's precision
    return backbone


def theirs(backbone: Backbone, directory: Path):
    """transformers' model of the frozen weights, in float64."""
    import torch
    from transformers import RobertaForMaskedLM

    base = ours()
    with base.changing() as params:
        params.flat[:] = backbone.params.flat
        for name, array in params.items():
            if is_lora(name):
                array[...] = 0.0
    base.merge_lora()
    hf_writer.write(directory, Contents(base.config, base.params), dtype=np.float64)
    return RobertaForMaskedLM.from_pretrained(directory, dtype=torch.float64, attn_implementation="eager").eval()


def step(backbone: Backbone):
    batch = pack_padded(IDS, np.ones_like(IDS), MASKED, LABELS, vocabulary_size=13, max_sequence_length=8)
    grads = Gradients(backbone.params.zeros_like(), backbone.trainable_names())
    (losses, _), cache = model_forward(REFERENCE, backbone.params, backbone.config, batch, None, grads.lowest)
    model_backward(REFERENCE, grads, np.full_like(losses, 1.0 / len(losses)), cache)
    return losses.mean(), grads.sums


def test_an_adapter_saved_here_has_the_loss_and_the_gradients_in_peft(tmp_path):
    import torch
    from peft import PeftModel

    backbone = ours()
    backbone.save_lora_weights(tmp_path / "adapter")
    peer = PeftModel.from_pretrained(theirs(backbone, tmp_path / "base"), tmp_path / "adapter", is_trainable=True)
    peer = peer.double()
    labels = np.full_like(IDS, -100)
    np.put_along_axis(labels, MASKED, LABELS, axis=1)
    loss = peer(input_ids=torch.tensor(IDS), labels=torch.tensor(labels)).loss
    loss.backward()

    found, grads = step(backbone)
    assert abs(found - loss.item()) <= 1e-12 * abs(loss.item())
    trained = {name.replace(".default", ""): p.grad.numpy().T for name, p in peer.named_parameters() if p.requires_grad}
    names = backbone.trainable_names()
    assert set(trained) == {_theirs(name) for name in names}
    largest = max(np.abs(grads[name]).max() for name in names)
    for name in names:
        np.testing.assert_allclose(grads[name], trained[_theirs(name)], rtol=0, atol=1e-12 * largest)


@pytest.mark.parametrize("targets", [["query", "value"], ["query", "key", "value", "attention.output.dense"]])
def test_an_adapter_saved_by_peft_has_its_loss_here(tmp_path, targets):
    import torch
    from peft import LoraConfig, get_peft_model

    backbone = ours()
    base = theirs(backbone, tmp_path / "base")
    peer = get_peft_model(base, LoraConfig(r=4, lora_alpha=6, target_modules=targets)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in peer.parameters():
            if parameter.requires_grad:
                parameter.normal_(0.0, 0.3, generator=generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the base model's config, which is not on the hub
        peer.save_pretrained(tmp_path / "adapter")
    labels = np.full_like(IDS, -100)
    np.put_along_axis(labels, MASKED, LABELS, axis=1)
    with torch.no_grad():
        expected = peer(input_ids=torch.tensor(IDS), labels=torch.tensor(labels)).loss.item()

    fresh = Backbone.from_preset(tmp_path / "base", dtype="float64", backend="numpy")
    plain, _ = step(fresh)
    fresh.load_lora_weights(tmp_path / "adapter")
    assert (fresh.config.lora_rank, fresh.config.lora_alpha) == (4, 6.0)
    found, _ = step(fresh)
    assert abs(found - plain) > 1e-3
    assert abs(found - expected) <= 1e-12 * abs(expected)


# argv: the file, where the arrays go
KERASHUB = """
import sys
import numpy as np, torch, keras, keras_hub

keras.utils.set_random_seed(3)
backbone = keras_hub.models.RobertaBackbone(
    vocabulary_size=13, num_layers=3, num_heads=2, hidden_dim=8, intermediate_dim=12, max_sequence_length=7, dropout=0.0
)
backbone.save_to_preset(sys.argv[2] + "-preset")
backbone.enable_lora(3)
for i, weight in enumerate(backbone.weights):
    if "lora_kernel" in weight.path:
        weight.assign(0.5 * keras.random.normal(weight.shape, seed=i))
backbone.save_lora_weights(sys.argv[1])
ids = np.array([[0, 5, 9, 12, 2], [0, 7, 7, 8, 2]])
with torch.no_grad():
    outputs = backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)}, training=False).numpy()
np.save(sys.argv[2], outputs)
"""


def test_kerashubs_file_has_its_hidden_states_here(tmp_path):
    command = [sys.executable, "-c", KERASHUB, str(tmp_path / "x.lora.h5"), str(tmp_path / "outputs.npy")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": "torch"})
    assert done.returncode == 0, done.stderr[-3000:]
    backbone = Backbone.from_preset(f"{tmp_path / 'outputs.npy'}-preset")
    expected = np.load(tmp_path / "outputs.npy")
    assert np.abs(backbone({"token_ids": IDS}) - expected).max() > 0.01
    backbone.load_lora_weights(tmp_path / "x.lora.h5")
    np.testing.assert_allclose(backbone({"token_ids": IDS}), expected, rtol=0, atol=1e-5)


# argv: a preset, the file, where the outputs go
KERASHUB_READS = """
import sys
import numpy as np, torch, keras_hub

backbone = keras_hub.models.RobertaBackbone.from_preset(sys.argv[1])
backbone.load_lora_weights(sys.argv[2])
ids = np.array([[0, 5, 9, 12, 2], [0, 7, 7, 8, 2]])
with torch.no_grad():
    np.save(sys.argv[3], backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)}, training=False).numpy())
"""


@pytest.mark.parametrize("rank", [1, 3])
def test_a_file_from_here_has_its_hidden_states_in_kerashub(tmp_path, rank):
    sizes = {"num_layers": 3, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 12, "max_sequence_length": 7}
    backbone = Backbone(vocabulary_size=13, dropout=0.0, **sizes)
    backbone.save_to_preset(tmp_path / "preset", format="keras")
    plain = backbone({"token_ids": IDS})
    backbone.enable_lora(rank, alpha=3.0)
    with backbone.changing() as params:
        for i, name in enumerate(name for name in params if "lora_" in name):
            params[name][...] = 0.7 * np.random.default_rng(i).standard_normal(params[name].shape)
    backbone.save_lora_weights(tmp_path / "x.lora.h5")
    places = [str(tmp_path / name) for name in ("preset", "x.lora.h5", "outputs.npy")]
    command = [sys.executable, "-c", KERASHUB_READS, *places]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": "torch"})
    assert done.returncode == 0, done.stderr[-3000:]
    expected = backbone({"token_ids": IDS})
    assert np.abs(expected - plain).max() > 0.01
    np.testing.assert_allclose(np.load(places[2]), expected, rtol=0, atol=1e-5)
