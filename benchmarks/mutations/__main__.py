"""How well the comparison with a golden trace finds faults that were planted in models that are not ours.

    python -m benchmarks.mutations                          # what the faults change, in units of the bounds
    python -m benchmarks.mutations --framework jax --dtype bfloat16 --cases 200 --seed 1
    python -m benchmarks.mutations --compare                # what the comparison says of each case
    python -m benchmarks.mutations --alike                  # both models have the same numbers under every fault

A case is a scene (sizes, values, batches, an update), its golden trace, and what a model of the scene gave. Every
eighth case has no fault, every eighth has two at two places. Half of the cases have everything that the model dumps,
the others a random share of it, with the tensors that the fault changes first always among them.

The effect of a fault is the largest change of one of these tensors, in float64, over its bound, and so over what
rounding may do. Where a tensor has no bound, it is eight units in the last place of each number. Rounding may hide an
effect below 2, which is counted apart.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mutations import torch_model
from benchmarks.mutations.faults import FAULTS, KNOWN, Fault, Planted, wrong_of
from benchmarks.mutations.scenes import PRECISIONS, Scene, draw, dumped
from pyroberta.oracle.golden import Trace

POOL = 6  # sizes among which JAX's scenes choose, since it compiles every op for every size
UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-24}  # of what has no bound: no product is in it
VISIBLE = 2.0  # effect, in units of rounding: one that rounding itself may take back, one that is to be seen
CLEAN: tuple[dict[str, Any], ...] = (
    {},
    {"dropout": True, "parts": 2},
    {"side": "left", "padded": True, "tied": False, "weighted": True},
)
ALIKE = 1e-8  # how near the two models are to each other under a fault, which may take a difference's digits
AGREE = 1e-10  # how near the models without a fault are to the golden trace in float64, relatively


@dataclass(frozen=True)
class Case:
    """What the comparison is given, and what it should find.

    Attributes:
        planted: no fault, one or two.
        golden: in float64, with the bounds of the model's precision.
        theirs: what the model dumped.
        dumped: "everything" or "a share".
        dtype: of the model.
    """

    number: int
    scene: Scene
    planted: Sequence[Planted]
    golden: Trace
    theirs: Mapping[str, np.ndarray]
    dumped: str
    dtype: str

    def effects(self) -> list[tuple[float, float]]:
        """Of each fault: the largest relative change at its place, and the largest in units of rounding."""
        return [self._effect(one) for one in self.planted]

    def _effect(self, planted: Planted) -> tuple[float, float]:
        found = dumped(torch_model.run(self.scene, "float64", wrong_of([planted]), self.golden), self.golden)
        relative = units = 0.0
        for name in planted.showing(list(found)):
            change, right = np.abs(found[name] - self.golden[name]), np.abs(self.golden[name])
            if not change.any() or name.endswith("attention.key.bias"):  # whose gradient is 0 in truth
                continue
            relative = max(relative, float(change.max() / max(right.max(), 1e-300)))
            bound = self.golden.get(f"bound.{name}")
            unit = 8.0 * UNITS[self.dtype] * right if bound is None else bound
            with np.errstate(divide="ignore", invalid="ignore"):
                units = max(units, float(np.nanmax(np.where(change > 0.0, change / unit, 0.0))))
        return relative, units


# --- cases ------------------------------------------------------------------------------------------------------------


def cases(seed: int, count: int, framework: str, dtype: str, faults: Sequence[Fault] = FAULTS) -> Iterator[Case]:
    """Cases, the faults in turns.

    Args:
        seed: decides on everything.
        count: of cases.
        framework: "torch" or "jax".
        dtype: "float64", "float32" or "bfloat16".
        faults: that are planted.
    """
    run = import_module(f"benchmarks.mutations.{framework}_model").run
    turns: list[Fault] = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        chosen: list[Fault] = []
        for _ in range({3: 0, 7: 2}.get(number % 8, 1)):
            if not turns:
                turns = [faults[i] for i in np.random.default_rng([seed, number, 1]).permutation(len(faults))]
            chosen.append(next((one for one in turns if _agree([*chosen, one])), turns[0]))
            turns.remove(chosen[-1])
        chosen = chosen if _agree(chosen) else chosen[:1]
        needs = {key: value for one in chosen for key, value in one.needs.items()}
        shape = np.random.default_rng([seed, number % POOL if framework == "jax" else number, 2])
        scene = draw(shape, rng, **needs)
        golden = scene.golden(dtype)
        planted: list[Planted] = []
        for one in chosen:
            for _ in range(20):
                fresh = one.planted(rng, scene)
                if not _meet(planted, fresh):
                    planted.append(fresh)
                    break
        theirs = dumped(run(scene, dtype, wrong_of(planted), golden), golden)
        how = "everything"
        if rng.random() < 0.5:
            how, kept = "a share", rng.uniform(0.2, 0.8)
            always = {name for one in planted for name in one.showing(list(theirs))}
            theirs = {name: x for name, x in theirs.items() if name in always or rng.random() < kept}
        yield Case(number, scene, planted, golden, theirs, how, dtype)


def _agree(faults: Sequence[Fault]) -> bool:
    """Whether one scene can be what all of them need."""
    needs = [(key, value) for one in faults for key, value in one.needs.items()]
    return len(dict(needs)) == len(set(needs))


def _meet(planted: Sequence[Planted], fresh: Planted) -> bool:
    """Whether a fault would stand at the place of another, or take its switch."""
    switches = {plant[:2] for one in planted for plant in one.plants}
    if any(plant[:2] in switches for plant in fresh.plants):
        return True
    return any(
        one.is_at(place, place) or fresh.is_at(other, other)
        for one in planted
        for place in fresh.places
        for other in one.places
    )


def right(*_: Any) -> None:
    """Nothing is wrong anywhere."""


def check_clean(seed: int, framework: str, count: int) -> tuple[float, int]:
    """Asserts that the model without a fault is the golden trace in float64.

    Returns:
        The largest distance, relative to the largest number of its tensor; and how many tensors were compared.

    A tensor that is 0 in truth, as the gradient of a key's bias is, is what rounding made of it. So a millionth of a
    millionth of the largest number of its kind is let pass, and a key's bias after the update isn't compared.
    """
    run = import_module(f"benchmarks.mutations.{framework}_model").run
    worst, compared = 0.0, 0
    for number in range(count):
        needs = CLEAN[number % len(CLEAN)]
        scene = draw(np.random.default_rng([seed, number, 3]), np.random.default_rng([seed, number, 4]), **needs)
        golden = scene.golden("float64")
        found = dumped(run(scene, "float64", right, golden), golden)
        worst = max(worst, _distance(found, golden))
        compared += len(found)
    assert worst < AGREE, f"the clean {framework} model is {worst:.1e} from the golden trace"
    return worst, compared


def _distance(found: Mapping[str, np.ndarray], golden: Mapping[str, np.ndarray]) -> float:
    kinds: dict[str, float] = {}
    for name in found:
        kind = _kind(name)
        kinds[kind] = max(kinds.get(kind, 0.0), float(np.abs(golden[name]).max(initial=0.0)))
    worst = 0.0
    for name, x in found.items():
        if re.fullmatch(r"updated\..*\.attention\.key\.bias", name):  # Adam's step along what rounding made of 0
            continue
        assert x.shape == golden[name].shape, f"{name} has the shape {x.shape}, not {golden[name].shape}"
        change, size = np.abs(x - golden[name]).max(initial=0.0), np.abs(golden[name]).max(initial=0.0)
        if change > 1e-12 * kinds[_kind(name)]:
            worst = max(worst, float(change / size))
        else:
            worst = max(worst, float(change / max(size, kinds[_kind(name)])))
    return worst


def _kind(name: str) -> str:
    for kind in ("slots.m", "slots.v", "d", "gradients", "clipped", "updated"):
        if name.startswith(f"{kind}."):
            return kind
    return name


def check_alike(seed: int, faults: Sequence[Fault]) -> float:
    """Asserts that both models have the same numbers in float64 under each fault, and names those that differ."""
    jax_model = import_module("benchmarks.mutations.jax_model")
    distances: dict[str, float] = {}
    for i, fault in enumerate(faults):
        rng = np.random.default_rng([seed, i])
        scene = draw(np.random.default_rng([seed, i % POOL, 2]), rng, **fault.needs)
        golden = scene.golden("float64")
        wrong = wrong_of([fault.planted(rng, scene)])
        one = torch_model.run(scene, "float64", wrong, golden)
        other = jax_model.run(scene, "float64", wrong, golden)
        distances[fault.name] = _distance(other, one) if one.keys() == other.keys() else np.inf
    unlike = {name: distance for name, distance in distances.items() if distance > ALIKE}
    assert not unlike, f"the models differ under {unlike}"
    return max(distances.values())


# --- judging ----------------------------------------------------------------------------------------------------------


def compared(case: Case) -> Any:
    """What the comparison says of a case."""
    from pyroberta.oracle.compare import compare  # the benchmark's tables of effects do without it

    return compare(case.golden, case.theirs, PRECISIONS[case.dtype])


@dataclass(frozen=True)
class Verdict:
    """What a report is worth.

    Attributes:
        outcome: of a clean model "silent" or "false alarm"; of another one "found" where the first finding is at a
            planted place, "elsewhere", "silent", or "below rounding" where nothing could be found.
        cause: "right", "wrong" or "none": what the finding at a planted place says; "" where there is none.
        both: of two faults, whether there is a finding at each place.
    """

    outcome: str
    cause: str = ""
    both: bool | None = None


def judge(case: Case, report: Any) -> Verdict:
    """Scores a report that has `departures`, each with `place`, `name` and `cause`."""
    departures = list(report.departures)
    if not case.planted:
        return Verdict("false alarm" if departures else "silent")
    visible = [one for one, (_, units) in zip(case.planted, case.effects(), strict=True) if units >= VISIBLE]
    if not departures:
        return Verdict("silent" if visible else "below rounding")
    first = departures[0]
    at = [one for one in case.planted if one.is_at(first.place, first.name)]
    if not at:
        return Verdict("elsewhere")  # of one below rounding at its place, too, that shows elsewhere
    both = None
    if len(case.planted) == 2 and len(visible) == 2:
        both = all(any(one.is_at(found.place, found.name) for found in departures) for one in case.planted)
    said = first.cause.lower()
    if not said:
        return Verdict("found", "none", both)
    is_right = any(word.lower() in said for one in at for word in one.fault.words)
    return Verdict("found", "right" if is_right else "wrong", both)


# --- tables -----------------------------------------------------------------------------------------------------------


def print_effects(all_cases: Sequence[Case]) -> None:
    """A row for each fault: in how many cases it was, how many of them could be found, and its effects."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for case in all_cases:
        for planted, effect in zip(case.planted, case.effects(), strict=True):
            rows.setdefault(planted.fault.name, []).append(effect)
    print(f"{'fault':<34}{'kind':<9}{'cases':>6}{'above':>7}{'relative':>10}{'in units of rounding':>24}")
    for fault in FAULTS:
        effects = rows.get(fault.name)
        if effects:
            relative, units = (sorted(column) for column in zip(*effects, strict=True))
            above = sum(one >= VISIBLE for one in units)
            span = f"{units[0]:.1e} to {units[-1]:.1e}"
            print(f"{fault.name:<34}{fault.kind:<9}{len(effects):>6}{above:>7}{relative[-1]:>10.1e}{span:>24}")


def print_verdicts(judged: Sequence[tuple[Case, Any, Verdict]], verbose: bool) -> None:
    """The shares of the outcomes, and every case that went wrong."""
    groups: dict[str, list[Verdict]] = {}
    for case, _, verdict in judged:
        kind = "none" if not case.planted else "two" if len(case.planted) == 2 else case.planted[0].fault.kind
        groups.setdefault(f"{kind}, {case.dumped}", []).append(verdict)
    columns = ("found", "elsewhere", "silent", "below rounding", "false alarm")
    print(
        f"{'faults, dumped':<22}{'cases':>6}",
        *(f"{name:>15}" for name in columns),
        f"{'cause right':>15}{'wrong':>7}{'none':>6}{'both':>6}",
    )
    for group, verdicts in sorted(groups.items()):
        counts = [sum(one.outcome == name for one in verdicts) for name in columns]
        causes = [sum(one.cause == name for one in verdicts) for name in ("right", "wrong", "none")]
        print(
            f"{group:<22}{len(verdicts):>6}",
            *(f"{count:>15}" for count in counts),
            f"{causes[0]:>15}{causes[1]:>7}{causes[2]:>6}{sum(one.both is True for one in verdicts):>6}",
        )
    for case, report, verdict in judged:
        is_known = any(one.fault.kind == KNOWN for one in case.planted)
        wrong = verdict.outcome in ("elsewhere", "false alarm") or verdict.cause == "wrong"
        wrong = wrong or (verdict.outcome == "silent" and bool(case.planted)) or (is_known and verdict.cause == "none")
        if wrong or verbose:
            first = next(iter(report.departures), None)
            said = "nothing" if first is None else f"{first.name} at {first.place}: {first.cause or 'no cause'}"
            planted = "; ".join(f"{one.fault.cause} ({', '.join(one.places)})" for one in case.planted) or "clean"
            print(f"case {case.number}: {verdict.outcome}, cause {verdict.cause or '-'}\n    {planted}\n    {said}")


def record(judged: Sequence[tuple[Case, Any, Verdict]]) -> list[dict[str, Any]]:
    """Every case for a file."""
    return [
        {
            "case": case.number,
            "dumped": case.dumped,
            "scale": case.scene.scale,
            "faults": [one.fault.name for one in case.planted],
            "places": [list(one.places) for one in case.planted],
            "effects": case.effects(),
            "outcome": verdict.outcome,
            "cause": verdict.cause,
            "both": verdict.both,
            "departures": [[one.place, one.name, one.cause] for one in report.departures],
        }
        for case, report, verdict in judged
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutations", description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--framework", choices=("torch", "jax"), default="torch")
    parser.add_argument("--dtype", choices=tuple(PRECISIONS), default="float32")
    parser.add_argument("--fault", help="plant only faults whose name has this in it")
    parser.add_argument("--compare", action="store_true", help="run the comparison and judge it")
    parser.add_argument(
        "--by-erf", action="store_true", help="JAX's GELU by XLA's erf, which is less exact than its erfc"
    )
    parser.add_argument("--alike", action="store_true", help="hold the two models to each other, and end")
    parser.add_argument("--verbose", action="store_true", help="show every case, not those alone that went wrong")
    parser.add_argument("--json", type=Path, help="write every case here")
    given = parser.parse_args(arguments)

    started = time.perf_counter()
    if given.by_erf:
        import_module("benchmarks.mutations.jax_model").BY_ERF = True
    distance, tensors = check_clean(given.seed, given.framework, 12 if given.framework == "torch" else 3)
    print(
        f"clean {given.framework} in float64: {tensors} tensors within {distance:.1e} of the golden trace", flush=True
    )
    faults = [one for one in FAULTS if (given.fault or "").lower() in one.name.lower()]
    if not faults:
        sys.exit(f"no fault's name has {given.fault!r} in it")
    if given.alike:
        print(
            f"both models under each of {len(faults)} faults, in float64: within {check_alike(given.seed, faults):.1e}"
        )
        return
    drawn = cases(given.seed, given.cases, given.framework, given.dtype, faults)
    if given.compare:
        judged = []
        for case in drawn:
            report = compared(case)
            judged.append((case, report, judge(case, report)))
        print_verdicts(judged, given.verbose)
        if given.json:
            given.json.write_text(json.dumps(record(judged), indent=1))
    else:
        print_effects(list(drawn))
    print(f"{given.cases} cases, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
