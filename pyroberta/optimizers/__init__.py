"""The optimizers: see `pyroberta.training.optimizers`."""

from pyroberta.training.optimizers import *  # noqa: F403 - what its __all__ names
