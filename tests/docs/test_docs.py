"""The pages tell the truth: their code runs, their links lead somewhere, and no op lacks its page.

Every block that opens with ```python is run, in README.md, CONTRIBUTING.md and docs/. The blocks of one page share one
namespace and are run in order, in an empty working directory. A block right after one that is fenced as ```output holds
what it must have printed. A block with any other tag (```text, ```py, ```sh) is not run.
"""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pytest
from pages import ROOT, Block, blocks

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
    found = [(term, code) for term, _, code in rows if "](../pyroberta/" in code]
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
    rooms = {path.parent.name for path in (ROOT / "pyroberta").glob("*/__init__.py")} - {"optimizers"}  # Keras's name
    assert rooms <= named
    assert not [room for room in named - rooms if not (ROOT / room).is_dir()]
