"""fairseq's checkpoints, written by torch itself: the logits are those of transformers' model with the same weights."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyroberta import Backbone
from pyroberta.model.batch import pack
from pyroberta.model.model import model_logits
from pyroberta.ops import REFERENCE

pytestmark = pytest.mark.parity

V, T = 30, 12
# transformers' names, as expressions, and fairseq's.
TO_FAIRSEQ = (
    (r"roberta\.embeddings\.word_embeddings", "encoder.sentence_encoder.embed_tokens"),
    (r"roberta\.embeddings\.position_embeddings", "encoder.sentence_encoder.embed_positions"),
    (r"roberta\.embeddings\.LayerNorm", "encoder.sentence_encoder.layernorm_embedding"),
    (r"roberta\.encoder\.layer\.", "encoder.sentence_encoder.layers."),
    (r"attention\.self\.(q|k|v)\w+", r"self_attn.\1_proj"),
    (r"attention\.output\.dense", "self_attn.out_proj"),
    (r"attention\.output\.LayerNorm", "self_attn_layer_norm"),
    (r"intermediate\.dense", "fc1"),
    (r"output\.dense", "fc2"),
    (r"output\.LayerNorm", "final_layer_norm"),
    (r"^lm_head\.decoder", "lm_head"),
    (r"^lm_head", "encoder.lm_head"),
)


def peer(dtype: str) -> Any:
    import torch
    from transformers import RobertaConfig, RobertaForMaskedLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
    model = RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=V,
            **sizes,
            max_position_embeddings=T + 2,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            attn_implementation="eager",
        )
    )
    model = model.to(getattr(torch, dtype)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(0.0, 0.3)
            if re.search(r"(LayerNorm|layer_norm)\.weight", name):
                weight += 1.0
            if "token_type" in name:
                weight.zero_()  # fairseq has none
    return model


def state(model: Any, published: bool) -> dict[str, Any]:
    """The weights under fairseq's names: of today, or of the models that were published."""
    import torch

    found: dict[str, Any] = {}
    for name, weight in model.state_dict().items():
        if "token_type" in name or "position_ids" in name:
            continue
        for pattern, theirs in TO_FAIRSEQ:
            name = re.sub(pattern, theirs, name)
        found[name] = weight
    if published:
        for name in [name for name in found if "q_proj" in name]:
            three = [found.pop(name.replace("q_proj", f"{letter}_proj")) for letter in "qkv"]
            found[name.replace("q_proj.", "in_proj_")] = torch.cat(three)
        found = {
            re.sub("^encoder", "decoder", name).replace("layernorm_embedding", "emb_layer_norm"): weight
            for name, weight in found.items()
        }
    else:
        found["encoder.sentence_encoder.version"] = torch.tensor([3.0])
    return found


def save(directory: Path, model: Any, published: bool, zipped: bool) -> None:
    import torch

    arguments = {
        "arch": "roberta_base", "encoder_layers": 2, "encoder_embed_dim": 12, "encoder_ffn_embed_dim": 20,
        "encoder_attention_heads": 3, "max_positions": T, "tokens_per_sample": T, "activation_fn": "gelu",
        "dropout": 0.1, "attention_dropout": 0.1, "adam_betas": "(0.9, 0.98)", "lr": [0.0006], "save_dir": None,
    }  # fmt: skip
    parts: dict[str, Any] = {"args": argparse.Namespace(**arguments)}
    if not published:
        parts = {"args": None, "cfg": {"model": {"_name": "roberta_base", **arguments}, "task": {"_name": "masked_lm"}}}
    torch.save(
        {**parts, "model": state(model, published)}, directory / "model.pt", _use_new_zipfile_serialization=zipped
    )


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_the_logits_are_those_of_transformers(
    tmp_path: Path, published: bool, zipped: bool, dtype: str, tolerance: float
) -> None:
    import torch

    model = peer(dtype)
    save(tmp_path, model, published, zipped)
    backbone = Backbone.from_preset(tmp_path, dtype=dtype, backend="numpy")
    ids = np.random.default_rng(0).integers(3, V, (3, T))
    with torch.no_grad():
        expected = model(torch.from_numpy(ids)).logits.numpy()
    batch = pack(list(ids))
    found = model_logits(REFERENCE, backbone.params, backbone.config, batch, np.arange(batch.num_tokens))
    assert found.dtype == expected.dtype
    assert np.linalg.norm(found.reshape(expected.shape) - expected) <= tolerance * np.linalg.norm(expected)
