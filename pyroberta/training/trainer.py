"""Training, evaluation and prediction as Keras means them: epochs of steps, callbacks, logs."""

from __future__ import annotations

import warnings
import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, ClassVar

import numpy as np
from numpy import ndarray as Array

from pyroberta.data.classifier_inputs import class_factors
from pyroberta.data.examples import Examples, HeldExamples, num_batches, numbered
from pyroberta.data.inputs import InputReader
from pyroberta.data.sources import OF_OPEN_SOURCE
from pyroberta.model.attributes import Checks, true_or_false, whole_number
from pyroberta.model.batch import Batch
from pyroberta.model.callers import callers_level
from pyroberta.model.hints import hinting
from pyroberta.model.parameters import Arrays
from pyroberta.ops import Key
from pyroberta.training.arguments import as_keras, fraction, frequency, parts_of, size_of_batch
from pyroberta.training.callbacks import CallbackList, History, ProgressBar, with_defaults
from pyroberta.training.compiled import OF_THE_OPTIMIZER, OF_THE_PREPROCESSOR
from pyroberta.training.resumable import Resumable
from pyroberta.training.run import Feed, Run, ceil_divide, measure
from pyroberta.training.state import TrainState
from pyroberta.training.step import Result, Trained, evaluate_step, train_step


class Trainer(Resumable):
    """The methods of a task that train, evaluate and predict, on all data and on one batch.

    A task defines the inputs that it reads, its default loss and its logits.
    """

    reader_kind: ClassVar[type[InputReader]]
    zero_weights_message: ClassVar[str]  # the error's text where every weight is 0
    checks: ClassVar[Checks] = {
        **dict.fromkeys(("stop_training", "stop_evaluating", "stop_predicting"), true_or_false),
    }

    _sums: Arrays | None = None  # the gradients' vector, made at the first update
    history: History | None = None  # of the last `fit`

    def __init__(self) -> None:
        self.stop_training = self.stop_evaluating = self.stop_predicting = False
        self.compile()

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
    def _predict_batch(self, inputs: Mapping[str, Any] | Sequence[Array]) -> Array:
        """Logits for one of the reader's `prediction_batches`."""

    @abstractmethod
    def _joined(self, outputs: Sequence[Array], is_text: bool) -> Array:
        """The result of `predict` from the logits of each batch. `is_text`: whether all inputs were texts."""

    @hinting(
        **dict.fromkeys(("lr", "learning_rate", "weight_decay", "optimizer"), OF_THE_OPTIMIZER),
        **dict.fromkeys(("sequence_length", "max_length"), OF_THE_PREPROCESSOR),
        test_size="validation_split= holds the last part of x out",
        **OF_OPEN_SOURCE,
    )
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
                lacks. A class is its number, or its name in `labels`. Not beside `sample_weight`, as in Keras; weights
                that stand in the batches of an iterable are multiplied by it.
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
                Where `validation_freq` comes to no evaluation.

        Raises:
            ValueError, TypeError: for input that does not fit; the message says what fits.
            NonFiniteError: at the first loss that is NaN or infinite, naming the step and the op; the parameters are
                those before that step.
        """
        batch_size = size_of_batch(batch_size)
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
        is_due = frequency(validation_freq)
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
            validation = validation_reader.examples(*parts_of(validation_data), most=most, **columns)
        elif is_split:
            if not isinstance(examples, HeldExamples):
                raise ValueError("validation_split needs examples that can be counted, not a stream of them")
            examples, validation = examples.split(fraction(validation_split, examples.num_texts))
        if validation is not None and initial_epoch < epochs and not any(map(is_due, range(initial_epoch, epochs))):
            warnings.warn(
                f"validation_freq={validation_freq} names none of the epochs {initial_epoch + 1} to {epochs}: nothing "
                "is evaluated",
                stacklevel=callers_level(),
            )
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
            self.stop_training, self._run, self._averaged_at = False, run, None
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

    @hinting(**OF_OPEN_SOURCE)
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
        batch_size = size_of_batch(batch_size)
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
        return values if return_dict else as_keras(values)

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
        return values if return_dict else as_keras(values)

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
        return values if return_dict else as_keras(values)

    @hinting(**OF_OPEN_SOURCE)
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
        batch_size = size_of_batch(batch_size)
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
        self._averaged_at = optimizer.iterations

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
        if steps and step + 1 < steps and not self.stop_evaluating:
            warnings.warn(
                f"the examples ran out after {step + 1} of the {steps} steps: the evaluation is of these alone",
                stacklevel=callers_level(),
            )
        callbacks.on_test_end(values)
        return values

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
