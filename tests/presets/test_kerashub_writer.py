"""KerasHub's presets as they are written: everything comes back, and what can't be held is refused or warned of."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import TEXTS, random_params, small_config, small_masked_lm
from small_presets import load
from strategies import examples, seeds

from pyroberta import Backbone, MaskedLM, Tokenizer, optimizers
from pyroberta.formats.directory import Directory
from pyroberta.formats.encoding import to_bfloat16
from pyroberta.model.parameters import is_backbone, shapes
from pyroberta.presets import hf, kerashub, kerashub_writer
from pyroberta.presets.writing import Contents
from pyroberta.text.preprocessor import MaskedLMPreprocessor

SETTINGS = {
    "sequence_length": 30, "mask_selection_rate": 0.25, "mask_selection_length": 5, "truncate": "waterfall",
    "mask_token_rate": 0.7, "random_token_rate": 0.2, "count": "bernoulli", "whole_words": True, "seed": 4,
}  # fmt: skip


def model(**changes) -> MaskedLM:
    return small_masked_lm(settings=SETTINGS, dtype="float32", backend="numpy", **changes)


def files(directory: Path) -> list[str]:
    return sorted(str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file())


def test_the_files_are_those_that_kerashub_writes(tmp_path):
    model().save_to_preset(tmp_path / "p", format="keras")
    assert files(tmp_path / "p") == [
        "assets/tokenizer/merges.txt", "assets/tokenizer/vocabulary.json", "config.json", "metadata.json",
        "model.weights.h5", "preprocessor.json", "task.json", "task.weights.h5", "tokenizer.json",
    ]  # fmt: skip


@pytest.mark.parametrize("size", ["5GB", None, "9KB", "1B"])
def test_a_model_comes_back_bit_for_bit_with_its_settings_and_tokenizer(tmp_path, size):
    before = model()
    before.save_to_preset(tmp_path / "p", format="keras", max_shard_size=size)
    after = MaskedLM.from_preset(tmp_path / "p", backend="numpy")
    assert after.backbone.config == before.backbone.config
    assert after.backbone.params.flat.tobytes() == before.backbone.params.flat.tobytes()
    assert after.preprocessor.get_config() == before.preprocessor.get_config()
    assert after.preprocessor.tokenizer._arguments() == before.preprocessor.tokenizer._arguments()
    shards = [name for name in files(tmp_path / "p") if name.startswith("model_")]
    assert len(shards) > 1 if size in ("9KB", "1B") else not shards


@examples(10)
@given(
    seed=seeds, layers=st.integers(1, 12), heads=st.integers(1, 3), head_dim=st.integers(1, 3),
    other=st.tuples(*[st.integers(1, 6)] * 3), ids=st.permutations(range(5)), limit=st.integers(1, 4000),
)  # fmt: skip
def test_a_model_of_any_size_comes_back(seed, layers, heads, head_dim, other, ids, limit, tmp_path_factory):
    V, F, T = other
    named = dict(zip(("start_id", "pad_id", "end_id"), ids, strict=False))
    config = small_config(
        vocabulary_size=V + 4, num_layers=layers, num_heads=heads, hidden_dim=heads * head_dim, intermediate_dim=F,
        max_sequence_length=T, **named,
    )  # fmt: skip
    params = random_params(config, seed, np.float32)
    directory = tmp_path_factory.mktemp("any") / "p"
    kerashub_writer.write(directory, Contents(config, params), max_shard_size=f"{limit}B")
    assert kerashub.read_config(Directory(directory)) == config
    assert kerashub.read_params(Directory(directory), config).flat.tobytes() == params.flat.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("format", ["hf", "keras"])
def test_other_widths_round_once(tmp_path, dtype, format):
    before = model()
    before.save_to_preset(tmp_path / "p", format=format, dtype=dtype)
    found = load(tmp_path / "p")[1]
    flat = before.backbone.params.flat
    wanted = (
        (to_bfloat16(flat).astype(np.uint32) << 16).view(np.float32)
        if dtype == "bfloat16"
        else flat.astype(dtype).astype(np.float32)
    )
    assert found.flat.tobytes() == wanted.tobytes()
    config = (tmp_path / "p" / "config.json").read_text()
    assert f'"{dtype}"' in config


def test_hf_to_keras_to_hf_leaves_every_number(tmp_path):
    first = model()
    with first.backbone.changing() as params:
        params.flat[:] = random_params(first.backbone.config, 3, np.float32).flat
    first.save_to_preset(tmp_path / "1")
    MaskedLM.from_preset(tmp_path / "1").save_to_preset(tmp_path / "2", format="keras")
    MaskedLM.from_preset(tmp_path / "2").save_to_preset(tmp_path / "3")
    assert files(tmp_path / "1") == files(tmp_path / "3")
    for name in files(tmp_path / "1"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes(), name


def test_one_format_replaces_the_other_whole_and_leaves_what_is_not_ours(tmp_path):
    kept = small_masked_lm(dtype="float32")
    for format in ("hf", "keras"):
        kept.save_to_preset(tmp_path / format, format=format)
        (tmp_path / format / "README.md").write_text("mine")
    names = {format: files(tmp_path / format) for format in ("hf", "keras")}
    kept.save_to_preset(tmp_path / "hf", format="keras")
    kept.save_to_preset(tmp_path / "keras", format="hf")
    assert files(tmp_path / "hf") == names["keras"]
    assert files(tmp_path / "keras") == names["hf"]
    # without a tokenizer the other format's goes too, since its files would be taken for this one's
    bare = MaskedLM(kept.backbone)
    bare.save_to_preset(tmp_path / "hf", format="hf")
    assert files(tmp_path / "hf") == ["README.md", "config.json", "model.safetensors"]
    bare.save_to_preset(tmp_path / "keras", format="hf")
    assert files(tmp_path / "keras") == names["hf"]


@pytest.mark.parametrize("format", ["hf", "keras"])
def test_a_backbone_alone_has_no_head_and_its_states_come_back(tmp_path, format):
    backbone = model().backbone
    backbone.save_to_preset(tmp_path / "p", format=format)
    after = Backbone.from_preset(tmp_path / "p", backend="numpy")
    features = {"token_ids": [[0, 9, 8, 7, 2]]}
    assert np.array_equal(after(features), backbone(features))
    assert "task.json" not in files(tmp_path / "p")
    assert all(np.array_equal(after.params[name], backbone.params[name]) for name in after.params if is_backbone(name))


# --- what can't be held -----------------------------------------------------------------------------------------------


def refused(tmp_path: Path, match: str, given: MaskedLM, **how) -> None:
    with pytest.raises(ValueError, match=match):
        given.save_to_preset(tmp_path / "p", format="keras", **how)
    assert not (tmp_path / "p").exists()


def test_what_would_change_the_arithmetic_is_refused(tmp_path):
    refused(tmp_path, "output matrix of its own .*format='hf'", model(tie_embeddings=False))
    refused(tmp_path, "layer_norm_epsilon=1e-12 can't be saved .* 1e-05 always", model(layer_norm_epsilon=1e-12))


def test_special_tokens_of_other_names_are_refused(tmp_path):
    given = model()
    arguments = given.preprocessor.tokenizer._arguments()
    vocabulary = {"[MASK]" if token == "<mask>" else token: id for token, id in arguments["vocabulary"].items()}
    tokenizer = Tokenizer(**{**arguments, "vocabulary": vocabulary, "mask_token": "[MASK]"})
    given.preprocessor = MaskedLMPreprocessor(tokenizer, sequence_length=30)
    refused(tmp_path, r"whose mask_token is '\[MASK\]' can't be saved", given)


def test_what_kerashub_does_otherwise_is_warned_of_and_comes_back(tmp_path):
    given = model(dropout=0.1, attention_dropout=0.3)
    arguments = given.preprocessor.tokenizer._arguments()
    added = "".join(arguments["merges"][5])
    tokenizer = Tokenizer(**{**arguments, "added_tokens": {added: False}, "mask_lstrip": False})
    given.preprocessor = MaskedLMPreprocessor(tokenizer, sequence_length=30)
    with pytest.warns(UserWarning, match=r"one dropout rate and will train with 0\.1 on attention"):
        given.save_to_preset(tmp_path / "p", format="keras")
    after = MaskedLM.from_preset(tmp_path / "p")
    assert after.backbone.config == given.backbone.config
    assert after.preprocessor.tokenizer._arguments() == tokenizer._arguments()


def test_without_h5py_nothing_is_written(tmp_path, monkeypatch):
    given = model()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"needs the package h5py: python -m pip install 'pyroberta\[keras\]'"):
        given.save_to_preset(tmp_path / "p", format="keras")
    assert not list(tmp_path.iterdir())


def test_bad_arguments_are_named_and_nothing_is_written(tmp_path):
    given = model()
    refused(tmp_path, "dtype must be one of float32, float16, bfloat16, float64, got 'int8'", given, dtype="int8")
    refused(tmp_path, "max_shard_size must be", given, max_shard_size="big")
    with pytest.raises(ValueError, match="format must be 'hf' or 'keras', got 'onnx'"):
        given.save_to_preset(tmp_path / "p", format="onnx")
    with given.backbone.changing() as params:
        params["layers.1.attention.query.bias"][3] = np.nan
    refused(tmp_path, r"'layers/transformer_encoder_1/.*query_dense/vars/1' as float32 has 1 value .* nan", given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", ["config.json", "preprocessor.json", "tokenizer.json"])
def test_our_own_part_of_a_file_must_be_an_object(tmp_path, file):
    model().save_to_preset(tmp_path / "p", format="keras")
    values = json.loads((tmp_path / "p" / file).read_text())
    values["pyroberta"] = [1]
    (tmp_path / "p" / file).write_text(json.dumps(values))
    with pytest.raises(ValueError, match=rf"{file}: pyroberta should be an object, it is a list"):
        MaskedLM.from_preset(tmp_path / "p")


# --- the optimizer's state --------------------------------------------------------------------------------------------


def trained(**changes) -> MaskedLM:
    given = model(**changes)
    given.compile(optimizer=optimizers.AdamW(1e-2))
    given.fit(TEXTS, batch_size=2, verbose=0)
    return given


def test_the_state_is_laid_out_as_keras_does_it(tmp_path):
    given = trained()
    given.save_to_preset(tmp_path / "p", format="keras", include_optimizer=True)
    table = kerashub.renaming(given.backbone.config)
    with h5py.File(tmp_path / "p" / "task.weights.h5") as file:
        variables = file["optimizer/vars"]
        assert len(variables) == 2 + 2 * len(table)
        assert (variables["0"][()], variables["1"][()]) == (3, np.float32(1e-2))
        assert variables["2"].shape == table["embeddings.token"][1]
        assert variables["4"].shape == table["embeddings.position"][1]
        assert np.array_equal(variables["3"], given.optimizer.v["embeddings.token"])
        last = len(variables) - 1
        assert np.array_equal(variables[str(last)], given.optimizer.v["head.norm.beta"])


def test_an_optimizer_that_keras_has_not_got_is_refused(tmp_path):
    given = model()
    given.compile(optimizer="torchadam")
    given.fit(TEXTS, batch_size=6, verbose=0)
    refused(tmp_path, "the state of 'torchadam' can't be saved as a KerasHub preset", given, include_optimizer=True)


def without_our_part(directory: Path) -> None:
    task = json.loads((directory / "task.json").read_text())
    del task["pyroberta"]
    (directory / "task.json").write_text(json.dumps(task))


def test_the_state_of_an_unnamed_optimizer_is_taken_for_adams_with_a_warning(tmp_path):
    given = trained()
    given.save_to_preset(tmp_path / "p", format="keras", include_optimizer=True)
    without_our_part(tmp_path / "p")
    with pytest.warns(UserWarning, match="Adam with Keras's defaults and a learning rate of 0.01 is used"):
        after = MaskedLM.from_preset(tmp_path / "p", load_optimizer=True)
    assert (type(after.optimizer), after.optimizer.iterations) == (optimizers.Adam, 3)
    assert after.optimizer.v.flat.tobytes() == given.optimizer.v.flat.tobytes()


def test_where_only_the_head_was_trained_the_encoders_moments_are_zeros(tmp_path):
    given = trained()
    given.save_to_preset(tmp_path / "p", format="keras", include_optimizer=True)
    config = given.backbone.config
    heads = [i for i, name in enumerate(kerashub.in_keras_order(config)) if not is_backbone(name)]
    with h5py.File(tmp_path / "p" / "task.weights.h5", "r+") as file:
        variables = [file[f"optimizer/vars/{i}"][()] for i in range(len(file["optimizer/vars"]))]
        del file["optimizer"]
        kept = [*variables[:2], *(variables[2 + 2 * i + j] for i in heads for j in (0, 1))]
        for i, value in enumerate(kept):
            file[f"optimizer/vars/{i}"] = value
    after = MaskedLM.from_preset(tmp_path / "p", load_optimizer=True).optimizer
    for name in shapes(config):
        wanted = np.zeros(1) if is_backbone(name) else given.optimizer.m[name]
        assert np.array_equal(after.m[name], np.broadcast_to(wanted, after.m[name].shape)), name


def test_a_state_of_something_else_is_an_error(tmp_path):
    given = trained()
    given.save_to_preset(tmp_path / "p", format="keras", include_optimizer=True)
    with h5py.File(tmp_path / "p" / "task.weights.h5", "r+") as file:
        del file["optimizer/vars/9"]
    with pytest.raises(ValueError, match=r"task\.weights\.h5 lacks 'optimizer/vars/9' of the optimizer's"):
        MaskedLM.from_preset(tmp_path / "p", load_optimizer=True)
    with h5py.File(tmp_path / "p" / "task.weights.h5", "r+") as file:
        file["optimizer/vars/9"] = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match=r"optimizer/vars/9 has shape \(3,\), expected \(8,\)"):
        MaskedLM.from_preset(tmp_path / "p", load_optimizer=True)


def test_the_table_of_names_covers_both_formats():
    config = replace(model().backbone.config, num_layers=12)
    assert list(kerashub.renaming(config)) == list(hf.renaming(config)) == list(shapes(config))
    assert sorted(kerashub.in_keras_order(config)) == sorted(shapes(config))
