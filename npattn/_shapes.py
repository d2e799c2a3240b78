"""Bind axis sizes to their symbols, or say which array is wrong and how.

Every public function states the shapes of its arguments once, on entry, in the notation of `npattn`::

    sizes = dims(Q=(Q, "... N_Q D_Q"), X=(X, "... N_X D_Q"))

The first array that shows an axis binds its size, the later ones must agree. ``...`` stands for the batch axes, which
must match exactly: nothing but masks and biases is broadcast, because a broadcast that nobody meant is a wrong answer
that nobody notices. An array whose pattern ends on ``or None`` (an optional bias) may be ``None``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeGuard, TypeVar

import numpy as np

from npattn._scalars import check_integer
from npattn._types import Array

BATCH, OPTIONAL = "...", " or None"

Cache = TypeVar("Cache")

#: complex128 is admitted for one purpose: `npattn.check_gradients` differentiates forward code by the complex step.
FLOATING = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.complex128))


@lru_cache(maxsize=512)
def _axes(pattern: str) -> tuple[bool, tuple[str, ...]]:
    names = pattern.removesuffix(OPTIONAL).split()
    has_batch = bool(names) and names[0] == BATCH
    return has_batch, tuple(names[has_batch:])


def dims(**arrays: tuple[Array | None, str]) -> dict[str, int]:
    """Return the size of every named axis; raise when an array is no floating array, or does not fit the others.

    >>> dims(Q=(np.zeros((2, 3)), "N_Q D_Q"), X=(np.zeros((5, 3)), "N_X D_Q"))
    {'N_Q': 2, 'D_Q': 3, 'N_X': 5}
    >>> dims(X=(np.zeros((4, 64)), "N_X D_X"), W_K=(np.zeros((32, 64)), "D_X D_Q"))
    Traceback (most recent call last):
    ValueError: W_K: expected (D_X=64, D_Q), got (32, 64)
    """
    for symbol, (array, pattern) in arrays.items():
        if array is not None or not pattern.endswith(OPTIONAL):
            check_floating(symbol, array)
    # A training step asks the same questions a thousand times over, so their answers are kept.
    asked = ((symbol, pattern, a.shape, a.dtype) for symbol, (a, pattern) in arrays.items() if a is not None)
    return dict(_bind(tuple(asked)))


@lru_cache(maxsize=4096)
def _bind(arrays: tuple[tuple[str, str, tuple[int, ...], np.dtype[np.generic]], ...]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    batch: tuple[int, ...] | None = None
    first, dtype = arrays[0][0], arrays[0][3]
    for symbol, pattern, shape, given in arrays:
        if given != dtype:
            raise TypeError(f"{symbol}: expected {dtype} like {first}, got {given}")
        has_batch, names = _axes(pattern)
        known = dict(sizes)
        lead = len(shape) - len(names)
        fits = lead == 0 or (has_batch and lead > 0)
        if fits and has_batch:
            batch = shape[:lead] if batch is None else batch
            fits = shape[:lead] == batch
        if not fits or any(sizes.setdefault(n, s) != s for n, s in zip(names, shape[lead:], strict=True)):
            raise ValueError(f"{symbol}: expected {_expected(has_batch, names, batch, known)}, got {shape}")
    return sizes


def is_array(value: Any) -> TypeGuard[Array]:
    """Whether `value` is an array that computes as NumPy's do.

    A masked array would be taken with what is under its mask, and a np.matrix has a `*` of its own. One that lies in a
    file, a np.memmap, is like any other.
    """
    return type(value) is np.ndarray or isinstance(value, np.memmap)


def kind_of(value: Any) -> str:
    """The dtype of an array; the type of anything else."""
    return str(value.dtype) if is_array(value) else type(value).__name__


def check_floating(symbol: str, array: Array | None) -> None:
    """Raise a TypeError unless `array` is a NumPy array of float32 or float64."""
    if not is_array(array):
        raise TypeError(f"{symbol}: expected a NumPy array, got {kind_of(array)}")
    if array.dtype not in FLOATING:
        raise TypeError(f"{symbol}: expected float32 or float64, got {array.dtype}")


def check_cache(cache: Cache, kind: type[Cache]) -> Cache:
    """Return the cache; raise a TypeError unless it is of the kind that this very layer's forward returns."""
    if not isinstance(cache, kind):
        wanted, got = (f"{t.__module__}.{t.__name__}".removeprefix("builtins.") for t in (kind, type(cache)))
        raise TypeError(f"cache: expected what forward returned, a {wanted}, got {got}")
    return cache


def check_cotangent(symbol: str, given: Array, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    """Raise unless the gradient handed to a backward has shape and dtype of what forward returned."""
    if not is_array(given) or given.dtype != dtype:
        raise TypeError(f"{symbol}: expected an array of {dtype} like the output, got {kind_of(given)}")
    if given.shape != shape:
        raise ValueError(f"{symbol}: expected {shape} like the output, got {given.shape}")


def check_mask(mask: Array | None, scores: tuple[int, ...], axes: str = "(…, N_Q, N_X)") -> None:
    """Raise unless `mask` is boolean (True = may attend) and broadcasts to the shape of the scores, with such axes."""
    if mask is None:
        return
    if not is_array(mask) or mask.dtype != np.bool_:
        raise TypeError(f"mask: expected a boolean array, True where a query may attend, got {kind_of(mask)}")
    lead = len(scores) - mask.ndim
    if lead < 0 or any(m not in (1, s) for m, s in zip(mask.shape, scores[lead:], strict=True)):
        raise ValueError(f"mask: expected a shape that broadcasts to the scores {axes} = {scores}, got {mask.shape}")


def check_ids(symbol: str, ids: Array, size: int, ignore_id: int | None = None) -> None:
    """Raise unless `ids` is an array of integers from 0 to `size` − 1; those equal to `ignore_id` may be any number."""
    check_integers(symbol, ids)
    if ignore_id is not None:
        ids = ids[ids != check_integer("ignore_id", ignore_id)]
    if ids.size and (ids.min() < 0 or ids.max() >= size):
        worst = ids.min() if ids.min() < 0 else ids.max()
        raise IndexError(f"{symbol}: expected ids from 0 to {size - 1}, got {worst}")


def check_integers(symbol: str, array: Array) -> None:
    """Raise a TypeError unless `array` is a NumPy array of integers."""
    if not is_array(array) or not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{symbol}: expected an integer array, got {kind_of(array)}")


def _expected(
    has_batch: bool, names: tuple[str, ...], batch: tuple[int, ...] | None, known: dict[str, int]
) -> str:
    """Write the shape that was wanted, with the sizes that earlier arrays have bound: (D_X=64, D_Q)."""
    lead = ["…"] if batch is None else [str(size) for size in batch]
    axes = (lead if has_batch else []) + [f"{n}={known[n]}" if n in known else n for n in names]
    return "(" + ", ".join(axes) + ("," if len(axes) == 1 else "") + ")"
