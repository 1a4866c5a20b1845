"""Makes `roberta_tiny_en`, the preset that ships with the package, from nothing.

    python scripts/corpus.py                                  # the text, once
    python scripts/pretrain_tiny.py --minutes 30              # the model, into .cache/pretrain/roberta_tiny_en/
    python scripts/pretrain_tiny.py --tokens 20e6 books/      # a longer run, with text files of your own beside it
    python scripts/pretrain_tiny.py --card .cache/pretrain/roberta_tiny_en/run.json     # the model card again

A run saves weights, moments and its place after every hundredth part. What was stopped goes on from there when the same
command is given again, and ends with the same bits as if it had never stopped; with `--finish` it ends there.

Five steps, a function each: read the corpus, train a vocabulary, cut the text into sequences of full sentences,
initialise so that small models learn soon, and `fit` in a few phases with one learning-rate cycle over them all. Then
the model is measured on text that it never saw, and written with its model card. A run with `--tokens` depends on
nothing but its arguments and the processor; `--minutes` measures the machine's speed first and turns the time into a
number of tokens.

Sources of the recipe: Liu et al. 2019 (RoBERTa, arXiv:1907.11692) for the task and full sentences; Geiping & Goldstein
2022 (Cramming, arXiv:2212.14034) for one short cycle without dropout; Wettig et al. 2023 (arXiv:2202.08005) for more
masks at first; Trockman & Kolter 2023 (arXiv:2305.09828) for initialising attention by what trained models look like.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import logging
import math
import platform
import re
import shlex
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import model_card
import numpy as np
from corpus import DEFAULT_FOLDER, REPOSITORY, held_out, read_paragraphs
from numpy.typing import NDArray

from pyroberta.formats.new_files import NewFile, replace_files
from pyroberta.model.config import RobertaConfig
from pyroberta.model.initial_values import initialise
from pyroberta.model.parameters import Arrays, shapes
from pyroberta.tasks.backbone import Backbone
from pyroberta.tasks.masked_lm import MaskedLM
from pyroberta.text.preprocessor import MaskedLMPreprocessor
from pyroberta.text.tokenizer import Tokenizer
from pyroberta.training import checkpoint
from pyroberta.training.callbacks import Callback
from pyroberta.training.optimizers import AdamW
from pyroberta.training.state import TrainState

NAME = "roberta_tiny_en"
log = logging.getLogger("pretrain")
Ids = NDArray[np.int32]

PEAK_LEARNING_RATE = 1e-3
WARM_UP = 0.05
EVALUATION_MASK_RATE = 0.15
EVALUATION_TOKENS = 150_000
STRETCHES = 100  # parts of a run; it is saved after each
STRETCHES_A_CHECK = 5  # and measured on a few held-out tokens after every fifth

# Written before the first run, and shown in the model card whatever the model makes of them.
PROMPTS = (
    "The capital of France is <mask>.",
    "The children went to <mask> in the morning.",
    "She opened the <mask> and walked in.",
    "The dog <mask> at the stranger.",
    "We must protect the rights of every <mask>.",
    "A car is a vehicle that has four <mask>.",
    "He was <mask> in 1942.",
    "In the <mask> God created the heavens and the earth.",
    "The President of the United <mask> spoke to Congress.",
    "Water is a <mask> without color or taste.",
    "The old man sat down in his <mask> and closed his eyes.",
    '"Where are you <mask>?" she asked.',
    "It was a dark and stormy <mask>.",
    "He put his hand in his <mask> and took out a knife.",
    "They have lived in this house for many <mask>.",
    "Her brother is much older <mask> she is.",
    "A dog is an <mask>.",
    "Monday, Tuesday, <mask>, Thursday.",
    "Thank you very <mask> for your letter.",
    "She was so tired that she fell <mask> at once.",
)


# ---------------------------------------------------------------------------------------------------- 1. the corpus


@dataclass(frozen=True)
class Corpus:
    """Paragraphs to train on, and for each name of an evaluation text the paragraphs to measure on."""

    train: list[list[str]]  # one list per source, in its order
    held_out: dict[str, list[str]]  # of each training source, what is measured on
    evaluate: dict[str, list[str]]
    sources: dict[str, dict[str, Any]]  # the manifest's rows, and the extra files'


def read_corpus(folder: Path, extra: Sequence[Path], only: Sequence[str] | None = None) -> Corpus:
    """Reads what `corpus.py` wrote, and text files (`.txt`, `.txt.gz`; one paragraph a line) or folders of them.

    Two percent of every training source's paragraphs are held out; together they are the evaluation text `in_domain`.
    """
    manifest_path = folder / "manifest.json"
    if not manifest_path.exists():
        raise SystemExit(
            f"no corpus in {folder}: run `python scripts/corpus.py` first, or name its folder with --corpus"
        )
    sources: dict[str, dict[str, Any]] = {
        name: row
        for name, row in json.loads(manifest_path.read_text()).items()
        if row["role"] == "evaluate" or not only or name in only
    }
    paragraphs = {name: (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines() for name in sources}
    for path in text_files(extra):
        name = path.name.removesuffix(".gz").removesuffix(".txt")
        lines = paragraphs[name] = [line for line in read_paragraphs(path) if len(line.split()) > 1]
        sources[name] = {
            "about": "text file given to the script",
            "package": path.name,
            "version": "",
            "licence": "unknown",
            **described(path.with_name(f"{name}.json")),
            "role": "train",
            "words": sum(len(line.split()) for line in lines),
            "bytes": sum(len(line.encode()) + 1 for line in lines),
        }
    train: list[list[str]] = []
    held: dict[str, list[str]] = {}
    evaluate: dict[str, list[str]] = {}
    for name, row in sources.items():
        if row["role"] == "evaluate":
            evaluate[name] = paragraphs[name]
        else:
            train.append([paragraph for paragraph in paragraphs[name] if not held_out(paragraph)])
            held[name] = [paragraph for paragraph in paragraphs[name] if held_out(paragraph)]
    in_domain = list(itertools.chain.from_iterable(held.values()))
    if not in_domain:
        raise SystemExit(f"{folder} holds no training text: run `python scripts/corpus.py`")
    return Corpus(train, held, {"in_domain": in_domain, **evaluate}, sources)


def described(path: Path) -> dict[str, Any]:
    """What the JSON file beside a text file tells the model card about it, as far as there is one.

    `about`, `package` (where it is from), `version`, `licence`, `notice`, and `works`, a list of titles.
    """
    known = ("about", "package", "version", "licence", "notice", "works")
    description = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if unknown := set(description) - set(known):
        raise SystemExit(f"{path}: {', '.join(sorted(unknown))} is not known; what can be told is {', '.join(known)}")
    return dict(description)


def text_files(paths: Sequence[Path]) -> Iterator[Path]:
    """The text files among `paths` and in the folders among them, in the order of their names."""
    for path in paths:
        found = [path] if path.is_file() else sorted([*path.rglob("*.txt"), *path.rglob("*.txt.gz")])
        if not found:
            raise SystemExit(f"{path}: no such file, or a folder without .txt or .txt.gz files")
        yield from found


# ------------------------------------------------------------------------------------------- 2. and 3. the sequences


def train_tokenizer(corpus: Corpus, vocabulary_size: int) -> Tokenizer:
    """A byte-level BPE vocabulary of the training text."""
    texts = itertools.chain.from_iterable(corpus.train)
    tokenizer = Tokenizer.train(texts, vocab_size=vocabulary_size, min_frequency=2)
    if tokenizer.vocabulary_size() != vocabulary_size:
        raise SystemExit(
            f"the text has pairs for {tokenizer.vocabulary_size()} tokens only, not for {vocabulary_size}: more text, "
            "or a smaller --vocabulary"
        )
    return tokenizer


# Behind a full stop, question or exclamation mark, perhaps with a closing quote or bracket; not behind a title.
SENTENCE_END = re.compile(
    r"""(?:(?<=[.!?])|(?<=[.!?]["')]))(?<!\bMr\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)(?= ["'(]*[A-Z0-9])"""
)


def sentences(paragraph: str) -> list[str]:
    """Its sentences, each but the first with the space in front that parts it from the one before.

    >>> sentences('It rained. "Where is he?" she asked. Mr. Smith knew.')
    ['It rained.', ' "Where is he?" she asked.', ' Mr. Smith knew.']
    """
    return SENTENCE_END.split(paragraph)


def full_sentences(paragraphs: Sequence[str], tokenizer: Tokenizer, length: int) -> list[str]:
    """The paragraphs as texts of whole sentences, each as long as fits into `length` tokens with `<s>` and `</s>`.

    Texts run across the ends of paragraphs, so that hardly a place is lost. A sentence that is too long by
    itself is cut between words.
    """
    pieces = [" " + piece.lstrip() for paragraph in paragraphs for piece in sentences(paragraph)]
    counts = [len(ids) for ids in tokenizer.encode_batch(pieces, add_special_tokens=False)]
    limit = length - 2
    texts: list[str] = []
    text, used = "", 0
    for piece, count in split_long(pieces, counts, tokenizer, limit):
        if used + count > limit:
            texts.append(text.lstrip())
            text, used = "", 0
        text, used = text + piece, used + count
    return [*texts, text.lstrip()] if text else texts


def split_long(
    pieces: Sequence[str], counts: Sequence[int], tokenizer: Tokenizer, limit: int
) -> Iterator[tuple[str, int]]:
    """The pieces with their numbers of tokens; those of more than `limit` halved between words until they fit."""
    for piece, count in zip(pieces, counts, strict=True):
        words = piece.split()
        if count <= limit or len(words) < 2:
            if count <= limit:  # a single word that doesn't fit is no word: left out
                yield piece, count
            continue
        halves = [" " + " ".join(part) for part in (words[: len(words) // 2], words[len(words) // 2 :])]
        yield from split_long(
            halves, [len(i) for i in tokenizer.encode_batch(halves, add_special_tokens=False)], tokenizer, limit
        )


def encode(texts: Sequence[str], tokenizer: Tokenizer, length: int) -> list[Ids]:
    """The texts' ids, with `<s>` and `</s>`. A text's first word loses its space, which can cost a token; it is cut."""
    preprocessor = MaskedLMPreprocessor(tokenizer, sequence_length=length)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* cut, which drops")  # that token
        return [np.asarray(ids, np.int32) for ids in preprocessor.encode(list(texts))]


def training_sequences(corpus: Corpus, tokenizer: Tokenizer, length: int) -> list[Ids]:
    """All the training text, source by source, as sequences of at most `length` tokens."""
    return [
        ids for source in corpus.train for ids in encode(full_sentences(source, tokenizer, length), tokenizer, length)
    ]


def evaluation_sequences(texts: dict[str, list[str]], tokenizer: Tokenizer, length: int) -> dict[str, list[Ids]]:
    """For each text every n-th sequence, so that there are about `EVALUATION_TOKENS` tokens."""
    chosen = {}
    for name, paragraphs in texts.items():
        sequences = encode(full_sentences(paragraphs, tokenizer, length), tokenizer, length)
        every = math.ceil(sum(map(len, sequences)) / EVALUATION_TOKENS)
        chosen[name] = sequences[::every]
    return chosen


# ----------------------------------------------------------------------------------------------- 4. the first values


def new_model(
    config: RobertaConfig, tokenizer: Tokenizer, token_counts: NDArray[np.int64], seed: int, backend: str
) -> MaskedLM:
    """A fresh model whose heads look at their neighbours, and whose output knows how often each token occurs.

    Small masked language models first learn token frequencies and stay there for long, every prompt giving the same
    five words, before they find out where their neighbours are. The `neighbour` initializer shows them, and the
    logarithm of the frequencies as the output's bias spares them the first step.

    Args:
        config: the model's shape.
        tokenizer: of its vocabulary.
        token_counts: (V,), occurrences in the training text.
        seed: of the first values, of masks and of order.
        backend: name of the table of ops.
    """
    params = Arrays(shapes(config), np.float32)
    initialise(params, config, "neighbour", seed)
    params["head.bias"][...] = np.log((token_counts + 1.0) / (token_counts + 1.0).sum())
    return MaskedLM(Backbone.from_parts(config, params, backend), preprocessor(tokenizer, PHASES[0]), seed=seed)


# --------------------------------------------------------------------------------------------------- 5. the training


@dataclass(frozen=True)
class Phase:
    """A stretch of training with everything but the learning rate constant."""

    share: float  # of all training tokens
    sequence_length: int
    tokens_per_step: int  # at most: a step has tokens_per_step / sequence_length sequences
    mask_rate: float


# Small steps at first, when every gradient tells something new; larger ones later, when noise is what is in the way.
# Many masks at first, for more to learn from each text; few in the last third, when contexts should be as in use.
# Short sequences first, for speed; longer ones at the end, so that the positions from 64 to 127 learn as well.
PHASES = (
    Phase(0.10, 64, 1024, 0.30),
    Phase(0.20, 128, 2048, 0.30),
    Phase(0.25, 128, 4096, 0.30),
    Phase(0.25, 128, 4096, 0.20),
    Phase(0.20, 128, 4096, 0.15),
)


def one_cycle(done: float) -> float:
    """The share of the peak learning rate after a share `done` of the training tokens: a linear way up, and down to 0.

    >>> one_cycle(0.0), one_cycle(0.05), one_cycle(0.525), one_cycle(1.0)
    (0.0, 1.0, 0.5, 0.0)
    """
    return max(0.0, min(done / WARM_UP, (1.0 - done) / (1.0 - WARM_UP)))


def schedule(peak: float, steps: Sequence[int], shares: Sequence[float]) -> Callable[[int], float]:
    """The learning rate of each update, where the phases have so many steps and so large shares of the tokens."""
    ends = np.cumsum([0, *steps])
    done = np.cumsum([0.0, *shares])
    # the middle of a step: the first one would have a rate of zero at its start
    return lambda step: peak * one_cycle(float(np.interp(step + 0.5, ends, done / done[-1])))


def passes(sequences: Sequence[Ids], seed: int) -> Iterator[Ids]:
    """The sequences in random order, again and again, each pass in another."""
    generator = np.random.default_rng(seed)
    while True:
        yield from (sequences[i] for i in generator.permutation(len(sequences)))


def plan(tokens: int, sequences: dict[int, list[Ids]], seed: int) -> list[list[Ids]]:
    """The sequences of each phase, in whole steps, that make up `tokens` tokens together."""
    streams = {length: passes(some, seed) for length, some in sequences.items()}
    chosen = []
    for phase in PHASES:
        size = phase.tokens_per_step // phase.sequence_length
        part: list[Ids] = []
        seen = 0
        while seen < phase.share * tokens or len(part) % size:
            part.append(next(streams[phase.sequence_length]))
            seen += len(part[-1])
        chosen.append(part)
    return chosen


def preprocessor(tokenizer: Tokenizer, phase: Phase) -> MaskedLMPreprocessor:
    return MaskedLMPreprocessor(tokenizer, sequence_length=phase.sequence_length, mask_selection_rate=phase.mask_rate)


def optimizer(learning_rate: Any) -> AdamW:
    """AdamW as in the recipe; it lets biases and layer norms be when it decays."""
    return AdamW(
        learning_rate=learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-6, weight_decay=0.01, global_clipnorm=1.0
    )


def tokens_in(minutes: float, model: MaskedLM, sequences: dict[int, list[Ids]], backend: str) -> int:
    """How many training tokens fit into so many minutes, judged by two steps of each phase on a copy of the model."""
    params = model.backbone.params.astype(np.float32)
    copy = MaskedLM(Backbone.from_parts(model.backbone.config, params, backend), model.preprocessor)
    copy.compile(optimizer=optimizer(1e-6))
    seconds_per_token = 0.0
    for phase in PHASES:
        assert copy.preprocessor is not None
        copy.preprocessor = preprocessor(copy.preprocessor.tokenizer, phase)
        batch = sequences[phase.sequence_length][: phase.tokens_per_step // phase.sequence_length]
        seconds = []
        for _ in range(2):  # the first one makes buffers, or meets a busy moment
            start = time.perf_counter()
            copy.train_on_batch(batch)
            seconds.append(time.perf_counter() - start)
        seconds_per_token += phase.share * min(seconds) / sum(map(len, batch))
    return int(minutes * 60 / seconds_per_token)


@dataclass(frozen=True)
class Stretch:
    """A part of a phase, in whole steps; a run is saved between two of them."""

    phase: int
    sequences: list[Ids]


def stretches(parts: Sequence[Sequence[Ids]]) -> list[Stretch]:
    """The phases' sequences, cut into about `STRETCHES` stretches of equally many tokens."""
    target = sum(len(ids) for part in parts for ids in part) / STRETCHES
    cut = []
    for number, (phase, part) in enumerate(zip(PHASES, parts, strict=True)):
        size = phase.tokens_per_step // phase.sequence_length
        steps = len(part) // size
        count = min(steps, max(1, round(sum(map(len, part)) / target)))
        ends = [steps * i // count * size for i in range(count + 1)]
        cut += [Stretch(number, list(part[start:end])) for start, end in itertools.pairwise(ends)]
    return cut


class Journal(Callback):
    """How the run goes: a line for each stretch, and between them what was measured on held-out text.

    Attributes:
        lines: place, loss and accuracy of each stretch's training.
        checks: what `measure` gave along the way, with the number of tokens trained on until then.
        tokens, steps: so far.
        seconds: of training alone, without measuring and saving.
    """

    def __init__(self, learning_rate: Callable[[int], float], total: int) -> None:
        super().__init__()
        self.learning_rate, self.total = learning_rate, total
        self.lines: list[dict[str, Any]] = []
        self.checks: list[dict[str, Any]] = []
        self.tokens = self.steps = 0
        self.seconds = 0.0

    def get_state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("lines", "checks", "tokens", "steps", "seconds")}

    def set_state(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps += 1
        self.tokens += logs.tokens

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds += time.perf_counter() - self.began
        line = {
            "step": self.steps,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 1),
            "loss": round(logs["loss"], 4),
            "accuracy": round(logs["accuracy"], 4),
            "learning_rate": self.learning_rate(self.steps - 1),
        }
        self.lines.append(line)
        speed = self.tokens / self.seconds
        log.info(
            "step %5d  %5.2f of %.2f M tokens  loss %.3f  accuracy %4.1f %%  lr %.1e  %.0f tokens/s, %.0f min left",
            self.steps, self.tokens / 1e6, self.total / 1e6, line["loss"], 100 * line["accuracy"],
            line["learning_rate"], speed, (self.total - self.tokens) / speed / 60,
        )  # fmt: skip


@dataclass(frozen=True)
class Saved:
    """Where a run keeps itself between two stretches, so that it goes on there with the same bits after a stop.

    Attributes:
        file: a checkpoint, whose notes have the rest: what the run follows from, its text, and how far it is.
        arguments: what the run's outcome depends on; a run of other arguments is not gone on with.
    """

    file: Path
    arguments: dict[str, Any]

    def read(self) -> tuple[TrainState, dict[str, Any]] | None:
        """The state and the notes, None where nothing was saved.

        Raises:
            SystemExit: for a run of other arguments.
        """
        if not self.file.exists():
            return None
        state, notes = checkpoint.load(self.file)
        came = json.loads(json.dumps(self.arguments))  # as JSON has them
        before = notes["arguments"]
        other = [name for name in {**came, **before} if came.get(name) != before.get(name)]
        if other:
            differences = ", ".join(f"{name} {before.get(name)} (now {came.get(name)})" for name in other)
            raise SystemExit(
                f"{self.file} holds a run of other arguments: {differences}. Give those to go on with it, another "
                "--out to start a new one, or delete the file"
            )
        return state, notes

    def write(self, model: MaskedLM, **notes: Any) -> None:
        checkpoint.save(self.file, model.train_state(), {"arguments": self.arguments, **notes})


def digest(parts: Sequence[Sequence[Ids]]) -> str:
    """Of all the sequences that a run trains on, in their order."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(np.concatenate(part).astype("<i4").tobytes())
    return sha.hexdigest()


def train(
    model: MaskedLM,
    parts: Sequence[Sequence[Ids]],
    planned: int,
    peak: float,
    saved: Saved,
    check: Callable[[Phase], Any],
    finish: bool = False,
) -> Journal:
    """All the phases with one optimizer, from where `saved` left off.

    Args:
        model: as initialised; trained in place.
        parts: the sequences of each phase.
        planned: how many tokens were asked for; written down for the run that goes on.
        peak: the highest learning rate.
        saved: read at first, and written after each stretch.
        check: measures along the way.
        finish: don't train, but take what was saved as the result.
    """
    tokens_of = [sum(map(len, part)) for part in parts]
    steps = [
        len(part) // (phase.tokens_per_step // phase.sequence_length) for phase, part in zip(PHASES, parts, strict=True)
    ]
    learning_rate = schedule(peak, steps, tokens_of)
    model.compile(optimizer=optimizer(learning_rate))
    journal = Journal(learning_rate, sum(tokens_of))
    text = digest(parts)
    done = 0
    if found := saved.read():
        state, notes = found
        if notes["digest"] != text:
            raise SystemExit(f"{saved.file} holds a run on another text: give another --out, or delete it")
        model.load_train_state(state)
        journal.set_state(notes["journal"])
        done = notes["stretches"]
        log.info("going on after step %d, %.2f M tokens", journal.steps, journal.tokens / 1e6)
    assert model.preprocessor is not None
    tokenizer = model.preprocessor.tokenizer
    plan_ = stretches(parts)
    for number, stretch in enumerate(plan_[:done] if finish else plan_):
        phase = PHASES[stretch.phase]
        model.preprocessor = preprocessor(tokenizer, phase)
        if number < done:
            continue
        # the stretch's number as the epoch's: masks and order are drawn from it
        model.fit(
            stretch.sequences,
            batch_size=phase.tokens_per_step // phase.sequence_length,
            initial_epoch=number,
            epochs=number + 1,
            callbacks=[journal],
            verbose=0,
        )
        if (number + 1) % STRETCHES_A_CHECK == 0:
            figures = check(phase)
            journal.checks.append({"tokens": journal.tokens, "sequence_length": phase.sequence_length, **figures})
        saved.write(model, digest=text, tokens=planned, stretches=number + 1, journal=journal.get_state())
    return journal


# --------------------------------------------------------------------------------------------- measuring and writing


def unigram(sequences: Sequence[Ids], special: list[int]) -> dict[str, float]:
    """What could be had without looking at the context, with the text's own frequencies known.

    Returns:
        `entropy` in nats: the loss of the best guess of that kind. `most_frequent`: the share of the most frequent
        token, the accuracy of always saying it.
    """
    ids = np.concatenate(sequences)
    counts = np.bincount(ids[~np.isin(ids, special)])
    p = counts[counts > 0] / counts.sum()
    return {"entropy": float(-(p * np.log(p)).sum()), "most_frequent": float(p.max())}


def measure(
    model: MaskedLM, texts: dict[str, list[Ids]], tokens: int | None = None, **rates: float
) -> dict[str, dict[str, float]]:
    """Loss, masked accuracy and the two baselines on each evaluation text, or on about `tokens` tokens of each.

    `rates` are those of `MaskedLMPreprocessor`, where they are not the usual ones.
    """
    assert model.preprocessor is not None
    kept = model.preprocessor
    tokenizer = kept.tokenizer
    model.preprocessor = MaskedLMPreprocessor(
        tokenizer, kept.sequence_length, mask_selection_rate=EVALUATION_MASK_RATE, **rates
    )
    figures = {}
    for name, sequences in texts.items():
        some = sequences[:: max(1, sum(map(len, sequences)) // tokens)] if tokens else sequences
        values = model.evaluate(some, batch_size=64, verbose=0, return_dict=True)
        figures[name] = {
            "loss": float(values["loss"]),
            "accuracy": float(values["accuracy"]),
            **unigram(some, tokenizer.special_token_ids),
            "tokens": sum(map(len, some)),
        }
        log.info(
            "%-12s loss %.3f (unigram entropy %.3f)  accuracy %.1f %% (most frequent token %.1f %%)",
            name, figures[name]["loss"], figures[name]["entropy"], 100 * figures[name]["accuracy"],
            100 * figures[name]["most_frequent"],
        )  # fmt: skip
    model.preprocessor = kept
    return figures


def shown_prompts(model: MaskedLM) -> list[dict[str, Any]]:
    """The five likeliest tokens for each of `PROMPTS`."""
    answers = model.fill_mask(list(PROMPTS), top_k=5)
    return [
        {"prompt": prompt, "answers": [[filling.token_str.strip(), round(filling.score, 3)] for filling in fillings]}
        for prompt, fillings in zip(PROMPTS, answers, strict=True)
    ]


def gate(run: dict[str, Any]) -> list[str]:
    """What the model falls short of, of what a preset that ships should reach; nothing where it is good enough."""
    figures = run["figures"]
    unseen = max(figures[name]["accuracy"] for name in figures if name != "in_domain")
    answers = {tuple(word for word, _ in shown["answers"]) for shown in run["prompts"]}
    wanted = [
        (
            figures["in_domain"]["loss"] < figures["in_domain"]["entropy"] - 2.0,
            "in-domain loss is not 2 nats under the unigram entropy",
        ),
        (figures["in_domain"]["accuracy"] >= 0.25, "in-domain accuracy is below 25 %"),
        (unseen >= 0.18, "accuracy is below 18 % on every source never trained on"),
        (len(answers) > 0.7 * len(PROMPTS), f"only {len(answers)} different answers to {len(PROMPTS)} prompts"),
    ]
    return [text for reached, text in wanted if not reached]


def write_preset(model: MaskedLM, run: dict[str, Any], directory: Path) -> None:
    """The preset in float16, its model card, and the record of the run."""
    model.save_to_preset(directory, dtype="float16")
    record = directory / "run.json"
    replace_files(directory, {record.name: NewFile.of(json.dumps(run, indent=1, ensure_ascii=False) + "\n")})
    model_card.write(record)


# -------------------------------------------------------------------------------------------------------- the command


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=f"Pretrains {NAME} from the corpus of scripts/corpus.py.")
    parser.add_argument("texts", nargs="*", type=Path, help="more text: .txt or .txt.gz files, or folders of them")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--tokens", type=float, help="how many tokens to train on")
    budget.add_argument("--minutes", type=float, help="or: how long to train (30)")
    parser.add_argument("--corpus", type=Path, default=DEFAULT_FOLDER, help="what corpus.py wrote (.cache/corpus)")
    parser.add_argument("--sources", nargs="+", metavar="NAME", help="just these of its training sources")
    parser.add_argument("--out", type=Path, default=REPOSITORY / ".cache" / "pretrain", help="folder (.cache/pretrain)")
    parser.add_argument("--install", action="store_true", help="copy the preset into the package if it passes the gate")
    parser.add_argument("--finish", action="store_true", help="don't train on: end the run in --out where it stands")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", default="auto", help="auto, numpy or native")
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--learning-rate", type=float, default=PEAK_LEARNING_RATE, help="the highest one")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--note", default="", help="a sentence for the model card, such as where more texts are from")
    parser.add_argument("--card", type=Path, metavar="RUN.json", help="just write the model card of that run again")
    return parser.parse_args(arguments)


def pretrain(options: argparse.Namespace) -> tuple[MaskedLM, dict[str, Any]]:
    """The whole of it: the model, and the record of its run."""
    corpus = read_corpus(options.corpus, options.texts, options.sources)
    log.info("%d sources, %.1f M words", len(corpus.train), sum(len(p.split()) for s in corpus.train for p in s) / 1e6)

    tokenizer = train_tokenizer(corpus, options.vocabulary)
    held = corpus.evaluate["in_domain"]
    tokens_per_word = sum(len(ids) - 2 for ids in tokenizer.encode_batch(held)) / sum(len(p.split()) for p in held)
    log.info("vocabulary of %d; %.3f tokens a word on held-out text", tokenizer.vocabulary_size(), tokens_per_word)

    lengths = sorted({phase.sequence_length for phase in PHASES})
    sequences = {length: training_sequences(corpus, tokenizer, length) for length in lengths}
    evaluation = {length: evaluation_sequences(corpus.evaluate, tokenizer, length) for length in lengths}
    counts = np.bincount(np.concatenate(sequences[lengths[0]]), minlength=tokenizer.vocabulary_size())
    log.info("%.1f M tokens in sequences of %s", counts.sum() / 1e6, lengths)

    config = RobertaConfig(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=options.layers,
        num_heads=options.heads,
        hidden_dim=options.hidden,
        intermediate_dim=4 * options.hidden,
        dropout=0.0,
        max_sequence_length=max(lengths),
        start_id=tokenizer.start_token_id,
        pad_id=tokenizer.pad_token_id,
        end_id=tokenizer.end_token_id,
    )
    model = new_model(config, tokenizer, counts, options.seed, options.backend)
    saved = Saved(options.out / "checkpoint.safetensors", decisive(options))
    found = saved.read()
    if options.finish and not found:
        raise SystemExit(f"--finish: {saved.file} holds no run")
    tokens = int(
        found[1]["tokens"]  # --minutes may measure another speed this time
        if found
        else options.tokens or tokens_in(options.minutes or 30.0, model, sequences, options.backend)
    )
    log.info("%d parameters, %.2f M tokens to train on", model.count_params(), tokens / 1e6)

    def check(phase: Phase) -> dict[str, Any]:  # at the phase's length: positions behind it know nothing yet
        return measure(model, evaluation[phase.sequence_length], tokens=30_000)

    journal = train(
        model, plan(tokens, sequences, options.seed), tokens, options.learning_rate, saved, check, options.finish
    )
    return model, {
        "name": NAME,
        "command": options.command,
        "config": asdict(config),
        "parameters": model.count_params(),
        "sources": corpus.sources,
        "recipe": {
            "phases": [asdict(phase) for phase in PHASES],
            "learning_rate": options.learning_rate,
            "warm_up": WARM_UP,
        },
        "seed": options.seed,
        "backend": model.backbone.ops.name,
        "tokens": journal.tokens,
        "planned_tokens": journal.total,
        "steps": journal.steps,
        "seconds": round(journal.seconds, 1),
        "machine": f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}",
        "tokens_per_word": tokens_per_word,
        "evaluation": {"mask_rate": EVALUATION_MASK_RATE, "tokens": EVALUATION_TOKENS},
        "figures": measure(model, evaluation[lengths[-1]]),
        "figures_hidden": measure(model, evaluation[lengths[-1]], mask_token_rate=1.0, random_token_rate=0.0),
        "figures_by_source": measure(model, evaluation_sequences(corpus.held_out, tokenizer, lengths[-1])),
        "prompts": shown_prompts(model),
        "note": options.note,
        "log": journal.lines,
        "checks": journal.checks,
    }


def decisive(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments that a run's outcome follows from."""
    names = (
        "tokens",
        "minutes",
        "sources",
        "seed",
        "backend",
        "vocabulary",
        "learning_rate",
        "layers",
        "hidden",
        "heads",
    )
    return {"texts": [path.name for path in options.texts], **{name: getattr(options, name) for name in names}}


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    options.command = shlex.join(["python", "scripts/pretrain_tiny.py", *(arguments or sys.argv[1:])])
    if options.card:
        model_card.write(options.card)
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [
        logging.StreamHandler(sys.stderr),
        logging.FileHandler(options.out / "log.txt"),
    ]
    log.setLevel(logging.INFO)
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)
    try:
        model, run = pretrain(options)
        directory = options.out / NAME
        write_preset(model, run, directory)
        print(directory)
        failings = gate(run)
        for failing in failings:
            log.warning("not good enough to ship: %s", failing)
        if options.install and not failings:
            embedded = REPOSITORY / "pyroberta" / "presets" / "embedded" / NAME
            shutil.copytree(directory, embedded, dirs_exist_ok=True)
            log.info("installed into %s", embedded)
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
    return int(bool(failings))


if __name__ == "__main__":
    sys.exit(main())
