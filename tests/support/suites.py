"""The conformance suite, made once."""

from __future__ import annotations

import functools

from pyroberta.oracle.conformance import kinds
from pyroberta.oracle.conformance.suite import Suite


@functools.cache
def made() -> Suite:
    """The suite with the defaults: what is published."""
    return kinds.make()
