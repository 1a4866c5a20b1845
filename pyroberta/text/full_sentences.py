"""Sequences filled with whole sentences, one document after another: RoBERTa's FULL-SENTENCES."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import regex
from numpy.typing import NDArray

from pyroberta.text.long_texts import LongTexts
from pyroberta.text.tokenizer import Tokenizer

# A sentence ends at the space after a full stop and the quotation marks and brackets that close after it, before
# anything but a small letter; and with its paragraph.
SENTENCE_END = regex.compile(r"""[.!?…]["'”’»)\]]*+ (?=\P{Ll})""")
PARAGRAPH_END = regex.compile(r"\n[^\S\n]*\n")  # a blank line


def sentences(document: str) -> list[str]:
    """Splits a document into sentences, and replaces white space by single spaces.

    The rule knows no abbreviations, so it cuts some sentences in two. That does no harm if both parts are in one
    sequence.

    >>> sentences('He left. "Why?" Nobody\\nknew, e.g. she.\\n\\nThe end')
    ['He left.', '"Why?"', 'Nobody knew, e.g. she.', 'The end']
    """
    found: list[str] = []
    for paragraph in PARAGRAPH_END.split(document):
        text = " ".join(paragraph.split())
        ends = [end.end() for end in SENTENCE_END.finditer(text)]
        found += [text[start:end].rstrip() for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    return [sentence for sentence in found if sentence]


def full_sentences(
    tokenizer: Tokenizer, documents: Iterable[str], long_texts: LongTexts
) -> Iterator[NDArray[np.int32]]:
    """Yields the sequences of documents. A sequence takes whole sentences as long as there is room (Liu et al. 2019,
    section 4.2).

    A sequence that reaches the end of a document continues with the next document, with an extra `</s>` between them.
    Sentences of one document are joined by a space.

    Args:
        tokenizer: the tokenizer of the ids and the special tokens.
        documents: the documents, one text each.
        long_texts: the largest number of tokens of a sequence, and the treatment of a sentence that has more.

    Yields:
        Arrays (S,) int32, special tokens included.

    Raises:
        ValueError: if a sentence is too long and `long_texts` refuses it.

    >>> tokenizer = Tokenizer.train(["ab"], vocab_size=261)
    >>> documents = ["A b. C d. E.", "F."]
    >>> for ids in full_sentences(tokenizer, documents, LongTexts("split", limit=12)):
    ...     print(tokenizer.decode(ids))
    <s>A b. C d.</s>
    <s> E.</s>F.</s>
    """
    room = long_texts.limit - 2
    current: list[int] = []

    def whole() -> NDArray[np.int32]:
        return np.array([tokenizer.start_token_id, *current, tokenizer.end_token_id], np.int32)

    for number, document in enumerate(documents):
        for i, sentence in enumerate(sentences(document)):
            text = f" {sentence}" if i else sentence
            for window in long_texts.encode(tokenizer, (text,), f"{long_texts.place(number)}, sentence {i}"):
                ids = window[1:-1].tolist()
                between = [] if i or not current else [tokenizer.end_token_id]
                if current and len(current) + len(between) + len(ids) > room:
                    yield whole()
                    current, between = [], []
                current += between + ids
    if current:
        yield whole()
