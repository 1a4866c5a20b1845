"""`pyroberta compare`: finds the first tensor of another implementation that differs from a trace, and the cause."""

from __future__ import annotations

import argparse
import os
from typing import Any

from pyroberta.cli import options
from pyroberta.cli.exit_codes import UsageError
from pyroberta.cli.places import check_places

SUMMARY = "the first tensor of another implementation that differs from a trace, and why"
EXAMPLES = (
    "pyroberta compare golden.safetensors theirs.npz",
    "pyroberta compare golden.safetensors theirs.npz --all --report page.html",
)
DEPARTS, LEAST_ERROR = 1, 2  # exit codes, as of `diff` and `cmp`
PRECISIONS = ("float32", "mixed_bfloat16", "float64")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("golden", metavar="GOLDEN", help="the file that `pyroberta trace` wrote, in float64")
    parser.add_argument(
        "theirs",
        metavar="THEIRS",
        help="their tensors: .safetensors, .npz, a directory of .npy, or torch's .pt or .bin",
    )
    parser.add_argument(
        "--names", metavar="FILE", help="a JSON object: their name -> the trace's, for tensors with other names"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, metavar="NAME",
        help=f"the arithmetic that they used: {', '.join(PRECISIONS)} (default: that of the trace's bounds)",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="every tensor with its error, and how it was aligned")
    parser.add_argument("--report", metavar="FILE", help="write a page of HTML with a picture, too")
    options.add_overwrite(parser, "a page", "FILE")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the command. The result is that of `Report.to_dict`, with the changes that align the other tensors."""
    from pyroberta.formats.any_tensors import read_tensors
    from pyroberta.formats.budget import shown
    from pyroberta.formats.files import as_path, read_json
    from pyroberta.formats.new_files import NewFile, replace_files
    from pyroberta.formats.stored import few
    from pyroberta.oracle.compare import compare
    from pyroberta.oracle.foreign import align
    from pyroberta.oracle.golden import read_trace
    from pyroberta.oracle.page import page

    read = [("GOLDEN", arguments.golden), ("THEIRS", arguments.theirs), ("--names", arguments.names)]
    check_places(read, [("--report", arguments.report)])
    path = as_path(arguments.report) if arguments.report else None
    if path and path.exists() and not arguments.overwrite:
        raise FileExistsError(f"{arguments.report} exists already. Give another name, or --overwrite to replace it")
    if arguments.overwrite and not path:
        raise UsageError("--overwrite has no effect without --report")
    names = None
    if arguments.names:
        names = read_json(as_path(arguments.names))
        if not all(isinstance(name, str) for name in names.values()):
            raise ValueError(f'{arguments.names} should be an object of names, such as {{"theirs": "ours"}}')
    golden = read_trace(os.path.expanduser(arguments.golden))
    aligned = align(golden, read_tensors(os.path.expanduser(arguments.theirs)), names)
    report = compare(golden, aligned, arguments.precision)
    if not report.findings:
        raise ValueError(
            f"nothing to compare: no tensor of {shown(arguments.theirs)} has a name of the trace, of Hugging Face, of "
            f"Keras or of fairseq; its names are {few(map(shown, aligned.unknown)) or 'none'}. Give --names"
        )
    result = report.to_dict() | {"aligned": aligned.notes, "their_names": aligned.names, "absent": aligned.absent}
    result |= {"remarks": aligned.remarks}
    if path:
        text = page(report, aligned.notes, os.path.basename(os.path.normpath(arguments.theirs)))
        replace_files(path.parent, {path.name: NewFile.of(text)})
    if not arguments.json:
        _print(report, aligned, show_all=arguments.all, has_names=names is not None)
    arguments.exit_code = DEPARTS if report.departures else 0
    return result


def _print(report: Any, aligned: Any, *, show_all: bool, has_names: bool) -> None:
    from pyroberta.formats.budget import shown
    from pyroberta.formats.stored import few

    if show_all:
        width = max(len(finding.name) for finding in report.findings)
        for finding in report.findings:
            mark = "DEPARTS" if finding.departs else ""
            note = aligned.notes.get(finding.name, "")
            print(
                f"{finding.name:<{width}}  {finding.ratio:9.2e} × its bound  {finding.relative:8.1e}  {mark:<7}  {note}"
            )
        print()
    print(report)
    for remark in aligned.remarks:
        print(remark)
    if aligned.unknown and not has_names:
        print("--names FILE says what they are")
    if aligned.absent:
        print(f"names of --names that their tensors lack: {few(map(shown, aligned.absent))}")
