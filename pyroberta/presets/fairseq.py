"""The fairseq checkpoint: a directory with model.pt, dict.txt and, unless they are GPT-2's, the merges.

The checkpoint may have the name checkpoint_best.pt or checkpoint_last.pt too. The first of the three that exists is
read.

The checkpoint differs from pyroberta's parameters in these points:

- It has other names; see the table `NAMES`. Its kernels are (out, in), and (in, out) here.
- Older checkpoints have the names `decoder` for `encoder` and `emb_layer_norm` for `layernorm_embedding`. They have
  queries, keys and values as thirds of one `in_proj`.
- Its position embedding begins with `pad_id + 1` rows that no token uses.
- `lm_head.weight` is a copy of the token embedding, unless `untie_weights_roberta` is set.

Dropout after the activation and dropout of whole layers, which only affect training, are ignored with a warning.

Source: fairseq's models/roberta/model.py and modules/transformer_sentence_encoder.py, versions 0.8 to 0.12.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from pyroberta.formats import stored as tensors_of
from pyroberta.formats.budget import type_of
from pyroberta.formats.directory import Directory
from pyroberta.formats.files import exists, number, read_bytes, shown
from pyroberta.formats.stored import Stored
from pyroberta.model.callers import callers_level
from pyroberta.model.config import RobertaConfig
from pyroberta.model.initial_values import initialise
from pyroberta.model.parameters import Arrays, is_backbone, shapes
from pyroberta.presets.checks import OnFreshHead, report_fresh_head, warn_of_fresh_head
from pyroberta.presets.detect import FAIRSEQ_CHECKPOINTS as CHECKPOINTS
from pyroberta.presets.detect import FAIRSEQ_DICTIONARY as DICTIONARY
from pyroberta.presets.detect import FileNames, fairseq_checkpoint
from pyroberta.presets.heads import HEAD_FILES
from pyroberta.presets.renaming import renamed, stored_shapes, take_over, without_shared_prefix

if TYPE_CHECKING:
    from pyroberta.text.tokenizer import Tokenizer

MERGES = ("vocab.bpe", "merges.txt")  # the first that exists
NUMBERS = "encoder.json"  # GPT-2's; they follow from the merges where it is missing
FILES = FileNames(others=(DICTIONARY, *MERGES, NUMBERS))  # and the first of CHECKPOINTS, which holds all else

# Our names to theirs, and whether the matrix is transposed; see renaming.py. Those of the heads are in heads.py.
NAMES = {
    "embeddings.token": ("encoder.sentence_encoder.embed_tokens.weight", False),
    "embeddings.position": ("encoder.sentence_encoder.embed_positions.weight", False),
    "embeddings.norm.gamma": ("encoder.sentence_encoder.layernorm_embedding.weight", False),
    "embeddings.norm.beta": ("encoder.sentence_encoder.layernorm_embedding.bias", False),
    "layers.#.attention.query.kernel": ("encoder.sentence_encoder.layers.#.self_attn.q_proj.weight", True),
    "layers.#.attention.query.bias": ("encoder.sentence_encoder.layers.#.self_attn.q_proj.bias", False),
    "layers.#.attention.key.kernel": ("encoder.sentence_encoder.layers.#.self_attn.k_proj.weight", True),
    "layers.#.attention.key.bias": ("encoder.sentence_encoder.layers.#.self_attn.k_proj.bias", False),
    "layers.#.attention.value.kernel": ("encoder.sentence_encoder.layers.#.self_attn.v_proj.weight", True),
    "layers.#.attention.value.bias": ("encoder.sentence_encoder.layers.#.self_attn.v_proj.bias", False),
    "layers.#.attention.output.kernel": ("encoder.sentence_encoder.layers.#.self_attn.out_proj.weight", True),
    "layers.#.attention.output.bias": ("encoder.sentence_encoder.layers.#.self_attn.out_proj.bias", False),
    "layers.#.attention.norm.gamma": ("encoder.sentence_encoder.layers.#.self_attn_layer_norm.weight", False),
    "layers.#.attention.norm.beta": ("encoder.sentence_encoder.layers.#.self_attn_layer_norm.bias", False),
    "layers.#.feed_forward.intermediate.kernel": ("encoder.sentence_encoder.layers.#.fc1.weight", True),
    "layers.#.feed_forward.intermediate.bias": ("encoder.sentence_encoder.layers.#.fc1.bias", False),
    "layers.#.feed_forward.output.kernel": ("encoder.sentence_encoder.layers.#.fc2.weight", True),
    "layers.#.feed_forward.output.bias": ("encoder.sentence_encoder.layers.#.fc2.bias", False),
    "layers.#.feed_forward.norm.gamma": ("encoder.sentence_encoder.layers.#.final_layer_norm.weight", False),
    "layers.#.feed_forward.norm.beta": ("encoder.sentence_encoder.layers.#.final_layer_norm.bias", False),
}
TOKEN = NAMES["embeddings.token"][0]
# Stored by some versions, used by no masked LM.
IGNORED = re.compile(r"(encoder\.)?classification_heads\..*|encoder\.sentence_encoder\.(version|.*_float_tensor)")

# Our field, theirs, and what fairseq takes where it is missing.
FIELDS: tuple[tuple[str, str, int | float], ...] = (
    ("num_layers", "encoder_layers", 12),
    ("num_heads", "encoder_attention_heads", 12),
    ("hidden_dim", "encoder_embed_dim", 768),
    ("intermediate_dim", "encoder_ffn_embed_dim", 3072),
    ("dropout", "dropout", 0.1),
    ("attention_dropout", "attention_dropout", 0.1),
)
# Arguments that change the arithmetic, and the only value that is this model's.
ONLY: tuple[tuple[str, Any, str], ...] = (
    ("activation_fn", "gelu", "RoBERTa's activation is the exact (erf) GELU"),
    ("encoder_normalize_before", False, "RoBERTa's layer norms come after the blocks"),
    ("encoder_learned_pos", True, "RoBERTa adds a learned row per position"),
    ("no_token_positional_embeddings", False, "RoBERTa adds a learned row per position"),
    ("layernorm_embedding", True, "RoBERTa's embeddings have a layer norm"),
    ("no_scale_embedding", True, "RoBERTa's embeddings aren't scaled"),
    ("adaptive_input", False, "RoBERTa's token embedding is one matrix"),
    ("encoder_layers_to_keep", None, "fairseq would leave the other layers out"),
)
# Names by which fairseq knows a RoBERTa, with the sizes in FIELDS as defaults, and names of its other models. A name of
# the user's own says nothing: the arguments have the sizes then, and the tensors show what model it is.
ARCHITECTURES = re.compile(r"roberta(_(base|large))?")
OTHERS = re.compile(
    r"(roberta_(prenorm|enc_dec)|xlm|bert|masked_lm|bart|mbart|transformer|fconv|lstm|lightconv|levenshtein|wav2vec|"
    r"hubert|linformer)(_.*)?"
)
SIZES = ("encoder_layers", "encoder_attention_heads", "encoder_embed_dim", "encoder_ffn_embed_dim")
# Rates that change training alone, and aren't taken over, with a warning unless they are 0.
LEFT_OUT = ("activation_dropout", "relu_dropout", "encoder_layerdrop", "quant_noise_pq", "quant_noise_scalar")
ROOTS = ("encoder", "decoder", "classification_heads")  # the beginning of the tensors' names


def renaming(config: RobertaConfig) -> dict[str, tuple[str, bool]]:
    """Returns the name of every parameter in a newer checkpoint, and whether the parameter is transposed in it, in the
    order of `shapes`.

    >>> config = RobertaConfig(vocabulary_size=10, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=8)
    >>> renaming(config)["layers.0.feed_forward.output.kernel"]
    ('encoder.sentence_encoder.layers.0.fc2.weight', True)
    """
    names = HEAD_FILES[config.head].fairseq_names
    return renamed((name for name in shapes(config) if is_backbone(name) or name in names), {**NAMES, **names})


# --- the config -------------------------------------------------------------------------------------------------------


def read_config(directory: Directory) -> RobertaConfig:
    """Returns the config of the model, from the arguments in the checkpoint.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if the checkpoint is not that of a RoBERTa. The message names the argument, its value, and the
            expected value.
    """
    file, checkpoint = _read(directory)
    arguments = _arguments(file, checkpoint)
    fields: dict[str, Any] = {ours: number(file, arguments, theirs, default) for ours, theirs, default in FIELDS}
    length = "max_positions" if "max_positions" in arguments else "tokens_per_sample"
    fields["max_sequence_length"] = number(file, arguments, length, 512)
    embedding = _tensors(file, checkpoint).get(TOKEN)
    if embedding is None or len(embedding.shape) != 2:
        raise ValueError(f"{file} has no token embedding ({TOKEN}), so it is not a RoBERTa")
    fields["vocabulary_size"] = embedding.shape[0]
    fields["tie_embeddings"] = not arguments.get("untie_weights_roberta", False)
    try:
        return RobertaConfig(**fields)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _read(directory: Directory) -> tuple[Path, Mapping[str, Any]]:
    from pyroberta.formats import torch_io  # here, since few need it and its import takes long

    name = fairseq_checkpoint(directory) or CHECKPOINTS[0]
    file, checkpoint = directory / name, directory.once(torch_io.read, name)
    if not isinstance(checkpoint, Mapping) or not isinstance(checkpoint.get("model"), Mapping):
        raise ValueError(f"{file} is not a fairseq checkpoint: it should hold a dict with the key 'model'")
    return file, checkpoint


def _arguments(file: Path, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The model's arguments, in either of the forms that versions of fairseq have, without those that are None."""
    args, cfg = (_part(file, checkpoint, key) for key in ("args", "cfg"))
    parts = [args] if args else [_part(file, cfg, key) for key in ("task", "model")]
    found: dict[str, Any] = {}
    for part in parts:
        found |= {key: value for key, value in part.items() if isinstance(key, str) and value is not None}
    architecture = found.get("arch", found.get("_name"))
    if architecture is None:
        raise ValueError(f"{file} does not name its architecture (args.arch, or cfg.model._name)")
    if not isinstance(architecture, str) or OTHERS.fullmatch(architecture):
        raise ValueError(
            f"{file}: this is a {shown(architecture)} model; pyroberta reads 'roberta', 'roberta_base' and "
            "'roberta_large', and RoBERTas with a name of their own"
        )
    unsaid = [size for size in SIZES if size not in found]
    if unsaid and not ARCHITECTURES.fullmatch(architecture):
        raise ValueError(
            f"{file}: the architecture {shown(architecture)} has no known sizes, and the arguments lack "
            f"{', '.join(unsaid)}"
        )
    for key, only, reason in ONLY:
        if found.get(key, only) != only:
            raise ValueError(f"{file}: {key} is {shown(found[key])}, only {only!r} can be read: {reason}")
    left_out = [f"{key} ({shown(found[key])})" for key in LEFT_OUT if found.get(key, 0) not in (0, False)]
    if left_out:
        warnings.warn(
            f"{file} was trained with {', '.join(left_out)}, which only affect training and are ignored",
            stacklevel=callers_level(),
        )
    return found


def _part(file: Path, parts: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The arguments of that key; none if it is missing."""
    part = parts.get(key)
    if part is not None and not isinstance(part, Mapping):
        raise ValueError(f"{file}: {key} should be a dict or a Namespace, it is {type_of(part)}")
    return part or {}


def _tensors(file: Path, checkpoint: Mapping[str, Any]) -> dict[str, Stored]:
    """The tensors under their newer names, without those that a masked LM never uses."""
    found: dict[str, Stored] = {}
    for name, tensor in checkpoint["model"].items():
        if not isinstance(tensor, Stored) or not isinstance(name, str):
            raise ValueError(
                f"{file}: 'model' should hold only tensors, each by its name, but {shown(name)} has {type_of(tensor)}"
            )
    for name, tensor in without_shared_prefix(checkpoint["model"], ROOTS).items():
        name = re.sub(r"^decoder\.", "encoder.", name).replace(".emb_layer_norm.", ".layernorm_embedding.")
        if IGNORED.fullmatch(name):
            continue
        for new, part in _thirds(name, tensor):
            if new in found:
                raise ValueError(f"{file}: {shown(found[new].name)} and {shown(tensor.name)} are the same parameter")
            found[new] = part
    return found


def read_stored(directory: Directory, config: RobertaConfig) -> dict[str, Stored]:
    """Returns the tensors of the checkpoint's model by their names in newer checkpoints. The numbers are not read yet.

    Raises:
        FileNotFoundError, ValueError: see `read_params`.
    """
    return _tensors(*_read(directory))


def _thirds(name: str, tensor: Stored) -> list[tuple[str, Stored]]:
    """The tensor by its name; an `in_proj` gives three, the rows of queries, keys and values."""
    if ".in_proj_" not in name:
        return [(name, tensor)]
    if not tensor.shape or tensor.shape[0] % 3:
        raise ValueError(
            f"{tensor.file}: {shown(tensor.name)} has shape {tensor.shape}, expected a number of rows that is a "
            "multiple of 3"
        )
    third = tensor.shape[0] // 3
    return [(name.replace(".in_proj_", f".{letter}_proj."), tensor.rows(i, third, 3)) for i, letter in enumerate("qkv")]


# --- weights ----------------------------------------------------------------------------------------------------------


def read_params(
    directory: Directory,
    config: RobertaConfig,
    dtype: DTypeLike = np.float32,
    seed: int = 0,
    on_fresh_head: OnFreshHead = warn_of_fresh_head,
) -> Arrays:
    """Returns the parameters in `directory`. Each tensor is copied from the file directly to its place in the vector.

    Args:
        directory: a directory with a model.pt of any version of torch and fairseq.
        config: the result of `read_config`, perhaps with another head or other rates.
        dtype: the dtype of the result, float32 or float64.
        seed: the seed of an untrained head.

    Only a masked LM's head is read. A classifier gets an untrained head.

    Warns:
        UserWarning: if the file has no masked-LM head (`lm_head.*`). The model then gets an untrained one.

    Raises:
        FileNotFoundError: if there is no model.pt.
        ValueError: if a tensor is missing, unknown, of a wrong shape or not finite, or if a file is damaged. The
            message names the tensor and the file.
    """
    file, checkpoint = _read(directory)
    stored = _tensors(file, checkpoint)
    if not HEAD_FILES[config.head].fairseq_names:
        stored = {name: tensor for name, tensor in stored.items() if not name.startswith("encoder.lm_head.")}
    if config.tie_embeddings and "encoder.lm_head.weight" in stored:
        repeated = stored.pop("encoder.lm_head.weight")
        if not tensors_of.same(repeated, stored[TOKEN]):
            raise ValueError(
                f"{file}: {shown(repeated.name)} differs from {shown(stored[TOKEN].name)}, but the arguments tie them "
                "(untie_weights_roberta is not set)"
            )
    has_head = any(name.startswith("encoder.lm_head.") for name in stored)
    names = {ours: row for ours, row in renaming(config).items() if has_head or is_backbone(ours)}
    tensors_of.refuse_differences(directory, stored, stored_shapes(names, config), "the arguments in it")

    params = Arrays.of(config, dtype)
    if not has_head:
        stored_config = replace(config, head_name=None, num_classes=None)
        report_fresh_head(on_fresh_head, directory, "lm_head.*", config, stored_config, has_head)
        initialise(params, config, seed=seed)
    take_over(stored, names, params, config)
    return params


# --- vocabulary -------------------------------------------------------------------------------------------------------


def read_preprocessor(directory: Directory) -> dict[str, Any]:
    """Returns no settings, since a checkpoint has none of a preprocessor."""
    return {}


def read_activation(directory: Directory) -> str:
    """Returns "linear", since the classifiers of fairseq return logits."""
    return "linear"


def read_labels(directory: Directory) -> None:
    """Returns None, since a checkpoint has no names of classes."""
    return


def read_state(directory: Directory, config: RobertaConfig) -> NoReturn:
    """Raises an error: the state of fairseq's optimizer is not read.

    Raises:
        ValueError: always.
    """
    raise ValueError(
        f"{directory} is a fairseq checkpoint, whose optimizer's state can't be read: leave load_optimizer out"
    )


def read_tokenizer(directory: Directory, config: RobertaConfig | None) -> Tokenizer:
    """Returns the tokenizer in `directory`. It reads dict.txt, vocab.bpe or merges.txt, and encoder.json, if they
    exist.

    If dict.txt has numbers and there are no merges, the numbers are those of GPT-2. The package has GPT-2's merges.

    Raises:
        FileNotFoundError: if there is no dict.txt, or there are no merges for it.
        ValueError: if the vocabulary is not byte-level BPE, or belongs to another model.
    """
    from pyroberta.presets import fairseq_vocabulary as vocabularies
    from pyroberta.text.tokenizer import Tokenizer
    from pyroberta.text.tokenizer_files import read_merges

    assert config is not None  # a checkpoint has one
    file = directory / DICTIONARY
    if not exists(file):
        raise FileNotFoundError(
            f"{directory} has no {DICTIONARY}, from which the vocabulary of a fairseq model is read"
        )
    content = _text(file)
    if (count := content.count("\n")) > config.vocabulary_size:
        raise ValueError(
            f"{file} has {count} lines, but the model's token embedding only {config.vocabulary_size} rows"
        )
    symbols = vocabularies.read_symbols(content, f"{file}")
    files = [directory / name for name in MERGES if exists(directory / name)]
    are_numbers = vocabularies.are_numbers(symbols)
    if not files and not are_numbers:
        _refuse_text(file, symbols)
    merges = read_merges(files[0], len(symbols)) if files else vocabularies.roberta_merges()
    tokens = vocabularies.gpt2_tokens(merges) if are_numbers else None
    if are_numbers and exists(directory / NUMBERS):
        tokens = _by_number(directory)
    vocabulary = vocabularies.vocabulary(symbols, tokens, f"{file}")
    size = max(vocabulary.values()) + 1
    if size != config.vocabulary_size:
        raise ValueError(
            f"{file}: with the special tokens it makes a vocabulary of {size}, but the model's token embedding has "
            f"{config.vocabulary_size} rows. Check that the file belongs to the model"
        )
    try:
        return Tokenizer(vocabulary, merges)
    except ValueError as error:
        raise ValueError(f"{file} does not fit the merges: {error}") from None


def _text(file: Path) -> str:
    try:
        return read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8: {error}") from None


def _refuse_text(file: Path, symbols: list[str]) -> NoReturn:
    pieces = next((symbol for symbol in symbols if symbol.startswith("▁")), None)
    if pieces is not None or (file.parent / "sentencepiece.bpe.model").is_file():
        raise ValueError(
            f"{file} is a SentencePiece vocabulary{f', with {shown(pieces)} in it' if pieces else ''}, as of XLM-R; "
            "RoBERTa's is byte-level BPE"
        )
    first = next(symbol for symbol in symbols if not symbol.isdecimal())
    raise FileNotFoundError(
        f"{file} has tokens as text, such as {shown(first)}, but the file of their merges is missing, "
        f"{' or '.join(MERGES)}"
    )


def _by_number(directory: Directory) -> list[str]:
    """encoder.json's tokens in the order of their numbers."""
    file, numbers = directory / NUMBERS, directory.json(NUMBERS)
    tokens = {number: token for token, number in numbers.items() if type(number) is int}
    if sorted(tokens) != list(range(len(numbers))):
        raise ValueError(f"{file} should give {len(numbers)} tokens the numbers 0 to {len(numbers) - 1}, each once")
    return [tokens[number] for number in range(len(numbers))]
