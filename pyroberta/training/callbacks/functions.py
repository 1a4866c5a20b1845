"""A callback that is made of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyroberta.training.callbacks.base import HOOKS, Callback

Hook = Callable[..., Any] | None


class LambdaCallback(Callback):
    """A callback that is made of functions, one for each hook.

    Args:
        on_epoch_begin, on_epoch_end, on_train_begin, on_train_end, on_train_batch_begin, on_train_batch_end: functions
            with the arguments of the hook.
        others: functions under the names of other hooks, as in `on_test_end=f`. A value under a name that does not
            begin with `on_` is stored as an attribute, which the functions may use.

    Raises:
        TypeError: if a name begins with `on_`, or is similar to the name of a hook, and is not a hook, since its
            function would never be called; or if the value of a hook is not a function.

    >>> callback = LambdaCallback(on_epoch_end=lambda epoch, logs: print(callback.place, epoch, logs), place="here")
    >>> callback.on_epoch_end(0, {"loss": 1.0})
    here 0 {'loss': 1.0}
    """

    def __init__(
        self,
        on_epoch_begin: Hook = None,
        on_epoch_end: Hook = None,
        on_train_begin: Hook = None,
        on_train_end: Hook = None,
        on_train_batch_begin: Hook = None,
        on_train_batch_end: Hook = None,
        **others: Any,
    ) -> None:
        super().__init__()
        others |= {
            "on_epoch_begin": on_epoch_begin, "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin, "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin, "on_train_batch_end": on_train_batch_end,
        }  # fmt: skip
        for name, value in others.items():
            is_hook = name in HOOKS
            if not is_hook and (name.startswith("on_") or f"on_{name}" in HOOKS):
                raise TypeError(f"{name!r} is not a hook and would never be called; the hooks are {', '.join(HOOKS)}")
            if is_hook and value is not None and not callable(value):
                raise TypeError(f"{name} should be a function with the arguments of the hook, got {value!r:.80}")
            if value is not None or not is_hook:
                setattr(self, name, value)
