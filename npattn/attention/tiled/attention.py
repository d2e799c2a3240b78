"""Scaled dot-product attention in tiles: the same mathematics as `npattn.attention.dot_product`, in memory linear in N.

The scores (…, N_Q, N_X) never exist as a whole. Queries and keys are cut into tiles of T rows. A worker thread holds
one tile of scores, (T, T), at a time; in backward also one tile of their gradients. Every pass over a tile costs 1 to 3
% of all the time, so factors are applied to rows instead: s to the rows of Q, w and δ below to the rows of dY.

**Forward**  For one tile of queries Q, over the tiles j of keys. Each row has a running maximum m, a running sum ℓ and
a running output O; s is the scale of the core:

    E_j = (s Q) K_jᵀ + bias_j,   m' = max(m, max E_j),   P_j = exp(E_j − m')
    ℓ ← ℓ exp(m − m') + Σ P_j,   O ← O exp(m − m') + P_j V_j,   m ← m'

and in the end Y = O/ℓ. Each step moves the earlier sums from the reference m to m', so the result is exact. Backward
needs one number a row of the softmax, λ = m + log ℓ, since A_j = exp(E_j − λ).

**Reference**  m keeps exp in range. If the maximum of a row is within ±`BOUND` (of `npattn.attention.tiled.tiles`), the
reference 0 does the same, and a tile whose rows all have it needs no difference E_j − m'. So m above is
`safe_shift(maximum)`, which is 0 in that range. The maximum is taken over the visible scores only, so hidden scores
change no bit.

**Backward**  A_j is computed again, tile by tile, with a reference r that follows from λ. The factor w between P_j and
A_j is one number a row; it is applied to the rows of dY:

    A_j = w P_j,    P_j = exp(E_j + r), w = exp(−λ − r), r = safe_shift(−λ)        r is 0 or −λ, w is exp(−λ) or 1

The softmax's backward (foundations F9) needs Σ_n A_n dA_n over all keys. It is known before the first tile, as
δ = rowsum(dY ⊙ Y):

    Σ_n A_n dA_n = Σ_n A_n Σ_d dY_d V_nd = Σ_d dY_d Y_d

The product of dY and V, with one column more, then gives dA − δ without a pass over the tile:

    dV_j += A_jᵀ dY = P_jᵀ (w dY)
    dE_j = A_j ⊙ (dY V_jᵀ − δ) = P_j ⊙ ([w dY, −w δ] [V_j, 1]ᵀ)
    dQ += s dE_j K_j,   dK_j += dE_jᵀ (s Q),   dbias_j += dE_j, summed over the axes it was broadcast on

A tile that the mask or the causal order hides as a whole is skipped, forward and backward. Weights below 10⁻¹⁹ of the
largest in their row (10⁻¹⁵⁴ in float64) count as 0, see `drop_negligible` of npattn.layers.kernels.

**Threads**  The work is cut into parts, see `split_work`: tiles of queries in forward, tiles of keys in backward. A
part writes its own rows of Y and λ, or of dK and dV. Its shares of dQ and dbias are added in the order of the parts.
The cut does not depend on the number of workers, so the result has the same bits for any number.

`tile` is T; it changes memory and speed, and the result by rounding only. λ and δ are one number for each query.

**Raises**  ValueError for shapes that don't fit, a tile or workers below 1, TypeError for dtypes that differ or a mask
that is not boolean.

**Source**  Milakov & Gimelshein, "Online normalizer calculation for softmax" (2018), arXiv:1805.02867; Rabe & Staats,
"Self-attention does not need O(n²) memory" (2021), arXiv:2112.05682; Dao et al., "FlashAttention" (2022),
arXiv:2205.14135, for the backward.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> Q, K, V = rng.normal(size=(5, 2)), rng.normal(size=(7, 2)), rng.normal(size=(7, 3))
>>> from npattn.attention.dot_product import scaled_dot_product_attention
>>> tiled, cache = tiled_attention(Q, K, V, causal=True, tile=2)
>>> whole, _ = scaled_dot_product_attention(Q, K, V, causal=True)
>>> bool(np.allclose(tiled, whole, rtol=1e-14, atol=1e-14))
True
>>> dQ, dK, dV, dbias = tiled_attention_backward(rng.normal(size=tiled.shape), cache)
>>> dQ.shape, dK.shape, dV.shape, dbias                    # no bias was given
((5, 2), (7, 2), (7, 3), None)
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array, Shapes, check_flag, check_size, document
from npattn._internal.system.underflow import ignore_underflow
from npattn._internal.system.workers import default_workers, in_order
from npattn.attention.dot_product import SCALE, sum_to_shape
from npattn.attention.tiled.tiles import (
    ALL,
    HeadTiles,
    ScoreTiles,
    Scratch,
    add_for_heads,
    of_heads,
    safe_shift,
    slices,
    split_work,
    tile_of,
    weighted_cotangent,
    with_ones,
)
from npattn.layers.kernels import drop_negligible, greatest, row_sum, sqrt_width

SHAPES = Shapes(
    Q="… N_Q D_Q",
    K="… N_X D_Q",
    V="… N_X D_V",
    mask="… N_Q N_X",
    bias="… N_Q N_X",
    scale=SCALE,
    causal=check_flag,
    tile="T, an integer",
    dY="… N_Q D_V",
)

#: For fewer scores, 2 ms of work, starting threads costs more than they save.
FEW = 1 << 17


class Cache(NamedTuple):
    """What `tiled_attention_backward` needs; the weights are not kept."""

    Q: Array
    K: Array
    V: Array
    Y: Array
    lam: Array           # (…, N_Q, 1)  λ = log Σ exp E of each row; +∞ for a row that attends to nothing
    mask: Array | None
    bias: Array | None
    scale: float
    causal: bool
    tile: int
    workers: int


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
    workers: int | None = None,
) -> tuple[Array, Cache]:
    """Return Y and the cache for `tiled_attention_backward`.

    - Q, K, V: queries, keys and values, one a row.
    - mask: boolean, True = may attend; broadcasts to the scores. None: every query may attend to every key.
    - bias: added to the scores, to which it broadcasts; it has a gradient. None for none.
    - scale: multiplies Q Kᵀ; None for 1/√D_Q.
    - causal: True lets query i attend to keys 0 … i alone.
    - tile: T, the rows of a tile.
    - workers: threads, here and in backward, with one BLAS thread each; BLAS is set back at the end. None: one for each
      core if threadpoolctl (the extra `fast`) is installed and the call comes from the main thread; else one, and BLAS
      stays as it is.
    """
    sizes = SHAPES.check(Q, K, V, mask=mask, bias=bias, scale=scale, causal=causal, tile=tile)
    s = 1 / sqrt_width(Q) if scale is None else float(scale)
    workers = choose_workers(workers, math.prod(Q.shape[:-1]) * sizes["N_X"])
    Y = np.empty((*Q.shape[:-1], sizes["D_V"]), Q.dtype)
    lam = np.empty((*Q.shape[:-1], 1), Q.dtype)
    cache = Cache(Q, K, V, Y, lam, mask, bias, s, bool(causal), int(tile), workers)
    scores = (*Q.shape[:-1], sizes["N_X"])
    in_order(split_work(scores, -2, tile), functools.partial(_attend, cache, Scratch()), lambda share, _: None, workers)
    return Y, cache


def choose_workers(workers: int | None, scores: int) -> int:
    """Return the given number of threads, or one that suits so many scores."""
    if workers is None:
        return default_workers() if scores > FEW else 1
    return check_size("workers", workers, least=1)


def tiled_attention_backward(dY: Array, cache: Cache) -> tuple[Array, Array, Array, Array | None]:
    """Return dQ, dK, dV and dbias (None when there was no bias).

    - dY: the gradient of the loss with respect to Y.
    - cache: what `tiled_attention` returned beside Y.
    """
    Q, K, V, _, _, _, bias, *_ = SHAPES.check_backward(dY, cache, Cache)
    dQ, dK, dV = (np.zeros(array.shape, array.dtype) for array in (Q, K, V))
    dbias = None if bias is None else np.zeros(bias.shape, bias.dtype)

    def collect(part: HeadTiles, shares: tuple[Array, Array | None]) -> None:
        dQ[part.heads] += shares[0]
        if dbias is not None and shares[1] is not None:
            add_for_heads(dbias, shares[1], part)

    work = functools.partial(_attend_backward, cache, Scratch(), dY, dK, dV)
    in_order(split_work((*Q.shape[:-1], K.shape[-2]), -1, cache.tile), work, collect, cache.workers)
    return dQ, dK, dV, dbias


def _attend(cache: Cache, scratch: Scratch, part: HeadTiles) -> None:
    """Fill Y and λ for some tiles of queries."""
    Q, V, Y, lam = (array[part.heads] for array in (cache.Q, cache.V, cache.Y, cache.lam))
    scores = _scores(cache, scratch, part)
    for i in part.tiles:
        Q_i = Q[..., i, :] * cache.scale
        top = np.full(lam[..., i, :].shape, -np.inf, Q.real.dtype)                         # (…, T, 1)
        m, total = np.zeros(top.shape, top.dtype), np.zeros(top.shape, Q.dtype)            # (…, T, 1), m and ℓ
        O = np.zeros(Y[..., i, :].shape, Q.dtype)             # (…, T, D_V)
        for j in slices(V.shape[-2], cache.tile):
            scored = scores.tile(Q_i, i, j)
            if scored is None:
                continue
            P, low = scored
            top = np.maximum(top, greatest(P.real))
            drop_negligible(P, low, top)
            if (raised := safe_shift(top)).any() or m.any():
                P -= raised
                risen = np.minimum(m - raised, 0)             # m rises, except from the 0 of no score
                drop_negligible(risen, risen.min())
                fade = np.exp(risen)
                total *= fade
                O *= fade
                m = raised
            np.exp(P, out=P)
            total += row_sum(P)
            O += scratch.product(P, V[..., j, :])
        dead = total.real == 0                                # a live row has a P of exp(−BOUND) or more
        total[dead] = 1
        Y[..., i, :] = O / total
        lam[..., i, :] = np.where(dead, np.inf, m + np.log(total))


def _attend_backward(
    cache: Cache, scratch: Scratch, dY: Array, dK: Array, dV: Array, part: HeadTiles
) -> tuple[Array, Array | None]:
    """Fill dK and dV for some tiles of keys; return the shares of dQ and dbias."""
    K, V, lam, dK, dV = (array[part.heads] for array in (cache.K, cache.V, cache.lam, dK, dV))
    Q = cache.Q[part.heads] * cache.scale
    r = safe_shift(-lam)
    wdY = weighted_cotangent(dY[part.heads], cache.Y[part.heads], -lam - r)                # (…, N_Q, D_V + 1)
    scores = _scores(cache, scratch, part)
    dQ = np.zeros_like(Q)
    dbias = None if scores.bias is None else np.zeros_like(tile_of(scores.bias, ALL, part.span))
    for j in part.tiles:
        K_j, V_1 = K[..., j, :], with_ones(V[..., j, :])
        for i in slices(Q.shape[-2], cache.tile):
            scored = scores.tile(Q[..., i, :], i, j)
            if scored is None:
                continue
            P, low = scored
            drop_negligible(P, low, lam[..., i, :].real)      # λ is the maximum at least
            if r[..., i, :].any():
                P += r[..., i, :]
            np.exp(P, out=P)                                  # A = w P
            dE = scratch.product(wdY[..., i, :], V_1.mT, "dE")                             # Y = A V
            dE *= P                                           # A = softmax(E)
            dV[..., j, :] += scratch.product(P.mT, wdY[..., i, :-1])                       # Y = A V
            if dbias is not None:
                share = tile_of(dbias, i, slice(j.start - part.span.start, j.stop - part.span.start))
                share += sum_to_shape(dE, share.shape)        # E = … + bias
            dQ[..., i, :] += scratch.product(dE, K_j)         # E = (s Q) Kᵀ + …
            dK[..., j, :] += scratch.product(dE.mT, Q[..., i, :])                          # E = (s Q) Kᵀ + …
    dQ *= cache.scale
    return dQ, dbias


def _scores(cache: Cache, scratch: Scratch, part: HeadTiles) -> ScoreTiles:
    mask, bias = (of_heads(array, cache.Q.shape[:-2], part.heads) for array in (cache.mask, cache.bias))
    return ScoreTiles(cache.K[part.heads], mask, bias, cache.causal, scratch)


document(SHAPES, tiled_attention, tiled_attention_backward)
tiled_attention = ignore_underflow(tiled_attention)
tiled_attention_backward = ignore_underflow(tiled_attention_backward)
