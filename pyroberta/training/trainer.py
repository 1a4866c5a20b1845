"""Training, evaluation and prediction as Keras means them: epochs of steps, callbacks, logs."""

from __future__ import annotations

import copy
import warnings
import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy import ndarray as Array

from pyroberta.data.classifier_inputs import class_factors
from pyroberta.data.examples import Examples, HeldExamples, num_batches, numbered
from pyroberta.data.inputs import InputReader
from pyroberta.model.attributes import Checked, Checks, expect_instance, random_seed, true_or_false, whole_number
from pyroberta.model.batch import Batch
from pyroberta.model.callers import callers_level
from pyroberta.model.config import RobertaConfig
from pyroberta.model.hints import hinting
from pyroberta.model.parameters import Arrays, PreparedArrays
from pyroberta.ops import Key, Ops
from pyroberta.training import losses, optimizers, schedules
from pyroberta.training import metrics as measures
from pyroberta.training.callbacks import CallbackList, History, ProgressBar, with_defaults
from pyroberta.training.run import Feed, Run, ceil_divide, measure
from pyroberta.training.state import TrainState
from pyroberta.training.step import Result, Trained, evaluate_step, train_step

if TYPE_CHECKING:
    from pyroberta.presets.optimizer_state import OptimizerState

OF_THE_OPTIMIZER = "it is the optimizer's, as in compile(optimizer=pyroberta.optimizers.Adam(learning_rate=1e-4))"


class Parameters(Protocol):
    """The part of a backbone that the trainer uses."""

    config: RobertaConfig
    ops: Ops
    params: Arrays

    def trainable_names(self) -> list[str]:
        """The parameters that training may change."""

    def prepared(self, changing: Sequence[str] = ()) -> PreparedArrays:
        """The parameters with kernels prepared, except those that are about to change."""

    def writing(self, name: str, makes_room: bool = False) -> AbstractContextManager[None]:
        """The right to change the parameters."""

    def updating(self, names: Sequence[str], writers: Sequence[str]) -> AbstractContextManager[Arrays]:
        """The parameters themselves, to be changed in place."""


class Trainer(Checked):
    """The methods of a task that train, evaluate and predict, on all data and on one batch.

    A task defines the inputs that it reads, its default loss and its logits.
    """

    backbone: Parameters
    seed: int
    default_metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    reader_kind: ClassVar[type[InputReader]]
    takes_metrics: ClassVar[bool] = True  # without weights, as Keras's `metrics` are
    zero_weights_message: ClassVar[str]  # the error's text where every weight is 0
    checks: ClassVar[Checks] = {
        "seed": random_seed,
        **dict.fromkeys(("stop_training", "stop_evaluating", "stop_predicting"), true_or_false),
    }

    _is_compiled = True
    _gives_probabilities = False  # instead of logits
    _run: Run | None = None  # the `fit` that is under way
    _is_resuming = False  # whether the next `fit` goes on from a state that was loaded
    _sums: Arrays | None = None  # the gradients' vector, made at the first update
    history: History | None = None  # of the last `fit`

    def __init__(self) -> None:
        self.stop_training = self.stop_evaluating = self.stop_predicting = False
        self.compile()

    def _checked(self, name: str, value: Any) -> Any:
        value = super()._checked(name, value)
        if name == "optimizer":
            value = "adam" if isinstance(value, str) and value == "auto" else value
            value = optimizers.get(value)
            if not isinstance(value, optimizers.Optimizer):
                expect_instance(name, value, optimizers.Adam)  # raises
        elif name == "loss":
            value = self._default_loss() if isinstance(value, str) and value == "auto" else losses.get(value)
            self._check_loss(expect_instance(name, value, losses.SparseCategoricalCrossentropy))
        return value

    @abstractmethod
    def _default_loss(self) -> losses.SparseCategoricalCrossentropy:
        """The loss that `"auto"` stands for."""

    @abstractmethod
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
        """The reader of the inputs of `fit` and `evaluate` or, with `is_prediction`, of `predict`.

        label_names: the names of the classes, instead of the model's.
        may_name: whether labels may name classes that have default names alone.
        full_sentences: whether sequences are filled with whole sentences.
        """

    def _take_names(self, reader: InputReader) -> None:
        """Takes over the names that labels gave to the classes."""

    @abstractmethod
    def _trainable_names(self) -> list[str]:
        """The parameters that training may change."""

    @abstractmethod
    def _predict_batch(self, inputs: Mapping[str, Any] | Sequence[Array]) -> Array:
        """Logits for one of the reader's `prediction_batches`."""

    @abstractmethod
    def _joined(self, outputs: Sequence[Array], is_text: bool) -> Array:
        """The result of `predict` from the logits of each batch. `is_text`: whether all inputs were texts."""

    @hinting(**dict.fromkeys(("lr", "learning_rate", "weight_decay"), OF_THE_OPTIMIZER))
    def compile(
        self,
        optimizer: Any = "auto",
        loss: Any = "auto",
        *,
        loss_weights: None = None,
        metrics: Any = None,
        weighted_metrics: Any = "auto",
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
        recompute: bool = False,
    ) -> None:
        """Sets optimizer, loss and metrics. The optimizer starts anew.

        Optimizer, loss and metrics may also be Keras's own objects, or their configs: they are converted, or refused
        with the line to write.

        Args:
            optimizer: a name or an optimizer. `"auto"` is `Adam(5e-5)`, Keras's form, as in KerasHub.
            loss: a name or a loss. `"auto"` is the mean over the masked tokens, or over a classifier's texts (weights
                or not, as in Keras); see `losses.SparseCategoricalCrossentropy`.
            loss_weights: None alone, Keras's default: there is one loss.
            metrics: names, `metrics` objects or functions of a classifier, which leave weights out, as Keras's do. A
                masked LM refuses them, since they would count mask slots that are not used.
            weighted_metrics: the same, with weights. `"auto"` is accuracy and, for a masked LM, perplexity, or none if
                `metrics` are given.
            run_eagerly, steps_per_execution, auto_scale_loss: Keras's defaults alone.
            jit_compile: accepted so that KerasHub's examples run; there is nothing to compile.
            recompute: keep only each layer's input for backward, and run the layer again there: gradient checkpointing.
                It takes much less memory and a quarter to a third more time, and gives the same result.

        Raises:
            ValueError: for a loss on probabilities, since the model gives logits, or without a reduction; for a masked
                LM's `metrics`; for another value of an argument that has no effect here, with the reason.
            TypeError: for an optimizer, a loss or a metric that is neither pyroberta's nor one that can be converted.
        """
        _refuse_without_effect(
            loss_weights=loss_weights,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            auto_scale_loss=auto_scale_loss,
        )
        if isinstance(metrics, str) and metrics == "auto":
            metrics = None
        metrics = _listed_metrics(metrics)
        if metrics and not self.takes_metrics:
            raise ValueError(
                f"metrics={metrics!r} would count every mask slot, used or not, since Keras's metrics take no weights. "
                "Pass weighted_metrics= instead, which count masked tokens by their weights"
            )
        if isinstance(weighted_metrics, str) and weighted_metrics == "auto":
            weighted_metrics = () if metrics else self.default_metrics
        weighted_metrics = _listed_metrics(weighted_metrics)
        if self._is_resuming:
            raise ValueError(
                "compile() starts the optimizer anew, and the state that load_train_state() loaded would be lost: "
                "compile first, then load the state"
            )
        new_optimizer, new_loss = self._checked("optimizer", optimizer), self._checked("loss", loss)
        recompute = true_or_false("recompute", recompute)
        new_metrics, unweighted = (
            [expect_instance("metric", measures.get(metric), measures.Metric) for metric in some or ()]
            for some in (weighted_metrics, metrics)
        )
        _check_names([*new_metrics, *unweighted])
        new_optimizer.trained_by = None
        if new_optimizer.is_built:  # it has worked before, here or for another model
            new_optimizer.build(self.backbone.params)
        self.optimizer, self.loss, self._recompute = new_optimizer, new_loss, recompute
        if self._run is None:  # within a `fit`, its place in the epoch and in the data stays
            self._state = TrainState(self.backbone.params, new_optimizer.slots)
            self._is_resuming = False
        self._metrics: list[measures.Metric] = [measures.Loss(), *new_metrics, *unweighted]
        self._unweighted = unweighted
        self._is_compiled = True

    @hinting(**dict.fromkeys(("lr", "learning_rate", "weight_decay", "optimizer"), OF_THE_OPTIMIZER))
    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[Any, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
        *,
        gradient_accumulation_steps: int = 1,
        long_texts: str | None = None,
        column: str | tuple[str, ...] | None = None,
        label: str | None = None,
        full_sentences: bool = False,
    ) -> History:
        """Trains the model. The arguments stand in Keras's order.

        Args:
            x: texts (a list, an array, a table's column, any iterable of strings, pairs as tuples of two strings); with
                `column` a table or records; a path (a string too), a directory, a pattern or an open file, see
                `data.open_source`; encoded sequences (arrays of token ids); a dict of `token_ids` (B, S),
                `padding_mask` (B, S) and, for a masked LM, `mask_positions` (B, K); or an iterable of batches of the
                above, `(x, y, sample_weight)` or shorter.
            y: for a classifier (B,) the class of each text: its name, or its number from 0. Where the classes have only
                default names, names in y become theirs, sorted, and are kept in `labels`. For a masked LM (B, K)
                original ids beside a dict of features; texts make their own labels.
            batch_size: sequences in a step, 32 by default. A batch of an iterable of batches has its own size.
            epochs: number of the last epoch.
            verbose: 0 silent, 1 a bar, 2 a line an epoch; `"auto"` is 1.
            callbacks: one, or a list of them; their methods are called at every step and epoch. Keras's own callbacks
                work too. A `History` or a `ProgressBar` among them takes the place of the one that `fit` adds.
            validation_split: the last part of x is evaluated on, in [0, 1) of its texts; taken before shuffling. Keras
                lets `validation_data` win where there are both; here that is an error.
            validation_data: instead, x, (x, y) or (x, y, sample_weight), evaluated after every epoch.
            shuffle: draw the examples in a new order every epoch; an iterable of batches keeps its own.
            class_weight: of a classifier: class -> the factor of its texts' losses in training; 1 for a class that it
                lacks. A class is its number, or its name in `labels`. Not beside `sample_weight`, as in Keras.
            sample_weight: (B,), (B, 1) or one number for all; or (B, K) beside a masked LM's features.
            initial_epoch: number of the first epoch, when going on with an earlier run.
            steps_per_epoch: updates in an epoch. The next epoch goes on where this one ended. Held examples that are
                used up begin again in a new order, if need be within an epoch (Keras ends the epoch early, as happens
                here where there are fewer in all). An iterable without a length is read as it goes, instead of being
                collected and shuffled.
            validation_steps, validation_batch_size: for the evaluation; by default all examples, and `batch_size`. No
                more than `validation_steps` batches are read of an iterable of texts without a length.
            validation_freq: evaluate after every so many epochs, or after the epochs in a list, counted from 1.
            gradient_accumulation_steps: batches whose gradients make one update: that of one large batch, to rounding.
            long_texts: the treatment of texts with more tokens than the preprocessor's `sequence_length`, those of
                `validation_data` too. `"split"` cuts a text into windows of so many tokens, special ones counted, which
                do not overlap; each has the text's weight, and counts as a sequence in a step. `"cut"` drops the rest.
                `"refuse"` raises an error. None is `"split"` for a masked LM's texts and `"cut"` for pairs and for a
                classifier, which can't be split. Features and encoded sequences are never changed: too long ones are
                refused.
            column: the name of the column that holds the texts, in a table, in records or in a file's rows; a tuple of
                names for pairs. For `validation_data` too, where it has columns.
            label: the name of the column that holds the labels, in the place of y.
            full_sentences: of a masked LM: each sequence is filled with whole sentences of one text after another,
                those of `validation_data` too (RoBERTa's FULL-SENTENCES, Liu et al. 2019). A text is a document;
                where one ends within a sequence, an extra `</s>` follows. A sentence ends after `.`, `!`, `?` or `…`
                before white space and anything but a small letter, and at a blank line.

        Returns:
            A `History`: `.history` name -> value per epoch, `.plot()`. The model keeps it as `history`.

        Warns:
            UserWarning: once, with their numbers, where texts were split or cut; at the end, where they were read as
                they came. Where the examples make fewer steps than `steps_per_epoch`, whose epoch ends early then.

        Raises:
            ValueError, TypeError: for input that does not fit; the message says what fits.
            NonFiniteError: at the first loss that is NaN or infinite, naming the step and the op; the parameters are
                those before that step.
        """
        batch_size = _size_of_batch(batch_size)
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
                ("validation_freq", None if validation_freq == 1 else validation_freq),
            ):
                if value is not None:
                    raise ValueError(
                        f"{name}={value} has nothing to evaluate: give validation_data or validation_split"
                    )
        is_due = _frequency(validation_freq)
        self._need_trainable()
        bar = ProgressBar(verbose)
        reader = self._reader(long_texts, may_name=True, full_sentences=full_sentences)
        columns: dict[str, Any] = {"column": column, "label": label}
        examples = reader.examples(x, y, sample_weight, stream=steps_per_epoch is not None, **columns)
        validation_reader = self._reader(
            long_texts, argument="validation_data", label_names=reader.new_names, full_sentences=full_sentences
        )
        validation: Examples | None = None
        if validation_data is not None:
            size = validation_batch_size or batch_size
            most = None if validation_steps is None else validation_steps * size
            validation = validation_reader.examples(*_parts_of(validation_data), most=most, **columns)
        elif is_split:
            if not isinstance(examples, HeldExamples):
                raise ValueError("validation_split needs examples that can be counted, not a stream of them")
            examples, validation = examples.split(_fraction(validation_split, examples.num_texts))
        self._take_names(reader)
        class_weights = self._class_weights(class_weight, sample_weight)
        if class_weights is not None:
            examples = examples.class_weighted(class_weights)
        reader.say(bar.verbose)
        validation_reader.say(bar.verbose)

        steps_of_pass = ceil_divide(num_batches(examples, batch_size), accumulated)
        if steps_per_epoch and steps_of_pass and steps_per_epoch > steps_of_pass:
            warnings.warn(
                f"steps_per_epoch is {steps_per_epoch}, but the examples make {steps_of_pass} steps: each epoch ends "
                "after these. For longer epochs pass itertools.cycle(x)",
                stacklevel=callers_level(),
            )
            steps_per_epoch = None  # an epoch is a pass then
        feed = Feed(examples, batch_size, accumulated, shuffle, steps_per_epoch)
        callback_list = CallbackList(
            with_defaults(callbacks, History(), bar),
            model=self,
            params={
                "epochs": epochs,
                "steps": steps_per_epoch or steps_of_pass,
                "verbose": verbose,
                "do_validation": validation is not None,
            },
        )
        history = next(one for one in callback_list.callbacks if isinstance(one, History))
        evaluate = None
        if validation is not None:
            evaluate = partial(
                self._evaluate, validation, validation_batch_size or batch_size, validation_steps, callback_list
            )
        run = Run(
            feed,
            callback_list,
            self._update,
            self._running,
            evaluate,
            self.zero_weights_message,
            is_due,
            self._activated,
        )
        self.history = history
        with self.backbone.writing("fit()", makes_room=True):
            if self._is_resuming:
                run.check_resumption(self._state, initial_epoch, epochs)
            else:
                run.begin(self._current_state(), initial_epoch)
            self.stop_training, self._run = False, run
            try:
                callback_list.on_train_begin()
                if self._is_resuming:
                    run.check_resumption(self._state, initial_epoch, epochs)  # it may have been loaded just now
                    run.resume(self._current_state())
                    self._is_resuming = False
                logs = run.train(self._current_state(), epochs)
                self._finalize()
                callback_list.on_train_end(logs)
                run.is_over = True
            finally:
                self._run = None
                if not self._is_resuming:
                    state = self._state
                    state.callbacks, state.stop_training = run.end()
                    state.feed = state.feed if state.callbacks else {}
                bar.on_train_end()  # an error or Ctrl-C leaves no bar behind
                reader.long_texts.say()  # what was read as it came
                validation_reader.long_texts.say()
        return history

    @hinting()
    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        *,
        long_texts: str | None = None,
        column: str | tuple[str, ...] | None = None,
        label: str | None = None,
        full_sentences: bool = False,
    ) -> Any:
        """The loss and the metrics, without dropout. They are the same every time, since masking has a fixed seed.

        Args: as for `fit`, in Keras's order; `steps` stops after so many batches.

        Returns:
            The loss and the metrics in a list, in the order of `metrics_names`; the loss alone where there are no
            others; or a dict of them by name.

        Warns:
            UserWarning: as `fit`.
        """
        batch_size = _size_of_batch(batch_size)
        if steps is not None:
            steps = whole_number("steps", steps)
        bar = ProgressBar(verbose)
        reader = self._reader(long_texts, full_sentences=full_sentences)
        examples = reader.examples(x, y, sample_weight, stream=steps is not None, column=column, label=label)
        reader.say(bar.verbose)
        callback_list = CallbackList(
            with_defaults(callbacks, bar),
            model=self,
            params={"epochs": 1, "steps": steps or num_batches(examples, batch_size), "verbose": verbose},
        )
        try:
            values = self._evaluate(examples, batch_size, steps, callback_list)
        finally:
            bar.on_train_end()
        reader.long_texts.say()  # what was read as it came
        return values if return_dict else _as_keras(values)

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[Any, float] | None = None,
        return_dict: bool = False,
        *,
        long_texts: str | None = None,
        column: str | tuple[str, ...] | None = None,
        label: str | None = None,
    ) -> Any:
        """One update on the whole of x, as one batch. Arguments and returns as for `fit` and `evaluate`.

        The metrics start anew at each call.

        Windows of texts that are split are taken in parts, no more at a time than there are texts, and make one update.
        """
        self._need_trainable()
        examples = self._held(x, y, sample_weight, long_texts, column, label, may_name=True)
        class_weights = self._class_weights(class_weight, sample_weight)
        if class_weights is not None:
            examples = examples.class_weighted(class_weights)
        key = Key.of_single_update(self.seed, self.optimizer.iterations)
        parts = numbered([part.masked(key) for part in examples.parts(examples.num_texts)])
        running, position = self._running(), self._state.position

        def done(results: list[Result]) -> None:
            measure(running, results, self._activated)
            self._state.position = position  # these were no examples of a pass

        with self.backbone.writing("train_on_batch()"):
            self._update(parts, done)
        values = running.values()
        return values if return_dict else _as_keras(values)

    def test_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        return_dict: bool = False,
        *,
        long_texts: str | None = None,
        column: str | tuple[str, ...] | None = None,
        label: str | None = None,
    ) -> Any:
        """`evaluate` on x as one batch."""
        examples = self._held(x, y, sample_weight, long_texts, column, label)
        values = self._evaluate(examples, examples.num_texts)
        return values if return_dict else _as_keras(values)

    @hinting()
    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Any = None,
        *,
        long_texts: str | None = None,
        column: str | tuple[str, ...] | None = None,
    ) -> Array:
        """Logits. The arguments stand in Keras's order.

        Args:
            x: what `fit` takes: texts (for a masked LM such that hold `<mask>`), segments, encoded sequences, a dict of
                features as for `__call__`, or an iterable of batches of them, whose labels and weights are not looked
                at. Unlike there, a `str` is one text. A tuple of strings is one text's segments.
            batch_size: sequences at a time, 32 unless given; does not apply to an iterable of batches.
            verbose: as for `fit`.
            steps: stop after so many batches, and read no further.
            callbacks: their methods are called at every batch; `logs["outputs"]` are its logits.
            column: as for `fit`. Labels are not looked at.
            long_texts: `"cut"` or `"refuse"`, for texts that are too long. None is `"cut"` for a classifier, at the
                preprocessor's `sequence_length` as in training, and `"refuse"` for a masked LM, where a text may have
                as many tokens as the model takes. A cut that would drop a masked LM's `<mask>` is refused.

        Returns:
            (B, num_classes) for a classifier; (B, K, V) for a masked LM. For texts K is the largest number of masks in
            a text; a text with fewer has zeros at the end.

        Raises:
            ValueError: where x is empty, a text is refused for its length, or no text of a masked LM holds `<mask>`.

        Warns:
            UserWarning: once, with their numbers, where texts were cut.
        """
        batch_size = _size_of_batch(batch_size)
        if steps is not None:
            steps = whole_number("steps", steps)
        bar = ProgressBar(verbose)
        reader = self._reader(long_texts, is_prediction=True)
        batches, num_steps = reader.prediction_batches(x, batch_size, steps, column=column)
        reader.say(bar.verbose)
        callback_list = CallbackList(
            with_defaults(callbacks, bar),
            model=self,
            params={"epochs": 1, "steps": num_steps, "verbose": verbose},
        )
        outputs: list[Array] = []
        is_text = True
        self.stop_predicting = False
        try:
            callback_list.on_predict_begin()
            for step, inputs in enumerate(batches):
                callback_list.on_predict_batch_begin(step)
                is_text &= not isinstance(inputs, Mapping)
                outputs.append(self._predict_batch(inputs))
                callback_list.on_predict_batch_end(step, {"outputs": outputs[-1]})
                if self.stop_predicting:
                    break
            callback_list.on_predict_end()
        finally:
            bar.on_train_end()
        reader.long_texts.say()  # what was read as it came
        if not outputs:
            raise ValueError("x is empty: there is nothing to predict")
        return self._joined(outputs, is_text)

    def predict_on_batch(
        self, x: Any, *, long_texts: str | None = None, column: str | tuple[str, ...] | None = None
    ) -> Array:
        """`predict` on x as one batch."""
        return self.predict(x, batch_size=2**31, long_texts=long_texts, column=column, verbose=0)

    def train_state(self) -> TrainState:
        """The state from which training can go on; `training.checkpoint` writes it to a file.

        Within a callback of `fit` it holds the position in the epoch and in the data, and the callbacks' states. Its
        arrays are those of the model and the optimizer: they change with the next update.

        Raises:
            ValueError: before the first update.
        """
        state = replace(self._current_state())
        if not self.optimizer.is_built:
            raise ValueError("there is no state of training before the first update: call fit first")
        state.optimizer = type(self.optimizer).__name__
        state.learning_rate = self.optimizer.rate_config()
        if self._run is not None and not self._is_resuming:
            state.callbacks, state.stop_training = self._run.kept()
        return state

    def load_train_state(self, state: TrainState) -> None:
        """Copies a state into the model, from which the next `fit` goes on.

        The model must be compiled with an optimizer and a loss of the same kind before, and that `fit` must be given
        the same data, batch size and callbacks. It begins at the state's epoch, within it if need be. The page
        docs/pretraining.md shows it.

        Args:
            state: of a model of the same shape.

        Raises:
            ValueError: for a state that is not sound, or of parameters or slots of other names or shapes. The model is
                then unchanged.
            RuntimeError: within a `fit`, except in a callback's `on_train_begin`.
        """
        if self._run is not None and self._run.callbacks.hook != "on_train_begin":
            raise RuntimeError(
                "a fit is under way, whose place in the data can't change: load the state before it, or in a "
                "callback's on_train_begin"
            )
        state.check()
        backbone = self.backbone
        if state.params.layout != backbone.params.layout:
            raise ValueError("the state is of parameters of other names or shapes than this model's")
        if state.params.dtype != backbone.params.dtype:
            raise ValueError(
                f"the state is in {state.params.dtype}, this model in {backbone.params.dtype}: load the model with "
                f"dtype={state.params.dtype.name!r}"
            )
        if set(state.slots) != set(self.optimizer.slot_names):
            raise ValueError(
                f"the state has the slots {', '.join(state.slots)}; {type(self.optimizer).__name__} keeps "
                f"{', '.join(self.optimizer.slot_names)}"
            )
        optimizer = self.optimizer
        if state.optimizer not in ("", type(optimizer).__name__):
            raise ValueError(
                f"the state is of the optimizer {state.optimizer}, this model was compiled with "
                f"{type(optimizer).__name__}: compile it with the same one before"
            )
        seed, rate = random_seed("seed", state.seed), state.learning_rate
        if rate is None and not callable(optimizer._learning_rate):
            warnings.warn(
                "the learning rate of the state was a function, which no state can keep; this model's own rate, "
                f"{optimizer.learning_rate:g}, goes on: compile it with that function before",
                stacklevel=callers_level(),
            )
        if isinstance(rate, Mapping):
            rate = schedules.from_config(dict(rate))
        rate = None if rate is None else optimizers.checked_rate(rate)
        unbound = replace(state, params=Arrays({}), slots={})  # callbacks may change what they are given
        optimizer.check_excluded(backbone.params)
        optimizer.check_state({"iterations": state.step, **state.slots}, backbone.params)
        with (
            backbone.writing("load_train_state()"),
            backbone.updating(list(backbone.params), ["load_train_state()"]) as params,
        ):
            params.copy_from(state.params)
            optimizer.load_slots(state.slots, params)
            optimizer.iterations = state.step
            if rate is not None:
                optimizer.learning_rate = rate
            self.seed = seed
            self._state = replace(copy.deepcopy(unbound), params=backbone.params, slots=optimizer.slots)
            self._is_resuming = True

    def _take_optimizer_state(self, stored: OptimizerState) -> None:
        """Takes over the optimizer and the position in the data that a preset keeps.

        Raises:
            ValueError: where the optimizer is unknown, or the state is of other parameters.
        """
        self.optimizer = optimizers.restored(
            stored.optimizer, {"iterations": stored.iterations, **stored.slots}, self.backbone.params
        )
        self._state.data_pass, self._state.position = stored.data_pass, stored.position

    def _current_state(self) -> TrainState:
        """The state, updated with the attributes that users may have set on the model and the optimizer."""
        state = self._state
        state.params, state.slots = self.backbone.params, self.optimizer.slots
        state.seed, state.step = self.seed, self.optimizer.iterations
        return state

    @property
    def metrics(self) -> list[measures.Metric]:
        """The loss and the compiled metrics, in the order of their values in `evaluate`."""
        return list(self._metrics)

    @property
    def metrics_names(self) -> list[str]:
        """The names of what `evaluate` returns, in order."""
        return [metric.name for metric in self._metrics]

    @property
    def _needs_outputs(self) -> bool:
        """Whether a metric is a function of the model's outputs."""
        return any(metric.needs_outputs for metric in self._metrics)

    def _activated(self, logits: Array) -> Array:
        """What the model gives for logits: these, unless a task has an activation."""
        return logits

    def _class_weights(self, class_weight: Mapping[Any, float] | None, sample_weight: Any) -> Array | None:
        """The factor of each class's losses; None for ones.

        Raises:
            ValueError: for a model without classes, a class that it lacks, and where both kinds of weights are given.
        """
        if class_weight is None:
            return None
        classes = self.backbone.config.num_classes
        if classes is None:
            raise ValueError(
                "class_weight is of a classifier's classes; the labels of a masked LM are the tokens of its texts. "
                "Pass sample_weight=, one weight per text"
            )
        if sample_weight is not None:
            raise ValueError(
                "class_weight and sample_weight can't be given together: multiply them, as in "
                "sample_weight=[weight * class_weight[label] for weight, label in zip(sample_weight, y)]"
            )
        return class_factors(class_weight, classes, getattr(self, "labels", None) or [])

    def _running(self) -> measures.Running:
        """Metrics of one call. Calls in other threads or in callbacks have their own."""
        return measures.Running(self._metrics, self._unweighted)

    def _update(self, parts: Sequence[Batch], done: Callable[[list[Result]], None]) -> None:
        """Makes one update from all the parts taken as one batch; `done` notes its results as a part of it."""
        backbone, optimizer = self.backbone, self.optimizer
        self._need_trainable()  # a callback may have frozen all there is
        self._claim_optimizer()
        if not optimizer.is_built:
            optimizer.build(backbone.params)
        if self._sums is None or self._sums.layout != backbone.params.layout:
            self._sums = backbone.params.zeros_like()
        names = self._trainable_names()
        model = Trained(
            backbone.ops,
            backbone.config,
            self.loss,
            optimizer,
            names,
            self._sums,
            self._recompute,
            backbone.prepared(changing=names).kernels,
            self._changing,
            keeps_outputs=self._needs_outputs,
        )
        train_step(model, self._current_state(), parts, done=done)

    @contextmanager
    def _changing(self, state: TrainState) -> Iterator[Arrays]:
        """The parameters, and the optimizer's count of updates, to be changed together."""
        with self.backbone.updating(self._trainable_names(), ["fit()", "train_on_batch()"]) as params:
            yield params
            self.optimizer.iterations = state.step

    def _finalize(self) -> None:
        """Ends training with the optimizer's moving average as the parameters, if it keeps one, as Keras does."""
        optimizer, names = self.optimizer, self._trainable_names()
        if not optimizer.use_ema or not optimizer.is_built:
            return
        with self.backbone.updating(names, ["fit()"]) as params:
            optimizer.finalize(params, optimizer.slots, names, self.backbone.ops)

    def _claim_optimizer(self) -> None:
        other = self.optimizer.trained_by() if self.optimizer.trained_by is not None else None
        if other is None:
            self.optimizer.trained_by = weakref.ref(self)
        elif other is not self:
            raise ValueError(
                "this optimizer trains another model too, whose moments and count of updates it holds: compile(...) "
                "each model with an optimizer of its own, or compile again before this one is trained"
            )

    def _evaluate(
        self, examples: Examples, batch_size: int, steps: int | None = None, callbacks: CallbackList | None = None
    ) -> dict[str, float]:
        self._need_compiled()
        self._check_loss(self.loss)  # its attributes may have been set since
        callbacks = callbacks or CallbackList([], model=self, params={})
        backbone = self.backbone
        running = self._running()
        self.stop_evaluating = False
        callbacks.on_test_begin()
        params = backbone.prepared(changing=self._trainable_names())  # a callback may have changed them just now
        batches = islice(examples.fixed(batch_size), steps)
        step = -1
        weighted = 0
        values: dict[str, float] = {}
        for step, batch in enumerate(batches):
            callbacks.on_test_batch_begin(step)
            result = evaluate_step(backbone.ops, params, backbone.config, batch, self.loss, self._needs_outputs)
            weighted += int(np.count_nonzero(result.weights))
            measure(running, [result], self._activated)
            values = running.values()
            callbacks.on_test_batch_end(step, values)
            if self.stop_evaluating:
                break
        if step < 0:
            raise ValueError("there is nothing to evaluate. An iterator gives its items once: pass a list instead")
        if not weighted:
            raise ValueError(self.zero_weights_message)
        callbacks.on_test_end(values)
        return values

    def _check_loss(self, loss: losses.SparseCategoricalCrossentropy) -> None:
        """Checks that the model can be trained on a loss."""
        if loss.from_logits is self._gives_probabilities:
            gives, takes = ("probabilities", False) if self._gives_probabilities else ("logits", True)
            raise ValueError(f"the model gives {gives}: use SparseCategoricalCrossentropy(from_logits={takes})")
        if loss.ignore_class is not None:
            raise ValueError("ignore_class is for losses on arrays; in training, a weight of 0 leaves a label out")
        loss.denominator(1.0, 1)  # raises where there is no reduction

    def _need_compiled(self) -> None:
        """Raises an error where there is no loss to compute."""
        if not self._is_compiled:
            raise ValueError("You must call `compile()` before: the model was made with compile=False")

    def _need_trainable(self) -> None:
        self._need_compiled()
        if not self._trainable_names():
            raise ValueError(
                "every parameter is frozen: there is nothing to train. See trainable, backbone.trainable and unfreeze"
            )
        self._check_loss(self.loss)  # its attributes may have been set since
        if self.optimizer.is_built and not self.optimizer.fits(self.backbone.params):
            raise ValueError(
                "the model has other parameters than when the optimizer last worked on it (LoRA was enabled or merged, "
                "the token embedding resized, or the positions extended): call compile(), which starts the optimizer "
                "anew"
            )

    def _held(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        long_texts: str | None,
        column: Any = None,
        label: Any = None,
        may_name: bool = False,
    ) -> HeldExamples:
        reader = self._reader(long_texts, may_name=may_name)
        examples = reader.examples(x, y, sample_weight, column=column, label=label)
        if not isinstance(examples, HeldExamples):
            raise ValueError("x should be one batch, not an iterable of batches")
        self._take_names(reader)
        reader.long_texts.say()
        return examples


WITHOUT_EFFECT = {  # an argument of Keras's compile: its default, and the reason why there is no other value
    "loss_weights": (None, "the model has one loss. Pass sample_weight to fit for weights of texts"),
    "run_eagerly": (False, "every step is plain Python here, which a debugger can enter"),
    "steps_per_execution": (1, "there is no graph in which several steps could run; callbacks run after each one"),
    "auto_scale_loss": (True, "losses are not scaled here, since float32 and float64 have no need of it"),
}


def _refuse_without_effect(**given: Any) -> None:
    """Checks that arguments of Keras's that have no effect here have Keras's defaults."""
    for name, value in given.items():
        default, why = WITHOUT_EFFECT[name]
        if value is not default and not (type(value) is type(default) and value == default):
            raise ValueError(f"{name}={value!r} would have no effect: {why}. Leave it out")


def _listed_metrics(metrics: Any) -> list[Any]:
    """Metrics as a list; one metric may come without a list around it."""
    if metrics is None:
        return []
    return list(metrics) if isinstance(metrics, list | tuple) else [metrics]


def _check_names(metrics: Sequence[measures.Metric]) -> None:
    """Checks that no two metrics have one name, under which a value would be lost."""
    names = ["loss", *(metric.name for metric in metrics)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"two metrics are named {name!r}, and logs hold one value of a name: give one of them another, as in "
                f"{type(metrics[0]).__name__}(name='my_{name}')"
            )


def _size_of_batch(value: Any) -> int:
    """`batch_size`, 32 unless given.

    Raises:
        TypeError: for an array or a list, which stands where Keras has the batch's size.
        ValueError: for anything else that is no whole number of at least 1.
    """
    if not isinstance(value, str) and (np.ndim(value) if hasattr(value, "ndim") else hasattr(value, "__len__")):
        raise TypeError(
            f"batch_size should be a whole number, got a {type(value).__name__}. It is the third argument, as in "
            "Keras: pass weights by name, sample_weight=..."
        )
    return whole_number("batch_size", 32 if value is None else value)


def _frequency(value: Any) -> Callable[[int], bool]:
    """`validation_freq` as a function of an epoch's number, from 0, that tells whether an evaluation is due."""
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str):
        epochs = {whole_number("an epoch of validation_freq", epoch) for epoch in value}
        return lambda epoch: epoch + 1 in epochs
    every = whole_number("validation_freq", value)
    return lambda epoch: (epoch + 1) % every == 0


def _parts_of(validation_data: Any) -> tuple[Any, Any, Any]:
    """The x, y and sample_weight of `validation_data`."""
    given = validation_data if isinstance(validation_data, tuple) else (validation_data,)
    if not 1 <= len(given) <= 3:
        raise ValueError(f"validation_data should be x, (x, y) or (x, y, sample_weight); got a tuple of {len(given)}")
    x, y, sample_weight = (*given, None, None)[:3]
    return x, y, sample_weight


def _fraction(value: float, count: int) -> float:
    """`validation_split`, if it leaves texts on both sides."""
    if not isinstance(value, int | float | np.number):
        raise ValueError(f"validation_split should be a number from 0 to 1, the share of the texts; got {value!r}")
    if not 0.0 < value < 1.0 or not 0 < int(count * (1.0 - value)) < count:
        raise ValueError(f"validation_split must leave texts on both sides: {value!r} of {count} texts does not")
    return value


def _as_keras(values: dict[str, float]) -> float | list[float]:
    """Keras's return value: a number if there is the loss alone, else a list."""
    return list(values.values()) if len(values) > 1 else next(iter(values.values()))
