"""The methods that backbones and tasks share with Keras's models: weights, their files, the config, the summary."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy import ndarray as Array

from pyroberta.model.attributes import Checked, Checks, true_or_false
from pyroberta.model.hints import Hinting, hinting
from pyroberta.model.lora import merged
from pyroberta.model.parameters import is_lora
from pyroberta.presets.built_in import PRESETS, BuiltIn

if TYPE_CHECKING:
    from pyroberta.presets.writing import Contents
    from pyroberta.tasks.backbone import Backbone

Own = TypeVar("Own", bound="KerasModel")


def _model_name(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{name} must be a text that isn't empty, got {value!r}")
    return value


class KerasModel(Hinting, Checked):
    """A backbone or a task.

    Attributes:
        name: of the model, as Keras has one; for its config, `repr` and summary.
        presets: the presets that `from_preset` knows by name.
    """

    presets: ClassVar[Mapping[str, BuiltIn]] = PRESETS
    checks: ClassVar[Checks] = {"name": _model_name}
    name: str
    _is_task: ClassVar[bool] = False  # whether a head belongs to it

    @abstractmethod
    def _weights(self) -> tuple[Backbone, list[str]]:
        """The backbone whose vector has the parameters, and the names of this model's."""

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The arguments that make another model of the same shape, in JSON's types."""

    @classmethod
    @abstractmethod
    def from_config(cls: type[Own], config: Mapping[str, Any]) -> Own:
        """A model with fresh weights, of what `get_config` gives."""

    @property
    def weights(self) -> list[Array]:
        """All parameters in the order of the vector, as read-only views."""
        backbone, names = self._weights()
        return [backbone.params[name] for name in names]

    @property
    def trainable_weights(self) -> list[Array]:
        """Those of `weights` that training may change."""
        return self._weights_where(True)

    @property
    def non_trainable_weights(self) -> list[Array]:
        """Those of `weights` that training leaves as they are."""
        return self._weights_where(False)

    def _weights_where(self, is_trainable: bool) -> list[Array]:
        backbone, names = self._weights()
        trainable = set(self._trainable_names())
        return [backbone.params[name] for name in names if (name in trainable) is is_trainable]

    @abstractmethod
    def _trainable_names(self) -> list[str]:
        """The parameters that training may change, perhaps with some that aren't this model's."""

    def count_params(self) -> int:
        """The number of values in all parameters. A tied token embedding counts once."""
        backbone, names = self._weights()
        return sum(backbone.params[name].size for name in names)

    def get_weights(self) -> list[Array]:
        """Copies of all parameters, in the order of the vector."""
        backbone, names = self._weights()
        return [backbone.params[name].copy() for name in names]

    def set_weights(self, weights: Sequence[Array]) -> None:
        """Sets all parameters, in the order of `get_weights`.

        Raises:
            ValueError: where their number or a shape differs. The model is then unchanged.
        """
        backbone, names = self._weights()
        shapes = [backbone.params.layout[name] for name in names]
        if [np.shape(weight) for weight in weights] != shapes:
            raise ValueError(f"expected the {len(shapes)} arrays that get_weights gives, in their order and shapes")
        with backbone.changing(names) as params:
            for name, weight in zip(names, weights, strict=True):
                params[name][...] = weight

    def save_weights(self, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Writes the values of all parameters into one file, without the config, the tokenizer and the optimizer.

        Args:
            filepath: a name that ends in `.weights.h5`, for the file that KerasHub's model of the same shape writes
                and loads (it takes the package h5py); or in `.safetensors`, for the tensors of a Hugging Face
                directory. LoRA's changes are written as part of their kernels.
            overwrite: whether to replace a file that is there.

        Raises:
            ValueError: for another ending, and where KerasHub's model lacks a parameter.
            FileExistsError: without `overwrite`, where there is a file.
            ImportError: without h5py, for `.weights.h5`.
            OSError: where there is no room, telling the bytes needed and free. What was there before is unchanged.

        >>> import tempfile
        >>> from pyroberta import Backbone
        >>> backbone, path = Backbone(20, 1, 2, 8, 16), tempfile.mkdtemp() + "/tiny.safetensors"
        >>> backbone.save_weights(path)
        >>> other = Backbone(20, 1, 2, 8, 16, seed=1)
        >>> other.load_weights(path)
        >>> all((a == b).all() for a, b in zip(backbone.get_weights(), other.get_weights()))
        True
        """
        self._save(filepath, overwrite, self._weights()[1])

    def load_weights(self, filepath: str | os.PathLike[str], skip_mismatch: bool = False) -> None:
        """Sets all parameters to those in a file that `save_weights` or KerasHub's wrote.

        The optimizer keeps its state; Keras's would take the file's. `training.checkpoint` saves both together.

        Args:
            filepath: of the file; its ending tells the format.
            skip_mismatch: whether to leave parameters as they are that the file lacks or has in another shape, with a
                warning that names them.

        Raises:
            FileNotFoundError: where there is no such file.
            ValueError: for a damaged file, or one of another model. The model is then unchanged.

        Warns:
            UserWarning: with `skip_mismatch`, where parameters stay as they are.
        """
        self._load(filepath, skip_mismatch, self._weights()[1])

    def save(self, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Writes Keras's archive of the whole model, which `models.load_model` and Keras's `load_model` read.

        LoRA's changes are written as part of their kernels. The weights are stored in the model's dtype.

        Args:
            filepath: a name that ends in `.keras`.
            overwrite: whether to replace a file that is there.

        Raises:
            ValueError: for another ending, and where KerasHub's class can't be the model.
            FileExistsError: without `overwrite`, where there is a file.
            ImportError: without h5py.
            OSError: where there is no room, telling the bytes needed and free. What was there before is unchanged.

        Warns:
            UserWarning: for what KerasHub will do otherwise.

        >>> import tempfile
        >>> from pyroberta import Backbone, models
        >>> backbone, path = Backbone(20, 1, 2, 8, 16), tempfile.mkdtemp() + "/tiny.keras"
        >>> backbone.save(path)
        >>> models.load_model(path)(ids := {"token_ids": [[0, 5, 2]]}).tolist() == backbone(ids).tolist()
        True
        """
        from pyroberta.presets import keras_archive_writer

        backbone = self._weights()[0]
        names = keras_archive_writer.Names(self.name, backbone.name, backbone.trainable, backbone.precision)
        keras_archive_writer.write(filepath, self._contents(), names, overwrite=overwrite)

    @abstractmethod
    def _contents(self) -> Contents:
        """What is saved of the model, without the optimizer's state."""

    def _save(self, filepath: str | os.PathLike[str], overwrite: bool, names: Sequence[str]) -> None:
        from pyroberta.presets import weight_files

        backbone = self._weights()[0]
        config, params = merged(backbone.config, backbone.params)
        weight_files.write(
            filepath,
            config,
            {name: params[name] for name in names if name in params},
            self._is_task,
            overwrite=overwrite,
        )

    def _load(self, filepath: str | os.PathLike[str], skip_mismatch: bool, names: Sequence[str]) -> None:
        from pyroberta.presets import weight_files

        backbone = self._weights()[0]
        kept = [name for name in names if not is_lora(name)]
        found = weight_files.read(
            filepath,
            replace(backbone.config, lora_rank=0, lora_alpha=None),
            {name: backbone.params[name] for name in kept},
            self._is_task,
            skip_mismatch=true_or_false("skip_mismatch", skip_mismatch),
        )
        changed = [*found, *(name for name in names if name.endswith(".lora_b"))]
        with backbone.changing(changed) as params:
            for name in changed:
                params[name][...] = found.get(name, 0.0)  # the file's kernels have the changes in them

    @hinting(
        show_trainable="there is always a column with the parameters that training may change",
        expand_nested="there is always a line for each layer",
        **dict.fromkeys(("line_length", "positions"), "the table is as wide as it needs to be"),
    )
    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Prints a table of the model's parts with their parameters.

        Args:
            print_fn: is called with the whole table.
        """
        print_fn(self._summary())

    @abstractmethod
    def _summary(self) -> str:
        """The text of `summary`."""
