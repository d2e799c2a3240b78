"""Checks of single arrays, of caches, and of the gradients that a backward takes."""

from __future__ import annotations

from typing import Any, TypeGuard, TypeVar

import numpy as np

from npattn._internal.checks.scalars import check_integer
from npattn._internal.checks.types import Array

Cache = TypeVar("Cache")

#: complex128 has one purpose: `npattn.check_gradients` differentiates forward code by the complex step.
FLOATING = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.complex128))


def is_array(value: Any) -> TypeGuard[Array]:
    """Return whether `value` is a plain NumPy array, in memory or in a file (np.memmap).

    Other subclasses compute differently: the numbers under the mask of a masked array would count, and `*` of a
    np.matrix is a matrix product.
    """
    return type(value) is np.ndarray or isinstance(value, np.memmap)


def kind_of(value: Any) -> str:
    """Return the dtype of an array, or the type of anything else, as text."""
    return str(value.dtype) if is_array(value) else type(value).__name__


def check_floating(symbol: str, array: Array | None) -> Array:
    """Return the array. Raise a TypeError unless it is a floating NumPy array."""
    if not is_array(array):
        raise TypeError(f"{symbol}: expected a NumPy array, got {kind_of(array)}")
    if array.dtype not in FLOATING:
        raise TypeError(f"{symbol}: expected float32 or float64, got {array.dtype}")
    return array


def check_cache(cache: Cache, kind: type[Cache]) -> Cache:
    """Return the cache. Raise a TypeError unless it has the type that the forward of this layer returns."""
    if not isinstance(cache, kind):
        wanted, got = (f"{t.__module__}.{t.__name__}".removeprefix("builtins.") for t in (kind, type(cache)))
        raise TypeError(f"cache: expected what forward returned, a {wanted}, got {got}")
    return cache


def check_ids(symbol: str, ids: Array, size: int, ignore_id: int | None = None) -> None:
    """Raise unless `ids` is an array of integers from 0 to `size` − 1. Entries equal to `ignore_id` are not checked."""
    check_integers(symbol, ids)
    if ignore_id is not None:
        ids = ids[ids != check_integer("ignore_id", ignore_id)]
    if ids.size and (ids.min() < 0 or ids.max() >= size):
        worst = ids.min() if ids.min() < 0 else ids.max()
        wanted = f"ids from 0 to {size - 1}" if size else "no ids of an empty table"
        raise IndexError(f"{symbol}: expected {wanted}, got {worst}")


def check_integers(symbol: str, array: Array) -> None:
    """Raise a TypeError unless `array` is a NumPy array of integers."""
    if not is_array(array) or array.dtype.kind not in "iu":   # to np.issubdtype a timedelta is an integer too
        raise TypeError(f"{symbol}: expected an integer array, got {kind_of(array)}")


def check_cotangent(symbol: str, given: Array, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    """Raise unless the gradient `given` to a backward has the shape and the dtype of forward's output."""
    if not is_array(given) or given.dtype != dtype:
        raise TypeError(f"{symbol}: expected an array of {dtype} like the output, got {kind_of(given)}")
    if given.shape != shape:
        raise ValueError(f"{symbol}: expected {shape} like the output, got {given.shape}")


def check_gradient_of(symbol: str, array: Array, gradient_symbol: str, gradient: Array) -> None:
    """Raise unless `array` is a floating array and its gradient has the same shape and dtype."""
    check_floating(symbol, array)
    check_cotangent(gradient_symbol, gradient, array.shape, array.dtype)
