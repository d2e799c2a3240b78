"""Embedding: the row of a table for each id.

**Forward**

    Y_n = W_E[ids_n]        the same as onehot(ids) W_E without the product

**Backward**  With O_nv = 1 where ids_n = v, else 0, the lookup is the linear layer Y = O W_E, so dW_E = Oᵀ dY. A row is
used as often as its id occurs, and every use adds to its gradient (foundations F12):

    dW_E[v] = Σ_n O_nv dY_n = Σ_{n: ids_n = v} dY_n        `dW[ids] += dY` would count each repeated id once

ids are whole numbers, so they have no gradient.

**Raises**  TypeError for ids that are not integers (bool and float included), and for a W_E or dY that is no floating
array. IndexError for an id below 0 or above V − 1; −1 does not mean the last row here. ValueError for shapes that don't
fit.

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

from npattn._internal.checks import Array, Shapes, check_cache, check_cotangent, document

SHAPES = Shapes(W_E="V D", ids="… < V")


class Cache(NamedTuple):
    """What `embedding_backward` needs."""

    ids: Array
    shape: tuple[int, int]  # of the table
    dtype: np.dtype[np.generic]


def embedding(ids: Array, W_E: Array) -> tuple[Array, Cache]:
    """Return the rows W_E[ids], (…, D), and the cache for `embedding_backward`.

    - ids: which rows; any shape, any number of times.
    - W_E: the table, a row for each id.
    """
    SHAPES.check(W_E, ids=ids)
    return W_E[ids], Cache(ids, W_E.shape, W_E.dtype)


def embedding_backward(dY: Array, cache: Cache) -> Array:
    """Return dW_E, (V, D).

    - dY: the gradient of the loss with respect to Y.
    - cache: what `embedding` returned beside Y.
    """
    check_cotangent("dY", dY, (*check_cache(cache, Cache).ids.shape, cache.shape[1]), cache.dtype)
    return table_gradient(dY, cache.ids, cache.shape)         # Y = W_E[ids]


def table_gradient(dY: Array, ids: Array, shape: tuple[int, int]) -> Array:
    """dW_E for Y = W_E[ids]: the rows of dY with the same id are summed."""
    dW_E = np.zeros(shape, dY.dtype)
    # Sorting brings equal ids together, so that each row of the table is one sum: faster than np.add.at.
    order = np.argsort(ids, axis=None, kind="stable")
    rows = dY.reshape(ids.size, shape[1])[order]              # (n, D)
    used, starts = np.unique(ids.ravel()[order], return_index=True)
    if len(used):
        dW_E[used] = np.add.reduceat(rows, starts, axis=0)
    return dW_E


document(SHAPES, embedding)
