"""Suggestions for an unknown name."""

from __future__ import annotations

import functools
import inspect
from abc import ABCMeta
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean 'a' or 'b'?` with the known names that are similar to a name, or "" if none is.

    The same name in other letter cases, and the initials of a name, count as similar.

    >>> did_you_mean("epoch", ["epochs", "batch_size"])
    "; did you mean 'epochs'?"
    >>> did_you_mean("bs", ["epochs", "batch_size"])
    "; did you mean 'batch_size'?"
    >>> did_you_mean("colour", ["epochs", "batch_size"])
    ''
    """
    import difflib

    names = list(known)
    close = [full for full in names if name.lower() == full.lower()]
    close += [full for full in names if name == "".join(word[0] for word in full.replace("-", "_").split("_") if word)]
    close = close or difflib.get_close_matches(name, names, n=2)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def unknown_name(name: str, elsewhere: Mapping[str, str], known: Iterable[str]) -> str:
    """Returns the end of an error message for an unknown name: what to write here instead, or a public name that is
    similar.

    >>> unknown_name("train", {"train": "fit(texts) trains a model"}, [])
    ': fit(texts) trains a model'
    >>> unknown_name("weigths", {}, ["weights", "_weights"])
    "; did you mean 'weights'?"
    """
    if name.startswith("_"):
        return ""
    if name in elsewhere:
        return f": {elsewhere[name]}"
    return did_you_mean(name, (one for one in known if not one.startswith("_")))


class _HintingClass(ABCMeta):
    """Makes the error of a class, such as for `MaskedLM.from_pretrained`, say what that of an instance says."""

    elsewhere: Mapping[str, str]

    if not TYPE_CHECKING:  # a type checker knows the names

        def __getattr__(cls, name: str) -> NoReturn:
            """Raises the error."""
            hint = unknown_name(name, cls.elsewhere, dir(cls))
            raise AttributeError(f"{cls.__name__} has no attribute {name!r}{hint}", name=name, obj=cls)


class Hinting(metaclass=_HintingClass):
    """A class whose error for an unknown attribute says what to write instead, or suggests a known attribute. The
    errors of its instances do so too.

    Attributes:
        elsewhere: a name that users may look for, such as one of another library -> what to write instead.
    """

    elsewhere: ClassVar[Mapping[str, str]] = {}

    if not TYPE_CHECKING:  # a type checker knows the names

        def __getattr__(self, name: str) -> NoReturn:
            """Raises the error."""
            kind = type(self)
            hint = unknown_name(name, kind.elsewhere, dir(kind))
            raise AttributeError(f"{kind.__name__} has no attribute {name!r}{hint}", name=name, obj=self)


def hints_of_module(module: str, elsewhere: Mapping[str, str], known: Iterable[str]) -> Callable[[str], NoReturn]:
    """Returns a module's `__getattr__`. It raises an error that says what to write instead of a name, or suggests a
    known one.

    >>> hints_of_module("shapes", {"Oval": "Ellipse draws one"}, ["Ellipse"])("Oval")
    Traceback (most recent call last):
    AttributeError: module 'shapes' has no attribute 'Oval': Ellipse draws one
    """
    names = tuple(known)

    def getattr_of_module(name: str) -> NoReturn:
        raise AttributeError(
            f"module {module!r} has no attribute {name!r}{unknown_name(name, elsewhere, names)}", name=name
        )

    return getattr_of_module


def refuse_unknown(
    function: str, keywords: Iterable[str], known: Iterable[str], elsewhere: Mapping[str, str] = {}
) -> None:
    """Refuses an unknown argument, with what to write instead or with a known argument that is similar.

    Args:
        function: its name, for the message.
        keywords: the names of the arguments.
        known: the names of the function's arguments.
        elsewhere: the name of another function's argument -> what to write instead.

    Raises:
        TypeError: for the first that is unknown.
    """
    known = [*known]
    for name in keywords:
        if name not in known:
            hint = f": {elsewhere[name]}" if name in elsewhere else did_you_mean(name, known)
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{hint}")


def _called(function: Callable[..., Any], args: tuple[Any, ...]) -> str:
    """The name of a function in a call; that of a method with the class that it was called of, not its base."""
    owner, _, name = function.__qualname__.rpartition(".")
    if not owner or not args:
        return function.__qualname__
    return f"{(args[0] if isinstance(args[0], type) else type(args[0])).__name__}.{name}"


def hinting(**elsewhere: str) -> Callable[[Function], Function]:
    """Returns a decorator. A decorated function's error for an unknown argument suggests a known one.

    Args:
        elsewhere: the name of another function's argument -> what to write instead.

    >>> @hinting(colour="paint(colour=...) has the colour")
    ... def draw(width=1): pass
    >>> draw(widht=2)
    Traceback (most recent call last):
    TypeError: draw() got an unexpected keyword argument 'widht'; did you mean 'width'?
    >>> draw(colour="red")
    Traceback (most recent call last):
    TypeError: draw() got an unexpected keyword argument 'colour': paint(colour=...) has the colour
    """

    def decorate(function: Function) -> Function:
        names = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def call(*args: Any, **keywords: Any) -> Any:
            if not keywords.keys() <= set(names):
                refuse_unknown(_called(function, args), keywords, names, elsewhere)
            return function(*args, **keywords)

        return call  # type: ignore[return-value]

    return decorate
