"""The pages tell the truth: their code runs, their links lead somewhere, and no op lacks its page.

Every block that opens with ```python is run, in README.md, CONTRIBUTING.md and docs/. The blocks of one page share one
namespace and are run in order, in an empty working directory. A block right after one that is fenced as ```output holds
what it must have printed. A block with any other tag (```text, ```py, ```sh) is not run.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
from pages import ROOT, Block, blocks

import pyroberta
from pyroberta.cli.exit_codes import MEANINGS
from pyroberta.cli.main import main
from pyroberta.cli.parser import COMMANDS, build_parser, command_line, every_parser, subparsers

NO_OPS = ("__init__", "precision", "arrays")  # the table, a policy that no op names, and rows that compute nothing
OPS = sorted(path.stem for path in (ROOT / "pyroberta" / "ops").glob("*.py") if path.stem not in NO_OPS)
PAGES = [
    page
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
    if page.exists()
]


def run(name: str, page: str, printed: pytest.CaptureFixture[str]) -> None:
    """Runs a page's python blocks, or fails with the page's name and the line."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.tag == "python":
            printed.readouterr()
            if complaint := first_error(name, block, namespace):
                pytest.fail(complaint, pytrace=False)
        elif block.tag == "output" and (found := printed.readouterr().out) != block.text:
            pytest.fail(f"{name}:{block.line}: the page says\n{block.text}\nbut it prints\n{found}", pytrace=False)


def first_error(name: str, block: Block, namespace: dict[str, object]) -> str:
    """Runs one block; what went wrong, as `page:line: error`, the statement and the traceback, or nothing."""
    source = "\n" * (block.line - 1) + block.text  # each statement on the line that it has on the page
    try:
        exec(compile(source, name, "exec"), namespace)
    except SyntaxError as error:
        return f"{name}:{error.lineno}: SyntaxError: {error.msg}"
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = next(frame.lineno for frame in reversed(frames) if frame.filename == name) or 1
        statement = source.splitlines()[line - 1].strip()
        return f"{name}:{line}: {type(error).__name__}: {error}\n    {statement}\n\n{traceback.format_exc()}"
    return ""


def anchors(page: str) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    text = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ +(.+?) *$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere, as `line: target`."""
    dead = []
    text = page.read_text(encoding="utf-8")
    in_code = re.sub(r"^```.*?^```", lambda code: "\n" * code.group().count("\n"), text, flags=re.M | re.S)
    for number, line in enumerate(in_code.splitlines(), 1):
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
            if re.match(r"[a-z]+:", target):
                continue  # the web is not ours to test
            file, _, anchor = target.partition("#")
            goal = (page.parent / file).resolve() if file else page
            if not goal.exists() or (anchor and anchor not in anchors(goal.read_text(encoding="utf-8"))):
                dead.append(f"{number}: {target}")
    return dead


def relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_python_block_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run(relative(page), page.read_text(encoding="utf-8"), capsys)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert dead_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_no_sentence_is_shown_as_a_list_because_its_line_begins_with_a_number_or_a_sign(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert re.findall(r"^(?!\d+\. |[-+*] | )\S.*\n(?:\d+[.)]|[-+*]) .*", text, flags=re.M) == []


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_a_page_that_runs_it_and_points_at_its_code(op: str) -> None:
    page = ROOT / "docs" / "ops" / f"{op}.md"
    assert page.exists(), f"pyroberta/ops/{op}.py has no page; write {relative(page)}"
    text = page.read_text(encoding="utf-8")
    assert f"(../../pyroberta/ops/{op}.py)" in text, f"{relative(page)} has no link to its code"
    code = "".join(block.text for block in blocks(text) if block.tag == "python")
    assert "assert" in code, f"{relative(page)} checks nothing"
    assert re.search(rf"\b{op}_(forward|step)\b", code), f"{relative(page)} never calls its op"


@pytest.mark.parametrize("op", OPS)
def test_the_code_names_the_gradients_of_several_letters_as_its_page_does(op: str) -> None:
    page = (ROOT / "docs" / "ops" / f"{op}.md").read_text("utf-8")
    code = " ".join(path.read_text("utf-8") for path in (ROOT / "pyroberta" / "ops").glob("*.py"))
    named = set(re.findall(r"(?<![\w./])d(?:kernel|bias|scores|sum|gamma|beta|losses|table|tokens|z|p|kept)\b", page))
    assert {name for name in named if not re.search(rf"\b{name}\b", code)} == set()


@pytest.mark.parametrize("op", OPS)
def test_the_overview_lists_every_op(op: str) -> None:
    assert f"({op}.md)" in (ROOT / "docs" / "ops" / "index.md").read_text(encoding="utf-8")


def glossary() -> list[tuple[str, list[str], Path]]:
    """The rows of the glossary: term, names in the code, the file that has them."""
    page = ROOT / "docs" / "glossary.md"
    rows = [re.split(r" *(?<!\\)\| *", line)[1:-1] for line in page.read_text("utf-8").splitlines() if line[:2] == "| "]
    found = [(term.strip("*"), code) for term, _, code in rows if re.search(r"\]\(\.\./(pyroberta|csrc)/", code)]
    links = [re.findall(r"\]\(([^)]+)\)", code) for _, code in found]
    names = [re.findall(r"`([^`]+)`", code) for _, code in found]
    return [(term, n, page.parent / link) for (term, _), n, (link,) in zip(found, names, links, strict=True)]


def test_a_term_of_the_glossary_has_one_meaning() -> None:
    terms = [term for term, *_ in glossary()]
    assert len(terms) > 50
    assert [term for term in terms if terms.count(term) > 1] == []


@pytest.mark.parametrize(("term", "names", "file"), glossary(), ids=lambda part: part if isinstance(part, str) else "")
def test_the_code_has_the_names_that_the_glossary_gives(term: str, names: list[str], file: Path) -> None:
    assert names, f"{term}: the glossary names no place in the code"
    code = file.read_text("utf-8")
    assert [name for name in names if not re.search(rf"\b{re.escape(name)}\b", code)] == []


def test_every_page_in_docs_can_be_reached_from_the_tour() -> None:
    seen, ahead = set(), [ROOT / "docs" / "index.md"]
    while ahead:
        page = ahead.pop()
        if page in seen:
            continue
        seen.add(page)
        targets = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text(encoding="utf-8"))
        ahead += [goal for target in targets if (goal := (page.parent / target).resolve()).exists()]
    assert [relative(page) for page in PAGES if relative(page).startswith("docs/") and page not in seen] == []


# The harness itself: a test of pages that could not fail would hold nothing.


def test_a_failing_block_is_reported_with_file_and_line(capsys: pytest.CaptureFixture[str]) -> None:
    page = "# A page\n\n```python\nx = 1\n```\n\ntext\n\n```python\nx += 1\nassert x == 3, x\n```\n"
    with pytest.raises(pytest.fail.Exception, match=r"docs/a\.md:11: AssertionError: 2\n    assert x == 3, x"):
        run("docs/a.md", page, capsys)


def test_the_line_is_the_pages_even_if_the_error_comes_from_deeper_down(capsys: pytest.CaptureFixture[str]) -> None:
    page = "```python\nimport json\n\njson.loads('nonsense')\n```\n"
    with pytest.raises(pytest.fail.Exception, match=r"a\.md:4: JSONDecodeError"):
        run("a.md", page, capsys)


def test_output_that_differs_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    good = "```python\nprint(1 + 1)\n```\n\n```output\n2\n```\n"
    run("a.md", good, capsys)
    with pytest.raises(pytest.fail.Exception, match=r"a\.md:6: the page says\n3\n"):
        run("a.md", good.replace("\n2\n", "\n3\n"), capsys)


def test_other_tags_are_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    run("a.md", "```text\n1 / 0\n```\n\n```py\n1 / 0\n```\n\n```\n1 / 0\n```\n", capsys)


def test_an_unclosed_fence_is_an_error() -> None:
    with pytest.raises(ValueError, match="line 3 is never closed"):
        list(blocks("a\n\n```python\nassert False\n"))


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Ein, zwei\n[a](page.md#ein-zwei) [b](https://example.org/x)\n[c](gone.md) [d](#drei)\n`[e](f)`\n"
    )
    assert dead_links(page) == ["3: gone.md", "3: #drei"]


def test_the_map_has_each_room() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `([\w.]+)` \|", page, flags=re.MULTILINE))
    rooms = {path.parent.name for path in (ROOT / "pyroberta").glob("*/__init__.py")}
    assert rooms <= named
    assert not [room for room in named - rooms if not (ROOT / room).is_dir()]


# --- the page of the command line: its lines run, in order, and each command has one ----------------------------------


COMMAND_LINE = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
LINES = [line for block in blocks(COMMAND_LINE) if block.tag == "sh" for line in block.text.splitlines()]
NOT_RUN = [
    line[2:]
    for block in blocks(COMMAND_LINE)
    if block.tag == "console"
    for line in block.text.splitlines()
    if line[0] == "$"
]


def run_line(line: str, monkeypatch: pytest.MonkeyPatch) -> str:
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
def test_every_line_of_the_command_lines_page_runs_and_prints_what_stands_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    printed = ""
    compared = 0
    for block in blocks(COMMAND_LINE):
        if block.tag == "python":
            exec(block.text, {})
        elif block.tag == "sh":
            printed = [run_line(line, monkeypatch) for line in block.text.splitlines()][-1]
        elif block.tag == "text":
            numberless = [re.sub(r"\d+\.\d+", "0.0", text) for text in (block.text, printed)]
            assert numberless[0] == numberless[1]
            compared += 1
    assert compared == 1
    assert {"my_model", "again", "verdicts", "vectors.npy", "scores.jsonl", "run.csv", "run.png"} <= {
        entry.name for entry in tmp_path.iterdir()
    }


def test_the_command_lines_page_has_an_example_of_each_command_and_action():
    shown = {" ".join(["pyroberta", *command_line(line)]) for line in LINES + NOT_RUN}
    parser = build_parser()
    for one in every_parser(parser):
        if not subparsers(one) and one.prog not in ("pyroberta demo", "pyroberta conformance judge"):
            assert any(f"{line} ".startswith(f"{one.prog} ") for line in shown), one.prog
    assert "pyroberta demo" in COMMAND_LINE
    for line in LINES + NOT_RUN:
        assert parser.parse_args(command_line(line)).command
    table = COMMAND_LINE.partition("The examples work")[0]
    assert all(name in table for name in COMMANDS)


def test_the_command_lines_page_has_the_exit_codes():
    part = COMMAND_LINE.partition("## Exit codes")[2]
    assert {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", part, flags=re.M) for code in row.split(",")} == set(
        MEANINGS
    )


# --- what the embedded preset can do is shown by the texts that the stated rule chooses -------------------------------


@pytest.fixture(scope="module")
def chosen() -> list[tuple[str, str]]:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import choose_examples
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    return choose_examples.pool(pyroberta.Tokenizer.from_preset("roberta_tiny_en"))


def test_the_page_on_pretraining_shows_the_first_ten_of_the_pool(chosen: list[tuple[str, str]]) -> None:
    page = (ROOT / "docs" / "pretraining.md").read_text(encoding="utf-8")
    assert f"{len(chosen)} that qualify" in page
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ") and "`<mask>`" in line]
    assert [(text.removeprefix("| ").replace("`", ""), word) for text, word, _ in rows] == chosen[:10]


def test_readme_shows_the_first_three_that_the_model_gets_right(chosen: list[tuple[str, str]]) -> None:
    masked_lm = pyroberta.MaskedLM.from_preset("roberta_tiny_en")
    some = chosen[:60]
    answers = masked_lm.fill_mask([text for text, _ in some], top_k=1, verbose=0)
    is_right = [fillings[0].token_str.strip() == word for fillings, (_, word) in zip(answers, some, strict=True)]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first = [some[i][0] for i in np.flatnonzero(is_right)[:3]]
    assert [text for text in first if f'"{text}"' in readme] == first
    assert f"of {len(chosen)} sentences" in readme


@pytest.mark.slow
def test_the_shares_are_those_of_the_whole_pool(chosen: list[tuple[str, str]]) -> None:
    masked_lm = pyroberta.MaskedLM.from_preset("roberta_tiny_en")
    answers = masked_lm.fill_mask([text for text, _ in chosen], verbose=0)
    words = [[filling.token_str.strip() for filling in fillings] for fillings in answers]
    first = np.mean([word == some[0] for (_, word), some in zip(chosen, words, strict=True)])
    among = np.mean([word in some for (_, word), some in zip(chosen, words, strict=True)])
    page = (ROOT / "docs" / "pretraining.md").read_text(encoding="utf-8")
    assert f"{100 * first:.1f} % of the sentences" in page
    assert f"in {100 * among:.1f} %." in page
