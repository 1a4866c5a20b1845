"""The Hugging Face directory: config.json, model.safetensors (or pytorch_model.bin), and the files of the tokenizer.

The files differ from pyroberta's parameters in these points, which only this file handles:

- They have other names; see the table `NAMES`. Their kernels are (out, in), and (in, out) here.
- Their position embedding begins with `pad_id + 1` rows that no token uses. They are dropped on reading, and written as
  zeros.
- They have a token-type row that is added to every token. It is added to the position embedding, which gives the same
  sum.
- The head's matrix is the token embedding. With `tie_word_embeddings: false` it is `lm_head.decoder.weight`, and the
  bias is `lm_head.decoder.bias`.

This file reads; hf_writer.py writes.

Source: transformers' `models/roberta/modeling_roberta.py`, versions 4 and 5.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from pyroberta.formats import safetensors_io
from pyroberta.formats.directory import Directory
from pyroberta.formats.files import boolean, contents, exists, number, shown
from pyroberta.formats.stored import (
    Copy,
    Stored,
    beside,
    few,
    refuse_differences,
    same,
)  # fmt: skip
from pyroberta.model.config import RobertaConfig
from pyroberta.model.heads import HEADS, has_classes, head_of, same_head
from pyroberta.model.initial_values import initialise
from pyroberta.model.parameters import Arrays, is_backbone, shapes
from pyroberta.presets import learning_rates, optimizer_state
from pyroberta.presets.checks import (
    OnFreshHead,
    check_activation,
    check_classes,
    check_labels,
    check_vocabulary,
    report_fresh_head,
    warn_of_fresh_head,
)
from pyroberta.presets.detect import CONFIG, FileNames, hint_of_inside, model_type
from pyroberta.presets.heads import HEAD_FILES
from pyroberta.presets.optimizer_state import OptimizerState
from pyroberta.presets.renaming import (
    POSITION,
    renamed,
    stored_shapes,
    take_over,
    without_shared_prefix,
)

if TYPE_CHECKING:
    from pyroberta.text.tokenizer import Tokenizer

# Our names to theirs, and whether the matrix is transposed; see renaming.py. Those of the heads are in heads.py.
NAMES = {
    "embeddings.token": ("roberta.embeddings.word_embeddings.weight", False),
    "embeddings.position": ("roberta.embeddings.position_embeddings.weight", False),
    "embeddings.norm.gamma": ("roberta.embeddings.LayerNorm.weight", False),
    "embeddings.norm.beta": ("roberta.embeddings.LayerNorm.bias", False),
    "layers.#.attention.query.kernel": ("roberta.encoder.layer.#.attention.self.query.weight", True),
    "layers.#.attention.query.bias": ("roberta.encoder.layer.#.attention.self.query.bias", False),
    "layers.#.attention.key.kernel": ("roberta.encoder.layer.#.attention.self.key.weight", True),
    "layers.#.attention.key.bias": ("roberta.encoder.layer.#.attention.self.key.bias", False),
    "layers.#.attention.value.kernel": ("roberta.encoder.layer.#.attention.self.value.weight", True),
    "layers.#.attention.value.bias": ("roberta.encoder.layer.#.attention.self.value.bias", False),
    "layers.#.attention.output.kernel": ("roberta.encoder.layer.#.attention.output.dense.weight", True),
    "layers.#.attention.output.bias": ("roberta.encoder.layer.#.attention.output.dense.bias", False),
    "layers.#.attention.norm.gamma": ("roberta.encoder.layer.#.attention.output.LayerNorm.weight", False),
    "layers.#.attention.norm.beta": ("roberta.encoder.layer.#.attention.output.LayerNorm.bias", False),
    "layers.#.feed_forward.intermediate.kernel": ("roberta.encoder.layer.#.intermediate.dense.weight", True),
    "layers.#.feed_forward.intermediate.bias": ("roberta.encoder.layer.#.intermediate.dense.bias", False),
    "layers.#.feed_forward.output.kernel": ("roberta.encoder.layer.#.output.dense.weight", True),
    "layers.#.feed_forward.output.bias": ("roberta.encoder.layer.#.output.dense.bias", False),
    "layers.#.feed_forward.norm.gamma": ("roberta.encoder.layer.#.output.LayerNorm.weight", False),
    "layers.#.feed_forward.norm.beta": ("roberta.encoder.layer.#.output.LayerNorm.bias", False),
}
UNTIED = "head.decoder"  # only a masked LM's head has it, where it is not tied to the token embedding
TOKEN_TYPE = "roberta.embeddings.token_type_embeddings.weight"
# Stored by some versions, used by no masked LM.
IGNORED = re.compile(r"roberta\.(pooler\..*|embeddings\.(position_ids|token_type_ids))")
ROOTS = ("roberta", "lm_head", "classifier", "embeddings", "encoder", "pooler")  # the beginning of the names

# Our field, config.json's key, and what transformers takes where the key is missing.
FIELDS: tuple[tuple[str, str, int | float], ...] = (
    ("vocabulary_size", "vocab_size", 50265),
    ("num_layers", "num_hidden_layers", 12),
    ("num_heads", "num_attention_heads", 12),
    ("hidden_dim", "hidden_size", 768),
    ("intermediate_dim", "intermediate_size", 3072),
    ("dropout", "hidden_dropout_prob", 0.1),
    ("attention_dropout", "attention_probs_dropout_prob", 0.1),
    ("layer_norm_epsilon", "layer_norm_eps", 1e-12),
    ("start_id", "bos_token_id", 0),
    ("pad_id", "pad_token_id", 1),
    ("end_id", "eos_token_id", 2),
)
# Ids that may be given too. They are the tokenizer's; here they must be rows of the token embedding.
OTHER_IDS = ("cls_token_id", "sep_token_id", "mask_token_id", "unk_token_id")
# Keys that change the arithmetic, and the only value that is this model's.
ONLY: tuple[tuple[str, Any, str], ...] = (
    ("hidden_act", "gelu", "RoBERTa's activation is the exact (erf) GELU"),
    ("position_embedding_type", "absolute", "RoBERTa adds a learned row per position"),
    ("is_decoder", False, "a decoder's attention sees the past alone"),
    ("add_cross_attention", False, "RoBERTa has no second input"),
    ("quantization_config", None, "quantised weights can't be read"),
)
# The contents of directories of other kinds that look similar.
RELATIVES = {
    "bert": "BERT, whose segments, head and WordPiece vocabulary differ",
    "camembert": "CamemBERT, which has a SentencePiece vocabulary",
    "deberta": "DeBERTa, whose attention is relative",
    "deberta-v2": "DeBERTa v2 or v3, whose attention is relative",
    "distilbert": "DistilBERT, which has a WordPiece vocabulary",
    "electra": "ELECTRA, which is trained to tell replaced tokens",
    "longformer": "Longformer, whose attention is windowed",
    "modernbert": "ModernBERT, whose blocks are built otherwise",
    "roberta-prelayernorm": "RoBERTa with the layer norms before the blocks",
    "xlm-roberta": "XLM-RoBERTa, which has a SentencePiece vocabulary",
    "xlm-roberta-xl": "XLM-RoBERTa XL, which has the layer norms before the blocks",
}

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"
PICKLE_INDEX = "pytorch_model.bin.index.json"
ACTIVATION = "pyroberta_activation"  # ours, in config.json: transformers' classifiers give logits
PREPROCESSOR = (
    "pyroberta_preprocessor.json"  # ours: the settings of truncation and masking, which HF's files can't hold
)
FILES = FileNames(
    config=(CONFIG,),
    others=(
        "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json", PREPROCESSOR, learning_rates.FILE,
    ),
    weights=((WEIGHTS, INDEX), (PICKLE, PICKLE_INDEX)),
    optimizer_state=(optimizer_state.FILE,),
)  # fmt: skip


def renaming(config: RobertaConfig) -> dict[str, tuple[str, bool]]:
    """Returns the name of every parameter in an HF file, and whether the parameter is transposed in it, in the order of
    `shapes(config)`.

    >>> config = RobertaConfig(vocabulary_size=10, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=8)
    >>> renaming(config)["layers.0.attention.key.kernel"]
    ('roberta.encoder.layer.0.attention.self.key.weight', True)
    """
    parameters, names = shapes(config), {**NAMES, **HEAD_FILES[config.head].hf_names}
    if UNTIED in parameters:
        names["head.bias"] = ("lm_head.decoder.bias", False)
    return renamed(parameters, names)


# ---------------------------------------------------------------------------------------------------------- config.json


def read_config(directory: Directory) -> RobertaConfig:
    """Returns the config in `directory/config.json`. A missing key has transformers' default.

    Raises:
        FileNotFoundError: if there is no config.json.
        ValueError: if it is not the config of a RoBERTa. The message names the key, its value, and the expected value.

    >>> import tempfile
    >>> directory = Directory(Path(tempfile.mkdtemp()))
    >>> _ = (directory / "config.json").write_text('{"model_type": "roberta", "max_position_embeddings": 514}')
    >>> read_config(directory).max_sequence_length
    512
    """
    return config_of(directory / CONFIG, directory.json(CONFIG))


def config_of(file: Path, values: Mapping[str, Any]) -> RobertaConfig:
    """Returns the config that the values of a config.json describe. `file` is the name of the file in messages.

    Raises:
        ValueError: see `read_config`.
    """
    _refuse_other_models(file, values)
    for key, only, reason in ONLY:
        if values.get(key, only) != only:
            raise ValueError(f"{file}: {key} is {shown(values[key])}, only {only!r} can be read: {reason}")
    fields: dict[str, Any] = {ours: number(file, values, theirs, default) for ours, theirs, default in FIELDS}
    ids = {theirs: fields[ours] for ours, theirs, _ in FIELDS if ours.endswith("_id")}
    ids |= {name: number(file, values, name, 0) for name in OTHER_IDS if values.get(name) is not None}
    for name, id in ids.items():
        if id >= fields["vocabulary_size"]:
            raise ValueError(
                f"{file}: {name} is {id}, but the token embedding has only {fields['vocabulary_size']} rows "
                "(vocab_size)"
            )
    num_rows = number(file, values, "max_position_embeddings", 512)
    if num_rows <= fields["pad_id"] + 1:
        raise ValueError(
            f"{file}: max_position_embeddings is {num_rows}, which leaves no row for a position: the first "
            f"{fields['pad_id'] + 1} rows (pad_token_id + 1) are never used"
        )
    fields["max_sequence_length"] = num_rows - fields["pad_id"] - 1
    fields["tie_embeddings"] = boolean(file, values, "tie_word_embeddings", default=True)
    if values.get("classifier_dropout") is not None:
        fields["classifier_dropout"] = number(file, values, "classifier_dropout", 0.0)
    fields |= _head(file, values)
    try:
        return RobertaConfig(**fields)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _head(file: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the head. The number of a classifier's classes is that of the names in `id2label`."""
    head = _head_name(values)
    if not has_classes(HEADS[head]):
        return {"head_name": head}
    names = values.get("id2label")
    if names is not None and not isinstance(names, Mapping):
        raise ValueError(f"{file}: id2label should be an object from numbers to names, got {shown(names)}")
    classes = len(names) if names else number(file, values, "num_labels", 2)
    check_classes(file, classes)
    problem = values.get("problem_type") or ("regression" if classes == 1 else None)
    only = HEAD_FILES[head].problem_type
    if only is not None and problem not in (None, only):
        raise ValueError(
            f"{file}: problem_type is {shown(problem)}; pyroberta's classifier learns one class per text, {only!r}"
        )
    return {"head_name": head, "num_classes": int(classes)}


def _head_name(values: Mapping[str, Any]) -> str:
    """The head of the transformers class that the config names; the masked LM's if that has no head."""
    architectures = values.get("architectures")
    named = architectures if isinstance(architectures, list) else []
    return next((head for head in reversed(HEAD_FILES) if HEAD_FILES[head].architecture in named), "masked_lm")


def read_labels(directory: Directory) -> list[str] | None:
    """Returns the names of a classifier's classes, or None if config.json has none."""
    file, values = directory / CONFIG, directory.json(CONFIG)
    names = values.get("id2label")
    if not has_classes(HEADS[_head_name(values)]) or not names:
        return None
    try:
        labels = [str(names[str(i)]) for i in range(len(names))]
    except KeyError as error:
        raise ValueError(f"{file}: id2label should have the classes 0 to {len(names) - 1}, it lacks {error}") from None
    check_labels(file, labels, len(names))
    return labels


def read_activation(directory: Directory) -> str:
    """Returns a classifier's activation that `hf_writer` wrote, or `"linear"` if there is none."""
    return check_activation(directory / CONFIG, ACTIVATION, directory.json(CONFIG).get(ACTIVATION, "linear"))


def _refuse_other_models(file: Path, values: Mapping[str, Any]) -> None:
    found = model_type(values)
    if found is None:
        raise ValueError(
            f"{file} has no model_type, so it may be any model; that of a RoBERTa is 'roberta'. Its keys are "
            f"{shown(sorted(values))}.{hint_of_inside(file.parent)}"
        )
    if found != "roberta":
        relative = RELATIVES.get(found) if isinstance(found, str) else None
        relation = f", {relative}" if relative else ""
        raise ValueError(f"{file}: this is a {shown(found)} model{relation}; pyroberta reads 'roberta' models")


# -------------------------------------------------------------------------------------------------------------- weights


def read_params(
    directory: Directory,
    config: RobertaConfig,
    dtype: DTypeLike = np.float32,
    seed: int = 0,
    on_fresh_head: OnFreshHead = warn_of_fresh_head,
) -> Arrays:
    """Returns the parameters in `directory`, from model.safetensors or pytorch_model.bin, or from shards with an index.

    Each tensor is copied from the file directly to its place in the vector. Tensors may be float64, float32, float16 or
    bfloat16. The names may lack `roberta.` at the beginning, and may have gamma and beta for LayerNorm.

    Args:
        directory: an HF directory.
        config: the result of `read_config`, perhaps with another head or other rates.
        dtype: the dtype of the result, float32 or float64.
        seed: the seed of an untrained head.

    The head is the one that `config` names. Another head in the directory is ignored.

    Warns:
        FreshHeadWarning: if the file has no such head. The model then gets an untrained one. There is no warning if
            `config` asks for a classifier's head and the preset is no classifier.

    Raises:
        FileNotFoundError: if there are no weights that can be read. The message lists the directory.
        ValueError: if a tensor is missing, unknown, of a wrong shape or not finite, or if a file is damaged. The
            message names the tensor and the file.
    """
    stored = read_stored(directory, config)
    return params_of(directory, stored, read_config(directory), config, dtype, seed, on_fresh_head)


def params_of(
    source: os.PathLike[str],
    tensors: Mapping[str, Stored],
    stored_config: RobertaConfig,
    config: RobertaConfig,
    dtype: DTypeLike = np.float32,
    seed: int = 0,
    on_fresh_head: OnFreshHead = warn_of_fresh_head,
) -> Arrays:
    """Returns the parameters of tensors with Hugging Face's names; see `read_params`.

    Args:
        source: the source of the tensors, for messages.
        tensors: the tensors, by Hugging Face's names.
        stored_config: the config of the model to which the tensors belong.
        config: the config of the wanted model. It has the same backbone.
        dtype: the dtype of the parameters.
        seed: the seed of the head, if the tensors lack it.
        on_fresh_head: see `Preset.weights`.
    """
    stored, files = _canonical(tensors), HEAD_FILES[config.head]
    is_stored = any(HEAD_FILES[stored_config.head].hf_tensors.fullmatch(name) for name in stored)
    is_used = same_head(stored_config, config) or not has_classes(head_of(config))
    for name in list(stored):
        if any(
            other.hf_tensors.fullmatch(name) and (other is not files or not is_used) for other in HEAD_FILES.values()
        ):
            del stored[name]
    _settle_decoder(stored, config)
    has_head = any(files.hf_tensors.fullmatch(name) for name in stored)
    names = {ours: row for ours, row in renaming(config).items() if has_head or is_backbone(ours)}
    # there may be any number of token types; the first is used
    refuse_differences(source, stored, {**stored_shapes(names, config), TOKEN_TYPE: (-1, config.hidden_dim)})

    params = Arrays.of(config, dtype)
    if not has_head:
        report_fresh_head(on_fresh_head, source, files.hf_pattern, config, stored_config, is_stored)
        initialise(params, config, seed=seed)
    take_over(stored, names, params, config)
    first_type = np.zeros(config.hidden_dim, dtype)
    Copy(stored[TOKEN_TYPE].row(0), first_type).run()
    if first_type.any():  # adding zeros would make -0.0 into 0.0
        params[POSITION][...] += first_type
    return params


def _read_pickle(file: Path) -> dict[str, Stored]:
    from pyroberta.formats import torch_io  # here, since few need it and its import takes long

    return torch_io.read_state_dict(file)


def read_stored(directory: Directory, config: RobertaConfig) -> dict[str, Stored]:
    """Returns the tensors in `directory` by their names in the files. The numbers are not read yet.

    Raises:
        FileNotFoundError, ValueError: see `read_params`.
    """
    for (weights, index), read in zip(FILES.weights, (safetensors_io.read, _read_pickle), strict=True):
        if exists(directory / weights):
            return read(directory / weights)
        if exists(directory / index):
            return _read_shards(directory / index, directory.json(index).get("weight_map"), read)
    raise FileNotFoundError(
        f"{directory} has neither {WEIGHTS} nor {INDEX} nor {PICKLE}; it has {contents(directory.path)}"
    )


def _read_shards(index: Path, places: Any, read: Callable[[Path], dict[str, Stored]]) -> dict[str, Stored]:
    if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
        raise ValueError(f"{index} should have a weight_map from tensor names to file names, got {shown(places)}")
    stored: dict[str, Stored] = {}
    for place in sorted(set(places.values())):
        for name, tensor in read(beside(index, place)).items():
            if name in stored:
                raise ValueError(
                    f"tensor {shown(name)} is in two shards of {index.parent}: {stored[name].file.name} and {place}"
                )
            stored[name] = tensor
    absent = [name for name in places if name not in stored or stored[name].file.name != places[name]]
    if absent:
        raise ValueError(f"{index} lists tensors that are not in the shard that it names: {few(absent)}")
    return stored


def _canonical(stored: Mapping[str, Stored]) -> dict[str, Stored]:
    """The tensors under the names that transformers writes today, without those that no task here uses."""
    renamed: dict[str, Stored] = {}
    for name, tensor in without_shared_prefix(stored, ROOTS).items():
        name = re.sub(r"^(?=(embeddings|encoder|pooler)\.)", "roberta.", name)
        name = re.sub(r"(LayerNorm|layer_norm)\.gamma$", r"\1.weight", name)
        name = re.sub(r"(LayerNorm|layer_norm)\.beta$", r"\1.bias", name)
        if name in renamed:
            raise ValueError(
                f"{tensor.file}: {shown(renamed[name].name)} and {shown(tensor.name)} are the same parameter"
            )
        if not IGNORED.fullmatch(name):
            renamed[name] = tensor
    return renamed


def _settle_decoder(stored: dict[str, Stored], config: RobertaConfig) -> None:
    """Removes copies of the output's matrix and bias, in place: if tied, `lm_head.decoder.*` repeats others."""
    decoder, bias = "lm_head.decoder.weight", "lm_head.decoder.bias"
    if not config.tie_embeddings:
        if bias in stored:
            stored.pop("lm_head.bias", None)  # transformers 5 stores it and doesn't use it
        elif "lm_head.bias" in stored:
            stored[bias] = stored.pop("lm_head.bias")
        return
    for repeated, original in ((decoder, "roberta.embeddings.word_embeddings.weight"), (bias, "lm_head.bias")):
        if repeated in stored:
            tensor = stored.pop(repeated)
            if not same(tensor, stored.setdefault(original, tensor)):
                raise ValueError(
                    f"{tensor.file}: {shown(tensor.name)} differs from {shown(stored[original].name)}, but config.json "
                    "ties them. If the model has an output matrix of its own, config.json should say "
                    '"tie_word_embeddings": false'
                )


# ------------------------------------------------------------------------------------------- preprocessor and tokenizer


def read_preprocessor(directory: Directory) -> Mapping[str, Any]:
    """Returns the preprocessor's settings that `write` wrote, or else those in the files of the tokenizer.

    A `sequence_length` in the files of the tokenizer is limited to the length that the model takes.
    """
    from pyroberta.text.tokenizer_files import read_settings

    if exists(directory / PREPROCESSOR):
        return directory.json(PREPROCESSOR)
    settings = read_settings(directory)
    if "sequence_length" in settings and exists(directory / CONFIG):
        settings["sequence_length"] = min(settings["sequence_length"], read_config(directory).max_sequence_length)
    return settings


def has_tokenizer(directory: Directory) -> bool:
    """Returns whether the directory has a byte-level BPE vocabulary, in either of its two forms."""
    return exists(directory / "tokenizer.json") or all(
        exists(directory / name) for name in ("vocab.json", "merges.txt")
    )


def read_tokenizer(directory: Directory, config: RobertaConfig | None) -> Tokenizer:
    """Returns the tokenizer in `directory`.

    Raises:
        FileNotFoundError: if it has none.
        ValueError: if the tokenizer has more tokens than the model's token embedding has rows.
    """
    from pyroberta.text.tokenizer import Tokenizer

    if not has_tokenizer(directory):
        raise FileNotFoundError(
            f"{directory} has no tokenizer (vocab.json and merges.txt, or tokenizer.json); it has "
            f"{contents(directory.path)}"
        )
    tokenizer = Tokenizer.load(directory)
    if config is not None:
        check_vocabulary(tokenizer.vocabulary_size(), config, directory)
    return tokenizer


def read_state(directory: Directory, config: RobertaConfig) -> OptimizerState:
    """Returns the optimizer's state that `write` wrote.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged or belongs to another model.
    """
    return optimizer_state.read(directory, shapes(config))
