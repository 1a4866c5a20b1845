"""Traces a model: all values and gradients of some updates, by name, for the comparison with another implementation.

    golden = trace(model, texts)
    golden["layers.3.attention.probabilities.0"]        a value of forward
    golden["d.layers.3.attention.scores.0"]             its gradient
    golden["gradients.layers.3.attention.query.bias"]   the gradient of a parameter before clipping

An ops table notes every call: the op, its place in the model, and its arguments. The place is the common beginning of
the names of the parameters in the call. For an op without parameters, it follows from the op before. The values inside
an op come from the plain ops (`oracle/plain.py`). The op's own result is passed on. All rows of the last layer are
computed, even those that no loss uses.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from pyroberta.data.examples import HeldExamples, numbered
from pyroberta.formats.budget import type_of
from pyroberta.model.attributes import whole_number
from pyroberta.model.batch import Batch, take
from pyroberta.model.config import RobertaConfig
from pyroberta.model.gradients import HEAD, depth
from pyroberta.model.parameters import Arrays
from pyroberta.ops import REFERENCE, Key, Ops
from pyroberta.oracle import bounds, meanings
from pyroberta.oracle.call_bounds import CallBounds
from pyroberta.oracle.golden import Entry, Sink, Trace
from pyroberta.oracle.plain import PLAIN, Values
from pyroberta.tasks.task import Task
from pyroberta.text.masking import number_words, token_draws
from pyroberta.text.preprocessor import MaskedLMPreprocessor
from pyroberta.training.losses import SparseCategoricalCrossentropy
from pyroberta.training.optimizers import CLIPS, Optimizer
from pyroberta.training.state import TrainState
from pyroberta.training.step import Trained, compute_gradients, sum_of_weights

OF_INPUTS = {"cross_entropy": ("h", "bias")}  # what a backward without parameters gives, where it is not the first
# What an op's result is called, where it isn't `output`.
RESULTS = {"attention": "context", "cross_entropy": "losses"}


OF_MASKING = (
    "mask_selection_rate", "mask_selection_length", "mask_token_rate", "random_token_rate", "count", "whole_words",
)  # fmt: skip


class _Call(NamedTuple):
    """What the model holds in place of a cache: the call that made it."""

    op: str
    place: str
    arguments: Sequence[Any]
    inputs: Mapping[str, str]
    cache: Any


@dataclass(frozen=True)
class Masking:
    """The masking of the parts of an update, with all data that is needed to repeat it.

    Attributes:
        key: the key of the random numbers.
        ordinary: (V',) the ids that a random token may have.
        settings: the rates and other settings of the masking rule, and the id of `<mask>`.
        parts: for each part, the ids before masking (N,), the words (N,) (see `words_of`), and the random numbers (N,
            3).
    """

    key: Key
    ordinary: Array
    settings: Mapping[str, Any]
    parts: Sequence[tuple[Array, Array, Array]]

    @classmethod
    def of(cls, preprocessor: MaskedLMPreprocessor, key: Key, parts: Sequence[Batch]) -> Masking:
        """Returns the masking of a preprocessor.

        Args:
            preprocessor: the preprocessor.
            key: the key of the random numbers.
            parts: the batches before masking.
        """
        settings = {of: getattr(preprocessor, of) for of in OF_MASKING}
        settings["mask_id"] = preprocessor.tokenizer.mask_token_id
        found = [
            (part.ids, words_of(preprocessor, part), token_draws(key, part.starts, part.numbers)) for part in parts
        ]
        return cls(key, preprocessor.tokenizer.ordinary_ids, settings, found)


def words_of(preprocessor: MaskedLMPreprocessor, batch: Batch) -> Array:
    """Returns the number of each token's word, (N,) int32, or -1 for a token that may not be selected.

    Every token is its own word, unless the preprocessor selects whole words.
    """
    rows = np.flatnonzero(~preprocessor.tokenizer.is_special[batch.ids])
    words = np.full(batch.num_tokens, -1, np.int32)
    words[rows] = np.arange(len(rows))
    if preprocessor.whole_words:
        owners = np.repeat(np.arange(len(batch)), np.diff(batch.starts))[rows]
        edges, limit = preprocessor._word_edges, preprocessor.mask_selection_length
        words[rows] = number_words(batch.ids, rows, owners, *edges, limit)
    return words


class Tracer:
    """Wraps an ops table so that every call is noted in a trace.

    Args:
        into: the trace, or another `Sink`.
        params: the parameters of the model. Their names give the places of ops.
        precision: the arithmetic, or the name of its precision, whose bounds are noted too; None for no bounds.
    """

    def __init__(self, into: Sink, params: Arrays, precision: str | bounds.Arithmetic | None = None) -> None:
        self.into, self.step = into, 0
        self._arithmetic = bounds.Arithmetic(precision) if isinstance(precision, str) else precision
        self._names = {id(params[name]): name for name in params}
        self._alive: dict[int, weakref.ref[Array]] = {}  # an array's name goes with it, since another may get its id
        self._params = frozenset(params)
        self._place = ""
        self._seen: dict[str, int] = {}
        self.contributions: dict[str, list[str]] = {}  # parameter -> the tensors whose sum its gradient is
        self._calls: CallBounds | None = None
        self._trainable: frozenset[str] = self._params

    def bound_all(self, trainable: Collection[str]) -> None:
        """Turns on the bounds of sums and updates, and of ops whose backward is not needed because nothing below them
        is trained. The settings of the trace must be set before.
        """
        self._trainable = frozenset(trainable)
        if self._arithmetic:
            self._calls = CallBounds(self._arithmetic, self.into.settings)

    def ops_table(self, ops: Ops = REFERENCE) -> Ops:
        """Returns the table with each row wrapped."""
        return replace(ops.wrapped(self._watched), prepare=REFERENCE.prepare)

    def begin(self, step: int) -> None:
        """Begins the update with the given number. The counts of places begin again."""
        self.step, self._seen, self.contributions = step, {}, {}

    def _watched(self, name: str, row: Callable[..., Any]) -> Callable[..., Any]:
        if name.endswith("_forward"):
            return self._forward(name.removesuffix("_forward"), row)
        if name.endswith(("_backward", "_backward_input")):
            return self._backward(row, is_input=name.endswith("_input"))
        if name == "add":
            return self._sum(row)
        return row

    def _forward(self, op: str, row: Callable[..., Any]) -> Callable[..., Any]:
        plain = PLAIN[op]

        def call(*arguments: Any) -> Any:
            place, inputs = self._placed(op, arguments)
            value, cache = row(*arguments)
            result = value[0] if isinstance(value, tuple) else value
            self._note(op, place, "", {**plain.forward(*arguments), "output": result}, arguments, inputs)
            if self._calls and not self._has_backward(op, place):
                self._note_bounds(self._calls.run, op, place, arguments, np.zeros(result.shape), is_forward=True)
            self._remember(result, f"{place}.{_result(op)}")
            return value, _Call(op, place, arguments, inputs, cache)

        return call

    def _backward(self, row: Callable[..., Any], *, is_input: bool) -> Callable[..., Any]:
        def call(dy: Array, noted: _Call) -> Any:
            op, place, arguments, inputs, cache = noted
            plain = PLAIN[op]
            source = {"dy": self._names[id(dy)]} if id(dy) in self._names else {}
            if op == "cross_entropy":
                source = {
                    "weights": f"{inputs['labels'].rpartition('.')[0]}.weights",
                    "denominator": "loss.denominator",
                }
            self._note(op, place, "d.", {"output": dy}, arguments, source)
            if op == "cross_entropy":
                name = f"d.{place}.{_result(op)}"
                self.note_bounds({name: Entry(op, place, "output", inputs=source)}, {}, {"output": dy})
            inputs = {**inputs, "dy": f"d.{place}.{_result(op)}"}
            gradients = plain.backward(dy, arguments, plain.forward(*arguments))
            found = row(dy, cache)
            results = found if isinstance(found, tuple) else (found,)
            of_results = OF_INPUTS.get(op, plain.gradients[:1]) if is_input else plain.gradients
            made = dict(zip(of_results, results, strict=True))
            gradients |= made
            # What is added up later, inside the row that adds it up, is no array that passes.
            gradients = {of: value for of, value in gradients.items() if isinstance(value, np.ndarray | list)}
            self._note(op, place, "d.", gradients, arguments, inputs)
            if self._arithmetic:
                self._note_bounds(self._arithmetic, op, place, arguments, dy)
            for of in gradients:
                if inputs.get(of) in self._params:
                    self.contributions.setdefault(inputs[of], []).append(f"d.{place}.{of}")
            for of, value in made.items():
                self._remember(value, f"d.{place}.{of}")
            return found

        return call

    def _has_backward(self, op: str, place: str) -> bool:
        """Whether backward comes through a call, on the way to what is trained."""
        if op == "embedding":
            return not self._trainable.isdisjoint(["embeddings.token", "embeddings.position"])
        lowest = min(map(depth, self._trainable), default=HEAD)
        at = depth(f"{place}.")
        return at > lowest if op == "gather" else at >= lowest

    def _sum(self, row: Callable[..., Any]) -> Callable[..., Any]:
        def call(x: Any, y: Any) -> Any:
            total = row(x, y)
            if isinstance(total, np.ndarray) and total.ndim:
                terms = {of: self._names[id(term)] for of, term in (("x", x), ("y", y)) if id(term) in self._names}
                y_name = terms.get("y", self._place)
                name = self._once(f"{y_name}.added")
                place = y_name.removeprefix("d.").rpartition(".")[0] if "y" in terms else self._place
                page = meanings.USED_TWICE if name.startswith("d.") else "ops/low_rank.md"
                entry = Entry("add", place, "output", "x + y", page, terms, step=self.step)
                self.note(name, total, entry)
                self.note_bounds({name: entry}, {"x": x, "y": y})
                self._remember(total, name)
            return total

        return call

    def _placed(self, op: str, arguments: Sequence[Any]) -> tuple[str, Mapping[str, str]]:
        """The place of a call, and the names of what it was called with."""
        named = {
            of: self._names[id(argument)]
            for of, argument in zip(PLAIN[op].arguments, arguments, strict=False)
            if id(argument) in self._names
        }
        param_names = [named[of] for of in PLAIN[op].arguments if named.get(of) in self._params]
        if op == "cross_entropy":
            place = "loss"
        elif op == "feed_forward" and param_names:
            place = param_names[0].split(".feed_forward.")[0] + ".feed_forward"
        elif op == "embedding" and param_names:
            place = "embeddings"
        elif op == "low_rank" and param_names:
            place = param_names[0].rpartition(".")[0] + ".lora"
        elif param_names:
            place = param_names[0].rpartition(".")[0]
        elif op == "attention":
            place = self._place.split(".attention.")[0] + ".attention"
        else:
            place = f"{self._place.split('.')[0]}.{op}" if op != "gather" else "head.target_rows"
        self._place = place if param_names or op == "gather" else self._place
        return self._once(place), named

    def _once(self, name: str) -> str:
        """The name, with a number from the second time on."""
        count = self._seen[name] = self._seen.get(name, 0) + 1
        return name if count == 1 else f"{name}_{count}"

    def know(self, array: Array, name: str) -> None:
        """Sets the name of an array that is an argument of ops. The array must live as long as the trace."""
        self._names[id(array)] = name

    def _remember(self, array: Any, name: str) -> None:
        """Tells the name of an op's result; the later, of what is passed on as it is, as by dropout at a rate of 0."""
        number = id(array)
        if number in self._alive:
            self._names[number] = name
        if not isinstance(array, np.ndarray) or number in self._names:
            return

        def forget(_: Any) -> None:
            self._names.pop(number, None)
            self._alive.pop(number, None)

        self._names[number], self._alive[number] = name, weakref.ref(array, forget)

    def _note(
        self,
        op: str,
        place: str,
        prefix: str,
        values: Values,
        arguments: Sequence[Any],
        inputs: Mapping[str, str],
    ) -> None:
        formulas: Mapping[str, str] = PLAIN[op].formulas
        if prefix:
            of_result = "weights / denominator, 0 where that is 0" if op == "cross_entropy" else "dy"
            formulas = {**PLAIN[op].gradient_formulas, "output": of_result}
        numbers = {
            of: value
            for of, value in zip(PLAIN[op].arguments, arguments, strict=False)
            if isinstance(value, int | float | tuple)
        }
        for of, value in values.items():
            entry = Entry(op, place, of, formulas.get(of, ""), f"ops/{op}.md", inputs, numbers, self.step)
            called = _result(op) if of == "output" else of
            for name, array in _parts(f"{prefix}{place}.{called}", value):
                self.note(name, array, entry)

    def _note_bounds(
        self, run: bounds.Arithmetic, op: str, place: str, arguments: Sequence[Any], dy: Array, is_forward: bool = False
    ) -> None:
        wide = [np.asarray(x, np.float64) if _is_real(x) else x for x in arguments]
        for name, bound in bounds.of_values(run, op, wide, np.asarray(dy, np.float64)).items():
            if is_forward and name.startswith("d."):
                continue
            prefix, of = ("d.", name[2:]) if name.startswith("d.") else ("", name)
            called = f"{prefix}{place}.{_result(op) if of == 'output' else of}"
            for one, part in _parts(called, bound):
                self.note_bound(one, part, op, place)

    def note_bound(self, name: str, bound: Any, op: str, place: str) -> None:
        """Notes the largest rounding error of each number of a tensor."""
        entry = Entry(op, place, "bound", f"the largest rounding error of {name}", meanings.BOUNDS, step=self.step)
        self.note(f"bound.{name}", bound, entry)

    def note_bounds(
        self, entries: Mapping[str, Entry], arguments: Mapping[str, Any], values: Mapping[str, Any] | None = None
    ) -> None:
        """Notes the bounds of a call that is not an op of the model. The arguments are those of `CallBounds.of`."""
        if self._calls:
            for name, bound in self._calls.of(entries, arguments, values or {}).items():
                self.note_bound(name, bound, entries[name].op, entries[name].place)

    def note_bound_of_sum(self, name: str, entry: Entry, total: Array) -> None:
        """Notes the bound of a sum. Its terms are read from the trace, one after the other."""
        if self._calls:
            terms = [self.full(term) for term in entry.inputs.values()]
            arrays = (self.into[term] for term in terms) if len(terms) > 1 else iter([total])
            bound = self._calls.of_sum(name, entry, arrays, max(1, len(terms)))
            self.note_bound(name, bound, entry.op, entry.place)

    def bounds_of_update(
        self, entries: Mapping[str, Entry], arrays: Mapping[str, Array], scale: float, numbers: Mapping[str, Any]
    ) -> dict[str, Array]:
        """Returns the bounds of an update of the parameter w. The arguments are those of `CallBounds.of_update`, with
        `scale`, a factor of the gradient g. It returns an empty dict if no bounds are noted.
        """
        if not self._calls:
            return {}

        def piece_of(of: str) -> Callable[[slice], Array]:
            flat, factor = arrays[of].reshape(-1), scale if of == "g" else 1.0
            return lambda some: flat[some] * factor

        pieces = {of: piece_of(of) for of in arrays}
        return self._calls.of_update(entries, pieces, numbers, arrays["w"].shape)

    def note(self, name: str, array: Any, entry: Entry, before: Mapping[str, str] | None = None) -> None:
        """Notes a tensor of the current update.

        Args:
            name: the name of the tensor within the update.
            array: the array, which is copied.
            entry: its description. Names of inputs are those within the update.
            before: argument -> name in the whole trace, for inputs from an earlier update.
        """
        inputs = {of: self.full(one) for of, one in entry.inputs.items()} | dict(before or {})
        self.into.add(self.full(name), array, replace(entry, inputs=inputs))

    def full(self, name: str) -> str:
        """Returns the name of a tensor of the current update in the whole trace."""
        name = f"parameters.{name}" if name in self._params else name
        return f"step_{self.step}.{name}" if self.step else name


def trace_updates(
    into: Sink,
    config: RobertaConfig,
    params: Arrays,
    parts: Sequence[Batch],
    loss: SparseCategoricalCrossentropy,
    optimizer: Optimizer,
    *,
    seed: int = 0,
    steps: int = 1,
    precision: str | None = "float32",
    trainable: Sequence[str] | None = None,
    ops: Ops = REFERENCE,
    masking: Masking | None = None,
) -> None:
    """Notes all values and gradients of some updates. Each update has the same parts.

    The names of tensors of later updates begin with `step_1.` and so on.

    Args:
        into: the trace, or another `Sink`.
        config: the config of the model.
        params: the parameters, in the dtype of the arithmetic. They are not changed: several updates change a copy.
        parts: the batches of one update.
        loss: the loss, as for `compile`.
        optimizer: the optimizer, as for `compile`. Its state is not changed.
        seed: the seed of dropout.
        steps: the number of updates.
        precision: the precision whose bounds are noted, or None for no bounds.
        trainable: the names of the parameters that are updated. The default is all.
        ops: the ops table that is traced.
        masking: the masking of the parts, if it is noted too.

    Raises:
        ValueError: if the optimizer has `use_ema`.
    """
    if optimizer.use_ema:
        raise ValueError(
            "a trace can't have the average of parameters that use_ema=True computes: compile the model with an "
            "optimizer with use_ema=False"
        )
    params = params.astype(params.dtype) if steps > 1 else params
    names = list(params) if trainable is None else list(trainable)
    into.settings |= {"config": asdict(config), "dtype": params.dtype.name, "seed": seed, "precision": precision}
    into.settings |= {"loss": loss.get_config(), "optimizer": optimizer.get_config(), "steps": steps}
    if masking is not None:
        into.settings["masking"] = dict(masking.settings)
    tracer, changing = Tracer(into, params, precision), frozenset(names)
    tracer.bound_all(names)
    traced = tracer.ops_table(ops)
    slots = {name: params.zeros_like() for name in optimizer.slot_names}
    state = TrainState(params, slots, seed=seed)
    model = Trained(traced, config, loss, optimizer, names, params.zeros_like(), all_rows=True)
    for step in range(steps):
        tracer.begin(step)
        _note_batch(tracer, parts, Key.of_update(seed, step), masking)
        denominator = loss.denominator(sum(map(sum_of_weights, parts)), float(sum(batch.slots for batch in parts)))
        _note_of_step(tracer, "loss.denominator", denominator, meanings.denominator(loss.reduction), meanings.LOSS)
        before = f"step_{step - 1}." if step > 1 else ""
        for name in params:
            page = meanings.page_of_parameter(name)
            entry = Entry("sum" if step else "", name, "parameters", "the parameter before the update", page, step=step)
            changed = f"{before}{'updated' if name in changing else 'parameters'}.{name}"
            tracer.note(f"parameters.{name}", params[name], entry, {"0": changed} if step else {})
        found = compute_gradients(model, state, parts)
        for part, ((losses, predicted), batch) in enumerate(zip(found.values, parts, strict=True)):
            _note_losses(tracer, part, batch, losses, predicted, found.denominator)
        for name in names:
            terms = {str(i): term for i, term in enumerate(tracer.contributions.get(name, []))}
            formula = "the sum of all inputs: the gradient of the loss by the parameter"
            entry = Entry("sum", name, "gradients", formula, meanings.SUMS, terms, step=step)
            tracer.note(f"gradients.{name}", model.sums[name], entry)
            tracer.note_bound_of_sum(f"gradients.{name}", entry, model.sums[name])
        scales = _note_clipping(tracer, optimizer, model.sums, names)
        rate = optimizer.rate_at(step)
        _note_of_step(tracer, "learning_rate", rate, "the learning rate of this update", meanings.RATES)
        for name in names:
            source = {"w": name, "g": f"clipped.{name}", "rate": "learning_rate"}
            decays = bool(optimizer.weight_decay) and optimizer.decays(name)
            earlier = {of: f"{before}slots.{of}.{name}" for of in slots} if step else {}
            others, formulas = {"step": step, "decays": decays}, meanings.updated(optimizer, decays)
            after = {f"slots.{of}": slots[of][name] for of in slots} | {"updated": params[name]}
            entries = {
                f"{of}.{name}": Entry("update", name, of, formulas[of], meanings.STEP, source, others, step)
                for of in after
            }
            arrays = {"w": params[name], "g": model.sums[name], **{of: slots[of][name] for of in slots}}
            scale, numbers = scales.get(name, 1.0), others | {"rate": rate}
            is_last = step == steps - 1  # no update follows: copies of one parameter at a time are enough
            limits = {} if is_last else tracer.bounds_of_update(entries, arrays, float(scale), numbers)
            if is_last:
                after = {of: array.copy() for of, array in after.items()}
            _update(optimizer, after, model.sums[name], step, scale, decays)
            for of in list(after):
                tracer.note(f"{of}.{name}", after.pop(of), entries[f"{of}.{name}"], earlier)
            if is_last:  # the copies are gone, and what they were made of is as it was
                limits = tracer.bounds_of_update(entries, arrays, float(scale), numbers)
            for one in list(limits):
                tracer.note_bound(one, limits.pop(one), "update", name)
        state.step += 1


def _note_losses(tracer: Tracer, part: int, batch: Batch, losses: Array, predicted: Array, denominator: float) -> None:
    """Notes a part's share of the loss, and the likeliest ids."""
    number, step = f"_{part + 1}" if part else "", tracer.step
    share = float(batch.weights @ losses) / denominator if denominator else 0.0
    source = {"losses": f"loss{number}.losses", "weights": f"batch{number}.weights"}
    source["denominator"] = "loss.denominator"
    formula = "weights @ losses / denominator"
    entry = Entry("share", "loss", "share", formula, meanings.LOSS, source, step=step)
    tracer.note(f"loss.share{number}", share, entry)
    arguments = {"weights": batch.weights, "losses": losses, "denominator": denominator}
    tracer.note_bounds({f"loss.share{number}": entry}, arguments)
    source = {"logits": f"loss{number}.logits"}
    entry = Entry("argmax", "loss", "predicted", "the ids with the largest logits", meanings.LOSS, source, step=step)
    tracer.note(f"loss.predicted{number}", predicted, entry)


def _note_clipping(tracer: Tracer, optimizer: Optimizer, sums: Arrays, names: Sequence[str]) -> Mapping[str, Any]:
    """Notes the gradients after clipping, and gives the factor of each."""
    scales = optimizer.clip_scales(sums, names, REFERENCE)
    limits = {limit: getattr(optimizer, limit) for limit in CLIPS}
    if optimizer.global_clipnorm is not None:
        every = {str(i): f"gradients.{name}" for i, name in enumerate(names)}
        formula = "min(1, global_clipnorm / the norm of all gradients)"
        entry = Entry("clip_scale", "clip", "scale", formula, meanings.CLIPPING, every, limits, tracer.step)
        tracer.note("clip.scale", scales[names[0]], entry)
        sizes = {str(i): np.broadcast_to(0.0, sums[name].shape) for i, name in enumerate(names)}
        tracer.note_bounds({"clip.scale": entry}, sizes | limits, {"scale": np.float64(scales[names[0]])})
    for name in names:
        source = {"x": f"gradients.{name}"} | ({"scale": "clip.scale"} if optimizer.global_clipnorm else {})
        formula = meanings.clipped(optimizer)
        entry = Entry("clip", name, "clipped", formula, meanings.CLIPPING, source, limits, tracer.step)
        clipped = sums[name] * float(scales.get(name, 1.0))
        tracer.note(f"clipped.{name}", clipped, entry)
        tracer.note_bounds({f"clipped.{name}": entry}, {"x": sums[name], **limits}, {"clipped": clipped})
    return scales


def _update(
    optimizer: Optimizer, arrays: Mapping[str, Array], gradient: Array, step: int, scale: Any, decays: bool
) -> None:
    """The update of one parameter, in place: of `updated` and of each slot."""
    flat = {of.removeprefix("slots."): array.reshape(-1) for of, array in arrays.items()}
    params, rate = flat.pop("updated"), optimizer.rate_at(step)
    decay = rate * (optimizer.weight_decay or 0.0) if decays else 0.0
    optimizer.update_range(REFERENCE, rate, step, params, gradient.reshape(-1), flat, scale, decay, True)


def trace(
    model: Task,
    texts: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    into: Sink | None = None,
    dtype: str = "float64",
    steps: int = 1,
    precision: str | None = "float32",
    parts: int = 1,
) -> Trace:
    """Traces all values and gradients of a model in some updates on the texts, which are one batch.

    The model is not changed. Texts are masked as in `evaluate`. Dropout, loss and optimizer are those of the model.

    Args:
        model: a `MaskedLM` or `TextClassifier`, compiled as for training.
        texts, y, sample_weight: as for `evaluate`.
        into: the object that takes the tensors, such as a `TraceFile`. The default is a new `Trace` in memory.
        dtype: the dtype of the arithmetic, `"float64"` or `"float32"`. A comparison needs float64.
        steps: the number of updates.
        precision: the precision whose bounds are noted, `"float32"`, `"mixed_bfloat16"` or `"float64"`, or None for no
            bounds.
        parts: the number of batches of one update, each with nearly the same number of sequences. Their gradients are
            added up, as with `gradient_accumulation_steps` in `fit`.

    Returns:
        The trace. It is empty if `into` was given.

    Raises:
        TypeError: if `model` is not a task, for example because the arguments were exchanged.
        ValueError: if the dtype or the precision is unknown, if texts are an iterable of batches, if there are more
            parts than sequences, or if the optimizer has `use_ema`.

    >>> from pyroberta import MaskedLM
    >>> golden = trace(MaskedLM.from_preset("roberta_tiny_en"), ["A dog barks."], precision=None)
    >>> golden["layers.3.attention.probabilities.0"].shape
    (4, 7, 7)
    """
    check_task(model, "trace(model, texts)")
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    steps, parts = whole_number("steps", steps), whole_number("parts", parts)
    reader = model._reader()
    examples = reader.examples(texts, y, sample_weight)
    if not isinstance(examples, HeldExamples):
        raise ValueError("texts should be one batch, not an iterable of batches")
    if parts > max(1, len(examples)):
        raise ValueError(f"parts must be at most {len(examples)}, the number of sequences, got {parts}")
    reader.warn()
    found, key, masking = Trace(), Key.of_evaluation(), None
    if examples.mask is not None and isinstance(model.preprocessor, MaskedLMPreprocessor):
        masking = Masking.of(model.preprocessor, key, _cut(examples.data, parts))
    params = model.backbone.params
    trace_updates(
        found if into is None else into,
        model.backbone.config,
        params if params.dtype == dtype else params.astype(dtype),
        _cut(examples.masked(key), parts),
        model.loss,
        model.optimizer,
        seed=model.seed,
        steps=steps,
        precision=precision,
        trainable=model._trainable_names(),
        masking=masking,
    )
    return found


def _cut(batch: Batch, parts: int) -> list[Batch]:
    """A batch in parts of nearly as many sequences each, which keep their numbers."""
    if parts == 1:
        return [batch]
    return numbered([take(batch, some) for some in np.array_split(np.arange(len(batch)), parts)])


def check_task(model: Any, usage: str) -> None:
    """Checks that an object is a model with a head.

    Args:
        model: the object.
        usage: the correct call, for the error.

    Raises:
        TypeError: if it is not.
    """
    if not isinstance(model, Task):
        raise TypeError(f"model should be a MaskedLM or a TextClassifier, as in {usage}; got {type_of(model)}")


def _note_batch(tracer: Tracer, parts: Sequence[Batch], key: Key, masking: Masking | None) -> None:
    for part, batch in enumerate(parts):
        number = f"_{part + 1}" if part else ""
        for of in ("ids", "positions", "starts", "numbers", "target_rows", "labels", "weights"):
            _note_of_step(tracer, f"batch{number}.{of}", getattr(batch, of), *meanings.OF_BATCH[of])
            tracer.know(getattr(batch, of), f"batch{number}.{of}")
        _note_of_step(tracer, f"batch.slots{number}", batch.slots, *meanings.OF_BATCH["slots"])
        if masking is not None:
            for of, array in zip(("unmasked_ids", "words", "draws"), masking.parts[part], strict=True):
                _note_of_step(tracer, f"batch{number}.{of}", array, *meanings.OF_BATCH[of])
    if masking is not None:
        meaning = "Philox4x64-10's key of the numbers that decide on the masks"
        _note_of_step(tracer, "masking.key", np.array(masking.key, np.uint64), meaning, meanings.MASKING)
        meaning = "the ids that a random token may be, (V',)"
        _note_of_step(tracer, "masking.ordinary", masking.ordinary, meaning, meanings.MASKING)
    meaning = "Philox4x64-10's key of the first site"
    _note_of_step(tracer, "dropout.key", np.array(key, np.uint64), meaning, meanings.KEYS)


def _note_of_step(tracer: Tracer, name: str, value: Any, meaning: str, page: str) -> None:
    place, _, of = name.rpartition(".")
    tracer.note(name, value, Entry("", place, of, meaning, page, step=tracer.step))


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A value under its name; one of several sequences under as many."""
    if isinstance(value, list):
        for b, part in enumerate(value):
            yield f"{name}.{b}", part
    else:
        yield name, value


def _is_real(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def _result(op: str) -> str:
    return RESULTS.get(op, "output")
