"""The metrics: see `pyroberta.training.metrics`."""

from pyroberta.training.metrics import *  # noqa: F403 - what its __all__ names
