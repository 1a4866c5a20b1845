"""A command line that is wrong by itself is answered with the command's usage; what is wrong in a file, in one line."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from pyroberta.cli.main import main
from pyroberta.cli.parser import build_parser, every_parser

FIT = ["fit", "texts.txt", "-o", "out"]
TRAIN = ["classify", "train", "table.csv", "-o", "out"]
PAIR = ["--file", "table.csv", "--column", "text", "--column", "label"]
NO_PAIR = "--column text --column label names pairs of texts, but pyroberta {} takes single texts: give one column"
LABELS = ["--column", "text", "--label", "label"]
# The command, and the end of the error.
WRONG = {
    "fit": [
        ([*FIT, "--log", "hard.txt", "--overwrite"], "--log hard.txt is also FILE texts.txt, and would replace it."),
        ([*FIT, "--plot", "link.txt", "--overwrite"], "--plot link.txt is also FILE texts.txt, and would replace it."),
        ([*FIT, "--model", "folder", "--log", "folder/config.json"], "--log folder/config.json is inside --model fold"),
        ([*FIT, "--fresh", "--tokenizer", "folder", "--checkpoint", "folder/x"], "--checkpoint folder/x is inside --t"),
        (["fit", "texts.txt", "--model", "folder", "-o", "folder/x"], "--output folder/x is inside --model folder, wh"),
        (["fit", "folder", "-o", "out", "--log", "folder/x.csv"], "--log folder/x.csv is inside FILE folder, which is"),
        (["fit", "*.txt", "-o", "out", "--log", "x.txt"], "--log x.txt has a name of FILE *.txt, and would be read th"),
        (["fit", "*.txt", "-o", "out", "--log", "hard.txt"], "--log hard.txt is also FILE *.txt, and would replace it"),
        ([*FIT, "--log", "kaggle://a"], "--log kaggle://a is the handle of a hub, and the result is written on this"),
        (["fit", "texts.txt", "texts.txt", "-o", "out"], "FILE texts.txt is given twice, and its texts would count tw"),
        (["fit", "texts.txt", "./hard.txt", "-o", "out"], "./hard.txt is found twice, by FILE texts.txt and by FILE ."),
        (["fit", "books", "books/a.txt", "-o", "out"], "books/a.txt is found twice, by FILE books and by FILE books/a"),
        (["fit", "books/a.txt", "books/*", "-o", "out"], "books/a.txt is found twice, by FILE books/a.txt and by FILE"),
        ([*FIT, "--ep=1"], "unknown option --ep; did you mean --epochs?"),
        ([*FIT, "--early-stopping", "2"], "--early-stopping has no effect without --validation: give --validation too"),
        ([*FIT, "--resume"], "--resume has no effect without --checkpoint: give --checkpoint too, or leave --resume"),
        ([*FIT, "--checkpoint-every", "2"], "--checkpoint-every has no effect without --checkpoint: give --checkpoint"),
        ([*FIT, "--validation", "200%"], "--validation 200% should leave texts on both sides: a share such as 10% or"),
        ([*FIT, "--plot", "x.foo"], "--plot x.foo should end with .png, .svg, .pdf or .jpg"),
        ([*FIT, "--log", "out/log.csv"], "--log out/log.csv is inside --output out, which is for the model only."),
        ([*FIT, "--checkpoint", "out"], "--checkpoint out is inside --output out, which is for the model only."),
        ([*FIT, "--log", "a.svg", "--plot", "a.svg"], "--plot a.svg is also --log, and would replace it. Give another"),
        ([*FIT, "--tokenizer", "v"], "--tokenizer needs --fresh: the preset's weights belong to its own vocabulary"),
        ([*FIT, "--seed", "-1"], "argument --seed: must be a whole number from 0 to 18446744073709551615, got '-1'"),
        ([*FIT, "--learning-rate", "-1"], "argument --learning-rate: must be a number of at least 0, got '-1'"),
        ([*FIT, "--freeze", "("], "argument --freeze: '(' is not a regular expression: missing )"),
        (["fit", "-", "texts.txt", "-o", "out"], "- is standard input and can't be combined with files: give one of"),
        (["fit", "-", "-o", "out", "--validation", "-"], "FILE and --validation are both -, standard input, which can"),
        ([*FIT, "--column", "text", "--kind", "text"], "--column has no effect on --kind text, which has no columns"),
        ([*FIT, "--column", "text", "--whole-files"], "--whole-files applies to text files, and --column to tables:"),
        ([*FIT, "--kind", "csv", "--whole-files"], "--whole-files applies to text files, and --kind csv to tables:"),
    ],
    "evaluate": [
        (["evaluate", "table.csv", "--column", "text", "--column", "text"], "--column text is given twice, but a text"),
        (["evaluate", "-", "texts.txt"], "- is standard input and can't be combined with files: give one"),
    ],
    "fill-mask": [
        (["fill-mask", "--file", "-", "--file", "t.txt"], "argument --file: is given twice, '-' and 't.txt': give"),
        (["fill-mask", "a", "-k", "5", "--top-k=2"], "argument -k/--top-k: is given twice, 5 and 2: give it once"),
        (["fill-mask", *PAIR], NO_PAIR.format("fill-mask")),
        (["fill-mask", "--kind", "csv", *PAIR[2:]], NO_PAIR.format("fill-mask")),
        (["fill-mask", "<mask>", "--targets", " ,"], "argument --targets: must name words, such as door,window; got "),
        (["fill-mask", "<mask>", "--column", "text"], "--column has no effect without --file: give --file, or leave"),
        (["fill-mask", "<mask>", "--file", "texts.txt"], "--file texts.txt and the text '<mask>' both name what to"),
    ],
    "score": [
        (["score", *PAIR], NO_PAIR.format("score")),
        (["score", "a", "--kind", "csv"], "--kind has no effect without --file: give --file, or leave --kind out"),
        (["score", "a", "--whole-files"], "--whole-files has no effect without --file: give --file, or leave --whole-"),
    ],
    "tokenize": [
        (["tokenize", *PAIR], NO_PAIR.format("tokenize")),
        (["tokenize", "a", "--file", "texts.txt"], "--file texts.txt and the text 'a' both name what to rea"),
    ],
    "embed": [
        (
            ["embed", "--file", "rows.jsonl", "--column", "text", "-o", "rows.jsonl", "--overwrite"],
            "--output rows.jsonl is also --file, and would replace it. Give another place",
        ),
        (
            ["embed", "a", "--normalize", "center", "--fitted-on", "rows.jsonl", "-o", "./rows.jsonl", "--overwrite"],
            "--output ./rows.jsonl is also --fitted-on rows.jsonl, and would replace it. Give another place",
        ),
        (["embed", "a", "-o", "hf://a.npy"], "--output hf://a.npy is the handle of a hub, and the result is written"),
        (["embed", "--json", *PAIR], NO_PAIR.format("embed")),
        (["embed", "a"], "nothing to do with the embeddings: give -o FILE.npy, --json, --nearest QUERY or --neighbour"),
        (["embed", "a", "--output", "v.csv"], "--output v.csv should end with .npy or .jsonl"),
        (["embed", "a", "--json", "--top-k", "2"], "--top-k has no effect without --nearest or --neighbours: give one"),
        (["embed", "a", "--json", "--fitted-on", "texts.txt"], "--fitted-on has no effect without --normalize: give"),
        (["embed", "a", "--json", "--dimensions", "2"], "--dimensions has no effect without --normalize whiten"),
        (["embed", "a", "--json", "--overwrite"], "--overwrite has no effect without --output"),
        (["embed", "--json", "--normalize", "center", "--fitted-on", "-"], "the texts and --fitted-on are both standa"),
    ],
    "classify train": [
        ([*TRAIN, *LABELS, "--label", "text"], "argument --label: is given twice, 'label' and 'text': give it once"),
        ([*TRAIN, "--column", "text"], "--label is missing: it names the column of the labels. table.csv has the"),
        ([*TRAIN, "--label", "label"], "--column is missing: it names the column of the texts. table.csv has the"),
        ([*TRAIN, "--column", "text", "--label", "text"], "--column and --label are both text, but a text can't be it"),
        ([*TRAIN, *LABELS, "--early-stopping", "2"], "--early-stopping has no effect without --validation: give"),
        ([*TRAIN, *LABELS, "--validation", "200%"], "--validation 200% should leave texts on both sides: a share such"),
    ],
    "classify evaluate": [
        (["classify", "evaluate", "table.csv", "--model", "x"], "--label is missing: it names the column of the label"),
    ],
    "classify predict": [
        (["classify", "predict", "a", "--model", "x", "--column", "text"], "--column has no effect without --file: gi"),
    ],
    "train-tokenizer": [
        (["train-tokenizer", "texts.txt", "-o", "texts.txt"], "--output texts.txt is also FILE, and would replace it"),
        (["train-tokenizer", "texts.txt", "hard.txt", "-o", "out"], "hard.txt is found twice, by FILE texts.txt and b"),
        (
            ["train-tokenizer", "folder/own.txt", "-o", "folder", "--overwrite"],
            "FILE folder/own.txt is inside --output folder, which is replaced as a whole. Give another --output",
        ),
        (["train-tokenizer", "-", "-", "-o", "out"], "- is standard input, which can be read once: give it once"),
        (
            ["train-tokenizer", "texts.txt", "-o", "out", "--vocab-size", "7"],
            "argument --vocab-size: must be at least 261 (special tokens and 256 bytes), got '7'",
        ),
    ],
    "trace": [
        (
            ["trace", "a", "--model", "folder", "-o", "folder/model.safetensors", "--overwrite"],
            "--output folder/model.safetensors is inside --model folder, which is read. Give another place",
        ),
        (["trace", "a", "-o", "t.safetensors", "--kind", "csv"], "--kind has no effect without --file: give --file, o"),
    ],
    "compare": [
        (["compare", "golden", "theirs", "--overwrite"], "--overwrite has no effect without --report"),
        (["compare", "texts.txt", "x", "--report", "texts.txt", "--overwrite"], "--report texts.txt is also GOLDEN,"),
        (["compare", "texts.txt", "x", "--report", "hf://a/b.html"], "--report hf://a/b.html is the handle of a hub"),
    ],
    "conformance make": [
        (["conformance", "make", "hf://a/b"], "SUITE hf://a/b is the handle of a hub, and the result is written on th"),
        (["conformance", "make", "suite", "--seed", "-1"], "argument --seed: must be a whole number from 0 to "),
    ],
    "conformance run": [
        (["conformance", "run", "suite", "--overwrite"], "--overwrite has no effect without --output"),
        (
            ["conformance", "run", "folder", "-o", "folder/tensors.safetensors", "--overwrite"],
            "--output folder/tensors.safetensors is inside SUITE folder, which is read. Give another place",
        ),
    ],
    "convert": [
        (["convert", "folder", "folder/inner"], "DST folder/inner is inside SRC folder, which is read. Give another"),
        (["convert", "roberta_tiny_en", "hf://q/r"], "DST hf://q/r is the handle of a hub, and the result is written"),
        (["convert", "a", "b", "--dtype", "float32", "--dtype", "float32"], "argument --dtype: is given twice, '"),
        (["convert", "a", "b", "--dtype", "half"], "argument --dtype: invalid choice: 'half' (choose from 'float32'"),
        (["convert", "a", "b", "--format", "onnx"], "argument --format: invalid choice: 'onnx' (choose from 'hf', "),
        (["convert", "a", "b", "--max-shard-size", "x"], "argument --max-shard-size: must be a size such as 500MB, a "),
    ],
    "upload": [(["upload", "model", "x"], "argument HANDLE: 'x' is not a place for uploads. Give hf://ORGANISATION/")],
    "demo": [
        (["demo", "--overwrite"], "--overwrite has no effect without --output"),
        (["demo", "-o", "kaggle://a"], "--output kaggle://a is the handle of a hub, and the result is written on this"),
    ],
}  # fmt: skip
IN_FILES = {
    "fit": [
        ([*FIT, "--validation", "no.txt"], "--validation no.txt: the file does not exist."),
        ([*FIT, "--fresh", "--tokenizer", "no", "--quiet"], "--tokenizer no: the directory does not exist."),
        (
            ["fit", "texts.txt", "-o", "hf://x/y"],
            "can't save to 'hf://x/y': it is the handle of a hub, and models are ",
        ),
        (["fit", "texts.txt", "-o", "hf://x/y"], "or upload the model: `pyroberta upload DIR hf://x/y`"),
        (["fit", "table.csv", "-o", "out"], "table.csv is CSV with the columns 'text', 'label'. Name the column"),
        ([*FIT, "--log", "texts.txt/a"], "texts.txt is a file, and not a directory. Give another place"),
    ],
    "evaluate": [(["evaluate", "no.txt"], "no.txt: the file does not exist. Give a file, a directory, a pattern")],
    "score": [(["score", "texts.txt"], "'texts.txt' is the name of a file, and TEXT is the text itself. For the")],
    "embed": [(["embed", "a", "-o", "texts.txt/v.npy"], "texts.txt is a file, and not a directory. Give another")],
    "tokenize": [(["tokenize", "a", "--model", "./no"], "there is no such directory")],
    "inspect": [(["inspect", "."], "is not a preset")],
    "convert": [(["convert", "folder", "out"], "config.json")],
    "upload": [(["upload", "no", "hf://me/a"], "the directory to upload does not exist")],
    "compare": [(["compare", "no.safetensors", "no.npz"], "no.safetensors")],
    "conformance judge": [(["conformance", "judge", "no", "no.npz"], "conformance make")],
    "classify predict": [(["classify", "predict", "a", "--model", "roberta_tiny_en"], "is not a classifier")],
}

# Each command with --output, and two without it that write too; what it writes shall be below a file.
BELOW_A_FILE = {
    "fit": ["fit", "texts.txt", "-o", "texts.txt/a"],
    "train-tokenizer": ["train-tokenizer", "texts.txt", "-o", "texts.txt/a/b"],
    "classify train": ["classify", "train", "table.csv", *LABELS, "-o", "texts.txt/a"],
    "embed": ["embed", "a", "-o", "texts.txt/a/v.npy"],
    "trace": ["trace", "a", "-o", "texts.txt/a.safetensors"],
    "conformance run": ["conformance", "run", "suite", "-o", "texts.txt/a/b.safetensors"],
    "demo": ["demo", "-o", "texts.txt/a"],
    "conformance make": ["conformance", "make", "texts.txt/a"],
    "convert": ["convert", "roberta_tiny_en", "texts.txt/a"],
}


def listed(cases):
    return [pytest.param(prog, *case, id=" ".join(case[0])) for prog, some in cases.items() for case in some]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch):
    (tmp_path / "texts.txt").write_text("a fox\na dog\n")
    (tmp_path / "table.csv").write_text("text,label\na fox,b\na dog,c\n")
    (tmp_path / "rows.jsonl").write_text('{"text": "a fox"}\n')
    (tmp_path / "hard.txt").hardlink_to(tmp_path / "texts.txt")
    (tmp_path / "link.txt").symlink_to("texts.txt")
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "a.txt").write_text("an elk\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "own.txt").write_text("an owl\n")
    (tmp_path / "folder" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)


def content_of(directory: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in directory.rglob("*")}


def code_of(arguments: list[str]) -> int:
    try:
        return main(arguments)
    except SystemExit as stopped:  # of the parser
        return int(stopped.code or 0)


@pytest.mark.parametrize(("prog", "arguments", "message"), listed(WRONG))
def test_a_line_that_is_wrong_by_itself_is_answered_with_the_usage(prog, arguments, message, capsys, tmp_path):
    before = content_of(tmp_path)
    assert code_of(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"usage: pyroberta {prog} [-h]")
    assert err.splitlines()[-1].startswith(f"pyroberta {prog}: error: {message}")
    assert err.count("usage: ") == 1
    assert content_of(tmp_path) == before


@pytest.mark.parametrize(("prog", "arguments", "message"), listed(IN_FILES))
def test_what_is_wrong_in_a_file_is_told_in_a_line_that_names_the_command(prog, arguments, message, capsys):
    assert code_of(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.startswith(f"pyroberta {prog}: error: ")
    assert message in err


@pytest.mark.parametrize(("prog", "arguments"), BELOW_A_FILE.items())
def test_an_output_below_a_file_is_told_before_any_work_with_what_is_in_the_way(prog, arguments, capsys, tmp_path):
    assert code_of(arguments) == 2
    out, err = capsys.readouterr()
    file = tmp_path / "texts.txt"
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.startswith(f"pyroberta {prog}: error: can't save to {file}/a")
    assert err.endswith(f": {file} is a file, and not a directory. Give another place.\n")


def test_every_command_with_an_output_is_tried_below_a_file():
    with_output = {
        one.prog.removeprefix("pyroberta ")
        for one in every_parser(build_parser())
        if any("--output" in action.option_strings for action in one._actions)
    }
    assert with_output <= BELOW_A_FILE.keys()


@pytest.mark.parametrize("arguments", [BELOW_A_FILE["trace"], BELOW_A_FILE["conformance run"]], ids=lambda a: a[0])
def test_an_output_that_is_a_directory_is_told_before_any_work(arguments, capsys, tmp_path):
    (tmp_path / "a.safetensors").mkdir()
    assert code_of([*arguments[:-1], "a.safetensors", "--overwrite"]) == 2
    assert capsys.readouterr().err.endswith("can't save to a.safetensors: it is a directory. Give another name.\n")


def test_a_warning_that_is_raised_is_told_as_an_error_in_one_line(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert code_of([*FIT, "--quiet", "--lora", "500"]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.startswith("pyroberta fit: error: --lora 500: LoRA's rank 500 adds nothing to rank 128")


@pytest.mark.parametrize(
    "arguments",
    [["fit", "long.txt", "-o", "out"], ["evaluate", "long.txt"], ["score", "--file", "long.txt"]],
    ids=lambda arguments: arguments[0],
)
def test_a_text_that_is_too_long_is_told_with_its_file_and_line(arguments, capsys, tmp_path):
    (tmp_path / "long.txt").write_text("a fox\n" + "a dog and " * 100 + "\n")
    assert code_of([*arguments, "--quiet", "--long-texts", "refuse"]) == 2
    begins = f"pyroberta {arguments[0]}: error: long.txt, line 2 has "
    assert capsys.readouterr().err.splitlines()[-1].startswith(begins)


def test_a_training_names_what_the_model_takes(capsys, tmp_path):
    (tmp_path / "long.txt").write_text("a dog and " * 100 + "\n")
    assert code_of(["fit", "long.txt", "-o", "out", "--long-texts", "refuse"]) == 2
    err = capsys.readouterr().err
    assert "</s> included; the model takes 128. Shorten it, or pass --long-texts cut" in err
    assert err.count("long.txt: text, one a line, 1 text") == 1
