"""The inputs of `fit`, `evaluate` and `predict`, and a real text that ships with the package."""

from __future__ import annotations

from pyroberta.data.sources import Source, open_source

__all__ = ["Source", "open_source", "speeches"]


def speeches() -> list[str]:
    """State of the Union messages from 1990 on: 1.2 MB of spoken American English, in the order of their dates.

    They are a work of the United States federal government, and so in the public domain; `data/README.md` has their
    source. The embedded preset was not trained on them.

    Returns:
        Its 3109 paragraphs, a string each, without line ends.

    >>> paragraphs = speeches()
    >>> paragraphs[0]
    'Mr. President, Mr. Speaker, Members of the United States Congress:'
    >>> len(paragraphs), sum(map(len, paragraphs))
    (3109, 1161815)
    """
    import gzip  # here, since the other modules of this room do not need them
    from importlib.resources import files

    compressed = (files(__name__) / "speeches.txt.gz").read_bytes()
    return gzip.decompress(compressed).decode("utf-8").splitlines()
