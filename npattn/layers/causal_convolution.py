"""Depthwise causal convolution: each number becomes a weighted sum of itself and those just before it in its column.

**Forward**  W has one row for each of the C taps. x_m is row m of X, and rows before the first are those of X_past:

    y_n = Σ_j w_j ⊙ x_{n−C+1+j}        j = 0 … C−1, so the last tap is now

Every column is convolved by itself (depthwise), and no row sees what follows it (causal). The cache holds the last C−1
rows, X_last: handed in as X_past they let the next call begin where this one ended.

**Backward**  x_m reaches y_n with the weight w_j for n = m + C−1−j, and w_j serves every row (foundations F6):

    dw_j = Σ_n dy_n ⊙ x_{n−C+1+j}
    dx_m = Σ_j w_j ⊙ dy_{m+C−1−j}      as far as there are such rows

The rows of X_past have gradients of the same form, and X_last is an output too, where a later piece reads it.

**Conventions**  The last row of W multiplies the present: W is torch's Conv1d weight (D, 1, C), transposed to (C, D).
A convolution of signal processing counts the taps the other way round. There is no bias and no activation: Mamba 2 and
Qwen3-Next have silu after it, Mamba 2 also a bias.

**Raises**  ValueError for shapes that don't fit, TypeError for anything but floating arrays of one dtype.

**Source**  Gu & Dao, "Mamba" (2023), arXiv:2312.00752, §3.4 and figure 3; Yang, Kautz & Hatamizadeh (2024),
arXiv:2412.06464, figure 1, for the queries, keys and values of version 14.

By hand: three taps of one column weigh the last three numbers by 1, 10 and 100. Backward, y_2 saw 2, 3 and 4.

>>> import numpy as np
>>> X, W = np.array([[2.0], [3.0], [4.0]]), np.array([[1.0], [10.0], [100.0]])
>>> Y, cache = causal_convolution(X, W)
>>> Y[:, 0]
array([200., 320., 432.])
>>> dX, dW, dX_past = causal_convolution_backward(np.array([[0.0], [0.0], [1.0]]), cache)
>>> dX[:, 0], dW[:, 0]
(array([  1.,  10., 100.]), array([2., 3., 4.]))
>>> causal_convolution(X[2:], W, causal_convolution(X[:2], W)[1].X_last)[0]     # in two pieces
array([[432.]])
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array, Shapes, check_cotangent, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.kernels import sum_rows

SHAPES = Shapes(
    X="… N D", W="C D", X_past="… C−1 D or None", dY="… N D", dX_last="… C−1 D or None"
)


class Cache(NamedTuple):
    """What `causal_convolution_backward` needs, and the last rows `X_last`."""

    X: Array
    rows: Array    # (…, C−1+N, D)  X below X_past, or below zeros
    W: Array
    X_last: Array  # (…, C−1, D)
    has_past: bool


def causal_convolution(X: Array, W: Array, X_past: Array | None = None) -> tuple[Array, Cache]:
    """Return Y (…, N, D) and the cache for `causal_convolution_backward`.

    - X: the new rows, in their order.
    - W: the weights of each column, one row for each tap; the last tap is now.
    - X_past: the C−1 rows before X, the `X_last` of an earlier cache; None for zeros.
    """
    SHAPES.check(X, W, X_past)
    rows, N = with_past(X, W, X_past), X.shape[-2]            # (…, C−1+N, D)
    Y = np.zeros_like(X)
    for j, w in enumerate(W):
        Y += w * rows[..., j : j + N, :]
    return Y, Cache(X, rows, W, rows[..., N:, :], X_past is not None)


def causal_convolution_backward(
    dY: Array, cache: Cache, dX_last: Array | None = None
) -> tuple[Array, Array, Array | None]:
    """Return dX, dW and dX_past (None when there was no past).

    - dY: the gradient of the loss with respect to Y.
    - cache: what `causal_convolution` returned beside Y.
    - dX_last: the gradient with respect to X_last, the dX_past of the next piece; None for none.
    """
    X, rows, W, X_last, has_past = SHAPES.check_backward(dY, cache, Cache)
    N, P = X.shape[-2], X_last.shape[-2]
    drows, dW = np.zeros_like(rows), np.empty_like(W)
    if dX_last is not None:
        check_cotangent("dX_last", dX_last, X_last.shape, X_last.dtype)
        drows[..., N:, :] = dX_last                           # X_last is an output too
    for j, w in enumerate(W):
        dW[j] = sum_rows(dY * rows[..., j : j + N, :])        # Y = … + w_j ⊙ rows from j on
        drows[..., j : j + N, :] += w * dY                    # Y = … + w_j ⊙ rows from j on
    return drows[..., P:, :], dW, drows[..., :P, :] if has_past else None


def with_past(X: Array, W: Array, X_past: Array | None) -> Array:
    """Return the rows (…, C−1+N, D): X below the past. Raise a ValueError unless the past has C−1 rows."""
    past = (*X.shape[:-2], max(len(W) - 1, 0), X.shape[-1])
    if X_past is not None and X_past.shape != past:
        raise ValueError(f"X_past: expected (…, C−1, D) = {past}, got {X_past.shape}")
    return np.concatenate([np.zeros(past, X.dtype) if X_past is None else X_past, X], -2)


document(SHAPES, causal_convolution, causal_convolution_backward)
causal_convolution = ignore_underflow(causal_convolution)
causal_convolution_backward = ignore_underflow(causal_convolution_backward)
