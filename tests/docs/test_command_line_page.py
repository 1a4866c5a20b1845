"""The page of the command line tells the truth: its lines run, in order, and each command has one."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
from pages import ROOT, blocks

from pyroberta.cli.exit_codes import MEANINGS
from pyroberta.cli.main import main
from pyroberta.cli.parser import COMMANDS, build_parser, command_line, every_parser, subparsers

PAGE = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
LINES = [line for block in blocks(PAGE) if block.tag == "sh" for line in block.text.splitlines()]
NOT_RUN = [
    line[2:] for block in blocks(PAGE) if block.tag == "console" for line in block.text.splitlines() if line[0] == "$"
]


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a line prints. `head -N FILE |` before it and `> FILE` behind it are understood."""
    given = re.match(r"head -(\d+) (\S+) \| ", line)
    if given:
        text = "\n".join(Path(given[2]).read_text(encoding="utf-8").splitlines()[: int(given[1])])
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(command_line(line)) == 0, line
    if target := re.search(r" > (\S+)$", line):
        Path(target[1]).write_text(printed.getvalue(), encoding="utf-8")
    return printed.getvalue()


@pytest.mark.filterwarnings("default")
def test_every_line_of_the_page_runs_and_prints_what_stands_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    printed = ""
    compared = 0
    for block in blocks(PAGE):
        if block.tag == "python":
            exec(block.text, {})
        elif block.tag == "sh":
            printed = [run(line, monkeypatch) for line in block.text.splitlines()][-1]
        elif block.tag == "text":
            numberless = [re.sub(r"\d+\.\d+", "0.0", text) for text in (block.text, printed)]
            assert numberless[0] == numberless[1]
            compared += 1
    assert compared == 1
    assert {"my_model", "again", "verdicts", "vectors.npy", "scores.jsonl", "run.csv", "run.png"} <= {
        entry.name for entry in tmp_path.iterdir()
    }


def test_the_page_has_an_example_of_each_command_and_action():
    shown = {" ".join(["pyroberta", *command_line(line)]) for line in LINES + NOT_RUN}
    parser = build_parser()
    for one in every_parser(parser):
        if not subparsers(one) and one.prog not in ("pyroberta demo", "pyroberta conformance judge"):
            assert any(f"{line} ".startswith(f"{one.prog} ") for line in shown), one.prog
    assert "pyroberta demo" in PAGE
    for line in LINES + NOT_RUN:
        assert parser.parse_args(command_line(line)).command
    table = PAGE.partition("The examples work")[0]
    assert all(name in table for name in COMMANDS)


def test_the_page_has_the_exit_codes():
    part = PAGE.partition("## Exit codes")[2]
    assert {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", part, flags=re.M) for code in row.split(",")} == set(
        MEANINGS
    )
