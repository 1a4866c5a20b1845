"""Low-rank changes in files of their own: PEFT's adapter directory and KerasHub's `.lora.h5`, read and written.

    adapter_config.json          rank, alpha, which layers
    adapter_model.safetensors    base_model.model.roberta.encoder.layer.0.attention.self.query.lora_A.weight (r, C)
                                 … .lora_B.weight (C, r)

PEFT's matrices lie (out, in), so each is ours turned around.

KerasHub's factors have another form: its query kernel is (C, H, D), a is (C, H, r) and b (r, D), so all heads share b,
and a has its own columns for each head. The change of head h is a[:, h] b, and the whole, as a (C, C) matrix, has a
rank of up to H·r. It is read exactly as factors of rank H·r: A = a with its columns side by side, B with b in H blocks
on its diagonal.

The way back: let B_h (r, D) be the columns of B that are head h's. The rows of all B_h together span a space of at most
min(H·r, D) dimensions; b is a basis of it, and with B_h = L_h b, a[:, h] is A L_h. That changes the kernels as A B
does, up to rounding, with the least rank that can.

Sources: peft's `tuners/lora`, `utils/save_and_load.py`; Keras's `layers/core/einsum_dense.py`, keras-hub's
`models/backbone.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyroberta.model.config import RobertaConfig
from pyroberta.model.params import Arrays, is_lora, shapes
from pyroberta.presets import safetensors_io
from pyroberta.presets.stored import FLOATS, Copy, Stored, few, refuse_non_finite
from pyroberta.text.files import number, read_json, shown

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
KERASHUB = ".lora.h5"
PREFIX = "base_model.model.roberta.encoder.layer"

# Ours, and the module as PEFT's tensors and its config name it.
MODULES = {
    "query": ("attention.self.query", "query"),
    "key": ("attention.self.key", "key"),
    "value": ("attention.self.value", "value"),
    "output": ("attention.output.dense", "attention.output.dense"),
}
PLACE = re.compile(
    r"base_model\.model\.(?:roberta\.)?encoder\.layer\.(?P<layer>\d{1,4})\.(?P<module>attention\.[a-z.]+)"
    r"\.lora_(?P<factor>[AB])\.weight"
)
# Keys of adapter_config.json that change what is computed, and the values with which it is what is computed here.
ONLY: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("peft_type", ("LORA",), "other adapters are other models"),
    ("bias", ("none",), "biases would be part of the adapter"),
    ("modules_to_save", (None, []), "whole layers would be part of the adapter"),
    ("rank_pattern", (None, {}), "all layers have one rank here"),
    ("alpha_pattern", (None, {}), "all layers have one alpha here"),
    ("use_rslora", (None, False), "the factor here is alpha / r, not alpha / √r"),
    ("use_dora", (None, False), "DoRA changes the kernel's norm too"),
    ("lora_bias", (None, False), "the change has no bias here"),
)
# KerasHub numbers a backbone's layers; these are the numbers of layer i's in keras 3.15 with keras-hub 0.32.
KERASHUB_INDEX = {"value": 11, "query": 13}
KERASHUB_STEP = 10


def write(path: Path | str, config: RobertaConfig, params: Mapping[str, NDArray[Any]]) -> None:
    """Writes an adapter directory that `peft.PeftModel.from_pretrained` loads, or a file that `load_lora_weights` of
    KerasHub's backbone does, where the name ends in `.lora.h5`; atomically.

    Args:
        path: made, or replaced; a directory where it holds an adapter, whose other files, such as a model card, stay.
        config: of a model with LoRA.
        params: its parameters, of which the factors are written, in float32.

    Raises:
        ValueError: where a factor is not finite, or KerasHub's form has no place for a kernel that changes.
        ImportError: for KerasHub's file, where h5py is not installed.
        FileExistsError: where `path` is a file, or holds other things than an adapter.
    """
    from pyroberta.presets.atomic import replacing_directory

    if str(path).endswith(KERASHUB):
        _write_kerashub(Path(path), config, params)
        return
    values = {
        "base_model_name_or_path": None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": config.lora_rank,
        "target_modules": [MODULES[target][1] for target in config.lora_targets],
        "task_type": None,
    }
    with replacing_directory(path, [CONFIG, "adapter_model.*"], mark=CONFIG) as new:
        (new / CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        factors = {name: array for name, array in params.items() if is_lora(name)}
        safetensors_io.write(new / WEIGHTS, {_theirs(name): factor.T for name, factor in factors.items()})


def read(path: Path | str, config: RobertaConfig) -> tuple[RobertaConfig, dict[str, NDArray[Any]]]:
    """The factors in an adapter directory, or in KerasHub's file.

    Args:
        path: of either.
        config: of the model that they are for; whether it has LoRA itself does not matter.

    Returns:
        The config with the rank, alpha and targets that the file has, and the factors by their names here, in float64.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: where it is damaged, made for a model of another shape, or another kind of adapter: saying which.
        ImportError: for KerasHub's file, where h5py is not installed.
    """
    path = Path(path).expanduser()
    if path.name.endswith(KERASHUB):
        return _read_kerashub(path, config)
    from pyroberta.presets.atomic import readable

    directory = readable(path)
    if not directory.is_dir():
        raise FileNotFoundError(f"there is no directory {str(path)!r} to load LoRA weights from")
    file = directory / CONFIG
    values = read_json(file)
    for key, allowed, reason in ONLY:
        if values.get(key, allowed[0]) not in allowed:
            raise ValueError(f"{file}: {key} is {shown(values[key])}, only {allowed[-1]!r} can be read: {reason}")
    found: dict[str, Stored] = {}
    for theirs, tensor in safetensors_io.read(directory / WEIGHTS).items():
        name = _ours(tensor.file, theirs)
        if name in found:
            raise ValueError(f"{tensor.file}: {shown(found[name].name)} and {shown(theirs)} are the same parameter")
        found[name] = tensor
    targets = tuple(target for target in MODULES if any(f".{target}.lora_" in name for name in found))
    rank, alpha = number(file, values, "r", 8), number(file, values, "lora_alpha", 8.0)
    try:
        config = replace(config, lora_rank=rank, lora_alpha=alpha, lora_targets=targets or RobertaConfig.lora_targets)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    wanted = {name: shape for name, shape in shapes(config).items() if is_lora(name)}
    _refuse_differences(directory / WEIGHTS, wanted, {name: tensor.shape[::-1] for name, tensor in found.items()})
    factors = Arrays(wanted, np.float64)
    for name, tensor in found.items():
        if tensor.dtype not in FLOATS:
            raise ValueError(
                f"{tensor.file}: tensor {shown(tensor.name)} is stored as {tensor.dtype}, expected a float"
            )
        Copy(tensor, factors[name], transpose=True).run()
    return config, dict(factors)


def _theirs(name: str) -> str:
    _, layer, _, target, factor = name.split(".")
    return f"{PREFIX}.{layer}.{MODULES[target][0]}.lora_{factor[-1].upper()}.weight"


def _ours(file: Path, theirs: str) -> str:
    place = PLACE.fullmatch(theirs)
    target = next((t for t, (module, _) in MODULES.items() if place and module == place["module"]), None)
    if place is None or target is None:
        raise ValueError(
            f"{file}: tensor {shown(theirs)} has no place in a RoBERTa here, where LoRA changes the kernels of "
            f"attention's {', '.join(MODULES)}"
        )
    return f"layers.{int(place['layer'])}.attention.{target}.lora_{place['factor'].lower()}"


def _refuse_differences(file: Path, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    wrong = [
        f"{name} is {found.get(name, 'missing')}, the model's shape {wanted.get(name, 'has no such layer')}"
        for name in {**wanted, **found}
        if wanted.get(name) != found.get(name)
    ]
    if wrong:
        raise ValueError(f"{file} isn't for this model: {few(wrong, '; ')}")


def _read_kerashub(file: Path, config: RobertaConfig) -> tuple[RobertaConfig, dict[str, NDArray[Any]]]:
    from pyroberta.presets.kerashub import read_h5

    if not file.exists():
        raise FileNotFoundError(f"there is no file {str(file)!r} to load LoRA weights from")
    stored = read_h5(file, {"lora/vars/rank": ()})  # a look: all shapes, and one number
    ranks = stored.pop("lora/vars/rank", None)
    if ranks is None or ranks.shape != ():
        raise ValueError(f"{file} has no lora/vars/rank, so it is not what KerasHub's save_lora_weights writes")
    rank = ranks.array().item()
    if type(rank) is not int or rank < 1:
        raise ValueError(f"{file}: lora/vars/rank should be a whole number of at least 1, got {shown(rank)}")
    r, C, H, D = rank, config.hidden_dim, config.num_heads, config.head_dim
    wanted: dict[str, tuple[int, ...]] = {}
    for i in range(config.num_layers):
        for target in KERASHUB_INDEX:
            wanted |= {_kerashub_place(i, target, "a"): (C, H, r), _kerashub_place(i, target, "b"): (r, D)}
    _refuse_differences(file, wanted, {name: tensor.shape for name, tensor in stored.items()})
    stored = read_h5(file, wanted)  # before the arrays are made: the rank is the file's own claim
    theirs = Arrays(wanted, np.float64)
    for name in wanted:
        Copy(stored[name], theirs[name]).run()
    factors: dict[str, NDArray[Any]] = {}
    for i in range(config.num_layers):
        for target in ("query", "value"):
            a, b = (theirs[_kerashub_place(i, target, factor)] for factor in "ab")
            factors[f"layers.{i}.attention.{target}.lora_a"] = a.reshape(C, H * r)
            factors[f"layers.{i}.attention.{target}.lora_b"] = np.kron(np.eye(H), b)  # (H·r, H·D)
    return replace(config, lora_rank=H * r, lora_alpha=float(H * r), lora_targets=("query", "value")), factors


def _write_kerashub(file: Path, config: RobertaConfig, params: Mapping[str, NDArray[Any]]) -> None:
    from pyroberta.presets.kerashub import import_h5py

    h5py = import_h5py(file.name)
    others = [target for target in config.lora_targets if target not in KERASHUB_INDEX]
    if others:
        raise ValueError(
            f"can't write {file}: KerasHub changes the kernels of query and value alone, this model that of "
            f"{' and '.join(others)} too. Give the name of a directory, for PEFT's format"
        )
    if file.is_dir():
        raise FileExistsError(f"{file} is a directory, and KerasHub's weights are a file")
    C, H, D, r = config.hidden_dim, config.num_heads, config.head_dim, config.lora_rank
    rank, factors = 1, {}
    for i, target in product(range(config.num_layers), KERASHUB_INDEX):
        name = f"layers.{i}.attention.{target}"
        a, b = (
            np.asarray(params.get(f"{name}.lora_{letter}", np.zeros(shape)), np.float64)
            for letter, shape in (("a", (C, r)), ("b", (r, C)))
        )
        refuse_non_finite(a, f"{name}.lora_a", "Training diverged")
        refuse_non_finite(b, f"{name}.lora_b", "Training diverged")
        left, sizes, basis = np.linalg.svd(b.reshape(r, H, D).swapaxes(0, 1).reshape(H * r, D), full_matrices=False)
        rank = max(rank, int(np.sum(sizes > sizes[0] * H * r * np.finfo(np.float64).eps)))
        spread = (left * sizes).reshape(H, r, -1)
        factors[i, target] = np.einsum("cr,hrk->chk", config.lora_scale * a, spread), basis
    with TemporaryDirectory(prefix=".", dir=file.parent) as parent:
        new = Path(parent) / file.name
        with h5py.File(new, "w") as opened:
            opened["lora/vars/rank"] = rank
            for (i, target), (a, b) in factors.items():
                opened[_kerashub_place(i, target, "a")] = a[:, :, :rank].astype(np.float32)
                opened[_kerashub_place(i, target, "b")] = b[:rank].astype(np.float32)
        new.replace(file)


def _kerashub_place(i: int, target: str, factor: str) -> str:
    return f"lora/{KERASHUB_INDEX[target] + KERASHUB_STEP * i}/vars/lora_kernel_{factor}"
