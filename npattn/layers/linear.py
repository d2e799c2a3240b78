"""Linear layer: Y = X W + b, the same for every row.

**Forward**

    Y = X W + b          W is stored (in, out)

**Backward**  L is the loss, dY means ∂L/∂Y, and so for every letter. From Y_nj = Σ_i X_ni W_ij + b_j follows

    dX_ni = Σ_j dY_nj W_ij   →  dX = dY Wᵀ
    dW_ij = Σ_n X_ni dY_nj   →  dW = Xᵀ dY    summed over every row of every batch axis
    db_j  = Σ_n dY_nj        →  db = 1ᵀ dY    likewise; 1 is a column of ones

X_ni reaches Y_nj for every j, with the factor W_ij; W_ij and b_j reach Y_nj for every row n, with the factors X_ni and
1. `npattn explain foundations` has each step: the chain rule (foundations F3), the step from indices to matrices
(foundations F5), and why W and b sum over all rows (foundations F6).

**Raises**  ValueError for shapes that don't fit, TypeError for anything but floating arrays of one dtype.

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

from typing import NamedTuple

from npattn._internal.checks import Array, Shapes, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.kernels import project, sum_rows, weight_gradient

SHAPES = Shapes(X="… D_in", W="D_in D_out", b="D_out or None", dY="… D_out")


class Cache(NamedTuple):
    """What `linear_backward` needs."""

    X: Array
    W: Array
    has_bias: bool


def linear(X: Array, W: Array, b: Array | None = None) -> tuple[Array, Cache]:
    """Return Y = X W + b and the cache for `linear_backward`.

    - X: rows, with any number of axes before the last; a single row may have no other axis.
    - W: the weight, stored (in, out).
    - b: the bias, added to every row; None for none.
    """
    SHAPES.check(X, W, b)
    return project(X, W, b), Cache(X, W, b is not None)


def linear_backward(dY: Array, cache: Cache) -> tuple[Array, Array, Array | None]:
    """Return dX, dW and db (None when there was no b).

    - dY: the gradient of the loss with respect to Y.
    - cache: what `linear` returned beside Y.
    """
    X, W, has_bias = SHAPES.check_backward(dY, cache, Cache)
    db = sum_rows(dY) if has_bias else None                   # Y = … + b
    dW = weight_gradient(X, dY)                               # Y = X W
    return project(dY, W.T), dW, db                           # Y = X W


document(SHAPES, linear, linear_backward)
linear, linear_backward = ignore_underflow(linear), ignore_underflow(linear_backward)
