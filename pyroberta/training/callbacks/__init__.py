"""Callbacks of training, evaluation and prediction, with Keras's names, arguments, hooks and logs.

Epochs and batches count from 0 in hooks and from 1 in messages. The logs of a batch are the running means of its epoch.
The logs of an epoch are its means, and `val_…` after an evaluation. The logs of a batch also have an attribute
`tokens`, the number of its tokens. A callback may add entries to the logs, which later callbacks see.
"""

from pyroberta.training.callbacks.backup import BackupAndRestore
from pyroberta.training.callbacks.base import HOOKS as HOOKS
from pyroberta.training.callbacks.base import BatchLogs as BatchLogs
from pyroberta.training.callbacks.base import Callback, CallbackList
from pyroberta.training.callbacks.base import flattened as flattened
from pyroberta.training.callbacks.base import with_defaults as with_defaults
from pyroberta.training.callbacks.csv_logger import CSVLogger
from pyroberta.training.callbacks.functions import LambdaCallback
from pyroberta.training.callbacks.history import History
from pyroberta.training.callbacks.learning_rate import LearningRateScheduler, ReduceLROnPlateau
from pyroberta.training.callbacks.model_checkpoint import ModelCheckpoint
from pyroberta.training.callbacks.monitor import EarlyStopping
from pyroberta.training.callbacks.progress import ProgbarLogger, ProgressBar
from pyroberta.training.callbacks.screen import Screen as Screen
from pyroberta.training.callbacks.swap_ema import SwapEMAWeights
from pyroberta.training.callbacks.tensorboard import TensorBoard
from pyroberta.training.callbacks.terminate_on_nan import TerminateOnNaN

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgbarLogger",
    "ProgressBar",
    "ReduceLROnPlateau",
    "SwapEMAWeights",
    "TensorBoard",
    "TerminateOnNaN",
]
