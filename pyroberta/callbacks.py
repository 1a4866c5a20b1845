"""The callbacks: see `pyroberta.training.callbacks`."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from pyroberta.model.hints import hints_of_module as _hints_of_module
from pyroberta.training.callbacks import *  # noqa: F403 - what its __all__ names
from pyroberta.training.callbacks import __all__ as _names

_ELSEWHERE = {  # names of Keras -> what to write
    "OrbaxCheckpoint": "ModelCheckpoint saves the model, BackupAndRestore all that a stopped training needs",
    "RemoteMonitor": "LambdaCallback(on_epoch_end=function) calls function(epoch, logs), which may send the logs",
}

if not _TYPE_CHECKING:  # a type checker knows the names
    __getattr__ = _hints_of_module(__name__, _ELSEWHERE, _names)
