"""The losses: see `pyroberta.training.losses`."""

from pyroberta.training.losses import *  # noqa: F403 - what its __all__ names
