"""silu: y = x σ(x), with σ the logistic function; also called swish.

**Forward**

    y = x σ(x),    σ(x) = 1 / (1 + exp(−x))

**Backward**  By the product rule, with σ' = σ (1 − σ); each x reaches its own y alone (foundations F7):

    dx = dy σ(x) (1 + x (1 − σ(x)))

**Raises**  TypeError for what is no floating array, and for a dY of another dtype than Y; ValueError for one of another
shape.

**Source**  Elfwing, Uchibe & Doya (2017), arXiv:1702.03118; Ramachandran, Zoph & Le (2017), arXiv:1710.05941.

By hand: σ(ln 3) = ¾ and σ(−ln 3) = ¼, so y is ¾ ln 3 and −¼ ln 3, and dy/dx = ¾ (1 + ¼ ln 3) and ¼ (1 − ¾ ln 3).

>>> import numpy as np
>>> Y, cache = silu(np.array([np.log(3), 0.0, -np.log(3)]))
>>> (Y / np.log(3)).round(12)
array([ 0.75,  0.  , -0.25])
>>> silu_backward(np.array([1.0, 1.0, 1.0]), cache).round(3)
array([0.956, 0.5  , 0.044])
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array, Shapes, document
from npattn._internal.system.underflow import ignore_underflow

SHAPES = Shapes(X="…", dY="…")

#: From here on σ is 0 or 1, in float64 too: what lies beyond, ∞ as well, counts as this.
FAR = 1e3


class Cache(NamedTuple):
    """What `silu_backward` needs."""

    X: Array
    S: Array  # σ(X)


def silu(X: Array) -> tuple[Array, Cache]:
    """Return X σ(X) and the cache for `silu_backward`.

    - X: numbers; any shape.
    """
    SHAPES.check(X)
    S = sigmoid(X)
    return np.maximum(X, -FAR) * S, Cache(X, S)               # −∞ · 0 would be NaN


def silu_backward(dY: Array, cache: Cache) -> Array:
    """Return dX.

    - dY: the gradient of the loss with respect to Y.
    - cache: what `silu` returned beside Y.
    """
    X, S = SHAPES.check_backward(dY, cache, Cache)
    return dY * silu_slope(X, S)                              # Y = X σ(X)


def silu_slope(X: Array, S: Array) -> Array:
    """The derivative of x σ(x); X and S = σ(X) of any shape."""
    return S * (1 + np.clip(X, -FAR, FAR) * (1 - S))


def sigmoid(X: Array) -> Array:
    """The logistic function σ(x) = 1 / (1 + exp(−x)), entry by entry; exp never overflows. X of any shape."""
    right = X.real >= 0
    e = np.exp(np.where(right, -X, X))                        # σ(x) = exp(x) / (1 + exp(x)) for x < 0
    return np.where(right, 1, e) / (1 + e)


document(SHAPES, silu, silu_backward)
silu, silu_backward = ignore_underflow(silu), ignore_underflow(silu_backward)
