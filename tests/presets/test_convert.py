"""Presets from one format to another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_models import small_masked_lm
from small_presets import load

from pyroberta import MaskedLM
from pyroberta.cli.main import main
from pyroberta.presets.convert import convert

WHOLE = {"head": True, "tokenizer": True}


@pytest.mark.parametrize("format", ["hf", "keras"])
def test_a_whole_preset_is_what_a_loaded_model_would_save(small_preset, tmp_path, format):
    found = convert(small_preset, tmp_path / "a", format=format, max_shard_size="8KB")
    assert found == {"saved": str(tmp_path / "a"), "format": format, "dtype": "float32", **WHOLE}
    MaskedLM.from_preset(small_preset).save_to_preset(tmp_path / "b", format=format, max_shard_size="8KB")
    names = [{file.relative_to(tmp_path / d) for file in (tmp_path / d).rglob("*.*")} for d in "ab"]
    assert names[0] == names[1]
    assert load(tmp_path / "a")[1].flat.tobytes() == load(small_preset)[1].flat.tobytes()
    settings = [MaskedLM.from_preset(place).preprocessor.get_config() for place in (tmp_path / "a", small_preset)]
    assert settings[0] == settings[1]


def test_float64_stays_float64(tmp_path):
    model = small_masked_lm(dtype="float64")
    model.save_to_preset(tmp_path / "a", dtype="float64")
    convert(tmp_path / "a", tmp_path / "b", format="keras", dtype="float64")
    assert load(tmp_path / "b", np.float64)[1].flat.tobytes() == model.backbone.params.flat.tobytes()


@pytest.mark.parametrize("format", ["hf", "keras"])
def test_an_encoder_alone_stays_alone_without_a_warning(tmp_path, format):
    model = small_masked_lm(dtype="float32")
    model.backbone.save_to_preset(tmp_path / "a")
    model.preprocessor.tokenizer.save(tmp_path / "a")
    assert convert(tmp_path / "a", tmp_path / "b", format=format)["head"] is False
    with pytest.warns(UserWarning, match="no masked-LM head"):
        config, params, tokenizer = load(tmp_path / "b")
    assert config == model.backbone.config
    assert np.array_equal(params["embeddings.token"], model.params["embeddings.token"])
    assert tokenizer.vocabulary == model.preprocessor.tokenizer.vocabulary


@pytest.mark.parametrize("format", ["hf", "keras"])
def test_a_model_without_a_tokenizer_is_converted_without_one(tmp_path, format):
    MaskedLM(small_masked_lm(dtype="float32").backbone).save_to_preset(tmp_path / "a")
    assert convert(tmp_path / "a", tmp_path / "b", format=format)["tokenizer"] is False
    MaskedLM.from_preset(tmp_path / "b", preprocessor=None)


def test_a_preset_can_be_converted_in_its_place(tmp_path):
    model = small_masked_lm(dtype="float32")
    model.save_to_preset(tmp_path / "a")
    convert(tmp_path / "a", tmp_path / "a", format="keras")
    assert load(tmp_path / "a")[1].flat.tobytes() == model.backbone.params.flat.tobytes()
    assert not (tmp_path / "a" / "model.safetensors").exists()


def test_the_state_of_training_goes_along_where_it_is_asked_for(tmp_path):
    model = small_masked_lm(dtype="float32", seed=3)
    model.fit(["The quick brown fox jumped over the lazy dog."], epochs=2, verbose=0)
    model.save_to_preset(tmp_path / "hf", include_optimizer=True)
    convert(tmp_path / "hf", tmp_path / "keras", format="keras", include_optimizer=True)
    convert(tmp_path / "keras", tmp_path / "back", include_optimizer=True)
    for place in ("keras", "back"):
        again = MaskedLM.from_preset(tmp_path / place, load_optimizer=True)
        assert (again.seed, again.optimizer.iterations) == (3, 2)
        assert again.optimizer.get_config() == model.optimizer.get_config()
        for moment in ("m", "v"):
            theirs, ours = (which.optimizer.state_dict()[moment] for which in (model, again))
            assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    convert(tmp_path / "hf", tmp_path / "without")
    with pytest.raises(FileNotFoundError, match="has no optimizer's state"):
        convert(tmp_path / "without", tmp_path / "new", include_optimizer=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"format": "onnx"}, "format must be 'hf' or 'keras', got 'onnx'"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"max_shard_size": "big"}, "max_shard_size must be"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_read(tmp_path, how, message):
    with pytest.raises(ValueError, match=message):
        convert("roberta_tiny_en", tmp_path / "a", **how)
    assert not list(tmp_path.iterdir())


def test_the_command_tells_what_it_wrote(small_preset: Path, tmp_path, capsys):
    keras, back = str(tmp_path / "keras"), str(tmp_path / "back")
    assert main(["convert", str(small_preset), keras, "--format", "keras", "--dtype", "bfloat16"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (f"saved to {keras} as keras, bfloat16: encoder, head, tokenizer\n", "")
    assert main(["convert", keras, back, "--max-shard-size", "4KB", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"saved": back, "format": "hf", "dtype": "float32", **WHOLE}
    assert (tmp_path / "back" / "model.safetensors.index.json").is_file()
    bare = tmp_path / "bare"
    small_masked_lm(dtype="float32").backbone.save_to_preset(bare)
    assert main(["convert", str(bare), keras, "--overwrite"]) == 0
    assert capsys.readouterr().out == (
        f"saved to {keras} as hf, float32: encoder; {bare} has no head and no tokenizer\n"
    )


@pytest.mark.parametrize(("size", "shards"), [("10", 0), ("0.000008", 2), ("8KB", 2), ("none", 0)])
def test_the_command_takes_gigabytes_a_text_with_a_unit_or_none(small_preset, tmp_path, size, shards):
    assert main(["convert", str(small_preset), str(tmp_path / "x"), "--max-shard-size", size]) == 0
    found = len(list((tmp_path / "x").glob("model-*.safetensors")))
    assert found >= shards if shards else not found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["roberta_tiny", "X"], "unknown preset 'roberta_tiny'"),
        (["roberta_tiny_en", "FULL"], "it holds files"),
    ],
)
def test_the_command_fails_in_one_line(arguments, message, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    places = {"X": str(tmp_path / "x"), "FULL": str(tmp_path / "full")}
    assert main(["convert", *(places.get(argument, argument) for argument in arguments)]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert message in err
    assert [entry.name for entry in tmp_path.iterdir()] == ["full"]
