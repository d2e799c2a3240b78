"""The user's own pair for `npattn check`: its functions, found by name, and the arguments to check it at.

An argument is ``X:3,4`` (a random array) or ``eps=1e-5`` (a value), or one of the user's functions returns all of them.
`bind` then passes each argument as the signature of forward asks.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from npattn.cli.terminal import UsageError

#: ``name:shape`` or ``name:shape:kind``, a random array.
RANDOM_ARRAY = re.compile(
    r"(?P<name>[^\W\d]\w*):(?P<shape>(\d+(,\d+)*)?)"
    r"(:(?P<kind>bool|float32|float64|(?P<low>\d+)\.\.(?P<high>\d+)))?"
)
#: ``module:function``, which returns the arguments.
FUNCTION_NAME = re.compile(r"[\w./\\-]+:[A-Za-z_][\w.]*")

#: Words that look like a literal and are none in Python. As strings they would hide a mistake.
NOT_PYTHON = ("true", "false", "none", "null", "nan", "inf")


class OwnPair(NamedTuple):
    """Two functions, and the name of forward as the user wrote it."""

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]


class Arguments(NamedTuple):
    """The arguments of forward in one check."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def find_pair(names: Sequence[str]) -> OwnPair:
    """Return ``module:f module:g``; ``module:f`` is f and f_backward, ``module`` and ``module:forward`` both of it."""
    if len(names) > 2:
        raise UsageError(f"expected the names of forward and backward, got {len(names)}: {' '.join(names)}")
    if len(names) == 1:
        (name,) = names
        module = name.removesuffix(":forward")
        names = (name, f"{name}_backward") if ":" in module else (f"{module}:forward", f"{module}:backward")
    return OwnPair(names[0], *map(find_function, names))


def find_function(name: str) -> Callable[..., Any]:
    """Return the function ``module:function``; the current folder is searched for the module first.

    ``folder/module.py:function`` and ``module:Class.function`` work as well. Raises UsageError.
    """
    where, colon, path = name.partition(":")
    if not colon or not where or not path:
        raise UsageError(f"expected module:function, got {name!r}")
    module = _import(where)
    try:
        function = attrgetter(path)(module)
    except AttributeError:
        raise UsageError(f"{name}: {where} has no {path!r}") from None
    if not callable(function):
        raise UsageError(f"{name}: expected a function, got {type(function).__name__}")
    return function


def _import(where: str) -> Any:
    folder, name = Path.cwd(), where
    if where.endswith(".py"):
        if not Path(where).is_file():
            raise UsageError(f"{where}: no such file")
        folder, name = Path(where).resolve().parent, Path(where).stem
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise                                             # the module exists; one of its own imports is missing
        where = f"{os.path.relpath(folder)}{os.sep}"
        raise UsageError(f"no module {name!r} in {where} or among the installed packages") from error


def find_arguments(texts: Sequence[str], forward: Callable[..., Any] | None, seed: int) -> Iterator[Arguments]:
    """Yield the arguments of forward: one set, or all that the user's generator yields. None takes them in order."""
    rng = np.random.default_rng(seed)
    if len(texts) == 1 and FUNCTION_NAME.fullmatch(texts[0]) and not RANDOM_ARRAY.fullmatch(texts[0]):
        yield from _call_for_arguments(texts[0], forward, rng)
    else:
        yield bind(read_arguments(texts, rng), forward)


def _call_for_arguments(name: str, forward: Callable[..., Any] | None, rng: np.random.Generator) -> Iterator[Arguments]:
    make = find_function(name)
    made = make(rng) if inspect.signature(make).parameters else make()
    several = list(made) if inspect.isgenerator(made) else [made]
    if not several:
        raise UsageError(f"{name}: expected arguments, got none")
    for one in several:
        if isinstance(one, Mapping):
            yield bind(one, forward)
        elif isinstance(one, (tuple, list)):
            yield Arguments(tuple(one), {})
        else:
            got = type(one).__name__
            raise UsageError(f"{name}: expected a tuple of arguments or a dict by name, got {got}")


def read_arguments(texts: Sequence[str], rng: np.random.Generator, option: str = "--args") -> dict[str, Any]:
    """Parse each text by `read_argument` and return the arguments by name. Raises UsageError for a name given twice."""
    named: dict[str, Any] = {}
    for name, value in (read_argument(text, rng, option) for text in texts):
        if name in named:
            raise UsageError(f"{option}: {name} is given twice")
        named[name] = value
    return named


def read_argument(text: str, rng: np.random.Generator, option: str = "--args") -> tuple[str, Any]:
    """Parse ``name:shape``, ``name:shape:kind`` or ``name=value``; return the name and the random array or the value.

    Raises UsageError, which names the option that the text was given to.

    >>> name, X = read_argument("X:3,4", np.random.default_rng(0))
    >>> name, X.shape, X.dtype
    ('X', (3, 4), dtype('float64'))
    >>> read_argument("ids:5:0..2", np.random.default_rng(0))
    ('ids', array([2, 1, 1, 0, 0]))
    >>> read_argument("axis=(0, 1)", np.random.default_rng(0)), read_argument("mode=same", np.random.default_rng(0))
    (('axis', (0, 1)), ('mode', 'same'))
    """
    name, equals, value = text.partition("=")
    if equals and name.isidentifier():
        return name, _parse_value(name, value, option)
    found = RANDOM_ARRAY.fullmatch(text)
    if found is None:
        raise UsageError(f"{option}: expected name:shape as in X:3,4 or name=value as in eps=1e-5, got {text!r}")
    shape = tuple(map(int, found["shape"].split(","))) if found["shape"] else ()
    return found["name"], _draw_array(shape, found, rng, option)


def _draw_array(shape: tuple[int, ...], found: re.Match[str], rng: np.random.Generator, option: str) -> Any:
    if found["kind"] == "bool":
        return rng.random(shape) < 0.7
    if found["low"] is None:
        return np.asarray(rng.standard_normal(shape), found["kind"] or "float64")
    low, high = int(found["low"]), int(found["high"])
    if high < low:
        raise UsageError(f"{option}: expected a range from low to high as in 0..9, got {found[0]!r}")
    return np.asarray(rng.integers(low, high, shape, endpoint=True))


def _parse_value(name: str, text: str, option: str) -> Any:
    """Parse a Python literal; a plain word is a string, because the shell removes quotes."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        if text.isidentifier() and text not in NOT_PYTHON:
            return text
        expected = "expected a Python literal as in 1e-5, True or (0,1)"
        raise UsageError(f"{option}: {name}: {expected}, got {text!r}") from None


def bind(named: Mapping[str, Any], forward: Callable[..., Any] | None) -> Arguments:
    """Pass arguments by position where the signature of forward allows it: only those are differentiated.

    >>> bind({"W": 2, "X": 1}, lambda X, W, mask=None, *, axis=0: None)
    Arguments(args=(1, 2, None), kwargs={'axis': 0})
    """
    if forward is None:
        return Arguments(tuple(named.values()), {})
    signature = inspect.signature(forward)
    try:
        bound = signature.bind(**named)
    except TypeError as error:
        raise UsageError(f"--args: {error}; forward takes {signature}") from None
    bound.apply_defaults()
    return Arguments(bound.args, bound.kwargs)
