"""A mixture of experts: a router chooses a few of E gated feed-forward networks for each row, and adds what they give.

The router is `linear`, then `route`; `mixture_of_experts` does the rest. An expert that all rows share is a layer of
its own beside them, added to Y.

**Forward**  For each row, k of E experts are chosen, by their scores s_e:

    s = softmax(ℓ)   or   σ(ℓ)                ℓ are the logits of the router
    chosen: the k largest s_e + b_e           b is `correction`: it changes the choice alone
    w_e = c s_e   or   c s_e / Σ_chosen s     `renormalise`; c is `scale`
    y = Σ_chosen w_e f_e(x),   f_e(x) = swiglu(x W_1e + b_1e) W_2e + b_2e

**Backward**  The choice is constant around ℓ; it has no gradient, and neither has b. With ds_e = 0 for what is not
chosen, and δ = Σ_chosen w_e dw_e / c:

    ds_e = c dw_e,   or   c (dw_e − δ) / Σ_chosen s        the quotient rule, as in softmax (foundations F9)
    dℓ = s ⊙ (ds − rowsum(s ⊙ ds))   or   ds ⊙ s ⊙ (1 − s)
    dw_e = f_e(x)·dy,   df_e(x) = w_e dy                   and back through each expert; dx adds over them

Softmax, not renormalised, gives every logit a gradient: what is not chosen is in the denominator.

**Conventions**  Renormalised softmax of all scores is the softmax of the chosen logits alone: `score="softmax"` is the
router of gpt-oss, which takes the softmax after the choice, and of Mixtral and Qwen3-Next, which divide by the sum.

`score="sigmoid"` with `correction`, groups and `scale` is that of DeepSeek-V3. The experts stand in `n_groups` groups
of neighbours; a group's score is the sum of its two largest s_e + b_e, and experts of the best `n_chosen_groups` can be
chosen. DeepSeek-V2, whose softmax has no bias, takes the largest alone: that is not here.

Where scores are equal, the lower id is chosen first. Weights come in the order of the choice, the largest first.

**Raises**  ValueError for shapes that don't fit, more experts or groups to choose than there are, groups that do not
divide the experts, an odd width of W_1 and a dY of another shape than Y, TypeError for dtypes that differ and for what
is no integer, IndexError for an id below 0 or beyond the last expert.

**Source**  Shazeer et al. (2017), arXiv:1701.06538; DeepSeek-AI (2024), arXiv:2412.19437, §2.1.2, for sigmoid scores.

By hand: softmax of [ln 4, ln 3, 0] is ½, ⅜, ⅛. The best two have ½ and ⅜, renormalised 4/7 and 3/7.

>>> import numpy as np
>>> logits = np.array([[np.log(4), np.log(3), 0.0]])
>>> weights, cache = route(logits, 2, renormalise=False)
>>> weights.round(12), cache.ids
(array([[0.5  , 0.375]]), array([[0, 1]]))
>>> route_backward(np.array([[8.0, 0.0]]), cache).round(12)    # s ⊙ (ds − 4), and the last has a gradient too
array([[ 2. , -1.5, -0.5]])
>>> weights, cache = route(logits, 2)
>>> (7 * weights).round(12)
array([[4., 3.]])
>>> route_backward(np.array([[49.0, 0.0]]), cache).round(12) + 0.0    # 4/7 (49 − 28), 3/7 (0 − 28)
array([[ 12., -12.,   0.]])

A correction of 1 makes the last one be chosen. Its weight is its score: σ(0) = ½.

>>> weights, cache = route(logits, 1, score="sigmoid", renormalise=False, correction=np.array([0.0, 0.0, 1.0]))
>>> weights, cache.ids
(array([[0.5]]), array([[2]]))

Two experts, of which x W_1 = [g, u] with g = ln 3 gives 3 ln 3 in the first and 6 ln 3 in the second, see
npattn.layers.gated_feed_forward.

>>> W_1, W_2 = np.array([[[np.log(3), 4.0]], [[np.log(3), 8.0]]]), np.ones((2, 1, 1))
>>> Y, cache = mixture_of_experts(np.ones((1, 1)), np.array([[1.0, 0.5]]), W_1, W_2, ids=np.array([[1, 0]]))
>>> (Y / np.log(3)).round(12)                              # 1 · 6 + ½ · 3
array([[7.5]])
>>> dX, dweights, dW_1, dW_2, *_ = mixture_of_experts_backward(np.ones((1, 1)), cache)
>>> (dweights / np.log(3)).round(12)
array([[6., 3.]])
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import (
    Array,
    Interval,
    Shapes,
    check_choice,
    check_flag,
    check_floating,
    check_size,
    document,
)
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.gated_feed_forward import SwigluCache, swiglu, swiglu_backward
from npattn.layers.kernels import row_sum
from npattn.layers.silu import sigmoid
from npattn.layers.softmax import softmax, softmax_backward


def check_correction(symbol: str, value: Any) -> None:
    """Raise unless the value is a floating array with one axis, or None."""
    if value is not None and check_floating(symbol, value).ndim != 1:
        raise ValueError(f"{symbol}: expected (E,), got {value.shape}")


ROUTE = Shapes(
    logits="… E", s="… k", dY="… k", scale=Interval(2.0**-126, 2.0**127), renormalise=check_flag,
    score=partial(check_choice, choices=("softmax", "sigmoid")), correction=check_correction,
)  # fmt: skip
SHAPES = Shapes(
    X="… D", weights="… k", W_1="E D 2F", W_2="E F D_Y", b_1="E 2F or None", b_2="E D_Y or None", ids="… k < E",
    dY="… D_Y",
)  # fmt: skip


class RouteCache(NamedTuple):
    """What `route_backward` needs, and the `ids` of the chosen experts, which `mixture_of_experts` takes."""

    ids: Array   # (…, k)
    S: Array     # (…, E)  the scores of all experts
    s: Array     # (…, k)  the weights without their factor
    total: Array # (…, 1)
    score: str
    renormalise: bool
    scale: float


class Cache(NamedTuple):
    """What `mixture_of_experts_backward` needs."""

    X: Array
    weights: Array
    W_1: Array
    W_2: Array
    b_1: Array | None
    b_2: Array | None
    Y: Array  # (…, k, D_Y)  what each chosen expert gives
    used: list[tuple[int, Array, Array, SwigluCache]]  # id, which of the … · k choices, swiglu(…) and its cache


def route(
    logits: Array, n_chosen: int, *, score: str = "softmax", renormalise: bool = True, scale: float = 1.0,
    correction: Array | None = None, n_groups: int = 1, n_chosen_groups: int | None = None,
) -> tuple[Array, RouteCache]:  # fmt: skip
    """Return the weights of the chosen experts, (…, k), and the cache for `route_backward` with their ids.

    - logits: what the router gives, one number for each of E experts.
    - n_chosen: k, how many are chosen for each row.
    - score: "softmax" or "sigmoid".
    - renormalise: True divides by the sum of the chosen scores.
    - scale: c, a factor of the weights.
    - correction: b (E,), added to the scores for the choice alone, in any dtype; None for none. It has no gradient.
    - n_groups: the number of groups; 1 for none.
    - n_chosen_groups: from how many of them experts can be chosen; None for all.
    """
    E = ROUTE.check(logits, score=score, renormalise=renormalise, scale=scale, correction=correction)["E"]
    counts = counts_of(E, correction, n_chosen, n_groups, n_chosen_groups)
    S = softmax(logits) if score == "softmax" else sigmoid(logits)
    scores = S.real if correction is None else S.real + correction
    ids = choice(scores, *counts)                             # (…, k)
    is_quotient, scale = renormalise and score == "sigmoid", float(scale)
    if renormalise and score == "softmax":
        S = softmax(logits, among(ids, True, E))        # the same, without a quotient
    s = np.take_along_axis(S, ids, -1)                        # (…, k)
    total = row_sum(s) if is_quotient else np.ones_like(s[..., :1])                 # (…, 1)
    total[total.real == 0] = 1                                # 0 / 1
    total[np.isnan(scores).any(-1)] = np.nan                  # the choice means nothing
    s = s / total
    return scale * s, RouteCache(ids, S, s, total, str(score), is_quotient, scale)


def route_backward(dY: Array, cache: RouteCache) -> Array:
    """Return dlogits.

    - dY: the gradient of the loss with respect to the weights.
    - cache: what `route` returned beside them.
    """
    ids, S, s, total, score, is_quotient, scale = ROUTE.check_backward(dY, cache, RouteCache)
    ds = scale * dY                                           # w = c s
    if is_quotient:
        ds = (ds - np.vecdot(s, ds)[..., None]) / total       # s = s / Σ s
    dS = among(ids, ds, S.shape[-1])                          # the others have no gradient here
    return softmax_backward(dS, S) if score == "softmax" else dS * S * (1 - S)      # S = softmax(ℓ) or σ(ℓ)


def mixture_of_experts(
    X: Array, weights: Array, W_1: Array, W_2: Array, b_1: Array | None = None, b_2: Array | None = None, *,
    ids: Array, **options: Any,
) -> tuple[Array, Cache]:  # fmt: skip
    """Return the weighted sum of what the chosen experts give, (…, D_Y), and the cache for its backward.

    - X: rows.
    - weights: those of the chosen experts of each row.
    - W_1: for each expert, both projections to its width F, side by side.
    - W_2: for each expert, the projection back.
    - b_1: the biases beside W_1; None for none.
    - b_2: the biases beside W_2; None for none.
    - ids: the chosen experts of each row, `ids` of the cache of `route`.
    - options: those of `swiglu`, by name.
    """
    fitting(SHAPES.check(X, weights, W_1, W_2, b_1, b_2, ids=ids))
    Y, used = np.empty((*ids.shape, W_2.shape[-1]), X.dtype), []
    to, rows, k = as_matrix(Y), as_matrix(X), ids.shape[-1]
    for e in np.unique(ids):
        at = np.flatnonzero(ids == e)                         # which of the … · k choices
        H = rows[at // k] @ W_1[e] + (0 if b_1 is None else b_1[e])
        G, of_swiglu = swiglu(H, **options)
        to[at] = G @ W_2[e] + (0 if b_2 is None else b_2[e])
        used.append((int(e), at, G, of_swiglu))
    return (weights[..., None] * Y).sum(-2), Cache(X, weights, W_1, W_2, b_1, b_2, Y, used)


def mixture_of_experts_backward(dY: Array, cache: Cache) -> tuple[Array | None, ...]:
    """Return dX, dweights, dW_1, dW_2, db_1, db_2; the last two are None without biases.

    - dY: the gradient of the loss with respect to the sum.
    - cache: what `mixture_of_experts` returned beside it.
    """
    X, weights, W_1, W_2, b_1, b_2, Y, used = SHAPES.check_backward(dY, cache, Cache)
    dweights = np.vecdot(Y, dY[..., None, :])                 # y = Σ w f(x)
    dF = as_matrix(weights[..., None] * dY[..., None, :])     # y = Σ w f(x), a row a choice
    rows, k = as_matrix(X), weights.shape[-1]
    dX = np.empty((len(dF), X.shape[-1]), X.dtype)            # of each choice
    dW_1, dW_2 = np.zeros_like(W_1), np.zeros_like(W_2)
    db_1, db_2 = (None if b is None else np.zeros_like(b) for b in (b_1, b_2))
    for e, at, G, of_swiglu in used:
        dH = swiglu_backward(dF[at] @ W_2[e].T, of_swiglu)    # f = G W_2 + b_2
        dX[at] = dH @ W_1[e].T                                # H = x W_1 + b_1
        dW_1[e], dW_2[e] = rows[at // k].T @ dH, G.T @ dF[at]
        if db_1 is not None:
            db_1[e] = dH.sum(0)
        if db_2 is not None:
            db_2[e] = dF[at].sum(0)
    return dX.reshape(*weights.shape, X.shape[-1]).sum(-2), dweights, dW_1, dW_2, db_1, db_2


def counts_of(E: int, correction: Array | None, n_chosen: int, n_groups: int, kept: int | None) -> tuple[int, int, int]:
    """Return n_chosen, n_groups and the number of groups that are kept. Raise unless they fit E experts."""
    k, n_groups = check_size("n_chosen", n_chosen, least=1), check_size("n_groups", n_groups, least=1)
    kept = n_groups if kept is None else check_size("n_chosen_groups", kept, least=1)
    if E % n_groups or kept > n_groups or k * n_groups > E * kept:
        wanted = f"n_groups={n_groups} to divide E={E}, and n_chosen={k} experts in n_chosen_groups={kept} of them"
        raise ValueError(f"logits: expected {wanted}")
    if correction is not None and len(correction) != E:
        raise ValueError(f"correction: expected (E={E},), got {correction.shape}")
    return k, n_groups, kept


def fitting(sizes: Mapping[str, int]) -> None:
    """Raise a ValueError unless W_1 is twice as wide as W_2 is high."""
    if sizes["2F"] != 2 * sizes["F"]:
        raise ValueError(f"W_2: expected F={sizes['2F'] / 2:g}, half the width of W_1, got {sizes['F']}")


def choice(scores: Array, k: int, n_groups: int, n_chosen_groups: int) -> Array:
    """Return the ids of the k largest scores in the best groups, (…, k)."""
    grouped = scores.reshape(*scores.shape[:-1], n_groups, scores.shape[-1] // n_groups)
    best = largest(np.sort(grouped)[..., -2:].sum(-1), n_chosen_groups)
    seen = among(best, True, n_groups)[..., None]
    return largest(np.where(seen, grouped, -np.inf).reshape(scores.shape), k)


def largest(scores: Array, k: int) -> Array:
    """Return the ids of the k largest scores, (…, k); of equal ones the lower id first."""
    return np.argsort(-scores, stable=True)[..., :k]


def as_matrix(X: Array) -> Array:
    """(…, D) → (N, D), a view where it can be one; D may be 0."""
    return X.reshape(math.prod(X.shape[:-1]), X.shape[-1])


def among(ids: Array, values: Array | bool, n: int) -> Array:
    """Return (…, n) with the values, (…, k) or one for all, at their ids, and 0 elsewhere."""
    placed = np.zeros((*ids.shape[:-1], n), np.asarray(values).dtype)
    np.put_along_axis(placed, ids, values, -1)
    return placed


document(ROUTE, route, route_backward)
document(SHAPES, mixture_of_experts, mixture_of_experts_backward)
route, route_backward = ignore_underflow(route), ignore_underflow(route_backward)
mixture_of_experts = ignore_underflow(mixture_of_experts)
mixture_of_experts_backward = ignore_underflow(mixture_of_experts_backward)
