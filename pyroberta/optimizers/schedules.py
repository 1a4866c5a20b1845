"""The schedules of learning rates: see `pyroberta.training.schedules`."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from pyroberta.model.hints import hints_of_module as _hints_of_module
from pyroberta.training.schedules import *  # noqa: F403 - what its __all__ names
from pyroberta.training.schedules import __all__ as _names

if not _TYPE_CHECKING:  # a type checker knows the names
    __getattr__ = _hints_of_module(__name__, {}, _names)
