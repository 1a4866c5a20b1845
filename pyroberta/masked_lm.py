"""The user's object: RoBERTa's masked language model, from texts to texts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy import ndarray as Array

from pyroberta.backbone import Backbone
from pyroberta.inference import fill_masks, hidden_states, logits_at, mask_places, score_texts
from pyroberta.inputs import InputReader, check_features, padding_mask
from pyroberta.model.batch import Batch, pack, pack_padded, slot_rows, unpack
from pyroberta.model.gradients import Gradients
from pyroberta.model.params import Arrays
from pyroberta.presets import hf
from pyroberta.presets.registry import PRESETS, Preset, load, preprocessor_settings
from pyroberta.text.preprocessor import MaskedLMPreprocessor
from pyroberta.text.tokenizer import Tokenizer
from pyroberta.training import losses, optimizers
from pyroberta.training import metrics as measures
from pyroberta.training.callbacks import Callback, CallbackList, History, ProgressBar
from pyroberta.training.data import Examples, HeldExamples, grouped
from pyroberta.training.loop import Result, compute_gradients, evaluate_batch

Ours = TypeVar("Ours")

MOST_PARTS = 1024  # of an update: each has dropout keys of its own, see `step_key`
NOTHING_MASKED = (
    "no token of the examples could be masked: the texts are empty or hold special tokens alone, or every weight is 0"
)
FROM_PRESET: Any = object()  # "the preset's own preprocessor", as distinct from None, "no preprocessor"


class MaskedLM:
    """RoBERTa with its masked-LM head: `keras_hub.models.RobertaMaskedLM` without Keras.

    Args:
        backbone: the encoder; its vector holds the head's parameters too.
        preprocessor: tokenises, truncates and masks texts; None for a model that takes preprocessed features alone.
        seed: of everything random in training: the order of examples, masks, dropout. The same seed, data and calls
            give the same model.

    Attributes:
        backbone, preprocessor, seed: as given.
        optimizer, loss: as compiled.
        stop_training: set by a callback to end `fit` after the current step.

    >>> masked_lm = MaskedLM.from_preset("roberta_tiny_en")
    >>> history = masked_lm.fit(["The quick brown fox jumped.", "I forgot my homework."], batch_size=2, verbose=0)
    >>> sorted(history.history)
    ['accuracy', 'loss', 'perplexity']
    """

    presets: Mapping[str, Preset] = PRESETS

    def __init__(self, backbone: Backbone, preprocessor: MaskedLMPreprocessor | None = None, *, seed: int = 0) -> None:
        self.backbone = _of_ours("backbone", backbone, Backbone)
        self.preprocessor = preprocessor and _of_ours("preprocessor", preprocessor, MaskedLMPreprocessor)
        self.seed = whole_number("seed", seed, at_least=0, at_most=2**64 - 1)
        self.stop_training = False
        if preprocessor is not None:
            _check_fit(preprocessor, backbone)
        self._sums: Arrays | None = None  # the gradients' vector, made at the first update
        self.compile()

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        *,
        load_weights: bool = True,
        preprocessor: MaskedLMPreprocessor | None = FROM_PRESET,
        dtype: str = "float32",
        backend: str = "auto",
        dropout: float | None = None,
        attention_dropout: float | None = None,
        initializer: str = "keras",
        seed: int = 0,
    ) -> MaskedLM:
        """The model that a preset holds.

        Args:
            preset: a name (`MaskedLM.presets` lists them) or the path of a directory, of Hugging Face or
                KerasHub.
            load_weights: False for the preset's shape and tokenizer with fresh values, drawn by `initializer`.
            preprocessor: instead of the preset's own; None for a model that takes preprocessed features alone.
            dtype: `"float32"` or `"float64"`, of parameters and arithmetic.
            backend: `"auto"`, `"numpy"`, `"native-blas"` or `"native"`; see `pyroberta doctor`.
            dropout, attention_dropout: rates instead of the preset's; `dropout` alone sets both.
            initializer: `"keras"`, `"hf"` or `"neighbour"`, for fresh values; see `initialise`.
            seed: see the class.

        Raises:
            ValueError, FileNotFoundError: where the preset is not there or not sound, saying what can be had.
        """
        backbone = Backbone.from_preset(
            preset,
            load_weights=load_weights,
            dtype=dtype,
            backend=backend,
            initializer=initializer,
            seed=seed,
            dropout=dropout,
            attention_dropout=attention_dropout,
        )
        if preprocessor is FROM_PRESET:
            preprocessor = _preset_preprocessor(preset, backbone)
        return cls(backbone, preprocessor, seed=seed)

    # --- training -----------------------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: optimizers.Adam | str = "auto",
        loss: losses.SparseCategoricalCrossentropy | str = "auto",
        *,
        metrics: None = None,
        weighted_metrics: Sequence[measures.Metric | str] | str | None = "auto",
        jit_compile: bool | str = "auto",
        recompute: bool = False,
    ) -> None:
        """Chooses how to train; the optimizer starts anew.

        Args:
            optimizer: `"auto"` is `Adam(5e-5)`, Keras's form, as in KerasHub.
            loss: `"auto"` is the mean over the masked tokens; see `losses.SparseCategoricalCrossentropy`.
            metrics: refused, since in Keras these leave weights out, and would count mask slots that are not used.
            weighted_metrics: beside the loss, names or `metrics` objects; `"auto"` is accuracy and perplexity.
            jit_compile: accepted so that KerasHub's examples run; there is nothing to compile.
            recompute: keep only each layer's input for backward and run the layer again there (gradient checkpointing):
                much less memory, a quarter to a third more time, the same result.

        Raises:
            ValueError: for a loss on probabilities, since the model gives logits, or without a reduction; for
                `metrics`.
            TypeError: for an optimizer, a loss or a metric that is not pyroberta's.
        """
        if isinstance(loss, str) and loss == "auto":
            loss = losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
        if metrics:
            raise ValueError(
                f"metrics={metrics!r} would count every mask slot, used or not, since Keras's metrics take no weights. "
                "Pass weighted_metrics= instead, which count masked tokens by their weights"
            )
        if isinstance(weighted_metrics, str):
            weighted_metrics = ("accuracy", "perplexity") if weighted_metrics == "auto" else (weighted_metrics,)
        optimizer = "adam" if isinstance(optimizer, str) and optimizer == "auto" else optimizer
        new_optimizer = _of_ours("optimizer", optimizers.get(optimizer), optimizers.Adam)
        new_loss = _of_ours("loss", losses.get(loss), losses.SparseCategoricalCrossentropy)
        new_metrics = [_of_ours("metric", measures.get(metric), measures.Metric) for metric in weighted_metrics or ()]
        if not new_loss.from_logits:
            raise ValueError("the model gives logits: use SparseCategoricalCrossentropy(from_logits=True)")
        if new_loss.ignore_class is not None:
            raise ValueError("ignore_class is for losses on arrays; in training, a weight of 0 leaves a label out")
        new_loss.denominator(np.ones(1), 1)  # raises where there is no reduction
        if new_optimizer.m is not None:  # it has worked before, here or for another model
            new_optimizer.build(self.backbone.params)
        self.optimizer, self.loss, self._recompute = new_optimizer, new_loss, bool(recompute)
        self._metrics: list[measures.Metric] = [measures.Loss(), *new_metrics]

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
        verbose: int | str = "auto",
    ) -> History:
        """Trains the model.

        Args:
            x: texts (a list, an array, any iterable of strings, pairs as tuples of two strings, or the path of a text
                file with one text a line); encoded sequences (arrays of token ids); a dict of `token_ids` (B, S),
                `padding_mask` (B, S) and `mask_positions` (B, K); or an iterable of batches of the above,
                `(x, y, sample_weight)` or shorter.
            y: (B, K) original ids, beside a dict of features; texts make their own.
            sample_weight: (B, K) or (B,) beside features, (B,) beside texts.
            batch_size: sequences a step, 32 unless given; does not apply to an iterable of batches.
            epochs: number of the last epoch.
            validation_data: x, (x, y) or (x, y, sample_weight), evaluated after every epoch.
            validation_split: instead, the last part of x, in [0, 1); taken before shuffling.
            shuffle: draw the examples in a new order every epoch; an iterable of batches keeps its own.
            callbacks: told of every step and epoch.
            initial_epoch: number of the first epoch, when going on with an earlier run.
            steps_per_epoch: updates an epoch. An iterable without a length is then read as it goes, instead of being
                collected and shuffled, and the next epoch goes on where this one left off.
            validation_batch_size, validation_steps: for the evaluation; `batch_size` and all, unless given.
            gradient_accumulation_steps: batches whose gradients make one update, exactly that of one large batch with
                the same masks (texts are masked batch by batch); up to 1024.
            verbose: 0 silent, 1 a bar, 2 a line an epoch; `"auto"` is 1.

        Returns:
            A `History`: `.history` name -> value per epoch, `.plot()`.

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
        accumulated = whole_number("gradient_accumulation_steps", gradient_accumulation_steps, at_most=MOST_PARTS)
        self._need_trainable()
        bar = ProgressBar(verbose)
        examples = self._examples(x, y, sample_weight, stream=steps_per_epoch is not None)
        validation: Examples | None = None
        if validation_data is not None:
            given = validation_data if isinstance(validation_data, tuple) else (validation_data,)
            validation = self._examples(*given)
        elif validation_split:
            if not isinstance(examples, HeldExamples):
                raise ValueError("validation_split needs examples that can be counted, not a stream of them")
            examples, validation = examples.split(_fraction(validation_split, len(examples)))

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
        self.stop_training = False
        logs: dict[str, float] = {}
        try:
            told.on_train_begin()
            for epoch in range(initial_epoch, epochs):
                told.on_epoch_begin(epoch)
                # The updates done before tell one call of fit from the next, which would start at epoch 0 again.
                seed = (self.seed, epoch, self.optimizer.iterations)
                batches = examples.batches(batch_size, seed, shuffle)
                logs = self._train(grouped(batches, accumulated), steps_per_epoch, epoch, told)
                if validation is not None:
                    values = self._evaluate(validation, validation_batch_size or batch_size, validation_steps, told)
                    logs = logs | {f"val_{name}": value for name, value in values.items()}
                told.on_epoch_end(epoch, logs)
                if self.stop_training:
                    break
            told.on_train_end(logs)
        finally:
            bar.on_train_end()  # an error or Ctrl-C leaves no bar behind
        return history

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        batch_size: int | None = None,
        steps: int | None = None,
        callbacks: Sequence[Callback] | Callback | None = None,
        verbose: int | str = "auto",
        return_dict: bool = False,
    ) -> Any:
        """Loss and metrics without dropout; the same every time, since texts are masked from a fixed seed.

        Args: as for `fit`; `steps` stops after so many batches.

        Returns:
            The loss and the metrics in a list, the loss alone where there are no others, or a dict of them by name.
        """
        batch_size = whole_number("batch_size", 32 if batch_size is None else batch_size)
        if steps is not None:
            steps = whole_number("steps", steps)
        bar = ProgressBar(verbose)
        examples = self._examples(x, y, sample_weight, stream=steps is not None)
        told = CallbackList(
            [*([callbacks] if isinstance(callbacks, Callback) else callbacks or ()), bar],
            model=self,
            params={"steps": steps or examples.num_batches(batch_size)},
        )
        try:
            values = self._evaluate(examples, batch_size, steps, told)
        finally:
            bar.on_train_end()
        return values if return_dict else _as_keras(values)

    def train_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, *, return_dict: bool = False) -> Any:
        """One update on the whole of x, as one batch. Arguments and returns as for `evaluate`; metrics start anew."""
        self._need_trainable()
        examples = self._held(x, y, sample_weight)
        for metric in self._metrics:
            metric.reset()
        (batch,) = examples.batches(len(examples), (self.seed, self.optimizer.iterations), shuffle=False)
        values = self._update([batch])
        return values if return_dict else _as_keras(values)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, *, return_dict: bool = False) -> Any:
        """`evaluate` on x as one batch."""
        examples = self._held(x, y, sample_weight)
        values = self._evaluate(examples, len(examples))
        return values if return_dict else _as_keras(values)

    # --- asking -------------------------------------------------------------------------------------------------

    def __call__(self, inputs: Mapping[str, Any]) -> Array:
        """Logits at the masked positions of preprocessed features.

        Args:
            inputs: `token_ids` (B, S), `padding_mask` (B, S), `mask_positions` (B, K).

        Returns:
            (B, K, V), zeros for a position that holds padding.
        """
        check_features(inputs)
        return self._slot_logits(*self._slots(inputs))

    def predict(
        self,
        x: Any,
        *,
        batch_size: int | None = None,
        steps: int | None = None,
        callbacks: Sequence[Callback] | Callback | None = None,
        verbose: int | str = "auto",
    ) -> Array:
        """Logits at the masked positions.

        Args:
            x: what `fit` takes: texts that hold `<mask>`, segments, encoded sequences, a dict of features as for
                `__call__`, or an iterable of batches of them, whose labels and weights are not looked at. Unlike
                there, a `str` is one text, and nothing is cut off. A tuple of strings is one text's segments.
            batch_size: sequences at a time, 32 unless given; does not apply to an iterable of batches.
            steps: stop after so many batches, and read no further.
            callbacks: told of every batch; `logs["outputs"]` are its logits.
            verbose: as for `fit`.

        Returns:
            (B, K, V). For texts K is the largest number of masks in one; a text with fewer has zeros at the end.

        Raises:
            ValueError: where x is empty, or no text holds `<mask>`.
        """
        batch_size = whole_number("batch_size", 32 if batch_size is None else batch_size)
        if steps is not None:
            steps = whole_number("steps", steps)
        bar = ProgressBar(verbose)
        reader = InputReader(self.backbone.config, self.preprocessor)
        queries, there = reader.queries(x, batch_size, steps)
        told = CallbackList(
            [*([callbacks] if isinstance(callbacks, Callback) else callbacks or ()), bar],
            model=self,
            params={"steps": there},
        )
        outputs: list[Array] = []
        holds_mask = False
        try:
            told.on_predict_begin()
            for step, query in enumerate(queries):
                told.on_predict_batch_begin(step)
                batch, rows = self._slots(query)
                holds_mask |= isinstance(query, Mapping) or rows.size > 0
                outputs.append(self._slot_logits(batch, rows))
                told.on_predict_batch_end(step, {"outputs": outputs[-1]})
            told.on_predict_end()
        finally:
            bar.on_train_end()
        if not outputs:
            raise ValueError("x is empty: there is nothing to predict")
        if not holds_mask:
            raise ValueError(f"no text holds {self._tokenizer().mask_token!r}, so there is nothing to predict")
        most = max(logits.shape[1] for logits in outputs)
        return np.concatenate([np.pad(logits, ((0, 0), (0, most - logits.shape[1]), (0, 0))) for logits in outputs])

    def predict_on_batch(self, x: Any) -> Array:
        """`predict` on x as one batch."""
        return self.predict(x, batch_size=2**31, verbose=0)

    def fill_mask(
        self,
        texts: str | Sequence[str],
        top_k: int = 5,
        targets: str | Sequence[str] | None = None,
        *,
        batch_size: int = 32,
    ) -> Any:
        """The likeliest words for every `<mask>`.

        Args:
            texts: one text or several, each with one `<mask>` or more.
            top_k: candidates a mask, as far as there are so many.
            targets: rank these words alone, written plainly: the space before the mask is taken to be the word's.
                A target of n tokens takes n masks and is scored by the product of their probabilities.
            batch_size: texts at a time.

        Returns:
            For one text with one mask a list of `Filling`s, the likeliest first; with several masks a list of those;
            for a list of texts a list of what each alone would give.

        Raises:
            ValueError: for a text without a mask, or longer than the model takes; no targets, or a `top_k` below 1.

        >>> masked_lm = MaskedLM.from_preset("roberta_tiny_en")
        >>> masked_lm.fill_mask("The President of the United <mask> spoke to Congress.", top_k=1)[0].token_str
        ' States'
        """
        batch_size, top_k = whole_number("batch_size", batch_size), whole_number("top_k", top_k)
        if targets is not None:
            targets = _listed(targets)
        many = _listed(texts)
        found = fill_masks(self.backbone, self._tokenizer(), many, top_k, targets, batch_size)
        flat = [masks[0] if len(masks) == 1 else masks for masks in found]
        return flat[0] if isinstance(texts, str) else flat

    def score(self, texts: str | Sequence[str], *, batch_size: int = 32) -> Any:
        """Pseudo-log-likelihoods: how likely each token is, given all the others.

        Each token is masked in turn, so a text of n tokens costs n sequences, `batch_size` of them at a time.

        Returns:
            A `TextScore`, or a list of them for a list of texts.
        """
        batch_size = whole_number("batch_size", batch_size)
        many = _listed(texts)
        found = list(score_texts(self.backbone, self._tokenizer(), many, batch_size))
        return found[0] if isinstance(texts, str) else found

    def embed(
        self, texts: str | Sequence[str], *, layer: int = -1, pooling: str | None = "mean", batch_size: int = 32
    ) -> Any:
        """Hidden states.

        Args:
            texts: one text or several.
            layer: 0 for the embeddings' output, i for layer i's, -1 for the last.
            pooling: `"mean"` over all tokens, `<s>` and `</s>` included; None for every token's own.
            batch_size: texts at a time.

        Returns:
            (B, C), or for one text (C,); without pooling a list of (S, C), or one.
        """
        if pooling not in ("mean", None):
            raise ValueError(f"pooling must be 'mean' or None, got {pooling!r}")
        batch_size = whole_number("batch_size", batch_size)
        layers = self.backbone.config.num_layers
        if not isinstance(layer, int | np.integer) or not -layers - 1 <= layer <= layers:
            raise ValueError(f"layer must be from {-layers - 1} to {layers}, since the model has {layers}; got {layer}")
        many = _listed(texts)
        states = list(hidden_states(self.backbone, self._tokenizer(), many, layer, batch_size))
        if pooling:
            states = [state.mean(axis=0) for state in states]
        if isinstance(texts, str):
            return states[0]
        if not pooling:
            return states
        return np.stack(states) if states else np.zeros((0, self.backbone.config.hidden_dim), self.backbone.dtype)

    # --- the model itself ---------------------------------------------------------------------------------------

    def save_to_preset(self, directory: str | os.PathLike[str], *, dtype: str = "float32") -> None:
        """Writes a Hugging Face directory that `from_preset` and transformers load.

        All of it or nothing: an interrupted save leaves what was there before.

        Args:
            directory: made, or replaced where it holds a preset.
            dtype: the weights are stored in it: `"float32"`, `"float16"` or `"float64"`.

        Raises:
            ValueError: where the directory holds something else than a preset.
        """
        tokenizer = self.preprocessor.tokenizer if self.preprocessor else None
        settings = self.preprocessor.get_config() if self.preprocessor else None
        hf.write(os.fspath(directory), self.backbone.config, self.backbone.params, tokenizer, dtype, settings)

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
        for metric in self._metrics:
            metric.reset()
        logs: dict[str, float] = {}
        steps = masked = 0
        for group in islice(groups, steps_per_epoch):
            told.on_train_batch_begin(steps)
            logs = self._update(group)
            told.on_train_batch_end(steps, {**logs, "tokens": sum(batch.num_tokens for batch in group)})
            steps += 1
            masked += sum(len(batch.masked) for batch in group)
            if self.stop_training:
                return logs
        if steps < (steps_per_epoch or 1):
            raise ValueError(
                f"the examples ran out after {steps} steps of epoch {epoch + 1}"
                + (f", before steps_per_epoch={steps_per_epoch}" if steps_per_epoch else "")
                + ". An iterator gives its items once: pass a list, or fewer steps and epochs"
            )
        if not masked:
            raise ValueError(NOTHING_MASKED)
        return logs

    def _update(self, group: Sequence[Batch]) -> dict[str, float]:
        """One update from the batches of `group` taken as one; returns the metrics so far."""
        backbone, optimizer = self.backbone, self.optimizer
        if self._sums is None:
            self._sums = backbone.params.zeros_like()
        names = backbone.trainable_names()
        grads = Gradients(self._sums, names)
        model = backbone.ops, backbone.prepared(changing=names), backbone.config
        step = self.seed, optimizer.iterations
        for result in compute_gradients(*model, group, grads, self.loss, *step, self._recompute):
            self._measure(result)
        with backbone.changing(names) as params:
            optimizer.apply(params, grads.sums, names, backbone.ops)
        return {metric.name: metric.result() for metric in self._metrics}

    def _evaluate(
        self, examples: Examples, batch_size: int, steps: int | None = None, told: CallbackList | None = None
    ) -> dict[str, float]:
        told = told or CallbackList([], model=self, params={})
        backbone = self.backbone
        params = backbone.prepared(changing=backbone.trainable_names())
        for metric in self._metrics:
            metric.reset()
        told.on_test_begin()
        batches = islice(examples.fixed(batch_size), steps)
        step = -1
        masked = 0
        for step, batch in enumerate(batches):
            told.on_test_batch_begin(step)
            result = evaluate_batch(backbone.ops, params, backbone.config, batch, self.loss)
            masked += len(result.labels)
            self._measure(result)
            told.on_test_batch_end(step)
        if step < 0:
            raise ValueError("there is nothing to evaluate. An iterator gives its items once: pass a list instead")
        if not masked:
            raise ValueError(NOTHING_MASKED)
        values = {metric.name: metric.result() for metric in self._metrics}
        told.on_test_end(values)
        return values

    def _measure(self, result: Result) -> None:
        for metric in self._metrics:
            metric.update(result.losses, result.predicted, result.labels, result.weights, result.denominator)

    def _need_trainable(self) -> None:
        if not self.backbone.trainable_names():
            raise ValueError(
                "every parameter is frozen: there is nothing to train. See backbone.trainable and unfreeze"
            )

    def _examples(self, x: Any, y: Any = None, sample_weight: Any = None, stream: bool = False) -> Examples:
        return InputReader(self.backbone.config, self.preprocessor).examples(x, y, sample_weight, stream)

    def _held(self, x: Any, y: Any, sample_weight: Any) -> HeldExamples:
        examples = self._examples(x, y, sample_weight)
        if not isinstance(examples, HeldExamples):
            raise ValueError("x should be one batch, not an iterable of batches")
        return examples

    def _tokenizer(self) -> Tokenizer:
        if self.preprocessor is None:
            raise ValueError("this needs a tokenizer: the model was made with preprocessor=None")
        return self.preprocessor.tokenizer

    def _slots(self, query: Mapping[str, Any] | Sequence[Array]) -> tuple[Batch, Array]:
        """Features, or the ids of texts, packed; and the rows to be predicted (B, K), -1 for none."""
        if isinstance(query, Mapping):
            config, is_token = self.backbone.config, padding_mask(query)
            batch = pack_padded(
                query["token_ids"],
                is_token,
                vocabulary_size=config.vocabulary_size,
                max_sequence_length=config.max_sequence_length,
            )
            return batch, slot_rows(query["mask_positions"], is_token)
        batch, places = pack(query), mask_places(self._tokenizer(), query)
        rows = np.full((len(batch), max(map(len, places))), -1)
        for b, where in enumerate(places):
            rows[b, : len(where)] = batch.starts[b] + where
        return batch, rows

    def _slot_logits(self, batch: Batch, rows: Array) -> Array:
        """rows (B, K), -1 for none -> (B, K, V), zeros for none."""
        is_row = rows >= 0
        if not is_row.any():  # nothing is asked: spare the walk
            return np.zeros((*rows.shape, self.backbone.config.vocabulary_size), self.backbone.params.dtype)
        return unpack(logits_at(self.backbone, batch, rows[is_row]), is_row)


def _check_fit(preprocessor: MaskedLMPreprocessor, backbone: Backbone) -> None:
    """The preprocessor makes what the model takes."""
    config, tokenizer = backbone.config, preprocessor.tokenizer
    if preprocessor.sequence_length > config.max_sequence_length:
        raise ValueError(
            f"the preprocessor makes sequences of up to {preprocessor.sequence_length} tokens, the model takes "
            f"{config.max_sequence_length}: give MaskedLMPreprocessor(sequence_length={config.max_sequence_length})"
        )
    if tokenizer.vocabulary_size > config.vocabulary_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocabulary_size} entries, the model's table {config.vocabulary_size} rows. "
            "Was it made for another model?"
        )


def _preset_preprocessor(preset: str | os.PathLike[str], backbone: Backbone) -> MaskedLMPreprocessor:
    _, _, tokenizer = load(preset, load_weights=False)
    assert tokenizer is not None  # load raises where there is none
    limit = backbone.config.max_sequence_length
    settings = {"sequence_length": min(512, limit), **preprocessor_settings(preset)}
    return MaskedLMPreprocessor(tokenizer, **settings)


def _fraction(value: float, count: int) -> float:
    """A `validation_split` that leaves something on both sides."""
    if not 0.0 < value < 1.0 or not 0 < int(count * (1.0 - value)) < count:
        raise ValueError(f"validation_split must leave texts on both sides: {value!r} of {count} texts does not")
    return value


def _as_keras(values: dict[str, float]) -> float | list[float]:
    """Keras's return value: a number where there is the loss alone, else a list."""
    return list(values.values()) if len(values) > 1 else next(iter(values.values()))


def whole_number(name: str, value: Any, at_least: int = 1, at_most: int | None = None) -> int:
    """The value as an int.

    Raises:
        ValueError: naming it, where it is no whole number or out of range.

    >>> whole_number("batch_size", 0)
    Traceback (most recent call last):
    ValueError: batch_size must be a whole number of at least 1, got 0
    """
    number = int(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) else at_least - 1
    if number < at_least or (at_most is not None and number > at_most):
        up_to = "" if at_most is None else f" and at most {at_most}"
        raise ValueError(f"{name} must be a whole number of at least {at_least}{up_to}, got {value!r}")
    return number


def _listed(texts: Any) -> list[str]:
    if isinstance(texts, bytes) or not isinstance(texts, Iterable):
        raise TypeError(f"expected a text or a list of texts, got {type(texts).__name__}")
    return [texts] if isinstance(texts, str) else list(texts)


def _of_ours(what: str, given: Any, kind: type[Ours]) -> Ours:
    if not isinstance(given, kind):
        raise TypeError(f"the {what} should be one of pyroberta's, such as {kind.__name__}; got {given!r}")
    return given


def _ceil(count: int | None, size: int) -> int | None:
    """How many groups of `size` make up `count`."""
    return None if count is None else -(-count // size)


def _summary(model: MaskedLM) -> str:
    """The model's parts, a line each."""
    config, params = model.backbone.config, model.backbone.params
    trainable = set(model.backbone.trainable_names())
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
        f"MaskedLM: {config.num_layers} layers, hidden {config.hidden_dim}, {config.num_heads} heads, "
        f"feed-forward {config.intermediate_dim}, vocabulary {config.vocabulary_size}, "
        f"up to {config.max_sequence_length} tokens; {params.dtype.name}, backend {model.backbone.ops.name}",
        f"{'part':<14}{'parameters':>14}{'trainable':>14}",
        *(f"{part:<14}{count:>14,}{moving:>14,}" for part, count, moving in rows),
    ]
    return "\n".join(lines)
