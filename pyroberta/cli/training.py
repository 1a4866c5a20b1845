"""The common part of `fit` and `classify train`: a model is trained, stopped, saved, and its training is continued."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyroberta.cli import options
from pyroberta.cli.exit_codes import DIVERGED, FAILED, UsageError, code_of_error, code_of_stop
from pyroberta.cli.places import check_places
from pyroberta.cli.saving import save_model
from pyroberta.cli.streams import figures
from pyroberta.cli.texts import placed
from pyroberta.model.callers import callers_level

if TYPE_CHECKING:
    from pyroberta.cli.checkpoints import Checkpoint
    from pyroberta.data.sources import Source
    from pyroberta.training.optimizers import Optimizer
    from pyroberta.training.schedules.registry import Schedule

NOT_DECAYED = (r"bias$", r"norm\.")  # as in transformers' and fairseq's training
PLOTS = (".png", ".svg", ".pdf", ".jpg")
# Options that have no effect without another one.
NEEDED = {"resume": "checkpoint", "checkpoint_every": "checkpoint", "early_stopping": "validation"}
# Options that change nothing in the course of a training.
WITHOUT_EFFECT = {
    *("command", "parser", "examples", "argv", "exit_code", "json", "quiet", "action", "texts", "resume", "output"),
    *("overwrite", "checkpoint", "checkpoint_every", "log", "plot", "backend", "given", "has_pairs"),
}


def check(arguments: argparse.Namespace) -> None:
    """Checks the arguments of a training as far as possible, before anything is read.

    Raises:
        UsageError, FileExistsError, ModuleNotFoundError, OSError: if options have no effect together, a file would be
            replaced without `--overwrite`, or nothing can be saved in a place.
    """
    from pyroberta.formats.atomic import check_place
    from pyroberta.presets.writing import check_saveable

    for name, needed in NEEDED.items():
        if getattr(arguments, name) and not getattr(arguments, needed):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} has no effect without --{needed}: give --{needed} too, or leave {option} out")
    if arguments.schedule == "constant" and arguments.warmup is None:
        arguments.warmup = 0.0
    if arguments.checkpoint and not arguments.resume:  # first, since who forgot --resume has a model at --output too
        _checkpoint(arguments).check_free(overwrite=arguments.overwrite)
    if not (arguments.resume and _is_output_of_resumed(arguments)):
        has_ended = arguments.resume and not _checkpoint(arguments).file.exists()
        remark = f", and there is no checkpoint in {arguments.checkpoint}: the training may have ended" * has_ended
        options.check_free(arguments, arguments.output, remark=remark)
    check_saveable(Path(arguments.output))  # an error comes now, not after the training
    _check_apart(arguments)
    may_replace = arguments.overwrite or (arguments.resume and _checkpoint(arguments).file.exists())
    for name in ("log", "plot"):
        file = getattr(arguments, name)
        if file is None:
            continue
        if os.path.exists(os.path.expanduser(file)) and not may_replace:
            raise FileExistsError(f"--{name} {file} exists already. Give another name, or --overwrite to replace it")
        check_place(Path(os.path.expanduser(file)))
    if arguments.plot:
        _check_plot(arguments.plot)
    if arguments.checkpoint:
        check_place(_checkpoint(arguments).file)


def _checkpoint(arguments: argparse.Namespace) -> Checkpoint:
    """The checkpoint of `--checkpoint`, to look at."""
    from pyroberta.cli.checkpoints import Checkpoint

    return Checkpoint(arguments.checkpoint, {})


def _check_apart(arguments: argparse.Namespace) -> None:
    """Checks that nothing is written over what is read, or over something else that is written.

    Raises:
        UsageError: if something is.
    """
    read = [("--" + name, getattr(arguments, name, None)) for name in ("validation", "model", "tokenizer")]
    read += [("FILE", given) for given in arguments.texts]
    check_places(read, [("--" + name, getattr(arguments, name)) for name in ("output", "checkpoint", "log", "plot")])


def _check_plot(file: str) -> None:
    if Path(file).suffix.lower() not in PLOTS:
        raise UsageError(f"--plot {file} should end with {', '.join(PLOTS[:-1])} or {PLOTS[-1]}")
    try:
        import matplotlib
    except ImportError as error:
        raise ModuleNotFoundError("--plot needs matplotlib: install it with pip install 'pyroberta[plot]'") from error
    matplotlib.use("agg")


def _is_output_of_resumed(arguments: argparse.Namespace) -> bool:
    """Whether the training that is gone on with saved a model at `--output` when it was interrupted."""
    place = _checkpoint(arguments).output()
    return bool(place == os.path.abspath(os.path.expanduser(arguments.output)))


def share_or_file(arguments: argparse.Namespace) -> float | None:
    """Returns the share of the texts that `--validation` holds out. The result is None if it names a file or standard
    input, or is not given.

    Raises:
        UsageError: if the share is not between 0 and 1, or FILE is standard input already.
        FileNotFoundError: if it is neither a share nor the name of a file.
    """
    given = arguments.validation
    if given == "-" and "-" in arguments.texts:
        raise UsageError("FILE and --validation are both -, standard input, which can be read once: give a file")
    if given in (None, "-") or os.path.exists(os.path.expanduser(given)):
        return None
    part = options.share(given)
    if part is None:
        if any(sign in given for sign in "*?["):
            return None  # a pattern of names
        raise FileNotFoundError(
            f"--validation {given}: the file does not exist. Give a file with texts, or a share of the texts for "
            "training, such as 10%"
        )
    if not 0 < part < 1:
        raise UsageError(f"--validation {given} should leave texts on both sides: a share such as 10% or 0.1")
    return part


def rate_of(arguments: argparse.Namespace, model: Any, of_masked_lm: float | None = None) -> float:
    """Returns the learning rate: that of the option, else the one that the model's preset recommends, else KerasHub's.
    A line on stderr says which.

    `of_masked_lm` is the rate that the preset recommends for the masked LM's head. It is a better guess than KerasHub's
    rate, which is for large models.
    """
    from pyroberta.training.compiled import DEFAULT_RATE

    given, recommended = arguments.learning_rate, model.recommended_learning_rate
    rate = float(given if given is not None else recommended or of_masked_lm or DEFAULT_RATE)
    if given is None and not arguments.quiet:
        why = "KerasHub's default, as the preset recommends none"
        if recommended or of_masked_lm:
            why = "the preset recommends it" if recommended else "the preset recommends it for a masked LM"
        more = ""
        if getattr(arguments, "fresh", False):
            more = "; fresh models mostly learn faster with more, such as 1e-3"
        elif arguments.lora:
            more = "; it is for training all parameters, and LoRA mostly learns faster with more, such as 3e-3"
        print(f"learning rate {rate:g}: {why}{more} (--learning-rate)", file=sys.stderr)
    return rate


def optimizer_of(arguments: argparse.Namespace, rate: float) -> Optimizer:
    """Returns Adam, or AdamW if there is a weight decay. Only kernels and embeddings decay, not biases and norms."""
    from pyroberta.training import optimizers

    clipping = {} if arguments.clip is None else {"global_clipnorm": arguments.clip}
    if not arguments.weight_decay:
        return optimizers.Adam(rate, **clipping)
    optimizer = optimizers.AdamW(rate, weight_decay=arguments.weight_decay, **clipping)
    optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return optimizer


def schedule_of(name: str, rate: float, updates: int, warmup: float | None) -> Schedule:
    """Returns a schedule over the given number of updates.

    Args:
        name: "constant", "linear" or "cosine".
        rate: the largest learning rate.
        updates: the number of updates.
        warmup: the share of the updates in which the rate rises from 0, or None for 0.06.

    >>> schedule_of("linear", 1.0, updates=10, warmup=0.2)(2)
    1.0
    """
    from pyroberta.training import schedules

    rising = round((0.06 if warmup is None else warmup) * updates)
    if name == "constant":
        return schedules.Constant(rate, warmup_steps=rising)
    kind = {"linear": schedules.Linear, "cosine": schedules.Cosine}[name]
    return kind(rate, updates, warmup_steps=rising)


def settings_of(arguments: argparse.Namespace, **digests: str) -> dict[str, Any]:
    """Returns the settings that decide the course of a training, by the names of options, and the digests of its
    inputs.
    """
    given = {name.replace("_", "-"): value for name, value in vars(arguments).items() if name not in WITHOUT_EFFECT}
    return {**given, **digests}


def train(
    arguments: argparse.Namespace,
    model: Any,
    source: Source,
    labels: Any = None,
    validation: Any = None,
    rate_of_masked_lm: float | None = None,
    **how: Any,
) -> dict[str, Any]:
    """Trains a model with the given options, and saves it, even if the training is stopped or diverges.

    Args:
        arguments: the arguments of `options.add_training`.
        model: the model, which is not compiled yet.
        source: the texts for training.
        labels: the labels of a classifier's texts.
        validation: x or (x, y), instead of a share of the texts. None for none.
        rate_of_masked_lm: the rate that the preset recommends for the masked LM's head, if the model has another head.
        how: further arguments of `fit`.

    Returns:
        A dict of the directory, the number of updates, the metrics of each epoch, and what ended the training early.
    """
    from pyroberta.cli.checkpoints import Checkpoint, digest
    from pyroberta.cli.stopping import Stopping
    from pyroberta.training import callbacks
    from pyroberta.training.step import NonFiniteError

    texts = source.texts
    if arguments.lora:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            model.backbone.enable_lora(arguments.lora)
        for one in found:
            warnings.warn(f"--lora {arguments.lora}: {one.message}", stacklevel=callers_level())
    for pattern in arguments.freeze:
        model.backbone.freeze(pattern)
    arguments.learning_rate = rate = rate_of(arguments, model, rate_of_masked_lm)
    model.compile(optimizer=optimizer_of(arguments, rate))
    share = share_or_file(arguments)

    def set_schedule(logs: Any = None) -> None:
        """Sets the schedule when the texts are encoded, since then the number of steps is known."""
        updates = follower.params["steps"] * arguments.epochs
        model.optimizer.learning_rate = schedule_of(arguments.schedule, rate, updates, arguments.warmup)

    last: dict[str, float] = {}  # of the epoch that is being trained
    finished = callbacks.History()  # the epochs before, for a training that is stopped
    follower = callbacks.LambdaCallback(
        on_train_begin=set_schedule,
        on_train_batch_end=lambda _, now: last.update({name: now[name] for name in now if name != "tokens"}),
    )
    followers: list[Any] = [follower, finished]
    stopper = None
    if arguments.early_stopping:
        stopper = callbacks.EarlyStopping(
            "val_loss", patience=arguments.early_stopping, restore_best_weights=True, verbose=int(not arguments.quiet)
        )
        followers.append(stopper)
    if arguments.log:
        followers.append(callbacks.CSVLogger(arguments.log))
    checkpoint = None
    if arguments.checkpoint:
        digests = {"texts": digest(texts, labels)}
        if validation is not None:
            digests["validation texts"] = digest(*validation) if labels is not None else digest(validation)
        settings = settings_of(arguments, **digests)
        checkpoint = Checkpoint(arguments.checkpoint, settings, arguments.checkpoint_every, arguments.output)
        followers.append(checkpoint)
    problem: BaseException | None = None
    with checkpoint.alone() if checkpoint else contextlib.nullcontext(), Stopping() as stopping:
        if checkpoint and arguments.resume:
            _resume(arguments, checkpoint, model)
        updates_before = model.optimizer.iterations
        before = after = None
        try:
            before = _perplexity(model, texts, arguments.batch_size)
            history = model.fit(
                placed(source),
                labels,
                batch_size=arguments.batch_size,
                epochs=arguments.epochs,
                gradient_accumulation_steps=arguments.accumulate,
                validation_data=validation,
                validation_split=share or 0.0,
                long_texts=arguments.long_texts,
                callbacks=[*followers, stopping],
                verbose=0 if arguments.quiet else 1,
                **how,
            ).history
            epoch = finished.epoch.index(stopper.best_epoch) if stopper else -1
            last = {name: values[epoch] for name, values in history.items()}
            after = _perplexity(model, texts, arguments.batch_size)
        except (KeyboardInterrupt, NonFiniteError, OSError, MemoryError) as error:
            if stopping.leaves_at_once:
                _report_checkpoint(arguments, checkpoint)
                raise
            if model.optimizer.iterations == updates_before:
                if isinstance(error, KeyboardInterrupt):
                    print("pyroberta: no update was made yet", file=sys.stderr)
                    _report_checkpoint(arguments, checkpoint)
                raise
            problem, history = error, finished.history
        updates = (follower.params.get("steps") or 0) * arguments.epochs
        result = _saved(arguments, model, history, last, (before, after), problem, updates, checkpoint)
    try:
        if stopper and problem is None:
            result["best_epoch"] = stopper.best_epoch + 1
        if arguments.plot:
            _plot(finished, arguments.plot)
    finally:  # at last, since it may be that nobody reads standard output any more, or that its disk is full
        if not arguments.json:
            place = f"saved to {result['saved']}" if result["saved"] else "nothing saved"
            print(f"{place} after {_updates(result['updates'])}: {figures(last)}")
    return result


def _resume(arguments: argparse.Namespace, checkpoint: Any, model: Any) -> None:
    if checkpoint.resume(model):
        print(f"going on after {_updates(model.optimizer.iterations)}", file=sys.stderr)
    else:
        print(f"there is no checkpoint in {arguments.checkpoint} yet: starting a new training", file=sys.stderr)


def _perplexity(model: Any, texts: Sequence[Any], batch_size: int) -> float | None:
    """A masked LM's perplexity of the first texts, without dropout. None for another model, and if nothing is masked.

    An epoch's metrics are from before its updates, so that this alone tells what the last update has done.
    """
    if model.head != "masked_lm":
        return None
    with contextlib.suppress(ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fit warns of the same texts
        values = model.evaluate(texts[:batch_size], long_texts="cut", verbose=0, return_dict=True)
        return float(values["perplexity"])
    return None


def _lost(model: Any, metrics: Mapping[str, float], before: float | None) -> str:
    """Says which perplexity is lost: infinite or no number, or, on the texts for training, more than twice that of
    chance, which is V, and well above what it was `before` the training. Empty if none is.
    """
    size, before = model.backbone.config.vocabulary_size, before or 0.0
    for name, value in metrics.items():
        is_high = name.startswith("perplexity") and value > max(2.0 * size, 1.5 * before)
        if "perplexity" in name and (is_high or not math.isfinite(value)):
            beside = f", and {before:.4g} for this one before" if before > size else ""
            return f"{name} is {value:.4g}, but {size} for a model that knows nothing{beside}"
    return ""


def _outcome(
    arguments: argparse.Namespace,
    model: Any,
    last: Mapping[str, float],
    before: float | None,
    problem: BaseException | None,
) -> tuple[str, str | None]:
    """Why a training diverged, empty if it didn't; and where its model is saved, None for nowhere."""
    import numpy as np

    why = str(problem) if isinstance(problem, ArithmeticError) else _lost(model, last, before)
    output = f"{os.path.normpath(arguments.output)}.diverged" if why else arguments.output
    if not np.isfinite(model.backbone.params.flat).all():  # the last update made them so, and no format takes them
        return why or "its parameters are not finite", None
    return why, output


def _saved(
    arguments: argparse.Namespace,
    model: Any,
    history: dict[str, list[float]],
    last: Mapping[str, float],
    perplexities: tuple[float | None, float | None],
    problem: BaseException | None,
    whole: int,
    checkpoint: Any,
) -> dict[str, Any]:
    """Saves the model, after the whole training or after what ended it before. Returns the result.

    `perplexities` are those of the first texts before and after the training. `whole` is the number of updates of the
    whole training.
    """
    before, after = perplexities
    judged = last if after is None else {**last, "perplexity after the last update": after}
    updates = model.optimizer.iterations
    result: dict[str, Any] = {"updates": updates, "history": history}
    stop = problem if isinstance(problem, KeyboardInterrupt) else None
    failure = problem if isinstance(problem, OSError | MemoryError) else None
    is_done = False
    while not is_done:
        try:
            why, output = _outcome(arguments, model, judged, before, problem)
            result["saved"] = output
            if stop:
                arguments.exit_code = code_of_stop(stop)
                result["interrupted"] = True
                saving = f"; saving to {output} (Ctrl-C again: stops at once and saves nothing)" if output else ""
                print(f"pyroberta: interrupted after {updates} of {_updates(whole)}{saving}", file=sys.stderr)
            if failure:
                arguments.exit_code = code_of_error(failure)
                print(f"pyroberta: {options.as_typed(str(failure)) or type(failure).__name__}", file=sys.stderr)
            if checkpoint and problem is not None and not why:
                checkpoint.save()
            if output:
                result["saved"] = output = save_model(model, output, arguments)
            is_done = True
        except KeyboardInterrupt as first:
            if stop:
                _report_checkpoint(arguments, checkpoint)
                raise
            stop = first  # it came before the finished model was saved, which would be lost
    if why:
        arguments.exit_code = arguments.exit_code or DIVERGED
        result["diverged"] = True
        outcome = "stays as it was" if os.path.exists(arguments.output) else "was not written"
        print(
            f"pyroberta: the training diverged: {why}. {arguments.output} {outcome}; try a lower --learning-rate than "
            f"{arguments.learning_rate:g}",
            file=sys.stderr,
        )
    elif problem is not None:
        result["to_go_on"] = line = _line_to_go_on(arguments, output, has_checkpoint=checkpoint is not None)
        how = "" if checkpoint else " from what it knows now"
        again = ", with the same standard input" if arguments.texts == ["-"] else ""
        print(f"pyroberta: to go on{how}{again}: {line}", file=sys.stderr)
    elif checkpoint and arguments.exit_code != FAILED:
        checkpoint.remove()
    if not why and not stop and not failure:
        _hint_at_unknown_texts(model, last, before, after)
    return result


def _hint_at_unknown_texts(model: Any, last: Mapping[str, float], before: float | None, after: float | None) -> None:
    """Says on stderr if a masked LM knows less of the texts than one that knows nothing, such as of another script."""
    size = model.backbone.config.vocabulary_size
    if after is not None and after > 2 * size:
        outcome = "More --epochs help" if before and after < 0.99 * before else "It did not learn from them"
        changed = f"{after:.4g} after the training" + (f", {before:.4g} before" if before else "")
        print(
            f"pyroberta: the model knows less of these texts than one that knows nothing, whose perplexity is {size}: "
            f"{changed}. {outcome}; a vocabulary of the texts' own language may suit them better (--fresh --tokenizer)",
            file=sys.stderr,
        )
    elif last.get("val_perplexity", 0.0) > 2 * size:
        print(
            f"pyroberta: val_perplexity is {last['val_perplexity']:.4g}, above the {size} of a model that knows "
            "nothing: the texts of --validation are of a kind that the model does not know",
            file=sys.stderr,
        )


def _line_to_go_on(arguments: argparse.Namespace, output: str | None, *, has_checkpoint: bool) -> str:
    """The line to type after a training was stopped."""
    import shlex

    if has_checkpoint:
        return shlex.join(["pyroberta", *_without(arguments.argv, flags=("--resume", "--overwrite")), "--resume"])
    rest = _without(
        arguments.argv,
        flags=("--overwrite", "--fresh", "--fresh-head"),
        valued=("--model", "-m", "--tokenizer", "--output", "-o"),
    )
    return shlex.join(["pyroberta", *rest, "--model", str(output), "--output", str(output), "--overwrite"])


def _without(argv: Sequence[str], flags: Sequence[str] = (), valued: Sequence[str] = ()) -> list[str]:
    """A command line without some options.

    >>> _without(["fit", "a.txt", "-m", "x", "--model=y", "--fresh"], flags=["--fresh"], valued=["-m", "--model"])
    ['fit', 'a.txt']
    """
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word in valued:
            next(words, None)
        elif word not in flags and not any(word.startswith(f"{name}=" if name[1] == "-" else name) for name in valued):
            rest.append(word)
    return rest


def _plot(history: Any, file: str) -> None:
    """Draws the metrics of the epochs into a file."""
    import io

    from pyroberta.formats.files import as_path
    from pyroberta.formats.new_files import NewFile, replace_files

    if not history.epoch:
        print(f"pyroberta: {file} was not drawn, since no epoch has ended", file=sys.stderr)
        return
    path, content = as_path(file), io.BytesIO()
    history.plot().savefig(content, format=path.suffix[1:].lower())
    replace_files(path.parent, {path.name: NewFile.of(content.getvalue())})


def _report_checkpoint(arguments: argparse.Namespace, checkpoint: Any) -> None:
    """Says what there is of a training that was left without saving."""
    if checkpoint and checkpoint.file.exists():
        line = _line_to_go_on(arguments, None, has_checkpoint=True)
        print(f"pyroberta: to go on from the last checkpoint: {line}", file=sys.stderr)
    else:
        print("pyroberta: nothing is saved", file=sys.stderr)


def _updates(count: int) -> str:
    return f"{count} update{'s' * (count != 1)}"
