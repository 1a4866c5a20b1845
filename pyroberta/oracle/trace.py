"""Everything that passes through a model in some updates, by name: what another implementation is compared with.

    golden = trace(model, texts)
    golden["layers.3.attention.probabilities"]          what arises on the way forward
    golden["d.layers.3.attention.scores"]               its gradient
    golden["gradients.layers.3.attention.query.bias"]   the parameter's gradient, before it is clipped

The table of ops notes every call: which op, at which place of the model, with which arguments. A place is the common
beginning of the names of the parameters that the op was called with, or of those that an op before it was. What is
inside an op comes from the plain ops (`oracle/plain.py`), and the op's own result is the one that is passed on. All
rows of the last layer are made, those too that no loss looks at.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from pyroberta.data.examples import HeldExamples
from pyroberta.model.attributes import whole_number
from pyroberta.model.batch import Batch
from pyroberta.model.config import RobertaConfig
from pyroberta.model.parameters import Arrays
from pyroberta.ops import REFERENCE, Key, Ops
from pyroberta.oracle import bounds
from pyroberta.oracle.golden import Entry, Sink, Trace
from pyroberta.oracle.plain import PLAIN, Values
from pyroberta.tasks.task import Task
from pyroberta.training.losses import SparseCategoricalCrossentropy
from pyroberta.training.optimizers import CLIPS, Optimizer
from pyroberta.training.state import TrainState
from pyroberta.training.step import Trained, compute_gradients

OF_INPUTS = {"cross_entropy": ("h", "bias")}  # what a backward without parameters gives, where it is not the first
# What an op's result is called, where it isn't `output`.
RESULTS = {"attention": "context", "cross_entropy": "losses"}


class _Call(NamedTuple):
    """What the model holds in place of a cache: the call that made it."""

    op: str
    place: str
    arguments: Sequence[Any]
    inputs: Mapping[str, str]
    cache: Any


class Tracer:
    """A table of ops whose every call is noted in a trace.

    Args:
        into: the trace.
        params: of the model, whose names tell an op's place.
        precision: of the arithmetic whose error bounds are noted beside the results, or the arithmetic; None for no
            bounds.
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

    def table(self, ops: Ops = REFERENCE) -> Ops:
        """The table with each row watched."""
        return replace(ops.wrapped(self._watched), prepare=REFERENCE.prepare)

    def begin(self, step: int) -> None:
        """Another update begins: places are counted anew."""
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

    def _sum(self, row: Callable[..., Any]) -> Callable[..., Any]:
        def call(x: Any, y: Any) -> Any:
            total = row(x, y)
            if isinstance(total, np.ndarray) and total.ndim:
                terms = {of: self._names[id(term)] for of, term in (("x", x), ("y", y)) if id(term) in self._names}
                name = self._once(f"{terms.get('y', self._place)}.added")
                self.note(name, total, Entry("add", self._place, "output", "x + y", "", terms, step=self.step))
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
        own = [named[of] for of in PLAIN[op].arguments if named.get(of) in self._params]
        if op == "cross_entropy":
            place = "loss"
        elif op == "feed_forward" and own:
            place = own[0].split(".feed_forward.")[0] + ".feed_forward"
        elif op == "embedding" and own:
            place = "embeddings"
        elif op == "low_rank" and own:
            place = own[0].rpartition(".")[0] + ".lora"
        elif own:
            place = own[0].rpartition(".")[0]
        elif op == "attention":
            place = self._place.split(".attention.")[0] + ".attention"
        else:
            place = f"{self._place.split('.')[0]}.{op}" if op != "gather" else "head.target_rows"
        self._place = place if own or op == "gather" else self._place
        return self._once(place), named

    def _once(self, name: str) -> str:
        """The name, with a number from the second time on."""
        count = self._seen[name] = self._seen.get(name, 0) + 1
        return name if count == 1 else f"{name}_{count}"

    def know(self, array: Array, name: str) -> None:
        """Tells the name of an array that ops are called with and that lives as long as the trace."""
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
        formulas = {} if prefix else PLAIN[op].formulas
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

    def _note_bounds(self, run: bounds.Arithmetic, op: str, place: str, arguments: Sequence[Any], dy: Array) -> None:
        wide = [np.asarray(x, np.float64) if _is_real(x) else x for x in arguments]
        for name, bound in bounds.of_values(run, op, wide, np.asarray(dy, np.float64)).items():
            prefix, of = ("d.", name[2:]) if name.startswith("d.") else ("", name)
            called = f"{prefix}{place}.{_result(op) if of == 'output' else of}"
            entry = Entry(op, place, "bound", f"how far {called} may be from it", "numerics.md", step=self.step)
            for one, part in _parts(f"bound.{called}", bound):
                self.note(one, part, entry)

    def note(self, name: str, array: Any, entry: Entry, before: Mapping[str, str] | None = None) -> None:
        """Notes a tensor of the update under way.

        Args:
            name: the tensor's name, and in `entry` those of its inputs, as they are within the update.
            array: is copied.
            entry: what is known of it.
            before: inputs from an earlier update, by the names that they have in the whole trace.
        """
        inputs = {of: self.full(one) for of, one in entry.inputs.items()} | dict(before or {})
        self.into.add(self.full(name), array, replace(entry, inputs=inputs))

    def full(self, name: str) -> str:
        """The name in the whole trace."""
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
) -> None:
    """Notes everything that passes in some updates, each from the same parts.

    Tensors of a later update have names that begin with `step_1.` and so on.

    Args:
        into: what takes the tensors.
        config: of the model.
        params: in the dtype of the arithmetic, float64 for an oracle. They are not changed; several updates work on a
            copy.
        parts: the batches of one update.
        loss, optimizer: as of `compile`; the optimizer's own state is not changed.
        seed: of dropout.
        steps: updates.
        precision: whose error bounds are noted; None for none.
        trainable: names of the parameters that are updated; all unless given.
        ops: the table that is traced.
    """
    params = params.astype(params.dtype) if steps > 1 else params
    names = list(params) if trainable is None else list(trainable)
    into.settings |= {"config": asdict(config), "dtype": params.dtype.name, "seed": seed, "precision": precision}
    into.settings |= {"loss": loss.get_config(), "optimizer": optimizer.get_config(), "steps": steps}
    tracer, changing = Tracer(into, params, precision), frozenset(names)
    traced = tracer.table(ops)
    slots = {name: params.zeros_like() for name in optimizer.slot_names}
    state = TrainState(params, slots, seed=seed)
    model = Trained(traced, config, loss, optimizer, names, params.zeros_like(), all_rows=True)
    for step in range(steps):
        tracer.begin(step)
        _note_batch(tracer, parts, Key.of_update(seed, step))
        denominator = loss.denominator(sum(map(_weight_sum, parts)), float(sum(batch.slots for batch in parts)))
        _note_of_step(tracer, "loss.denominator", denominator, "what the sum of weighted losses is divided by")
        before = f"step_{step - 1}." if step > 1 else ""
        for name in params:
            entry = Entry("sum" if step else "", name, "parameters", "the parameter before the update", step=step)
            changed = f"{before}{'updated' if name in changing else 'parameters'}.{name}"
            tracer.note(f"parameters.{name}", params[name], entry, {"0": changed} if step else {})
        found = compute_gradients(model, state, parts)
        for part, ((losses, predicted), batch) in enumerate(zip(found.values, parts, strict=True)):
            share = float(batch.weights @ losses) / found.denominator if found.denominator else 0.0
            number = f"_{part + 1}" if part else ""
            source = {"losses": f"loss{number}.losses", "weights": f"batch{number}.weights"}
            source["denominator"] = "loss.denominator"
            entry = Entry("share", "loss", "share", "weights @ losses / denominator", "", source, step=step)
            tracer.note(f"loss.share{number}", share, entry)
            entry = Entry(
                "argmax", "loss", "predicted", "the likeliest ids", "", {"logits": f"loss{number}.logits"}, step=step
            )
            tracer.note(f"loss.predicted{number}", predicted, entry)
        for name in names:
            terms = {str(i): term for i, term in enumerate(tracer.contributions.get(name, []))}
            entry = Entry("sum", name, "gradients", "the gradient of the loss", "", terms, step=step)
            tracer.note(f"gradients.{name}", model.sums[name], entry)
        scales = optimizer.clip_scales(model.sums, names, REFERENCE)
        limits = {limit: getattr(optimizer, limit) for limit in CLIPS}
        if optimizer.global_clipnorm is not None:
            every = {str(i): f"gradients.{name}" for i, name in enumerate(names)}
            formula = "min(1, limit / the norm of all gradients)"
            entry = Entry("clip_scale", "clip", "scale", formula, "", every, limits, step)
            tracer.note("clip.scale", scales[names[0]], entry)
        for name in names:
            source = {"x": f"gradients.{name}"} | ({"scale": "clip.scale"} if optimizer.global_clipnorm else {})
            entry = Entry("clip", name, "clipped", "the gradient after clipping", "", source, limits, step)
            tracer.note(f"clipped.{name}", model.sums[name] * float(scales.get(name, 1.0)), entry)
        _note_of_step(tracer, "learning_rate", optimizer.rate_at(step), "of this update")
        for name in names:
            source = {"w": name, "g": f"clipped.{name}", "rate": "learning_rate"}
            decays = bool(optimizer.weight_decay) and optimizer.decays(name)
            earlier = {of: f"{before}slots.{of}.{name}" for of in slots} if step else {}
            after = {f"slots.{of}": slots[of][name] for of in slots} | {"updated": params[name]}
            if step == steps - 1:  # no update follows: copies of one parameter at a time are enough
                after = {of: array.copy() for of, array in after.items()}
            _update(optimizer, after, model.sums[name], step, scales.get(name, 1.0), decays)
            for of, array in after.items():
                others = {"step": step, "decays": decays}
                entry = Entry("update", name, of, "after the update", "", source, others, step)
                tracer.note(f"{of}.{name}", array, entry, earlier)
        state.step += 1


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
) -> Trace:
    """Everything that passes through a model in some updates on the texts, taken as one batch.

    The model is not changed. Texts are masked as `evaluate` masks them; dropout, the loss and the optimizer are the
    model's own.

    Args:
        model: a task, compiled as it is trained.
        texts, y, sample_weight: as for `evaluate`.
        into: what takes the tensors, such as a `TraceFile`; a trace in memory unless given.
        dtype: of the arithmetic.
        steps: updates.
        precision: `"float32"`, `"mixed_bfloat16"` or `"float64"`, whose error bounds are noted; None for none.

    Returns:
        The trace; empty where `into` was given.

    Raises:
        TypeError: where the model is none, as with both arguments exchanged.
        ValueError: for another dtype or precision, and for texts that are several batches.

    >>> from pyroberta import MaskedLM
    >>> golden = trace(MaskedLM.from_preset("roberta_tiny_en"), ["A dog barks."], precision=None)
    >>> golden["layers.3.attention.probabilities.0"].shape
    (4, 7, 7)
    """
    check_task(model, "trace(model, texts)")
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    steps = whole_number("steps", steps)
    reader = model._reader()
    examples = reader.examples(texts, y, sample_weight)
    if not isinstance(examples, HeldExamples):
        raise ValueError("texts should be one batch, not an iterable of batches")
    reader.long_texts.say()
    found = Trace()
    params = model.backbone.params
    trace_updates(
        found if into is None else into,
        model.backbone.config,
        params if params.dtype == dtype else params.astype(dtype),
        [examples.masked(Key.of_evaluation())],
        model.loss,
        model.optimizer,
        seed=model.seed,
        steps=steps,
        precision=precision,
        trainable=model._trainable_names(),
    )
    return found


def check_task(model: Any, usage: str) -> None:
    """Checks that something is a model with a head; `usage` says where it stands in the call.

    Raises:
        TypeError: where it is anything else.
    """
    if not isinstance(model, Task):
        kind = type(model).__name__
        raise TypeError(f"model should be a MaskedLM or a TextClassifier, as in {usage}; got a {kind}")


def _note_batch(tracer: Tracer, parts: Sequence[Batch], key: Key) -> None:
    for part, batch in enumerate(parts):
        for of in ("ids", "positions", "starts", "numbers", "target_rows", "labels", "weights"):
            name = f"batch.{of}" if not part else f"batch_{part + 1}.{of}"
            _note_of_step(tracer, name, getattr(batch, of), of)
            tracer.know(getattr(batch, of), name)
        name = f"batch.slots{f'_{part + 1}' if part else ''}"
        _note_of_step(tracer, name, batch.slots, "targets that the batch has place for, B · K")
    _note_of_step(tracer, "dropout.key", np.array(key, np.uint64), "Philox4x64-10's key of the first site")


def _note_of_step(tracer: Tracer, name: str, value: Any, meaning: str) -> None:
    place, _, of = name.rpartition(".")
    tracer.note(name, value, Entry("", place, of, meaning, step=tracer.step))


def _weight_sum(batch: Batch) -> float:
    return float(batch.weights.sum(dtype=np.float64))


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
