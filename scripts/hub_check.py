"""Loads the published models from their hubs and checks them; scripts/hub_check.sh runs it and says how.

Each case is a model: it is downloaded, its files are hashed, its parameters are counted, and what it computes is
compared with what KerasHub's and transformers' own tests expect of it. A check that fails is noted, and the next one is
made. The report has no path and no token in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("pyroberta", "numpy", "regex", "tqdm", "h5py", "huggingface_hub", "kagglehub")
TEXT = "Paris is the <mask> of France."
# "Hello world! cécé herlolip", whose values transformers' test_inference_masked_lm and test_inference_no_head expect
HELLO = [0, 31414, 232, 328, 740, 1140, 12695, 69, 46078, 1588, 2]
LOGITS = [[33.8802, -4.3103, 22.7761], [4.6539, -2.8098, 13.6253], [1.8228, -3.6898, 8.8600]]
STATES = [[-0.0231, 0.0782, 0.0074], [-0.1854, 0.0540, -0.0175], [0.0548, 0.0799, 0.1687]]
# of the ids 0, 133, 2119, 2: KerasHub's roberta_backbone_test.py::test_smallest_preset
KERASHUB = [-0.051, 0.100, -0.010, -0.097, 0.059]


@dataclass(frozen=True)
class Case:
    """A model and what is expected of it; what is None or empty is not checked.

    Attributes:
        handle: a name or a handle, as `from_preset` takes it.
        parameters: the number of the backbone's parameters.
        word: the likeliest for the mask in `text`.
        logits: of the first three tokens of `HELLO`, for the first three of the vocabulary.
        states: likewise, the first three of the last layer's hidden states.
        start: the first values of the last layer's states of 0, 133, 2119, 2.
        is_fitted: whether one `fit` of KerasHub's page is made.
    """

    handle: str
    parameters: int | None = None
    text: str = TEXT
    word: str | None = None
    logits: list[list[float]] = field(default_factory=list)
    states: list[list[float]] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    is_fitted: bool = False


BASE: dict[str, Any] = {"parameters": 124_052_736, "states": STATES, "start": KERASHUB}
LARGE: dict[str, Any] = {"parameters": 354_307_072}
CASES = (
    Case("roberta_base_en", word=" capital", logits=LOGITS, is_fitted=True, **BASE),
    Case("kaggle://keras/roberta/keras/roberta_base_en/3", **BASE),  # it has no masked-LM head
    Case("roberta_large_en", word=" capital", **LARGE),
    Case("kaggle://keras/roberta/keras/roberta_large_en/3", **LARGE),
)


class Report:
    """What is printed, and the number of checks that failed."""

    def __init__(self, private: list[str]) -> None:
        self.failed = 0
        self.stream = sys.stdout
        self.private = sorted(filter(None, set(private)), key=len, reverse=True)

    def say(self, line: str) -> None:
        """Prints a line, without private paths and tokens."""
        for path in self.private:
            line = line.replace(path, "…")
        print(re.sub(r"\b(hf_|KGAT_)\w+", r"\1…", line), file=self.stream, flush=True)

    def check(self, subject: str, found: Any, is_right: bool) -> None:
        """Notes a figure, and whether it is the expected one."""
        self.failed += not is_right
        self.say(f"  {'ok    ' if is_right else 'FAILED'}  {subject}: {found}")

    @contextmanager
    def going_on(self, subject: str) -> Iterator[None]:
        """Notes an error, its place, warnings, and the time."""
        began = time.perf_counter()
        try:
            with warnings.catch_warnings(record=True) as caught, redirect_stdout(sys.stderr):  # where the clients print
                warnings.simplefilter("always")
                yield
        except Exception as error:
            self.failed += 1
            self.say(f"  FAILED  {subject}: {type(error).__name__}: {error}")
            frame = traceback.extract_tb(error.__traceback__)[-1]
            self.say(f"          {Path(frame.filename).name}:{frame.lineno} in {frame.name}")
        for warning in {str(one.message) for one in caught}:
            self.say(f"  warned  {subject}: {warning}")
        self.say(f"  time    {subject}: {time.perf_counter() - began:.1f} s")


def machine() -> list[str]:
    """Versions, and the machine."""
    lines = [f"python {platform.python_version()}, {platform.system()} {platform.release()} {platform.machine()}"]
    for package in PACKAGES:
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            lines.append(f"{package}: not installed")
    model = platform.processor()
    try:
        cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        model = re.findall(r"^(?:model name|Hardware)\s*: (.+)$", cpu, re.MULTILINE)[0]
        memory = int(re.findall(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text(encoding="utf-8"))[0]) >> 20
        lines.append(f"memory {memory} GiB")
    except (OSError, IndexError):
        pass
    return [*lines, f"{os.cpu_count()} CPUs: {model or 'unknown'}"]


def sha256(file: Path) -> str:
    """The hash of a file, read piece by piece."""
    found = hashlib.sha256()
    with open(file, "rb") as opened:
        while piece := opened.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


def check(case: Case, report: Report) -> None:
    """Downloads, loads and checks a model."""
    from pyroberta import MaskedLM
    from pyroberta.presets.preset import open_preset

    report.say(f"\n{case.handle}")
    with report.going_on("download"):
        directory = open_preset(case.handle).download()
        for file in sorted(path for path in directory.rglob("*") if path.is_file()):
            name = file.relative_to(directory).as_posix()
            report.say(f"  file    {sha256(file)}  {file.stat().st_size:>13,}  {name}")
    with report.going_on("load"):
        masked_lm = MaskedLM.from_preset(case.handle)
        backbone = masked_lm.backbone
        report.say(f"  model   {masked_lm!r}")
        if case.parameters is not None:
            found = backbone.count_params()
            report.check("parameters of the backbone", f"{found:,}", found == case.parameters)
        steps: list[tuple[str, bool, Callable[[], None]]] = [
            ("fill_mask", case.word is not None, lambda: fill(masked_lm, case, report)),
            ("logits", bool(case.logits), lambda: logits(masked_lm, case, report)),
            ("states", bool(case.states or case.start), lambda: states(backbone, case, report)),
            ("fit", case.is_fitted, lambda: fit(masked_lm, report)),
        ]
        for subject, is_asked, step in steps:
            if is_asked:
                with report.going_on(subject):
                    step()


def fill(masked_lm: Any, case: Case, report: Report) -> None:
    """The likeliest word."""
    found = masked_lm.fill_mask(case.text, top_k=3, verbose=0)
    some = ", ".join(f"{filling.token_str!r} {filling.score:.4f}" for filling in found)
    report.check(case.text, some, found[0].token_str == case.word)


def inputs(ids: list[int]) -> dict[str, Any]:
    """The features of one sequence."""
    return {"token_ids": np.array([ids]), "padding_mask": np.ones((1, len(ids)), bool)}


def compare(subject: str, found: Any, expected: Any, bound: float, report: Report) -> None:
    """Compares numbers with those that a peer's test has, within its bound."""
    apart = float(np.abs(np.asarray(found) - np.asarray(expected)).max())
    report.check(subject, f"{apart:.1e} apart at most, of {bound:.0e} allowed", apart <= bound)


def logits(masked_lm: Any, case: Case, report: Report) -> None:
    """The logits that transformers' test expects."""
    found = masked_lm({**inputs(HELLO), "mask_positions": np.array([[0, 1, 2]])})[0, :, :3]
    compare("logits of transformers' test_inference_masked_lm", found, case.logits, 1e-3, report)


def states(backbone: Any, case: Case, report: Report) -> None:
    """The hidden states that transformers' and KerasHub's tests expect."""
    if case.states:
        found = backbone(inputs(HELLO))[0, :3, :3]
        compare("states of transformers' test_inference_no_head", found, case.states, 2e-4, report)
    if case.start:
        found = backbone(inputs([0, 133, 2119, 2]))[0, 0, : len(case.start)]
        compare("states of KerasHub's test_smallest_preset", found, case.start, 1e-2, report)


def fit(masked_lm: Any, report: Report) -> None:
    """The first example of KerasHub's page of RobertaMaskedLM."""
    history = masked_lm.fit(x=["The quick brown fox jumped.", "I forgot my homework."], batch_size=2, verbose=0)
    loss = history.history["loss"][0]
    report.check("the loss of KerasHub's page's fit", f"{loss:.4f}", bool(np.isfinite(loss)))


def main() -> int:
    """Checks every case; returns the number of checks that failed."""
    cases = CASES
    if given := os.environ.get("HUB_CHECK_CASES"):
        cases = tuple(Case(**case) for case in json.loads(given))
    homes = ("HOME", "HF_HOME", "HF_HUB_CACHE", "KAGGLEHUB_CACHE", "VIRTUAL_ENV", "TMPDIR")
    private = [*map(os.environ.get, homes), str(Path.home()), os.getcwd(), str(Path(__file__).resolve().parents[1])]
    report = Report([*filter(None, private), sys.prefix])
    report.say("# pyroberta hub check, " + time.strftime("%Y-%m-%d", time.gmtime()))
    for line in machine():
        report.say(line)
    for case in cases:
        check(case, report)
    report.say(f"\n{report.failed} checks failed" if report.failed else "\nall checks passed")
    return report.failed


if __name__ == "__main__":
    sys.exit(min(main(), 1))
