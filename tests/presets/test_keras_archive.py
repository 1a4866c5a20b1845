"""Keras's archives of whole models: what `save` writes, `models.load_model` reads, and what is left out is told."""

from __future__ import annotations

import io
import json
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_models import MODELS, classifier, masked_lm, outputs
from bad_presets import archives
from small_models import TEXTS, small_masked_lm

from pyroberta import Backbone, MaskedLM, TextClassifier
from pyroberta.formats import zips
from pyroberta.formats.new_files import NewFile
from pyroberta.models import load_model


def saved(model: Any, tmp_path: Path, **options: Any) -> Any:
    model.save(tmp_path / "model.keras")
    return load_model(tmp_path / "model.keras", **options)


def config_in(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as opened:
        return json.loads(opened.read("config.json"))


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_comes_back_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    model = MODELS[kind]()
    model.name = "mine"
    found = saved(model, tmp_path)
    assert type(found).__name__ == kind
    assert found.get_config() == model.get_config()
    assert outputs(found) == outputs(model)
    assert [weight.tobytes() for weight in found.weights] == [weight.tobytes() for weight in model.weights]


def test_texts_are_read_as_before(tmp_path: Path) -> None:
    lm, others = masked_lm(), classifier()
    assert saved(lm, tmp_path).fill_mask("It is<mask> late.") == lm.fill_mask("It is<mask> late.")
    assert saved(others, tmp_path).classify(TEXTS[:2]) == others.classify(TEXTS[:2])


def test_names_and_what_is_trainable_come_back(tmp_path: Path) -> None:
    lm = masked_lm()
    lm.backbone.name, lm.backbone.trainable = "encoder", False
    found = saved(lm, tmp_path)
    assert (found.backbone.name, found.backbone.trainable) == ("encoder", False)
    assert not saved(lm.backbone, tmp_path).trainable


def test_a_model_without_texts_comes_back_without(tmp_path: Path) -> None:
    found = saved(MaskedLM(masked_lm().backbone), tmp_path)
    assert found.preprocessor is None
    with zipfile.ZipFile(tmp_path / "model.keras") as opened:
        assert opened.namelist() == ["metadata.json", "config.json", "model.weights.h5"]


@pytest.mark.parametrize("dtype", ["float64", "mixed_bfloat16"])
def test_the_precision_comes_back(dtype: str, tmp_path: Path) -> None:
    lm = small_masked_lm(dtype=dtype)
    found = saved(lm, tmp_path)
    assert found.backbone.precision == dtype
    assert outputs(found) == outputs(lm)
    assert load_model(tmp_path / "model.keras", dtype="float32").backbone.precision == "float32"


def test_settings_that_kerashub_lacks_come_back_from_beside_the_config(tmp_path: Path) -> None:
    lm = masked_lm(dropout=0.1, attention_dropout=0.3, pad_id=3)
    lm.recommended_learning_rate = 3e-4
    with pytest.warns(UserWarning, match="KerasHub's RoBERTa has one dropout rate"):
        found = saved(lm, tmp_path)
    assert found.backbone.config == lm.backbone.config
    assert found.recommended_learning_rate == 3e-4
    backbone = config_in(tmp_path / "model.keras")["config"]["backbone"]
    assert backbone["pyroberta"]["attention_dropout"] == 0.3
    assert "attention_dropout" not in backbone["config"]


def test_changes_of_lora_are_part_of_the_kernels(tmp_path: Path) -> None:
    lm = masked_lm()
    lm.backbone.enable_lora(2)
    rng = np.random.default_rng(0)
    with lm.backbone.changing() as params:
        for name in [name for name in params if name.endswith(".lora_b")]:
            params[name][...] = rng.standard_normal(params[name].shape)
    found = saved(lm, tmp_path)
    assert found.backbone.config.lora_rank == 0
    np.testing.assert_allclose(outputs(found), outputs(lm), rtol=1e-3, atol=1e-4)


def test_an_optimizers_state_that_is_left_out_is_told_of(tmp_path: Path) -> None:
    lm = masked_lm()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lm.save(tmp_path / "model.keras")
        load_model(tmp_path / "model.keras")
    lm.fit(TEXTS, batch_size=3, verbose=0)
    with pytest.warns(
        UserWarning, match=r"does not hold the optimizer's state: .*save_to_preset\(directory, include_optimizer="
    ):
        lm.save(tmp_path / "model.keras")
    assert load_model(tmp_path / "model.keras").optimizer.iterations == 0


def test_what_keras_compiled_is_left_with_a_warning(tmp_path: Path) -> None:
    path = archives.sound_archive(tmp_path / "a") / "model.keras"
    archives.part(compile_config={"optimizer": "adam"})(path.parent)
    with pytest.warns(UserWarning, match=r"which are not loaded: .* as in KerasHub\. Call compile\(\)"):
        load_model(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_model(path, compile=False)
    with pytest.raises((RuntimeError, ValueError), match=r"compile\(\)"):
        found.fit(TEXTS, verbose=0)


def test_an_archive_that_was_packed_again_is_read(tmp_path: Path) -> None:
    lm = masked_lm()
    lm.save(tmp_path / "a.keras")
    with (
        zipfile.ZipFile(tmp_path / "a.keras") as opened,
        zipfile.ZipFile(tmp_path / "b.keras", "w", compression=zipfile.ZIP_DEFLATED) as made,
    ):
        made.mkdir("assets")
        for name in opened.namelist():
            made.writestr(name, opened.read(name))
        made.writestr("README.md", "About the model.")
    assert outputs(load_model(tmp_path / "b.keras")) == outputs(lm)


def test_an_archive_of_kerasnlp_is_read(tmp_path: Path) -> None:
    path = archives.sound_archive(tmp_path / "a") / "model.keras"
    before = outputs(load_model(path))
    archives.part(registered_name="keras_nlp>RobertaMaskedLM")(path.parent)
    assert outputs(load_model(path)) == before


def test_a_file_is_replaced_or_not(tmp_path: Path) -> None:
    lm, path = masked_lm(), tmp_path / "below" / "model.keras"
    lm.save(path)
    content = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"model\.keras exists already: overwrite=True replaces it"):
        classifier().save(path, overwrite=False)
    assert path.read_bytes() == content
    classifier().save(str(path))
    assert isinstance(load_model(str(path)), TextClassifier)
    assert [file.name for file in path.parent.iterdir()] == ["model.keras"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model", r"must end in \.keras, got .*save_to_preset\('.*model'\).*Task\.from_preset\('.*model'\)"),
        ("model.weights.h5", r"must end in \.keras, got .*save_weights\(filepath\)"),
        ("model.safetensors", r"load_weights\(filepath\)"),
    ],
)
def test_an_archive_has_one_ending(name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)  # it is said first, since h5py is of no use to another file
    for method in (masked_lm().save, masked_lm().backbone.save, load_model):
        with pytest.raises(ValueError, match=said):
            method(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_what_kerashub_cannot_be_is_refused_with_what_saves_it(tmp_path: Path) -> None:
    sizes = {"vocabulary_size": 20, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
    for changes in ({"tie_embeddings": False}, {"layer_norm_epsilon": 1e-12}):
        with pytest.raises(ValueError, match=r"can't be saved as Keras's archive: .* save_to_preset\(directory\)"):
            MaskedLM(Backbone(**sizes, **changes)).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"which can't be written into a file"):
        classifier(activation=np.exp).save(tmp_path / "model.keras")
    assert not list(tmp_path.iterdir())


def test_load_model_takes_kerass_arguments_with_their_defaults(tmp_path: Path) -> None:
    classifier().save(tmp_path / "model.keras")
    found = load_model(tmp_path / "model.keras", None, False, True)  # in Keras's order
    with pytest.raises(ValueError, match=r"call `compile\(\)`"):
        found.evaluate(["a"], [0])
    for name, said in {
        "custom_objects": "only known classes are read",
        "safe_mode": "nothing in an archive is run",
    }.items():
        with pytest.raises(ValueError, match=f"{name}=.* would have no effect: .*{said}"):
            load_model(tmp_path / "model.keras", **{name: {"Own": dict} if name == "custom_objects" else False})


def test_what_could_not_be_read_again_is_not_saved(tmp_path: Path) -> None:
    lm = masked_lm()
    lm.name = "a\ud800"
    with pytest.raises(ValueError, match=r"what is to be saved isn't valid JSON: .*surrogates not allowed"):
        lm.save(tmp_path / "model.keras")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("least", [zips.LEAST_LONG, 100, 10])
def test_a_zip_that_is_written_is_one(monkeypatch: pytest.MonkeyPatch, least: int) -> None:
    """The small numbers stand for 4 GiB, from which on sizes and places take more room."""
    monkeypatch.setattr(zips, "LEAST_LONG", least)
    contents = {"a": b"", "b/é.txt": b"text", "c": bytes(300), "d": b"end"}
    new = zips.new_file({name: NewFile.of(content) for name, content in contents.items()})
    written = b"".join(map(bytes, new.blocks()))
    assert len(written) == new.size
    with zipfile.ZipFile(io.BytesIO(written)) as opened:
        assert opened.testzip() is None
        assert {name: opened.read(name) for name in opened.namelist()} == contents
