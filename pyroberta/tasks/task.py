"""What every model of this package does: load, train, evaluate, answer, save. The heads are in files of their own."""

from __future__ import annotations

import copy
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

import numpy as np
from numpy import ndarray as Array

from pyroberta.data.examples import Examples, HeldExamples, Seed, grouped, numbered, onwards
from pyroberta.data.inputs import InputReader
from pyroberta.formats.budget import clipped
from pyroberta.formats.interrupts import uninterrupted
from pyroberta.model.attributes import (
    MODEL,
    Checked,
    Checks,
    Reasons,
    of_ours,
    random_seed,
    true_or_false,
    whole_number,
)
from pyroberta.model.batch import Batch
from pyroberta.model.gradients import Gradients
from pyroberta.model.hints import did_you_mean, hinting
from pyroberta.model.lora import merged
from pyroberta.model.parameters import Arrays
from pyroberta.presets.built_in import PRESETS, BuiltIn
from pyroberta.presets.preset import Preset, open_preset
from pyroberta.tasks.backbone import Backbone
from pyroberta.text.preprocessor import Preprocessor
from pyroberta.text.tokenizer import Tokenizer
from pyroberta.training import losses, optimizers
from pyroberta.training import metrics as measures
from pyroberta.training.callbacks import Callback, CallbackList, History, ProgressBar
from pyroberta.training.loop import Result, compute_gradients, evaluate_batch

Own = TypeVar("Own", bound="Task")

OF_THE_OPTIMIZER = "it is the optimizer's, as in compile(optimizer=pyroberta.optimizers.Adam(learning_rate=1e-4))"

# What Keras's models call in training, which users' subclasses define there.
KERAS_CALLS = (
    *("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics", "call", "build"),
    *("make_train_function", "make_test_function", "make_predict_function"),
)

# The model that an optimizer trained last, since it was compiled.
_TRAINED: weakref.WeakKeyDictionary[optimizers.Adam, weakref.ref[Task]] = weakref.WeakKeyDictionary()

# What users of Keras or Hugging Face may look for, and where it is here.
ELSEWHERE = {
    **dict.fromkeys(("save", "save_pretrained", "save_weights"), "save_to_preset(directory) saves a model"),
    **dict.fromkeys(("load_weights", "from_pretrained", "load"), "from_preset(directory) loads a model"),
    "enable_lora": "backbone.enable_lora(rank) does it",
    "push_to_hub": "upload(handle) does it",
    "train": "fit(texts) trains a model",
}

FROM_PRESET: Any = object()  # "the preset's own preprocessor", as distinct from None, "no preprocessor"


class Task(Checked, ABC):
    """A backbone with the head of one task, the preprocessor of its texts, and how it is trained.

    `MaskedLM` and `TextClassifier` are the two; what they add is what they are asked, and what their logits are.
    `Task.from_preset` gives the one that a preset is. `copy.copy` and `copy.deepcopy` give a task with parameters of
    its own. Two tasks that are made around one backbone share its parameters; one at a time may train them.

    Args:
        backbone: the encoder; its vector holds the head's parameters too.
        preprocessor: makes what the model reads of texts; None for a model that takes preprocessed features alone.
        num_classes: of a classifier; None for a masked LM. Where the backbone has another head than that, the task
            takes a copy of it with a fresh one, so that two tasks never share their parameters.
        seed: of everything random in training: the order of examples, masks, dropout. The same seed, data and calls
            give the same model.

    Attributes:
        backbone, preprocessor, seed: as given.
        optimizer, loss: as compiled.
        stop_training, stop_evaluating, stop_predicting: set by a callback to end `fit`, `evaluate` or `predict` after
            the current step.
        labels: the names of a classifier's classes.

    >>> Task.from_preset("roberta_tiny_en").__class__.__name__
    'MaskedLM'
    """

    presets: Mapping[str, BuiltIn] = PRESETS
    default_metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    is_classifier: ClassVar[bool]
    preprocessor_kind: ClassVar[type[Preprocessor]]
    reader_kind: ClassVar[type[InputReader]]
    takes_metrics: ClassVar[bool] = True  # without weights, as Keras's `metrics` are
    nothing: ClassVar[str]  # what to say of examples that nothing can be learnt from
    checks: ClassVar[Checks] = {
        "seed": random_seed,
        **dict.fromkeys(("stop_training", "stop_evaluating", "stop_predicting", "trainable"), true_or_false),
    }
    unsettable: ClassVar[Reasons] = MODEL | {
        "metrics": "compile takes them",
        "dtype": "give dtype= where it is loaded, or where its backbone is made",
        "run_eagerly": "every step is plain Python here, which a debugger can enter",
        **dict.fromkeys(("jit_compile", "steps_per_execution"), "there is nothing to compile here"),
        **dict.fromkeys(("params", "weights", "variables"), "set_weights, or backbone.changing(), changes values"),
        **dict.fromkeys(("trainable_weights", "trainable_variables"), "see backbone.freeze and trainable"),
    }

    labels: list[str] | None = None

    def __init__(
        self,
        backbone: Backbone,
        preprocessor: Preprocessor | None = None,
        num_classes: int | None = None,
        *,
        classifier_dropout: float | None = None,
        seed: int = 0,
    ) -> None:
        self.seed = seed
        config = of_ours("backbone", backbone, Backbone).config
        if config.num_classes != num_classes:
            backbone = backbone.with_head(num_classes, classifier_dropout=classifier_dropout, seed=self.seed)
        elif classifier_dropout not in (None, config.classifier_dropout):
            raise ValueError(
                f"classifier_dropout is {classifier_dropout!r}, but the backbone has a head for {num_classes} classes "
                f"already, whose rate is {config.classifier_dropout}: leave it out, or set backbone.config to "
                f"dataclasses.replace(backbone.config, classifier_dropout={classifier_dropout!r}) first"
            )
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.stop_training = self.stop_evaluating = self.stop_predicting = False
        self._trainable = True
        self._trained_from: str | None = None  # the name or handle whose weights it began with
        self._sums: Arrays | None = None  # the gradients' vector, made at the first update
        self.compile()

    @classmethod
    @hinting()
    def from_preset(
        cls: type[Own],
        preset: str | os.PathLike[str],
        *,
        load_weights: bool = True,
        load_optimizer: bool = False,
        preprocessor: Preprocessor | None = FROM_PRESET,
        dtype: str = "float32",
        backend: str = "auto",
        dropout: float | None = None,
        attention_dropout: float | None = None,
        initializer: str = "keras",
        seed: int | None = None,
    ) -> Own:
        """The model that a preset holds. Called on `Task`, returns the class that the preset holds.

        Args:
            preset: a name (`MaskedLM.presets` lists them); a handle, `hf://ORGANISATION/NAME[@REVISION]` or
                `kaggle://OWNER/MODEL/FRAMEWORK/VARIATION[/VERSION]`; or the path of a directory, of Hugging Face,
                KerasHub or fairseq.
            load_weights: False for the preset's shape and tokenizer with fresh values, drawn by `initializer`.
            load_optimizer: take the optimizer and the seed along that `save_to_preset(..., include_optimizer=True)`
                saved, so that training goes on where it was. What was frozen, and a loss or metrics of your own, are
                yours to set again: `model.loss = ...`, since `compile` starts the optimizer anew.
            preprocessor: instead of the preset's own; None for a model that takes preprocessed features alone.
            dtype: `"float32"` or `"float64"`, of parameters and arithmetic; or `"mixed_bfloat16"`, see
                `Backbone.precision`.
            backend: `"auto"`, `"numpy"`, `"native-blas"` or `"native"`; see `pyroberta doctor`.
            dropout, attention_dropout: rates instead of the preset's; `dropout` alone sets both. Of a classifier,
                `dropout` is the head's rate alone, as in KerasHub.
            initializer: `"keras"`, `"hf"` or `"neighbour"`, for fresh values; see `initialise`.
            seed: see the class; None is 0, or with `load_optimizer` the saved one.

        Raises:
            ValueError, FileNotFoundError: where the preset, or the state with `load_optimizer`, is not there or not
                sound, saying what can be had.
            ImportError, ConnectionError, PermissionError: where it can't be downloaded, saying what to do.
        """
        options: dict[str, Any] = {
            "load_weights": load_weights,
            "load_optimizer": load_optimizer,
            "dtype": dtype,
            "backend": backend,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "initializer": initializer,
            "seed": seed,
        }
        opened = cls._open(preset, load_weights=load_weights, load_optimizer=load_optimizer)
        if cls is Task:
            is_classifier = opened.config.num_classes is not None
            kind: Any = next(kind for kind in Task.__subclasses__() if kind.is_classifier == is_classifier)
            found: Own = kind.from_preset(opened, preprocessor=preprocessor, **options)
            return found
        return cls._loaded(opened, preprocessor, num_classes=None, **options)

    @staticmethod
    def _open(
        preset: str | os.PathLike[str],
        weights: bool = True,
        *,
        load_weights: bool = True,
        load_optimizer: bool = False,
        **_: Any,
    ) -> Preset:
        """The preset, opened once for all that is read of it. `weights`: False where they may not be needed yet."""
        load_weights = true_or_false("load_weights", load_weights)
        if true_or_false("load_optimizer", load_optimizer) and not load_weights:
            raise ValueError("load_optimizer=True goes on from the preset's weights: leave out load_weights=False")
        return open_preset(preset, weights=weights and load_weights)

    @classmethod
    def _loaded(
        cls: type[Own],
        preset: Preset,
        preprocessor: Preprocessor | None,
        *,
        load_weights: bool = True,
        load_optimizer: bool = False,
        seed: int | None = None,
        **options: Any,
    ) -> Own:
        """The task of that class; `options` are those of `Backbone.from_preset`."""
        backbone = Backbone.from_preset(preset, load_weights=load_weights, seed=seed or 0, **options)
        if preprocessor is FROM_PRESET:
            preprocessor = cls.preprocessor_kind.from_preset(preset)
        state = preset.optimizer_state if load_optimizer else None
        if seed is None:
            seed = state.seed if state else 0
        task = cls._made(backbone, preprocessor, seed)
        if state:
            try:
                task.optimizer = optimizers.restored(state.optimizer, vars(state), backbone.params)
            except ValueError as error:
                why = clipped(str(error), 800)  # the config in it may be long
                raise ValueError(f"the state of training in {preset} can't be used: {why}") from None
        if load_weights and preset.is_published:
            task._trained_from = preset.name
        return task

    def __init_subclass__(cls, **keywords: Any) -> None:
        """A subclass defines no method of Keras's that is never called here."""
        super().__init_subclass__(**keywords)
        for name in KERAS_CALLS:
            if name in vars(cls):
                raise TypeError(
                    f"{cls.__name__} defines {name}, which Keras calls and pyroberta doesn't: use callbacks, or a loop "
                    "of train_on_batch()"
                )

    def _checked(self, name: str, value: Any) -> Any:
        value = super()._checked(name, value)
        if name == "backbone":
            before = vars(self).get("backbone")
            if before and of_ours(name, value, Backbone).config.num_classes != before.config.num_classes:
                raise ValueError(
                    f"the backbone has a head for {value.config.num_classes or 'no'} classes, the one before for "
                    f"{before.config.num_classes or 'no'}: make another {type(self).__name__}"
                )
            if vars(self).get("preprocessor"):
                _check_fit(vars(self)["preprocessor"], value)
        elif name == "preprocessor" and value is not None:
            _check_fit(of_ours(name, value, self.preprocessor_kind), self.backbone)
        elif name == "optimizer":
            value = "adam" if isinstance(value, str) and value == "auto" else value
            value = of_ours(name, optimizers.get(value), optimizers.Adam)
        elif name == "loss":
            value = self._default_loss() if isinstance(value, str) and value == "auto" else losses.get(value)
            _check_loss(of_ours(name, value, losses.SparseCategoricalCrossentropy))
        return value

    def __repr__(self) -> str:
        config, backbone = self.backbone.config, self.backbone
        return (
            f"<{type(self).__name__}: {config.num_layers} layers, hidden {config.hidden_dim}, vocabulary "
            f"{config.vocabulary_size}; {backbone.precision}, backend {_backend(backbone)}>"
        )

    if not TYPE_CHECKING:  # a type checker knows the names

        def __getattr__(self, name: str) -> NoReturn:
            """Is asked for names that are not there: says which one may have been meant."""
            hint = ""
            if not name.startswith("_"):
                hint = f": {ELSEWHERE[name]}" if name in ELSEWHERE else did_you_mean(name, dir(type(self)))
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{hint}", name=name, obj=self)

    def __copy__(self: Own) -> Own:
        """A deep copy, as Keras's is: two tasks over one backbone would freeze and train each other's parameters."""
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: all but the gradients of the last update."""
        return {**vars(self), "_sums": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Task:
        """A copy of one moment: its tokenizer has no token for which its model has no row.

        Raises:
            RuntimeError: while another thread trains or changes the model.
        """
        with self.backbone.reading("copy.deepcopy()"):
            other = memo[id(self)] = type(self).__new__(type(self))
            vars(other).update(copy.deepcopy(self.__getstate__(), memo))
        return other

    @property
    def trainable(self) -> bool:
        """Whether training may change anything. Setting it also sets `backbone.trainable`.

        Unlike `backbone.trainable = False`, which leaves the head to be trained, `trainable = False` freezes
        everything: `fit` then raises ValueError, where Keras warns and trains nothing.
        """
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = value
        self.backbone.trainable = value

    # --- what a task is made of ----------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def _made(cls: type[Own], backbone: Backbone, preprocessor: Preprocessor | None, seed: int) -> Own:
        """The task around a backbone that has its head."""

    @abstractmethod
    def __call__(self, inputs: Mapping[str, Any]) -> Array:
        """Logits for preprocessed features."""

    @abstractmethod
    def _default_loss(self) -> losses.SparseCategoricalCrossentropy:
        """What `loss="auto"` stands for."""

    @abstractmethod
    def _answer(self, query: Mapping[str, Any] | Sequence[Array]) -> Array:
        """Logits for one of the batches that the reader's `queries` gives."""

    @abstractmethod
    def _joined(self, outputs: Sequence[Array], is_text: bool) -> Array:
        """What `predict` returns of the logits of all batches; whether all of them were texts."""

    # --- training -----------------------------------------------------------------------------------------------

    @hinting(**dict.fromkeys(("lr", "learning_rate", "weight_decay"), OF_THE_OPTIMIZER))
    def compile(
        self,
        optimizer: optimizers.Adam | str = "auto",
        loss: losses.SparseCategoricalCrossentropy | str = "auto",
        *,
        metrics: Sequence[measures.Metric | str] | str | None = None,
        weighted_metrics: Sequence[measures.Metric | str] | str | None = "auto",
        jit_compile: bool | str = "auto",
        recompute: bool = False,
    ) -> None:
        """Chooses how to train; the optimizer starts anew.

        Args:
            optimizer: `"auto"` is `Adam(5e-5)`, Keras's form, as in KerasHub.
            loss: `"auto"` is the mean over the masked tokens, or over a classifier's texts (weights or not, as in
                Keras); see `losses.SparseCategoricalCrossentropy`.
            metrics: of a classifier: names or `metrics` objects, which leave weights out, as Keras's do. A masked LM
                refuses them, since they would count mask slots that are not used.
            weighted_metrics: beside the loss, names or `metrics` objects. `"auto"` is accuracy and, of a masked LM,
                perplexity; nothing where there are `metrics`.
            jit_compile: accepted so that KerasHub's examples run; there is nothing to compile.
            recompute: keep only each layer's input for backward and run the layer again there (gradient checkpointing):
                much less memory, a quarter to a third more time, the same result.

        Raises:
            ValueError: for a loss on probabilities, since the model gives logits, or without a reduction; for a masked
                LM's `metrics`.
            TypeError: for an optimizer, a loss or a metric that is not pyroberta's.
        """
        if isinstance(metrics, str):
            metrics = None if metrics == "auto" else (metrics,)
        if metrics and not self.takes_metrics:
            raise ValueError(
                f"metrics={metrics!r} would count every mask slot, used or not, since Keras's metrics take no weights. "
                "Pass weighted_metrics= instead, which count masked tokens by their weights"
            )
        if isinstance(weighted_metrics, str):
            default = () if metrics else self.default_metrics
            weighted_metrics = default if weighted_metrics == "auto" else (weighted_metrics,)
        new_optimizer, new_loss = self._checked("optimizer", optimizer), self._checked("loss", loss)
        recompute = true_or_false("recompute", recompute)
        new_metrics, unweighted = (
            [of_ours("metric", measures.get(metric), measures.Metric) for metric in some or ()]
            for some in (weighted_metrics, metrics)
        )
        _TRAINED.pop(new_optimizer, None)
        if new_optimizer.m is not None:  # it has worked before, here or for another model
            new_optimizer.build(self.backbone.params)
        self.optimizer, self.loss, self._recompute = new_optimizer, new_loss, recompute
        self._metrics: list[measures.Metric] = [measures.Loss(), *new_metrics, *unweighted]
        self._unweighted = unweighted

    @hinting(**dict.fromkeys(("lr", "learning_rate", "weight_decay", "optimizer"), OF_THE_OPTIMIZER))
    def fit(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        batch_size: int | None = None,
        epochs: int = 1,
        validation_data: Any = None,
        validation_split: float = 0.0,
        shuffle: bool = True,
        callbacks: Sequence[Callback] | Callback | None = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_batch_size: int | None = None,
        validation_steps: int | None = None,
        gradient_accumulation_steps: int = 1,
        long_texts: str | None = None,
        verbose: int | str = "auto",
    ) -> History:
        """Trains the model.

        Args:
            x: texts (a list, an array, a table's column, any iterable of strings, pairs as tuples of two strings, an
                open text file, or the path of one with one text a line); encoded sequences (arrays of token ids); a
                dict of `token_ids` (B, S), `padding_mask` (B, S) and, for a masked LM, `mask_positions` (B, K); or an
                iterable of batches of the above, `(x, y, sample_weight)` or shorter.
            y: of a classifier (B,) whole numbers, the class of each. Of a masked LM (B, K) original ids, beside a dict
                of features; texts make their own.
            sample_weight: (B,), or (B, K) beside a masked LM's features.
            batch_size: sequences a step, 32 unless given. For an iterable of batches each has as many as its batch has
                texts.
            epochs: number of the last epoch.
            validation_data: x, (x, y) or (x, y, sample_weight), evaluated after every epoch.
            validation_split: instead, the last part of x, in [0, 1) of its texts; taken before shuffling. Keras lets
                `validation_data` win where there are both; here that is an error.
            shuffle: draw the examples in a new order every epoch; an iterable of batches keeps its own.
            callbacks: told of every step and epoch.
            initial_epoch: number of the first epoch, when going on with an earlier run.
            steps_per_epoch: updates an epoch. The next epoch goes on where this one left off. Held examples that are
                used up begin again in a new order, if need be within an epoch (where Keras ends the epoch early). An
                iterable without a length is then read as it goes, instead of being collected and shuffled.
            validation_batch_size, validation_steps: for the evaluation; `batch_size` and all, unless given. Of an
                iterable of texts without a length no more is read than `validation_steps` asks.
            gradient_accumulation_steps: batches whose gradients make one update, exactly that of one large batch with
                the same masks (texts are masked batch by batch); up to 1024.
            long_texts: what becomes of texts with more tokens than the preprocessor's `sequence_length`, those of
                `validation_data` too. `"split"`: a text becomes windows of so many tokens, special ones counted, which
                do not overlap; each has the text's weight, and counts as a sequence in a step. `"cut"`: the rest is not
                read. `"refuse"`: an error. None is `"split"` for a masked LM's texts and `"cut"` for pairs and for a
                classifier, which can't be split. Features and encoded sequences are never changed: too long ones are
                refused.
            verbose: 0 silent, 1 a bar, 2 a line an epoch; `"auto"` is 1.

        Returns:
            A `History`: `.history` name -> value per epoch, `.plot()`.

        Warns:
            UserWarning: once, with their numbers, where texts were split or cut; at the end, where they were read as
                they came.

        Raises:
            ValueError, TypeError: for input that does not fit, saying what does.
            NonFiniteError: at the first loss that is NaN or infinite, naming the step and the op; the parameters are
                those before that step.
        """
        batch_size = whole_number("batch_size", 32 if batch_size is None else batch_size)
        epochs = whole_number("epochs", epochs, at_least=0)
        initial_epoch = whole_number("initial_epoch", initial_epoch, at_least=0)
        if steps_per_epoch is not None:
            steps_per_epoch = whole_number("steps_per_epoch", steps_per_epoch)
        if validation_batch_size is not None:
            validation_batch_size = whole_number("validation_batch_size", validation_batch_size)
        if validation_steps is not None:
            validation_steps = whole_number("validation_steps", validation_steps)
        shuffle = true_or_false("shuffle", shuffle)
        accumulated = whole_number("gradient_accumulation_steps", gradient_accumulation_steps)
        is_split = validation_split is not None and validation_split != 0
        if is_split and validation_data is not None:
            raise ValueError("validation_split and validation_data both say what to evaluate on: give one of them")
        if not is_split and validation_data is None:
            for name, value in (
                ("validation_steps", validation_steps),
                ("validation_batch_size", validation_batch_size),
            ):
                if value is not None:
                    raise ValueError(
                        f"{name}={value} has nothing to evaluate: give validation_data or validation_split"
                    )
        self._need_trainable()
        bar = ProgressBar(verbose)
        reader = self._reader(long_texts)
        validation_reader = self._reader(long_texts, what="validation_data")
        examples = reader.examples(x, y, sample_weight, stream=steps_per_epoch is not None)
        validation: Examples | None = None
        if validation_data is not None:
            given = validation_data if isinstance(validation_data, tuple) else (validation_data,)
            if not 1 <= len(given) <= 3:
                raise ValueError(
                    f"validation_data should be x, (x, y) or (x, y, sample_weight); got a tuple of {len(given)}"
                )
            size = validation_batch_size or batch_size
            most = None if validation_steps is None else validation_steps * size
            its_x, its_y, its_weights = (*given, None, None)[:3]
            validation = validation_reader.examples(its_x, its_y, its_weights, most=most)
        elif is_split:
            if not isinstance(examples, HeldExamples):
                raise ValueError("validation_split needs examples that can be counted, not a stream of them")
            examples, validation = examples.split(_fraction(validation_split, examples.num_texts))
        reader.long_texts.say()
        validation_reader.long_texts.say()

        there = _ceil(examples.num_batches(batch_size), accumulated)
        if steps_per_epoch and there and steps_per_epoch > there:
            raise ValueError(
                f"steps_per_epoch is {steps_per_epoch}, but the examples make {there} steps: "
                "give more epochs instead, or itertools.cycle(x)"
            )
        history = History()
        told = CallbackList(
            [*([callbacks] if isinstance(callbacks, Callback) else callbacks or ()), history, bar],
            model=self,
            params={"epochs": epochs, "steps": steps_per_epoch or there, "verbose": verbose},
        )
        logs: dict[str, float] = {}
        passes: Iterator[list[Batch]] | None = None
        if steps_per_epoch and there:
            begin = steps_per_epoch * initial_epoch
            passes = onwards(examples, batch_size, accumulated, self._seed_of, shuffle, begin)
        with self.backbone.writing("fit()", makes_room=True):
            self.stop_training = False
            try:
                told.on_train_begin()
                for epoch in range(initial_epoch, epochs):
                    told.on_epoch_begin(epoch)
                    groups = passes or grouped(examples.batches(batch_size, self._seed_of(epoch), shuffle), accumulated)
                    logs = self._train(groups, steps_per_epoch, epoch, told)
                    if validation is not None:
                        values = self._evaluate(validation, validation_batch_size or batch_size, validation_steps, told)
                        logs = logs | {f"val_{name}": value for name, value in values.items()}
                    told.on_epoch_end(epoch, logs)
                    if self.stop_training:
                        break
                told.on_train_end(logs)
            finally:
                bar.on_train_end()  # an error or Ctrl-C leaves no bar behind
                reader.long_texts.say()  # what was read as it came
                validation_reader.long_texts.say()
        return history

    @hinting()
    def evaluate(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        batch_size: int | None = None,
        steps: int | None = None,
        callbacks: Sequence[Callback] | Callback | None = None,
        long_texts: str | None = None,
        verbose: int | str = "auto",
        return_dict: bool = False,
    ) -> Any:
        """Loss and metrics without dropout; the same every time, since texts are masked from a fixed seed.

        Args: as for `fit`; `steps` stops after so many batches.

        Returns:
            The loss and the metrics in a list, the loss alone where there are no others, or a dict of them by name.

        Warns:
            UserWarning: as `fit`.
        """
        batch_size = whole_number("batch_size", 32 if batch_size is None else batch_size)
        if steps is not None:
            steps = whole_number("steps", steps)
        bar = ProgressBar(verbose)
        reader = self._reader(long_texts)
        examples = reader.examples(x, y, sample_weight, stream=steps is not None)
        reader.long_texts.say()
        told = CallbackList(
            [*([callbacks] if isinstance(callbacks, Callback) else callbacks or ()), bar],
            model=self,
            params={"steps": steps or examples.num_batches(batch_size)},
        )
        try:
            values = self._evaluate(examples, batch_size, steps, told)
        finally:
            bar.on_train_end()
        reader.long_texts.say()  # what was read as it came
        return values if return_dict else _as_keras(values)

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        long_texts: str | None = None,
        return_dict: bool = False,
    ) -> Any:
        """One update on the whole of x, as one batch. Arguments and returns as for `evaluate`; metrics start anew.

        Windows of texts that are split are taken in parts, no more at a time than there are texts, and make one update.
        """
        self._need_trainable()
        examples = self._held(x, y, sample_weight, long_texts)
        seed = self.seed, self.optimizer.iterations
        batches = numbered(list(examples.batches(examples.num_texts, seed, shuffle=False)))
        with self.backbone.writing("train_on_batch()"):
            values = self._update(batches, self._running())
        return values if return_dict else _as_keras(values)

    def test_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        long_texts: str | None = None,
        return_dict: bool = False,
    ) -> Any:
        """`evaluate` on x as one batch."""
        examples = self._held(x, y, sample_weight, long_texts)
        values = self._evaluate(examples, examples.num_texts)
        return values if return_dict else _as_keras(values)

    # --- asking -------------------------------------------------------------------------------------------------
    @hinting()
    def predict(
        self,
        x: Any,
        *,
        batch_size: int | None = None,
        steps: int | None = None,
        callbacks: Sequence[Callback] | Callback | None = None,
        long_texts: str | None = None,
        verbose: int | str = "auto",
    ) -> Array:
        """Logits.

        Args:
            x: what `fit` takes: texts (for a masked LM such that hold `<mask>`), segments, encoded sequences, a dict of
                features as for `__call__`, or an iterable of batches of them, whose labels and weights are not looked
                at. Unlike there, a `str` is one text. A tuple of strings is one text's segments.
            batch_size: sequences at a time, 32 unless given; does not apply to an iterable of batches.
            steps: stop after so many batches, and read no further.
            callbacks: told of every batch; `logs["outputs"]` are its logits.
            long_texts: `"cut"` or `"refuse"`, for texts that are too long. None is `"cut"` for a classifier, at the
                preprocessor's `sequence_length` as in training, and `"refuse"` for a masked LM, where a text may have
                as many tokens as the model takes. A cut that would drop a masked LM's `<mask>` is refused.
            verbose: as for `fit`.

        Returns:
            Of a classifier (B, num_classes). Of a masked LM (B, K, V): for texts K is the largest number of masks in
            one; a text with fewer has zeros at the end.

        Raises:
            ValueError: where x is empty, a text is refused for its length, or no text of a masked LM holds `<mask>`.

        Warns:
            UserWarning: once, with their numbers, where texts were cut.
        """
        batch_size = whole_number("batch_size", 32 if batch_size is None else batch_size)
        if steps is not None:
            steps = whole_number("steps", steps)
        bar = ProgressBar(verbose)
        reader = self._reader(long_texts, is_asking=True)
        queries, there = reader.queries(x, batch_size, steps)
        reader.long_texts.say()
        told = CallbackList(
            [*([callbacks] if isinstance(callbacks, Callback) else callbacks or ()), bar],
            model=self,
            params={"steps": there},
        )
        outputs: list[Array] = []
        is_text = True
        self.stop_predicting = False
        try:
            told.on_predict_begin()
            for step, query in enumerate(queries):
                told.on_predict_batch_begin(step)
                is_text &= not isinstance(query, Mapping)
                outputs.append(self._answer(query))
                told.on_predict_batch_end(step, {"outputs": outputs[-1]})
                if self.stop_predicting:
                    break
            told.on_predict_end()
        finally:
            bar.on_train_end()
        reader.long_texts.say()  # what was read as it came
        if not outputs:
            raise ValueError("x is empty: there is nothing to predict")
        return self._joined(outputs, is_text)

    def predict_on_batch(self, x: Any, *, long_texts: str | None = None) -> Array:
        """`predict` on x as one batch."""
        return self.predict(x, batch_size=2**31, long_texts=long_texts, verbose=0)

    # --- the model itself ---------------------------------------------------------------------------------------

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
        """Writes a directory that `from_preset` loads, and transformers or KerasHub too.

        All of it or nothing: a save that is interrupted or finds no room leaves what was there before. LoRA's changes
        are written as part of their kernels; the model itself keeps them apart.

        Args:
            directory: made, or replaced where it holds a RoBERTa's preset, whose files of other names than are written
                stay.
            format: `"hf"`, a Hugging Face directory, or `"keras"`, a KerasHub preset, which takes the package h5py.
            dtype: the weights are stored in it: `"float32"`, `"float16"`, `"bfloat16"` or `"float64"`.
            max_shard_size: weights that are larger go into several files. A text such as `"500MB"`; a number is
                gigabytes, as in KerasHub, and None is no limit.
            include_optimizer: with the optimizer's moments, which take twice the weights' room, its settings and the
                seed, for `from_preset(..., load_optimizer=True)`. Training goes on bit for bit where `dtype` is the
                model's own.

        Raises:
            FileExistsError: where the directory holds something else than such a preset, or is a file.
            ValueError: where the format can't hold the model, a parameter isn't finite in `dtype`, or there is no
                optimizer's state before the first update.
            ImportError: without h5py, for `"keras"`.
            OSError: where there is no room, telling the bytes needed and free. What was there before is unchanged, and
                the model can be saved elsewhere.

        Warns:
            UserWarning: for what KerasHub will do otherwise, and where weights in other formats stay in the directory.
        """
        from pyroberta.presets.optimizer_state import OptimizerState
        from pyroberta.presets.writing import Contents, writer

        write = writer(format)
        tokenizer = self.preprocessor.tokenizer if self.preprocessor else None
        settings = self.preprocessor.get_config() if self.preprocessor else None
        state = None
        if true_or_false("include_optimizer", include_optimizer):
            if self.backbone.config.lora_rank:
                raise ValueError(
                    "the optimizer's state is of LoRA's factors, for which a preset has no place: merge_lora() first, "
                    "or save without include_optimizer"
                )
            optimizer = self.optimizer
            state = OptimizerState(optimizer.get_saved_config(), seed=self.seed, **optimizer.state_dict())
        model = merged(self.backbone.config, self.backbone.params)
        contents = Contents(*model, tokenizer, settings, state, labels=self.labels)
        write(os.fspath(directory), contents, dtype=dtype, max_shard_size=max_shard_size)

    def resize_token_embeddings(self, vocabulary_size: int) -> None:
        """`Backbone.resize_token_embeddings`, but that no row goes for which the tokenizer has a token.

        Raises:
            ValueError: where the tokenizer has more tokens, or the size is none.
        """
        if self.preprocessor is not None and vocabulary_size < self.preprocessor.tokenizer.vocabulary_size:
            raise ValueError(
                f"the tokenizer has {self.preprocessor.tokenizer.vocabulary_size} entries, which need a row each; "
                f"got vocabulary_size={vocabulary_size}"
            )
        self.backbone.resize_token_embeddings(vocabulary_size)

    def add_tokens(self, tokens: str | Iterable[str], *, special: bool = False) -> int:
        """Adds tokens to the tokenizer, and rows for them to the model's table where it has none to spare.

        Args:
            tokens, special: see `Tokenizer.add_tokens`.

        Returns:
            How many were not recognised before.

        Raises:
            TypeError, ValueError: as there; and for a model without a tokenizer.

        >>> from pyroberta import MaskedLM
        >>> masked_lm = MaskedLM.from_preset("roberta_tiny_en")
        >>> masked_lm.add_tokens([" Tyrannosaurus", " Triceratops"])
        2
        >>> masked_lm.fill_mask("The <mask> is big.", targets=["Tyrannosaurus"])[0].token
        8000
        """
        tokenizer = self._tokenizer()
        with self.backbone.writing("add_tokens()", makes_room=True), uninterrupted():
            added = tokenizer.add_tokens(tokens, special=special)
            if tokenizer.vocabulary_size > self.backbone.config.vocabulary_size:
                self.backbone.resize_token_embeddings(tokenizer.vocabulary_size)
        return added

    def upload(
        self,
        handle: str,
        *,
        private: bool = False,
        licence: str | None = None,
        message: str = "A model saved by pyroberta",
    ) -> str:
        """Saves the model and puts it on a hub, with a card; gives the address of its page.

        Args:
            handle: `hf://ORGANISATION/NAME[@BRANCH]` or `kaggle://OWNER/MODEL/FRAMEWORK/VARIATION`.
            private, licence, message: see `presets.upload.upload`.

        Raises:
            ValueError: for another handle.
            ImportError, PermissionError, ConnectionError, OSError: where it can't be uploaded, saying what to do.
        """
        from tempfile import TemporaryDirectory

        from pyroberta.presets.upload import upload

        with TemporaryDirectory() as parent:
            directory = os.path.join(parent, "preset")
            self.save_to_preset(directory)
            return upload(
                directory, handle, private=private, licence=licence, trained_from=self._trained_from, message=message
            )

    def count_params(self) -> int:
        """The number of values in encoder and head; the tied table counts once."""
        return int(self.backbone.params.flat.size)

    def summary(self, print_fn: Any = print) -> None:
        """Prints a table of the model's parts with their parameters."""
        print_fn(_summary(self))

    @property
    def params(self) -> Mapping[str, Array]:
        """Every parameter by name, as read-only views. To write into them, see `Backbone.changing`."""
        return self.backbone.params

    def get_weights(self) -> list[Array]:
        """Copies of all parameters, in the order of the vector."""
        return [array.copy() for array in self.backbone.params.values()]

    def set_weights(self, weights: Sequence[Array]) -> None:
        """Takes over parameters as `get_weights` gave them.

        Raises:
            ValueError: where their number or a shape differs; nothing has changed then.
        """
        shapes = self.backbone.params.table.values()
        if [np.shape(weight) for weight in weights] != list(shapes):
            raise ValueError(f"expected the {len(shapes)} arrays that get_weights gives, in their order and shapes")
        with self.backbone.changing() as params:
            for array, weight in zip(params.values(), weights, strict=True):
                array[...] = weight

    def _train(
        self, groups: Iterator[list[Batch]], steps_per_epoch: int | None, epoch: int, told: CallbackList
    ) -> dict[str, float]:
        """The steps of one epoch; returns its metrics."""
        running = self._running()
        logs: dict[str, float] = {}
        steps = masked = 0
        for group in islice(groups, steps_per_epoch):
            told.on_train_batch_begin(steps)
            logs = self._update(group, running)
            told.on_train_batch_end(steps, {**logs, "tokens": sum(batch.num_tokens for batch in group)})
            steps += 1
            masked += sum(int(np.count_nonzero(batch.weights)) for batch in group)
            if self.stop_training:
                return logs
        if steps < (steps_per_epoch or 1):
            raise ValueError(
                f"the examples ran out after {steps} steps of epoch {epoch + 1}"
                + (f", before steps_per_epoch={steps_per_epoch}" if steps_per_epoch else "")
                + ". An iterator gives its items once: pass a list, or fewer steps and epochs"
            )
        if not masked:
            raise ValueError(self.nothing)
        return logs

    def _running(self) -> measures.Running:
        """Metrics of one call: others, in other threads or in callbacks, have theirs."""
        return measures.Running(self._metrics, self._unweighted)

    def _update(self, group: Sequence[Batch], running: measures.Running) -> dict[str, float]:
        """One update from the batches of `group` taken as one; returns the metrics so far."""
        backbone, optimizer = self.backbone, self.optimizer
        self._need_trainable()  # a callback may have frozen all there is
        other = _TRAINED.setdefault(optimizer, weakref.ref(self))()
        if other is None:
            _TRAINED[optimizer] = weakref.ref(self)
        elif other is not self:
            raise ValueError(
                "this optimizer trains another model too, whose moments and count of updates it holds: compile(...) "
                "each model with an optimizer of its own, or compile again before this one is trained"
            )
        if self._sums is None or self._sums.table != backbone.params.table:
            self._sums = backbone.params.zeros_like()
        names = self._trainable_names()
        grads = Gradients(self._sums, names)
        model = backbone.ops, backbone.prepared(changing=names), backbone.config
        step = self.seed, optimizer.iterations
        for result in compute_gradients(*model, group, grads, self.loss, *step, self._recompute):
            _measure(running, result)
        with backbone.updating(names, ["fit()", "train_on_batch()"]) as params:
            optimizer.apply(params, grads.sums, names, backbone.ops)
        return running.values()

    def _evaluate(
        self, examples: Examples, batch_size: int, steps: int | None = None, told: CallbackList | None = None
    ) -> dict[str, float]:
        _check_loss(self.loss)  # its attributes may have been set since
        told = told or CallbackList([], model=self, params={})
        backbone = self.backbone
        params = backbone.prepared(changing=self._trainable_names())
        running = self._running()
        self.stop_evaluating = False
        told.on_test_begin()
        batches = islice(examples.fixed(batch_size), steps)
        step = -1
        masked = 0
        values: dict[str, float] = {}
        for step, batch in enumerate(batches):
            told.on_test_batch_begin(step)
            result = evaluate_batch(backbone.ops, params, backbone.config, batch, self.loss)
            masked += int(np.count_nonzero(result.weights))
            _measure(running, result)
            values = running.values()
            told.on_test_batch_end(step, values)
            if self.stop_evaluating:
                break
        if step < 0:
            raise ValueError("there is nothing to evaluate. An iterator gives its items once: pass a list instead")
        if not masked:
            raise ValueError(self.nothing)
        told.on_test_end(values)
        return values

    def _trainable_names(self) -> list[str]:
        return self.backbone.trainable_names() if self._trainable else []

    def _need_trainable(self) -> None:
        if not self._trainable_names():
            raise ValueError(
                "every parameter is frozen: there is nothing to train. See trainable, backbone.trainable and unfreeze"
            )
        _check_loss(self.loss)  # its attributes may have been set since
        if self.optimizer.m is not None and self.optimizer.m.table != self.backbone.params.table:
            raise ValueError(
                "the model has other parameters than when the optimizer last worked on it (LoRA was enabled or merged, "
                "or the token table resized): call compile(), which starts the optimizer anew"
            )

    def _held(self, x: Any, y: Any, sample_weight: Any, long_texts: str | None) -> HeldExamples:
        reader = self._reader(long_texts)
        examples = reader.examples(x, y, sample_weight)
        if not isinstance(examples, HeldExamples):
            raise ValueError("x should be one batch, not an iterable of batches")
        reader.long_texts.say()
        return examples

    def _reader(self, long_texts: str | None = None, *, is_asking: bool = False, what: str = "") -> InputReader:
        if self.preprocessor is not None:
            _check_vocabulary(self.preprocessor.tokenizer, self.backbone)
        return self.reader_kind(self.backbone.config, self.preprocessor, long_texts, is_asking=is_asking, what=what)

    def _seed_of(self, number: int, left_out: int = 0) -> Seed:
        """The seed of a pass over the examples, of which the first `left_out` updates were done before.

        The updates done before it tell one call of `fit` from the next, which would start at epoch 0 again.
        """
        return self.seed, number, max(0, self.optimizer.iterations - left_out)

    def _tokenizer(self) -> Tokenizer:
        if self.preprocessor is None:
            raise ValueError("this needs a tokenizer: the model was made with preprocessor=None")
        _check_vocabulary(self.preprocessor.tokenizer, self.backbone)
        return self.preprocessor.tokenizer


def _measure(running: measures.Running, result: Result) -> None:
    running.update(result.losses, result.predicted, result.labels, result.weights, result.denominator)


def _check_loss(loss: losses.SparseCategoricalCrossentropy) -> None:
    """That a model can be trained on it."""
    if not loss.from_logits:
        raise ValueError("the model gives logits: use SparseCategoricalCrossentropy(from_logits=True)")
    if loss.ignore_class is not None:
        raise ValueError("ignore_class is for losses on arrays; in training, a weight of 0 leaves a label out")
    loss.denominator(np.ones(1), 1)  # raises where there is no reduction


def _check_fit(preprocessor: Preprocessor, backbone: Backbone) -> None:
    """The preprocessor makes what the model takes."""
    config = backbone.config
    if preprocessor.sequence_length > config.max_sequence_length:
        raise ValueError(
            f"the preprocessor makes sequences of up to {preprocessor.sequence_length} tokens, the model takes "
            f"{config.max_sequence_length}: give "
            f"{type(preprocessor).__name__}(sequence_length={config.max_sequence_length})"
        )
    _check_vocabulary(preprocessor.tokenizer, backbone)


def _check_vocabulary(tokenizer: Tokenizer, backbone: Backbone) -> None:
    """The table has a row for every token; looked at again and again, since `Tokenizer.add_tokens` adds some."""
    if tokenizer.vocabulary_size > backbone.config.vocabulary_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocabulary_size} entries, the model's table "
            f"{backbone.config.vocabulary_size} rows. Was it made for another model? If tokens were added, "
            f"resize_token_embeddings({tokenizer.vocabulary_size}) makes room for them"
        )


def _fraction(value: float, count: int) -> float:
    """A `validation_split` that leaves something on both sides."""
    if not isinstance(value, int | float | np.number):
        raise ValueError(f"validation_split should be a number from 0 to 1, the share of the texts; got {value!r}")
    if not 0.0 < value < 1.0 or not 0 < int(count * (1.0 - value)) < count:
        raise ValueError(f"validation_split must leave texts on both sides: {value!r} of {count} texts does not")
    return value


def _as_keras(values: dict[str, float]) -> float | list[float]:
    """Keras's return value: a number where there is the loss alone, else a list."""
    return list(values.values()) if len(values) > 1 else next(iter(values.values()))


def _ceil(count: int | None, size: int) -> int | None:
    """How many groups of `size` make up `count`."""
    return None if count is None else -(-count // size)


def _backend(backbone: Backbone) -> str:
    return backbone.ops.name.split()[0]


def _summary(model: Task) -> str:
    """The model's parts, a line each."""
    config, params = model.backbone.config, model.backbone.params
    trainable = set(model._trainable_names())
    parts: dict[str, list[str]] = {}
    for name in params:
        room, number, *_ = name.split(".")
        parts.setdefault(f"{room}.{number}" if room == "layers" else room, []).append(name)
    rows = [
        (part, sum(params[name].size for name in names), sum(params[name].size for name in names if name in trainable))
        for part, names in parts.items()
    ]
    rows.append(("total", params.flat.size, sum(params[name].size for name in trainable)))
    lines = [
        f"{type(model).__name__}: {config.num_layers} layers, hidden {config.hidden_dim}, {config.num_heads} heads, "
        f"feed-forward {config.intermediate_dim}, vocabulary {config.vocabulary_size}, "
        f"up to {config.max_sequence_length} tokens; {model.backbone.precision}, "
        f"backend {_backend(model.backbone)}",
        f"{'part':<14}{'parameters':>14}{'trainable':>14}",
        *(f"{part:<14}{count:>14,}{moving:>14,}" for part, count, moving in rows),
    ]
    return "\n".join(lines)
