"""KerasHub's presets: every spelling that there is, and errors for what is no RoBERTa or damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from small_models import TEXTS, small_masked_lm, small_tokenizer
from small_presets import KERASHUB as CONFIG
from small_presets import as_stored, fields, kerashub_params, load, preset, serialized, write_h5

from pyroberta import Backbone, MaskedLM
from pyroberta.formats.directory import Directory
from pyroberta.model.parameters import Arrays, is_backbone
from pyroberta.presets import kerashub


def read(directory: Path) -> Arrays:
    return kerashub.read_params(Directory(directory), kerashub.read_config(Directory(directory)))


@pytest.mark.parametrize("package", ["keras_hub", "keras_nlp"])
@pytest.mark.parametrize("root", ["layers", "_layer_checkpoint_dependencies"])
@pytest.mark.parametrize("how", [{}, {"compression": "gzip"}, {"chunks": True}])
def test_every_parameter_is_read_bit_for_bit(tmp_path, package, root, how):
    params = kerashub_params()
    directory = preset(tmp_path / "p", params, package, root=root, **how)
    config, found, tokenizer = load(directory)
    assert config == CONFIG
    assert found.flat.tobytes() == params.flat.tobytes()
    assert tokenizer.vocabulary == small_tokenizer().vocabulary


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_widths_are_read_as_what_they_are(tmp_path, dtype):
    params = kerashub_params()
    found = read(preset(tmp_path / "p", params, dtype=dtype))
    for name, values in params.items():
        stored, _ = as_stored(values, dtype)
        wanted = (stored.view("<u2").astype("<u4") << 16).view("<f4") if dtype == "bfloat16" else stored.astype("f4")
        assert np.array_equal(found[name], wanted), name


def test_the_model_has_the_presets_settings_and_answers_as_the_one_that_it_came_from(tmp_path):
    params = kerashub_params()
    model = MaskedLM.from_preset(preset(tmp_path / "p", params), backend="numpy")
    assert (model.preprocessor.sequence_length, model.preprocessor.mask_selection_length) == (20, 5)
    same = small_masked_lm(num_layers=3, dtype="float32", backend="numpy").backbone
    assert same.config.num_layers == CONFIG.num_layers
    other = MaskedLM(Backbone.from_parts(CONFIG, params, "numpy"), model.preprocessor)
    assert model.score(TEXTS[:1]) == other.score(TEXTS[:1])


def test_a_backbone_alone_gets_a_fresh_head_and_says_so(tmp_path):
    params = kerashub_params()
    directory = preset(tmp_path / "p", params, task=False)
    with pytest.warns(UserWarning, match=r"has no masked-LM head \(task\.weights\.h5\): an untrained one"):
        found = read(directory)
    assert np.array_equal(found["embeddings.token"], params["embeddings.token"])
    assert found["head.dense.kernel"].any()
    assert kerashub.read_preprocessor(Directory(directory)) == {}


def test_another_tasks_head_is_left_alone(tmp_path):
    directory = preset(tmp_path / "p", kerashub_params())
    (directory / "task.json").write_text(json.dumps(serialized("RobertaTextClassifier", {"num_classes": 3})))
    config = kerashub.read_config(Directory(directory))
    assert (config.num_classes, config.classifier_dropout) == (3, 0.0)
    with pytest.warns(UserWarning, match="no masked-LM head .* untrained"):
        kerashub.read_params(Directory(directory), replace(config, num_classes=None))
    with pytest.warns(UserWarning, match="no head for 3 classes .* untrained"):  # its file has none, though it says so
        kerashub.read_params(Directory(directory), config)
    assert kerashub.read_params(Directory(directory), replace(config, num_classes=2)).layout["head.table"] == (
        2,
        8,
    )  # as asked


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 1}, r"task\.json: num_classes is 1; a classifier needs at least 2"),
        ({"hidden_dim": 0}, "classifier_hidden_dim must be a whole number of at least 1, got 0"),
        ({"activation": "tanh"}, "activation is 'tanh'"),
    ],
)
def test_a_classifier_of_another_kind_is_refused_by_name(tmp_path, changes, message):
    directory = preset(tmp_path / "p", kerashub_params())
    values = {"num_classes": 3, "hidden_dim": 8, "activation": "softmax"} | changes
    (directory / "task.json").write_text(json.dumps(serialized("RobertaTextClassifier", values)))
    with pytest.raises(ValueError, match=message):
        kerashub.read_config(Directory(directory))


def test_shards_are_read_as_one_file(tmp_path):
    params = kerashub_params()
    directory = preset(tmp_path / "p", params)
    (directory / kerashub.WEIGHTS).unlink()
    names = [name for name in params if is_backbone(name)]
    places = {}
    for i in range(3):
        file = f"model_{i:05}.weights.h5"
        write_h5(directory / file, params, names[i::3])
        places |= {kerashub.renaming(CONFIG)[name][0].rpartition("/vars/")[0]: [] for name in names[i::3]}
        for name in names[i::3]:
            places[kerashub.renaming(CONFIG)[name][0].rpartition("/vars/")[0]].append(file)
    (directory / kerashub.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert read(directory).flat.tobytes() == params.flat.tobytes()


# --- what is refused --------------------------------------------------------------------------------------------------


def change_h5(file: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def changed(directory: Path) -> None:
        with h5py.File(directory / file, "r+") as opened:
            change(opened)

    return changed


def change_json(file: str, **values: Any) -> Callable[[Path], None]:
    def changed(directory: Path) -> None:
        found = json.loads((directory / file).read_text())
        found.update(values)
        (directory / file).write_text(json.dumps(found))

    return changed


def cut(file: str, share: float) -> Callable[[Path], None]:
    def changed(directory: Path) -> None:
        data = (directory / file).read_bytes()
        (directory / file).write_bytes(data[: int(len(data) * share)])

    return changed


NORM = "layers/layer_normalization/vars/0"


def replaced(opened: Any, values: Any, **how: Any) -> None:
    del opened[NORM]
    opened.create_dataset(NORM, data=values, **how)


def linked(opened: Any, link: Any) -> None:
    del opened[NORM]
    opened[NORM] = link


def external(opened: Any) -> None:
    del opened[NORM]
    opened.create_dataset(NORM, (8,), "f4", external=[("/etc/hostname", 0, 32)])


def virtual(opened: Any) -> None:
    del opened[NORM]
    layout = h5py.VirtualLayout((8,), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (8,))
    opened.create_virtual_dataset(NORM, layout)


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "bert": (change_json("config.json", registered_name="keras_hub>BertBackbone"), "this is a 'BertBackbone'"),
    "gemma": (change_json("config.json", registered_name="keras_hub>GemmaBackbone"), "this is a 'GemmaBackbone'"),
    "no config": (change_json("config.json", config=[]), "config should be an object"),
    "a text for a number": (
        change_json("config.json", config={**fields(), "num_layers": "3"}), "num_layers should be a whole number",
    ),
    "heads that don't fit": (change_json("config.json", config={**fields(), "num_heads": 3}), "config.json"),
    "quantised": (
        change_json("config.json", config={**fields(), "dtype": {"class_name": "QuantizedDTypePolicy"}}), "quantised",
    ),
    "not JSON": (cut("config.json", 0.5), "isn't valid JSON"),
    "another layer count": (
        change_json("config.json", config={**fields(), "num_layers": 2}), "has 16 tensors that a model",
    ),
    "half a file": (cut(kerashub.WEIGHTS, 0.5), "damaged|cut short"),
    "no HDF5": (lambda d: (d / kerashub.WEIGHTS).write_text("version https://git-lfs"), "not an HDF5 file"),
    "a tensor less": (change_h5(kerashub.WEIGHTS, lambda f: f.pop(NORM)), "lacks 1 of the"),
    "a tensor more": (change_h5(kerashub.WEIGHTS, lambda f: f.create_dataset("layers/x", data=[1.0])), "does not have"),
    "another shape": (change_h5(kerashub.WEIGHTS, lambda f: replaced(f, np.ones(9, "f4"))), "has shape \\(9,\\)"),
    "integers": (change_h5(kerashub.WEIGHTS, lambda f: replaced(f, np.ones(8, "i4"))), "stored as I32"),
    "another byte order": (change_h5(kerashub.WEIGHTS, lambda f: replaced(f, np.ones(8, ">f4"))), "stored as >f4"),
    "NaN": (change_h5(kerashub.WEIGHTS, lambda f: replaced(f, np.full(8, np.nan, "f4"))), "isn't finite|aren't finite"),
    "NaN in the head": (
        change_h5(kerashub.HEAD, lambda f: f["layers/masked_lm_head/vars/0"].write_direct(
            np.full(CONFIG.vocabulary_size, np.inf, "f4"))), "aren't finite",
    ),
    "a soft link": (change_h5(kerashub.WEIGHTS, lambda f: linked(f, h5py.SoftLink("/layers"))), "is a link"),
    "an external link": (
        change_h5(kerashub.WEIGHTS, lambda f: linked(f, h5py.ExternalLink("/etc/passwd", "/x"))), "is a link",
    ),
    "external numbers": (change_h5(kerashub.WEIGHTS, external), "are in another file"),
    "a virtual dataset": (change_h5(kerashub.WEIGHTS, virtual), "are in another file"),
    "a loop of groups": (
        change_h5(kerashub.WEIGHTS, lambda f: f["layers"].__setitem__("again", f["layers"])), "second name",
    ),
    "a bomb": (
        change_h5(kerashub.WEIGHTS, lambda f: f.create_dataset("layers/bomb", (1 << 30,), "f4", chunks=True)),
        "does not have: layers/bomb",
    ),
    "no weights": (lambda d: (d / kerashub.WEIGHTS).unlink(), "has neither model.weights.h5 nor"),
    "a shard elsewhere": (
        lambda d: (
            (d / kerashub.WEIGHTS).unlink(),
            (d / kerashub.INDEX).write_text(json.dumps({"weight_map": {"layers": "../../x.h5"}})),
        ), "plain name of a file beside it",
    ),
    "a shard that isn't there": (
        lambda d: (
            (d / kerashub.WEIGHTS).unlink(),
            (d / kerashub.INDEX).write_text(json.dumps({"weight_map": {"layers": "x.h5"}})),
        ), "isn't there",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", BAD)
def test_a_bad_preset_is_an_error_that_names_it(tmp_path, damage):
    directory = preset(tmp_path / "p", kerashub_params())
    spoil, message = BAD[damage]
    spoil(directory)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        read(directory)
    assert str(directory) in str(caught.value)


def test_a_tokenizer_of_another_model_or_none_is_an_error(tmp_path):
    directory = preset(tmp_path / "p", kerashub_params())
    config = kerashub.read_config(Directory(directory))
    vocabulary = directory / kerashub.ASSETS / "vocabulary.json"
    vocabulary.write_text(json.dumps(small_tokenizer().vocabulary | {"more": CONFIG.vocabulary_size + 7}))
    with pytest.raises(ValueError, match=r"the tokenizer has \d+ tokens, but the model's token embedding has only"):
        kerashub.read_tokenizer(Directory(directory), config)
    (directory / "tokenizer.json").write_text(json.dumps(serialized("XLMRobertaTokenizer", {})))
    with pytest.raises(ValueError, match="this is a 'XLMRobertaTokenizer'"):
        kerashub.read_tokenizer(Directory(directory), config)
    vocabulary.unlink()
    with pytest.raises(FileNotFoundError, match="has no tokenizer"):
        kerashub.read_tokenizer(Directory(directory), config)


def test_without_h5py_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    directory = preset(tmp_path / "p", kerashub_params())
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ImportError, match=r"needs the package h5py: python -m pip install 'pyroberta\[keras\]'"):
        read(directory)
