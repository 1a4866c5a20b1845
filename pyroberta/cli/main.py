"""The command line. Thin: each command calls what Python users call. Results go to stdout, progress to stderr."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pyroberta.backends import NAMES as BACKENDS
from pyroberta.model.hints import did_you_mean
from pyroberta.text.long_texts import LONG_TEXTS
from pyroberta.training.callbacks import Screen

Command = Callable[[argparse.Namespace], Any]

OK, FAILED, WRONG, DIVERGED, SIGNALLED = 0, 1, 2, 3, 128  # argparse exits with 2, too; a signal's number is added
EXIT_CODES = (
    "Exit codes: 0 done; 1 failed while it ran (no room, no memory, no connection, a package that is not installed); "
    "2 what was given is wrong (an option, a value, a text, a file, a preset); 3 the training diverged, and what it "
    "gave is in OUTPUT.diverged; 130 stopped by Ctrl-C, 143 by SIGTERM, 129 by a terminal's end, where `fit` saves "
    "what was trained so far."
)
# What the package raises for what it was given. All else failed while it ran.
WRONGLY_GIVEN = (ValueError, TypeError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)


class Stopped(KeyboardInterrupt):
    """A signal came that asks the program to end."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number = number


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code, as `pyroberta --help` lists them."""
    arguments, unknown = build_parser().parse_known_args(argv)
    if unknown:
        arguments.parser.refuse(unknown)
    arguments.exit_code = OK
    try:
        output = contextlib.redirect_stdout(_Output(sys.stdout or Screen(None)))
        with output, contextlib.redirect_stderr(Screen(sys.stderr)), warnings.catch_warnings(), _stoppable():
            warnings.showwarning = _show_warning
            result = arguments.command(arguments)
            if arguments.json:
                print(json.dumps(_finite(result), indent=2, allow_nan=False))
            sys.stdout.flush()
    except KeyboardInterrupt as stop:
        print("interrupted", file=Screen(sys.stderr))
        return _code_of(stop)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        # Python flushes stdout once more when it ends, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (ValueError, TypeError, OSError, ArithmeticError, ImportError, MemoryError, RuntimeError) as error:
        print(f"pyroberta: {_as_typed(str(error)) or type(error).__name__}", file=Screen(sys.stderr))
        return WRONG if isinstance(error, WRONGLY_GIVEN) else FAILED
    return int(arguments.exit_code)


def _as_typed(message: str) -> str:
    """A message with options as they are typed here, where it has Python's arguments."""
    return re.sub(r"\blong_texts=(?:'(\w+)')?", lambda found: f"--long-texts {found[1] or ''}".rstrip(), message)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that was closed, end the block as Ctrl-C does. No half-written file is left.

    A handler that is there stays; so does what `nohup` has set.
    """
    is_main = threading.current_thread() is threading.main_thread()
    ending = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ours = [number for number in ending if is_main and signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int, frame: Any) -> None:
        raise Stopped(number)

    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _code_of(stop: KeyboardInterrupt) -> int:
    return SIGNALLED + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


def _show_warning(message: Warning | str, *where: Any, **keywords: Any) -> None:
    """A warning in one line on stderr, without the line of code that it is from."""
    print(f"pyroberta: warning: {message}", file=sys.stderr)


class _Output:
    """Standard output, whose errors say that they are its own: a full disk, say."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._named():
            return int(self._stream.write(text))

    def flush(self) -> None:
        with self._named():
            self._stream.flush()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise type(error)(error.errno, f"can't write to standard output: {error.strerror}") from error


def _finite(result: Any) -> Any:
    """The same with None, JSON's null, for NaN and infinity, which JSON lacks."""
    if isinstance(result, dict):
        return {name: _finite(value) for name, value in result.items()}
    if isinstance(result, list | tuple):
        return [_finite(value) for value in result]
    return None if isinstance(result, float) and not math.isfinite(result) else result


def build_parser() -> argparse.ArgumentParser:
    """The parser with all its commands."""
    from pyroberta import __version__

    parser = _Parser(
        prog="pyroberta",
        description="RoBERTa's masked language model: fit it on your texts, fill masks, score sentences.",
        epilog="`pyroberta COMMAND --help` tells more. Texts are read one a line; `-` is standard input. " + EXIT_CODES,
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pyroberta {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Command, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=help, description=help[0].upper() + help[1:] + ".", formatter_class=_HelpFormatter
        )
        sub.set_defaults(command=run, parser=sub)
        sub.add_argument("--json", action="store_true", help="print the result as JSON")
        return sub

    fit = command("fit", _fit, "train a model on a text file and save it")
    fit.add_argument("texts", metavar="FILE", help="UTF-8 text file, one text a line, or -")
    fit.add_argument("-o", "--output", required=True, metavar="DIR", help="where to save the model")
    _overwrite_option(fit, "a model")
    _model_options(fit)
    fit.add_argument("--fresh", action="store_true", help="start from fresh values instead of the preset's weights")
    fit.add_argument(
        "--tokenizer", metavar="DIR", help="with --fresh: a vocabulary of train-tokenizer instead of the preset's"
    )
    fit.add_argument("--epochs", type=_positive, metavar="N", default=1, help="times through the texts")
    fit.add_argument("--batch-size", type=_positive, metavar="N", default=16, help="texts in a step")
    fit.add_argument(
        "--accumulate", type=_positive, default=1, metavar="N", help="steps whose gradients make an update"
    )
    fit.add_argument(
        "--learning-rate", type=_number, metavar="RATE", default=5e-5, help="of Adam: it rises to this, then falls to 0"
    )
    fit.add_argument(
        "--warmup", type=_fraction, metavar="PART", default=0.06, help="part of the updates in which it rises"
    )
    fit.add_argument("--validation", metavar="FILE", help="text file to evaluate on after every epoch")
    fit.add_argument("--seed", type=_whole, metavar="N", default=0, help="of order, masks and dropout")
    fit.add_argument(
        "--freeze", metavar="REGEX", action="append", default=[], help="leave parameters with such names alone"
    )
    _long_texts_option(fit, "split")
    fit.add_argument("--quiet", action="store_true", help="no progress")

    evaluate = command("evaluate", _evaluate, "loss, accuracy and perplexity on a text file, from fixed masks")
    evaluate.add_argument("texts", metavar="FILE", help="UTF-8 text file, one text a line, or -")
    _model_options(evaluate)
    evaluate.add_argument("--batch-size", type=_positive, metavar="N", default=16, help="texts in a step")
    _long_texts_option(evaluate, "split")
    evaluate.add_argument("--quiet", action="store_true", help="no progress")

    fill = command("fill-mask", _fill_mask, "the likeliest words for every <mask>")
    fill.add_argument(
        "texts", nargs="*", metavar="TEXT", help="texts with <mask>; none, or -, reads standard input, one a line"
    )
    _model_options(fill)
    fill.add_argument("-k", "--top-k", type=_positive, metavar="N", default=5, help="candidates for each mask")
    fill.add_argument("--targets", metavar="WORD,WORD", help="rank these words alone")
    _long_texts_option(fill, "refuse", [how for how in LONG_TEXTS if how != "split"])  # each mask has its answer
    fill.add_argument("--quiet", action="store_true", help="no progress")

    score = command("score", _score, "how likely each token of a text is, given the others")
    score.add_argument("texts", nargs="*", metavar="TEXT", help="texts; none, or -, reads standard input, one a line")
    _model_options(score)
    score.add_argument("--batch-size", type=_positive, metavar="N", help="masked copies in a batch at most")
    _long_texts_option(score, "refuse")
    score.add_argument("--quiet", action="store_true", help="no progress")

    train = command("train-tokenizer", _train_tokenizer, "learn a byte-level BPE vocabulary from text files")
    train.add_argument("files", nargs="+", metavar="FILE", help="UTF-8 text files, one text a line, or -")
    train.add_argument("-o", "--output", required=True, metavar="DIR", help="where to save the vocabulary")
    _overwrite_option(train, "a vocabulary")
    train.add_argument(
        "--vocab-size", type=_positive, metavar="N", default=8000, help="entries, specials and bytes included"
    )
    train.add_argument(
        "--min-frequency", type=_positive, metavar="N", default=2, help="how often a pair must occur to be merged"
    )

    command("presets", _presets, "the names of presets that --model takes, beside directories and handles")

    send = command("upload", _upload, "put a saved model on the Hugging Face hub or Kaggle")
    send.add_argument("directory", metavar="DIR", help="as `pyroberta fit --output DIR` made it")
    send.add_argument("handle", metavar="HANDLE", help="hf://ORGANISATION/NAME or kaggle://OWNER/MODEL/keras/VARIATION")
    send.add_argument("--private", action="store_true", help="when it is made: for you alone to see")
    send.add_argument("--licence", metavar="ID", help="such as apache-2.0; on Kaggle such as 'Apache 2.0'")
    send.add_argument("--trained-from", metavar="PRESET", help="name or handle of the preset that you trained further")
    send.add_argument("--message", metavar="TEXT", default="A model saved by pyroberta", help="of the commit")
    convert = command("convert", _convert, "write a preset anew, in another format or dtype")
    convert.add_argument("source", metavar="SRC", help="name or directory of a preset")
    convert.add_argument("target", metavar="DST", help="directory to write")
    _overwrite_option(convert, "a model", "DST")
    convert.add_argument("--format", metavar="NAME", default="hf", help="hf (transformers) or keras (KerasHub)")
    convert.add_argument(
        "--dtype", metavar="NAME", default="float32", help="of the weights: float32, float16, bfloat16 or float64"
    )
    convert.add_argument(
        "--max-shard-size",
        metavar="SIZE",
        default="5GB",
        help="weights that are larger go into several files: such as 500MB, a number of gigabytes, or none",
    )
    convert.add_argument("--include-optimizer", action="store_true", help="with the state of training that SRC has")

    command("doctor", _doctor, "which backends are there, and why others are not")

    demo = command("demo", _demo, "fit the embedded preset on real speeches and fill masks before and after")
    demo.add_argument("--from-scratch", action="store_true", help="train a fresh small model instead")
    demo.add_argument(
        "--updates", type=_positive, metavar="N", help="length of the training, rounded up to five equal parts"
    )
    demo.add_argument("-o", "--output", metavar="DIR", help="save the model there")
    _overwrite_option(demo, "a model")
    _backend_option(demo)
    return parser


class _Parser(argparse.ArgumentParser):
    """Says what may have been meant by an unknown option."""

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Exits with 2 for arguments that the parser did not know."""
        first = unknown[0]
        if not first.startswith("-"):
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        options = {option.lstrip("-"): option for action in self._actions for option in action.option_strings}
        given = first.partition("=")[0]
        hint = did_you_mean(given.lstrip("-"), options)
        for name, option in options.items():
            hint = hint.replace(repr(name), option)
        self.error(f"unknown option {given}{hint}")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Tells defaults, but not those that say nothing; options and their help on one line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.default == [] or action.required:
            return action.help
        return super()._get_help_string(action)


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-m", "--model", metavar="PRESET", default="roberta_tiny_en", help="name, directory, hf:// or kaggle:// handle"
    )
    _backend_option(parser)
    parser.add_argument(
        "--fresh-head", action="store_true", help="take a model without a masked-LM head, and give it an untrained one"
    )


def _backend_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend", metavar="NAME", choices=BACKENDS, default="auto",
        help=f"{_either(BACKENDS)}; see `pyroberta doctor`",
    )  # fmt: skip


def _long_texts_option(parser: argparse.ArgumentParser, default: str, choices: Sequence[str] = LONG_TEXTS) -> None:
    parser.add_argument(
        "--long-texts", metavar="HOW", choices=choices, default=default,
        help=f"texts longer than the model takes: {_either(choices)}",
    )  # fmt: skip


def _overwrite_option(parser: argparse.ArgumentParser, what: str, where: str = "DIR") -> None:
    parser.add_argument("--overwrite", action="store_true", help=f"replace {what} that {where} holds already")


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _positive(text: str) -> int:
    with contextlib.suppress(ValueError):
        if int(text) >= 1:
            return int(text)
    raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")


def _fraction(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0.0 <= float(text) < 1.0:
            return float(text)
    raise argparse.ArgumentTypeError(f"must be a number in [0, 1), got {text!r}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None


def _load(arguments: argparse.Namespace, **keywords: Any) -> Any:
    from pyroberta.presets.checks import FreshHeadWarning
    from pyroberta.tasks.masked_lm import MaskedLM

    with warnings.catch_warnings():
        if not arguments.fresh_head:
            warnings.simplefilter("error", FreshHeadWarning)
        try:
            return MaskedLM.from_preset(arguments.model, backend=arguments.backend, **keywords)
        except FreshHeadWarning as warning:
            from pyroberta.presets.preset import open_preset

            classes = open_preset(arguments.model, weights=False).config.num_classes
            what = "" if classes is None else f" It is a classifier for {classes} classes."
            raise ValueError(
                f"{str(warning).split(': a fresh one')[0]}.{what} With --fresh-head it gets an untrained one, which "
                "knows nothing before `pyroberta fit`"
            ) from None


def _fresh(arguments: argparse.Namespace) -> Any:
    """A model of the preset's shape with fresh values and a vocabulary of its own."""
    from dataclasses import asdict

    from pyroberta.presets.preset import open_preset
    from pyroberta.tasks.backbone import Backbone
    from pyroberta.tasks.masked_lm import MaskedLM
    from pyroberta.text.preprocessor import MaskedLMPreprocessor
    from pyroberta.text.tokenizer import Tokenizer

    if not os.path.isdir(arguments.tokenizer):
        raise FileNotFoundError(
            f"--tokenizer {arguments.tokenizer}: there is no such directory. Make one with "
            f"`pyroberta train-tokenizer FILE -o {arguments.tokenizer}`"
        )
    tokenizer = Tokenizer.load(arguments.tokenizer)
    preset = open_preset(arguments.model, weights=False)
    ids = {"start_id": tokenizer.start_id, "pad_id": tokenizer.pad_id, "end_id": tokenizer.end_id}
    config = asdict(preset.config) | ids | {"vocabulary_size": tokenizer.vocabulary_size}
    backbone = Backbone(**config, backend=arguments.backend, seed=arguments.seed)
    preprocessor = MaskedLMPreprocessor.from_preset(preset, tokenizer=tokenizer)
    return MaskedLM(backbone, preprocessor, seed=arguments.seed)


def _read(source: str) -> list[str]:
    from pyroberta.text.text_files import lines_of, read_lines

    if source == "-":
        return lines_of(sys.stdin.buffer, "standard input", for_shell=True)
    if not os.path.exists(source) or os.path.isdir(source):
        what = "is a directory" if os.path.isdir(source) else "there is no such file"
        raise FileNotFoundError(f"{source}: {what}. Give a UTF-8 text file with one text a line, or - to read stdin")
    return read_lines(source, for_shell=True)


def _texts(arguments: argparse.Namespace) -> list[str]:
    texts: list[str] = arguments.texts
    if texts in ([], ["-"]):
        return _read("-")
    for text in texts:
        if os.path.isfile(text):
            quoted = shlex.quote(text)
            raise ValueError(
                f"{text!r} is the name of a file, and TEXT is the text itself. For the texts in the file, one a line: "
                f"{arguments.parser.prog} - < {quoted}. For these characters: echo {quoted} | {arguments.parser.prog} -"
            )
    return texts


def _check_free(arguments: argparse.Namespace, place: str, marks: Sequence[str] = ("config.json",)) -> None:
    """That nothing is replaced unasked, told before the work begins.

    Raises:
        FileExistsError: where `place` holds one of the files `marks`, unless `--overwrite` is given.
    """
    found = next((mark for mark in marks if os.path.isfile(os.path.join(os.path.expanduser(place), mark))), None)
    if found and not arguments.overwrite:
        what = "a model" if found == "config.json" else "a vocabulary"
        begins = getattr(arguments, "model", place)  # of fit
        going_on = f"; to go on training it: --model {place} --output {place} --overwrite" if begins != place else ""
        raise FileExistsError(
            f"{place} holds {what} already ({found}). Give another directory, or --overwrite to replace it{going_on}"
        )


def _fit(arguments: argparse.Namespace) -> dict[str, Any]:
    from pyroberta.presets.writing import check_saveable
    from pyroberta.training import callbacks, optimizers, schedules
    from pyroberta.training.loop import NonFiniteError

    _check_free(arguments, arguments.output)
    texts = _read(arguments.texts)
    validation = _read(arguments.validation) if arguments.validation else None
    check_saveable(Path(arguments.output))  # now, and not when the training is done
    if arguments.tokenizer and not arguments.fresh:
        raise ValueError(
            "--tokenizer needs --fresh: the preset's weights belong to its own vocabulary, so another one starts anew"
        )
    if arguments.tokenizer:
        model = _fresh(arguments)
    else:
        model = _load(arguments, load_weights=not arguments.fresh, seed=arguments.seed)
    for pattern in arguments.freeze:
        model.backbone.freeze(pattern)
    model.compile(optimizer=optimizers.Adam(arguments.learning_rate))

    def set_schedule(logs: Any = None) -> None:
        """Now that the texts are encoded the number of steps is known; a text that was split has several sequences."""
        updates = schedule.params["steps"] * arguments.epochs
        warmup = round(arguments.warmup * updates)
        model.optimizer.learning_rate = schedules.Linear(arguments.learning_rate, updates, warmup_steps=warmup)

    logs: dict[str, float] = {}  # of the epoch that is being trained
    finished = callbacks.History()  # of the epochs before, for a training that is stopped
    schedule = callbacks.LambdaCallback(
        on_train_begin=set_schedule,
        on_train_batch_end=lambda _, now: logs.update({name: now[name] for name in now if name != "tokens"}),
    )
    problem: KeyboardInterrupt | NonFiniteError | None = None
    try:
        history = model.fit(
            texts,
            batch_size=arguments.batch_size,
            epochs=arguments.epochs,
            gradient_accumulation_steps=arguments.accumulate,
            validation_data=validation,
            long_texts=arguments.long_texts,
            callbacks=[schedule, finished],
            verbose=0 if arguments.quiet else 1,
        ).history
        last = {name: values[-1] for name, values in history.items()}
    except (KeyboardInterrupt, NonFiniteError) as error:
        if not model.optimizer.iterations:
            if isinstance(error, KeyboardInterrupt):
                print("pyroberta: no update was made yet, so nothing is saved", file=sys.stderr)
            raise
        problem, history, last = error, finished.history, logs
    if problem is None:  # what the epoch tells was measured before each of its updates, the last one too
        with contextlib.suppress(ValueError), warnings.catch_warnings():  # nothing is masked in these texts
            warnings.simplefilter("ignore")  # what is cut here was trained on
            some = texts[: arguments.batch_size]
            after = model.evaluate(some, long_texts="cut", verbose=0, return_dict=True)
            if _is_lost(model, after):
                last = {**last, "perplexity": after["perplexity"]}
    whole = schedule.params.get("steps", 0) * arguments.epochs
    return _saved(arguments, model, history, last, problem, whole)


def _is_lost(model: Any, figures: Mapping[str, float]) -> bool:
    """Whether a perplexity is twice that of chance, one entry in V, or no number at all."""
    most = 2 * model.backbone.config.vocabulary_size
    return any(not value <= most for name, value in figures.items() if name.endswith("perplexity"))


def _saved(
    arguments: argparse.Namespace,
    model: Any,
    history: dict[str, list[float]],
    last: dict[str, float],
    problem: KeyboardInterrupt | ArithmeticError | None,
    whole: int,
) -> dict[str, Any]:
    """Saves what was trained, to the end or until a signal or a loss that is not finite ended it. Gives the result.

    `whole` is the number of updates that were to be made.
    """
    import numpy as np

    updates = model.optimizer.iterations
    why = ""  # it diverged
    if isinstance(problem, ArithmeticError):
        why = str(problem)
    elif _is_lost(model, last):
        why = f"a model that knows nothing has a perplexity of {model.backbone.config.vocabulary_size}"
    output: str | None = f"{os.path.normpath(arguments.output)}.diverged" if why else arguments.output
    if not np.isfinite(model.backbone.params.flat).all():  # the last update made them so: no format takes them
        why, output = why or "its parameters are not finite", None
    result = {"saved": output, "updates": updates, "history": history}
    stop = problem if isinstance(problem, KeyboardInterrupt) else None
    is_done = False
    while not is_done:
        if stop:
            arguments.exit_code = _code_of(stop)
            result["interrupted"] = True
            saving = f"; saving to {output} (Ctrl-C again: stops at once and saves nothing)" if output else ""
            print(f"pyroberta: interrupted after {updates} of {_updates(whole)}{saving}", file=sys.stderr)
        try:
            if output:
                _save(model, output)
            is_done = True
        except KeyboardInterrupt as first:
            if stop:
                raise
            stop = first  # it came while the finished model was being saved, which would be lost
    if not arguments.json:
        print(f"{f'saved to {output}' if output else 'nothing saved'} after {_updates(updates)}: {_figures(last)}")
    if why:
        arguments.exit_code = arguments.exit_code or DIVERGED
        result["diverged"] = True
        is_there = "stays as it was" if os.path.exists(arguments.output) else "was not written"
        print(
            f"pyroberta: the training diverged: {why}. {arguments.output} {is_there}; try a lower --learning-rate than "
            f"{arguments.learning_rate:g}",
            file=sys.stderr,
        )
    return result


def _updates(count: int) -> str:
    return f"{count} update{'s' * (count != 1)}"


def _save(model: Any, output: str) -> None:
    """Saves a model that ends with the process. Where it can't be saved, it is saved in another place.

    Raises:
        OSError: where it couldn't be saved at `output`; it names the other place.
    """
    try:
        model.save_to_preset(output)
    except OSError as error:
        place = _rescue(model, os.path.basename(os.path.normpath(output)))
        if place is None:
            raise
        raise type(error)(f"{error} The trained model was saved to {place} instead.") from error


def _rescue(model: Any, name: str) -> str | None:
    """Saves a model where there is room: here, at home, or among temporary files. None where there is nowhere."""
    import tempfile

    for find in (os.getcwd, lambda: os.path.expanduser("~"), tempfile.gettempdir):
        with contextlib.suppress(OSError):
            place = tempfile.mkdtemp(prefix=f"{name}.rescued-", dir=find())
            try:
                model.save_to_preset(place)
            except BaseException:
                os.rmdir(place)
                raise
            return place
    return None


def _evaluate(arguments: argparse.Namespace) -> dict[str, float]:
    texts = _read(arguments.texts)
    values: dict[str, float] = _load(arguments).evaluate(
        texts,
        batch_size=arguments.batch_size,
        long_texts=arguments.long_texts,
        verbose=0 if arguments.quiet else 1,
        return_dict=True,
    )
    if not arguments.json:
        print(_figures(values))
    return values


def _figures(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items())


def _fill_mask(arguments: argparse.Namespace) -> list[Any]:
    texts, model = _texts(arguments), _load(arguments)
    results = []
    targets = None
    if arguments.targets is not None:
        targets = [word.strip() for word in arguments.targets.split(",") if word.strip()]
    found = model.fill_mask(
        texts,
        top_k=arguments.top_k,
        targets=targets,
        long_texts=arguments.long_texts,
        verbose=0 if arguments.quiet else "auto",
    )
    for text, fillings in zip(texts, found, strict=True):
        masks = fillings if isinstance(fillings[0], list) else [fillings]
        results.append({"text": text, "masks": [[filling.as_dict() for filling in mask] for mask in masks]})
        if not arguments.json:
            print(text)
            for number, mask in enumerate(masks, 1):
                words = "   ".join(
                    f"{filling.token_str.strip() or repr(filling.token_str)} {filling.score:.1%}" for filling in mask
                )
                print(f"  {f'mask {number}: ' if len(masks) > 1 else ''}{words}")
    return results


def _score(arguments: argparse.Namespace) -> list[Any]:
    texts, model = _texts(arguments), _load(arguments)
    found = model.score(
        texts,
        long_texts=arguments.long_texts,
        batch_size=arguments.batch_size,
        verbose=0 if arguments.quiet else "auto",
    )
    if not arguments.json:
        for text, score in zip(texts, found, strict=True):
            print(f"{score.total:10.3f}  perplexity {score.perplexity:<10.4g}  {text}")
    return [{"text": text, **score.as_dict()} for text, score in zip(texts, found, strict=True)]


def _train_tokenizer(arguments: argparse.Namespace) -> dict[str, Any]:
    from pyroberta.formats.atomic import check_place
    from pyroberta.text.tokenizer import Tokenizer

    _check_free(arguments, arguments.output, ("config.json", "tokenizer.json", "vocab.json"))
    check_place(Path(arguments.output) / "vocab.json")
    texts = (line for file in arguments.files for line in _read(file))
    tokenizer = Tokenizer.train(texts, vocab_size=arguments.vocab_size, min_frequency=arguments.min_frequency)
    tokenizer.save(arguments.output)
    if not arguments.json:
        print(f"saved {tokenizer.vocabulary_size} entries to {arguments.output}")
    return {"saved": arguments.output, "vocabulary_size": tokenizer.vocabulary_size}


def _presets(arguments: argparse.Namespace) -> dict[str, Any]:
    from dataclasses import asdict

    from pyroberta.presets.built_in import PRESETS

    if not arguments.json:
        for name, preset in PRESETS.items():
            where = " or ".join(preset.handles) or "in the package"
            print(f"{name:<18}{preset.parameters:>12,} parameters   {where}\n  {preset.description}")
    return {name: asdict(preset) for name, preset in PRESETS.items()}


def _upload(arguments: argparse.Namespace) -> dict[str, str]:
    from pyroberta.presets.upload import upload

    url = upload(
        arguments.directory,
        arguments.handle,
        private=arguments.private,
        licence=arguments.licence,
        trained_from=arguments.trained_from,
        message=arguments.message,
    )
    if not arguments.json:
        print(f"uploaded {arguments.directory} to {url}")
        if not arguments.licence:
            print("No licence was given, so nobody may use it yet: state one on that page.", file=sys.stderr)
    return {"uploaded": arguments.directory, "url": url}


def _convert(arguments: argparse.Namespace) -> dict[str, Any]:
    from pyroberta.presets.convert import convert

    _check_free(arguments, arguments.target)
    result = convert(
        arguments.source,
        arguments.target,
        format=arguments.format,
        dtype=arguments.dtype,
        max_shard_size=None if arguments.max_shard_size == "none" else arguments.max_shard_size,
        include_optimizer=arguments.include_optimizer,
    )
    if not arguments.json:
        parts = ("head", "tokenizer")
        there = ["encoder", *filter(result.get, parts), *["optimizer's state"] * arguments.include_optimizer]
        lacking = [part for part in parts if not result[part]]
        without = f"; {arguments.source} has no {' and no '.join(lacking)}" if lacking else ""
        print(f"saved to {arguments.target} as {arguments.format}, {arguments.dtype}: {', '.join(there)}{without}")
    return result


def _doctor(arguments: argparse.Namespace) -> dict[str, Any]:
    from pyroberta.cli.doctor import report

    found = report()
    if not arguments.json:
        for part, rows in found.items():
            print(part)
            for name, value in rows.items():
                print(f"  {name:<12} {value}")
    return found


def _demo(arguments: argparse.Namespace) -> dict[str, Any]:
    from pyroberta.cli import demo

    if arguments.output:
        _check_free(arguments, arguments.output)
    run = demo.from_scratch if arguments.from_scratch else demo.adapt
    output = arguments.output and Path(arguments.output)
    # Its story is the result, unless the result is to be JSON.
    with contextlib.redirect_stdout(sys.stderr) if arguments.json else contextlib.nullcontext():
        result: dict[str, Any] = run(updates=arguments.updates, backend=arguments.backend, output=output)
    return result
