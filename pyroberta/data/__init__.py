"""The inputs of `fit`, `evaluate` and `predict`, and a real text that is part of the package."""

from __future__ import annotations

from pyroberta.data.sources import Source, open_source

__all__ = ["Source", "open_source", "speakers", "speeches"]


def speeches() -> list[str]:
    """Returns State of the Union messages from 1990 on: 1.2 MB of spoken American English, in the order of their dates.

    The messages are a work of the United States federal government, and so in the public domain. `data/README.md` has
    their source. The embedded preset was not trained on them.

    Returns:
        A list of 3109 paragraphs, a string each, without line ends.

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


# The paragraph with which each president's messages begin.
_SPEAKERS = {
    0: "George H. W. Bush",
    196: "Bill Clinton",
    895: "George W. Bush",
    1369: "Barack Obama",
    2008: "Donald Trump",
    2284: "Joe Biden",
    2840: "Donald Trump",
}


def speakers() -> list[str]:
    """Returns the president who speaks in each paragraph of `speeches()`. There are six names, which may serve as
    classes.

    Returns:
        A list with a name for each paragraph, in the order of `speeches()`.

    >>> from collections import Counter
    >>> Counter(speakers()).most_common(2)
    [('Bill Clinton', 699), ('Barack Obama', 639)]
    """
    bounds = [*_SPEAKERS, len(speeches())]
    names = _SPEAKERS.values()
    return [name for name, start, stop in zip(names, bounds, bounds[1:], strict=False) for _ in range(start, stop)]
