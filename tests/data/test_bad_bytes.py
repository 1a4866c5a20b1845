"""What is read of a file with a bad byte: the lines before its line, and then the error."""

from __future__ import annotations

import io

import pytest
from arriving import Pieces

from pyroberta.data.files import file_of


def read_into(lines: list[str], opened) -> None:
    """Adds the lines of a file to a list, which keeps those before an error."""
    for _, line in file_of(opened).lines():
        lines.append(line)


@pytest.mark.parametrize(
    ("content", "found", "message"),
    [
        (b"good\nb\xc3\xa4d \xff here\nnext\n", ["good\n"], "invalid start byte at byte 10, in line 2"),
        (b"\xef\xbb\xbfgood\n\xc3(\n", ["good\n"], "invalid continuation byte at byte 8, in line 2"),
        (b"good\nb\0d\nmore\n", ["good\n"], "byte 6 is NUL, in line 2"),
        (b"good\nmore\n\xc3", ["good\n", "more\n"], "unexpected end of data at byte 10, in line 3"),
        (b"\xff\nb\n", [], "invalid start byte at byte 0, in line 1"),
    ],
)
def test_the_lines_before_a_bad_byte_are_read_however_the_pieces_are_cut(content, found, message):
    for cut in range(1, len(content)):
        for opened in (io.BytesIO(content), io.BufferedReader(Pieces([content[:cut], content[cut:]]))):
            lines: list[str] = []
            with pytest.raises(ValueError, match=rf"{message}\. "):
                read_into(lines, opened)
            assert lines == found


def test_the_lines_before_a_nul_of_an_open_text_are_read():
    lines: list[str] = []
    with pytest.raises(ValueError, match="has NUL characters, the first in line 2"):
        read_into(lines, io.StringIO("\ufeffgood\nb\0d\n"))
    assert lines == ["good\n"]
