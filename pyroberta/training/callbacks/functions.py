"""A callback made of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyroberta.training.callbacks.base import HOOKS, Callback


class LambdaCallback(Callback):
    """A callback of functions, each under its hook's name.

    Args:
        hooks: functions under their hooks' names, as in `on_epoch_end=f`; f takes the hook's arguments by position.

    Raises:
        TypeError: for a name that is no hook.

    >>> callback = LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs))
    >>> callback.on_epoch_end(0, {"loss": 1.0})
    0 {'loss': 1.0}
    """

    def __init__(self, **hooks: Callable[..., Any] | None) -> None:
        super().__init__()
        for name, function in hooks.items():
            if name not in HOOKS:
                raise TypeError(f"{name!r} is no hook; the hooks are {', '.join(HOOKS)}")
            if function is not None:
                setattr(self, name, function)
