"""The optimizer's state beside a sound model, in the files of either format."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import safetensors.numpy

from bad_presets.hf import sound_hf
from bad_presets.kerashub_files import sound_kerashub
from bad_presets.spoiling import CONFIG, Case, Sound, Spoil, change, cut, h5, header, instead, put, tensors, values
from pyroberta.model.parameters import shapes
from pyroberta.presets.kerashub import HEAD, in_keras_order, renaming

FILE = "pyroberta_optimizer.safetensors"
ADAM = {"name": "adam", "learning_rate": 1e-3}
REST = {"optimizer": ADAM, "iterations": 3, "seed": 7}


def sound_hf_state(directory: Path) -> Path:
    sound_hf(directory)
    rng = np.random.default_rng(4)
    found = {f"{k}.{name}": rng.random(shape, np.float32) for k in "mv" for name, shape in shapes(CONFIG).items()}
    safetensors.numpy.save_file(found, directory / FILE, {"training": json.dumps(REST)})
    return directory


def sound_kerashub_state(directory: Path) -> Path:
    sound_kerashub(directory)
    rng = np.random.default_rng(5)
    change("task.json", lambda found: found.update(pyroberta={"optimizer": ADAM, "seed": 7}))(directory)
    table = renaming(CONFIG)
    arrays = [np.int64(3), np.float32(1e-3)]
    arrays += [rng.random(table[name][1], np.float32) for name in in_keras_order(CONFIG) for _ in "mv"]
    with h5py.File(directory / HEAD, "r+") as opened:
        for i, array in enumerate(arrays):
            opened[f"optimizer/vars/{i}"] = array
    return directory


SOUND = {
    "training": Sound(sound_hf_state, "training"),
    "kerashub training": Sound(sound_kerashub_state, "training"),
}


def remarks(text: str) -> Spoil:
    """Other text in the file's metadata."""
    return header(lambda found: found["__metadata__"].update(training=text), FILE)


def rest(**changes: Any) -> Spoil:
    return remarks(json.dumps(REST | changes))


def adam(**changes: Any) -> Spoil:
    return rest(optimizer=ADAM | changes)


def moments(how: Callable[[dict[str, np.ndarray]], Any]) -> Spoil:
    return tensors(how, FILE)


def changed_settings(**changes: Any) -> Spoil:
    return change("task.json", lambda found: found["pyroberta"].update(changes))


def variable(i: int, made: Any) -> Spoil:
    def spoil(opened: Any) -> None:
        del opened[f"optimizer/vars/{i}"]
        opened[f"optimizer/vars/{i}"] = made

    return h5(spoil, HEAD)


def enlarged(name: str) -> Spoil:
    """The moments of a model with another number of rows."""
    return moments(lambda t: t.update({f"{k}.{name}": np.ones((299, 8), "f4") for k in "mv"}))


BIAS = "m.head.bias"
ROW = CONFIG.vocabulary_size
HF, KERAS = "training", "kerashub training"

CASES: dict[str, Case] = {
    # --- the file beside Hugging Face's weights
    "training: no state": Case(
        HF, lambda d: (d / FILE).unlink(), r"has no optimizer's state \(pyroberta_optimizer.safe"
    ),
    "training: a pipe": Case(HF, instead(FILE, os.mkfifo), "pyroberta_optimizer.safetensors is a pipe"),
    "training: a directory": Case(HF, instead(FILE, Path.mkdir), "pyroberta_optimizer.safetensors is a directory"),
    "training: empty": Case(HF, put(FILE, ""), "pyroberta_optimizer.safetensors is empty"),
    "training: cut": Case(HF, cut(FILE, 0.5), "pyroberta_optimizer.safetensors is cut short: tensor"),
    "training: no metadata": Case(
        HF, header(lambda found: found.pop("__metadata__"), FILE), r"does not name.*KeyError\('training'\)"
    ),
    "training: metadata a list": Case(
        HF, header(lambda found: found.update(__metadata__=[]), FILE), r"does not name.*KeyError\('training'\)"
    ),
    "training: metadata that is no text": Case(
        HF, header(lambda found: found["__metadata__"].update(training=3), FILE), "does not name.*AttributeError"
    ),
    "training: metadata without end": Case(
        HF, remarks('{"a":' * 100_000), "does not name.*containers nested without end"
    ),
    "training: half of the metadata": Case(HF, remarks('{"optimizer": {'), "does not name.*isn't valid JSON"),
    "training: no iterations": Case(
        HF, remarks(json.dumps({"optimizer": ADAM, "seed": 7})), r"KeyError\('iterations'\)"
    ),
    "training: a step below zero": Case(HF, rest(iterations=-1), "iterations should be .* at least 0, .* got -1"),
    "training: a step beyond": Case(HF, rest(iterations=10**30), r"iterations should be .* below 2\*\*44, got 1000000"),
    "training: a name that is lists in lists": Case(
        HF, adam(name=[[[["x" * 99] * 9] * 9] * 9]), "can't be used: this is not the config of an optimizer"
    ),
    "training: a step that is a text": Case(HF, rest(iterations="x" * 9999), "iterations should be .*, got 'xxx"),
    "training: half a step": Case(HF, rest(iterations=2.5), "iterations should be .*, got 2.5"),
    "training: a seed beyond": Case(
        HF, rest(seed=1 << 64), r"seed should be .* below 2\*\*64, got 18446744073709551616"
    ),
    "training: a seed that is none": Case(HF, rest(seed=None), "seed should be a whole number.*, got None"),
    "training: an optimizer that is a text": Case(
        HF, rest(optimizer="adam"), "config should be an object, it is a str"
    ),
    "training: another optimizer": Case(
        HF, adam(name="sgd"), "not the config of an optimizer: .*optimizer must be one of adam.*got 'sgd'"
    ),
    "training: an optimizer without a name": Case(
        HF,
        rest(optimizer={"learning_rate": 1e-3}),
        "optimizer's config should be a dict with class_name and config, or",
    ),
    "training: an optimizer without end": Case(
        HF, adam(name="sgd" * 99_999), "not the config of an optimizer: .*got 'sgdsgdsgdsgd"
    ),
    "training: an argument that isn't": Case(
        HF, adam(momentum=1), "not the config of an optimizer.*argument 'momentum'"
    ),
    "training: a rate below zero": Case(
        HF, adam(learning_rate=-1), "not the config of an optimizer.*learning_rate must be .* -1"
    ),
    "training: another schedule": Case(
        HF,
        adam(learning_rate={"name": "os.system"}),
        "not the config of an optimizer.*the schedule's name must be one of",
    ),
    "training: another class of schedule": Case(
        HF,
        adam(learning_rate={"class_name": "os.system", "config": {}}),
        "the schedule must be one of Constant.*'os.sys",
    ),
    "training: a schedule whose config is none": Case(
        HF, adam(learning_rate={"class_name": "CosineDecay", "config": 3}), "config should be a dict of its arg.*got 3"
    ),
    "training: a schedule with an argument that isn't": Case(
        HF,
        adam(learning_rate={"class_name": "CosineDecay", "config": {"x": 1}}),
        "this is not the config of CosineDecay",
    ),
    "training: a schedule of no steps": Case(
        HF,
        adam(learning_rate={"class_name": "CosineDecay", "config": {"initial_learning_rate": 1, "decay_steps": 0}}),
        "decay_steps must be more than 0",
    ),
    "training: an average that is none": Case(HF, adam(use_ema=1), "use_ema must be True or False, got 1"),
    "training: amsgrad without its slot": Case(HF, adam(amsgrad=True), "the optimizer's state lacks v_hat"),
    "training: a schedule that ends before it begins": Case(
        HF,
        adam(learning_rate={"name": "linear", "learning_rate": 1, "total_steps": 3, "warmup_steps": 9}),
        "total_steps includes the warm-up and must be more",
    ),
    "training: beta 1": Case(HF, adam(beta_1=1), r"not the config of an optimizer.*beta_1 must be in \[0, 1\), got 1"),
    "training: a pattern in place of a name": Case(
        HF, adam(exclude_from_weight_decay=[r"(([a-z.]+)+)+\d\d$"]), r"no parameter is named '\(\(\[a-z"
    ),
    "training: many names": Case(
        HF, adam(exclude_from_weight_decay=[f"{i}|bias" for i in range(400_000)]), r"no parameter is named '0\|bias'"
    ),
    "training: names that are a text": Case(
        HF, adam(exclude_from_weight_decay="bias"), "should be a list of names, got 'bias'"
    ),
    "training: a name that is a list": Case(
        HF, adam(exclude_from_weight_decay=[["bias"]]), r"no parameter is named \['bias'\]"
    ),
    "training: a moment missing": Case(HF, moments(lambda t: t.pop(BIAS)), "lacks 1 of the .*: m.head.bias"),
    "training: a moment more": Case(
        HF, moments(lambda t: t.update({"u.head.bias": t[BIAS].copy()})), "does not have: u.head.bias"
    ),
    "training: another model's moments": Case(
        HF, enlarged("embeddings.token"), r"m.embeddings.token has shape \(299, 8\), expected \(300, 8\)"
    ),
    "training: integers": Case(
        HF, moments(lambda t: t.update({BIAS: t[BIAS].astype("i4")})), "tensor 'm.head.bias' is stored as I32"
    ),
    "training: NaN": Case(
        HF, moments(lambda t: t[BIAS].__setitem__(7, np.nan)), r"m\['head.bias'\] has a number .*, nan"
    ),
    "training: float64 too large": Case(
        HF, moments(lambda t: t.update({BIAS: np.full(ROW, -1e300)})), r"m\['head.bias'\] has a number .*, -inf"
    ),
    "training: a square below zero": Case(
        HF, moments(lambda t: t["v.head.bias"].__setitem__(7, -0.5)), r"v\['head.bias'\] has a number .*, -0.5"
    ),
    # --- task.weights.h5
    "training: keras: no state": Case(
        KERAS, h5(lambda f: f.pop("optimizer"), HEAD), r"no optimizer's state \(optimizer/vars of task.weights.h5\)"
    ),
    "training: keras: no file": Case(KERAS, lambda d: (d / HEAD).unlink(), r"no optimizer's state \(optimizer/vars of"),
    "training: keras: an array missing": Case(
        KERAS, h5(lambda f: f.pop("optimizer/vars/9"), HEAD), r"lacks 'optimizer/vars/9' of the optimizer's \d+ arrays"
    ),
    "training: keras: an array more": Case(
        KERAS,
        h5(lambda f: f.create_dataset(f"optimizer/vars/{len(f['optimizer/vars'])}", data=[1.0]), HEAD),
        r"the optimizer has \d+ arrays\. Adam of a model of the size",
    ),
    "training: keras: another model's moments": Case(
        KERAS, variable(2, np.ones((299, 8), "f4")), r"optimizer/vars/2 has shape \(299, 8\), expected \(300, 8\)"
    ),
    "training: keras: an external link among many": Case(
        KERAS,
        variable(5, h5py.ExternalLink("/etc/passwd", "/x")),
        "'optimizer/vars' has its names in a fractal heap, wh",
    ),
    "training: keras: a step below zero": Case(KERAS, variable(0, np.int64(-3)), "iterations should be .*, got -3"),
    "training: keras: a step that is NaN": Case(KERAS, variable(0, np.nan), "iterations should be .*, got nan"),
    "training: keras: an infinite step": Case(KERAS, variable(0, np.inf), "iterations should be .*, got inf"),
    "training: keras: a moment that was never written": Case(
        KERAS,
        h5(lambda f: (s := f.pop("optimizer/vars/2")) and f.create_dataset("optimizer/vars/2", s.shape, "f4"), HEAD),
        "optimizer/vars/2' should have .* it was never written",
    ),
    "training: keras: a step that is a text": Case(KERAS, variable(0, "x"), "optimizer/vars/0' is stored as texts"),
    "training: keras: a rate that is NaN": Case(
        KERAS,
        lambda d: (change("task.json", lambda t: t.pop("pyroberta"))(d), variable(1, np.float32("nan"))(d)),
        "not the config of an optimizer.*learning_rate must be a number .*nan",
    ),
    "training: keras: NaN": Case(
        KERAS, variable(3, np.full((ROW, 8), np.nan, "f4")), r"v\['embeddings.token'\] has a number .*, nan"
    ),
    "training: keras: what is ours true": Case(
        KERAS, values("task.json", pyroberta=True), "task.json: pyroberta should be an object, it is a bool"
    ),
    "training: keras: an optimizer that is a list": Case(
        KERAS, changed_settings(optimizer=[]), "config should be an object, it is a li"
    ),
    "training: keras: a seed that is a text": Case(
        KERAS, changed_settings(seed="7"), "seed should be a whole number.*, got '7'"
    ),
}
