"""The bare products and sums that layers, attention and the Transformer share: no checks, no cache, no backward.

A forward made of them reads `project(X, W, b)` for X W + b; its backward reads `weight_gradient(X, dY)` for Xᵀ dY and
`sum_rows(dY)` for the gradient of b. `npattn.layers.linear` derives these gradients.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from npattn._internal.checks import Array


def project(X: Array, W: Array, b: Array | None = None) -> Array:
    """X W + b as one matrix product; with batch axes NumPy would take one product for each member of the batch."""
    Y = rows(X) @ W                                           # (rows, D_out)
    if b is not None:
        Y += b
    return Y if X.ndim == 2 else Y.reshape(*X.shape[:-1], W.shape[1])


def weight_gradient(X: Array, dY: Array, out: Array | None = None) -> Array:
    """dW = Xᵀ dY for Y = X W, summed over every row of every batch axis; `out` is the array to write it to."""
    return np.matmul(rows(X).T, rows(dY), out=out)


def sqrt_width(Q: Array) -> float:
    """√D for rows of width D; 1 for empty rows. A Python float: np.sqrt would make float64 of float32."""
    return math.sqrt(max(Q.shape[-1], 1))


def rows(X: Array) -> Array:
    """(…, D) → (rows, D), also when an axis is empty."""
    # A training step calls it 140 times on two axes: 40 µs of 8 ms, if each reshaped.
    return X if X.ndim == 2 else X.reshape(math.prod(X.shape[:-1]), X.shape[-1])


#: Rows that one product with a vector of ones may add up: a float32 sum of ones, added one by one, stops at 2²⁴.
CHUNK = 4096


def sum_rows(dY: Array) -> Array:
    """1ᵀ dY over all rows, in chunks whose sums are added in turn, so that float32 keeps its precision."""
    flat = rows(dY)                                           # (rows, D)
    n, D = flat.shape
    if n <= CHUNK:
        return ones(n, flat.dtype) @ flat
    whole = n // CHUNK * CHUNK
    chunks = ones(CHUNK, flat.dtype) @ flat[:whole].reshape(n // CHUNK, CHUNK, D)   # (chunks, D)
    return sum_rows(chunks) + sum_rows(flat[whole:])


@lru_cache(maxsize=64)
def ones(n: int, dtype: np.dtype[np.generic]) -> Array:
    """A read-only vector of ones, kept because the layers of a model sum rows of the same few lengths."""
    vector = np.ones(n, dtype)
    vector.flags.writeable = False
    return vector


def row_maximum(E: Array) -> Array:
    """The greatest real part of each row, (…, 1); 0 for a row of −∞ or of no entries, since it is subtracted."""
    top = greatest(E.real)
    top[top == -np.inf] = 0
    return top


def greatest(X: Array) -> Array:
    """The greatest number of each row of real numbers, (…, 1); −∞ for a row without numbers.

    Without `initial`, NumPy takes up to 2.8 times as long (rows of 32 to 512).
    """
    top: Array = X.max(-1, keepdims=True, initial=-np.inf)
    return top


#: −log √(smallest normal number): a product of two numbers above this root is a normal number.
REACH = {np.dtype(dtype): -math.log(np.finfo(dtype).tiny) / 2 for dtype in (np.float32, np.float64)}


def drop_negligible(E: Array, low: float, top: Array | float = 0.0, unit: float = 1.0) -> None:
    """Set scores to −∞ whose weight, exp((E − top)/unit), is below √(smallest normal number).

    `top` is a number or (…, 1).

    Such a weight can't change an output. But on many processors numbers below the smallest normal one take up to 100
    times as long, and products of small weights are such numbers. `low` is at most the least score: it tells at once
    that there is nothing to do.
    """
    reach = REACH[E.real.dtype] * unit
    highest = top if isinstance(top, float) else top.max(initial=-np.inf)
    if not low >= highest - reach:                            # NaN too
        np.copyto(E, -np.inf, where=E.real < top - reach)


def row_sum(A: Array) -> Array:
    """Σ over the last axis, (…, 1): for short rows a product with ones is three times as fast as `.sum(-1)`."""
    return A @ ones(A.shape[-1], A.dtype)[:, None]
