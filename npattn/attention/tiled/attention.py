"""Scaled dot-product attention in tiles: the same mathematics as `npattn.attention.dot_product`, in memory linear in N.

The scores (…, N_Q, N_X) never exist as a whole. Queries and keys are cut into tiles of T rows. A worker thread holds
one tile of scores, (T, T), at a time; in backward also one tile of their gradients. Every pass over a tile costs 1 to 3
% of all the time, so factors are applied to rows instead: s to the rows of Q, w and δ below to the rows of dY.

**Forward**  For one tile of queries Q, over the tiles j of keys. Each row has a running maximum m, a running sum ℓ and
a running output O; s is the scale of the core:

    S_j = (s Q) K_jᵀ,   E_j = c tanh(S_j/c) + bias_j, or S_j + bias_j,   m' = max(m, max E_j),   P_j = exp(E_j − m')
    ℓ ← ℓ exp(m − m') + Σ P_j,   O ← O exp(m − m') + P_j V_j,   m ← m'

and in the end Y = O/ℓ. ℓ and O begin as 0; with a sink, its score is the first maximum, and ℓ begins as exp(sink − m).
Each step moves the earlier sums from the reference m to m', so the result is exact. Backward needs one number a row of
the softmax, λ = m + log ℓ, since A_j = exp(E_j − λ).

**Reference**  m keeps exp in range. If the maximum of a row is within ±`BOUND` (of `npattn.attention.tiled.tiles`), the
reference 0 does the same, and a tile whose rows all have it needs no difference E_j − m'. So m above is
`safe_shift(maximum)`, which is 0 in that range. The maximum is taken over the visible scores only, so hidden scores
change no bit. A tile whose norms keep all scores in the range, |q·k| ≤ ‖q‖ ‖k‖, needs no maximum.

**Unit**  Where exp2 is quicker than exp, the scores come in the unit log₂ e: it is multiplied into s, and exp(E) is
exp2(E log₂ e). λ has it too. dK, which is made of the rows s Q, is divided by it.

**Backward**  A_j is computed again, tile by tile, with a reference r that follows from λ. The factor w between P_j and
A_j is one number a row; it is applied to the rows of dY:

    A_j = w P_j,    P_j = exp(E_j + r), w = exp(−λ − r), r = safe_shift(−λ)        r is 0 or −λ, w is exp(−λ) or 1

The softmax's backward (foundations F9) needs Σ_n A_n dA_n over all keys. It is known before the first tile, as
δ = rowsum(dY ⊙ Y):

    Σ_n A_n dA_n = Σ_n A_n Σ_d dY_d V_nd = Σ_d dY_d Y_d

The product of dY and V, with one column more, then gives dA − δ without a pass over the tile:

    dV_j += A_jᵀ dY = P_jᵀ (w dY)
    dE_j = A_j ⊙ (dY V_jᵀ − δ) = P_j ⊙ ([w dY, −w δ] [V_j, 1]ᵀ)
    dbias_j += dE_j, summed over the axes it was broadcast on
    dS_j = dE_j ⊙ (1 − tanh²(S_j/c)), or dE_j
    dQ += s dS_j K_j,   dK_j += dS_jᵀ (s Q),   dsinks = −Σ exp(sinks − λ) δ

With `grouped=True` the heads of a group read the same rows of K and V, which are not copied. Their dK and dV are made
for each head and added at the end.

A tile that the mask, the causal order or the window hides as a whole is skipped, forward and backward. So with a window
the time is linear in N too. Weights below 10⁻¹⁹ of the
largest in their row (10⁻¹⁵⁴ in float64) count as 0, see `drop_negligible` of npattn.layers.kernels.

**Threads**  The work is cut into parts, see `split_work`: tiles of queries in forward, tiles of keys in backward. A
part writes its own rows of Y and λ, or of dK and dV. Its shares of dQ and dbias are added in the order of the parts.
The cut does not depend on the number of workers, so the result has the same bits for any number.

`tile` is T; it changes memory and speed, and the result by rounding only. λ and δ are one number for each query.

**Conventions**  The options are those of the core, without dropout.

**Raises**  ValueError for shapes that don't fit, options out of range, a tile or workers below 1, TypeError for dtypes
that differ, a mask that is not boolean and options of another type.

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
from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array, Shapes, check_flag, check_size, document
from npattn._internal.system.underflow import ignore_underflow
from npattn._internal.system.workers import default_workers, in_order
from npattn.attention.dot_product import (
    AXES,
    GROUPED_AXES,
    OPTIONS,
    groups_of,
    sinks_gradient,
    sum_to_shape,
)
from npattn.attention.tiled.tiles import (
    ALL,
    Exponential,
    HeadTiles,
    Order,
    ScoreTiles,
    Scratch,
    add_for_heads,
    exponential,
    largest_norms,
    of_heads,
    order_of,
    slices,
    split_work,
    tile_of,
    weighted_cotangent,
    with_ones,
)
from npattn.layers.kernels import drop_negligible, greatest, row_sum, sqrt_width

SHAPES = Shapes(**AXES, **OPTIONS, tile="T, an integer")
GROUPED = Shapes(**GROUPED_AXES, **OPTIONS, tile="T, an integer")

#: For fewer scores, 2 ms of work, starting threads costs more than they save.
FEW = 1 << 17


class Cache(NamedTuple):
    """What `tiled_attention_backward` needs; the weights are not kept."""

    Q: Array
    K: Array
    V: Array
    Y: Array
    lam: Array           # (…, N_Q, 1)  λ = log Σ exp E of each row, in the unit of exp; +∞ for a row without keys
    mask: Array | None
    bias: Array | None
    sinks: Array | None
    scale: float
    cap: float | None
    order: Order | None
    exp: Exponential
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
    offset: int = 0,
    window: int | None = None,
    sinks: Array | None = None,
    softcap: float | None = None,
    grouped: bool = False,
    tile: int = 512,
    workers: int | None = None,
) -> tuple[Array, Cache]:
    """Return Y and the cache for `tiled_attention_backward`.

    - Q, K, V: queries, keys and values, one a row.
    - mask: boolean, True = may attend; broadcasts to the scores. None: every query may attend to every key.
    - bias: added to the scores, to which it broadcasts; it has a gradient. None for none.
    - scale: multiplies Q Kᵀ; None for 1/√D_Q.
    - causal: True lets query i attend to keys 0 … i + offset alone.
    - offset: the number of keys before the first query; it moves causal order and window.
    - window: W, lets query i attend to the last W of the keys 0 … i + offset alone; None for no window.
    - sinks: the scores of sinks; broadcasts to the batch axes, so (H,) is one for each head. It has a gradient.
    - softcap: c, keeps scores between −c and c; None for no cap.
    - grouped: True lets K and V have H_K heads where Q has H; the last batch axis counts them.
    - tile: T, the rows of a tile.
    - workers: threads, here and in backward, with one BLAS thread each; BLAS is set back at the end. None: one for each
      core if threadpoolctl (the extra `fast`) is installed and the call comes from the main thread; else one, and BLAS
      stays as it is.
    """
    sizes = (GROUPED if check_flag("grouped", grouped) else SHAPES).check(
        Q, K, V, mask=mask, bias=bias, sinks=sinks, scale=scale, causal=causal, offset=offset, window=window,
        softcap=softcap, tile=tile,
    )  # fmt: skip
    s, cap = 1 / sqrt_width(Q) if scale is None else float(scale), None if softcap is None else float(softcap)
    order = order_of(sizes["N_Q"], sizes["N_X"], offset, window) if causal or window is not None else None
    Y = np.empty((*Q.shape[:-1], sizes["D_V"]), Q.dtype)
    lam = np.empty((*Q.shape[:-1], 1), Q.dtype)
    exp = exponential(Q.dtype, bias is not None)
    lam[...] = -np.inf if sinks is None else exp.unit * sinks[..., None, None]   # of no keys
    workers = choose_workers(workers, math.prod(Q.shape[:-1]) * sizes["N_X"])
    cache = Cache(Q, K, V, Y, lam, mask, bias, sinks, s, cap, order, exp, int(tile), workers)
    heads = by_group(cache)
    parts = split_work((*heads.Q.shape[:-1], sizes["N_X"]), -2, cache.tile)
    in_order(parts, functools.partial(_attend, heads, Scratch()), lambda share, _: None, workers)
    return Y, cache


def by_group(cache: Cache) -> Cache:
    """(…, H, …) → (…, H_K, G, …) in each array: views, with the same rows of K and V for the G heads of a group."""
    if cache.Q.shape[:-2] == cache.K.shape[:-2]:
        return cache
    heads = groups_of(cache.Q.shape[-3], cache.K)
    Q, Y, lam, mask, bias = (
        split_axis(array, heads) for array in (cache.Q, cache.Y, cache.lam, cache.mask, cache.bias)
    )
    K, V = (np.broadcast_to(X[..., None, :, :], (*Q.shape[:-2], *X.shape[-2:])) for X in (cache.K, cache.V))
    return cache._replace(Q=Q, K=K, V=V, Y=Y, lam=lam, mask=mask, bias=bias)


def split_axis(array: Any, sizes: tuple[int, int]) -> Any:
    """(…, H, N, D) → (…, H_K, G, N, D); a 1 becomes (1, 1). None and what has no axis H stay."""
    if array is None or array.ndim < 3:
        return array
    *batch, H, N, D = array.shape
    return array.reshape(*batch, *((1, 1) if H == 1 else sizes), N, D)


def choose_workers(workers: int | None, scores: int) -> int:
    """Return the given number of threads, or one that suits so many scores."""
    if workers is None:
        return default_workers() if scores > FEW else 1
    return check_size("workers", workers, least=1)


def tiled_attention_backward(dY: Array, cache: Cache) -> tuple[Any, ...]:
    """Return dQ, dK, dV and dbias (None when there was no bias); with sinks, dsinks is the fifth.

    - dY: the gradient of the loss with respect to Y.
    - cache: what `tiled_attention` returned beside Y.
    """
    SHAPES.check_backward(dY, cache, Cache)
    heads = by_group(cache)
    dY_heads = dY.reshape(heads.Y.shape)
    dQ, dK, dV = (np.zeros(array.shape, array.dtype) for array in (heads.Q, heads.K, heads.V))
    dbias = None if heads.bias is None else np.zeros(heads.bias.shape, heads.bias.dtype)

    def collect(part: HeadTiles, shares: tuple[Array, Array | None]) -> None:
        dQ[part.heads] += shares[0]
        if dbias is not None and shares[1] is not None:
            add_for_heads(dbias, shares[1], part)

    work = functools.partial(_attend_backward, heads, Scratch(), dY_heads, dK, dV)
    in_order(split_work((*heads.Q.shape[:-1], heads.K.shape[-2]), -1, cache.tile), work, collect, cache.workers)
    if heads is not cache:
        dK, dV = dK.sum(-3), dV.sum(-3)                       # the heads of a group add
    dbias = None if dbias is None or cache.bias is None else dbias.reshape(cache.bias.shape)
    gradients = dQ.reshape(cache.Q.shape), dK, dV, dbias
    if cache.sinks is None:
        return gradients
    a = np.exp(cache.sinks[..., None, None] - cache.lam / cache.exp.unit)   # (…, N_Q, 1)  weights of the sinks
    return *gradients, sinks_gradient(a, np.vecdot(cache.Y, dY)[..., None], cache.sinks.shape)


def _attend(cache: Cache, scratch: Scratch, part: HeadTiles) -> None:
    """Fill Y and λ for some tiles of queries."""
    Q, V, Y, lam = (array[part.heads] for array in (cache.Q, cache.V, cache.Y, cache.lam))
    exp, scores = cache.exp, _scores(cache, scratch, part)
    for i in part.tiles:
        Q_i = Q[..., i, :] * (cache.scale * exp.unit)
        (norm,) = largest_norms(Q_i, cache.tile)
        top = lam[..., i, :].real                             # (…, T, 1)  that of the sink, or −∞
        m = exp.safe_shift(top)
        total = exp.function(lam[..., i, :] - m)              # ℓ
        O = np.zeros(Y[..., i, :].shape, Q.dtype)             # (…, T, D_V)
        for j in slices(V.shape[-2], cache.tile):
            scored = scores.tile(Q_i, i, j, norm)
            if scored is None:
                continue
            P, low, is_bounded = scored
            top = np.maximum(top, 0 if is_bounded else greatest(P.real))   # any number within ±BOUND does
            drop_negligible(P, low, top, exp.unit)
            if (raised := exp.safe_shift(top)).any() or m.any():
                P -= raised
                risen = np.minimum(m - raised, 0)             # m rises, except from the 0 of no score
                drop_negligible(risen, risen.min(), unit=exp.unit)
                fade = exp.function(risen)
                total *= fade
                O *= fade
                m = raised
            exp.function(P, out=P)
            total += row_sum(P)
            O += scratch.product(P, V[..., j, :])
        dead = total.real == 0                                # a live row has a P of exp(−BOUND) or more
        total[dead] = 1
        Y[..., i, :] = O / total
        lam[..., i, :] = np.where(dead, np.inf, m + exp.logarithm(total))


def _attend_backward(
    cache: Cache, scratch: Scratch, dY: Array, dK: Array, dV: Array, part: HeadTiles
) -> tuple[Array, Array | None]:
    """Fill dK and dV for some tiles of keys; return the shares of dQ and dbias."""
    K, V, lam, dK, dV = (array[part.heads] for array in (cache.K, cache.V, cache.lam, dK, dV))
    exp, scores = cache.exp, _scores(cache, scratch, part)
    Q = cache.Q[part.heads] * (cache.scale * exp.unit)
    norms = largest_norms(Q, cache.tile)
    r = exp.safe_shift(-lam)
    wdY = weighted_cotangent(dY[part.heads], cache.Y[part.heads], exp.function(-lam - r))  # (…, N_Q, D_V + 1)
    dQ = np.zeros_like(Q)
    dbias = None if scores.bias is None else np.zeros_like(tile_of(scores.bias, ALL, part.span))
    for j in part.tiles:
        K_j, V_1T = K[..., j, :], np.ascontiguousarray(with_ones(V[..., j, :]).mT)
        for i, norm in zip(slices(Q.shape[-2], cache.tile), norms, strict=True):
            scored = scores.tile(Q[..., i, :], i, j, norm)
            if scored is None:
                continue
            P, low, _ = scored
            drop_negligible(P, low, lam[..., i, :].real, exp.unit)   # λ is the maximum at least
            if r[..., i, :].any():
                P += r[..., i, :]
            exp.function(P, out=P)                            # A = w P
            dE = scratch.product(wdY[..., i, :], V_1T, "dE")  # Y = A V
            dE *= P                                           # A = softmax(E)
            dV[..., j, :] += scratch.product(P.mT, wdY[..., i, :-1])                       # Y = A V
            if dbias is not None:
                share = tile_of(dbias, i, slice(j.start - part.span.start, j.stop - part.span.start))
                share += sum_to_shape(dE, share.shape)        # E = … + bias
            scores.capped_back(dE)                            # E = c tanh(S/c) + …
            dQ[..., i, :] += scratch.product(dE, K_j)         # S = (s Q) Kᵀ
            dK[..., j, :] += scratch.product(dE.mT, Q[..., i, :])                          # S = (s Q) Kᵀ
    dQ *= cache.scale
    dK[..., part.span, :] /= exp.unit                         # Q has the unit in it
    return dQ, dbias


def _scores(cache: Cache, scratch: Scratch, part: HeadTiles) -> ScoreTiles:
    mask, bias = (of_heads(array, cache.Q.shape[:-2], part.heads) for array in (cache.mask, cache.bias))
    return ScoreTiles(cache.K[part.heads], mask, bias, cache.order, cache.cap, cache.tile, cache.exp, scratch)


document(SHAPES, tiled_attention, tiled_attention_backward)
tiled_attention = ignore_underflow(tiled_attention)
tiled_attention_backward = ignore_underflow(tiled_attention_backward)
