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
``"D_V or None"``      the same, and the argument may be missing
``"… < V"``            an array of integers from 0 to V − 1
``"H, an integer"``    a positive integer. An axis ``H·D_Q`` of an array must be a multiple of it
``mask``, ``bias``     these two names alone may broadcast to their axes; a mask is boolean, a bias floating
``dY``                 a name that begins with d: the gradient that backward is given, with the shape of the output
`Interval` …           anything else: a function of the name and the value that raises unless the value is right
=====================  ==============================================================================================

Nothing else broadcasts: a broadcast by mistake is a wrong answer without an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

#: The arguments that may have axes of size 1, or fewer axes, where their declaration has others.
BROADCAST = ("mask", "bias")

Cache = TypeVar("Cache", bound=tuple[Any, ...])


class Sizes(dict[str, int]):
    """The size of every axis by its symbol, and the shape of the batch axes."""

    batch: tuple[int, ...] | None = None                      # None: no array has batch axes

    def shape(self, axes: Sequence[str]) -> tuple[int, ...]:
        """Return the shape that an array with these axes has."""
        return (*(self.batch or () if BATCH in axes else ()), *(self[name] for name in axes if name != BATCH))


class Shapes:
    """The arguments of one pair; the module's docstring describes the declaration.

    >>> from npattn._internal.checks.scalars import Interval
    >>> SHAPES = Shapes(X="… N_X D_X", W_K="D_X D_Q", mask="… N_X", eps=Interval(0, 1))
    >>> SHAPES.check(np.zeros((4, 64)), np.zeros((64, 32)), eps=0.5)
    {'N_X': 4, 'D_X': 64, 'D_Q': 32}
    >>> SHAPES.check(np.zeros((4, 64)), np.zeros((32, 64)))
    Traceback (most recent call last):
    ValueError: W_K: expected (D_X=64, D_Q), got (32, 64)
    >>> print(SHAPES)
    X (…, N_X, D_X), W_K (D_X, D_Q), mask broadcasts to (…, N_X)
    """

    def __init__(self, **declared: str | Callable[[str, Any], object]) -> None:
        self.axes: dict[str, tuple[str, ...]] = {}            # of floating arrays, mask and bias
        self.ids: dict[str, tuple[str, ...]] = {}             # of integer arrays; the last entry is their limit
        self.integers: dict[str, str] = {}                    # the axis that an integer is the size of
        self.scalars: dict[str, Callable[[str, Any], object]] = {}
        self.optional: set[str] = set()
        for name, what in declared.items():
            if not isinstance(what, str):
                self.scalars[name] = what
            elif what.endswith(INTEGER):
                self.integers[name] = what.removesuffix(INTEGER)
            elif BELOW in what:
                self.ids[name] = tuple(what.replace(BELOW, " ").split())
            else:
                self.axes[name] = tuple(what.removesuffix(OPTIONAL).split())
                self.optional |= {name} if what.endswith(OPTIONAL) else set()

    def __str__(self) -> str:
        said = []
        for name, axes in self.axes.items():
            how = " broadcasts to" if name in BROADCAST else ""
            said.append(f"{name}{how} {written(axes)}{OPTIONAL * (name in self.optional)}")
        said += [f"{name} {written(axes)} integers from 0 to {limit} − 1" for name, (*axes, limit) in self.ids.items()]
        return ", ".join(said)

    def check(self, *arrays: Array | None, ignore_id: int | None = None, **named: Any) -> Sizes:
        """Check forward's arguments: the first ones by their order, the others by name. Return the size of every axis.

        Ids equal to `ignore_id` may be any number. Raises TypeError, ValueError or IndexError that names the argument.
        """
        given: dict[str, Any] = dict(zip(self.axes, arrays, strict=False))
        given |= {name: value for name, value in named.items() if name in self.axes and name not in BROADCAST}
        asked = []
        for name, array in given.items():
            if array is not None or name not in self.optional:
                check_floating(name, array)
                asked.append((name, array.shape, array.dtype))
        sizes = _bind(self, tuple(asked))                     # a training step asks the same a thousand times
        if named:
            sizes = self._check_named(named, sizes, asked[0], ignore_id)
        return sizes

    def check_backward(self, dY: Array, cache: Cache, kind: type[Cache]) -> Cache:
        """Return the cache, which must be of this kind; dY must have the shape and the dtype of forward's output."""
        check_cache(cache, kind)
        name, places = _places(self, kind)
        shape: list[int] = []
        for field, start, stop in places:
            shape += getattr(cache, field).shape[start:stop]
        check_cotangent(name, dY, tuple(shape), getattr(cache, places[0][0]).dtype)
        return cache

    def _check_named(self, named: dict[str, Any], sizes: Sizes, first: Asked, ignore_id: int | None) -> Sizes:
        for name, value in named.items():
            if name in self.scalars:
                self.scalars[name](name, value)
            elif name in self.integers:
                sizes = self._with_integer(name, check_size(name, value, least=1), sizes)
            elif name in self.ids:
                *axes, limit = self.ids[name]
                check_ids(name, value, sizes[limit], ignore_id)
                if sizes.batch is not None and value.shape != sizes.shape(axes):
                    raise ValueError(f"{name}: expected {sizes.shape(axes)} like {first[0]}, got {value.shape}")
        for name in BROADCAST:                                # last: their axes may be one of the integers
            if name in self.axes:
                check_broadcast(name, named.get(name), sizes.shape(self.axes[name]), self.axes[name], first)
        return sizes

    def _with_integer(self, name: str, value: int, sizes: Sizes) -> Sizes:
        """Return the sizes with one more; axes that are its multiples must be so."""
        axis = self.integers[name]
        for symbol, axes in self.axes.items():
            for product in axes:
                if product.startswith(f"{axis}·") and sizes.get(product, 0) % value:
                    wanted = f"{product} divisible by {name}={value}"
                    raise ValueError(f"{symbol}: expected {wanted}, got {sizes[product]}")
        more = Sizes({**sizes, axis: value})
        more.batch = sizes.batch
        return more


Asked: TypeAlias = tuple[str, tuple[int, ...], np.dtype[np.generic]]


@lru_cache(maxsize=4096)
def _bind(shapes: Shapes, arrays: tuple[Asked, ...]) -> Sizes:
    """Return the size of every axis, or raise an error that names the first array that does not fit."""
    sizes, batch = Sizes(), None
    for symbol, shape, dtype in arrays:
        if dtype != arrays[0][2]:
            raise TypeError(f"{symbol}: expected {arrays[0][2]} like {arrays[0][0]}, got {dtype}")
        axes = shapes.axes[symbol]
        has_batch = axes[:1] == (BATCH,)
        names = axes[has_batch:]
        known = dict(sizes)
        lead = len(shape) - len(names)
        fits = lead == 0 or (has_batch and lead > 0)
        if fits and has_batch:
            batch = shape[:lead] if batch is None else batch
            fits = shape[:lead] == batch
        if not fits or any(sizes.setdefault(n, s) != s for n, s in zip(names, shape[lead:], strict=True)):
            first = [BATCH] if batch is None else [str(size) for size in batch]
            wanted = [f"{n}={known[n]}" if n in known else n for n in names]
            raise ValueError(f"{symbol}: expected {written(first * has_batch + wanted)}, got {shape}")
    sizes.batch = batch
    return sizes


@lru_cache(maxsize=256)
def _places(shapes: Shapes, kind: type[Any]) -> tuple[str, list[tuple[str, int | None, int | None]]]:
    """Return the name of dY, and where its axes are found in a cache: the field, and a slice of the field's shape."""
    name = next(name for name in shapes.axes if name.startswith("d"))
    places: dict[str, tuple[str, int | None, int | None]] = {}
    for field in shapes.axes:
        if field in kind._fields:
            own = [axis for axis in shapes.axes[field] if axis != BATCH]
            if len(own) < len(shapes.axes[field]):
                places.setdefault(BATCH, (field, None, -len(own) or None))
            for i, axis in enumerate(own):
                places.setdefault(axis, (field, i - len(own), i - len(own) + 1 or None))
    return name, [places[axis] for axis in shapes.axes[name]]


def check_broadcast(
    name: str, value: Array | None, shape: tuple[int, ...], axes: Sequence[str], first: Asked | None = None
) -> None:
    """Raise unless a mask or a bias has the right dtype and broadcasts to this shape."""
    if value is None:
        return
    if name == "mask" and (not is_array(value) or value.dtype != np.bool_):
        raise TypeError(f"mask: expected a boolean array, True where a query may attend, got {kind_of(value)}")
    if first is not None and name == "bias":
        check_floating("bias", value)
        if value.dtype != first[2]:
            raise TypeError(f"bias: expected {first[2]} like {first[0]}, got {value.dtype}")
    lead = len(shape) - value.ndim
    if lead < 0 or any(size not in (1, s) for size, s in zip(value.shape, shape[lead:], strict=True)):
        wanted = f"a shape that broadcasts to the scores {written(axes)} = {shape}"
        raise ValueError(f"{name}: expected {wanted}, got {value.shape}")


def written(axes: Sequence[str]) -> str:
    """Write axes as a shape.

    >>> written(["…", "N_X"]), written(["D_E"])
    ('(…, N_X)', '(D_E,)')
    """
    return "(" + ", ".join(axes) + ("," if len(axes) == 1 else "") + ")"


def document(shapes: Shapes, *functions: Callable[..., Any]) -> None:
    """Add the declared shapes to what `help` says of the functions, so that the source states them once."""
    for function in functions:
        if function.__doc__:                                  # python -OO has none
            function.__doc__ = f"{function.__doc__.rstrip()}\n\n    **Shapes**  {shapes}.\n    "
