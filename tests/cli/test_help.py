"""Help, examples, completion and the manual page: all made from the parser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pyroberta.cli.completion import SHELLS, every_place
from pyroberta.cli.exit_codes import EXIT_CODES, MEANINGS, NOTES
from pyroberta.cli.main import main
from pyroberta.cli.man import page
from pyroberta.cli.parser import (
    COMMANDS,
    EXAMPLES,
    build_parser,
    command_line,
    command_module,
    every_parser,
    subparsers,
)

ROOT = Path(__file__).parents[2]
PARSER = build_parser()
PARSERS = {one.prog: one for one in every_parser(PARSER)}
LEAVES = [prog for prog, one in PARSERS.items() if not subparsers(one)]


def test_without_a_command_the_help_is_printed_and_nothing_is_wrong(capsys):
    assert main([]) == 0
    alone = capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["--help"])
    assert capsys.readouterr() == alone
    assert alone.err == ""
    assert alone.out.startswith("usage: pyroberta [-h] [--version] COMMAND ...")


def test_the_exit_codes_are_told_in_short_sentences():
    sentences = EXIT_CODES.removeprefix("Exit codes: ").split(". ")
    assert len(sentences) == len(MEANINGS) + len(NOTES)
    assert max(len(sentence.split()) for sentence in sentences) <= 20


@pytest.mark.parametrize("prog", LEAVES)
def test_an_error_shows_the_usage_of_the_command_that_it_is_of(prog: str, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*prog.split()[1:], "--nonsense", *["x"] * 9])
    out, err = capsys.readouterr()
    assert (stopped.value.code, out) == (2, "")
    assert err.startswith(f"usage: {prog} [-h]")
    assert f"{prog}: error: " in err


@pytest.mark.parametrize("prog", ["pyroberta", *LEAVES])
def test_every_help_has_examples_of_this_very_command(prog: str):
    help = PARSERS[prog].format_help()
    examples = PARSERS[prog].get_default("examples")
    assert examples
    for example in examples:
        assert f"  {example}\n" in help
        assert f"{prog} " in f"{example} "


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_is_parsed(command: str):
    for example in command_module(command).EXAMPLES:
        arguments = PARSER.parse_args(command_line(example))
        assert arguments.parser.prog.split()[1] == command


def test_every_example_of_the_main_help_is_parsed_and_each_is_of_another_command():
    commands = [PARSER.parse_args(command_line(example)).parser.prog for example in EXAMPLES]
    assert len(set(commands)) == len(EXAMPLES) > 2


def test_the_main_help_ends_with_examples_below_a_text_that_is_filled(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text, _, examples = build_parser().format_help().partition("\n\nexamples:\n")
    assert examples.splitlines() == [f"  {example}" for example in EXAMPLES]
    assert text.endswith("it saves what was trained so far.")


def test_examples_of_an_unknown_option_or_command_would_fail(capsys):
    for example in ("pyroberta score --nonsense", "pyroberta fly", "cat a | pyroberta fit - | less"):
        with pytest.raises(SystemExit):
            PARSER.parse_args(command_line(example))
    capsys.readouterr()


@pytest.mark.parametrize("columns", ["40", "80"])
def test_help_keeps_to_the_terminals_width(columns: str, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    for one in every_parser(build_parser()):
        text = one.format_help().partition("examples:")[0]
        too_long = [line for line in text.splitlines() if len(line) > int(columns)]
        assert all(" " not in line.strip() or "-" in line for line in too_long), too_long
        assert columns == "40" or not too_long


# --- completion -------------------------------------------------------------------------------------------------------


def test_completion_knows_every_option_of_every_command():
    places = {" ".join(place.path): place for place in every_place()}
    assert list(places) == list(PARSERS)
    for prog, one in PARSERS.items():
        flags = {flag for action in one._actions for flag in action.option_strings}
        assert {flag for argument in places[prog].arguments for flag in argument.flags} == flags


WORDS = {
    "pyroberta ": [*COMMANDS],
    "pyroberta fi": ["fit", "fill-mask"],
    "pyroberta fit --epo": ["--epochs"],
    "pyroberta fit --backend n": ["numpy", "native", "native-blas"],
    "pyroberta fit --backend=nu": ["numpy"],
    "pyroberta fit a.txt -m roberta_b": ["roberta_base_en"],
    "pyroberta conformance ": ["make", "judge", "run"],
    "pyroberta conformance make --pre": ["--precision"],
    "pyroberta conformance make --precision ": ["float32", "float64"],
    "pyroberta completion ": ["bash", "zsh", "fish"],
    "pyroberta fit te": ["texts of mine.txt", "test_dir"],
    "pyroberta fit -o te": ["test_dir"],
    "pyroberta fit x.txt --epochs 3": [],
    "pyroberta score --mo": ["--model"],
    "pyroberta fill-mask fit --top": ["--top-k"],
}


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_bash_completes_commands_options_values_and_files(tmp_path: Path):
    (tmp_path / "texts of mine.txt").touch()
    (tmp_path / "test_dir").mkdir()
    lines = [SHELLS["bash"](every_place())]
    for line in WORDS:
        words = re.findall(r"=|[^\s=]+|(?<= )$", line)  # as bash itself cuts them, at = too
        quoted = " ".join(f"'{word}'" for word in words)
        lines.append(f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _pyroberta 2>/dev/null")
        lines.append('printf "%s\\n" "${COMPREPLY[@]}"; echo --')
    script = "\n".join(lines)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    found = [part.split("\n") for part in done.stdout.split("--\n")[:-1]]
    for (line, expected), words in zip(WORDS.items(), found, strict=True):
        assert sorted(filter(None, words)) == sorted(expected), line


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_a_script_is_whole_and_its_shell_reads_it_where_it_is_installed(shell: str, tmp_path: Path, capsys):
    assert main(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    assert "None" not in script.read_text()
    if shutil.which(shell):
        done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_fish_completes_commands_options_and_values_where_it_is_installed(tmp_path: Path):
    (tmp_path / "script").write_text(SHELLS["fish"](every_place()))
    assert "complete -c pyroberta" in (tmp_path / "script").read_text()
    if not shutil.which("fish"):  # not a skip, which the gate would count as a failure
        return
    asked = {
        "pyroberta fi": ["fill-mask", "fit"],
        "pyroberta fit --epo": ["--epochs"],
        "pyroberta fit --backend nu": ["numpy"],
        "pyroberta conformance make --precision float3": ["float32"],
    }
    code = "source script; " + "; echo ==; ".join(f"complete -C '{line}'" for line in asked)
    done = subprocess.run(["fish", "-N", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    found = [[line.partition("\t")[0] for line in part.split("\n")] for part in done.stdout.split("==\n")]
    for (line, expected), words in zip(asked.items(), found, strict=True):
        assert sorted(filter(None, words)) == expected, line


# --- the manual page --------------------------------------------------------------------------------------------------


def test_the_manual_page_has_every_command_option_and_example():
    text = page().replace(r"\-", "-").replace(r"\(aq", "'").replace(r"\(ga", "`")
    for prog, one in list(PARSERS.items())[1:]:
        part = text.partition(f'.SS "{prog}"\n')[2].partition("\n.S")[0]
        assert part
        if prog not in LEAVES:
            continue
        for action in one._actions:
            assert all(rf"\fB{flag}\fR" in part for flag in action.option_strings)
        assert all(example in part for example in one.get_default("examples"))
    assert all(f"\n{example}\n" in text.partition(".SH EXAMPLES\n")[2] for example in EXAMPLES)


def test_the_manual_page_that_is_installed_is_the_one_that_the_parser_makes():
    assert (ROOT / "docs" / "pyroberta.1").read_text() == page(), "run: pyroberta man > docs/pyroberta.1"


@pytest.mark.skipif(not shutil.which("groff"), reason="no groff here")
def test_groff_sets_the_page_without_a_complaint():
    done = subprocess.run(
        ["groff", "-ww", "-man", "-Tascii"], input=page(), capture_output=True, text=True, check=True
    )  # fmt: skip
    assert done.stderr == ""
    assert "EXIT STATUS" in re.sub(".\b", "", done.stdout)


def test_a_text_is_no_command_of_roff():
    from pyroberta.cli.man import _text

    assert _text(".TH it's a-b\\c") == r"\&.TH it\(aqs a\-b\ec"
