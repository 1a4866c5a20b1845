"""`pyroberta conformance`: writes a suite of cases for an implementation in any language, and judges its results."""

from __future__ import annotations

import argparse
from typing import Any

from pyroberta.cli import options
from pyroberta.cli.exit_codes import UsageError
from pyroberta.cli.parser import Actions
from pyroberta.cli.places import check_places

SUMMARY = "a suite of cases for an implementation in any language"
EXAMPLES = (
    "pyroberta conformance make suite",
    "pyroberta conformance judge suite theirs.safetensors",
    "pyroberta conformance run suite --backend numpy",
)
PRECISIONS = ("float32", "float64")
FAILS, LEAST_ERROR = 1, 2  # exit codes, as of `diff` and `cmp`


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    actions = Actions(parser, EXAMPLES)

    make = actions.add("make", "write a suite: its README.md tells its format")
    make.add_argument("suite", metavar="SUITE", help="the directory of the suite")
    make.add_argument("--seed", type=options.seed, metavar="N", default=0, help="that inputs are drawn from")
    make.add_argument(
        "--precision", choices=PRECISIONS, metavar="NAME", default="float32",
        help=f"of the arithmetic that the bounds allow: {' or '.join(PRECISIONS)}",
    )  # fmt: skip
    options.add_overwrite(make, "a suite", "SUITE")

    judge = actions.add("judge", "compare the results of an implementation with a suite")
    judge.add_argument("suite", metavar="SUITE", help="the directory of the suite")
    judge.add_argument(
        "theirs",
        metavar="THEIRS",
        help="values by CASE/VALUE: .safetensors, .npz, a directory of .npy, or torch's .pt or .bin",
    )
    judge.add_argument("--complete", action="store_true", help="cases and values that are missing fail, too")
    judge.add_argument("--only", metavar="BEGINNING", default="", help="of the names of the cases to look at: op/gelu")

    run = actions.add("run", "compute a suite with a backend of this package, and judge it")
    run.add_argument("suite", metavar="SUITE", help="the directory of the suite")
    options.add_backend(run)
    run.add_argument(
        "-o",
        "--output",
        type=options.safetensors_file,
        metavar="FILE",
        help="write the values, too, as `judge` reads them, .safetensors",
    )
    options.add_overwrite(run, "a file", "FILE")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the command. The result is that of `Report.to_dict`. For `make` it has the numbers of cases and bytes."""
    actions = {"make": _make, "judge": _judge, "run": _run}
    return actions[arguments.action](arguments)


def _make(arguments: argparse.Namespace) -> dict[str, Any]:
    from pyroberta.formats.files import as_path
    from pyroberta.oracle.conformance import kinds, suite

    check_places([], [("SUITE", arguments.suite)])
    directory = as_path(arguments.suite)
    if directory.exists() and not arguments.overwrite and (not directory.is_dir() or any(directory.iterdir())):
        raise FileExistsError(
            f"{arguments.suite} exists already. Give another directory, or --overwrite to replace a suite"
        )
    made = kinds.make(arguments.seed, arguments.precision)
    suite.write(made, directory)
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    if not arguments.json:
        print(f"saved {len(made.cases)} cases, {size:,} bytes, to {arguments.suite}; see README.md there")
    return {"saved": arguments.suite, "cases": len(made.cases), "values": len(made.values), "bytes": size}


def _judge(arguments: argparse.Namespace) -> dict[str, Any]:
    from pyroberta.formats.any_tensors import read_tensors
    from pyroberta.oracle.conformance import suite, verdicts

    report = verdicts.judge(suite.read(arguments.suite), read_tensors(arguments.theirs)).only(arguments.only)
    return _reported(
        arguments, report, bool(report.count(verdicts.FAILED)) or (arguments.complete and report.incomplete)
    )


def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    from pyroberta.formats.files import as_path
    from pyroberta.formats.safetensors_io import Appended
    from pyroberta.oracle.conformance import kinds, suite, verdicts

    if arguments.overwrite and not arguments.output:
        raise UsageError("--overwrite has no effect without --output")
    if arguments.output:
        check_places([("SUITE", arguments.suite)], [("--output", arguments.output)])
        options.check_output_file(arguments)
    given = suite.read(arguments.suite)
    answers = kinds.answers(given, arguments.backend)
    if arguments.output:
        with Appended(as_path(arguments.output)) as file:
            for name, value in answers.items():
                file.add(name, value)
    report = verdicts.judge(given, answers)
    return _reported(arguments, report, bool(report.count(verdicts.FAILED) or report.incomplete))


def _reported(arguments: argparse.Namespace, report: Any, fails: Any) -> dict[str, Any]:
    arguments.exit_code = FAILS if fails else 0
    if not arguments.json:
        print(report)
    result: dict[str, Any] = report.to_dict()
    return result
