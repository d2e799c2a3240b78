"""Embedding: the row of a table for each id.

**Forward**

    Y_n = W_E[ids_n]        the same as onehot(ids) W_E without the product

**Backward**  A row is used as often as its id occurs, and every use adds to its gradient:

    dW_E[v] = Σ_{n: ids_n = v} dY_n        `dW[ids] += dY` would count each repeated id once

**Shapes**  ids (…), W_E (V, D), Y (…, D), with V ids in the vocabulary.

**Raises**  TypeError for ids that are no integers (bool and float are none) and for a W_E or dY that is no floating
array, IndexError for an id below 0 or above V − 1: Python's −1 for "last" has no meaning here; ValueError for shapes
that don't fit.

**Source**  Bengio et al., "A Neural Probabilistic Language Model", JMLR 3 (2003).

>>> import numpy as np
>>> W_E = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
>>> Y, cache = embedding(np.array([2, 0, 2]), W_E)
>>> Y
array([[4., 5.],
       [0., 1.],
       [4., 5.]])
>>> embedding_backward(np.array([[1.0, 1.0], [7.0, 7.0], [2.0, 2.0]]), cache)
array([[7., 7.],
       [0., 0.],
       [3., 3.]])
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npattn._shapes import check_cache, check_cotangent, check_ids, dims
from npattn._types import Array


class Cache(NamedTuple):
    """What `embedding_backward` needs."""

    ids: Array  # (…)
    shape: tuple[int, int]  # (V, D), of the table
    dtype: np.dtype[np.generic]


def embedding(ids: Array, W_E: Array) -> tuple[Array, Cache]:
    """Return the rows W_E[ids] and the cache for `embedding_backward`."""
    V = dims(W_E=(W_E, "V D"))["V"]
    check_ids("ids", ids, V)
    return W_E[ids], Cache(ids, W_E.shape, W_E.dtype)


def embedding_backward(dY: Array, cache: Cache) -> Array:
    """Return dW_E, (V, D)."""
    ids, (V, D), dtype = check_cache(cache, Cache)
    check_cotangent("dY", dY, (*ids.shape, D), dtype)
    dW_E = np.zeros((V, D), dY.dtype)
    # Sorting brings equal ids together, so that each row of the table is one sum: faster than np.add.at.
    order = np.argsort(ids, axis=None, kind="stable")
    rows = dY.reshape(ids.size, D)[order]                     # (n, D)
    used, starts = np.unique(ids.ravel()[order], return_index=True)
    if len(used):
        dW_E[used] = np.add.reduceat(rows, starts, axis=0)    # Y = W_E[ids]
    return dW_E
