"""The methods that all models have: load, train, evaluate, predict, save. Each task has its own file."""

from __future__ import annotations

import copy
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from numpy import ndarray as Array

from pyroberta.data.inputs import InputReader
from pyroberta.formats.budget import clipped, shown
from pyroberta.formats.files import as_path
from pyroberta.formats.interrupts import uninterrupted
from pyroberta.model.attributes import (
    MODEL,
    Checks,
    Reasons,
    expect_instance,
    in_message,
    is_positive,
    true_or_false,
    whole_number,
)
from pyroberta.model.callers import callers_level
from pyroberta.model.heads import has_classes, head_of, same_head, title
from pyroberta.model.hints import hinting
from pyroberta.model.lora import merged
from pyroberta.model.parameters import Arrays, is_backbone
from pyroberta.model.serialization import arguments_of, deserialized, serialized
from pyroberta.presets.checks import UNTRAINED, check_vocabulary, dropped_head, warn_of_fresh_head
from pyroberta.presets.preset import Preset, open_preset
from pyroberta.tasks import summary
from pyroberta.tasks.backbone import FOREIGN_OPTIONS, PARTS, Backbone
from pyroberta.tasks.keras_model import KerasModel
from pyroberta.text.preprocessor import Preprocessor
from pyroberta.text.texts import checked_texts
from pyroberta.text.tokenizer import Tokenizer
from pyroberta.training.trainer import Trainer

if TYPE_CHECKING:
    from pyroberta.presets.writing import Contents

Self = TypeVar("Self", bound="Task")

# Methods that Keras's models call in training, which users' subclasses define there.
KERAS_CALLS = (
    *("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics", "call", "build"),
    *("make_train_function", "make_test_function", "make_predict_function"),
)

# Names that users of Keras or Hugging Face may look for, and their place here.
ELSEWHERE = {
    **dict.fromkeys(("save_pretrained", "export"), "save_to_preset(directory) saves a model"),
    **dict.fromkeys(("from_pretrained", "load"), "from_preset(directory) loads a model"),
    "load_model": "pyroberta.models.load_model(filepath) loads what save(filepath) saved",
    **dict.fromkeys(("layers", "get_layer"), PARTS.format("backbone.")),
    **dict.fromkeys(("parameters", "named_parameters"), "params has the values by name"),
    "num_parameters": "count_params() is the number",
    "freeze": "backbone.freeze(regex) does it; backbone.trainable = False is for the whole encoder",
    "tokenizer": "preprocessor.tokenizer is the tokenizer",
    "roberta": "backbone is the encoder",
    "lm_head": "params has its values; head names what the model is for",
    **dict.fromkeys(("half", "float", "double", "bfloat16"), "dtype= of from_preset sets the precision"),
    "enable_lora": "backbone.enable_lora(rank) does it",
    "push_to_hub": "upload(handle) does it",
    "train": "fit(texts) trains a model",
    "eval": "only fit applies dropout, so it need not be switched off",
    "config": "backbone.config has the sizes, get_config() all arguments of the model",
    "dtype": "backbone.precision has it",
    "state_dict": "get_weights() gives the values, save_weights(path) writes them",
    "variables": "weights has them",
    "trainable_variables": "trainable_weights has them",
    "non_trainable_variables": "non_trainable_weights has them",
    **dict.fromkeys(
        ("reset_metrics", "get_metrics_result"), "each call resets the metrics; on a batch they are those of the batch"
    ),
    **dict.fromkeys(("to", "cuda", "cpu", "device"), "it runs on the CPU; backend= of from_preset says how"),
}

FROM_PRESET: Any = object()  # "the preset's own preprocessor", as distinct from None, "no preprocessor"


def _learning_rate_or_none(name: str, value: Any) -> float | None:
    """The value as a float.

    Raises:
        ValueError: naming the attribute, for anything but None and a finite number above 0.
    """
    if value is not None and not is_positive(value):
        raise ValueError(f"{name} must be a finite number above 0, or None, got {in_message(value)}")
    return None if value is None else float(value)


class Task(Trainer, KerasModel, ABC):
    """A backbone with the head of one task, a preprocessor of texts, an optimizer and a loss.

    Each subclass, such as `MaskedLM`, names its head in `head` (see `model.heads`) and defines its inputs and its
    logits. `Task.from_preset` returns an object of the class whose head the preset has. `copy.copy` and `copy.deepcopy`
    return a task with its own parameters. Two tasks that are made around one backbone share its parameters. Only one of
    them may train at a time.

    Args:
        backbone: the encoder. Its vector holds the head's parameters too.
        preprocessor: the preprocessor that makes the model's input from texts. None for a model that takes preprocessed
            features only.
        num_classes: the number of classes of a classifier. None for a masked LM. If the backbone has another head, the
            task uses a copy of the backbone with an untrained head. So tasks with different heads never share
            parameters.
        seed: the seed of all random choices in training: the order of examples, masks, dropout. The same seed, data and
            calls give the same model.
        name: the name of the model, as in Keras.
        compile: whether to compile the model with the defaults. If False, `compile` must be called before it is trained
            or evaluated.

    Attributes:
        backbone, preprocessor, seed, name: the arguments.
        optimizer, loss: the arguments of `compile`.
        stop_training, stop_evaluating, stop_predicting: a callback sets them to True to end `fit`, `evaluate` or
            `predict` after the current step.
        labels: the names of a classifier's classes.

    Warns:
        FreshHeadWarning: if the backbone has a preset's weights and the head is untrained, unless it is a classifier's
            head and the preset is no classifier.

    >>> Task.from_preset("roberta_tiny_en").__class__.__name__
    'MaskedLM'
    """

    head: ClassVar[str]  # its name in `model.heads.HEADS`
    of_head: ClassVar[dict[str, type[Task]]] = {}  # the first class that was made for each head
    preprocessor_kind: ClassVar[type[Preprocessor]]
    checks: ClassVar[Checks] = {"trainable": true_or_false, "recommended_learning_rate": _learning_rate_or_none}
    unsettable: ClassVar[Reasons] = MODEL | {
        "metrics": "compile takes them",
        "dtype": "give dtype= where it is loaded, or where its backbone is made",
        "run_eagerly": "every step is plain Python here, which a debugger can enter",
        **dict.fromkeys(("jit_compile", "steps_per_execution"), "there is nothing to compile here"),
        **dict.fromkeys(("params", "weights", "variables"), "set_weights, or backbone.changing(), changes values"),
        **dict.fromkeys(("trainable_weights", "trainable_variables"), "see backbone.freeze and trainable"),
    }

    backbone: Backbone
    labels: list[str] | None = None
    elsewhere = ELSEWHERE
    _is_task = True

    def __init__(
        self,
        backbone: Backbone,
        preprocessor: Preprocessor | None = None,
        num_classes: int | None = None,
        *,
        classifier_dropout: float | None = None,
        classifier_hidden_dim: int | None = None,
        seed: int = 0,
        name: str | None = None,
        compile: bool = True,
    ) -> None:
        self.seed = seed
        if name is not None:
            self.name = name
        config = expect_instance("backbone", backbone, Backbone).config
        message, has_preset_head = backbone._fresh_head, backbone._has_preset_head
        if (config.head, config.num_classes) != (self.head, num_classes):
            backbone = backbone.with_head(
                num_classes,
                head_name=self.head,
                classifier_dropout=classifier_dropout,
                classifier_hidden_dim=classifier_hidden_dim,
                seed=self.seed,
            )
            message = ""
            if not has_classes(head_of(backbone.config)):
                if backbone._is_loaded:
                    message = f"the backbone has a {title(config)} and no {title(backbone.config)}{UNTRAINED}"
            elif has_preset_head and has_classes(head_of(config)):
                message = dropped_head("the backbone", backbone.config, config)
        elif classifier_hidden_dim not in (None, width := config.classifier_hidden_dim or config.hidden_dim):
            raise ValueError(
                f"hidden_dim is {classifier_hidden_dim!r}, but the backbone has a head for {num_classes} classes "
                f"already, whose dense layer is {width} wide: leave it out, or give a backbone with a fresh head, "
                f"backbone.with_head({num_classes}, classifier_hidden_dim={classifier_hidden_dim!r})"
            )
        elif classifier_dropout not in (None, config.classifier_dropout):
            raise ValueError(
                f"classifier_dropout is {classifier_dropout!r}, but the backbone has a head for {num_classes} classes "
                f"already, whose rate is {config.classifier_dropout}: leave it out, or set backbone.config to "
                f"dataclasses.replace(backbone.config, classifier_dropout={classifier_dropout!r}) first"
            )
        self.backbone = backbone
        self.preprocessor = preprocessor
        self._trainable = True
        self._trained_from: str | None = None  # the name or handle whose weights it began with
        self._learning_rates: dict[str, float] = {}  # that suit the weights, by the names of heads
        super().__init__()
        self._is_compiled = true_or_false("compile", compile)
        if message:
            warn_of_fresh_head(message)
        backbone._fresh_head = ""  # it was said, and not raised as an error

    @classmethod
    @hinting(**FOREIGN_OPTIONS)
    def from_preset(
        cls: type[Self],
        preset: str | os.PathLike[str],
        load_weights: bool = True,
        *,
        load_optimizer: bool = False,
        preprocessor: Preprocessor | None = FROM_PRESET,
        dtype: Any = "float32",
        backend: str = "auto",
        dropout: float | None = None,
        attention_dropout: float | None = None,
        initializer: str = "keras",
        seed: int | None = None,
        name: str | None = None,
        compile: bool = True,
    ) -> Self:
        """Loads the model of a preset. `Task.from_preset` itself returns an object of the class whose head the preset
        has.

        Args:
            preset: a name (`MaskedLM.presets` lists them); a handle, `hf://ORGANISATION/NAME[@REVISION]` or
                `kaggle://OWNER/MODEL/FRAMEWORK/VARIATION[/VERSION]`; or the path of a directory, of Hugging Face,
                KerasHub or fairseq.
            load_weights: whether to load the weights. If False, the model has the preset's shape and tokenizer, and
                initial values that `initializer` draws.
            load_optimizer: whether to load the optimizer and the seed that `save_to_preset(...,
                include_optimizer=True)` saved, so that training continues from there. Frozen parameters, a loss and
                metrics are not saved: set them again, with `model.loss = ...` and not with `compile`, which resets the
                optimizer.
            preprocessor: a preprocessor that replaces the preset's. None for a model that takes preprocessed features
                only.
            dtype: the dtype of parameters and arithmetic, `"float32"` or `"float64"`; or `"mixed_bfloat16"`, see
                `Backbone.precision`.
            backend: `"auto"`, `"numpy"`, `"native-blas"` or `"native"`; see `pyroberta doctor`.
            dropout, attention_dropout: rates that replace the preset's. `dropout` alone sets both. For a classifier,
                `dropout` is only the head's rate, as in KerasHub.
            initializer: the rule for initial values, `"keras"`, `"hf"` or `"neighbour"`; see `initialise`. The last two
                need `load_weights=False`.
            seed: see the class. None means 0, or the saved seed with `load_optimizer`.
            name, compile: see the class.

        Raises:
            ValueError, FileNotFoundError: if the preset is missing or damaged, or the optimizer's state with
                `load_optimizer`. The message says what was found.
            ImportError, ConnectionError, PermissionError: if it can't be downloaded. The message says what to do.

        Warns:
            FreshHeadWarning: if the head is untrained, since the preset lacks it, or since `num_classes` or
                `hidden_dim` of a classifier asked for another size. A classifier of a preset that is none does not
                warn.
        """
        options: dict[str, Any] = {
            "load_weights": load_weights,
            "load_optimizer": load_optimizer,
            "dtype": dtype,
            "backend": backend,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "initializer": initializer,
            "name": name,
            "compile": compile,
        }
        opened = cls._open(preset, load_weights=load_weights, load_optimizer=load_optimizer)
        if cls is Task:
            kind: Any = Task.of_head[opened.config.head]
            found: Self = kind.from_preset(opened, preprocessor=preprocessor, seed=seed, **options)
            return found
        return cls._loaded(opened, preprocessor, seed, {}, num_classes=None, **options)

    @staticmethod
    def _open(
        preset: str | os.PathLike[str],
        weights: bool = True,
        *,
        load_weights: bool = True,
        load_optimizer: bool = False,
        **_: Any,
    ) -> Preset:
        """Opens a preset, once for all that is read of it. `weights` is False if they may not be needed yet."""
        load_weights = true_or_false("load_weights", load_weights)
        if true_or_false("load_optimizer", load_optimizer) and not load_weights:
            raise ValueError("load_optimizer=True continues from the preset's weights: leave out load_weights=False")
        return open_preset(preset, weights=weights and load_weights)

    @classmethod
    def _loaded(
        cls: type[Self],
        preset: Preset,
        preprocessor: Preprocessor | None,
        seed: int | None,
        arguments: Mapping[str, Any],
        *,
        load_weights: bool = True,
        load_optimizer: bool = False,
        name: str | None = None,
        compile: bool = True,
        **options: Any,
    ) -> Self:
        """The task of that class; `arguments` are arguments of it, `options` those of `Backbone.from_preset`."""
        backbone = Backbone._of_preset(preset, load_weights, seed=seed or 0, head_name=cls.head, **options)
        if preprocessor is FROM_PRESET:
            preprocessor = cls.preprocessor_kind.from_preset(preset)
        state = preset.optimizer_state if load_optimizer else None
        if seed is None:
            seed = state.seed if state else 0
        task = cls._made(backbone, preprocessor, seed, name=name, compile=compile, **arguments)
        if state:
            try:
                task._take_optimizer_state(state)
            except ValueError as error:
                why = clipped(str(error), 800)  # the config in it may be long
                raise ValueError(f"the state of training in {preset} can't be used: {why}") from None
        if load_weights:
            task._learning_rates = dict(preset.learning_rates)
            if preset.is_published:
                task._trained_from = preset.name
        return task

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Registers a subclass for its head. Refuses one with a method of Keras's that is never called here."""
        super().__init_subclass__(**keywords)
        if "head" in vars(cls):
            Task.of_head.setdefault(cls.head, cls)
            cls.name = f"roberta_{cls.head}"
        for name in KERAS_CALLS:
            if name in vars(cls):
                raise TypeError(
                    f"{cls.__name__} defines {name}, which Keras would call but pyroberta does not: use callbacks, or "
                    "a loop of train_on_batch()"
                )

    def _checked(self, name: str, value: Any) -> Any:
        value = super()._checked(name, value)
        if name == "backbone":
            before = vars(self).get("backbone")
            if before and not same_head(expect_instance(name, value, Backbone).config, before.config):
                raise ValueError(
                    f"the new backbone has a {title(value.config)}, but the old one a {title(before.config)}: make "
                    f"another {type(self).__name__}"
                )
            if vars(self).get("preprocessor"):
                _check_fit(vars(self)["preprocessor"], value)
        elif name == "preprocessor" and value is not None:
            _check_fit(expect_instance(name, value, self.preprocessor_kind), self.backbone)
        return value

    def __repr__(self) -> str:
        return summary.described(type(self).__name__, *self._weights(), self.backbone._origin)

    def _summary(self) -> str:
        lines = [] if self.preprocessor is None else [f"Preprocessor: {self.preprocessor!r}"]
        lines.append(summary.table(type(self).__name__, *self._weights(), self._trainable_names()))
        if self.recommended_learning_rate is not None:
            lines.append(f"recommended learning rate (Adam): {self.recommended_learning_rate:g}")
        return "\n".join(lines)

    def __copy__(self: Self) -> Self:
        """A deep copy, as in Keras: two tasks over one backbone would freeze and train each other's parameters."""
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        """The state for copies and pickles: all but the gradients of the last update."""
        state = replace(self._state, params=Arrays({}), slots={})  # the backbone and the optimizer have them
        return {**vars(self), "_sums": None, "_run": None, "_state": state}

    def __deepcopy__(self, memo: dict[int, Any]) -> Task:
        """A copy of one moment, whose tokenizer has no token without a row in the model.

        Raises:
            RuntimeError: while another thread trains or changes the model.
        """
        with self.backbone.reading("copy.deepcopy()"):
            other = memo[id(self)] = type(self).__new__(type(self))
            other.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return other

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes the state of another task, with an optimizer that knows this task as its model."""
        vars(self).update(state)
        self.optimizer.belong_to(self)

    @property
    def trainable(self) -> bool:
        """Whether training may change anything. Setting it also sets `backbone.trainable`.

        `backbone.trainable = False` still lets the head be trained. `trainable = False` freezes everything, and `fit`
        then raises a ValueError. (Keras warns and trains nothing.)
        """
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = value
        self.backbone.trainable = value

    @property
    def recommended_learning_rate(self) -> float | None:
        """The recommended learning rate of Adam for the model's weights, or None if no preset recommends one.

        A preset has a rate for each head. docs/adaptation.md says how the rate of `roberta_tiny_en` was found.
        `compile` does not use it automatically. It can be set, and `save_to_preset` saves it. None removes it.

        >>> from pyroberta import MaskedLM, optimizers
        >>> masked_lm = MaskedLM.from_preset("roberta_tiny_en")
        >>> masked_lm.recommended_learning_rate = 5e-4
        >>> masked_lm.compile(optimizers.Adam(masked_lm.recommended_learning_rate))
        """
        return self._learning_rates.get(self.head)

    @recommended_learning_rate.setter
    def recommended_learning_rate(self, value: float | None) -> None:
        others = {head: rate for head, rate in self._learning_rates.items() if head != self.head}
        self._learning_rates = others if value is None else {**others, self.head: value}

    # --- the parts of a task ------------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def _made(
        cls: type[Self], backbone: Backbone, preprocessor: Preprocessor | None, seed: int, **arguments: Any
    ) -> Self:
        """A task around a backbone that has the task's head. `arguments`: other arguments of the class."""

    @abstractmethod
    def __call__(self, inputs: Mapping[str, Any]) -> Array:
        """Logits for preprocessed features."""

    # --- the model itself ---------------------------------------------------------------------------------------------

    @hinting()
    def save_to_preset(
        self,
        directory: str | os.PathLike[str],
        *,
        format: str = "hf",
        dtype: str = "float32",
        max_shard_size: float | str | None = "5GB",
        include_optimizer: bool = False,
    ) -> None:
        """Writes a directory that `from_preset` loads. transformers or KerasHub load it too.

        If the save is interrupted or the disk is full, the directory does not change. The low-rank changes of LoRA are
        added to the written kernels; the model itself still has them separately.

        Args:
            directory: the directory, which is created, or replaced if it holds a preset of a RoBERTa. Its files of
                other names stay.
            format: `"hf"` for a Hugging Face directory, or `"keras"` for a KerasHub preset, which needs the package
                h5py.
            dtype: the dtype in which the weights are stored: `"float32"`, `"float16"`, `"bfloat16"` or `"float64"`.
            max_shard_size: the largest size of a file of weights: a text such as `"500MB"`, or a number of gigabytes,
                as in KerasHub. Larger weights are written into several files. None for no limit.
            include_optimizer: whether to save the optimizer's settings, its moments, which take twice the space of the
                weights, and the seed, for `from_preset(..., load_optimizer=True)`. If `dtype` is that of the model,
                training continues with the same bits.

        Raises:
            FileExistsError: if the directory holds anything but such a preset, or is a file.
            ValueError: if the format can't hold the model, a parameter is not finite in `dtype`, or `include_optimizer`
                is True before the first update.
            ImportError: if h5py is not installed, for `"keras"`.
            OSError: if the disk is full. The message has the bytes needed and the bytes free. Existing files do not
                change, and the model can be saved elsewhere.

        Warns:
            UserWarning: if KerasHub ignores a setting of the model, or weights in other formats stay in the directory.
        """
        from pyroberta.presets.optimizer_state import OptimizerState
        from pyroberta.presets.writing import writer

        write, contents = writer(format), self._contents()
        if true_or_false("include_optimizer", include_optimizer):
            if self.backbone.config.lora_rank:
                raise ValueError(
                    "the optimizer's state belongs to LoRA's factors, which a preset can't hold: call merge_lora() "
                    "first, or save without include_optimizer"
                )
            now, config = self._current_state(), self.optimizer.get_saved_config()
            state = OptimizerState(config, now.step, now.slots, now.seed, now.data_pass, now.position)
            contents = replace(contents, state=state)
        write(as_path(directory), contents, dtype=dtype, max_shard_size=max_shard_size)

    def save(self, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Does what `KerasModel.save` does, and writes the head, the tokenizer and the preprocessor's settings too.

        The arguments of `compile` and the optimizer's state are not written, since KerasHub's tasks do not load them.

        Warns:
            UserWarning: if the optimizer has a state, which is not written, or KerasHub ignores a setting of the model.
        """
        super().save(filepath, overwrite)
        if self.optimizer.iterations:
            warnings.warn(
                # without names and numbers, so that it is said once where a callback saves again and again
                "a .keras file does not hold the optimizer's state: load_model starts without one, as in KerasHub. To "
                "continue training, use save_to_preset(directory, include_optimizer=True)",
                stacklevel=callers_level(),
            )

    def _contents(self) -> Contents:
        from pyroberta.presets.writing import Contents

        return Contents(
            *merged(self.backbone.config, self.backbone.params),
            self.preprocessor.tokenizer if self.preprocessor else None,
            self.preprocessor.preset_settings() if self.preprocessor else None,
            labels=self.labels,
            activation=self._saved_activation(),
            learning_rates=self._learning_rates,
        )

    def resize_token_embeddings(self, vocabulary_size: int) -> None:
        """Does what `Backbone.resize_token_embeddings` does, and checks that every token of the tokenizer keeps its
        row.

        Raises:
            ValueError: if the tokenizer has more tokens than `vocabulary_size`, or it is not a size.
        """
        vocabulary_size = whole_number("vocabulary_size", vocabulary_size)
        if self.preprocessor is not None and vocabulary_size < self.preprocessor.tokenizer.vocabulary_size():
            raise ValueError(
                f"the tokenizer has {self.preprocessor.tokenizer.vocabulary_size()} ids, which need a row each; got "
                f"vocabulary_size={vocabulary_size}"
            )
        self.backbone.resize_token_embeddings(vocabulary_size)

    def extend_positions(self, length: int) -> None:
        """Does what `Backbone.extend_positions` does, and lets the preprocessor make longer sequences too.

        If the preprocessor's `sequence_length` is the model's old `max_sequence_length`, it becomes `length`, and a
        masked LM's `mask_selection_length` grows in proportion, rounded up.

        Args:
            length: the new `max_sequence_length`, above the present one.

        Raises:
            ValueError: see `Backbone.extend_positions`.
        """
        before = self.backbone.max_sequence_length
        self.backbone.extend_positions(length)
        preprocessor: Any = self.preprocessor
        if preprocessor is not None and preprocessor.sequence_length == before:
            preprocessor.sequence_length = length
            if hasattr(preprocessor, "mask_selection_length"):
                preprocessor.mask_selection_length = -(-preprocessor.mask_selection_length * length // before)

    def add_tokens(self, tokens: str | Iterable[str], *, special: bool = False) -> int:
        """Adds tokens to the tokenizer, and rows for them to the model's token embedding if it has too few.

        Args:
            tokens, special: see `Tokenizer.add_tokens`.

        Returns:
            The number of strings that were not recognised before.

        Raises:
            TypeError, ValueError: see `Tokenizer.add_tokens`; also if the model has no tokenizer, or there is too
                little memory. Then nothing is added.

        >>> from pyroberta import MaskedLM
        >>> masked_lm = MaskedLM.from_preset("roberta_tiny_en")
        >>> masked_lm.add_tokens([" Tyrannosaurus", " Triceratops"])
        2
        >>> masked_lm.fill_mask("The <mask> is big.", targets=["Tyrannosaurus"])[0].token
        8000
        """
        tokenizer, special = self._tokenizer(), true_or_false("special", special)
        tokens = [tokens] if isinstance(tokens, str) else list(checked_texts(tokens, "tokens"))
        with self.backbone.writing("add_tokens()", makes_room=True), uninterrupted():
            if (size := tokenizer.size_with(tokens)) > self.backbone.config.vocabulary_size:
                self.backbone.resize_token_embeddings(size)  # first, since there may be no memory for the rows
            return tokenizer.add_tokens(tokens, special=special)

    def upload(
        self,
        handle: str,
        *,
        private: bool = False,
        licence: str | None = None,
        message: str = "A model saved by pyroberta",
    ) -> str:
        """Saves the model and uploads it to a hub, with a card. Returns the address of its page.

        Args:
            handle: `hf://ORGANISATION/NAME[@BRANCH]` or `kaggle://OWNER/MODEL/FRAMEWORK/VARIATION`.
            private, licence, message: see `presets.upload.upload`.

        Raises:
            ValueError: if the handle has another form.
            ImportError, PermissionError, ConnectionError, OSError: if it can't be uploaded. The message says what to
                do.
        """
        from tempfile import TemporaryDirectory

        from pyroberta.presets.upload import check_handle, upload

        check_handle(handle)  # before much is written
        private = true_or_false("private", private)
        with TemporaryDirectory() as parent:
            directory = os.path.join(parent, "preset")
            self.save_to_preset(directory)
            return upload(
                directory, handle, private=private, licence=licence, trained_from=self._trained_from, message=message
            )

    @property
    def params(self) -> Mapping[str, Array]:
        """The values of all parameters by name, as read-only views. To write into them, see `Backbone.changing`."""
        return self.backbone.params

    def save_task_weights(self, filepath: str | os.PathLike[str]) -> None:
        """Writes only the head's parameters, as KerasHub's method of this name does. For the arguments see
        `save_weights`.
        """
        self._save(filepath, True, self._head_names())

    def load_task_weights(self, filepath: str | os.PathLike[str]) -> None:
        """Sets the head's parameters to the values in a file that `save_task_weights`, here or of KerasHub, wrote.

        Raises:
            FileNotFoundError, ValueError: see `load_weights`.
        """
        self._load(filepath, False, self._head_names())

    def has_task_weights(self) -> bool:
        """Returns True, since every head has parameters."""
        return bool(self._head_names())

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make another task of the same shape. They contain the configs of the backbone and
        the preprocessor.

        The config has JSON's types and KerasHub's form: `from_config` of KerasHub's class of this task takes it, and
        the reverse.

        >>> from pyroberta import Backbone, MaskedLM
        >>> config = MaskedLM(Backbone(20, 1, 2, 8, 16)).get_config()
        >>> config["name"], config["backbone"]["class_name"], config["preprocessor"]
        ('roberta_masked_lm', 'RobertaBackbone', None)
        >>> MaskedLM.from_config(config).backbone.hidden_dim
        8
        """
        config = replace(
            self.backbone.config, num_classes=None, head_name=None, classifier_dropout=None, classifier_hidden_dim=None
        )
        backbone = serialized(self.backbone) | {"config": self.backbone._config_with(config)}
        preprocessor = None if self.preprocessor is None else serialized(self.preprocessor)
        seed = {"seed": self.seed} if self.seed else {}
        return {"backbone": backbone, "preprocessor": preprocessor, "name": self.name, **seed}

    @classmethod
    def from_config(cls: type[Self], config: Mapping[str, Any]) -> Self:
        """Returns a task with initial weights, from a config that `get_config`, here or of KerasHub, returned.

        Args:
            config: the arguments of the class. `backbone` and `preprocessor` may be objects too.

        Raises:
            TypeError, ValueError: if the config is not one of this class.
        """
        arguments = arguments_of(cls, config)
        if "backbone" not in arguments:
            raise ValueError(f"the config of a task should have a backbone, got {shown(arguments)}")
        parts: dict[str, type[Any]] = {"backbone": Backbone, "preprocessor": cls.preprocessor_kind}
        for name, kind in parts.items():
            if isinstance(arguments.get(name), Mapping):
                arguments[name] = deserialized(name, arguments[name], {kind.__name__: kind})
        make: Any = cls
        task: Self = make(**arguments)
        return task

    def _saved_activation(self) -> str:
        """The name of the function between logits and outputs, for files."""
        return "linear"

    def _head_names(self) -> list[str]:
        return [name for name in self.params if not is_backbone(name)]

    def _weights(self) -> tuple[Backbone, list[str]]:
        return self.backbone, list(self.params)

    def _trainable_names(self) -> list[str]:
        return self.backbone.trainable_names() if self._trainable else []

    def _reader(
        self,
        long_texts: str | None = None,
        *,
        is_prediction: bool = False,
        argument: str = "",
        label_names: Sequence[str] | None = None,
        may_name: bool = False,
        full_sentences: bool = False,
    ) -> InputReader:
        if self.preprocessor is not None:
            _check_tokenizer(self.preprocessor.tokenizer, self.backbone)
        return self.reader_kind(
            self.backbone.config,
            self.preprocessor,
            long_texts,
            is_prediction=is_prediction,
            argument=argument,
            label_names=self.labels if label_names is None else label_names,
            may_name=may_name,
            full_sentences=full_sentences,
        )

    def _tokenizer(self) -> Tokenizer:
        if self.preprocessor is None:
            raise ValueError(
                "this needs a tokenizer, but the model was made with preprocessor=None: load it without "
                "preprocessor=None"
            )
        _check_tokenizer(self.preprocessor.tokenizer, self.backbone)
        return self.preprocessor.tokenizer


def _check_fit(preprocessor: Preprocessor, backbone: Backbone) -> None:
    """Checks that the model takes the preprocessor's sequences."""
    config = backbone.config
    if preprocessor.sequence_length > config.max_sequence_length:
        raise ValueError(
            f"the preprocessor makes sequences of up to {preprocessor.sequence_length} tokens, but the model takes "
            f"{config.max_sequence_length}: pass "
            f"{type(preprocessor).__name__}(sequence_length={config.max_sequence_length})"
        )
    _check_tokenizer(preprocessor.tokenizer, backbone)


def _check_tokenizer(tokenizer: Tokenizer, backbone: Backbone) -> None:
    """Checks that the token embedding has a row for every token. `Tokenizer.add_tokens` may have added some."""
    size = tokenizer.vocabulary_size()
    hint = f". If tokens were added, resize_token_embeddings({size}) adds rows for them"
    check_vocabulary(size, backbone.config, hint=hint)
