"""`load_model`, under Keras's name for it: the model of an archive, of whichever class it is."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

from pyroberta.formats.budget import shown
from pyroberta.model.attributes import true_or_false
from pyroberta.model.callers import callers_level
from pyroberta.model.hints import hinting
from pyroberta.ops.precision import PRECISIONS
from pyroberta.tasks.backbone import Backbone
from pyroberta.tasks.task import Task


@hinting()
def load_model(
    filepath: str | os.PathLike[str],
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
    *,
    dtype: Any = None,
    backend: str = "auto",
) -> Backbone | Task:
    """The model that `save`, or Keras's of a RoBERTa of KerasHub's, wrote into an archive `model.keras`.

    A task is compiled with its defaults. What an archive of Keras's says of the optimizer, the loss and the metrics is
    left, with a warning, as KerasHub leaves it: call `compile` with them.

    Args:
        filepath: of the archive.
        custom_objects, safe_mode: Keras's, with its defaults alone: the classes that can be read are known, and nothing
            in an archive is run.
        compile: whether to compile a task with the defaults.
        dtype: of parameters and arithmetic, see `Backbone`; None for that of the archive.
        backend: see `Backbone`.

    Returns:
        A `Backbone`, `MaskedLM` or `TextClassifier`.

    Raises:
        FileNotFoundError: where there is no such file, or a part of it is missing.
        ValueError: for a damaged archive, a class or a setting that isn't known, and weights of another model.
        ImportError: without h5py.

    Warns:
        UserWarning: with `compile`, where the archive is of a task that was compiled.
    """
    from pyroberta.presets.keras_archive import open_archive

    if custom_objects:
        raise ValueError(
            f"custom_objects={shown(custom_objects)} would have no effect: the classes that can be read are known, and "
            "no other is looked for. Leave it out"
        )
    if safe_mode is not True:
        raise ValueError(
            f"safe_mode={shown(safe_mode)} would have no effect: an archive is read as data, and nothing in it is run. "
            "Leave it out"
        )
    archive = open_archive(filepath)
    if dtype is None and archive.dtype not in PRECISIONS:
        raise ValueError(
            f"{archive.preset}: RobertaBackbone is in {shown(archive.dtype)}; here it can be in "
            f"{', '.join(PRECISIONS)}, as with load_model(filepath, dtype='float32')"
        )
    options: dict[str, Any] = {"dtype": archive.dtype if dtype is None else dtype, "backend": backend}
    if archive.head is None:
        return Backbone.from_preset(archive.preset, name=archive.name, trainable=archive.trainable, **options)
    if not archive.has_preprocessor:
        options["preprocessor"] = None
    compile = true_or_false("compile", compile)
    task = Task.of_head[archive.head].from_preset(archive.preset, name=archive.name, compile=compile, **options)
    task.backbone.trainable = archive.trainable
    if archive.backbone_name is not None:
        task.backbone.name = archive.backbone_name
    if compile and archive.is_compiled:
        warnings.warn(
            f"{os.fspath(filepath)} was saved with an optimizer, a loss and metrics, which aren't loaded: the model is "
            "compiled with its defaults, as KerasHub's is. Call compile() with them; compile=False says nothing",
            stacklevel=callers_level(),
        )
    return task
