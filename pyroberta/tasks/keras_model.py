"""The methods that backbones and tasks share with Keras's models: weights and their files, the config, the summary."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy import ndarray as Array

from pyroberta.formats.budget import shown
from pyroberta.model.attributes import Checked, Checks, true_or_false
from pyroberta.model.hints import Hinting, hinting
from pyroberta.model.lora import merged
from pyroberta.model.parameters import is_lora
from pyroberta.model.serialization import check_layer_name
from pyroberta.presets.built_in import PRESETS, BuiltIn

if TYPE_CHECKING:
    from pyroberta.presets.writing import Contents
    from pyroberta.tasks.backbone import Backbone

Self = TypeVar("Self", bound="KerasModel")


class KerasModel(Hinting, Checked):
    """The base class of a backbone and of a task.

    Attributes:
        name: the name of the model, as in Keras. It is shown in the config, `repr` and the summary.
        presets: the presets that `from_preset` knows by name.
    """

    presets: ClassVar[Mapping[str, BuiltIn]] = PRESETS
    checks: ClassVar[Checks] = {"name": check_layer_name}
    name: str
    _is_task: ClassVar[bool] = False  # whether a head belongs to it

    @abstractmethod
    def _weights(self) -> tuple[Backbone, list[str]]:
        """The backbone whose vector has the parameters, and the names of this model's."""

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make another model of the same shape, in JSON's types."""

    @classmethod
    @abstractmethod
    def from_config(cls: type[Self], config: Mapping[str, Any]) -> Self:
        """Returns a model with initial weights, from a config that `get_config` returned."""

    @property
    def weights(self) -> list[Array]:
        """All parameters in the order of the vector, as read-only views."""
        backbone, names = self._weights()
        return [backbone.params[name] for name in names]

    @property
    def trainable_weights(self) -> list[Array]:
        """The arrays of `weights` that training may change."""
        return self._weights_where(True)

    @property
    def non_trainable_weights(self) -> list[Array]:
        """The arrays of `weights` that training does not change."""
        return self._weights_where(False)

    def _weights_where(self, is_trainable: bool) -> list[Array]:
        backbone, names = self._weights()
        trainable = set(self._trainable_names())
        return [backbone.params[name] for name in names if (name in trainable) is is_trainable]

    @abstractmethod
    def _trainable_names(self) -> list[str]:
        """The parameters that training may change, perhaps with some that aren't this model's."""

    def count_params(self) -> int:
        """Returns the number of values in all parameters. A tied token embedding counts once."""
        backbone, names = self._weights()
        return sum(backbone.params[name].size for name in names)

    def get_weights(self) -> list[Array]:
        """Returns copies of all parameters, in the order of the vector."""
        backbone, names = self._weights()
        return [backbone.params[name].copy() for name in names]

    def set_weights(self, weights: Sequence[Array]) -> None:
        """Sets all parameters, in the order of `get_weights`.

        Args:
            weights: an array of real numbers for each parameter, of its shape. They are converted to the model's dtype.

        Raises:
            TypeError: if weights is not a list of arrays of real numbers. Then the model does not change.
            ValueError: if the number of arrays or a shape differs. Then the model does not change.
        """
        backbone, names = self._weights()
        if not isinstance(weights, Iterable):
            raise TypeError(f"weights should be a list of arrays, as get_weights returns it; got {shown(weights)}")
        given = [np.asarray(weight) for weight in weights]
        if len(given) != len(names):
            raise ValueError(f"expected the {len(names)} arrays that get_weights returns, got {len(given)}")
        for i, (name, array) in enumerate(zip(names, given, strict=True)):
            if array.shape != (shape := backbone.params.layout[name]):
                raise ValueError(
                    f"weights[{i}] should have the shape {shape}, that of {name!r}; got {array.shape}. Pass the arrays "
                    "that get_weights returns, in the same order"
                )
            if array.dtype.kind in "cSUmM":
                raise TypeError(f"weights[{i}], for {name!r}, should be real numbers, got {array.dtype}")
        with backbone.changing(names) as params:
            for name, array in zip(names, given, strict=True):
                params[name][...] = array

    def save_weights(self, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Writes the values of all parameters into one file, without the config, the tokenizer and the optimizer.

        Args:
            filepath: a name that ends in `.weights.h5`, for the file that KerasHub's model of the same shape writes and
                loads (this needs the package h5py); or in `.safetensors`, for the tensors of a Hugging Face directory.
                The low-rank changes of LoRA are added to the written kernels.
            overwrite: whether to replace an existing file.

        Raises:
            ValueError: if the name has another ending, or KerasHub's model lacks a parameter.
            FileExistsError: if the file exists and `overwrite` is False.
            ImportError: if h5py is not installed, for `.weights.h5`.
            OSError: if the disk is full. The message has the bytes needed and the bytes free. Existing files do not
                change.

        >>> import tempfile
        >>> from pyroberta import Backbone
        >>> backbone, path = Backbone(20, 1, 2, 8, 16), tempfile.mkdtemp() + "/tiny.safetensors"
        >>> backbone.save_weights(path)
        >>> other = Backbone(20, 1, 2, 8, 16, seed=1)
        >>> other.load_weights(path)
        >>> all((a == b).all() for a, b in zip(backbone.get_weights(), other.get_weights()))
        True
        """
        self._save(filepath, true_or_false("overwrite", overwrite), self._weights()[1])

    def load_weights(self, filepath: str | os.PathLike[str], skip_mismatch: bool = False) -> None:
        """Sets all parameters to the values in a file that `save_weights`, here or of KerasHub, wrote.

        The optimizer keeps its state. (Keras would load that of the file.) `training.checkpoint` saves weights and
        state together.

        Args:
            filepath: the path of the file. Its ending decides the format.
            skip_mismatch: whether to skip parameters that the file lacks or has in another shape. They keep their
                values, and a warning names them.

        Raises:
            FileNotFoundError: if the file does not exist.
            ValueError: if the file is damaged or belongs to another model. Then the model does not change.

        Warns:
            UserWarning: with `skip_mismatch`, if parameters are skipped.
        """
        self._load(filepath, skip_mismatch, self._weights()[1])

    def save(self, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Writes Keras's archive of the whole model. `models.load_model` and Keras's `load_model` read it.

        The low-rank changes of LoRA are added to the written kernels. The weights are stored in the model's dtype.

        Args:
            filepath: a name that ends in `.keras`.
            overwrite: whether to replace an existing file.

        Raises:
            ValueError: if the name has another ending, or KerasHub's class can't hold the model.
            FileExistsError: if the file exists and `overwrite` is False.
            ImportError: if h5py is not installed.
            OSError: if the disk is full. The message has the bytes needed and the bytes free. Existing files do not
                change.

        Warns:
            UserWarning: if KerasHub ignores a setting of the model.

        >>> import tempfile
        >>> from pyroberta import Backbone, models
        >>> backbone, path = Backbone(20, 1, 2, 8, 16), tempfile.mkdtemp() + "/tiny.keras"
        >>> backbone.save(path)
        >>> models.load_model(path)(ids := {"token_ids": [[0, 5, 2]]}).tolist() == backbone(ids).tolist()
        True
        """
        from pyroberta.presets import keras_archive_writer

        overwrite = true_or_false("overwrite", overwrite)
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
            print_fn: a function that is called with the whole table.
        """
        print_fn(self._summary())

    @abstractmethod
    def _summary(self) -> str:
        """The text of `summary`."""
