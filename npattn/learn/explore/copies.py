"""Copies of the package's modules, in which functions take arrays of symbols.

The code of every function is the package's own. In a copy it finds other things under some names: checks of arguments
let symbols pass, NumPy's functions make arrays of symbols, and a few functions have a `READINGS` that is shorter than
their code, which guards against overflow or sums long series.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from npattn._internal.checks import Array, Shapes
from npattn.learn.explore.symbols import TOP, Number, Symbols, made, value_of


def symbolic(array: Any) -> Any:
    """Return an array of objects as one of symbols, and anything else as it is."""
    return array.view(Symbols) if isinstance(array, np.ndarray) and array.dtype == object else array


def entrywise(sign: str, X: Array) -> Any:
    """Return sign(x) for every entry."""
    return symbolic(np.frompyfunc(lambda x: made(sign, x), 1, 1)(np.asarray(X)))


def width_root(Q: Array) -> Number:
    return Number("√", (max(Q.shape[-1], 1),))


def top_of_rows(E: Array) -> Any:
    """Return the maximum of each row. Subtracted, it vanishes, unless exp would overflow or it has a name."""
    rows = np.asarray(E).reshape(-1, E.shape[-1]) if E.size else np.zeros((0, 0))
    tops = [0 if largest(row) == -np.inf else Number(TOP, [*row]) for row in rows]
    return symbolic(np.array([*tops, None], object)[:-1].reshape(*E.shape[:-1], 1))


def largest(row: Array) -> float:
    return max(map(value_of, row))


#: Functions by name, and what stands for them.
READINGS: dict[str, Callable[..., Any]] = {
    "check_cotangent": lambda *args: None,
    "check_gradient_of": lambda *args: None,
    "scalar": lambda symbol, value: value,
    "sqrt_width": width_root,
    "row_maximum": top_of_rows,
    "drop_negligible": lambda *args: None,
    "softmax_backward": lambda dA, A: A * (dA - np.vecdot(symbolic(A), symbolic(dA))[..., None]),
    "sigmoid": lambda X: entrywise("σ", X),
    "cumulative": lambda X, approximate: entrywise("Φ" if approximate == "none" else "Φ̃", X),
}


class Unchecked:
    """Stands for the declaration of shapes: it checks the shapes of symbols, and returns a cache as it is."""

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes

    def check(self, *args: Any, **named: Any) -> Any:
        return self.shapes.check(*map(blank, args), **{name: blank(value) for name, value in named.items()})

    def check_backward(self, dY: Any, cache: Any, kind: Any) -> Any:
        return cache


def blank(array: Any) -> Any:
    """Return floating zeros in the shape of an array of symbols."""
    return np.zeros(array.shape) if isinstance(array, np.ndarray) and array.dtype == object else array


def numpy_copy() -> ModuleType:
    """Return NumPy with functions that make arrays of symbols of those of objects."""
    copy = ModuleType("numpy")
    vars(copy).update(vars(np))
    for name in ("zeros", "empty", "stack", "concatenate", "zeros_like", "empty_like", "broadcast_to", "moveaxis"):
        setattr(copy, name, of_symbols(getattr(np, name)))
    vars(copy)["where"] = of_symbols(lambda seen, *args: np.where(np.asarray(seen).astype(bool), *args))
    return copy


def of_symbols(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: symbolic(function(*args, **kwargs))


def copy_of(function: FunctionType) -> FunctionType:
    """Return a function with the same code that finds copies under the names of its module. There is one of each."""
    module = sys.modules[function.__module__]
    space, own = vars(copied_module(module)), vars(module)
    if function.__globals__ is not own:                       # a switch has changed what it finds
        space = space | {name: copied(each) for name, each in function.__globals__.items() if each is not own.get(name)}
    return COPIES.setdefault(function, finding(function, space))    # the module's copy may have made it


def finding(function: Any, space: dict[str, Any]) -> FunctionType:
    """Return a function with the same code that finds these things under the names of its module."""
    found = FunctionType(function.__code__, space, function.__name__, function.__defaults__, function.__closure__)
    found.__kwdefaults__, found.__qualname__ = function.__kwdefaults__, function.__qualname__
    found.__module__ = function.__module__
    return found


def read(function: FunctionType) -> Callable[..., Any]:
    """Return what stands for a function where it gets symbols, and the function where it gets numbers."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        has_symbols = any(isinstance(arg, Number) or getattr(arg, "dtype", np.dtype(float)).kind == "O" for arg in args)
        return (READINGS[function.__name__] if has_symbols else function)(*args, **kwargs)

    return call


MODULES: dict[str, ModuleType] = {}
COPIES: dict[FunctionType, FunctionType] = {}


def copied_module(module: ModuleType) -> ModuleType:
    """Return the copy of a module; there is one of each."""
    if module.__name__ not in MODULES:
        MODULES[module.__name__] = copy = ModuleType(module.__name__)
        vars(copy).update((name, copied(value)) for name, value in list(vars(module).items()))
    return MODULES[module.__name__]


def copied(value: Any) -> Any:
    """Return what stands for a value in a copy."""
    if value is np:
        return copied_numpy()
    if isinstance(value, Shapes):
        return Unchecked(value)
    if type(value) is dict or type(value) is tuple:
        parts = value.values() if isinstance(value, dict) else value
        if not any(callable(part) or isinstance(part, tuple) for part in parts):
            return value
        return {k: copied(v) for k, v in value.items()} if isinstance(value, dict) else tuple(map(copied, value))
    if isinstance(value, ModuleType):
        return copied_module(value) if is_computing(value.__name__) else value
    function = inspect.unwrap(value) if callable(value) else value
    if isinstance(function, FunctionType) and (is_computing(function.__module__) or function.__name__ in READINGS):
        return read(function) if function.__name__ in READINGS else copy_of(function)
    return value


@functools.cache
def copied_numpy() -> ModuleType:
    return numpy_copy()


def is_computing(name: str) -> bool:
    """Whether a module has mathematics: the versions, the layers, and the Transformer's reference with its parts."""
    parts = ("npattn.transformer.reference", "npattn.transformer.relative_bias", "npattn.transformer.variants")
    return name.startswith(("npattn.attention", "npattn.layers", *parts))
