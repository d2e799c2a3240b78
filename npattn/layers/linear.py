"""Linear layer: Y = X W + b, the same for every row.

**Forward**

    Y = X W + b          W is stored (in, out)

**Backward**  With L the loss and dZ = ∂L/∂Z: Y_nj = Σ_i X_ni W_ij + b_j, hence

    dX_ni = Σ_j dY_nj W_ij   →  dX = dY Wᵀ
    dW_ij = Σ_n X_ni dY_nj   →  dW = Xᵀ dY      summed over every row of every batch axis
    db_j  = Σ_n dY_nj        →  db = 1ᵀ dY

**Shapes**  X (…, N, D_in), W (D_in, D_out), b (D_out,), Y (…, N, D_out); X may also be a single row (D_in,).

**Raises**  ValueError for shapes that don't fit, TypeError for what is no floating array or dtypes that differ.

**Source**  Any text on back-propagation; Rumelhart, Hinton & Williams, Nature 323 (1986).

>>> import numpy as np
>>> X, W, b = np.array([[1.0, 2.0]]), np.array([[1.0, 0.0, 3.0], [0.0, 1.0, 4.0]]), np.array([0.5, 0.5, 0.5])
>>> Y, cache = linear(X, W, b)
>>> Y
array([[ 1.5,  2.5, 11.5]])
>>> dX, dW, db = linear_backward(np.array([[1.0, 0.0, 2.0]]), cache)
>>> dX                                    # [1·1 + 2·3, 2·4]
array([[7., 8.]])
>>> dW
array([[1., 0., 2.],
       [2., 0., 4.]])
>>> db
array([1., 0., 2.])
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from npattn._shapes import check_cache, check_cotangent, dims
from npattn._types import Array


class Cache(NamedTuple):
    """What `linear_backward` needs."""

    X: Array  # (…, D_in)
    W: Array  # (D_in, D_out)
    has_bias: bool


def linear(X: Array, W: Array, b: Array | None = None) -> tuple[Array, Cache]:
    """Return Y = X W + b and the cache for `linear_backward`."""
    dims(X=(X, "... D_in"), W=(W, "D_in D_out"), b=(b, "D_out or None"))
    return project(X, W, b), Cache(X, W, b is not None)


def linear_backward(dY: Array, cache: Cache) -> tuple[Array, Array, Array | None]:
    """Return dX, dW and db (None when there was no b)."""
    X, W, has_bias = check_cache(cache, Cache)
    check_cotangent("dY", dY, (*X.shape[:-1], W.shape[1]), X.dtype)
    db = sum_rows(dY) if has_bias else None                   # Y = … + b
    dW = weight_gradient(X, dY)                               # Y = X W
    return project(dY, W.T), dW, db                           # Y = X W


def project(X: Array, W: Array, b: Array | None = None) -> Array:
    """X W + b as one matrix product: NumPy would otherwise multiply batch member by batch member."""
    Y = rows(X) @ W                                           # (rows, D_out)
    if b is not None:
        Y += b
    return Y.reshape(*X.shape[:-1], W.shape[1])


def weight_gradient(X: Array, dY: Array) -> Array:
    """dW = Xᵀ dY for Y = X W, summed over every row of every batch axis."""
    return rows(X).T @ rows(dY)


def rows(X: Array) -> Array:
    """(…, D) → (rows, D), also when an axis is empty."""
    return X.reshape(math.prod(X.shape[:-1]), X.shape[-1])


#: Rows that one product with a vector of ones may add up. Adding ones one by one in float32 stops at 2²⁴.
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
    """A read-only vector of ones: every layer of a model sums rows of the same few lengths."""
    vector = np.ones(n, dtype)
    vector.flags.writeable = False
    return vector
