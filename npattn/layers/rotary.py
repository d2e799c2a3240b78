"""Rotary positions: each row is turned by angles that grow with its position.

**Forward**  The first R of the D columns form R/2 pairs (a, b). In the row at position m, pair i turns by m θ_i, and is
multiplied by the factor f:

    a' = f (a cos mθ_i − b sin mθ_i)
    b' = f (b cos mθ_i + a sin mθ_i)          the other D − R columns stay as they are

As a matrix, Y_m = f R_m X_m, with R_mᵀ R_n = R_{n−m}. So the dot product of a query at m and a key at n,
f² Q_mᵀ R_{n−m} K_n, depends on the distance n − m alone. θ and f come from `rotary_frequencies`.

**Backward**  A rotation is undone by its transpose, which turns back:

    dX_m = f R_mᵀ dY_m:    da = f (da' cos mθ_i + db' sin mθ_i),  db = f (db' cos mθ_i − da' sin mθ_i)

a reaches a' and b', and so does b: their gradients add (foundations F4).

**Conventions**  `pairing="neighbours"`, as in the paper: pair i is columns 2i and 2i + 1 (GPT-J, Llama's own code).
`pairing="halves"`: columns i and i + R/2 (GPT-NeoX, Hugging Face, which reorders the columns of Llama's W_Q and W_K for
it). Both give the same scores when the columns of queries and keys are reordered alike; mixed up, they give wrong ones.

**Raises**  ValueError for shapes that don't fit and for more than D/2 frequencies, TypeError for positions that are no
integers, for frequencies that `rotary_frequencies` did not make, and for anything but a floating array.

**Source**  Su et al., "RoFormer" (2021), arXiv:2104.09864, §3.2.2 and equation 34.

By hand: with θ = [π/2] one position is a quarter turn, so the row at position 1 turns from [3, 4] to [−4, 3].

>>> import numpy as np
>>> quarter = RotaryFrequencies(np.array([np.pi / 2]))
>>> Y, cache = rotary(np.array([[3.0, 4.0, 7.0], [3.0, 4.0, 7.0]]), quarter)
>>> Y.round(12)                                            # D = 3, R = 2: the third column stays
array([[ 3.,  4.,  7.],
       [-4.,  3.,  7.]])
>>> rotary_backward(Y, cache).round(12)                    # turned back
array([[3., 4., 7.],
       [3., 4., 7.]])
>>> rotary(np.array([[3.0, 4.0, 7.0]]), quarter, positions=np.array([2]))[0].round(12)
array([[-3., -4.,  7.]])
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import (
    Array,
    Shapes,
    check_cache,
    check_choice,
    check_cotangent,
    check_integers,
    document,
    is_array,
    shown,
)
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.rotary_frequencies import RotaryFrequencies

check_pairing = partial(check_choice, choices=("neighbours", "halves"))


def check_frequencies(symbol: str, value: Any) -> None:
    """Raise a TypeError unless the value is what `rotary_frequencies` makes."""
    fits = isinstance(value, RotaryFrequencies) and is_array(value.theta) and isinstance(value.factor, float | int)
    if not fits or value.theta.ndim != 1 or not np.issubdtype(value.theta.dtype, np.inexact):
        raise TypeError(f"{symbol}: expected what rotary_frequencies returns, got {shown(value)}")


def check_positions(symbol: str, value: Array | None) -> None:
    """Raise a TypeError unless the value is an array of integers or None."""
    if value is not None:
        check_integers(symbol, value)


SHAPES = Shapes(
    X="… N D", frequencies=check_frequencies, positions=check_positions, pairing=check_pairing, dY="… N D"
)


class Rotation(NamedTuple):
    """How far each row turns, and which columns are a pair."""

    cos: Array  # (…, N, R/2)  f cos mθ
    sin: Array  # (…, N, R/2)  f sin mθ
    pairing: str


class Cache(NamedTuple):
    """What `rotary_backward` needs."""

    rotation: Rotation
    shape: tuple[int, ...]


def rotary(
    X: Array, frequencies: RotaryFrequencies, positions: Array | None = None, *, pairing: str = "neighbours"
) -> tuple[Array, Cache]:
    """Return X with turned columns, and the cache for `rotary_backward`.

    - X: rows, one at each position.
    - frequencies: θ (R/2,) and f, from `rotary_frequencies`.
    - positions: integers that broadcast to (…, N); None for 0 … N − 1.
    - pairing: "neighbours" or "halves".
    """
    SHAPES.check(X, frequencies=frequencies, positions=positions, pairing=pairing)
    rotation = rotation_of(X, frequencies, positions, pairing)
    return rotate(X, rotation), Cache(rotation, X.shape)


def rotary_backward(dY: Array, cache: Cache) -> Array:
    """Return dX.

    - dY: the gradient of the loss with respect to Y.
    - cache: what `rotary` returned beside Y.
    """
    check_cotangent("dY", dY, check_cache(cache, Cache).shape, cache.rotation.cos.dtype)
    return rotate_back(dY, cache.rotation)                    # Y_m = f R_m X_m


def rotation_of(
    X: Array, frequencies: RotaryFrequencies, positions: Array | None, pairing: str, start: int = 0
) -> Rotation:
    """Return the rotation of the rows of X (…, N, D), at `positions` or at start … start + N − 1; angles in float64."""
    theta, f = frequencies
    if 2 * len(theta) > X.shape[-1]:
        raise ValueError(f"frequencies: expected at most D/2={X.shape[-1] // 2} of them, got {len(theta)}")
    m = start + np.arange(X.shape[-2]) if positions is None else broadcasting(positions, X.shape[:-1])
    angles = m[..., None] * theta.real                        # (…, N, R/2)
    dtype = X.real.dtype
    return Rotation((f * np.cos(angles)).astype(dtype), (f * np.sin(angles)).astype(dtype), pairing)


def broadcasting(positions: Array, rows: tuple[int, ...]) -> Array:
    """Return the positions. Raise a ValueError unless they broadcast to the shape of the rows, (…, N)."""
    lead = len(rows) - positions.ndim
    if lead < 0 or any(size not in (1, n) for size, n in zip(positions.shape, rows[lead:], strict=True)):
        raise ValueError(f"positions: expected a shape that broadcasts to (…, N) = {rows}, got {positions.shape}")
    return positions


def rotate(X: Array, rotation: Rotation) -> Array:
    """Return f R_m X_m for every row.

    Neighbours lie in memory as the complex number a + ib. Its product with f exp(i mθ) is the same sum of products, in
    an eighth of the time. Complex numbers of a complex step have no such view.
    """
    cos, sin, pairing = rotation
    R = 2 * cos.shape[-1]
    half = pairing == "halves"
    Y = X.copy()
    if not half and X.dtype.kind == "f":
        pairs = Y[..., :R].view(np.result_type(X.dtype, np.complex64))
        pairs *= cos + 1j * sin
        return Y
    first, second = (slice(0, R // 2), slice(R // 2, R)) if half else (slice(0, R, 2), slice(1, R, 2))
    a, b = X[..., first], X[..., second]
    Y[..., first] = a * cos - b * sin
    Y[..., second] = b * cos + a * sin
    return Y


def rotate_back(dY: Array, rotation: Rotation) -> Array:
    """Return f R_mᵀ dY_m for every row: the same with −mθ."""
    return rotate(dY, rotation._replace(sin=-rotation.sin))


document(SHAPES, rotary, rotary_backward)
rotary, rotary_backward = ignore_underflow(rotary), ignore_underflow(rotary_backward)
