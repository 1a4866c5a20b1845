"""RoBERTa's text classifier as users' object: it takes texts and returns labels."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, overload

import numpy as np
from numpy import ndarray as Array

from pyroberta.data.classifier_inputs import ClassifierInputs, packed_features
from pyroberta.data.inputs import InputReader, check_features
from pyroberta.data.labels import check_unicode, default_names
from pyroberta.data.sources import OF_OPEN_SOURCE, is_one_text, wanted_of
from pyroberta.formats.budget import shown
from pyroberta.model.attributes import Reasons, whole_number
from pyroberta.model.batch import pack
from pyroberta.model.heads import head_of
from pyroberta.model.hints import hinting, refuse_unknown
from pyroberta.tasks import activations
from pyroberta.tasks.activations import Activation
from pyroberta.tasks.answers import Answer
from pyroberta.tasks.backbone import FOREIGN_OPTIONS, Backbone
from pyroberta.tasks.inference import SeveralTexts, logits_at
from pyroberta.tasks.task import ELSEWHERE, FROM_PRESET, Task
from pyroberta.text.classifier_preprocessor import TextClassifierPreprocessor
from pyroberta.training import losses
from pyroberta.training.callbacks import ProgressBar


@dataclass(frozen=True)
class Classification(Answer):
    """The class that a classifier predicts for a text.

    Attributes:
        label: the number of the class.
        name: the name of the class, from `TextClassifier.labels`.
        score: the probability of the class, in [0, 1]. With `activation="sigmoid"` it is that of the class by itself.
    """

    label: int
    name: str
    score: float


class TextClassifier(Task):
    """RoBERTa with a classifier's head on `<s>`. The class corresponds to `keras_hub.models.RobertaTextClassifier`.

    Each text has one class. See `Task` for the attributes, and for the methods that all tasks have.

    Args:
        backbone: the encoder. If it has no head for `num_classes`, the classifier uses a copy of it with an untrained
            head.
        num_classes: the number of classes, at least 2. The default is the number of `labels`.
        preprocessor: the preprocessor that tokenises and truncates texts. None for a model that takes preprocessed
            features only.
        activation: the function that makes the outputs of `predict` and of a call: None or `"linear"` for logits,
            `"softmax"` for probabilities, `"log_softmax"` for their logarithms, `"sigmoid"` for a probability of each
            class by itself, or a function of logits (B, num_classes) that keeps their shape. With `"softmax"` the
            default loss is one of probabilities, `from_logits=False`; log probabilities count as logits. `"sigmoid"`
            and functions have no derivative here, so the model can't be trained or evaluated with them. Keras's
            functions of these names count as the names.
        hidden_dim: the width of the dense layer of an untrained head. The default is that of the backbone. Hugging Face
            directories can't hold another width.
        dropout: the rate before and after that layer. The default is the backbone's `dropout`, as in transformers (in
            KerasHub it is 0).
        labels: a list of the names of the classes, in their order. The default is "LABEL_0" and so on. Hugging Face
            directories keep them. They can be set to other names, but once the head is trained not to the same names in
            another order, which would swap its predictions.
        classifier_dropout: transformers' name for `dropout`.
        seed: the seed of an untrained head, and of all random choices in training: the order of examples, dropout.
        name, compile: see `Task`.

    >>> classifier = TextClassifier.from_preset("roberta_tiny_en", num_classes=2)
    >>> history = classifier.fit(["A joy to watch.", "A waste of time."], [1, 0], batch_size=2, verbose=0)
    >>> sorted(history.history)
    ['accuracy', 'loss']
    """

    head = "text_classifier"
    elsewhere = ELSEWHERE | {
        **dict.fromkeys(("id2label", "label2id", "classes_"), "labels has the classes' names, in their order"),
        "predict_proba": "classify(texts) returns probabilities; predict does so with activation='softmax'",
        "fill_mask": "it is a MaskedLM's",
        "score": "it is a method of MaskedLM; evaluate(texts, labels) returns the loss and the accuracy",
        **dict.fromkeys(
            ("embed", "encode", "transform"),
            "it is a method of MaskedLM: MaskedLM.from_preset(directory).embed(texts) returns a vector for each text",
        ),
    }
    preprocessor_kind = TextClassifierPreprocessor
    reader_kind = ClassifierInputs
    zero_weights_message = "every sample_weight is 0: there is nothing to learn"
    activation: str | Callable[[Array], Array]
    labels: list[str]  # always there, unlike those of other tasks
    unsettable: ClassVar[Reasons] = {
        "num_classes": "make another: TextClassifier(backbone, num_classes, preprocessor)",
        "dropout": "set backbone.config to dataclasses.replace(backbone.config, classifier_dropout=...)",
        "classifier_dropout": "set backbone.config to dataclasses.replace(backbone.config, classifier_dropout=...)",
        "activation": "make another with the same backbone: TextClassifier(backbone, num_classes, activation=...)",
        "hidden_dim": "make another: TextClassifier(backbone.with_head(num_classes, classifier_hidden_dim=...), ...)",
        **dict.fromkeys(
            ("output_dense", "output_dropout", "pooled_dense", "pooled_dropout"),
            "the head's parameters change within `with backbone.changing() as params`",
        ),
    }

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int | None = None,
        preprocessor: TextClassifierPreprocessor | None = None,
        activation: Activation = None,
        hidden_dim: int | None = None,
        dropout: float | None = None,
        *,
        labels: Sequence[str] | None = None,
        classifier_dropout: float | None = None,
        seed: int = 0,
        name: str | None = None,
        compile: bool = True,
    ) -> None:
        if num_classes is None:
            if labels is None:
                raise ValueError("num_classes is missing: pass the number of classes, or labels=[…], their names")
            labels = _listed(labels)
            num_classes = _number_of(labels)
        num_classes = whole_number("num_classes", num_classes, at_least=2)
        vars(self)["activation"] = activations.get(activation)
        super().__init__(
            backbone,
            preprocessor,
            num_classes,
            classifier_dropout=_rate(dropout, classifier_dropout),
            classifier_hidden_dim=None if hidden_dim is None else whole_number("hidden_dim", hidden_dim),
            seed=seed,
            name=name,
            compile=compile,
        )
        self.labels = _names(labels, num_classes)

    def _checked(self, name: str, value: Any) -> Any:
        if name == "labels":
            names = _names(value, self.num_classes)
            if (before := vars(self).get("labels")) and (
                self.backbone._has_preset_head or self.backbone._is_head_changed
            ):
                _refuse_other_order(names, before)
            return names
        if name == "loss" and isinstance(value, str) and value in losses.LOSSES:
            value = losses.LOSSES[value](from_logits=not self._gives_probabilities)
        return super()._checked(name, value)

    def _activated(self, logits: Array) -> Array:
        return activations.apply(self.activation, logits)

    @property
    def _gives_probabilities(self) -> bool:  # type: ignore[override]
        return self.activation in ("softmax", "sigmoid")

    def _need_compiled(self) -> None:
        if callable(self.activation) or self.activation == "sigmoid":
            which = "the function " * callable(self.activation) + repr(self.activation)
            why = "whose derivative is unknown" if callable(self.activation) else "whose loss has no backward here"
            raise ValueError(
                f"the activation is {which}, {why}, so the model can't be trained or evaluated: fit "
                "TextClassifier(backbone, num_classes, preprocessor) around the same backbone, which returns logits"
            )
        super()._need_compiled()

    @classmethod
    def from_preset(  # type: ignore[override]  # the base class's arguments are among the options
        cls,
        preset: str | os.PathLike[str],
        load_weights: bool = True,
        *,
        num_classes: int | None = None,
        labels: Sequence[str] | None = None,
        activation: Activation = FROM_PRESET,
        hidden_dim: int | None = None,
        dropout: float | None = None,
        classifier_dropout: float | None = None,
        preprocessor: TextClassifierPreprocessor | None = FROM_PRESET,
        seed: int | None = None,
        **options: Any,
    ) -> TextClassifier:
        """Returns a classifier with the encoder of a preset of any task.

        Args:
            preset, load_weights: see `Task.from_preset`.
            num_classes: the number of classes. None means that of the preset's head, or the number of `labels` if the
                preset is not a classifier. The preset's head is loaded if it has this number of classes. Otherwise the
                head is untrained and must be fitted.
            labels: the names of the classes. The default is those of the preset. Other names rename the classes of the
                preset's head. The same names in another order are an error, since they would swap its predictions.
            activation: see the class. The default is that of the preset if the head has the preset's shape.
            hidden_dim: see the class. The default is that of the preset. A head of another width is untrained.
            dropout: the head's rate, which replaces the preset's, as in KerasHub. Set the encoder's rate with the
                encoder: `TextClassifier(Backbone.from_preset(preset, dropout=...), num_classes, ...)`.
            classifier_dropout: transformers' name for `dropout`.
            preprocessor, seed, options: see `Task.from_preset`.

        Raises:
            ValueError, FileNotFoundError: if the preset is missing or damaged, if it is not a classifier and both
                `num_classes` and `labels` are missing, if `labels` has another number of names than there are classes,
                or the names of a trained head in another order, or if `dropout` and `classifier_dropout` differ.
        """
        known = [*inspect.signature(cls.from_preset).parameters, *inspect.signature(Task.from_preset).parameters]
        refuse_unknown(f"{cls.__name__}.from_preset", options, known, FOREIGN_OPTIONS)
        if type(load_weights) is int:
            raise TypeError(
                f"from_preset's second argument is load_weights, as in KerasHub: write num_classes={load_weights}"
            )
        rate = _rate(dropout, classifier_dropout)
        options["load_weights"] = load_weights
        opened = cls._open(preset, num_classes is not None or labels is not None, **options)
        stored_config = opened.config
        stored_classes = stored_config.num_classes if stored_config.head == cls.head else None
        if num_classes is None and stored_classes is None:
            if labels is None:
                raise ValueError(
                    f"preset {opened.name!r} is not a classifier: pass num_classes= for an untrained head, or "
                    "labels=[…], the names of its classes"
                )
            labels = _listed(labels)
            num_classes = _number_of(labels)
        elif num_classes is None and isinstance(labels, Sized) and len(labels) not in (0, stored_classes):
            raise ValueError(
                f"preset {opened.name!r} is a classifier of {stored_classes} classes, and labels has the names of "
                f"{len(labels)}. For an untrained head, pass num_classes={len(labels)} too"
            )
        classes = stored_classes if num_classes is None else num_classes
        stored_width = stored_config.classifier_hidden_dim if stored_classes else None
        options |= {
            "num_classes": classes,
            "classifier_dropout": rate,
            "classifier_hidden_dim": stored_width if hidden_dim is None else whole_number("hidden_dim", hidden_dim),
        }
        if labels is None and classes == stored_classes:
            labels = opened.labels
        if activation is FROM_PRESET:
            has_width = hidden_dim in (None, stored_width or stored_config.hidden_dim)
            activation = opened.activation if classes == stored_classes and has_width else None
        found = cls._loaded(opened, preprocessor, seed, {"labels": labels, "activation": activation}, **options)
        if found.backbone._has_preset_head:
            _refuse_other_order(found.labels, opened.labels or default_names(found.num_classes))
        return found

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        classes = self.backbone.config.num_classes
        assert classes is not None
        return classes

    @property
    def hidden_dim(self) -> int:
        """The width of the head's dense layer."""
        config = self.backbone.config
        return config.classifier_hidden_dim or config.hidden_dim

    @property
    def dropout(self) -> float:
        """The rate of the head's dropout."""
        rate = self.backbone.config.classifier_dropout
        assert rate is not None
        return rate

    def __call__(self, inputs: Mapping[str, Any]) -> Array:
        """The outputs for preprocessed features: logits, unless there is another `activation`.

        Args:
            inputs: `token_ids` (B, S), `padding_mask` (B, S).

        Returns:
            (B, num_classes) in the model's dtype.

        Raises:
            TypeError, ValueError: if inputs is not a dict of these features, a shape or an id does not fit, or a
                sequence is all padding. The message names it.
        """
        check_features(inputs, ["token_ids"])
        return activations.apply(self.activation, self._logits(inputs))

    @overload
    def classify(
        self, texts: str, *, batch_size: int = ..., long_texts: str | None = ..., column: None = ...,
        per_line: Literal[True] = ..., verbose: int | str = ...,
    ) -> Classification: ...  # fmt: skip
    @overload
    def classify(
        self, texts: SeveralTexts, *, batch_size: int = ..., long_texts: str | None = ...,
        column: str | tuple[str, ...] | None = ..., per_line: bool = ..., verbose: int | str = ...,
    ) -> list[Classification]: ...  # fmt: skip
    @overload
    def classify(
        self, texts: Any, *, batch_size: int = ..., long_texts: str | None = ..., column: str | tuple[str, ...],
        per_line: bool = ..., verbose: int | str = ...,
    ) -> list[Classification]: ...  # fmt: skip
    @overload
    def classify(
        self, texts: Any, *, batch_size: int = ..., long_texts: str | None = ...,
        column: str | tuple[str, ...] | None = ..., per_line: Literal[False], verbose: int | str = ...,
    ) -> list[Classification]: ...  # fmt: skip
    @overload
    def classify(
        self, texts: Any, *, batch_size: int = ..., long_texts: str | None = ...,
        column: str | tuple[str, ...] | None = ..., per_line: bool = ..., verbose: int | str = ...,
    ) -> Any: ...  # fmt: skip
    @hinting(
        **dict.fromkeys(
            ("top_k", "return_all_scores"),
            "predict(texts) returns all classes, as logits, or as probabilities with activation='softmax'",
        ),
        **OF_OPEN_SOURCE,
    )
    def classify(
        self,
        texts: Any,
        *,
        batch_size: int = 32,
        long_texts: str | None = None,
        column: str | tuple[str, ...] | None = None,
        per_line: bool = True,
        verbose: int | str = "auto",
    ) -> Any:
        """Returns the most likely class of each text.

        Args:
            texts: one text, or any input of `predict`.
            batch_size: the number of texts in a batch.
            long_texts: see `predict`.
            column, per_line: see `predict`.
            verbose: see `MaskedLM.score`.

        Returns:
            A `Classification` for one text, else a list of them.

        Raises:
            TypeError, ValueError: if texts is empty or holds anything but texts, or a text is refused for its length.

        Warns:
            UserWarning: once, if texts were cut. The message has the counts.

        >>> classifier = TextClassifier.from_preset("roberta_tiny_en", num_classes=2, labels=["bad", "good"])
        >>> classifier.classify("A joy to watch.").name in classifier.labels
        True
        """
        bar = ProgressBar(verbose)
        reader = self._reader(long_texts, is_prediction=True)
        batch_size = whole_number("batch_size", batch_size)
        wanted = wanted_of(column, per_line=per_line)
        batches, count = reader.prediction_batches(texts, batch_size, wanted=wanted)
        reader.say(bar.verbose)
        if verbose == "auto" and count is not None and count < 2:
            bar = ProgressBar(0)
        outputs = []
        with bar.counting("classify", count) as advance:
            for inputs in batches:
                outputs.append(self._logits(inputs))
                advance(None)
        reader.warn()  # what was read as it came
        if not outputs:
            raise ValueError("texts is empty: there is nothing to classify")
        logits = np.concatenate(outputs)
        probabilities = activations.apply("sigmoid" if self.activation == "sigmoid" else "softmax", logits)
        found = [
            Classification(int(i), self.labels[int(i)], float(row[i]))
            for row, i in zip(probabilities, logits.argmax(axis=1), strict=True)
        ]
        return found[0] if is_one_text(texts, wanted) else found

    @classmethod
    def _made(cls, backbone: Backbone, preprocessor: Any, seed: int, **arguments: Any) -> TextClassifier:
        assert backbone.config.num_classes is not None
        return cls(backbone, backbone.config.num_classes, preprocessor, seed=seed, **arguments)

    def _take_names(self, reader: InputReader) -> None:
        if reader.new_names is not None:
            self.labels = reader.new_names

    def _default_loss(self) -> losses.SparseCategoricalCrossentropy:
        return losses.SparseCategoricalCrossentropy(from_logits=not self._gives_probabilities)

    def _predict_batch(self, inputs: Mapping[str, Any] | Sequence[Array]) -> Array:
        return activations.apply(self.activation, self._logits(inputs))

    def _joined(self, outputs: Sequence[Array], is_text: bool) -> Array:
        return np.concatenate(outputs)

    def _logits(self, inputs: Mapping[str, Any] | Sequence[Array]) -> Array:
        """The logits (B, num_classes) of features or of the ids of texts, read at each sequence's first row."""
        config = self.backbone.config
        batch = packed_features(inputs, config) if isinstance(inputs, Mapping) else pack(inputs)
        return logits_at(self.backbone, batch, head_of(config).target_rows(batch))

    def _saved_activation(self) -> str:
        if isinstance(self.activation, str):
            return self.activation
        raise ValueError(
            f"the activation is the function {self.activation!r}, which can't be written into a file: save "
            "TextClassifier(backbone, num_classes, preprocessor) around the same backbone, and pass activation= again "
            "when you load it"
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the config of `Task.get_config`, with `num_classes`, `activation`, `hidden_dim` and `dropout`.

        Raises:
            ValueError: if the activation is a function.
        """
        arguments = {
            "num_classes": self.num_classes,
            "activation": self._saved_activation(),
            "hidden_dim": self.hidden_dim,
            "dropout": self.dropout,
        }
        labels = {} if self.labels == _names(None, self.num_classes) else {"labels": self.labels}
        return super().get_config() | arguments | labels


def _rate(dropout: float | None, classifier_dropout: float | None) -> float | None:
    """The head's rate, which has two names."""
    if dropout is not None and classifier_dropout not in (None, dropout):
        raise ValueError(
            f"dropout and classifier_dropout are two names of the head's rate; got {dropout!r} and "
            f"{classifier_dropout!r}. To set the encoder's rate use Backbone.from_preset(..., dropout=...)"
        )
    return classifier_dropout if dropout is None else dropout


def _listed(labels: Any) -> Any:
    """The names of an iterator as a list; other labels as they are."""
    return list(labels) if isinstance(labels, Iterator) else labels


def _number_of(labels: Any) -> int:
    """The number of classes, which labels alone give.

    Raises:
        ValueError: if there are not two names at least.
    """
    if not isinstance(labels, Sized) or isinstance(labels, str | bytes) or len(labels) < 2:
        raise ValueError(
            "labels should be a list of the names of at least two classes, in their order, where num_classes is "
            f"missing; got {shown(labels)}"
        )
    return len(labels)


def _refuse_other_order(names: Sequence[str], order: Sequence[str]) -> None:
    """Checks that the new names of a trained head's classes are not its own in another order.

    Raises:
        ValueError: if they are the same names in another order.
    """
    if names != order and set(names) == set(order):
        raise ValueError(
            "labels has the names of the trained head's classes in another order, which would swap its predictions. "
            f"The head gives them in the order {shown(list(order))}; got {shown(list(names))}: leave labels out. If "
            "the names themselves are wrong, make the classifier again around the loaded backbone, "
            "TextClassifier(classifier.backbone, labels=[…], preprocessor=classifier.preprocessor)"
        )


def _names(labels: Any, num_classes: int) -> list[str]:
    """The names of the classes, checked, or default names."""
    if labels is None:
        return default_names(num_classes)
    hint = ""
    if isinstance(labels, Mapping):
        is_by_name = all(isinstance(name, str) for name in labels)
        hint = ". Pass a list: " + (
            "sorted(labels, key=labels.get)" if is_by_name else "[labels[i] for i in range(len(labels))]"
        )
    elif isinstance(labels, AbstractSet):
        hint = ". A set has no order. Pass a list: sorted(labels)"
    elif isinstance(labels, Iterable) and not isinstance(labels, str | bytes):
        names = [str(name) if isinstance(name, str) else name for name in labels]  # NumPy's strings too
        if all(isinstance(name, str) for name in names) and len(set(names)) == len(names) == num_classes:
            check_unicode(names)
            return names
        labels = names
    raise ValueError(
        f"labels should be {num_classes} different names, one for each class in their order; got {shown(labels)}{hint}"
    )
