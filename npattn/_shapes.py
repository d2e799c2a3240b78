"""Bind axis sizes to their symbols, or say which array is wrong and how.

Every public function states the shapes of its arguments once, on entry, in the notation of `npattn`::

    sizes = dims(Q=(Q, "... N_Q D_Q"), X=(X, "... N_X D_Q"))

The first array that shows an axis binds its size, the later ones must agree. ``...`` stands for the batch axes, which
must match exactly: nothing but masks and biases is broadcast, because a broadcast that nobody meant is a wrong answer
that nobody notices. An array that is ``None`` (an optional bias) is passed over.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from npattn._types import Array

BATCH = "..."

#: complex128 is admitted for one purpose: `npattn.check_gradients` differentiates forward code by the complex step.
FLOATING = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.complex128))


@lru_cache(maxsize=512)
def _axes(pattern: str) -> tuple[bool, tuple[str, ...]]:
    names = pattern.split()
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
    for symbol, (array, _) in arrays.items():
        if array is not None:
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


def check_floating(symbol: str, array: Array) -> None:
    """Raise a TypeError unless `array` is a NumPy array of float32 or float64."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{symbol}: expected a NumPy array, got {type(array).__name__}")
    if array.dtype not in FLOATING:
        raise TypeError(f"{symbol}: expected float32 or float64, got {array.dtype}")


def check_size(symbol: str, size: int, least: int = 0) -> None:
    """Raise unless `size` is an integer, Python's or NumPy's, of `least` or more."""
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise TypeError(f"{symbol}: expected an integer, got {size!r}")
    if size < least:
        raise ValueError(f"{symbol}: expected {least} or more, got {size}")


def check_cotangent(symbol: str, given: Array, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    """Raise unless the gradient handed to a backward has shape and dtype of what forward returned."""
    if not isinstance(given, np.ndarray) or given.dtype != dtype:
        kind = given.dtype if isinstance(given, np.ndarray) else type(given).__name__
        raise TypeError(f"{symbol}: expected an array of {dtype} like the output, got {kind}")
    if given.shape != shape:
        raise ValueError(f"{symbol}: expected {shape} like the output, got {given.shape}")


def check_mask(mask: Array | None, scores: tuple[int, ...]) -> None:
    """Raise unless `mask` is boolean (True = may attend) and broadcasts to the shape of the scores."""
    if mask is None:
        return
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        kind = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
        raise TypeError(f"mask: expected a boolean array, True where a query may attend, got {kind}")
    lead = len(scores) - mask.ndim
    if lead < 0 or any(m not in (1, s) for m, s in zip(mask.shape, scores[lead:], strict=True)):
        axes = "(…, N_Q, N_X)" if len(scores) > 1 else "(N_X,)"
        raise ValueError(f"mask: expected a shape that broadcasts to the scores {axes} = {scores}, got {mask.shape}")


def check_ids(symbol: str, ids: Array, size: int, ignore_id: int | None = None) -> None:
    """Raise unless `ids` is an array of integers from 0 to `size` − 1; those equal to `ignore_id` may be any number."""
    if not isinstance(ids, np.ndarray) or not np.issubdtype(ids.dtype, np.integer):
        kind = ids.dtype if isinstance(ids, np.ndarray) else type(ids).__name__
        raise TypeError(f"{symbol}: expected an integer array, got {kind}")
    if ignore_id is not None:
        ids = ids[ids != ignore_id]
    if ids.size and (ids.min() < 0 or ids.max() >= size):
        worst = ids.min() if ids.min() < 0 else ids.max()
        raise IndexError(f"{symbol}: expected ids from 0 to {size - 1}, got {worst}")


def _expected(
    has_batch: bool, names: tuple[str, ...], batch: tuple[int, ...] | None, known: dict[str, int]
) -> str:
    """Write the shape that was wanted, with the sizes that earlier arrays have bound: (D_X=64, D_Q)."""
    lead = ["…"] if batch is None else [str(size) for size in batch]
    axes = (lead if has_batch else []) + [f"{n}={known[n]}" if n in known else n for n in names]
    return "(" + ", ".join(axes) + ("," if len(axes) == 1 else "") + ")"
