"""Scaled dot-product attention in tiles: the same mathematics as `npattn.attention.core`, in memory linear in N.

The scores (…, N_Q, N_X) are never held whole. Queries and keys are cut into tiles of T rows, and one tile of scores,
(…, T, T), lives at a time.

**Forward**  For one tile of queries Q, going through the tiles j of keys, with s as in the core, and with the running
maximum m, the running sum ℓ and the running output O of each row:

    E_j = s Q K_jᵀ + bias_j,   m' = max(m, max E_j),   P_j = exp(E_j − m')
    ℓ ← ℓ exp(m − m') + Σ P_j,   O ← O exp(m − m') + P_j V_j,   m ← m'

and in the end Y = O/ℓ. Each step changes the reference of what was summed before from m to m', so the result is exact.
What backward needs of the softmax is one number a row, λ = m + log ℓ, since A_j = exp(E_j − λ).

**Backward**  A_j is computed again, tile by tile; the sum Σ_n A_n dA_n over all keys is known before the first tile:

    Σ_n A_n dA_n = Σ_n A_n Σ_d dY_d V_nd = Σ_d dY_d Y_d                 one number a row, δ = rowsum(dY ⊙ Y)
    dV_j += A_jᵀ dY,   dE_j = A_j ⊙ (dY V_jᵀ − δ)
    dQ += s dE_j K_j,   dK_j += s dE_jᵀ Q,   dbias_j += dE_j, summed over the axes it was broadcast on

**Shapes**  As in `npattn.attention.core`. `tile` is T; it changes memory and speed, and the result by rounding only.

**Raises**  ValueError for shapes that don't fit or a tile below 1, TypeError for dtypes that differ or a mask that is
not boolean.

**Source**  Milakov & Gimelshein, "Online normalizer calculation for softmax" (2018), arXiv:1805.02867; Rabe & Staats,
"Self-attention does not need O(n²) memory" (2021), arXiv:2112.05682; Dao et al., "FlashAttention" (2022),
arXiv:2205.14135, for the backward.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> Q, K, V = rng.normal(size=(5, 2)), rng.normal(size=(7, 2)), rng.normal(size=(7, 3))
>>> from npattn.attention.core import scaled_dot_product_attention
>>> tiled, _ = tiled_attention(Q, K, V, causal=True, tile=2)
>>> whole, _ = scaled_dot_product_attention(Q, K, V, causal=True)
>>> bool(np.allclose(tiled, whole, rtol=1e-14, atol=1e-14))
True
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from npattn._shapes import check_cotangent, check_mask, check_size, dims
from npattn._types import Array
from npattn.attention.core import check_bias, sum_to_shape
from npattn.layers.softmax import row_sum
from npattn.masks import causal_mask


class Cache(NamedTuple):
    Q: Array             # (…, N_Q, D_Q)
    K: Array             # (…, N_X, D_Q)
    V: Array             # (…, N_X, D_V)
    Y: Array             # (…, N_Q, D_V)
    lam: Array           # (…, N_Q, 1)  λ = log Σ exp E of each row; +∞ for a row that attends to nothing
    mask: Array | None
    bias: Array | None
    scale: float
    causal: bool
    tile: int


def tiled_attention(
    Q: Array,
    K: Array,
    V: Array,
    mask: Array | None = None,
    *,
    bias: Array | None = None,
    scale: float | None = None,
    causal: bool = False,
    tile: int = 512,
) -> tuple[Array, Cache]:
    """Return Y (…, N_Q, D_V) and the cache for `tiled_attention_backward`."""
    sizes = dims(Q=(Q, "... N_Q D_Q"), K=(K, "... N_X D_Q"), V=(V, "... N_X D_V"))
    scores = (*Q.shape[:-1], sizes["N_X"])
    check_mask(mask, scores)
    if bias is not None:
        check_bias(bias, scores, Q.dtype)
    check_size("tile", tile, least=1)
    s = float(scale) if scale is not None else 1 / math.sqrt(max(sizes["D_Q"], 1))
    Y = np.zeros((*Q.shape[:-1], sizes["D_V"]), Q.dtype)
    lam = np.full((*Q.shape[:-1], 1), np.inf, Q.dtype)
    cache = Cache(Q, K, V, Y, lam, mask, bias, s, causal, tile)
    for i in slices(sizes["N_Q"], tile):
        Y[..., i, :], lam[..., i, :] = _attend(cache, i)
    return Y, cache


def tiled_attention_backward(dY: Array, cache: Cache) -> tuple[Array, Array, Array, Array | None]:
    """Return dQ, dK, dV and dbias (None when there was no bias)."""
    Q, K, V, Y, lam, _, bias, s, _, _ = cache
    check_cotangent("dY", dY, Y.shape, Y.dtype)
    dQ, dK, dV = np.zeros_like(Q), np.zeros_like(K), np.zeros_like(V)
    dbias = None if bias is None else np.zeros_like(bias)
    delta = np.vecdot(Y, dY)[..., None]                       # (…, N_Q, 1)
    for i in slices(Q.shape[-2], cache.tile):
        dY_i, Q_i = dY[..., i, :], Q[..., i, :]
        for j, E in _tiles(cache, i):
            with np.errstate(under="ignore"):
                A = np.exp(E - lam[..., i, :])                # A = softmax(E), by its λ
            dV[..., j, :] += A.mT @ dY_i                      # Y = A V
            dE = A * (dY_i @ V[..., j, :].mT - delta[..., i, :])
            if dbias is not None:
                part = window(dbias, i, j)
                part += sum_to_shape(dE, part.shape)          # E = … + bias
            dE *= s
            dQ[..., i, :] += dE @ K[..., j, :]                # E = s Q Kᵀ + …
            dK[..., j, :] += dE.mT @ Q_i
    return dQ, dK, dV, dbias


def _attend(cache: Cache, i: slice) -> tuple[Array, Array]:
    """Return Y and λ of one tile of queries."""
    shape, V = cache.lam[..., i, :].shape, cache.V
    m = np.full(shape, -np.inf, cache.Q.real.dtype)           # (…, T, 1)
    total = np.zeros(shape, cache.Q.dtype)                    # (…, T, 1)  ℓ
    O = np.zeros((*shape[:-1], V.shape[-1]), cache.Q.dtype)   # (…, T, D_V)
    for j, E in _tiles(cache, i):
        raised = np.maximum(m, E.real.max(-1, keepdims=True, initial=-np.inf))
        reference = np.where(np.isneginf(raised), 0, raised)  # no key so far: exp(−∞ − 0) is 0
        with np.errstate(under="ignore"):
            P = np.exp(E - reference)                         # (…, T, T)
            fade = np.exp(m - reference)
        total = total * fade + row_sum(P)
        O = O * fade + P @ V[..., j, :]
        m = raised
    dead = np.isneginf(m)
    total = np.where(dead, 1, total)
    return O / total, np.where(dead, np.inf, m + np.log(total))


def _tiles(cache: Cache, i: slice) -> Iterator[tuple[slice, Array]]:
    """Yield each tile of keys that query tile i may see, and its scores, −∞ where the mask is False."""
    for j in slices(cache.K.shape[-2], cache.tile):
        if cache.causal and j.start >= i.stop:
            return                                            # every key of this tile lies after every query
        E = cache.Q[..., i, :] @ cache.K[..., j, :].mT        # (…, T, T)
        E *= cache.scale
        if cache.bias is not None:
            E += window(cache.bias, i, j)
        if cache.causal and j.stop > i.start + 1:
            order = causal_mask(E.shape[-2], E.shape[-1], offset=i.start - j.start)
            E = np.where(order, E, -np.inf)
        if cache.mask is not None:
            E = np.where(window(cache.mask, i, j), E, -np.inf)
        yield j, E


def slices(N: int, tile: int) -> list[slice]:
    """Cut 0 … N into tiles; the last may be shorter."""
    return [slice(start, min(start + tile, N)) for start in range(0, N, tile)]


def window(array: Array, i: slice, j: slice) -> Array:
    """The part of a mask or bias that belongs to a tile; an axis of size 1 is broadcast and stays whole."""
    if array.ndim >= 2 and array.shape[-2] != 1:
        array = array[..., i, :]
    if array.ndim >= 1 and array.shape[-1] != 1:
        array = array[..., j]
    return array
