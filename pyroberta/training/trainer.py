"""Training, evaluation and prediction as in Keras: epochs of steps, callbacks, logs."""

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
from pyroberta.data.kinds import Wanted
from pyroberta.data.sources import OF_OPEN_SOURCE, wanted_of
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
    """The methods of a task that train, evaluate and predict, on all data or on one batch.

    A task defines its inputs, its default loss and its logits.
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
        per_line: bool = True,
        full_sentences: bool = False,
    ) -> History:
        """Trains the model. The arguments have Keras's order.

        Args:
            x: texts (a list, an array, a table's column, or any iterable of strings; pairs are tuples of two strings);
                with `column`, a table or records; a path (which may be a string), a directory, a pattern or an open
                file, see `data.open_source`; encoded sequences (arrays of token ids); a dict of `token_ids` (B, S),
                `padding_mask` (B, S) and, for a masked LM, `mask_positions` (B, K); or an iterable of batches of these,
                `(x, y, sample_weight)` or shorter.
            y: for a classifier, the class of each text (B,): its name, or its number from 0. If the classes have only
                default names, the names in y become their names, in sorted order, and are kept in `labels`. For a
                masked LM, the original ids (B, K) of a dict of features. Masking makes the labels of texts.
            batch_size: the number of sequences in a step. The default is 32. A batch of an iterable of batches has its
                own size.
            epochs: the number of the last epoch.
            verbose: 0 prints nothing, 1 a progress bar, 2 a line per epoch. `"auto"` means 1.
            callbacks: a callback or a list of them. Their methods are called at every step and epoch. Keras's own
                callbacks work too. A `History` or a `ProgressBar` replaces the one that `fit` adds.
            validation_split: the share of the texts of x, in [0, 1), that is used for evaluation. These are the last
                texts before shuffling. Passing `validation_data` too is an error; in Keras, `validation_data` would
                take precedence.
            validation_data: x, (x, y) or (x, y, sample_weight) for an evaluation after every epoch.
            shuffle: whether the examples are drawn in a new order every epoch. An iterable of batches keeps its order.
            class_weight: for a classifier, a dict of class -> the factor of the losses of its texts in training. A
                missing class has the factor 1. A class is given by its number, or its name in `labels`. As in Keras, it
                can't be combined with `sample_weight`. Weights in the batches of an iterable are multiplied by it.
            sample_weight: the weights of the texts, (B,), (B, 1) or one number for all; or (B, K) for a masked LM's
                dict of features.
            initial_epoch: the number of the first epoch, if an earlier run is continued.
            steps_per_epoch: the number of updates in an epoch. The next epoch continues where this one ended. When
                examples in memory are used up, they start again in a new order, even within an epoch (Keras ends the
                epoch early; so does this method if there are fewer examples in all). An iterable without a length is
                read step by step, instead of being collected and shuffled.
            validation_steps, validation_batch_size: the number of batches and their size in the evaluation. The default
                is all examples, and `batch_size`. From an iterable of texts without a length, at most
                `validation_steps` batches are read.
            validation_freq: a number n to evaluate after every n-th epoch, or a list of the epochs to evaluate after,
                counted from 1.
            gradient_accumulation_steps: the number of batches whose gradients make one update. Up to rounding, it is
                the update of one large batch.
            long_texts: the treatment of texts with more tokens than the preprocessor's `sequence_length`, also in
                `validation_data`. `"split"` cuts a text into windows of so many tokens that do not overlap; special
                tokens count. Each window has the weight of the text, and counts as a sequence in a step. `"cut"` drops
                the rest of the text. `"refuse"` raises an error. None means `"split"` for a masked LM's texts, and
                `"cut"` for pairs and for a classifier, whose texts can't be split. Features and encoded sequences are
                never changed. If they are too long, they are refused.
            column: the name of the column of the texts in a table, in records or in a file; a tuple of names for pairs.
                It also applies to `validation_data`, if that has columns.
            label: the name of the column of the labels, instead of y.
            per_line: whether each line of a text file is a text, also in `validation_data`. If False, each file is one
                text.
            full_sentences: for a masked LM, whether each sequence is filled with whole sentences of one text after
                another, also in `validation_data` (RoBERTa's FULL-SENTENCES, Liu et al. 2019). A text is a document. If
                one ends within a sequence, an extra `</s>` follows. A sentence ends after `.`, `!`, `?` or `…` if white
                space and anything but a small letter follow, and at a blank line.

        Returns:
            A `History`. Its `.history` has a list of values per epoch for each name, and `.plot()` draws them. The
            model keeps it as `history`.

        Warns:
            UserWarning: once, if texts were split or cut (the message has the counts); at the end, if the texts were
                read step by step. Also if the examples make fewer steps than `steps_per_epoch`, so that the epochs end
                early, and if `validation_freq` causes no evaluation.

        Raises:
            ValueError, TypeError: if the input does not fit. The message says what is accepted.
            NonFiniteError: if a loss is NaN or infinite. The message names the step and the op. The parameters are
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
        is_split = validation_split is not None and not (np.ndim(validation_split) == 0 and validation_split == 0)
        if is_split and validation_data is not None:
            raise ValueError(
                "validation_split and validation_data both name the data for evaluation: pass only one of them"
            )
        if not is_split and validation_data is None:
            for name, value in (
                ("validation_steps", validation_steps),
                ("validation_batch_size", validation_batch_size),
                ("validation_freq", None if validation_freq == 1 else validation_freq),
            ):
                if value is not None:
                    raise ValueError(
                        f"{name}={value} has no effect without data for evaluation: pass validation_data or "
                        "validation_split"
                    )
        is_due = frequency(validation_freq)
        self._need_trainable()
        bar = ProgressBar(verbose)
        reader = self._reader(long_texts, may_name=True, full_sentences=full_sentences)
        wanted = wanted_of(column, label, per_line)
        examples = reader.examples(x, y, sample_weight, stream=steps_per_epoch is not None, wanted=wanted)
        validation_reader = self._reader(
            long_texts, argument="validation_data", label_names=reader.new_names, full_sentences=full_sentences
        )
        validation: Examples | None = None
        if validation_data is not None:
            size = validation_batch_size or batch_size
            most = None if validation_steps is None else validation_steps * size
            validation = validation_reader.examples(*parts_of(validation_data), most=most, wanted=wanted)
        elif is_split:
            if not isinstance(examples, HeldExamples):
                raise ValueError("validation_split needs examples that can be counted, not a stream of them")
            examples, validation = examples.split(fraction(validation_split, examples.num_texts))
        if validation is not None and initial_epoch < epochs and not any(map(is_due, range(initial_epoch, epochs))):
            warnings.warn(
                f"validation_freq={validation_freq} names none of the epochs {initial_epoch + 1} to {epochs}, so "
                "nothing is evaluated",
                stacklevel=callers_level(),
            )
        class_weights = self._class_weights(class_weight, sample_weight, reader)
        if class_weights is not None:
            examples = examples.class_weighted(class_weights)
        reader.say(bar.verbose)
        validation_reader.say(bar.verbose)

        steps_of_pass = ceil_divide(num_batches(examples, batch_size), accumulated)
        if steps_per_epoch and steps_of_pass and steps_per_epoch > steps_of_pass:
            warnings.warn(
                f"steps_per_epoch is {steps_per_epoch}, but the examples make {steps_of_pass} steps, so each epoch "
                "ends after these. For longer epochs pass itertools.cycle(x)",
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
        with self.backbone.writing("fit()", makes_room=True):
            if self._is_resuming:
                run.check_resumption(self._state, initial_epoch, epochs)
            else:
                run.begin(self._current_state(), initial_epoch)
            self._take_names(reader)  # not before: a fit that is refused changes nothing
            self.history = history
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
                callback_list.end_of_fit()
                if not self._is_resuming:
                    state = self._state
                    state.callbacks, state.stop_training = run.end()
                    state.feed = state.feed if state.callbacks else {}
                for callback in callback_list.callbacks:
                    if isinstance(callback, ProgressBar):  # an error or Ctrl-C leaves no bar behind
                        ProgressBar.on_train_end(callback)
                reader.warn()  # what was read as it came
                validation_reader.warn()
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
        per_line: bool = True,
        full_sentences: bool = False,
    ) -> Any:
        """Returns the loss and the metrics, without dropout. They are the same every time, since masking has a fixed
        seed.

        The arguments have Keras's order; see `fit`. `steps` is the largest number of batches.

        Returns:
            A list of the loss and the metrics, in the order of `metrics_names`; the loss alone, if there are no
            metrics; or with `return_dict` a dict by name.

        Warns:
            UserWarning: see `fit`.
        """
        batch_size, return_dict = size_of_batch(batch_size), true_or_false("return_dict", return_dict)
        if steps is not None:
            steps = whole_number("steps", steps)
        bar = ProgressBar(verbose)
        reader = self._reader(long_texts, full_sentences=full_sentences)
        wanted = wanted_of(column, label, per_line)
        examples = reader.examples(x, y, sample_weight, stream=steps is not None, wanted=wanted)
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
        reader.warn()  # what was read as it came
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
        per_line: bool = True,
    ) -> Any:
        """Makes one update on the whole of x, as one batch. For the arguments and the result see `fit` and `evaluate`.

        The metrics are reset at each call.

        If texts are split, their windows are processed in parts of at most as many windows as there are texts. All
        parts make one update.

        Raises:
            TypeError, ValueError: if the input does not fit, or is an iterable of batches. Then the model, its
                optimizer and the names of its classes do not change.
            NonFiniteError: see `fit`.
        """
        return_dict = true_or_false("return_dict", return_dict)
        self._need_trainable()
        wanted = wanted_of(column, label, per_line)
        examples, reader = self._held(x, y, sample_weight, long_texts, wanted, may_name=True)
        class_weights = self._class_weights(class_weight, sample_weight, reader)
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
            self._take_names(reader)
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
        per_line: bool = True,
    ) -> Any:
        """Returns the loss and the metrics as `evaluate` does, with x as one batch.

        Returns:
            A list of the loss and the metrics, in the order of `metrics_names`; the loss alone, if there are no
            metrics; or with `return_dict` a dict by name.
        """
        return_dict = true_or_false("return_dict", return_dict)
        examples, _ = self._held(x, y, sample_weight, long_texts, wanted_of(column, label, per_line))
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
        per_line: bool = True,
    ) -> Array:
        """Returns logits. The arguments have Keras's order.

        Args:
            x: the input, as in `fit`: texts (for a masked LM, texts with `<mask>`), segments, encoded sequences, a dict
                of features as in a call, or an iterable of batches of these, whose labels and weights are ignored.
                Unlike in `fit`, a `str` is one text, unless `column` or `per_line=False` says that it is a path. A
                tuple of strings is the segments of one text.
            batch_size: the number of sequences in a batch. The default is 32. It does not apply to an iterable of
                batches.
            verbose: see `fit`.
            steps: the largest number of batches. No more are read.
            callbacks: callbacks, whose methods are called at every batch. `logs["outputs"]` are the logits of the
                batch.
            column, per_line: see `fit`. Labels are ignored.
            long_texts: `"cut"` or `"refuse"`, for texts that are too long. None means `"cut"` for a classifier, at the
                preprocessor's `sequence_length` as in training; and `"refuse"` for a masked LM, whose texts may have as
                many tokens as the model takes. A cut that would drop the `<mask>` of a masked LM is refused.

        Returns:
            An array (B, num_classes) for a classifier, or (B, K, V) for a masked LM. For texts, K is the largest number
            of masks in a text. A text with fewer masks has zeros at the end.

        Raises:
            ValueError: if x is empty, a text is refused for its length, or no text of a masked LM has `<mask>`.

        Warns:
            UserWarning: once, if texts were cut. The message has the counts.
        """
        batch_size = size_of_batch(batch_size)
        if steps is not None:
            steps = whole_number("steps", steps)
        bar = ProgressBar(verbose)
        reader = self._reader(long_texts, is_prediction=True)
        wanted = wanted_of(column, per_line=per_line)
        batches, num_steps = reader.prediction_batches(x, batch_size, steps, wanted=wanted)
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
        reader.warn()  # what was read as it came
        if not outputs:
            raise ValueError("x is empty: there is nothing to predict")
        return self._joined(outputs, is_text)

    def predict_on_batch(
        self,
        x: Any,
        *,
        long_texts: str | None = None,
        column: str | tuple[str, ...] | None = None,
        per_line: bool = True,
    ) -> Array:
        """Does what `predict` does, with x as one batch."""
        return self.predict(x, batch_size=2**31, long_texts=long_texts, column=column, per_line=per_line, verbose=0)

    def _class_weights(
        self, class_weight: Mapping[Any, float] | None, sample_weight: Any, reader: InputReader
    ) -> Array | None:
        """The factor of each class's losses; None for ones. The names of the classes may be those that a reader found.

        Raises:
            ValueError: for a model without classes, a class that it lacks, and where both kinds of weights are given.
        """
        if class_weight is None:
            return None
        classes = self.backbone.config.num_classes
        if classes is None:
            raise ValueError(
                "class_weight applies to the classes of a classifier, but the labels of a masked LM are the tokens of "
                "its texts. Pass sample_weight=, one weight per text"
            )
        if sample_weight is not None:
            raise ValueError(
                "class_weight and sample_weight can't be combined: multiply them, as in sample_weight=[weight * "
                "class_weight[label] for weight, label in zip(sample_weight, y)]"
            )
        return class_factors(class_weight, classes, reader.new_names or getattr(self, "labels", None) or [])

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
                "this optimizer also trains another model and has the moments of that one: compile(...) each model "
                "with its own optimizer, or compile this model again before training"
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
            raise ValueError(
                "there is nothing to evaluate. An iterator yields its items only once: pass a list instead"
            )
        if not weighted:
            raise ValueError(self.zero_weights_message)
        if steps and step + 1 < steps and not self.stop_evaluating:
            warnings.warn(
                f"the examples ran out after {step + 1} of the {steps} steps: only these were evaluated",
                stacklevel=callers_level(),
            )
        callbacks.on_test_end(values)
        return values

    def _need_trainable(self) -> None:
        self._need_compiled()
        if not self._trainable_names():
            raise ValueError(
                "every parameter is frozen, so there is nothing to train. See trainable, backbone.trainable and "
                "unfreeze"
            )
        self._check_loss(self.loss)  # its attributes may have been set since
        if self.optimizer.is_built and not self.optimizer.fits(self.backbone.params):
            raise ValueError(
                "the model has other parameters than at the optimizer's last update (LoRA was enabled or merged, the "
                "token embedding resized, or the positions extended): call compile(), which resets the optimizer"
            )

    def _held(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        long_texts: str | None,
        wanted: Wanted,
        may_name: bool = False,
    ) -> tuple[HeldExamples, InputReader]:
        """The examples of one batch, and their reader, which may have found names of classes."""
        reader = self._reader(long_texts, may_name=may_name)
        examples = reader.examples(x, y, sample_weight, wanted=wanted)
        if not isinstance(examples, HeldExamples):
            raise ValueError("x should be one batch, not an iterable of batches")
        reader.warn()
        return examples, reader
