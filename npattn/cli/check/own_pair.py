"""A pair of the user's own for `npattn check`: its functions by name, and arguments to check it at.

Arguments are written ``X:3,4`` (drawn) or ``eps=1e-5`` (given), or made by a function of the user's. Either way they
are put where the signature of forward has them.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from npattn.cli.terminal import UsageError

DRAWN = re.compile(
    r"(?P<name>[^\W\d]\w*):(?P<shape>(\d+(,\d+)*)?)"
    r"(:(?P<kind>bool|float32|float64|(?P<low>\d+)\.\.(?P<high>\d+)))?"
)
MADE = re.compile(r"[\w./\\-]+:[A-Za-z_][\w.]*")
NOT_PYTHON = ("true", "false", "none", "null", "nan", "inf", "True", "False", "None")


class OwnPair(NamedTuple):
    """Two functions, under the name that the user gave."""

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]


class Arguments(NamedTuple):
    """What one check calls forward with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def find_pair(names: Sequence[str]) -> OwnPair:
    """Return ``module:forward module:backward``; ``module:f`` is f and f_backward, ``module`` forward and backward."""
    if len(names) > 2:
        raise UsageError(f"expected the names of forward and backward, got {len(names)}: {' '.join(names)}")
    forward, backward = (names[0], names[-1])
    if len(names) == 1:
        is_module = ":" not in forward
        backward = f"{forward}:backward" if is_module else f"{forward}_backward"
        forward = f"{forward}:forward" if is_module else forward
    return OwnPair(forward, find_function(forward), find_function(backward))


def find_function(name: str) -> Callable[..., Any]:
    """Return the function ``module:function``; the module is looked for in the current folder first.

    ``folder/module.py:function`` works as well, and so does ``module:Class.function``. Raises UsageError.
    """
    where, colon, path = name.partition(":")
    if not colon or not where or not path:
        raise UsageError(f"expected module:function, got {name!r}")
    thing: Any = _module(where)
    for part in path.split("."):
        if not hasattr(thing, part):
            raise UsageError(f"{name}: {where} has no {path!r}")
        thing = getattr(thing, part)
    if not callable(thing):
        raise UsageError(f"{name}: expected a function, got {type(thing).__name__}")
    return thing


def _module(where: str) -> Any:
    folder, name = Path.cwd(), where
    if where.endswith(".py"):
        folder, name = Path(where).resolve().parent, Path(where).stem
        if not Path(where).is_file():
            raise UsageError(f"{where}: no such file")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and misses another one
        raise UsageError(f"no module {name!r} in {os.path.relpath(folder)}{os.sep} or among the installed") from error


def find_arguments(texts: Sequence[str], forward: Callable[..., Any], seed: int) -> Iterator[Arguments]:
    """Yield what to call forward with: once, or as often as the user's generator yields."""
    rng = np.random.default_rng(seed)
    if len(texts) == 1 and MADE.fullmatch(texts[0]) and not DRAWN.fullmatch(texts[0]):
        yield from _made(texts[0], forward, rng)
    else:
        pairs = [read_argument(text, rng) for text in texts]
        twice = [name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i])]
        if twice:
            raise UsageError(f"--args: {twice[0]} is given twice")
        yield bind(dict(pairs), forward)


def _made(name: str, forward: Callable[..., Any], rng: np.random.Generator) -> Iterator[Arguments]:
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
            kind = type(one).__name__
            raise UsageError(f"{name}: expected a tuple of arguments or a dict by name, got {kind}")


def read_argument(text: str, rng: np.random.Generator) -> tuple[str, Any]:
    """Read ``name:shape``, ``name:shape:kind`` or ``name=value``, and draw the array that is asked for.

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
        return name, _value(name, value)
    found = DRAWN.fullmatch(text)
    if found is None:
        raise UsageError(f"--args: expected name:shape as in X:3,4 or name=value as in eps=1e-5, got {text!r}")
    shape = tuple(map(int, found["shape"].split(","))) if found["shape"] else ()
    return found["name"], _draw(text, shape, found, rng)


def _draw(text: str, shape: tuple[int, ...], found: re.Match[str], rng: np.random.Generator) -> Any:
    if found["kind"] == "bool":
        return rng.random(shape) < 0.7
    if found["low"] is None:
        return np.asarray(rng.standard_normal(shape), found["kind"] or "float64")
    low, high = int(found["low"]), int(found["high"])
    if high < low:
        raise UsageError(f"--args: expected a range from low to high as in 0..9, got {text!r}")
    return np.asarray(rng.integers(low, high, shape, endpoint=True))


def _value(name: str, text: str) -> Any:
    """Read a Python literal; a plain word is a string, as the shell takes quotes away."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        if text.isidentifier() and text not in NOT_PYTHON:
            return text
        raise UsageError(f"--args: {name}: expected a Python literal as in 1e-5, True or (0,1), got {text!r}") from None


def bind(named: Mapping[str, Any], forward: Callable[..., Any]) -> Arguments:
    """Put arguments where the signature of forward has them; only positional ones are differentiated.

    >>> bind({"W": 2, "X": 1}, lambda X, W, mask=None, *, axis=0: None)
    Arguments(args=(1, 2, None), kwargs={'axis': 0})
    """
    signature = inspect.signature(forward)
    try:
        bound = signature.bind(**named)
    except TypeError as error:
        raise UsageError(f"--args: {error}; forward takes {signature}") from None
    bound.apply_defaults()
    return Arguments(bound.args, bound.kwargs)
