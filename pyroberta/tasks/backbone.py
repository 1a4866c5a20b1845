"""The encoder as an object: a config, the parameters, and the ops table that runs them."""

from __future__ import annotations

import copy
import inspect
import os
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, overload

import numpy as np
from numpy import ndarray as Array

from pyroberta.backends import get_ops
from pyroberta.data.inputs import check_features, check_rows, padding_mask
from pyroberta.formats.budget import shown
from pyroberta.formats.encoding import numpy_name
from pyroberta.formats.files import as_path
from pyroberta.formats.interrupts import uninterrupted
from pyroberta.model import serialization
from pyroberta.model.attributes import (
    MODEL,
    Checks,
    Reasons,
    expect_instance,
    random_seed,
    true_or_false,
    whole_number,
)
from pyroberta.model.batch import pack_padded, unpack
from pyroberta.model.callers import callers_level
from pyroberta.model.config import RobertaConfig
from pyroberta.model.encoder import encoder_forward
from pyroberta.model.guard import WriteGuard
from pyroberta.model.heads import same_head
from pyroberta.model.hints import hinting, refuse_unknown
from pyroberta.model.initial_values import initialise
from pyroberta.model.lora import merged, with_lora
from pyroberta.model.parameters import (
    Arrays,
    PreparedArrays,
    check_room,
    is_backbone,
    is_lora,
    repeated_positions,
    resized,
    select,
    shapes,
)
from pyroberta.ops import Ops
from pyroberta.ops.precision import PRECISIONS, Precision
from pyroberta.presets.preset import open_preset
from pyroberta.tasks import summary
from pyroberta.tasks.keras_model import KerasModel
from pyroberta.tasks.token_embedding import TokenEmbedding
from pyroberta.text.given import opened
from pyroberta.training.compiled import OF_THE_PREPROCESSOR

if TYPE_CHECKING:
    from pyroberta.presets.writing import Contents

Value = TypeVar("Value")

_NEW_RATE = "set config to dataclasses.replace(backbone.config, dropout=...)"
_SHAPE = "the shapes of the parameters depend on it: make another Backbone"
_VALUES = "parameters change within `with backbone.changing() as params`"
# What others' functions that load a model are given -> what to write.
FOREIGN_OPTIONS = {
    **dict.fromkeys(("sequence_length", "max_length"), OF_THE_PREPROCESSOR),
    **dict.fromkeys(("device", "device_map"), "it runs on the CPU; backend= says how"),
    "torch_dtype": "dtype= has it",
    "num_labels": "num_classes= of TextClassifier.from_preset has it",
    **dict.fromkeys(
        ("id2label", "label2id"), "labels= of TextClassifier.from_preset has the classes' names, in their order"
    ),
}
_A_TASKS = "it is a method of a task, such as MaskedLM"
PARTS = r"summary() lists the parts, params has their values, {}freeze(r'layers\.0\..*') keeps those of one as they are"


class FromConfig(Generic[Value]):
    """An attribute of a backbone that reads the field of the same name of its config."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, backbone: None, owner: type) -> FromConfig[Value]: ...
    @overload
    def __get__(self, backbone: Backbone, owner: type) -> Value: ...
    def __get__(self, backbone: Backbone | None, owner: type) -> FromConfig[Value] | Value:
        if backbone is None:
            return self
        value: Value = getattr(backbone.config, self._name)
        return value


class Backbone(KerasModel):
    """RoBERTa's encoder, and the vector that holds the encoder's parameters and those of the head.

    The class corresponds to `keras_hub.models.RobertaBackbone`. Its arguments have the same order. Its methods for
    parameters (`count_params`, `get_weights`, `save_weights`, `summary`) leave the head out, as KerasHub's do.

    Args:
        vocabulary_size, num_layers, num_heads, hidden_dim, intermediate_dim, dropout, max_sequence_length: see
            `RobertaConfig`.
        dtype: the dtype of parameters and arithmetic, `"float32"` or `"float64"`; or `"mixed_bfloat16"` (see
            `precision`). None means `"float32"`.
        backend: `"auto"`, `"numpy"`, `"native-blas"` or `"native"`; see `pyroberta doctor`.
        initializer: `"keras"`, `"hf"` or `"neighbour"`; see `initialise`.
        seed: the seed of the initial values.
        name: the name of the model.
        trainable: see the attribute.
        fields: other fields of `RobertaConfig`.

    Attributes:
        config: the `RobertaConfig`. It can be set to another config of the same shapes, such as one with other rates.
        vocabulary_size, num_layers, num_heads, hidden_dim, intermediate_dim, dropout, max_sequence_length: those of
            `config`.
        params: the name of each parameter -> a read-only view into one vector. To write into it, see `changing`.
        ops: the ops table.

    >>> backbone = Backbone(vocabulary_size=20, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16)
    >>> backbone({"token_ids": [[0, 5, 2, 1]], "padding_mask": [[1, 1, 1, 0]]}).shape
    (1, 4, 8)
    >>> Backbone(20, 1, 2, 8, 16).hidden_dim
    8
    """

    name = "roberta_backbone"
    checks: ClassVar[Checks] = {
        "trainable": true_or_false,
        "ops": lambda name, value: expect_instance(name, value, Ops),
    }
    unsettable: ClassVar[Reasons] = (
        MODEL
        | dict.fromkeys(("dropout", "attention_dropout", "classifier_dropout", "embeddings_dropout"), _NEW_RATE)
        | dict.fromkeys(("vocabulary_size", "num_layers", "num_heads", "hidden_dim", "intermediate_dim"), _SHAPE)
        | dict.fromkeys(("max_sequence_length", "num_classes", "head_name", "transformer_layers"), _SHAPE)
        | dict.fromkeys(("params", "embeddings", "embeddings_layer_norm", "token_embedding"), _VALUES)
        | dict.fromkeys(("weights", "variables", "trainable_weights", "trainable_variables"), _VALUES)
        | dict.fromkeys(("compile", "optimizer", "loss", "metrics", "fit", "evaluate"), _A_TASKS)
        | dict.fromkeys(("train_on_batch", "test_on_batch", "predict_on_batch", "stop_training"), _A_TASKS)
        | {
            "dtype": "give dtype= where it is made or loaded",
            "start_token_index": "a classifier reads each text's first token",
        }
    )
    vocabulary_size = FromConfig[int]()
    num_layers = FromConfig[int]()
    num_heads = FromConfig[int]()
    hidden_dim = FromConfig[int]()
    intermediate_dim = FromConfig[int]()
    dropout = FromConfig[float]()
    max_sequence_length = FromConfig[int]()

    elsewhere: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("layers", "transformer_layers", "get_layer"), PARTS.format("")),
        **dict.fromkeys(("compile", "fit", "evaluate", "optimizer", "loss"), _A_TASKS),
        **dict.fromkeys(("load", "from_pretrained"), "from_preset(directory) loads a backbone"),
        "variables": "weights has them",
        "trainable_variables": "trainable_weights has them",
        "non_trainable_variables": "non_trainable_weights has them",
    }

    _guard: WriteGuard
    _origin: str | None = None  # the preset that it came from
    _is_loaded = False  # whether it has the weights of that preset
    _has_preset_head = False  # whether it has the head of that preset, too
    _is_head_changed = False  # whether training or a user has changed the head since
    _fresh_head = ""  # what a task is to say of a head that the preset lacks
    params: Arrays

    def __new__(cls, *_: Any, **__: Any) -> Backbone:  # noqa: D102
        self = super().__new__(cls)
        self._guard = WriteGuard()
        return self

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        intermediate_dim: int,
        dropout: float = 0.1,
        max_sequence_length: int = 512,
        dtype: Any = "float32",
        *,
        backend: str = "auto",
        initializer: str = "keras",
        seed: int = 0,
        name: str | None = None,
        trainable: bool = True,
        **fields: Any,
    ) -> None:
        known = [*inspect.signature(type(self)).parameters, *RobertaConfig.__dataclass_fields__]
        refuse_unknown(type(self).__name__, fields, known)
        config = RobertaConfig(
            vocabulary_size,
            num_layers,
            num_heads,
            hidden_dim,
            intermediate_dim,
            dropout,
            max_sequence_length=max_sequence_length,
            **fields,
        )
        seed, policy = random_seed("seed", seed), policy_of("float32" if dtype is None else dtype)
        if name is not None:
            self.name = name
        params = Arrays.of(config, policy.stored)
        initialise(params, config, initializer, seed)
        self._take(config, params, get_ops(backend, policy.name))
        self.trainable = trainable

    @classmethod
    def from_parts(
        cls, config: RobertaConfig, params: Arrays, backend: str = "auto", precision: str = "float32"
    ) -> Backbone:
        """Returns a backbone around the given parameters, without a copy.

        The backbone owns `params` from now on: change them only through `changing`. `precision` may be
        `"mixed_bfloat16"` for parameters in float32. The default is the dtype of the parameters.
        """
        self = cls.__new__(cls)
        self._take(config, params, get_ops(backend, precision))
        return self

    def _take(self, config: RobertaConfig, arrays: Arrays, ops: Ops) -> None:
        self._lay_out(config, arrays, ops)
        self._trainable = True
        self._frozen = frozenset(name for name in arrays if config.lora_rank and not is_lora(name))

    def _lay_out(self, config: RobertaConfig, arrays: Arrays, ops: Ops) -> None:
        self._arrays = arrays
        vars(self)["params"] = arrays.read_only()
        self.config, self.ops = config, ops
        self._prepared: tuple[Ops, dict[str, Any]] = (ops, {})

    def _checked(self, name: str, value: Any) -> Any:
        value = super()._checked(name, value)
        if name == "config" and shapes(expect_instance(name, value, RobertaConfig)) != self._arrays.layout:
            raise ValueError(
                "config can't be set to one whose parameters have other names or shapes: make another Backbone"
            )
        return value

    def __getstate__(self) -> dict[str, Any]:
        """The state for copies and pickles, without prepared kernels and without writers."""
        return {name: value for name, value in vars(self).items() if name not in ("params", "_prepared", "_guard")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lay_out(self.config, self._arrays, self.ops)

    def __deepcopy__(self, memo: dict[int, Any]) -> Backbone:
        """A copy of one moment.

        Raises:
            RuntimeError: while another thread trains or changes the model.
        """
        with self.reading("copy.deepcopy()"):
            other = memo[id(self)] = type(self).__new__(type(self))
            other.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return other

    def __copy__(self) -> Backbone:
        """A deep copy. Of two backbones over one vector, one would not see that the other has changed a kernel."""
        return copy.deepcopy(self)

    @classmethod
    @hinting(**FOREIGN_OPTIONS)
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        load_weights: bool = True,
        *,
        dtype: Any = "float32",
        backend: str = "auto",
        initializer: str = "keras",
        seed: int | None = None,
        name: str | None = None,
        trainable: bool = True,
        dropout: float | None = None,
        attention_dropout: float | None = None,
        classifier_dropout: float | None = None,
        num_classes: int | Literal["stored"] | None = "stored",
        head_name: str | None = None,
        classifier_hidden_dim: int | None = None,
    ) -> Backbone:
        """Returns the encoder and the head of a preset.

        If the preset has no head, the encoder alone has the preset's weights. A masked LM around it warns that the
        head is untrained. A classifier around it warns only if the preset has a classifier's head of another size.

        Args:
            preset: a name, or the path of a directory; see `MaskedLM.from_preset`.
            load_weights: whether to load the weights. If False, the model has the preset's shape, and initial values
                that `initializer` draws from `seed`.
            seed: the seed of initial values. None means 0. A seed for a preset that has all weights is an error.
            dtype, backend, name, trainable: see the class.
            dropout, attention_dropout, classifier_dropout: rates that replace the preset's. `dropout` alone sets all
                three, as in KerasHub.
            num_classes: the number of classes of the head, or None for a masked LM's head. The default is the preset's
                head. A head that the preset lacks is untrained, and drawn from `seed`.
            head_name, classifier_hidden_dim: further properties of the head; see `RobertaConfig`.

        Raises:
            TypeError, ValueError: if an argument is out of range or would have no effect, or the preset is missing or
                damaged.
            FileNotFoundError, ImportError, ConnectionError, PermissionError: see `MaskedLM.from_preset`.
        """
        self = cls._of_preset(
            preset,
            load_weights,
            dtype=dtype,
            backend=backend,
            initializer=initializer,
            seed=0 if seed is None else seed,
            name=name,
            trainable=trainable,
            dropout=dropout,
            attention_dropout=attention_dropout,
            classifier_dropout=classifier_dropout,
            num_classes=num_classes,
            head_name=head_name,
            classifier_hidden_dim=classifier_hidden_dim,
        )
        if seed is not None and self._has_preset_head:
            raise ValueError(
                f"seed={seed!r} would have no effect, since the preset's weights are loaded, those of the head too: "
                "leave it out, or give load_weights=False"
            )
        return self

    @classmethod
    def _of_preset(
        cls,
        preset: str | os.PathLike[str],
        load_weights: bool = True,
        *,
        dtype: Any = "float32",
        backend: str = "auto",
        initializer: str = "keras",
        seed: int = 0,
        name: str | None = None,
        trainable: bool = True,
        dropout: float | None = None,
        attention_dropout: float | None = None,
        classifier_dropout: float | None = None,
        num_classes: int | Literal["stored"] | None = "stored",
        head_name: str | None = None,
        classifier_hidden_dim: int | None = None,
    ) -> Backbone:
        """See `from_preset`. The seed may have no effect here, since a task has one seed for its training, too."""
        load_weights, seed = true_or_false("load_weights", load_weights), random_seed("seed", seed)
        if load_weights and initializer != "keras":
            raise ValueError(
                f"initializer={initializer!r} would have no effect, since the preset's weights are loaded: leave it "
                "out, or give load_weights=False"
            )
        rates = {"dropout": dropout, "attention_dropout": attention_dropout, "classifier_dropout": classifier_dropout}
        changes: dict[str, Any] = {} if dropout is None else dict.fromkeys(rates, dropout)
        changes |= {name: rate for name, rate in rates.items() if rate is not None}
        if num_classes != "stored":
            changes |= {
                "num_classes": num_classes,
                "head_name": head_name,
                "classifier_hidden_dim": classifier_hidden_dim,
            }
        else:
            given = {"head_name": head_name, "classifier_hidden_dim": classifier_hidden_dim}
            changes |= {field: value for field, value in given.items() if value is not None}
        policy = policy_of(dtype)
        get_ops(backend, policy.name)  # it may not be there: before much is read
        opened = open_preset(preset, weights=load_weights)
        config = replace(opened.config, **changes)
        messages: list[str] = []
        if load_weights:
            params = opened.weights(policy.stored, config=config, seed=seed, on_fresh_head=messages.append)
        else:
            params = Arrays.of(config, policy.stored)
            initialise(params, config, initializer, seed)
        self = cls.from_parts(config, params, backend, policy.name)
        self._origin, self._is_loaded, self._fresh_head = opened.name, load_weights, "".join(messages)
        self._has_preset_head = load_weights and not messages and same_head(config, opened.config)
        self.name = type(self).name if name is None else name
        self.trainable = trainable
        return self

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make another backbone of the same shape, in JSON's types.

        The arguments are those of KerasHub's backbone, which can be made from them too. Fields that KerasHub lacks are
        left out if they have their default value. The backend is left out, since it depends on the machine.

        >>> backbone = Backbone(20, 1, 2, 8, 16)
        >>> Backbone.from_config(backbone.get_config()).config == backbone.config
        True
        """
        return self._config_with(self.config)

    def _config_with(self, config: RobertaConfig) -> dict[str, Any]:
        """`get_config` with another `RobertaConfig`."""
        shape = {name: getattr(config, name) for name, kind in vars(Backbone).items() if isinstance(kind, FromConfig)}
        default = RobertaConfig(**shape)
        others = {name: value for name, value in vars(config).items() if value != getattr(default, name)}
        if "lora_targets" in others:
            others["lora_targets"] = list(config.lora_targets)
        dtype = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": self.precision}}
        policy = dtype | {"registered_name": None}
        return {"name": self.name, "trainable": self.trainable, "dtype": policy, **shape, **others}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Backbone:
        """Returns a backbone with initial weights, from the arguments that `get_config`, here or of KerasHub's
        backbone, returned.

        Raises:
            TypeError, ValueError: if config is not a dict, or an argument is unknown or out of range.
        """
        arguments = serialization.arguments_of(cls, config)
        given = arguments.get("dtype")
        name = serialization.dtype_name(given)
        return cls(**{**arguments, "dtype": given if name is None else name})

    def save_to_preset(
        self,
        directory: str | os.PathLike[str],
        *,
        format: str = "hf",
        dtype: str = "float32",
        max_shard_size: float | str | None = "5GB",
    ) -> None:
        """Writes the encoder without the head and without a tokenizer. To write all, see `MaskedLM.save_to_preset`.

        Args:
            directory, format, dtype, max_shard_size: see `MaskedLM.save_to_preset`.

        Raises:
            ValueError, ImportError: see `MaskedLM.save_to_preset`.
        """
        from pyroberta.presets.writing import writer

        write = writer(format)
        write(as_path(directory), self._contents(), dtype=dtype, max_shard_size=max_shard_size)

    def with_head(
        self,
        num_classes: int | None,
        *,
        head_name: str | None = None,
        classifier_dropout: float | None = None,
        classifier_hidden_dim: int | None = None,
        seed: int = 0,
    ) -> Backbone:
        """Returns another backbone with a copy of this encoder and an untrained head.

        Args:
            num_classes: the number of classes of a classifier's head. None for a masked LM's head.
            head_name, classifier_dropout, classifier_hidden_dim: see `RobertaConfig`.
            seed: the seed of the head's initial values.

        >>> backbone = Backbone(vocabulary_size=20, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16)
        >>> backbone.with_head(num_classes=3).params["head.table"].shape
        (3, 8)
        """
        seed = random_seed("seed", seed)
        config = replace(
            self.config,
            num_classes=num_classes,
            head_name=head_name,
            classifier_dropout=classifier_dropout,
            classifier_hidden_dim=classifier_hidden_dim,
        )
        arrays = Arrays.of(config, self.params.dtype)
        initialise(arrays, config, seed=seed)
        for name in filter(is_backbone, arrays):
            arrays[name][...] = self.params[name]
        other = type(self).__new__(type(self))
        other._take(config, arrays, self.ops)
        other._trainable, other._frozen = self._trainable, frozenset(filter(is_backbone, self._frozen))
        other.name, other._origin, other._is_loaded = self.name, self._origin, self._is_loaded
        return other

    @contextmanager
    def changing(self, names: Collection[str] | None = None) -> Iterator[Arrays]:
        """A `with` block that yields copies of the parameters to change. At its end they replace the parameters.

        The model keeps its values until the end of the block. All changes take effect then, or none if the block
        raises. Callbacks may use it, since they run between updates.

        Args:
            names: the names of the parameters to change. None for all.

        Raises:
            RuntimeError: if another `changing` block is open, or a `fit` runs in another thread. A `fit` within the
                block raises it too.
            TypeError: if names is a text, and not a list of names.
            ValueError: if a name is not that of a parameter.

        >>> backbone = Backbone(vocabulary_size=20, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16)
        >>> with backbone.changing() as params:
        ...     params["head.bias"][3] = 1.0
        >>> float(backbone.params["head.bias"].sum())
        1.0
        """
        if isinstance(names, str):
            raise TypeError(f"names should be a list of the names of parameters; got a text. Pass [{names!r}]")
        wanted = list(self.params if names is None else names)
        for name in wanted:
            if name not in self.params:
                raise ValueError(f"no parameter is named {name!r}; names look like {next(iter(self.params))!r}")
        with self._guard.hold("changing()"):
            copies = Arrays({name: self.params.layout[name] for name in wanted}, self.params.dtype)
            for name, array in copies.items():
                array[...] = self.params[name]
            yield copies
            with self.updating(wanted, ["changing()"]) as params:
                for name, array in copies.items():
                    params[name][...] = array

    def writing(self, name: str, makes_room: bool = False) -> AbstractContextManager[None]:
        """Returns a `with` block in which the caller may change the parameters.

        Args:
            name: the writer's name, for messages.
            makes_room: whether other writers of the same thread may write before this one ends, as the callbacks of
                `fit` do.

        Raises:
            RuntimeError: if another writer has not ended.
        """
        return self._guard.hold(name, makes_room)

    def reading(self, name: str) -> AbstractContextManager[None]:
        """Returns a `with` block in which no other thread may change the parameters.

        Args:
            name: the reader's name, for messages.

        Raises:
            RuntimeError: if another thread is writing.
        """
        return self._guard.reading(name)

    @contextmanager
    def updating(self, names: Collection[str], writers: Collection[str]) -> Iterator[Arrays]:
        """A `with` block that yields the parameters themselves. The current writer changes them in place. An interrupt
        waits until the end of the block.

        Args:
            names: the names of the parameters that change.
            writers: the names of the writers that may use the block.

        Raises:
            RuntimeError: if the current writer is another one, such as a `changing` block that a callback has not
                ended.
        """
        self._guard.check_innermost(writers)
        with uninterrupted():
            self._is_head_changed |= not all(map(is_backbone, names))
            self._forget(names)
            try:
                yield self._arrays
            finally:
                self._forget(names)  # another thread may have prepared some meanwhile

    def prepared(self, changing: Collection[str] = ()) -> PreparedArrays:
        """Returns the parameters for forward and backward, with kernels prepared for the ops table.

        Args:
            changing: the names of parameters that are about to change. They are not prepared, and the memory of their
                prepared copies is freed.
        """
        self._forget(changing)
        if self._prepared[0] is not self.ops:
            self._prepared = (self.ops, {})
        return PreparedArrays(self.params, self.ops.prepare, self._prepared[1], changing)

    def _forget(self, names: Collection[str]) -> None:
        # In a new dict: forward in another thread may be preparing a kernel from its old values just now.
        ops, kernels = self._prepared[0], dict(self._prepared[1])
        for name in names:
            kernels.pop(name, None)
        self._prepared = (ops, kernels)

    @property
    def dtype(self) -> str:
        """The name of the dtype of the parameters and the outputs."""
        return self.params.dtype.name

    @property
    def precision(self) -> str:
        """The name of the precision of the arithmetic: that of `dtype`, or `"mixed_bfloat16"`.

        In `"mixed_bfloat16"`, parameters and the arrays between ops are float32, and the factors of products of
        matrices are rounded to bfloat16. So far only the NumPy backend has it, as a reference for future backends. It
        is slower than float32.
        """
        return self.ops.name.partition(" ")[2] or self.dtype

    @property
    def trainable(self) -> bool:
        """Whether training may change the encoder. If not, backward stops above the encoder."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = value

    def freeze(self, pattern: str) -> list[str]:
        """Freezes the parameters whose names match a pattern, and returns their names.

        Args:
            pattern: a regular expression that must match whole names, such as `r"embeddings\\..*"` or
                `r"layers\\.[0-5]\\..*"`.

        Raises:
            TypeError: if the pattern is not a text.
            ValueError: if no name matches, or the pattern is not a regular expression.
        """
        names = _select(self.params, pattern)
        self._frozen |= set(names)
        return names

    def unfreeze(self, pattern: str = ".*") -> list[str]:
        """Undoes `freeze` for the parameters whose names match a pattern, and returns their names."""
        names = _select(self.params, pattern)
        self._frozen -= set(names)
        return names

    def trainable_names(self) -> list[str]:
        """Returns the names of the parameters that training may change, in the order of the vector."""
        return [name for name in self.params if name not in self._frozen and (self._trainable or not is_backbone(name))]

    # --- adapting it: see docs/adaptation.md ---

    def enable_lora(
        self,
        rank: int,
        *,
        alpha: float | None = None,
        targets: Sequence[str] = ("query", "value"),
        train_head: bool = False,
        seed: int = 0,
    ) -> None:
        """Freezes everything and trains low-rank changes of attention's kernels instead (LoRA; see `model.lora`).

        The model's outputs stay the same, since the changes start at 0. Call `compile` afterwards if the model was
        trained before, since the optimizer's state does not fit the new parameters.

        Args:
            rank: r, the number of columns of A and of rows of B. A rank above `hidden_dim`, which a change of a
                kernel can't have, is taken, as by KerasHub and peft, with a warning.
            alpha: alpha in the change (alpha / rank) A B. None means a factor of 1, as in KerasHub.
            targets: the kernels that change: any of `"query"`, `"key"`, `"value"`, `"output"`.
            train_head: whether the head is trained too. An untrained head of a classifier needs it. A masked LM's tied
                token embedding does not count as part of the head.
            seed: the seed of A.

        Raises:
            RuntimeError: if LoRA is enabled already.
            ValueError: if the rank, alpha or a target is out of range.

        >>> backbone = Backbone(vocabulary_size=20, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16)
        >>> backbone.enable_lora(rank=2)
        >>> for name in backbone.trainable_names():
        ...     print(name, backbone.params[name].shape)
        layers.0.attention.query.lora_a (8, 2)
        layers.0.attention.query.lora_b (2, 8)
        layers.0.attention.value.lora_a (8, 2)
        layers.0.attention.value.lora_b (2, 8)
        """
        if self.config.lora_rank:
            raise RuntimeError(
                f"LoRA is enabled already, with rank {self.config.lora_rank}: call merge_lora() first, which adds the "
                "changes to the kernels"
            )
        seed, train_head = random_seed("seed", seed), true_or_false("train_head", train_head)
        with self.writing("enable_lora()"), uninterrupted():
            changed = with_lora(self.config, self._arrays, rank, alpha, targets, seed)
            if rank > (C := self.config.hidden_dim):  # before the change, since a user may make the warning an error
                warnings.warn(
                    f"LoRA's rank {rank} adds nothing to rank {C}: no change of a kernel ({C}, {C}) has a higher rank. "
                    f"Give a rank of at most {C}; usual are 4 to 64",
                    stacklevel=callers_level(),
                )
            self._take(*changed, self.ops)
            if train_head:
                self.unfreeze(r"head\..*")

    def merge_lora(self) -> None:
        """Adds the low-rank changes to their kernels and removes the factors. Everything is trainable again.

        The model's outputs stay the same, up to rounding. The model is then as fast as without LoRA.

        Raises:
            RuntimeError: if LoRA is not enabled.
        """
        self._need_lora()
        with self.writing("merge_lora()"), uninterrupted():
            self._take(*merged(self.config, self._arrays), self.ops)

    def save_lora_weights(self, path: str | os.PathLike[str]) -> None:
        """Writes the low-rank changes alone. `peft` or KerasHub can load them too; see `presets.lora`.

        Args:
            path: the path of a directory, which is created, or replaced if it holds an adapter; or a name that ends in
                `.lora.h5`, for KerasHub's file. Its parents are created if needed, and `~` is expanded.

        Raises:
            RuntimeError: if LoRA is not enabled.
            ValueError: if KerasHub's file is written and kernels other than those of query and value change.
            ImportError: if KerasHub's file is written and h5py is not installed.
            FileExistsError: if the directory holds something else.
            OSError: if the disk is full. The message has the bytes needed and the bytes free. Existing files do not
                change.
        """
        self._need_lora()
        from pyroberta.presets import lora

        lora.write(as_path(path), self.config, self.params)

    def load_lora_weights(self, path: str | os.PathLike[str]) -> None:
        """Loads saved low-rank changes. If LoRA is not enabled, it is enabled with the rank, alpha and targets of the
        file.

        Args:
            path: the path of a directory that `save_lora_weights` or `peft` wrote, or of KerasHub's `.lora.h5` file.

        Raises:
            FileNotFoundError: if the path does not exist.
            ValueError: if the adapter is damaged or belongs to a model of another shape, or if LoRA is enabled with
                another rank, alpha or other targets. Then the model does not change.
        """
        from pyroberta.presets import lora

        path = as_path(path)
        config, factors = lora.read(path, self.config)
        with self.writing("load_lora_weights()", makes_room=True), uninterrupted():
            self._take_factors(f"{path}", config, factors)

    def _take_factors(self, path: str, config: RobertaConfig, factors: Mapping[str, Array]) -> None:
        if not self.config.lora_rank:
            rank, alpha, targets = config.lora_rank, config.lora_alpha, config.lora_targets
            self._take(*with_lora(self.config, self._arrays, rank, alpha, targets), self.ops)
        elif config != self.config:
            has, file = (
                f"rank {c.lora_rank}, alpha {c.lora_alpha:g} on {c.lora_targets}" for c in (self.config, config)
            )
            raise ValueError(f"{path} has {file}; the model has LoRA with {has}")
        with self.changing(factors) as params:
            for name, factor in factors.items():
                params[name][...] = factor

    def _need_lora(self) -> None:
        if not self.config.lora_rank:
            raise RuntimeError("LoRA is not enabled: call enable_lora(rank) first")

    def resize_token_embeddings(self, vocabulary_size: int) -> None:
        """Changes the number of rows of the token embedding, and of the head's parameters that have a row per token.

        Rows are added or removed at the end. A new row is the mean of the old ones, and its bias in the head is 0, so
        that the model expects a new token about as much as an average one. (transformers adds noise of a billionth of
        the rows' covariance to that mean, and sets the bias of an untied head to the mean of the biases.) Call
        `compile` afterwards if the model was trained before.

        Args:
            vocabulary_size: the new V.

        Raises:
            ValueError: if it is not a whole number, or is too small for `<s>`, `<pad>` or `</s>`.
        """
        last = max(self.config.start_id, self.config.pad_id, self.config.end_id)
        vocabulary_size = whole_number("vocabulary_size", vocabulary_size)
        if vocabulary_size <= last:
            raise ValueError(
                f"vocabulary_size must be at least {last + 1}, for <s>, <pad> and </s>; got {vocabulary_size}"
            )
        config = replace(self.config, vocabulary_size=vocabulary_size)
        check_room(config, self.params.dtype)
        with self.writing("resize_token_embeddings()"), uninterrupted():
            self._lay_out(config, resized(self._arrays, shapes(config)), self.ops)

    def extend_positions(self, length: int) -> None:
        """Lets the model take longer sequences. The position embedding is repeated until it has `length` rows.

        This is the first step of Longformer's recipe (Beltagy et al. 2020, arXiv:2004.05150, section 5), which copies
        RoBERTa's 512 rows eight times. Here every token still attends to all tokens, so the cost of attention grows
        with the square of a sequence's length.

        For sequences that the model took before, it computes the same as before. A new position has the same row as an
        old one, so the model can't tell the two apart: fit the model on long texts before you use it on them.
        docs/adaptation.md has a measurement. Call `compile` afterwards if the model was trained before.

        Args:
            length: the new `max_sequence_length`, above the present one.

        Raises:
            ValueError: if it is not a whole number above the present one, or there is not enough memory.

        >>> backbone = Backbone(20, 1, 2, 8, 16, max_sequence_length=4)
        >>> backbone.extend_positions(10)
        >>> backbone({"token_ids": [[0, *range(5, 13), 2]]}).shape
        (1, 10, 8)
        """
        length = whole_number("length", length)
        if length <= (now := self.config.max_sequence_length):
            raise ValueError(f"length must be above the present max_sequence_length, {now}; got {length}")
        config = replace(self.config, max_sequence_length=length)
        check_room(config, self.params.dtype)
        with self.writing("extend_positions()"), uninterrupted():
            self._lay_out(config, repeated_positions(self._arrays, shapes(config)), self.ops)

    def _contents(self) -> Contents:
        from pyroberta.presets.writing import Contents

        return Contents(*merged(self.config, self.params), head=False)

    def _weights(self) -> tuple[Backbone, list[str]]:
        return self, [name for name in self.params if is_backbone(name)]

    def _trainable_names(self) -> list[str]:
        return self.trainable_names()

    def _summary(self) -> str:
        return summary.table(type(self).__name__, *self._weights(), self.trainable_names())

    def __repr__(self) -> str:
        return summary.described(type(self).__name__, *self._weights(), self._origin)

    @property
    def token_embedding(self) -> TokenEmbedding:
        """The token embedding as an object that can be called: `token_embedding(ids)` and `token_embedding(vectors,
        reverse=True)`.
        """
        return TokenEmbedding(self)

    @hinting()
    def predict(
        self,
        x: Mapping[str, Any] | Iterable[Mapping[str, Any]],
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
    ) -> Array:
        """Returns the last hidden states of all sequences of x, computed in batches.

        Args:
            x: features as in a call of the backbone, or an iterable of batches of features.
            batch_size: the number of sequences in a batch. The default is 32. It does not apply to an iterable of
                batches.
            verbose: 0 prints nothing, 1 a progress bar, 2 a line at the end. `"auto"` is 1 if there are several
                batches, else 0.
            steps: the largest number of batches, or None.

        Returns:
            The hidden states (B, S, C). They are 0 at padding.

        Raises:
            TypeError, ValueError: see the call; also if x holds texts, which only a task takes, or batches of different
                lengths.

        >>> Backbone(20, 1, 2, 8, 16).predict({"token_ids": [[0, 5, 2], [0, 7, 2]]}, 1).shape
        (2, 3, 8)
        """
        from pyroberta.training.callbacks import ProgressBar

        size = whole_number("batch_size", 32 if batch_size is None else batch_size)
        count, bar = 0, ProgressBar(verbose)
        if isinstance(x, Mapping):
            check_features(x, ["token_ids"])
            starts = range(0, check_rows(x), size)
            batches: Iterable[Any] = ({name: x[name][i : i + size] for name in x} for i in starts)
            count = len(starts)
        else:
            batches = opened(x, "x")
        if steps is not None:
            steps = whole_number("steps", steps)
            batches, count = islice(batches, steps), min(count, steps)
        if verbose == "auto" and count < 2:
            bar = ProgressBar(0)
        outputs = []
        with bar.counting("predict", count) as advance:
            for batch in batches:
                if not isinstance(batch, Mapping):
                    raise TypeError(
                        "a backbone takes a dict of token_ids (B, S) and padding_mask (B, S), or batches of them; got "
                        f"{shown(batch)}. Pass texts to a task, such as MaskedLM.embed, or to its preprocessor"
                    )
                outputs.append(self(batch))
                advance({})
        if not outputs:
            raise ValueError("x is empty: there is nothing to predict")
        if len({states.shape[1] for states in outputs}) > 1:
            raise ValueError(
                "the batches of x have different lengths, so their states don't fit into one array: pad them to one "
                "length"
            )
        return np.concatenate(outputs)

    def __call__(self, inputs: Mapping[str, Any]) -> Array:
        """The last hidden states.

        Args:
            inputs: `token_ids` (B, S) and `padding_mask` (B, S), 1 for a token; without a mask all are tokens.

        Returns:
            (B, S, C) in the model's dtype, zeros where the padding was.

        Raises:
            TypeError: if inputs is not a dict.
            ValueError: for wrong shapes, ids outside the vocabulary, or a sequence that is too long.
        """
        check_features(inputs, ["token_ids"])
        is_token = padding_mask(inputs)
        batch = pack_padded(
            inputs["token_ids"],
            is_token,
            vocabulary_size=self.config.vocabulary_size,
            max_sequence_length=self.config.max_sequence_length,
        )
        hidden, _ = encoder_forward(self.ops, self.prepared(), self.config, batch)
        return unpack(self.ops.to_host(hidden[-1]), is_token)


def _select(params: Arrays, pattern: Any) -> list[str]:
    if not isinstance(pattern, str | re.Pattern):
        raise TypeError(
            "pattern should be a regular expression for the names of parameters, such as 'embeddings.*'; got "
            f"{shown(pattern)}"
        )
    try:
        return select(params, pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None


def policy_of(dtype: Any) -> Precision:
    """Returns the precision of a name, of a NumPy dtype, or of a policy of Keras.

    Raises:
        ValueError: if the name is unknown.
    """
    if type(dtype).__module__.startswith("keras."):
        dtype = dtype.name
    name = numpy_name(dtype)
    if name not in PRECISIONS:
        raise ValueError(f"dtype must be 'float32', 'float64' or 'mixed_bfloat16', got {dtype!r}")
    return PRECISIONS[name]
