"""`load_model`, under Keras's name. It loads the model of an archive, whatever its class is."""

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
    """Returns the model in an archive `model.keras`, which `save` here, or Keras for a RoBERTa of KerasHub, wrote.

    A task is compiled with its defaults. The optimizer, the loss and the metrics in an archive are ignored with a
    warning, as in KerasHub: call `compile` with them.

    Args:
        filepath: the path of the archive.
        custom_objects, safe_mode: arguments of Keras, of which only the default values are accepted: only known classes
            are read, and nothing in an archive is run.
        compile: whether to compile a task with the defaults.
        dtype: the dtype of parameters and arithmetic; see `Backbone`. None means that of the archive.
        backend: see `Backbone`.

    Returns:
        A `Backbone`, `MaskedLM` or `TextClassifier`.

    Raises:
        FileNotFoundError: if the file does not exist, or a part of it is missing.
        ValueError: if the archive is damaged, a class or a setting is unknown, or the weights belong to another model.
        ImportError: if h5py is not installed.

    Warns:
        UserWarning: with `compile`, if the archive is that of a compiled task.
    """
    from pyroberta.presets.keras_archive import open_archive

    if custom_objects:
        raise ValueError(
            f"custom_objects={shown(custom_objects)} would have no effect: only known classes are read. Leave it out"
        )
    if safe_mode is not True:
        raise ValueError(
            f"safe_mode={shown(safe_mode)} would have no effect: nothing in an archive is run. Leave it out"
        )
    archive = open_archive(filepath)
    if dtype is None and archive.dtype is None:
        raise ValueError(
            f"{archive.preset}: RobertaBackbone has a dtype for each layer. A quantized model can't be read: save it "
            "before quantize(). Any other model is read with load_model(filepath, dtype='float32')"
        )
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
            f"{archive.preset} was saved with an optimizer, a loss and metrics, which are not loaded: the model "
            "is compiled with its defaults, as in KerasHub. Call compile() with them; with compile=False there is no "
            "warning",
            stacklevel=callers_level(),
        )
    return task
