"""Soft cap: y = c tanh(x/c) keeps numbers between −c and c; small ones stay nearly as they are.

**Forward**

    y = c tanh(x/c)

**Backward**  By the chain rule, with tanh' = 1 − tanh² (foundations F7):

    dx = dy (1 − (y/c)²)

**Conventions**  Gemma 2 caps scores of attention (c = 50) and logits (c = 30). Scores are capped after their scaling
and before the mask, which makes hidden scores −∞. The other way round, −∞ would become −c: hidden keys would be seen.

**Raises**  ValueError for a cap that is not above 0 and for a dY of another shape than Y, TypeError for what is no
floating array and for a dY of another dtype than Y.

**Source**  Gemma Team (2024), arXiv:2408.00118, §2; Bello et al. (2016), arXiv:1611.09940, appendix A.2.

By hand: tanh(½ ln 3) = (3 − 1)/(3 + 1) = ½. With c = 2 and x = ln 3, y = 2 · ½ and dy/dx = 1 − ¼.

>>> import numpy as np
>>> Y, cache = soft_cap(np.array([np.log(3), 0.0, -1e9]), 2.0)
>>> Y.round(12)
array([ 1.,  0., -2.])
>>> soft_cap_backward(np.array([4.0, 4.0, 4.0]), cache).round(12)
array([3., 4., 0.])
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array, Interval, Shapes, document
from npattn._internal.system.underflow import ignore_underflow

#: A cap, and 1 divided by it, must be numbers in float32 too.
CAP = Interval(2.0**-126, 2.0**126)
SHAPES = Shapes(X="…", T="…", dY="…", cap=CAP)


class Cache(NamedTuple):
    """What `soft_cap_backward` needs."""

    T: Array  # tanh(X/c)


def soft_cap(X: Array, cap: float) -> tuple[Array, Cache]:
    """Return c tanh(X/c) and the cache for `soft_cap_backward`.

    - X: numbers; any shape.
    - cap: c, the limit; a number above 0.
    """
    SHAPES.check(X, cap=cap)
    with np.errstate(over="ignore"):                          # X/c beyond the largest number gives c
        T = np.tanh(X / float(cap))
    return T * float(cap), Cache(T)


def soft_cap_backward(dY: Array, cache: Cache) -> Array:
    """Return dX.

    - dY: the gradient of the loss with respect to Y.
    - cache: what `soft_cap` returned beside Y.
    """
    (T,) = SHAPES.check_backward(dY, cache, Cache)
    return dY * (1 - T * T)                                   # Y = c tanh(X/c)


document(SHAPES, soft_cap, soft_cap_backward)
soft_cap, soft_cap_backward = ignore_underflow(soft_cap), ignore_underflow(soft_cap_backward)
