"""Files of low-rank changes: PEFT's adapter directory and KerasHub's `.lora.h5`. Both are read and written.

    adapter_config.json          rank, alpha, which layers
    adapter_model.safetensors    (or adapter_model.bin)
                                 base_model.model.roberta.encoder.layer.0.attention.self.query.lora_A.weight (r, C)
                                 … .lora_B.weight (C, r)

PEFT's matrices are (out, in), so they are transposed.

KerasHub's factors have another form. Its query kernel is (C, H, D), a is (C, H, r) and b is (r, D). So all attention
heads share b, and a has separate columns for each attention head. The change of attention head h is a[:, h] b. The
whole change, as a (C, C) matrix, has a rank of up to H·r. It is read exactly, as factors of rank H·r: A is a with its
columns side by side, and B has b in H blocks on its diagonal.

For writing, let B_h (r, D) be the columns of B that belong to attention head h. The rows of all B_h together span a
space of at most min(H·r, D) dimensions. b is a basis of this space, and with B_h = L_h b, a[:, h] is A L_h. This
changes the kernels as A B does, up to rounding, and has the lowest possible rank.

Sources: peft's `tuners/lora`, `utils/save_and_load.py`; Keras's `layers/core/einsum_dense.py`, keras-hub's
`models/backbone.py`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyroberta.formats import hdf5, hdf5_writer, safetensors_io
from pyroberta.formats.files import as_path, exists, number, read_json, shown
from pyroberta.formats.new_files import place_of, replace_files
from pyroberta.formats.stored import FLOATS, Copy, Stored, few, refuse_non_finite
from pyroberta.model.callers import callers_level
from pyroberta.model.config import RobertaConfig
from pyroberta.model.parameters import Arrays, is_lora, shapes
from pyroberta.presets.detect import ADAPTER, hint_of_inside
from pyroberta.presets.renaming import without_shared_prefix
from pyroberta.presets.writing import json_file

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
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
# A pattern comes from a stranger. Python's `re` tries one way after the other, so that some would take forever. Only a
# pattern of these pieces, which has few ways, is run, as in PEFT. The matches of any other follow from the factors in
# the file, since PEFT saves only those of the modules that matched.
PIECE = re.compile(
    r"(?P<open>\((\?:)?)|(?P<close>\))|(?P<or>\|)|(?P<repeat>[*+]\??)|(?P<perhaps>\?\??)"
    r"|(?P<one>\\[.dw-]|\[\^?[\w.-]+\]|[\w.^$-])"
)
MOST_STEPS, MOST_NESTED, LONGEST_NAME = 1 << 22, 32, 64
ALL_LINEAR = "all-linear"  # PEFT's own name for every linear layer but the last
# What is done with each field of PEFT's LoraConfig, which adapter_config.json has as keys. `read` takes these over:
FOLLOWED = (
    "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
)  # fmt: skip
# These may have only the values with which PEFT computes what is computed here. The last value is shown in messages.
ONLY: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("peft_type", ("LORA",), "other adapters are other models"),
    ("bias", ("none",), "biases would be part of the adapter"),
    ("modules_to_save", (None, []), "whole layers would be part of the adapter"),
    ("rank_pattern", (None, {}), "all layers have one rank here"),
    ("alpha_pattern", (None, {}), "all layers have one alpha here"),
    ("use_rslora", (None, False), "the factor here is alpha / r, not alpha / √r"),
    ("use_dora", (None, False), "DoRA changes the kernel's norm too"),
    ("lora_bias", (None, False), "the change has no bias here"),
    (
        "init_lora_weights",
        (None, False, "gaussian", "eva", "orthogonal", True),
        "PEFT changes the model's own weights with other values when it loads the adapter. PEFT saves an ordinary "
        "adapter with save_pretrained(..., path_initial_model_for_weight_conversion=...)",
    ),
    ("trainable_token_indices", (None, [], {}), "rows of the token embedding would be part of the adapter"),
    ("layer_replication", (None, []), "the model would have more layers"),
    ("alora_invocation_tokens", (None, []), "aLoRA changes the tokens after an invocation alone"),
    ("use_qalora", (None, False), "QALoRA averages the inputs in groups"),
    ("target_parameters", (None, []), "a change of parameters by their own names isn't read"),
    ("megatron_config", (None,), "Megatron's parallel layers aren't read"),
    ("velora_config", (None,), "VeLoRA computes other gradients"),
    ("monteclora_config", (None,), "MonteCLoRA draws its factors at random"),
    ("use_bdlora", (None, False), "BD-LoRA's factors are made of blocks"),
    ("arrow_config", (None,), "Arrow mixes several adapters"),
    ("kasa_config", (None,), "KaSA changes the model's own weights"),
)
# These change nothing of what is computed with the factors, whatever they are.
NO_EFFECT = {
    "task_type": "what the adapter was trained for",
    "auto_mapping": "which classes of transformers to load",
    "peft_version": "who wrote it",
    "base_model_name_or_path": "the model is the one that the factors are loaded into",
    "revision": "of that model",
    "inference_mode": "whether PEFT freezes the factors when it loads them",
    "fan_in_fan_out": "how other models than RoBERTa store their kernels; PEFT ignores it for linear layers",
    "megatron_core": "a module's name, used with megatron_config alone",
    "loftq_config": "used with init_lora_weights='loftq' alone",
    "eva_config": "how the factors were drawn",
    "corda_config": "used with init_lora_weights='corda' alone",
    "lora_ga_config": "used with init_lora_weights='lora_ga' alone",
    "qalora_group_size": "used with use_qalora alone",
    "runtime_config": "where PEFT computes",
    "ensure_weight_tying": "used with modules_to_save and trainable_token_indices alone",
}
# A field that PEFT may get in the future is read where it has one of these values, which switch things off.
OFF: tuple[Any, ...] = (None, False, 0, "", [], {})
# KerasHub numbers a backbone's layers; these are the numbers of layer i's in keras 3.15 with keras-hub 0.32.
KERASHUB_INDEX = {"value": 11, "query": 13}
KERASHUB_STEP = 10


def write(path: Path | str, config: RobertaConfig, params: Mapping[str, NDArray[Any]]) -> None:
    """Writes an adapter directory atomically. `peft.PeftModel.from_pretrained` loads it.

    If the name ends in `.lora.h5`, it writes a file that `load_lora_weights` of KerasHub's backbone loads.

    Args:
        path: the path, which is created with its parents, or replaced. A directory is replaced only if it holds an
            adapter. Other files in it, such as a model card, stay. `~` is expanded.
        config: the config of a model with LoRA.
        params: the parameters of the model. The factors are written, in float32.

    Raises:
        ValueError: if a factor is not finite, or KerasHub's form can't hold a kernel that changes.
        ImportError: if KerasHub's file is written and h5py is not installed.
        FileExistsError: if `path` is a file, or holds other files than those of an adapter.
        OSError: if the disk is full. The message has the bytes needed and the bytes free.
    """
    from pyroberta.formats.atomic import replace_directory

    if str(path).endswith(KERASHUB):
        _write_kerashub(place_of(path), config, params)
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
    factors = {_theirs(name): array.T for name, array in params.items() if is_lora(name)}
    files = {CONFIG: json_file(values), WEIGHTS: safetensors_io.new_file(factors)}
    replace_directory(path, files, ADAPTER)


def read(path: Path | str, config: RobertaConfig) -> tuple[RobertaConfig, dict[str, NDArray[Any]]]:
    """Returns the factors in an adapter directory, or in KerasHub's file.

    Args:
        path: the path of the directory or the file.
        config: the config of the model for which the factors are, with or without LoRA.

    Returns:
        The config with the rank, alpha and targets of the file, and the factors by pyroberta's names, in float64. If
        the adapter leaves a kernel out, by `layers_to_transform` for example, its factors are 0.

    Warns:
        UserWarning: if `lora_dropout` is not 0, or a pattern is not evaluated.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if the adapter is damaged, belongs to a model of another shape, or is of another kind. The message
            names the kind.
        ImportError: if KerasHub's file is read and h5py is not installed.
    """
    path = as_path(path)
    if path.name.endswith(KERASHUB):
        return _read_kerashub(path, config)
    from pyroberta.formats.atomic import readable

    directory = readable(path)
    if not exists(directory) or not directory.is_dir():
        raise FileNotFoundError(f"there is no directory {str(path)!r} to load LoRA weights from")
    file = directory / CONFIG
    if not exists(file) and (inside := hint_of_inside(directory, (CONFIG,))):
        raise FileNotFoundError(f"{directory} has no {CONFIG}.{inside}")
    values = read_json(file)
    _refuse_other_adapters(file, values)
    found: dict[str, Stored] = {}
    tensors = _tensors(directory)
    for theirs, tensor in tensors.items():
        name = _ours(tensor.file, theirs)
        if name in found:
            raise ValueError(
                f"{tensor.file}: {shown(found[name].name)} and {shown(tensor.name)} are the same parameter"
            )
        found[name] = tensor
    rank, alpha = number(file, values, "r", 8), number(file, values, "lora_alpha", 8.0)
    called = _called_for(file, values, config, found, any(".roberta." in theirs for theirs in tensors))
    targets = tuple(
        t for t in MODULES if any(f".{t}.lora_" in name for name in found) or any(t == c for _, c in called)
    )
    try:
        config = replace(config, lora_rank=rank, lora_alpha=alpha, lora_targets=targets or RobertaConfig.lora_targets)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    everything = {name: shape for name, shape in shapes(config).items() if is_lora(name)}
    wanted = {name: shape for name, shape in everything.items() if _place(name) in called} if targets else everything
    beyond = [tensor.name for name, tensor in found.items() if name in everything and name not in wanted]
    if beyond:
        raise ValueError(
            f"{next(iter(found.values())).file} has factors that the target_modules, exclude_modules and "
            f"layers_to_transform of {CONFIG} do not select: {few(map(shown, beyond))}"
        )
    _refuse_differences(
        next((tensor.file for tensor in found.values()), directory / WEIGHTS),
        wanted,
        {name: tensor.shape[::-1] for name, tensor in found.items()},
    )
    # Factors of zero change nothing and have no gradients: a layer that the adapter leaves out stays what it is.
    factors = Arrays(everything, np.float64)
    for name, tensor in found.items():
        if tensor.dtype not in FLOATS:
            raise ValueError(
                f"{tensor.file}: tensor {shown(tensor.name)} is stored as {tensor.dtype}, expected a float"
            )
        Copy(tensor, factors[name], transpose=True).run()
    rate = number(file, values, "lora_dropout", 0.0)
    if rate:
        warnings.warn(
            f"{file}: lora_dropout is {rate:g}. It only affects training, and training continues without it here",
            stacklevel=callers_level(),
        )
    return config, dict(factors)


def _refuse_other_adapters(file: Path, values: Mapping[str, Any]) -> None:
    """Checks that every field is known, with a value that is followed or has no effect."""
    for key, allowed, reason in ONLY:
        if values.get(key, allowed[0]) not in allowed:
            raise ValueError(f"{file}: {key} is {shown(values[key])}, only {allowed[-1]!r} can be read: {reason}")
    known = {*FOLLOWED, *NO_EFFECT, *(key for key, _, _ in ONLY)}
    for key, value in values.items():
        if key not in known and value not in OFF:
            raise ValueError(
                f"{file}: {shown(key)} is {shown(value)}, an unknown field, which may change the results. If it only "
                "affects training, remove it from the file"
            )


def _tensors(directory: Path) -> dict[str, Stored]:
    """The tensors of an adapter by PEFT's names, without common components in front of PEFT's prefix."""
    if not exists(directory / WEIGHTS) and exists(directory / PICKLE):
        from pyroberta.formats import torch_io  # here, since few need it and its import takes long

        tensors = torch_io.read_state_dict(directory / PICKLE)
    else:
        tensors = safetensors_io.read(directory / WEIGHTS)
    outer = without_shared_prefix(tensors, ("base_model",))
    start = "base_model.model."
    if not all(name.startswith(start) for name in outer):
        return outer
    inner = without_shared_prefix(
        {name.removeprefix(start): one for name, one in outer.items()}, ("roberta", "encoder")
    )
    return {start + name: tensor for name, tensor in inner.items()}


def _called_for(
    file: Path, values: Mapping[str, Any], config: RobertaConfig, found: Mapping[str, Stored], has_head: bool
) -> set[tuple[int, str]]:
    """The kernels that the adapter changes, as PEFT's `check_target_module_exists` finds them: layer and target.

    PEFT takes a string for a regular expression that matches whole names. If it isn't run here, see `PIECE`, the
    factors in the file are taken as its matches, with a warning.

    Args:
        file, values: adapter_config.json.
        config: of the model.
        found: the factors by their names here.
        has_head: whether the modules of PEFT's model are below `roberta.`, as they are with a head.
    """
    named, left_out = (_modules(file, values, key) for key in ("target_modules", "exclude_modules"))
    layers = _layers(file, values, config)
    if isinstance(named, str):
        for key in ("layers_to_transform", "layers_pattern"):
            if values.get(key) not in OFF:
                raise ValueError(
                    f"{file}: {key} is {shown(values[key])} beside a pattern, {shown(named)}, which PEFT does not "
                    "accept"
                )
    places = {_place(name) for name in found}
    if not all(_is_run(file, names) for names in (named, left_out) if isinstance(names, str)):
        counts = {target: sum(target == one for _, one in places) for target in MODULES}
        warnings.warn(
            f"{file}: target_modules or exclude_modules is a pattern that is not evaluated, since that could take very "
            "long. The factors in the file are used, in "
            f"{', '.join(f'{count} layers for {one}' for one, count in counts.items() if count)}. Other modules that "
            "the pattern matches do not change",
            stacklevel=callers_level(),
        )
        return places
    called = set()
    for i, (target, (module, _)) in product(layers, MODULES.items()):
        name = f"{'roberta.' if has_head else ''}encoder.layer.{i}.{module}"
        is_named = any(one == target for _, one in places) if named is None else _is_among(name, named)
        if is_named and not _is_among(name, left_out or []):
            called.add((i, target))
    return called


def _modules(file: Path, values: Mapping[str, Any], key: str) -> list[str] | str | None:
    said = values.get(key)
    if said is None or isinstance(said, str) or (isinstance(said, list) and all(isinstance(n, str) for n in said)):
        return said or None
    raise ValueError(f"{file}: {key} should be a list of names or a pattern, got {shown(said)}")


def _is_run(file: Path, pattern: str) -> bool:
    """Whether the pattern consists of `PIECE`s that take few steps to try.

    Raises:
        ValueError: if it is no regular expression.
    """
    place = pieces = repeats = 0
    ways, before, alternatives = 1, "", [1]
    while place < len(pattern):
        piece = PIECE.match(pattern, place)
        if piece is None:
            return False
        place, kind, pieces = piece.end(), str(piece.lastgroup), pieces + 1
        if kind == "repeat" and before == "close":
            return False
        if kind == "open":
            alternatives.append(1)
        elif kind == "or":
            alternatives[-1] += 1
        elif kind == "close" and len(alternatives) > 1:
            ways *= alternatives.pop()
        repeats += kind == "repeat"
        ways *= 2 if kind == "perhaps" else 1
        if len(alternatives) > MOST_NESTED or ways * pieces > MOST_STEPS or repeats > LONGEST_NAME:
            return False
        before = kind
    ways *= alternatives[0] * comb(LONGEST_NAME + repeats, repeats)  # shares of a name's letters for each repeat
    if ways * pieces > MOST_STEPS:
        return False
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{file}: {shown(pattern)} is not a regular expression: {error}") from None
    return True


def _is_among(module: str, names: list[str] | str) -> bool:
    if isinstance(names, str):
        return names.lower() == ALL_LINEAR or re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


def _layers(file: Path, values: Mapping[str, Any], config: RobertaConfig) -> list[int]:
    """The layers of `layers_to_transform`; all if it is missing."""
    said, pattern = values.get("layers_to_transform"), values.get("layers_pattern")
    if said is None or said == []:
        return list(range(config.num_layers))
    layers = said if isinstance(said, list) else [said]
    if not all(type(i) is int and 0 <= i < config.num_layers for i in layers):
        raise ValueError(
            f"{file}: layers_to_transform is {shown(said)}; it should have numbers of layers, from 0 to "
            f"{config.num_layers - 1} in this model"
        )
    if pattern not in (None, "", [], "layer") and not (isinstance(pattern, list) and "layer" in pattern):
        raise ValueError(
            f"{file}: layers_pattern is {shown(pattern)}; the list of RoBERTa's layers has the name 'layer'"
        )
    return sorted(set(layers))


def _place(name: str) -> tuple[int, str]:
    """The layer and the target of a factor."""
    _, layer, _, target, _ = name.split(".")
    return int(layer), target


def _theirs(name: str) -> str:
    _, layer, _, target, factor = name.split(".")
    return f"{PREFIX}.{layer}.{MODULES[target][0]}.lora_{factor[-1].upper()}.weight"


def _ours(file: Path, theirs: str) -> str:
    place = PLACE.fullmatch(theirs)
    target = next((t for t, (module, _) in MODULES.items() if place and module == place["module"]), None)
    if place is None or target is None:
        raise ValueError(
            f"{file}: tensor {shown(theirs)} can't be used: here LoRA changes only the kernels of attention's "
            f"{', '.join(MODULES)}"
        )
    return f"layers.{int(place['layer'])}.attention.{target}.lora_{place['factor'].lower()}"


def _refuse_differences(file: Path, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    wrong = [
        f"{name} is {found.get(name, 'missing')}, the model's shape {wanted.get(name, 'has no such layer')}"
        for name in {**wanted, **found}
        if wanted.get(name) != found.get(name)
    ]
    if wrong:
        raise ValueError(f"{file} is not for this model: {few(wrong, '; ')}")


def _read_kerashub(file: Path, config: RobertaConfig) -> tuple[RobertaConfig, dict[str, NDArray[Any]]]:
    if not exists(file):
        raise FileNotFoundError(f"there is no file {str(file)!r} to load LoRA weights from")
    stored = hdf5.read(file, {"lora/vars/rank": ()})  # a look: all shapes, and one number
    ranks = stored.pop("lora/vars/rank", None)
    if ranks is None or ranks.shape != ():
        raise ValueError(f"{file} has no lora/vars/rank, so KerasHub's save_lora_weights did not write it")
    rank = ranks.array().item()
    if type(rank) is not int or rank < 1:
        raise ValueError(f"{file}: lora/vars/rank should be a whole number of at least 1, got {shown(rank)}")
    r, C, H, D = rank, config.hidden_dim, config.num_heads, config.head_dim
    wanted: dict[str, tuple[int, ...]] = {}
    for i in range(config.num_layers):
        for target in KERASHUB_INDEX:
            wanted |= {_kerashub_place(i, target, "a"): (C, H, r), _kerashub_place(i, target, "b"): (r, D)}
    _refuse_differences(file, wanted, {name: tensor.shape for name, tensor in stored.items()})
    stored = hdf5.read(file, wanted)  # before the arrays are made: the rank is the file's own claim
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
    hdf5.import_h5py(file.name)
    others = [target for target in config.lora_targets if target not in KERASHUB_INDEX]
    if others:
        raise ValueError(
            f"can't write {file}: KerasHub changes only the kernels of query and value, but this model changes that of "
            f"{' and '.join(others)} too. Give the name of a directory, for PEFT's format"
        )
    if file.is_dir():
        raise FileExistsError(f"{file} is a directory, but KerasHub's weights are a file. Give another name")
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
    cut: dict[str, NDArray[Any]] = {}
    for (i, target), (a, b) in factors.items():
        cut[_kerashub_place(i, target, "a")] = a[:, :, :rank]
        cut[_kerashub_place(i, target, "b")] = b[:rank]
    ranks = {"lora/vars/rank": np.array(rank)}
    replace_files(file.parent, {file.name: hdf5_writer.new_file(file.name, cut, "float32", ranks)})


def _kerashub_place(i: int, target: str, factor: str) -> str:
    return f"lora/{KERASHUB_INDEX[target] + KERASHUB_STEP * i}/vars/lora_kernel_{factor}"
