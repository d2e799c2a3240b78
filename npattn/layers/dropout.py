"""Inverted dropout: each entry is zeroed with probability p, the others are scaled by 1/(1 − p).

**Forward**

    Y = X ⊙ M,    M_i = 0 with probability p, else 1/(1 − p)

The mean of Y over the masks is X, as (1 − p) · X/(1 − p) + p · 0 = X, so nothing needs scaling at evaluation. There is
no `training` flag: an rng switches dropout on, and without one Y is X.

**Backward**  Each entry has a factor of its own, Y_i = X_i M_i, which does not depend on X (foundations F7):

    dX_i = dY_i M_i    dX = dY ⊙ M, with the M of the same forward call

**Raises**  ValueError unless 0 ≤ p < 1 and for a dY of another shape than Y; TypeError for an rng that is no
numpy.random.Generator, and for anything but a floating array.

**Source**  Srivastava et al., "Dropout", JMLR 15 (2014).

>>> import numpy as np
>>> Y, cache = dropout(np.ones(6), 0.5, np.random.default_rng(0))
>>> Y
array([2., 2., 2., 0., 0., 0.])
>>> dropout_backward(np.full(6, 3.0), cache)
array([6., 6., 6., 0., 0., 0.])
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array, Interval, Shapes, check_cache, check_cotangent, check_random, document
from npattn._internal.system.underflow import ignore_underflow

SHAPES = Shapes(X="…", p=Interval(0, 1), rng=check_random)


class Cache(NamedTuple):
    """What `dropout_backward` needs."""

    M: Array | None  # None when nothing was dropped
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


def dropout(X: Array, p: float, rng: np.random.Generator | None = None) -> tuple[Array, Cache]:
    """Return X with entries dropped, and the cache for `dropout_backward`; a copy of X without an rng.

    - X: numbers; any shape.
    - p: the probability that an entry is zeroed.
    - rng: draws the mask; None drops nothing.
    """
    SHAPES.check(X, p=p, rng=rng)
    if rng is None or p == 0:
        return X.copy(), Cache(None, X.shape, X.dtype)
    # One comparison of random float32 numbers serves every dtype: 24 bits of p are plenty.
    M = np.greater_equal(rng.random(X.shape, np.float32), p).astype(X.real.dtype)
    M *= 1 / (1 - float(p))
    return X * M, Cache(M, X.shape, X.dtype)


def dropout_backward(dY: Array, cache: Cache) -> Array:
    """Return dX.

    - dY: the gradient of the loss with respect to Y.
    - cache: what `dropout` returned beside Y.
    """
    check_cotangent("dY", dY, check_cache(cache, Cache).shape, cache.dtype)
    return dY.copy() if cache.M is None else dY * cache.M     # Y = X ⊙ M


document(SHAPES, dropout)
dropout, dropout_backward = ignore_underflow(dropout), ignore_underflow(dropout_backward)
