"""A callback made of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyroberta.training.callbacks.base import HOOKS, Callback

Hook = Callable[..., Any] | None


class LambdaCallback(Callback):
    """A callback of functions, each under its hook's name.

    Args:
        on_epoch_begin, on_epoch_end, on_train_begin, on_train_end, on_train_batch_begin, on_train_batch_end: functions
            of the hook's arguments.
        hooks: functions under the names of other hooks, as in `on_test_end=f`.

    Raises:
        TypeError: for a name that is no hook.

    >>> callback = LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs))
    >>> callback.on_epoch_end(0, {"loss": 1.0})
    0 {'loss': 1.0}
    """

    def __init__(
        self,
        on_epoch_begin: Hook = None,
        on_epoch_end: Hook = None,
        on_train_begin: Hook = None,
        on_train_end: Hook = None,
        on_train_batch_begin: Hook = None,
        on_train_batch_end: Hook = None,
        **hooks: Hook,
    ) -> None:
        super().__init__()
        hooks |= {
            "on_epoch_begin": on_epoch_begin, "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin, "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin, "on_train_batch_end": on_train_batch_end,
        }  # fmt: skip
        for name, function in hooks.items():
            if name not in HOOKS:
                raise TypeError(f"{name!r} is no hook; the hooks are {', '.join(HOOKS)}")
            if function is not None:
                setattr(self, name, function)
