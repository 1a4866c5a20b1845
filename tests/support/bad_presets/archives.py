"""Keras's archives of whole models: zips that are damaged, lead elsewhere or swell, and classes that aren't known."""

from __future__ import annotations

import json
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from small_models import random_params, small_tokenizer
from small_presets import fields, serialized, write_h5

from bad_presets.spoiling import CONFIG, Case, Sound, Spoil, cut, instead, link, overwritten, put
from pyroberta.presets import kerashub

ARCHIVE, CONFIG_FILE, WEIGHTS, ASSETS = "model.keras", "config.json", kerashub.WEIGHTS, "assets/preprocessor/tokenizer"
NORM = "layers/roberta_backbone/layers/layer_normalization/vars/0"


def model() -> dict[str, Any]:
    tokenizer = serialized("RobertaTokenizer", {"sequence_length": None, "add_prefix_space": False})
    settings = {"tokenizer": tokenizer, "sequence_length": 20, "mask_selection_length": 5}
    preprocessor = serialized("RobertaMaskedLMPreprocessor", settings)
    parts = {"backbone": serialized("RobertaBackbone", fields()), "preprocessor": preprocessor, "name": "lm"}
    return serialized("RobertaMaskedLM", parts)


def sound_archive(directory: Path) -> Path:
    directory.mkdir(parents=True)
    params, weights = random_params(CONFIG, 0, np.float32), directory / "w.h5"
    write_h5(weights, params, list(params))
    with h5py.File(weights, "r+") as opened:
        heads = {place.split("/")[1] for name, (place, _) in kerashub.renaming(CONFIG).items() if "head" in name}
        for group in [group for group in opened["layers"] if group not in heads]:
            opened.move(f"layers/{group}", f"layers/roberta_backbone/layers/{group}")
    with zipfile.ZipFile(directory / ARCHIVE, "w") as made:
        for name, content in {
            WEIGHTS: weights.read_bytes(),
            f"{ASSETS}/vocabulary.json": json.dumps(small_tokenizer().vocabulary),
            f"{ASSETS}/merges.txt": "".join(f"{a} {b}\n" for a, b in small_tokenizer().merges),
            "metadata.json": '{"keras_version": "3.15.1"}',
            CONFIG_FILE: json.dumps(model()),
        }.items():
            made.writestr(zipfile.ZipInfo(name), content)  # without the time, so it is always the same
    weights.unlink()
    return directory


SOUND = {"keras archive": Sound(sound_archive, "archive")}


def with_driver_at(weights: bytes, address: int) -> bytes:
    """An HDF5 file whose superblock says that there is a driver information block, and where."""
    at = 48  # of the address, in superblocks of version 0
    assert struct.unpack_from("<2Q", weights, at - 8) == (len(weights), (1 << 64) - 1)  # the end; no block
    return weights[:at] + struct.pack("<Q", address) + weights[at + 8 :]


def entries(how: Callable[[dict[str, bytes]], Any], **options: Any) -> Spoil:
    """Other entries, which `options` say how to pack."""

    def spoil(directory: Path) -> None:
        with zipfile.ZipFile(directory / ARCHIVE) as opened:
            found = {name: opened.read(name) for name in opened.namelist()}
        how(found)
        with zipfile.ZipFile(directory / ARCHIVE, "w", **options) as made:
            for name, content in found.items():
                made.writestr(name, content)

    return spoil


def without(name: str) -> Spoil:
    return entries(lambda found: found.pop(name))


def added(name: str, content: bytes = b"x") -> Spoil:
    return entries(lambda found: found.update({name: content}))


def twice(directory: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(directory / ARCHIVE, "a") as opened:
        warnings.simplefilter("ignore")
        opened.writestr(CONFIG_FILE, "{}")


def config(how: Callable[[dict[str, Any]], Any]) -> Spoil:
    def change(found: dict[str, bytes]) -> None:
        values = json.loads(found[CONFIG_FILE])
        made = how(values)
        found[CONFIG_FILE] = json.dumps(values if made is None or not isinstance(made, dict) else made).encode()

    return entries(change)


def part(*path: str, **changes: Any) -> Spoil:
    """Other values in an object within the config."""

    def change(values: dict[str, Any]) -> None:
        for name in path:
            values = values["config"][name]
        values.update(changes)

    return config(change)


def settings(*path: str, **changes: Any) -> Spoil:
    """Other settings of an object within the config."""

    def change(values: dict[str, Any]) -> None:
        for name in path:
            values = values["config"][name]
        values["config"].update(changes)

    return config(change)


def weights(how: Callable[[Any], Any]) -> Spoil:
    def spoil(directory: Path) -> None:
        with zipfile.ZipFile(directory / ARCHIVE) as opened:
            (directory / "w.h5").write_bytes(opened.read(WEIGHTS))
        with h5py.File(directory / "w.h5", "r+") as opened:
            how(opened)
        entries(lambda found: found.update({WEIGHTS: (directory / "w.h5").read_bytes()}))(directory)
        (directory / "w.h5").unlink()

    return spoil


def set_link(made: Any) -> Spoil:
    def spoil(opened: Any) -> None:
        del opened[NORM]
        opened[NORM] = made

    return weights(spoil)


def flipped(directory: Path) -> None:
    """One bit of a weight, in the middle of the weights' entry."""
    file = directory / ARCHIVE
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as opened:
        info = opened.getinfo(WEIGHTS)
    content[info.header_offset + info.file_size // 2] ^= 1
    file.write_bytes(content)


def directory_number(name: str, offset: int, form: str, value: int) -> Spoil:
    """Another number in an entry of the zip's directory."""

    def spoil(directory: Path) -> None:
        file = directory / ARCHIVE
        content = bytearray(file.read_bytes())
        at = content.rindex(name.encode()) - 46
        struct.pack_into(form, content, at + offset, value)
        file.write_bytes(content)

    return spoil


def overfull(directory: Path) -> None:
    """A config of a few bytes, as the directory says, with 40 megabytes packed in it."""
    entries(
        lambda found: found.update({CONFIG_FILE: found[CONFIG_FILE] + b" " * 40_000_000}),
        compression=zipfile.ZIP_DEFLATED,
    )(directory)
    directory_number(CONFIG_FILE, 24, "<I", 2000)(directory)


def swollen(name: str, count: int) -> Spoil:
    return entries(lambda found: found.update({name: bytes(count)}), compression=zipfile.ZIP_DEFLATED)


def lambda_layer(values: dict[str, Any]) -> dict[str, Any]:
    code = {"class_name": "__lambda__", "config": {"value": "4wEAAAA=", "defaults": None, "closure": None}}
    return {"module": "keras.layers", "class_name": "Lambda", "config": {"function": code}, "registered_name": None}


def many(found: dict[str, bytes]) -> None:
    found.update({f"assets/{i}": b"" for i in range(5000)})


def case(spoil: Spoil, message: str) -> Case:
    return Case("keras archive", spoil, message)


KNOWN = "what can be read is KerasHub's RobertaBackbone or RobertaMaskedLM or RobertaTextClassifier"
CASES = {
    f"archive: {name}": made
    for name, made in {
        # the file
        "cut in half": case(cut(ARCHIVE, 0.5), "model.keras is cut short, or not a zip"),
        "cut at its end": case(cut(ARCHIVE, 0.999), "model.keras is cut short, or not a zip"),
        "empty": case(put(ARCHIVE, b""), "model.keras is empty"),
        "no zip": case(put(ARCHIVE, b"x" * 5000), "model.keras is cut short, or not a zip"),
        "an HDF5 file": case(put(ARCHIVE, b"\x89HDF\r\n\x1a\n" * 90), "is cut short, or not a zip"),
        "not there": case(lambda d: (d / ARCHIVE).unlink(), "there is no file .*model.keras"),
        "a directory": case(instead(ARCHIVE, lambda path: path.mkdir()), "model.keras is a directory"),
        "a link that leads nowhere": case(instead(ARCHIVE, link("nowhere")), "link to nowhere, which does not"),
        # the zip
        "without config": case(without(CONFIG_FILE), "model.keras has no config.json; it has model.weights.h5, "),
        "without weights": case(without(WEIGHTS), "model.keras has no model.weights.h5; it has assets/"),
        "weights of NumPy's": case(
            entries(lambda found: found.update({"model.weights.npz": found.pop(WEIGHTS)})), "has no model.weights.h5; "
        ),
        "without vocabulary": case(without(f"{ASSETS}/vocabulary.json"), "model.keras has no tokenizer"),
        "without merges": case(without(f"{ASSETS}/merges.txt"), "model.keras has no tokenizer"),
        "a directory without its mark": case(
            overwritten(ARCHIVE, b"PK\x01\x02", 0, b"XX"), "model.keras is damaged: Bad magic number for central direc"
        ),
        "a name twice": case(twice, "model.keras has 'config.json' twice"),
        "a name above": case(added("assets/../../evil.txt"), "'assets/../../evil.txt' leads out of the archive"),
        "a name from the root": case(added("/etc/evil"), "'/etc/evil' leads out of the archive"),
        "a name of a drive": case(added("C:evil"), "'C:evil' leads out of the archive"),
        "a name of Windows": case(added("..\\evil"), "leads out of the archive"),
        "many entries": case(entries(many), "model.keras: .* steps are needed for the directory of the zip"),
        "a bit of the weights": case(flipped, "is damaged: the CRC-32 of model.weights.h5 is not the one in the zip"),
        "an entry elsewhere": case(directory_number(WEIGHTS, 42, "<I", 7), "model.weights.h5 is not at the place"),
        "an entry longer than the file": case(
            lambda d: [directory_number(WEIGHTS, at, "<I", 2_000_000_000)(d) for at in (20, 24)], "is cut short"
        ),
        "encrypted": case(directory_number(CONFIG_FILE, 8, "<H", 1), "config.json is encrypted"),
        "another packing": case(
            entries(lambda found: None, compression=zipfile.ZIP_BZIP2), "config.json is compressed by the method 12"
        ),
        # what swells
        "a config that swells": case(swollen(CONFIG_FILE, 30_000_000), "config.json has more than 20000000 bytes"),
        "a config fuller than it says": case(overfull, "config.json decompresses to more than 2000 bytes"),
        "merges that swell": case(swollen(f"{ASSETS}/merges.txt", 30_000_000), "merges.txt has more than 20000000"),
        "weights that swell": case(swollen(WEIGHTS, 70_000_000), "70000000 bytes are needed for model.weights.h5"),
        # classes
        "a lambda": case(config(lambda_layer), f"the model is of the class 'Lambda'; {KNOWN}"),
        "a model of Keras's": case(
            part(class_name="Functional", registered_name=None), f"the model is of the class 'Functional'; {KNOWN}"
        ),
        "a class of one's own": case(
            part(module="evil", registered_name="evil>RobertaMaskedLM"), "of the class 'evil>RobertaMaskedLM'; what can"
        ),
        "a class that is a list": case(part(registered_name=["keras_hub"]), "is of the class \\['keras_hub'\\]"),
        "another model's": case(part(registered_name="keras_hub>BertMaskedLM"), "of the class 'keras_hub>BertM"),
        "another backbone": case(
            part("backbone", registered_name="keras_hub>BertBackbone"), "backbone is of the class 'keras_hub>BertB"
        ),
        "another task's preprocessor": case(
            part("preprocessor", registered_name="keras_hub>RobertaTextClassifierPreprocessor"),
            "preprocessor is of the class .*; what can be read is KerasHub's RobertaMaskedLMPreprocessor",
        ),
        "another tokenizer": case(
            part("preprocessor", "tokenizer", registered_name="keras_hub>BertTokenizer"), "tokenizer is of the class"
        ),
        "no backbone": case(config(lambda values: values["config"].pop("backbone") and None), "backbone should be an"),
        "a preprocessor that is a list": case(settings(preprocessor=[1]), "preprocessor should be an object"),
        "a preprocessor without a tokenizer": case(
            settings("preprocessor", tokenizer=None), "tokenizer should be an object with class_name and config, got "
        ),
        "a model without config": case(part(config=7), "the model should be an object with class_name and config"),
        # settings
        "a setting of the model": case(settings(lora_rank=4), "RobertaMaskedLM has the setting 'lora_rank'; known are"),
        "a setting of the backbone": case(
            settings("backbone", num_query_groups=4), "RobertaBackbone has the setting 'num_query_groups'; known are"
        ),
        "a setting of the preprocessor": case(settings("preprocessor", tokens=4), "has the setting 'tokens'; known"),
        "a setting of the tokenizer": case(
            settings("preprocessor", "tokenizer", lowercase=True), "RobertaTokenizer has the setting 'lowercase'"
        ),
        "a policy": case(
            settings("backbone", dtype={"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}}),
            "RobertaBackbone is in 'mixed_float16'; .* load_model\\(filepath, dtype='float32'\\)",
        ),
        "a policy for each layer": case(
            settings("backbone", dtype={"class_name": "DTypePolicyMap", "config": {"default_policy": None}}),
            "RobertaBackbone has a dtype for each layer. A quantized model can't be read: save it before quantize",
        ),
        "a name with a slash": case(settings(name="a/b"), "name of RobertaMaskedLM should be .* no '/', got 'a/b'"),
        "trainable in words": case(settings("backbone", trainable="yes"), "trainable of RobertaBackbone should be"),
        "a name that is none": case(settings(name=7), "name of RobertaMaskedLM should be a text"),
        "a length that is an object": case(
            settings("preprocessor", "tokenizer", sequence_length={f"{i}": None for i in range(500)}),
            "model.keras/assets/preprocessor/tokenizer: sequence_length must be a whole number of at least 1, got {'0'",
        ),
        "a length of a giant": case(
            settings("preprocessor", "tokenizer", sequence_length=1 << 31),
            "model.keras/config.json: sequence_length should be at most 1000000, got 2147483648",
        ),
        "masks of a giant": case(
            settings("preprocessor", mask_selection_length=1 << 31),
            "model.keras: mask_selection_length should be at most 1000000, got 2147483648",
        ),
        "heads that are a text": case(
            settings("backbone", num_heads="x"), "model.keras/config.json: num_heads should be a whole number, got 'x'"
        ),
        "sizes of a giant": case(settings("backbone", hidden_dim=1 << 40), "has shape .*, expected \\(109951"),
        "layers of a giant": case(settings("backbone", num_layers=1 << 40), "num_layers"),
        "learning rates": case(part(pyroberta={"learning_rates": {"masked_lm": -1}}), "the learning rate of 'masked"),
        "rates that are none": case(part(pyroberta=[]), "pyroberta should be an object"),
        "a key twice": case(
            entries(lambda found: found.update({CONFIG_FILE: b'{"config": {}, "config": {}}'})), "the key 'config'"
        ),
        "deep JSON": case(
            entries(lambda found: found.update({CONFIG_FILE: b'{"a":' * 900 + b"1" + b"}" * 900})), "config.json has"
        ),
        # weights
        "weights that are no HDF5": case(added(WEIGHTS, b"x" * 5000), "model.weights.h5 is damaged or not an HDF5"),
        "weights with a part at an address that no file has": case(
            entries(lambda found: found.update({WEIGHTS: with_driver_at(found[WEIGHTS], 1 << 63)})),
            "model.weights.h5 is damaged or not an HDF5 file",
        ),
        "compressed weights with a part at an address that no file has": case(
            entries(
                lambda found: found.update({WEIGHTS: with_driver_at(found[WEIGHTS], 1 << 63)}),
                compression=zipfile.ZIP_DEFLATED,
            ),
            "model.weights.h5 is damaged or not an HDF5 file",
        ),
        "weights cut": case(
            entries(lambda found: found.update({WEIGHTS: found[WEIGHTS][: len(found[WEIGHTS]) // 2]})),
            "model.weights.h5",
        ),
        "weights elsewhere": case(set_link(h5py.ExternalLink("elsewhere.h5", "/x")), "is a link to elsewhere"),
        "a weight that isn't there": case(weights(lambda opened: opened.__delitem__(NORM)), "layer_normalization/vars"),
        "a weight too many": case(
            weights(lambda opened: opened.create_dataset("layers/dense_7/vars/0", data=np.zeros(3, "f4"))), "dense_7"
        ),
    }.items()
}  # fmt: skip
