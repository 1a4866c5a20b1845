"""The command line on texts: where they are from, tokens, what a preset is, results as they come."""

from __future__ import annotations

import gzip
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import small_fairseq
from small_models import TEXTS, random_params, small_masked_lm

from pyroberta import MaskedLM, TextClassifier, Tokenizer
from pyroberta.cli.inspect import report
from pyroberta.cli.main import main
from pyroberta.presets.preset import open_preset
from pyroberta.tasks import inference
from pyroberta.tasks.streaming import stream


def records(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# --- where texts are from ---------------------------------------------------------------------------------------------


def test_several_files_are_read_in_their_order(model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in {"a.txt": TEXTS[:2], "b.txt": TEXTS[2:], "both.txt": TEXTS}.items():
        Path(name).write_text("\n".join(content))
    assert main(["evaluate", "a.txt", "b.txt", *model, "--json"]) == 0
    printed = capsys.readouterr()
    assert f"a.txt, b.txt: text, one a line, 2 files, {len(TEXTS)} texts" in printed.err
    assert main(["evaluate", "both.txt", *model, "--json"]) == 0
    assert capsys.readouterr().out == printed.out
    for files, message in (
        (["a.txt", "-"], "- is standard input and can't be combined with files"),
        (["a.txt", "c.txt"], "c.txt: the file does not exist"),
    ):
        assert main(["evaluate", *files, *model]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", [["score"], ["tokenize"], ["fill-mask"]])
def test_a_file_arguments_and_standard_input_give_the_same(command, model, tmp_path, capsys, monkeypatch):
    given = ["I <mask> it.", "Äpfel <mask>"]
    (tmp_path / "masked.txt").write_text("\n".join(given), encoding="utf-8")
    assert main([*command, *given, *model, "--json"]) == 0
    expected = records(capsys)
    assert [one["text"] for one in expected] == given
    assert main([*command, "--file", str(tmp_path / "masked.txt"), *model, "--json"]) == 0
    assert records(capsys) == expected
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(given).encode()), encoding="ascii"))
    assert main([*command, "-", *model, "--json"]) == 0
    assert records(capsys) == expected


def test_standard_input_is_told_where_a_file_would_be(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a fox\n\na dog\n")))
    assert main(["evaluate", "-", *model, "--json"]) == 0
    assert "standard input: text, one a line, 2 texts" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a fox\n")))
    assert main(["tokenize", *model]) == 0  # texts, as arguments are
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["score"], "line 5 has 98 tokens, <s> and </s> included; the model takes 40. Shorten it, or pass --long-texts "
                    "cut or --long-texts split"),
        (["embed"], "line 5 has 98 tokens"),
        (["fill-mask"], "line 2 holds no '<mask>': 'short'"),
    ],
)  # fmt: skip
def test_a_text_of_a_file_is_named_by_its_line(command, message, model, tmp_path, capsys):
    file = tmp_path / "texts.csv"
    long = "text 3" if command == ["fill-mask"] else "zqjxvkwy" * 12
    file.write_text(f'text\nshort\n"two\nlines"\n{long}\n')
    assert main([*command, "--file", str(file), "--column", "text", *model, "--json", "--quiet"]) == 2
    assert f"{file}, {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["HERE/texts.txt"],
            "is the name of a file, and TEXT is the text itself. For the texts in the file: pyroberta",
        ),
        (
            ["HERE"],
            "is the name of a directory, and TEXT is the text itself. For the texts in the directory: pyroberta score",
        ),
        (["reviews.csv.gz"], "'reviews.csv.gz' looks like the name of a file, and TEXT is the text itself."),
        (["no.txt"], "--file no.txt. For these characters: echo no.txt | pyroberta score -"),
        (["--file", "HERE/none.txt"], "none.txt: the file does not exist"),
    ],
)
def test_the_name_of_a_file_is_no_text(given: list[str], message: str, texts, model, tmp_path, capsys):
    assert main(["score", *(one.replace("HERE", str(tmp_path)) for one in given), *model]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("text", ["Read a.txt.", "See https://a.b/c.html now", "well.done", "README"])
def test_a_text_that_only_mentions_a_file_is_a_text(text: str, model, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["tokenize", text, *model, "--json"]) == 0
    assert records(capsys)[0]["text"] == text


def test_at_a_terminal_a_command_that_reads_says_so(model, capsys, monkeypatch):
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(io.BytesIO(b"A fox.\n")))
    assert main(["tokenize", *model, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["text"] == "A fox."
    assert err == "reading texts from the terminal, one a line; Ctrl-D ends them\n"


def test_a_closed_standard_input_is_told(model, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    assert main(["score", *model]) == 2
    assert "standard input is closed: there is nothing to read. Give a file" in capsys.readouterr().err


def test_a_whole_file_is_one_text(texts, model, capsys):
    assert main(["tokenize", "--file", texts, "--whole-files", *model, "--json"]) == 0
    (found,) = records(capsys)
    assert found["text"].split("\n")[: len(TEXTS)] == TEXTS
    assert main(["tokenize", "a", "--whole-files", *model]) == 2
    assert (
        "--whole-files has no effect without --file: give --file, or leave --whole-files out" in capsys.readouterr().err
    )


@pytest.mark.filterwarnings("ignore:the only text has more")
def test_full_sentences_and_rules_reach_the_model(texts, model, tmp_path, capsys, monkeypatch):
    masked_lm = MaskedLM.from_preset(model[1])
    how = {"batch_size": 16, "verbose": 0, "return_dict": True}
    assert main(["evaluate", texts, *model, "--full-sentences", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out) == masked_lm.evaluate(TEXTS, full_sentences=True, **how)
    assert json.loads(json.dumps(masked_lm.evaluate(TEXTS, **how))) != masked_lm.evaluate(
        TEXTS, full_sentences=True, **how
    )
    seen = []
    really = MaskedLM.fit
    monkeypatch.setattr(
        MaskedLM, "fit", lambda self, x, *rest, **how: seen.append(how) or really(self, x, *rest, **how)
    )
    assert main(["fit", texts, *model, "-o", str(tmp_path / "out"), "--full-sentences", "--quiet"]) == 0
    assert seen[0]["full_sentences"] is True
    capsys.readouterr()
    for rule in ("original", "within_word_l2r"):
        assert main(["score", "The quickest foxes.", *model, "--rule", rule, "--json"]) == 0
        assert records(capsys)[0]["total"] == pytest.approx(masked_lm.score("The quickest foxes.", rule=rule).total)


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_tokenize_gives_ids_tokens_and_characters(model, capsys):
    tokenizer = Tokenizer.from_preset(model[1])
    text = "The quick <mask>, Äpfel."
    assert main(["tokenize", text, *model, "--json"]) == 0
    (found,) = records(capsys)
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert found == {
        "text": text,
        "tokens": [tokenizer.decode([i]) for i in ids],
        "ids": ids,
        "offsets": [list(span) for span in offsets],
    }
    assert main(["tokenize", text, *model, "--no-special-tokens"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == text
    assert [int(line.split()[0]) for line in lines[2:]] == tokenizer.encode(text, add_special_tokens=False)
    assert main(["tokenize", "A fox.", "-m", "roberta_base_en", "--json"]) == 0  # its weights are not asked for
    assert records(capsys)[0]["ids"] == [0, 250, 23602, 4, 2]


# --- presets ----------------------------------------------------------------------------------------------------------


def test_inspect_tells_what_a_preset_is(tmp_path: Path, small_preset: Path, capsys):
    directory = tmp_path / "classifier"
    TextClassifier.from_preset(small_preset, num_classes=2, labels=["bad", "good"]).save_to_preset(directory)
    (directory / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    assert main(["inspect", str(directory), "--json", "--tensors"]) == 0
    found = json.loads(capsys.readouterr().out)
    model = TextClassifier.from_preset(directory)
    assert (found["task"], found["format"], found["labels"]) == ("TextClassifier", "hf", ["bad", "good"])
    assert (found["licence"], found["parameters"]) == ("mit", model.params.flat.size)
    assert found["config"]["hidden_dim"] == model.backbone.config.hidden_dim
    assert found["preprocessor"]["sequence_length"] == model.preprocessor.sequence_length
    assert found["tokenizer"]["special_tokens"]["<mask>"] == model.preprocessor.tokenizer.mask_token_id
    table = found["tensors"]["classifier.out_proj.weight"]
    assert table == {"dtype": "float32", "shape": [2, model.backbone.config.hidden_dim], "file": "model.safetensors"}
    assert found["stored"]["float32"]["tensors"] == len(found["tensors"])
    assert main(["inspect", str(directory)]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if "  " in line.strip())
    assert (lines["task"], lines["labels"], lines["licence"]) == ("TextClassifier", "bad, good", "mit")


def test_inspect_reads_every_format(tmp_path: Path):
    small_masked_lm(dtype="float32").save_to_preset(tmp_path / "keras", format="keras", dtype="float16")
    found = report(open_preset(tmp_path / "keras"), with_tensors=True)
    assert (found["format"], found["task"], list(found["stored"])) == ("keras", "MaskedLM", ["float16"])
    assert found["licence"] is None
    params = random_params(small_fairseq.CONFIG, 0, np.float32)
    found = report(open_preset(small_fairseq.preset(tmp_path / "fairseq", small_fairseq.tensors(params))))
    assert (found["format"], found["parameters"]) == ("fairseq", params.flat.size)
    embedded = report(open_preset("roberta_tiny_en"))
    assert embedded["licence"].startswith("The weights and the vocabulary are released under Apache-2.0")
    assert embedded["stored"]["float16"]["numbers"] >= embedded["parameters"] > 1_800_000


def test_inspect_says_why_files_hold_more_numbers_than_the_model_has_parameters(tmp_path: Path, capsys):
    assert main(["inspect", "roberta_tiny_en"]) == 0
    embedded = report(open_preset("roberta_tiny_en"))
    more = embedded["stored"]["float16"]["numbers"] - embedded["parameters"]
    reason = f"(the files hold {more} numbers more, which the model does not need, such as rows of token types)"
    assert f"parameters                 {embedded['parameters']:,} {reason}\n" in capsys.readouterr().out
    small_masked_lm().save_to_preset(tmp_path / "keras", format="keras")
    assert main(["inspect", str(tmp_path / "keras")]) == 0
    assert "more" not in capsys.readouterr().out


def test_inspect_refuses_what_is_no_preset(tmp_path: Path, capsys):
    assert main(["inspect", str(tmp_path)]) == 2
    assert "is not a preset" in capsys.readouterr().err


# --- results as they come ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "method"), [("score", "score"), ("fill-mask", "fill_mask")])
def test_a_line_of_json_is_there_before_the_next_part_is_computed(command, method, model, capsys, monkeypatch):
    monkeypatch.setattr(inference, "TOKENS_AT_ONCE", 8)
    printed: list[int] = []
    really = getattr(MaskedLM, method)

    def call(self, texts, **how):
        printed.append(len(lines := capsys.readouterr().out.splitlines()))
        assert all(json.loads(line)["text"] for line in lines)
        return really(self, texts, **how)

    monkeypatch.setattr(MaskedLM, method, call)
    assert main([command, *(f"{word} <mask>." for word in "abcde"), *model, "--json", "--quiet"]) == 0
    assert printed == [0, 1, 1, 1, 1]


def test_a_stream_refuses_and_warns_of_all_texts_before_the_first_result(small_preset: Path, monkeypatch):
    monkeypatch.setattr(inference, "TOKENS_AT_ONCE", 8)
    masked_lm = MaskedLM.from_preset(small_preset)
    monkeypatch.setattr(MaskedLM, "score", lambda *_, **__: pytest.fail("it computed"))
    long = "zqjxvkwy" * 12
    for method, some, message in (
        ("score", ["a", "b", long], "text 2 has 98 tokens"),
        ("fill_mask", ["<mask>", "b"], "text 1 holds no '<mask>'"),
        ("embed", ["a", long], "text 1 has 98 tokens"),
    ):
        with pytest.raises(ValueError, match=message):
            next(stream(masked_lm, method, some, long_texts="refuse"))
    monkeypatch.undo()
    monkeypatch.setattr(inference, "TOKENS_AT_ONCE", 8)
    with pytest.warns(UserWarning, match="2 of 4 texts have more than 40 tokens") as caught:
        found = list(stream(masked_lm, "score", ["a", long, "b", long], long_texts="split", verbose=0))
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="split"):
        expected = masked_lm.score(["a", long, "b", long], long_texts="split", verbose=0)
    np.testing.assert_allclose([one.total for one in found], [one.total for one in expected], rtol=1e-4)


def test_a_stream_names_places_among_all_texts(small_preset: Path, monkeypatch):
    monkeypatch.setattr(inference, "TOKENS_AT_ONCE", 8)
    masked_lm = MaskedLM.from_preset(small_preset)
    texts = [*["a <mask>"] * 3, f"{'zq' * 16} <mask>"]
    how = {"long_texts": "refuse", "verbose": 0, "place": "line {}".format}
    with pytest.raises(ValueError, match=r"with target ' zqjxvkwy' line 3 has 4[3-9] tokens, .* the model takes 40"):
        next(stream(masked_lm, "fill_mask", texts, targets=["zqjxvkwy"], **how))
    with pytest.warns(UserWarning, match=r"1 of 3 texts has no tokens, .*; the first is line 1") as caught:
        assert len(list(stream(masked_lm, "score", ["a", "", "b"], **how))) == 3
    assert len(caught) == 1
    places: list[str] = []
    monkeypatch.setattr(MaskedLM, "embed", lambda _, some, **__: places.extend(map(some.place, range(1))) or [0])
    assert list(stream(masked_lm, "embed", ["zqjxvkwy"] * 3, **how)) == [0] * 3
    assert places == ["line 0", "line 1", "line 2"]


def test_a_stream_of_nothing_is_empty(small_preset: Path):
    assert list(stream(MaskedLM.from_preset(small_preset), "score", [], long_texts="refuse")) == []


LATIN = "text\ncafé\n".encode("cp1252")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", LATIN, "Convert it: iconv -f cp1252 -t utf-8 'a.csv' > NEW"),
        ("a.csv.gz", gzip.compress(LATIN, mtime=0), "Convert it first, by iconv -f cp1252 -t utf-8"),
        ("a.xlsx", b"PK", "Convert it to CSV or Parquet"),
        ("a.json", b'{"text": {"0": "a"}}', "If pandas wrote it, add orient='records' there"),
        ("a.txt", b"text,label\na,b\nc,d\n", "give a table that has it, or name the kind of the file: --kind csv"),
        ("a", b"PAR1", "Name the kind: --kind parquet"),
        ("dir", None, "To read other files, name their kind: --kind text"),
    ],
)
def test_what_to_do_about_a_file_is_said_for_the_shell(name, content, said, model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.md").write_text("a")
    else:
        (tmp_path / name).write_bytes(content)
    column = [] if name in ("a", "dir") else ["--column", "text"]
    assert main(["evaluate", name, *column, *model]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert not re.search(r"open file|pandas\.|open\(|open_source|[a-z_]=", err.replace("orient=", ""))


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("command", ["score", "fit"])
def test_empty_texts_of_a_table_are_said_once(command, tmp_path, small_preset, capsys):
    (tmp_path / "a.csv").write_text("id,text\n1,It rains.\n2,\n3,It snows.\n")
    file = [str(tmp_path / "a.csv"), "--column", "text", "--model", str(small_preset)]
    arguments = ["score", "--file", *file] if command == "score" else ["fit", *file, "-o", str(tmp_path / "out")]
    assert main(arguments) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "empty text" in line]
    assert len(said) == 1
    assert "1 of 3 rows has an empty text in the column 'text' (" in said[0]
    assert "a.csv, line 3), which is read as it is. Leave such rows out first" in said[0]


@pytest.mark.filterwarnings("always")
def test_a_mask_in_another_form_beside_the_mask_is_said_once(small_preset, capsys):
    texts = ["It <mask>.", "[MASK] <mask>.", "{mask} <mask>."]
    assert main(["fill-mask", *texts, "--model", str(small_preset)]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "another form" in line]
    assert len(said) == 1
    assert "2 of 3 texts have a mask in another form, which is read as text (the first is text 2: '[MASK]')" in said[0]


@pytest.mark.filterwarnings("always")
def test_empty_texts_of_standard_input_are_said_at_its_end(small_preset, capsys, monkeypatch):
    rows = b"id,text\n1,It rains.\n2,\n3,\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(rows)))
    assert main(["tokenize", "--file", "-", "--kind", "csv", "--column", "text", "--model", str(small_preset)]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "empty text" in line]
    assert len(said) == 1
    assert "2 of 3 rows have an empty text in the column 'text' (the first is " in said[0]
