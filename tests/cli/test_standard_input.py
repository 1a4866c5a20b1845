"""Standard input and other pipes: the result of a text is printed before the next text has come, but for a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from arriving import Pieces, as_stdin

from pyroberta import MaskedLM, TextClassifier
from pyroberta.cli.main import main
from pyroberta.cli.texts import parts

GIVEN = ["#0 <mask> it.", "Äpfel #1 <mask>", "a <mask> fox #2"]
COMMANDS = {
    "fill-mask": ["fill-mask"],
    "score": ["score"],
    "tokenize": ["tokenize"],
    "embed": ["embed"],
    "classify": ["classify", "predict"],
    "embed normalized by a file": ["embed", "--normalize", "center", "--fitted-on", "HERE/corpus.txt"],
}
KINDS = {
    "text": ("{}\n".format, "", []),
    "csv": ("1,{}\n".format, "id,text\n", ["--file", "-", "--kind", "csv", "--column", "text"]),
    "jsonl": ('{{"text": "{}"}}\n'.format, "", ["--file", "-", "--kind", "jsonl", "--column", "text"]),
}


@pytest.fixture
def model_of(small_preset: Path, tmp_path: Path):
    """A function that returns the option that names a model for a command."""

    def find(command: list[str]) -> list[str]:
        if command[0] != "classify":
            return ["--model", str(small_preset)]
        classifier = TextClassifier.from_preset(small_preset, num_classes=2, labels=["bad", "good"])
        classifier.save_to_preset(tmp_path / "classifier")
        return ["--model", str(tmp_path / "classifier")]

    return find


@pytest.mark.parametrize("shown", [["--json"], []], ids=["json", "text"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_result_is_there_before_the_next_text_is_read(name, kind, shown, model_of, tmp_path, capsys, monkeypatch):
    line, head, options = KINDS[kind]
    (tmp_path / "corpus.txt").write_text(head + "".join(map(line, ("a fox", "a dog", "the lazy dog"))))
    command = [one.replace("HERE", str(tmp_path)) for one in COMMANDS[name]]
    shown = ["--json"] if command[0] == "embed" else shown  # which prints nothing else
    printed: list[str] = []
    said: list[str] = []
    seen: list[int] = []

    def before(number: int) -> None:
        out, err = capsys.readouterr()
        printed.append(out)
        said.append(err)
        seen.append(sum(f"#{i}" in "".join(printed) for i in range(len(GIVEN))))

    pieces = [head.encode() * (i == 0) + line(text).encode() for i, text in enumerate(GIVEN)]
    monkeypatch.setattr("sys.stdin", as_stdin(Pieces(pieces, before)))
    assert main([*command, *options, *model_of(command), *shown]) == 0
    assert seen == [0, 1, 2]
    assert ("standard input: " in "".join(said)) == ("--file" in options)
    assert ("corpus.txt: " in "".join(said)) == ("--fitted-on" in command)


@pytest.mark.parametrize("name", COMMANDS)
def test_standard_input_gives_what_a_file_gives(name, model_of, tmp_path, capsys, monkeypatch):
    (tmp_path / "corpus.txt").write_text("a fox\na dog\nthe lazy dog\n")
    (tmp_path / "given.txt").write_text("\n".join(GIVEN), encoding="utf-8")
    command = [one.replace("HERE", str(tmp_path)) for one in COMMANDS[name]]
    command = [*command, *model_of(command), "--json"]
    assert main([*command, "--file", str(tmp_path / "given.txt")]) == 0
    of_file = [json.loads(record) for record in capsys.readouterr().out.splitlines()]
    monkeypatch.setattr("sys.stdin", as_stdin(Pieces(["\n".join(GIVEN).encode()])))
    assert main(command) == 0
    found = [json.loads(record) for record in capsys.readouterr().out.splitlines()]
    assert [record["text"] for record in found] == [record["text"] for record in of_file] == GIVEN
    for one, other in zip(found, of_file, strict=True):
        assert one.keys() == other.keys()
        for key in {"total", "embedding"} & one.keys():
            assert one[key] == pytest.approx(other[key], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_is_redirected_is_read_as_the_file(name, model_of, tmp_path, capsys, monkeypatch):
    (tmp_path / "corpus.txt").write_text("a fox\na dog\nthe lazy dog\n")
    given = tmp_path / "given.txt"
    given.write_text("\n".join(GIVEN), encoding="utf-8")
    command = [one.replace("HERE", str(tmp_path)) for one in COMMANDS[name]]
    command = [*command, *model_of(command), "--json"]
    batches: list[int] = []  # the number of texts in each part

    def counted(arguments, source):
        for texts, place in parts(arguments, source):
            batches.append(len(texts))
            yield texts, place

    monkeypatch.setattr("pyroberta.cli.texts.parts", counted)
    monkeypatch.setattr("pyroberta.cli.tokenize.parts", counted)
    assert main([*command, "--file", str(given)]) == 0
    of_file = capsys.readouterr().out
    with given.open(encoding="ascii") as opened:
        monkeypatch.setattr("sys.stdin", opened)
        assert main(command) == 0
    assert capsys.readouterr().out == of_file
    assert batches == [len(GIVEN)] * 2


@pytest.mark.filterwarnings("always")
def test_a_batch_size_for_a_pipe_is_said_to_have_no_effect(model_of, tmp_path, capsys, monkeypatch):
    (tmp_path / "given.txt").write_text("a fox\na dog\n")
    command = ["classify", "predict", *model_of(["classify"])]
    for options, is_said in (([], False), (["--batch-size", "32"], True)):
        monkeypatch.setattr("sys.stdin", as_stdin(Pieces([b"a fox\n", b"a dog\n"])))
        assert main([*command, *options]) == 0
        assert ("warning: --batch-size has no effect on a pipe" in capsys.readouterr().err) == is_said
    with (tmp_path / "given.txt").open() as opened:
        monkeypatch.setattr("sys.stdin", opened)
        assert main([*command, "--batch-size", "1"]) == 0
    assert "--batch-size" not in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--json", "--normalize", "center"], ["--neighbours"], ["--nearest", "a fox"]])
def test_what_needs_all_texts_waits_for_them(options, small_preset, capsys, monkeypatch):
    printed: list[str] = []
    pieces = Pieces([b"a fox\n", b"a dog\n", b"the lazy dog\n"], lambda _: printed.append(capsys.readouterr().out))
    monkeypatch.setattr("sys.stdin", as_stdin(pieces))
    assert main(["embed", *options, "--model", str(small_preset)]) == 0
    assert printed == ["", "", ""]
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "texts", "message", "done"),
    [
        (["fill-mask"], ["a <mask>", "", "b"], "standard input, line 3 holds no '<mask>': 'b'", 1),
        (["score"], ["a", "b", "zqjxvkwy" * 12], "standard input, line 3 has 98 tokens", 2),
        (["embed", "--json"], ["zqjxvkwy" * 12, "a"], "standard input, line 1 has 98 tokens", 0),
        (["score", "--file", "-", "--kind", "csv", "--column", "t"], ["t", "a", "b,c"], "line 3: the row has 2", 1),
        (["score", "--file", "-", "--kind", "jsonl"], ['"a"', "{"], "standard input, line 2 is not JSON", 1),
        (
            ["score"],
            ["a", "caf\udce9"],
            "standard input is not UTF-8 text: invalid continuation byte at byte 5, in line 2",
            1,
        ),
        (["tokenize"], ["a", "b", "c \udcff d", "e"], "not UTF-8 text: invalid start byte at byte 6, in line 3", 2),
        (["tokenize"], ["a", "b", "c\0d", "e\udcff"], "standard input is not text: byte 5 is NUL, in line 3", 2),
        (["tokenize"], ["\udcff", "a\0"], "not UTF-8 text: invalid start byte at byte 0, in line 1", 0),
        (["score", "--file", "-", "--kind", "csv", "--column", "t"], ["t", "a", "\udcff"], "at byte 4, in line 3", 1),
        (["score"], ["", " "], "standard input holds no text: it has no line that is not blank", 0),
    ],
)
@pytest.mark.parametrize("at_once", [False, True])
def test_an_error_has_the_line_and_comes_after_the_results_before_it(
    at_once, command, texts, message, done, small_preset, capsys, monkeypatch
):
    pieces = [f"{text}\n".encode("utf-8", "surrogateescape") for text in texts]
    if at_once:
        pieces = [b"".join(pieces)]
    monkeypatch.setattr("sys.stdin", as_stdin(Pieces(pieces)))
    shown = [] if "--json" in command else ["--json"]
    assert main([*command, *shown, "--model", str(small_preset)]) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == done
    assert message in err
    assert "open file" not in err  # which is what to do in Python
    assert err.startswith(f"pyroberta {command[0]}: error: ") or err.splitlines()[1].startswith("pyroberta score: e")


@pytest.mark.filterwarnings("always")
def test_each_text_that_is_cut_is_named(small_preset, capsys, monkeypatch):
    long = "zqjxvkwy" * 12
    monkeypatch.setattr("sys.stdin", as_stdin(Pieces([f"{long}\na\n{long}\n\n".encode()])))
    assert main(["score", "--json", "--long-texts", "cut", "--model", str(small_preset)]) == 0
    err = capsys.readouterr().err.splitlines()
    more = "has more than 40 tokens (the longest has 98): 1 was cut, which drops 58 tokens"
    assert err == [f"pyroberta: warning: standard input, line {number} {more}" for number in (1, 3)]


@pytest.mark.parametrize("pieces", [[b"id,text\n1,a <mask>\n2,b <mask>\n"], [b"id,te", b"xt\n1,a <mask>\n"]])
def test_a_table_whose_kind_is_not_named_is_refused(pieces, small_preset, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", as_stdin(Pieces(pieces)))
    assert main(["score", "--json", "--model", str(small_preset)]) == 2
    assert "standard input seems to be CSV with the columns 'id', 'text'" in capsys.readouterr().err


def test_a_terminals_end_is_read_once(small_preset, capsys, monkeypatch):
    raw = Pieces([b"a fox\n", b"a dog", b"", b"never"])  # behind the end a terminal goes on
    monkeypatch.setattr("sys.stdin", as_stdin(raw))
    assert main(["tokenize", "--json", "--model", str(small_preset)]) == 0
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["a fox", "a dog"]
    assert raw.given == 3


@pytest.mark.parametrize("place", [["-"], ["--file", "-"], ["--file", "/dev/stdin"]])
def test_a_pipe_is_answered_line_by_line(place, small_preset: Path):
    if place[-1] == "/dev/stdin" and not Path("/dev/stdin").exists():
        return
    command = [sys.executable, "-m", "pyroberta", "score", *place, "--json", "--model", str(small_preset)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdin
        assert process.stdout
        watch = threading.Timer(100, process.kill)  # it would wait for ever
        watch.start()
        found = []
        for text in ("a fox", "a dog"):
            process.stdin.write(f"{text}\n")
            process.stdin.flush()
            found.append(json.loads(process.stdout.readline()))
        process.stdin.close()
        assert process.wait() == 0
        watch.cancel()
    totals = [MaskedLM.from_preset(small_preset).score(text).total for text in ("a fox", "a dog")]
    assert [one["total"] for one in found] == totals


@pytest.mark.filterwarnings("always")
def test_a_mask_in_another_form_is_named_with_its_place_once(small_preset, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", as_stdin(Pieces([b"It <mask>.\nA [MASK] <mask>.\n"])))
    assert main(["fill-mask", "--json", "--model", str(small_preset)]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "pyroberta: warning: standard input, line 2 has a mask in another form, which is read as text ('[MASK]'). "
        "Write '<mask>' in its place"
    ]
