"""The callbacks: see `pyroberta.training.callbacks`."""

from pyroberta.training.callbacks import *  # noqa: F403 - what its __all__ names
