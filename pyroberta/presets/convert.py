"""Conversion of a preset from one format to another, without a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from pyroberta.formats.encoding import stored_dtype_name
from pyroberta.formats.shards import parse_size
from pyroberta.model.parameters import Arrays
from pyroberta.presets.heads import HEAD_FILES
from pyroberta.presets.preset import Preset, open_preset
from pyroberta.presets.writing import Contents, check_saveable, writer


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    format: str = "hf",
    dtype: str = "float32",
    max_shard_size: float | str | None = "5GB",
    include_optimizer: bool = False,
) -> dict[str, Any]:
    """Writes a preset in another format or dtype: its encoder, head, tokenizer and settings.

    If the preset has no head, none is written.

    Args:
        source: a preset's name, or a directory in any format that can be read.
        target: the directory to write; it may be `source`.
        format: "hf" or "keras".
        dtype: the dtype in which the weights are stored.
        max_shard_size: the largest size of a file of weights; see `shards.parse_size`.
        include_optimizer: whether to write the optimizer's state, which the preset must have.

    Returns:
        A dict of `saved`, the directory; `format`; `dtype`; and `head` and `tokenizer`, which say whether the preset
        has these parts.

    Raises:
        ValueError, FileNotFoundError, ImportError: see the reader and the writer. Then nothing is written.

    >>> import tempfile
    >>> convert("roberta_tiny_en", Path(tempfile.mkdtemp()) / "half", dtype="float16")["head"]
    True
    """
    write, dtype = writer(format), stored_dtype_name(dtype)
    parse_size(max_shard_size)
    check_saveable(Path(target))
    preset = open_preset(source)
    preset.download(optimizer_state=include_optimizer)
    config = preset.config
    try:
        tokenizer = preset.tokenizer
    except FileNotFoundError:
        tokenizer = None
    settings = None
    if tokenizer is not None:
        settings = HEAD_FILES[config.head].preprocessor.from_preset(preset, tokenizer=tokenizer).preset_settings()
    params, has_head = _weights(preset, np.float64 if dtype == "float64" else np.float32)
    state = preset.optimizer_state if include_optimizer else None
    of_head = preset.labels, preset.activation, preset.learning_rates
    contents = Contents(config, params, tokenizer, settings, state, has_head, *of_head)
    write(os.fspath(target), contents, dtype=dtype, max_shard_size=max_shard_size)
    parts = {"head": has_head, "tokenizer": tokenizer is not None}
    return {"saved": os.fspath(target), "format": format, "dtype": dtype, **parts}


def _weights(preset: Preset, dtype: DTypeLike) -> tuple[Arrays, bool]:
    """The parameters, and whether the preset has a head."""
    missing: list[str] = []
    params = preset.weights(dtype, on_fresh_head=missing.append)
    return params, not missing
