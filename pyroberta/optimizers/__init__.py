"""The optimizers: see `pyroberta.training.optimizers`."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from pyroberta.model.hints import hints_of_module as _hints_of_module
from pyroberta.optimizers import schedules as schedules
from pyroberta.training.optimizers import *  # noqa: F403 - what its __all__ names
from pyroberta.training.optimizers import __all__ as _names

_OTHERS = (
    *("SGD", "RMSprop", "Adadelta", "Adagrad", "Adamax", "Adafactor", "Nadam", "Ftrl", "Lion", "Lamb", "Muon"),
    *("LossScaleOptimizer", "MultiOptimizer", "OptimizerMap", "ScheduleFreeAdamW", "legacy"),
)
_ELSEWHERE = dict.fromkeys(_OTHERS, "RoBERTa is trained with Adam; pyroberta has Adam, AdamW, TorchAdam and TorchAdamW")

if not _TYPE_CHECKING:  # a type checker knows the names
    __getattr__ = _hints_of_module(__name__, _ELSEWHERE, _names)
