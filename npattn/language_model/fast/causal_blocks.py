"""Causal attention of short rows, in blocks of queries.

**Equals** `npattn.attention.dot_product.scaled_dot_product_attention` with causal order and grouped heads. Tests
compare the two.

**Changed for speed**

- A block of queries meets the keys that one of them sees, and no others. Keys after the block, and those before the
  window, cost nothing.
- What hides keys in a block is computed once and kept: all layers and steps need the same few arrays.
- Few rows of a batch go at a time, so that the scores of a block stay in the processor's cache.
- The queries of all heads of a group stand one below another: one product meets the keys that they share, and another
  adds up the gradients of these keys.
- The scale is applied to Q, and the sum in the softmax's backward is one over Y, as in `npattn.attention.tiled`.
- The softmax is that of `npattn.transformer.fast.softmax`, which seldom needs a maximum of rows.
- Nothing is checked, since the batch has been checked where it enters the model.

Q and Y (B, H, N, D), K and V (B, H_K, N, D). The weights are kept for backward: half of N² numbers a head. Long rows go
by tiles instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from npattn._internal.checks import Array
from npattn.attention.dot_product import in_window
from npattn.attention.tiled.tiles import slices
from npattn.layers.kernels import sqrt_width
from npattn.layers.soft_cap import soft_cap, soft_cap_backward
from npattn.transformer.fast.softmax import masked_softmax

#: Queries in a block. Fewer leave out more above the diagonal, more make larger products.
BLOCK = 64

#: So many keys of all heads go at a time, or one row of the batch. With 1024 a step of two workers takes 2 % longer:
#: each call of NumPy waits for Python's lock.
FEW = 4096

ZERO, INFINITY = np.float32(0), np.float32(np.inf)            # they serve float64 too


def causal_attention(
    Q: Array, K: Array, V: Array, scale: float | None, window: int | None, softcap: float | None
) -> tuple[Array, Any]:
    """Return Y (B, H, N, D), in memory (B, N, H·D), and the cache for `causal_attention_backward`."""
    s = 1 / sqrt_width(Q) if scale is None else scale
    (B, H, N, D), H_K = Q.shape, K.shape[1]
    Q = (Q * s).reshape(B, H_K, H // H_K, N, D)
    Y = np.empty((B, N, H_K, H // H_K, D), Q.dtype).transpose(0, 2, 3, 1, 4)
    cut, weights = list(blocks(N, window)), []
    for rows in slices(B, max(FEW // max(H * N, 1), 1)):
        for i, j, bias in cut:
            q = Q[rows, ..., i, :]                            # (rows, H_K, G, queries, D)
            E = (below(q) @ K[rows, :, j].mT).reshape(*q.shape[:4], j.stop - j.start)    # (rows, H_K, G, queries, keys)
            E, cap = (E, None) if softcap is None else soft_cap(E, softcap)
            A = masked_softmax(E, bias)
            np.matmul(A, V[rows, :, None, j], out=Y[rows, ..., i, :])      # a copy into Y would take longer
            weights.append((rows, i, j, A, cap))
    return Y.reshape(B, H, N, D), (Q, K, V, Y, s, weights)


def causal_attention_backward(dY: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Return dQ, dK and dV."""
    Q, K, V, Y, s, weights = cache
    dQ, dK, dV = np.empty(Q.shape, Q.dtype), np.zeros(K.shape, Q.dtype), np.zeros(K.shape, Q.dtype)
    shape, dY = dY.shape, dY.reshape(Y.shape)
    delta = np.vecdot(dY, Y)[..., None]                       # (B, H_K, G, N, 1)
    for rows, i, j, A, cap in weights:
        q, dy = Q[rows, ..., i, :], below(dY[rows, ..., i, :])
        dE = (dy @ V[rows, :, j].mT).reshape(A.shape)         # Y = A V: dA
        dV[rows, :, j] += below(A).mT @ dy                    # Y = A V
        dE -= delta[rows, ..., i, :]                          # A = softmax(E): dE = A ⊙ (dA − δ)
        dE *= A
        dS = below(dE if cap is None else soft_cap_backward(dE, cap))          # E = c tanh(S/c)
        dQ[rows, ..., i, :] = (dS @ K[rows, :, j]).reshape(q.shape)            # S = (s Q) Kᵀ
        dK[rows, :, j] += dS.mT @ below(q)                    # S = (s Q) Kᵀ
    dQ *= s
    return dQ.reshape(shape), dK, dV


def below(T: Array) -> Array:
    """(rows, H_K, G, queries, …) → (rows, H_K, G·queries, …)."""
    return T.reshape(*T.shape[:2], T.shape[2] * T.shape[3], T.shape[4])


def blocks(N: int, window: int | None) -> Iterator[tuple[slice, slice, Array]]:
    """Yield queries, the keys that one of them sees, and what hides a key from a query that does not see it."""
    for start in range(0, N, BLOCK):
        stop, first = min(start + BLOCK, N), 0 if window is None else max(start - window + 1, 0)
        yield slice(start, stop), slice(first, stop), bias_of(stop - start, stop - first, window)


@lru_cache(maxsize=64)
def bias_of(queries: int, keys: int, window: int | None) -> Array:
    """Return what hides keys from queries that are the last positions, read-only: all layers and steps share it."""
    bias = hiding(in_window(None, (queries, keys), None, window))
    bias.setflags(write=False)
    return bias


def hiding(seen: Array) -> Array:
    """Return what is added to scores: 0 where a key is seen, −∞ elsewhere."""
    return np.where(seen, ZERO, -INFINITY)
