"""The recommended learning rates for a preset's weights, in a file that transformers and KerasHub do not read.

    pyroberta_training.json     {"learning_rates": {"masked_lm": 0.001}}

There is one rate for each head. It is meant for Adam, and for training that begins with these weights. Both formats
have the same file.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyroberta.formats.directory import Directory
from pyroberta.formats.files import shown
from pyroberta.model.attributes import is_positive

FILE = "pyroberta_training.json"
KEY = "learning_rates"
MOST_HEADS = 20


def read(directory: Directory) -> Mapping[str, float]:
    """Returns the rates by the names of heads. The result is empty if there is no file.

    Raises:
        ValueError: if the file is damaged, or a rate is not a finite number above 0.
    """
    file = directory / FILE
    if not directory.has(FILE):
        return {}
    rates = directory.json(FILE).get(KEY)
    if not isinstance(rates, dict) or len(rates) > MOST_HEADS:
        raise ValueError(
            f"{file}: {KEY} should be an object from up to {MOST_HEADS} names of heads to learning rates, got "
            f"{shown(rates)}"
        )
    for head, rate in rates.items():
        if not is_positive(rate):
            raise ValueError(
                f"{file}: the learning rate of {shown(head)} should be a finite number above 0, got {shown(rate)}"
            )
    return {head: float(rate) for head, rate in rates.items()}
