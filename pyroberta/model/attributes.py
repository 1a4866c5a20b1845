"""Attributes that are checked whenever they are set, and checks that several classes share.

A user who sets an attribute of Keras or KerasHub expects an effect. If an attribute has no effect here, setting it
raises an error that says what to do instead.
"""

from __future__ import annotations

import inspect
import math
import reprlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, TypeVar

import numpy as np

Check = Callable[[str, Any], Any]
Checks = Mapping[str, Check]
Reasons = Mapping[str, str]
Instance = TypeVar("Instance")

_KERAS = "Keras has it, and setting it here would do nothing"
# The attributes that Keras's layers and models share.
_LAYER_NAMES = (
    "add_loss", "add_metric", "add_variable", "add_weight", "build", "build_from_config", "call", "compute_dtype",
    "compute_mask", "compute_output_shape", "compute_output_spec", "dtype", "dtype_policy", "from_config",
    "get_build_config", "get_config", "input", "input_dtype", "input_spec", "load_own_variables", "losses", "metrics",
    "metrics_variables", "non_trainable_variables", "non_trainable_weights", "output", "path", "quantization_mode",
    "quantize", "quantized_build", "quantized_call", "rematerialized_call", "save_own_variables", "stateless_call",
    "supports_masking", "symbolic_call", "trainable_variables", "trainable_weights", "variable_dtype", "variables",
    "weights",
)  # fmt: skip
_MODEL_NAMES = (
    "compile_from_config", "compute_loss", "compute_metrics", "export", "get_compile_config", "get_layer",
    "get_metrics_result", "get_quantization_layer_structure", "get_state_tree", "jit_compile", "layers",
    "load_weights", "make_predict_function", "make_test_function", "make_train_function", "metrics_names",
    "predict_step", "reset_metrics", "run_eagerly", "save", "save_weights", "set_state_tree",
    "stateless_compute_loss", "test_step", "to_json", "train_step",
)  # fmt: skip
# The attributes that Keras sets when it makes layers and models.
_MADE_LAYER_NAMES = ("activity_regularizer", "autocast", "built", "supports_jit")
_MADE_MODEL_NAMES = (
    "compiled", "input_shape", "inputs", "operations", "output_names", "output_shape", "outputs", "predict_function",
    "steps_per_execution", "test_function", "train_function",
)  # fmt: skip
LAYER = dict.fromkeys((*_LAYER_NAMES, *_MADE_LAYER_NAMES), _KERAS)
MODEL = LAYER | dict.fromkeys((*_MODEL_NAMES, *_MADE_MODEL_NAMES), _KERAS)


class Checked:
    """An object whose attributes are checked when they are set. A subclass names its own attributes and inherits those
    of its bases.

    Attributes:
        checks: the name of an attribute -> a function of the name and the value. It returns the value to keep, or
            raises an error.
        unsettable: the name of an attribute that can't be set -> the reason, and what to do instead. A class that
            defines such a name itself may set it. The constructor writes a constant attribute into `vars(self)`.

    >>> class Rate(Checked):
    ...     checks = {"rate": real_number(0.0, 1.0)}
    ...     unsettable = {"lr": "set rate instead"}
    >>> Rate().lr = 0.5
    Traceback (most recent call last):
    AttributeError: Rate.lr can't be set: set rate instead
    >>> Rate().rate = "0.5"
    Traceback (most recent call last):
    ValueError: rate must be a number from 0 to 1, got '0.5'
    """

    checks: ClassVar[Checks] = {}
    unsettable: ClassVar[Reasons] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        reason, is_method = _settable(type(self), name)  # type: ignore[arg-type]
        if reason is not None:
            raise AttributeError(f"{type(self).__name__}.{name} can't be set: {reason}")
        if is_method and not callable(value):
            raise AttributeError(f"{type(self).__name__}.{name} can't be set: it is a method. Call it instead")
        super().__setattr__(name, self._checked(name, value))

    def _checked(self, name: str, value: Any) -> Any:
        """The value, checked. A class overrides it for checks that read the object's other attributes."""
        check = _check(type(self), name)  # type: ignore[arg-type]
        return value if check is None else check(name, value)


@lru_cache(maxsize=4096)
def _settable(kind: type, name: str) -> tuple[str | None, bool]:
    """Why an attribute of a class can't be set, None where it can; and whether the class has a method of that name."""
    for base in kind.__mro__:
        if name in vars(base).get("unsettable", ()):
            return vars(base)["unsettable"][name], False
        if name in vars(base):
            return None, callable(vars(base)[name])
    return None, False


@lru_cache(maxsize=4096)
def _check(kind: type, name: str) -> Check | None:
    """The check of an attribute of a class, None where there is none."""
    for base in kind.__mro__:
        if name in vars(base).get("checks", ()):
            check: Check = vars(base)["checks"][name]
            return check
    return None


def whole_number(name: str, value: Any, at_least: int = 1, at_most: int | None = None) -> int:
    """Returns the value as an int.

    Raises:
        ValueError: if the value is not a whole number or is out of range. The message names the attribute.

    >>> whole_number("batch_size", 0)
    Traceback (most recent call last):
    ValueError: batch_size must be a whole number of at least 1, got 0
    """
    number = int(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) else at_least - 1
    if number < at_least or (at_most is not None and number > at_most):
        up_to = "" if at_most is None else f" and at most {at_most}"
        raise ValueError(f"{name} must be a whole number of at least {at_least}{up_to}, got {in_message(value)}")
    return number


def whole_number_or_none(name: str, value: Any, at_least: int = 1, at_most: int | None = None) -> int | None:
    """Returns the value as an int, or None for None. It raises the errors of `whole_number`."""
    return None if value is None else whole_number(name, value, at_least, at_most)


def random_seed(name: str, value: Any) -> int:
    """Returns the value as a random seed of 64 bits. It raises the errors of `whole_number`."""
    return whole_number(name, value, at_least=0, at_most=2**64 - 1)


def is_real(value: Any) -> bool:
    """Returns whether the value is a number of Python or NumPy that a float can hold, and not NaN. A bool does not
    count as a number.

    An int or a `longdouble` so large that its float would be infinite, or so small that its float would be 0, is none.

    >>> is_real(1), is_real(float("inf")), is_real(10**400), is_real(True)
    (True, True, False, False)
    """
    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
        return False
    try:
        number = float(value)
    except OverflowError:
        return False
    changes = (math.isinf(number) or not number) and number != value
    return not changes and not math.isnan(number)


def in_message(value: Any) -> str:
    """Returns a value of a user for a message. A number of very many digits, which Python does not write, is described.

    >>> in_message(10**5000), in_message("0.5")
    ('a number of 16610 bits', "'0.5'")
    """
    bits = value.bit_length() if isinstance(value, int) else 0
    return f"a number of {bits} bits" if bits > 1000 else reprlib.repr(value)


def is_positive(value: Any) -> bool:
    """Returns whether the value is a finite number above 0.

    >>> is_positive(1e-3), is_positive(0), is_positive("1e-3")
    (True, False, False)
    """
    return is_real(value) and 0 < value < math.inf


def real_number(least: float, most: float = math.inf) -> Check:
    """Returns a check for finite numbers from `least` to `most`, both included. The check returns a float."""

    def check(name: str, value: Any) -> float:
        if not is_real(value) or not least <= value <= most or math.isinf(value):
            span = f">= {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
            raise ValueError(f"{name} must be a number {span}, got {in_message(value)}")
        return float(value)

    return check


def true_or_false(name: str, value: Any) -> bool:
    """Returns the value, if it is a bool. Anything else is an error, since a text such as "False" would count as true.

    Raises:
        TypeError: if the value is not a bool. The message names the attribute.

    >>> true_or_false("trainable", "False")
    Traceback (most recent call last):
    TypeError: trainable must be True or False, got 'False'
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {in_message(value)}")
    return bool(value)


def as_call(instance: Any) -> str:
    """Returns the call that makes an object, for `repr`. Arguments that have their default value are left out.

    The value of an argument is read from the attribute of the same name, or from the attribute with an underscore
    before the name. The argument `name` is left out if it is the class's default name.

    >>> class Rate:
    ...     def __init__(self, rate, steps=1, name="rate"):
    ...         self._rate, self.steps, self.name = rate, steps, name
    >>> as_call(Rate(0.5)), as_call(Rate(0.5, steps=3))
    ('Rate(rate=0.5)', 'Rate(rate=0.5, steps=3)')
    """
    given = []
    for name, parameter in inspect.signature(type(instance)).parameters.items():
        value = vars(instance).get(f"_{name}", vars(instance).get(name, parameter.default))
        is_class_name = name == "name" and str(value).replace("_", "") == type(instance).__name__.lower()
        if repr(value) != repr(parameter.default) and not is_class_name:
            given.append(f"{name}={value!r}")
    return f"{type(instance).__name__}({', '.join(given)})"


def expect_instance(name: str, value: Any, kind: type[Instance]) -> Instance:
    """Returns the value, if it is an instance of `kind`, one of pyroberta's classes.

    Raises:
        TypeError: if it is not. The message names the attribute, the class and the value.
    """
    if isinstance(value, type) and issubclass(value, kind):
        raise TypeError(f"the {name} should be an object, not its class: make one, {value.__name__}(...)")
    if not isinstance(value, kind):
        raise TypeError(f"the {name} should be one of pyroberta's, such as {kind.__name__}; got {value!r}")
    return value
