"""The schedules of learning rates: see `pyroberta.training.schedules`."""

from pyroberta.training.schedules import *  # noqa: F403 - what its __all__ names
