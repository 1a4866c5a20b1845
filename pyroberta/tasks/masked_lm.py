"""RoBERTa's masked language model as users' object: it takes texts and returns texts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, overload

import numpy as np
from numpy import ndarray as Array

from pyroberta.data.inputs import MaskedLMInputs, check_features, padding_mask
from pyroberta.data.kinds import Wanted
from pyroberta.data.sources import OF_OPEN_SOURCE, Source, is_one_text, open_given, wanted_of
from pyroberta.formats.budget import shown
from pyroberta.model.attributes import Reasons, whole_number
from pyroberta.model.batch import Batch, pack, pack_padded, slot_rows, unpack
from pyroberta.model.callers import callers_level
from pyroberta.model.hints import hinting
from pyroberta.tasks.backbone import Backbone
from pyroberta.tasks.inference import (
    RULES,
    SeveralTexts,
    Target,
    TextScore,
    fill_masks,
    hidden_states,
    logits_at,
    mask_places,
    score_texts,
)  # fmt: skip
from pyroberta.tasks.normalization import Normalization, check_method
from pyroberta.tasks.task import ELSEWHERE, Task
from pyroberta.text.given import opened
from pyroberta.text.long_texts import LongTexts, check_long_texts
from pyroberta.text.preprocessor import MaskedLMPreprocessor, plain_texts
from pyroberta.training import losses

NO_MASKED_TOKENS = (
    "no token of the examples could be masked: the texts are empty or have only special tokens, or every weight is 0"
)


class MaskedLM(Task):
    """RoBERTa with its masked-LM head. The class corresponds to `keras_hub.models.RobertaMaskedLM`.

    Args:
        backbone: the encoder. Its vector holds the head's parameters too.
        preprocessor: the preprocessor that tokenises, truncates and masks texts. None for a model that takes
            preprocessed features only.
        seed: the seed of all random choices in training: the order of examples, masks, dropout. The same seed, data and
            calls give the same model.
        name, compile: see `Task`.

    See `Task` for the attributes, and for the methods that all tasks have.

    >>> masked_lm = MaskedLM.from_preset("roberta_tiny_en")
    >>> history = masked_lm.fit(["The quick brown fox jumped.", "I forgot my homework."], batch_size=2, verbose=0)
    >>> sorted(history.history)
    ['accuracy', 'loss', 'perplexity']
    """

    head = "masked_lm"
    elsewhere = ELSEWHERE | {
        **dict.fromkeys(("encode", "transform"), "embed(texts) returns a vector for each text"),
        "generate": "fill_mask(texts) finds the words for each <mask>",
        "predict_proba": "fill_mask(texts) returns the probabilities of words",
        "classify": "it is a method of TextClassifier",
    }
    preprocessor_kind = MaskedLMPreprocessor
    reader_kind = MaskedLMInputs
    default_metrics = ("accuracy", "perplexity")
    output_axes = 3  # (B, K, V)
    takes_metrics = False
    zero_weights_message = NO_MASKED_TOKENS
    unsettable: ClassVar[Reasons] = {
        "labels": "a masked LM has no classes",
        "masked_lm_head": "its parameters change within `with backbone.changing() as params`",
    }

    def __init__(
        self,
        backbone: Backbone,
        preprocessor: MaskedLMPreprocessor | None = None,
        *,
        seed: int = 0,
        name: str | None = None,
        compile: bool = True,
    ) -> None:
        super().__init__(backbone, preprocessor, seed=seed, name=name, compile=compile)

    @classmethod
    def _made(cls, backbone: Backbone, preprocessor: Any, seed: int, **arguments: Any) -> MaskedLM:
        return cls(backbone, preprocessor, seed=seed, **arguments)

    def __call__(self, inputs: Mapping[str, Any]) -> Array:
        """Logits at the masked positions of preprocessed features.

        Args:
            inputs: `token_ids` (B, S), `padding_mask` (B, S), `mask_positions` (B, K).

        Returns:
            (B, K, V) in the model's dtype, zeros for a position that holds padding.

        Raises:
            TypeError, ValueError: if inputs is not a dict of these features, or a shape, an id or a position does not
                fit. The message names it.
        """
        check_features(inputs)
        return self._slot_logits(*self._slots(inputs))

    @hinting(**OF_OPEN_SOURCE)
    def fill_mask(
        self,
        texts: Any,
        top_k: int = 5,
        targets: Target | Sequence[Target] | None = None,
        *,
        long_texts: str = "refuse",
        batch_size: int | None = None,
        column: str | None = None,
        per_line: bool = True,
        verbose: int | str = "auto",
    ) -> list[Any]:
        """Returns the most likely words for every `<mask>`.

        Args:
            texts: one text or several, as in `fit`. Each has at least one `<mask>`. A string is one text.
            top_k: the largest number of candidates for each mask. A row of the token embedding for which the tokenizer
                has no token is not a candidate.
            targets: the only candidates. Write a word without a space: the space before the mask belongs to the word.
                If the string is also the `token_str` of a token without that space, such as `"."`, the more likely one
                of the two counts. The id of a token, or a tuple of ids, stands for these tokens. A target of n tokens
                is put in place of n masks, and its score is the product of the probabilities of its tokens. Targets
                with the same tokens are one candidate.
            long_texts: `"refuse"` raises an error for a text that is too long; `"cut"` cuts it, and raises one only if
                a mask would be lost.
            batch_size: the largest number of masked texts in a batch. See `score` for the division into batches.
            column: the column of the texts in a table, in records or in a file, as in `fit`.
            per_line: whether each line of a text file is a text, as in `fit`. If False, each file is one text, and a
                string is a path.
            verbose: see `score`.

        Returns:
            For one text with one mask, a list of `Filling`s, the most likely first. For one text with several masks, a
            list of such lists. For a list of texts, a list of the results of all texts.

        Raises:
            TypeError, ValueError: if a text has no mask or is longer than the model takes, targets is empty, an id has
                no token, or `top_k` is below 1.

        Warns:
            UserWarning: once, if texts were cut, and once if texts have a mask in another model's form too, such as
                `[MASK]`, which is read as text. The messages have the counts.

        >>> masked_lm = MaskedLM.from_preset("roberta_tiny_en")
        >>> masked_lm.fill_mask("The President of the United <mask> spoke to Congress.", top_k=1)[0].token_str
        ' States'
        """
        batch_size, top_k = _most(batch_size), whole_number("top_k", top_k)
        if targets is not None:
            is_one = isinstance(targets, str | bytes) or not isinstance(targets, Iterable)
            targets = [targets] if is_one else list(opened(targets, "targets"))  # type: ignore[list-item]
        source, many, is_single = _read(texts, wanted_of(column, per_line=per_line), verbose)
        long = self._long_texts(long_texts, "fill_mask returns an answer for every mask", source.place)
        long.kept_id = self._tokenizer().mask_token_id
        found = fill_masks(self.backbone, self._tokenizer(), many, top_k, targets, long, batch_size, verbose)
        flat = [masks[0] if len(masks) == 1 else masks for masks in found]
        return flat[0] if is_single else flat

    @overload
    def score(
        self, texts: str, *, rule: str = ..., long_texts: str = ..., batch_size: int | None = ...,
        column: None = ..., per_line: Literal[True] = ..., verbose: int | str = ...,
    ) -> TextScore: ...  # fmt: skip
    @overload
    def score(
        self, texts: SeveralTexts, *, rule: str = ..., long_texts: str = ..., batch_size: int | None = ...,
        column: str | None = ..., per_line: bool = ..., verbose: int | str = ...,
    ) -> list[TextScore]: ...  # fmt: skip
    @overload
    def score(
        self, texts: Any, *, rule: str = ..., long_texts: str = ..., batch_size: int | None = ...,
        column: str, per_line: bool = ..., verbose: int | str = ...,
    ) -> list[TextScore]: ...  # fmt: skip
    @overload
    def score(
        self, texts: Any, *, rule: str = ..., long_texts: str = ..., batch_size: int | None = ...,
        column: str | None = ..., per_line: Literal[False], verbose: int | str = ...,
    ) -> list[TextScore]: ...  # fmt: skip
    @overload
    def score(
        self, texts: Any, *, rule: str = ..., long_texts: str = ..., batch_size: int | None = ...,
        column: str | None = ..., per_line: bool = ..., verbose: int | str = ...,
    ) -> Any: ...  # fmt: skip
    @hinting(**OF_OPEN_SOURCE)
    def score(
        self,
        texts: Any,
        *,
        rule: str = "original",
        long_texts: str = "refuse",
        batch_size: int | None = None,
        column: str | None = None,
        per_line: bool = True,
        verbose: int | str = "auto",
    ) -> Any:
        """Returns pseudo-log-likelihoods: the log probability of each token, given the others.

        Each token is masked in turn, so a text of n tokens needs n sequences, its masked copies. The copies of all
        texts are packed into batches of up to 2048 tokens. A longer sequence is a batch by itself. A batch is made when
        it is needed, so the memory does not grow with the number of texts. The other texts of a batch change a score
        only by rounding.

        The tokens of a word with several tokens are easy to guess from each other. So under the original rule a rare
        word may score better than a common one. The rule `"within_word_l2r"` avoids this by masking the later tokens of
        the word too.

        Args:
            texts: one text or several; a column, a table, a path or an open file, as in `fit`.
            rule: `"original"` masks only the token itself (Salazar et al. 2020, arXiv:1910.14659). `"within_word_l2r"`
                masks the later tokens of the same word too (Kauf and Ivanova 2023, arXiv:2305.10588). Words are those
                of `Tokenizer.word_ids`. If a word is split between two windows, each part counts as a word.
            long_texts: the treatment of a text that is too long. `"refuse"` raises an error. `"cut"` cuts the text.
                `"split"` makes windows of as many tokens as the model takes, which do not overlap; the score of the
                text is the sum of the scores of its windows.
            batch_size: the largest number of masked copies in a batch, to use less memory. None means as many as have
                2048 tokens together.
            column: the column of the texts in a table, in records or in a file, as in `fit`.
            per_line: whether each line of a text file is a text, as in `fit`. If False, each file is one text, and a
                string is a path.
            verbose: 0 prints nothing, 1 a progress bar, 2 a line at the end. `"auto"` is 1 if there are several
                batches, else 0.

        Returns:
            A `TextScore`, or a list of them for a list of texts.

        Raises:
            ValueError: if the rule is unknown, or a text is longer than the model takes. It is raised before anything
                is computed.

        Warns:
            UserWarning: once, if texts were split or cut, and once if texts have no tokens. The message has the counts.

        >>> masked_lm = MaskedLM.from_preset("roberta_tiny_en")
        >>> likely, unlikely = masked_lm.score(["The old man went to the house.", "House the to went man old the."])
        >>> likely.perplexity < unlikely.perplexity
        True
        >>> rare = "The Tyrannosaurus slept."
        >>> masked_lm.score(rare).total > masked_lm.score(rare, rule="within_word_l2r").total
        True
        """
        if not isinstance(rule, str) or rule not in RULES:
            raise ValueError(f"rule must be 'original' or 'within_word_l2r', got {shown(rule)}")
        source, many, is_single = _read(texts, wanted_of(column, per_line=per_line), verbose)
        long = self._long_texts(long_texts, place=source.place)
        found = score_texts(self.backbone, self._tokenizer(), many, rule, long, _most(batch_size), verbose)
        return found[0] if is_single else found

    @overload
    def embed(
        self, texts: Any, *, layer: int = ..., pooling: Literal["mean"] = ..., normalize: Normalization | None = ...,
        long_texts: str = ..., batch_size: int | None = ..., column: str | None = ..., per_line: bool = ...,
        verbose: int | str = ...,
    ) -> Array: ...  # fmt: skip
    @overload
    def embed(
        self, texts: str, *, layer: int = ..., pooling: None, normalize: Normalization | None = ...,
        long_texts: str = ..., batch_size: int | None = ..., column: None = ...,
        per_line: Literal[True] = ..., verbose: int | str = ...,
    ) -> Array: ...  # fmt: skip
    @overload
    def embed(
        self, texts: SeveralTexts, *, layer: int = ..., pooling: None, normalize: Normalization | None = ...,
        long_texts: str = ..., batch_size: int | None = ..., column: str | None = ..., per_line: bool = ...,
        verbose: int | str = ...,
    ) -> list[Array]: ...  # fmt: skip
    @overload
    def embed(
        self, texts: Any, *, layer: int = ..., pooling: None, normalize: Normalization | None = ...,
        long_texts: str = ..., batch_size: int | None = ..., column: str, per_line: bool = ...,
        verbose: int | str = ...,
    ) -> list[Array]: ...  # fmt: skip
    @overload
    def embed(
        self, texts: Any, *, layer: int = ..., pooling: None, normalize: Normalization | None = ...,
        long_texts: str = ..., batch_size: int | None = ..., column: str | None = ..., per_line: Literal[False],
        verbose: int | str = ...,
    ) -> list[Array]: ...  # fmt: skip
    @overload
    def embed(
        self, texts: Any, *, layer: int = ..., pooling: str | None, normalize: Normalization | None = ...,
        long_texts: str = ..., batch_size: int | None = ..., column: str | None = ..., per_line: bool = ...,
        verbose: int | str = ...,
    ) -> Any: ...  # fmt: skip
    @hinting(**OF_OPEN_SOURCE)
    def embed(
        self,
        texts: Any,
        *,
        layer: int = -1,
        pooling: str | None = "mean",
        normalize: Normalization | None = None,
        long_texts: str = "refuse",
        batch_size: int | None = None,
        column: str | None = None,
        per_line: bool = True,
        verbose: int | str = "auto",
    ) -> Any:
        """Returns the hidden states of texts, or their means.

        The cosine of the embeddings of two texts is large on average (0.86 for random texts and the embedded preset),
        since all hidden states have a large part in common. Compare cosines with each other, or pass `normalize`.

        Args:
            texts: one text or several; a column, a table, a path or an open file, as in `fit`.
            layer: the layer whose output is returned. 0 is the output of the embeddings, i that of layer i, -1 the last
                one.
            pooling: `"mean"` for the mean over all tokens, including `<s>` and `</s>`. None for the hidden states of
                every token.
            normalize: a `Normalization` that `fit_normalization` fitted for the same layer. It maps each embedding
                separately.
            long_texts: see `score`. The mean of a split text is taken over the tokens of all its windows. Without
                pooling a text can't be split.
            batch_size: the largest number of texts in a batch. See `score` for the division into batches.
            column: the column of the texts in a table, in records or in a file, as in `fit`.
            per_line: whether each line of a text file is a text, as in `fit`. If False, each file is one text, and a
                string is a path.
            verbose: see `score`.

        Returns:
            An array (B, C), or (C,) for one text. Without pooling, a list of arrays (S, C), or one such array for one
            text. If `normalize` whitens, the last axis has its number of dimensions.

        Raises:
            ValueError: if a text is longer than the model takes, or an argument is out of range. It is raised before
                anything is computed.

        Warns:
            UserWarning: once, if texts were split or cut (the message has the counts), and if `normalize` was fitted on
                another model or before this one was trained.
        """
        if pooling not in ("mean", None):
            raise ValueError(f"pooling must be 'mean' or None, got {pooling!r}")
        batch_size, layer = _most(batch_size), self._layer(layer)
        if normalize is not None:
            _check_normalization(normalize, layer, pooling)
            normalize(np.zeros((0, self.backbone.config.hidden_dim)))  # refuses another width
            if not normalize.is_of(self._probe(layer)):
                warnings.warn(
                    f"{normalize!r} was fitted on another model, or before this one was trained, so it does not fit "
                    "these embeddings. Fit it again with fit_normalization",
                    stacklevel=callers_level(),
                )
        source, many, is_single = _read(texts, wanted_of(column, per_line=per_line), verbose)
        unsplit = "embed without pooling returns the hidden state of each token of a text" if pooling is None else ""
        long, is_pooled = self._long_texts(long_texts, unsplit, source.place), pooling is not None
        states = hidden_states(self.backbone, self._tokenizer(), many, layer, is_pooled, long, batch_size, verbose)
        if is_single:
            return states[0] if normalize is None else normalize(states[0])
        if not pooling:
            return states
        found = np.stack(states) if states else np.zeros((0, self.backbone.config.hidden_dim), self.backbone.dtype)
        return found if normalize is None else normalize(found)

    @hinting(**OF_OPEN_SOURCE)
    def fit_normalization(
        self,
        texts: Any,
        method: str,
        *,
        layer: int = -1,
        num_dimensions: int | None = None,
        long_texts: str = "refuse",
        batch_size: int | None = None,
        column: str | None = None,
        per_line: bool = True,
        verbose: int | str = "auto",
    ) -> Normalization:
        """Fits the map for `embed(..., normalize=...)` on texts. With it, the cosines of embeddings differ more
        clearly.

        The texts should be of the kind that will be compared, a thousand or more of them. The map fits the present
        model only: fit it again after training.

        Args:
            texts: the texts on which to fit.
            method: `"center"` subtracts the mean embedding. `"whiten"` also makes the variance equal in all directions.
                See `Normalization`.
            layer, long_texts, batch_size, column, per_line, verbose: see `embed`.
            num_dimensions: the number of dimensions after whitening, those with the largest variance. The default is
                all dimensions in which the embeddings vary.

        Raises:
            ValueError: see `embed`; also if the method is unknown, or there are too few texts to whiten.

        >>> masked_lm = MaskedLM.from_preset("roberta_tiny_en")
        >>> texts = ["A dog barks.", "It rains today.", "The king spoke to them.", "She reads a book."]
        >>> whiten = masked_lm.fit_normalization(texts, "whiten", num_dimensions=3)
        >>> masked_lm.embed(["A cat sleeps."], normalize=whiten).shape
        (1, 3)
        """
        options: dict[str, Any] = {
            "long_texts": long_texts,
            "batch_size": batch_size,
            "column": column,
            "per_line": per_line,
            "verbose": verbose,
        }
        check_method(method, num_dimensions)
        many = [texts] if is_one_text(texts, wanted_of(column, per_line=per_line)) else texts
        embeddings, layer = self.embed(many, layer=layer, **options), self._layer(layer)
        return Normalization.fit(embeddings, method, layer, num_dimensions, self._probe(layer))

    def _probe(self, layer: int) -> Array:
        """The embedding (C,) of the empty text, by which a model is recognised."""
        (found,) = hidden_states(self.backbone, self._tokenizer(), [""], layer, True, self._long_texts("cut"), None, 0)
        return found

    def _layer(self, layer: int) -> int:
        """The layer's number, from 0 for the embeddings' output."""
        layers = self.backbone.config.num_layers
        is_number = isinstance(layer, int | np.integer) and not isinstance(layer, bool)
        if not is_number or not -layers - 1 <= layer <= layers:
            raise ValueError(
                f"layer must be from {-layers - 1} to {layers}, since the model has {layers}; got {shown(layer)}"
            )
        return int(layer) % (layers + 1)

    def _long_texts(self, choice: str, unsplit: str = "", place: Callable[[int], str] = "text {}".format) -> LongTexts:
        """The treatment of texts that the model can't take.

        Args:
            choice: of the user.
            unsplit: why texts can't be split, if they can't.
            place: names a text by its number.
        """
        if check_long_texts(choice) == "split" and unsplit:
            raise ValueError(f"{unsplit}, so a text can't be split: pass long_texts='cut' or 'refuse', not 'split'")
        limit = self.backbone.config.max_sequence_length
        return LongTexts(choice, limit, owner="the model takes", is_asked=True, can_split=not unsplit, place=place)

    def _default_loss(self) -> losses.SparseCategoricalCrossentropy:
        return losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")

    def _predict_batch(self, inputs: Mapping[str, Any] | Sequence[Array]) -> Array:
        return self._slot_logits(*self._slots(inputs))

    def _joined(self, outputs: Sequence[Array], is_text: bool) -> Array:
        """(B, K, V), where K is the largest number of masks that a text has."""
        most = max(logits.shape[1] for logits in outputs)
        if is_text and not most:
            mask = self._tokenizer().mask_token
            raise ValueError(
                f"no text has {mask!r}, so there is nothing to predict: write {mask} instead of a word. BERT's [MASK], "
                "T5's <extra_id_0> and gaps such as ___ are not masks here"
            )
        return np.concatenate([np.pad(logits, ((0, 0), (0, most - logits.shape[1]), (0, 0))) for logits in outputs])

    def _slots(self, inputs: Mapping[str, Any] | Sequence[Array]) -> tuple[Batch, Array]:
        """A packed batch of features or of the ids of texts, and the target rows (B, K), -1 for none."""
        if isinstance(inputs, Mapping):
            config, is_token = self.backbone.config, padding_mask(inputs)
            batch = pack_padded(
                inputs["token_ids"],
                is_token,
                vocabulary_size=config.vocabulary_size,
                max_sequence_length=config.max_sequence_length,
            )
            return batch, slot_rows(inputs["mask_positions"], is_token)
        batch, places = pack(inputs), mask_places(self._tokenizer(), inputs)
        target_rows = np.full((len(batch), max(map(len, places))), -1)
        for b, where in enumerate(places):
            target_rows[b, : len(where)] = batch.starts[b] + where
        return batch, target_rows

    def _slot_logits(self, batch: Batch, target_rows: Array) -> Array:
        """target_rows (B, K), -1 for none -> (B, K, V), zeros for none."""
        is_row = target_rows >= 0
        if not is_row.any():  # no mask to predict: the model need not run
            return np.zeros((*target_rows.shape, self.backbone.config.vocabulary_size), self.backbone.params.dtype)
        return unpack(logits_at(self.backbone, batch, target_rows[is_row]), is_row)


def _check_normalization(normalize: Normalization, layer: int, pooling: str | None) -> None:
    """Checks that it is one, of that layer, and that it is given means."""
    if not isinstance(normalize, Normalization):
        raise TypeError(
            "normalize takes a Normalization, which fit_normalization(texts, 'center') or (texts, 'whiten') fits on "
            f"texts; got {normalize!r}"
        )
    if pooling is None:
        raise ValueError("normalize is fitted on means over tokens: leave out pooling=None")
    if normalize.layer != layer:
        raise ValueError(f"the normalization was fitted on layer {normalize.layer}: pass layer={normalize.layer}")


def _read(texts: Any, wanted: Wanted, verbose: int | str) -> tuple[Source, list[str], bool]:
    """What holds the texts; these; and whether they are one text."""
    is_single = is_one_text(texts, wanted)
    source = open_given([texts] if is_single else texts, wanted)
    many = plain_texts(texts if is_single else source.texts)
    source.say(verbose)
    return source, many, is_single


def _most(batch_size: int | None) -> int | None:
    """The most sequences in a batch; None where the number of tokens alone decides."""
    return None if batch_size is None else whole_number("batch_size", batch_size)
