"""Declare the arguments of a forward/backward pair once, beside its functions, and check them in one line.

    SHAPES = Shapes(Q="… N_Q D_Q", X="… N_X D_Q", mask="… N_Q N_X", dY="… N_Q D_Q")

    def forward(Q, X, mask=None):
        SHAPES.check(Q, X, mask=mask)

    def backward(dY, cache):
        Q, X, A = SHAPES.check_backward(dY, cache, Cache)

The value of each name says what the argument must be:

=====================  ==============================================================================================
``"… N_Q D_Q"``        a floating array with these axes. The first array with an axis binds its size, and the later
                       ones must agree. ``…`` stands for the batch axes, which must be equal in all arrays
``"D_V or None"``      the same, but the argument may be None
``"… < V"``            an array of integers from 0 to V − 1
``"H, an integer"``    a positive integer, the size of the axis H. An axis ``H·D_Q`` is a multiple of it, and D_Q
                       the quotient
``mask``, ``bias``,    only these names may broadcast to their axes; a mask is boolean, the others floating. An axis
``sinks``              ``P+N_Q`` of theirs is a sum, in which P counts as 0 where no array has it
``dY``                 a name that begins with d: the gradient that backward takes, with the shape of the output
`Interval` …           anything but text: a function of name and value. It raises unless the value is right
=====================  ==============================================================================================

Nothing else broadcasts: an unintended broadcast gives a wrong answer without an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

import numpy as np

from npattn._internal.checks.arrays import (
    check_cache,
    check_cotangent,
    check_floating,
    check_ids,
    is_array,
    kind_of,
)
from npattn._internal.checks.scalars import check_size
from npattn._internal.checks.types import Array

BATCH, OPTIONAL, BELOW, INTEGER = "…", " or None", " < ", ", an integer"

#: The arguments that may have fewer axes than their declaration, and axes of size 1.
BROADCAST = ("mask", "bias", "sinks")

#: The size of every axis by its symbol; the entry … is the shape of the batch axes.
Sizes: TypeAlias = Mapping[str, Any]

#: The name, shape and dtype of an array among the arguments.
Argument: TypeAlias = tuple[str, tuple[int, ...], np.dtype[np.generic]]

Cache = TypeVar("Cache", bound=tuple[Any, ...])


class Shapes:
    """The arguments of one pair; the module's docstring describes the declaration.

    >>> from npattn._internal.checks.scalars import Interval
    >>> SHAPES = Shapes(X="… N_X D_X", W_K="D_X D_Q", mask="… N_X", eps=Interval(0, 1))
    >>> SHAPES.check(np.zeros((4, 64)), np.zeros((64, 32)), eps=0.5)
    {'…': (), 'N_X': 4, 'D_X': 64, 'D_Q': 32}
    >>> SHAPES.check(np.zeros((4, 64)), np.zeros((32, 64)))
    Traceback (most recent call last):
    ValueError: W_K: expected (D_X=64, D_Q), got (32, 64)
    >>> print(SHAPES)
    X (…, N_X, D_X), W_K (D_X, D_Q), mask broadcasts to (…, N_X)
    """

    def __init__(self, **declared: str | Callable[[str, Any], object]) -> None:
        self.axes: dict[str, tuple[str, ...]] = {}            # of floating arrays, mask and bias
        self.ids: dict[str, tuple[str, ...]] = {}             # of integer arrays; the last entry is their limit
        self.integers: dict[str, str] = {}                    # the axis that has this integer as its size
        self.scalars: dict[str, Callable[[str, Any], object]] = {}
        self.optional = {n for n, what in declared.items() if isinstance(what, str) and what.endswith(OPTIONAL)}
        for name, what in declared.items():
            if not isinstance(what, str):
                self.scalars[name] = what
            elif what.endswith(INTEGER):
                self.integers[name] = what.removesuffix(INTEGER)
            elif BELOW in what:
                self.ids[name] = tuple(what.replace(BELOW, " ").split())
            else:
                self.axes[name] = tuple(what.removesuffix(OPTIONAL).split())

    def __str__(self) -> str:
        arrays = [
            f"{name}{' broadcasts to' * (name in BROADCAST)} {written(axes)}{OPTIONAL * (name in self.optional)}"
            for name, axes in self.axes.items()
        ]
        ids = [f"{name} {written(axes)} integers from 0 to {limit} − 1" for name, (*axes, limit) in self.ids.items()]
        return ", ".join(arrays + ids)

    def check(self, *arrays: Array | None, ignore_id: int | None = None, **named: Any) -> Sizes:
        """Check the arguments of forward, and return the size of every axis.

        Floating arrays are positional, in the declared order. Mask, bias, ids, integers and other values come by name.
        Ids equal to `ignore_id` may be any number. Raises TypeError, ValueError or IndexError that names the argument.
        """
        given = []
        for name, array in zip(self.axes, arrays, strict=False):
            if array is not None or name not in self.optional:
                array = check_floating(name, array)
                given.append((name, array.shape, array.dtype))
        counts = tuple(
            (axis, check_size(name, named[name], least=1)) for name, axis in self.integers.items() if name in named
        )
        sizes = _bind(self, tuple(given), counts)             # cached: a training step repeats the same shapes
        return self._check_named(named, sizes, given[0], ignore_id) if named else sizes

    def check_backward(self, dY: Array, cache: Cache, kind: type[Cache]) -> Cache:
        """Return the cache. Raise unless it is of this kind, and dY has the shape and dtype of forward's output."""
        check_cache(cache, kind)
        name, places = _places(self, kind)
        shape: tuple[int, ...] = ()
        for field, axes in places:
            shape += getattr(cache, field).shape[axes]
        check_cotangent(name, dY, shape, getattr(cache, places[0][0]).dtype)
        return cache

    def _check_named(self, named: Mapping[str, Any], sizes: Sizes, first: Argument, ignore_id: int | None) -> Sizes:
        for name, value in named.items():
            if name in self.scalars:
                self.scalars[name](name, value)
            elif name not in BROADCAST and name not in self.integers:
                *axes, limit = self.ids[name]
                check_ids(name, value, sizes[limit], ignore_id)
                if BATCH in sizes and value.shape != _shape(axes, sizes):
                    raise ValueError(f"{name}: expected {_shape(axes, sizes)} like {first[0]}, got {value.shape}")
        for name in BROADCAST:
            if named.get(name) is not None:
                check_broadcast(name, named[name], _shape(self.axes[name], sizes), self.axes[name], first)
        return sizes

    def _with_quotients(self, symbol: str, sizes: Sizes) -> Sizes:
        """Add the size of D_Q where those of H·D_Q and H are known. Raise a ValueError unless H divides H·D_Q."""
        found = dict(sizes)
        for axis in self.axes[symbol]:
            count, _, width = axis.partition("·")
            if width and count in sizes:
                if sizes[axis] % sizes[count]:
                    name = next(name for name, integer in self.integers.items() if integer == count)
                    wanted = f"{axis} divisible by {name}={sizes[count]}"
                    raise ValueError(f"{symbol}: expected {wanted}, got {sizes[axis]}")
                found[width] = sizes[axis] // sizes[count]
        return found


@lru_cache(maxsize=4096)
def _bind(shapes: Shapes, arrays: tuple[Argument, ...], counts: tuple[tuple[str, int], ...]) -> Sizes:
    """Return the size of every axis, or raise an error that names the first array that does not fit.

    `counts` has the axes whose size is an integer among the arguments.
    """
    sizes: Sizes = dict(counts)
    for symbol, shape, dtype in arrays:
        if dtype != arrays[0][2]:
            raise TypeError(f"{symbol}: expected {arrays[0][2]} like {arrays[0][0]}, got {dtype}")
        axes = shapes.axes[symbol]
        factors = {axis: axis.split("·") for axis in axes if "·" in axis and sizes.keys() >= {*axis.split("·")}}
        sizes = {**sizes, **{axis: math.prod(sizes[f] for f in fs) for axis, fs in factors.items()}}
        lead = len(shape) - len(axes) + 1                     # the number of batch axes
        found = (shape[:lead], *shape[lead:]) if BATCH in axes else shape
        bound = {**sizes, **dict(zip(axes, found, strict=False)), **sizes}     # an axis keeps its first size
        if tuple(bound.get(axis) for axis in axes) != found:
            batch = [str(size) for size in sizes.get(BATCH, [BATCH])] if BATCH in axes else []
            own = [f"{axis}={sizes[axis]}" if axis in sizes else axis for axis in axes if axis != BATCH]
            raise ValueError(f"{symbol}: expected {written(batch + own)}, got {shape}")
        sizes = shapes._with_quotients(symbol, bound)
    return sizes


def _shape(axes: Sequence[str], sizes: Sizes) -> tuple[int, ...]:
    """Return the shape that an array with these axes has."""
    batch = sizes[BATCH] if BATCH in axes else ()
    return (*batch, *(sum(sizes.get(term, 0) for term in axis.split("+")) for axis in axes if axis != BATCH))


@lru_cache(maxsize=256)
def _places(shapes: Shapes, kind: type[Any]) -> tuple[str, list[tuple[str, slice]]]:
    """Return the name of dY, and for each of its axes a field of the cache and the slice of the field's shape."""
    name = next(name for name in shapes.axes if name.startswith("d"))
    places: dict[str, tuple[str, slice]] = {}
    for field, axes in shapes.axes.items():
        if field in kind._fields:
            for i, axis in enumerate(axes, -len(axes)):       # from the end: … is any number of axes
                places.setdefault(axis, (field, slice(None if axis == BATCH else i, i + 1 or None)))
    return name, [places[axis] for axis in shapes.axes[name]]


def check_broadcast(
    name: str, value: Array | None, shape: tuple[int, ...], axes: Sequence[str], first: Argument | None = None
) -> None:
    """Raise unless a mask, a bias or sinks are None, or has the right dtype and broadcasts to this shape."""
    if value is None:
        return
    if name == "mask" and (not is_array(value) or value.dtype != np.bool_):
        raise TypeError(f"mask: expected a boolean array, True where a query may attend, got {kind_of(value)}")
    if name != "mask" and first is not None:
        check_floating(name, value)
        if value.dtype != first[2]:
            raise TypeError(f"{name}: expected {first[2]} like {first[0]}, got {value.dtype}")
    lead = len(shape) - value.ndim
    if lead < 0 or any(size not in (1, s) for size, s in zip(value.shape, shape[lead:], strict=True)):
        target = "batch axes" if name == "sinks" else "scores"
        wanted = f"a shape that broadcasts to the {target} {written(axes)} = {shape}"
        raise ValueError(f"{name}: expected {wanted}, got {value.shape}")


def written(axes: Sequence[str]) -> str:
    """Write axes as a shape.

    >>> written(["…", "N_X"]), written(["D_E"])
    ('(…, N_X)', '(D_E,)')
    """
    return f"({', '.join(axes)}{',' * (len(axes) == 1)})"


def document(shapes: Shapes, *functions: Callable[..., Any]) -> None:
    """Add the declared shapes to the docstrings of the functions: `help` shows them, and the source has them once."""
    for function in functions:
        if function.__doc__:                                  # python -OO has none
            function.__doc__ = f"{function.__doc__.rstrip()}\n\n    **Shapes**  {shapes}.\n    "
