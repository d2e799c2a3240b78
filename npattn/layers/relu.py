"""relu: Y = max(0, X), entry by entry.

**Forward**

    y = max(0, x)

**Backward**  dy/dx is 1 where x > 0 and 0 where x < 0. At x = 0 no derivative exists; we take 0:

    dx = dy where x > 0, else 0

Each x reaches its own y alone, so the chain rule has one term (foundations F7).

**Raises**  TypeError for what is no floating array, and for a dY of another dtype than Y; ValueError for one of another
shape.

**Source**  Nair & Hinton, "Rectified Linear Units Improve Restricted Boltzmann Machines" (2010).

>>> import numpy as np
>>> Y, cache = relu(np.array([-1.0, 0.0, 2.0]))
>>> Y
array([0., 0., 2.])
>>> relu_backward(np.array([5.0, 5.0, 5.0]), cache)
array([0., 0., 5.])
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array, Shapes, document

SHAPES = Shapes(X="…", Y="…", dY="…")


class Cache(NamedTuple):
    """What `relu_backward` needs."""

    Y: Array    # positive where the gradient passes


def relu(X: Array) -> tuple[Array, Cache]:
    """Return max(0, X) and the cache for `relu_backward`.

    - X: numbers; any shape.
    """
    SHAPES.check(X)
    # A row of zeros takes half the time of a scalar 0. Complex numbers are ordered by their real parts.
    Y = np.maximum(X, np.zeros(X.shape[-1:], X.dtype))
    return Y, Cache(Y)


def relu_backward(dY: Array, cache: Cache) -> Array:
    """Return dX.

    - dY: the gradient of the loss with respect to Y.
    - cache: what `relu` returned beside Y.
    """
    (Y,) = SHAPES.check_backward(dY, cache, Cache)
    return dY * (Y > 0)                                       # Y = max(0, X)


document(SHAPES, relu, relu_backward)
