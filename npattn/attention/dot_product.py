"""Scaled dot-product attention on queries, keys and values as they are: the common core, with every option.

**Forward**

    S = s Q Kᵀ                     s = 1/√D_Q unless `scale` says otherwise
    C = c tanh(S/c)                c is `softcap`; without it, C is S
    E = C + bias
    A = softmax([E, sinks])        over the keys that mask, causal order and window allow, and the sinks
    Y = (A ⊙ M) V                  M is 0 with the probability p = `dropout`, else 1/(1 − p); without an rng, 1

**Backward**  Line by line, from the last to the first. L is the loss, dY means ∂L/∂Y, and so for every letter:

    Y_id = Σ_n A_in M_in V_nd  dA = (dY Vᵀ) ⊙ M,  dV = (A ⊙ M)ᵀ dY   (foundations F5)
    A = softmax([E, sinks])    dE = A ⊙ (dA − rowsum(A ⊙ dA))        (foundations F9), masks as well
                               dsinks = −Σ_i a_i rowsum(A ⊙ dA)_i, with a the weights of the sinks
    E = C + bias               dC = dE
                               dbias = dE, summed over the axes it was broadcast on (foundations F6)
    C = c tanh(S/c)            dS = dC ⊙ (1 − tanh²(S/c))            (foundations F7)
    S_in = s Σ_d Q_id K_nd     dQ = s dS K,  dK = s dSᵀ Q            (foundations F5)

A bias of one number a key, bias_n, is used by every query, so dbias_n = Σ_i dE_in. `npattn explain foundations` has
these sections.

**Causal order**  `causal=True` lets query i see keys 0 … i, counted from the top left also when N_Q ≠ N_X. With an
`offset` it sees keys 0 … i + offset: N_X − N_Q aligns the order at the bottom right. `window=W` leaves the last W of
these, i + offset − W + 1 … i + offset, whether `causal` is given or not.

**Conventions**  Scores are scaled, then capped, then the bias is added, then the mask hides. Sinks are neither scaled
nor capped; npattn.attention.v11_sliding_window derives their gradient. With `grouped=True` the last batch axis counts
heads, H of queries and H_K of keys and values, and head h reads ⌊h H_K/H⌋, see npattn.attention.v10_grouped_query.
Dropout acts on the weights, as in torch's modules and in GPT-2, so a row of A ⊙ M need not have the sum 1. As in
npattn.layers.dropout, without an rng nothing is dropped. `cache.A` are the weights before.

**Raises**  ValueError for shapes that don't fit and options out of range, TypeError for dtypes that differ, a mask that
is not boolean and options of another type.
NaN and ∞ reach every output that depends on them. A NaN in a masked row of V reaches the output too, because 0 · NaN is
NaN. A score of −∞ counts as hidden, whether it comes from the bias or from an overflow.

**Source**  Vaswani et al. (2017), arXiv:1706.03762, §3.2.1, equation 1.

>>> import numpy as np
>>> Q, K, V = np.array([[0.0], [np.log(3.0)]]), np.array([[0.0], [1.0]]), np.array([[8.0], [4.0]])
>>> Y, cache = scaled_dot_product_attention(Q, K, V)
>>> Y                                                      # weights ½, ½ and ¼, ¾
array([[6.],
       [5.]])
>>> scaled_dot_product_attention(Q, K, V, causal=True)[0]  # the first query sees the first key alone
array([[8.],
       [5.]])
>>> dQ, dK, dV, dbias = scaled_dot_product_attention_backward(np.array([[0.0], [1.0]]), cache)
>>> dV
array([[0.25],
       [0.75]])

A sink with the score ln 4 has the weight 4/8 in the second row, 4/6 in the first. dsinks = −4/8 · (⅛ · 8 + ⅜ · 4).

>>> Y, cache = scaled_dot_product_attention(Q, K, V, sinks=np.array(np.log(4.0)))
>>> Y.round(12)
array([[2. ],
       [2.5]])
>>> *_, dsinks = scaled_dot_product_attention_backward(np.array([[0.0], [1.0]]), cache)
>>> round(float(dsinks), 12)
-1.25
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array, Interval, Shapes, check_flag, check_integer, check_size, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.attention.masks import causal_mask
from npattn.layers.dropout import Cache as DropoutCache
from npattn.layers.dropout import dropout, dropout_backward
from npattn.layers.kernels import sqrt_width, sum_rows
from npattn.layers.soft_cap import CAP, soft_cap, soft_cap_backward
from npattn.layers.soft_cap import Cache as CapCache
from npattn.layers.softmax import softmax, softmax_backward

#: A scale must be a number in float32 too.
SCALE = Interval(-(2.0**127), 2.0**127, optional=True)
SOFTCAP = Interval(CAP.low, CAP.high, optional=True)


def check_window(symbol: str, value: Any) -> None:
    """Raise unless the value is a positive integer or None."""
    if value is not None:
        check_size(symbol, value, least=1)


OPTIONS: dict[str, Any] = {
    "scale": SCALE,
    "causal": check_flag,
    "offset": check_integer,
    "window": check_window,
    "softcap": SOFTCAP,
}
AXES = {
    "Q": "… N_Q D_Q",
    "K": "… N_X D_Q",
    "V": "… N_X D_V",
    "mask": "… N_Q N_X",
    "bias": "… N_Q N_X",
    "sinks": "…",
    "dY": "… N_Q D_V",
}
#: With `grouped=True`: the last batch axis has a size of its own in K and V.
GROUPED_AXES = {name: axes.replace("…", "… H_K" if name in ("K", "V") else "… H") for name, axes in AXES.items()}
SHAPES = Shapes(**AXES, **OPTIONS, dropout=Interval(0, 1))
GROUPED = Shapes(**GROUPED_AXES, **OPTIONS, dropout=Interval(0, 1))


class Cache(NamedTuple):
    """What `scaled_dot_product_attention_backward` needs, the weights `A` among it."""

    Q: Array
    K: Array
    V: Array
    A: Array
    D: Array                  # A ⊙ M: A itself where nothing is dropped
    a: Array | None           # (…, N_Q, 1)  weights of the sinks
    scale: float
    bias_shape: tuple[int, ...] | None
    sinks_shape: tuple[int, ...]
    cap: CapCache | None
    dropout: DropoutCache | None


def scaled_dot_product_attention(
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
    dropout: float = 0.0,
    rng: np.random.Generator | None = None,
) -> tuple[Array, Cache]:
    """Return Y and the cache for `scaled_dot_product_attention_backward`.

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
    - dropout: the probability that a weight is zeroed.
    - rng: draws the weights that are zeroed; None zeroes none.
    """
    (GROUPED if check_flag("grouped", grouped) else SHAPES).check(
        Q, K, V, mask=mask, bias=bias, sinks=sinks, scale=scale, causal=causal, offset=offset, window=window,
        softcap=softcap, dropout=dropout,
    )  # fmt: skip
    s = 1 / sqrt_width(Q) if scale is None else float(scale)
    S = by_query(by_key(Q, K) @ K.mT, Q)                      # (…, N_Q, N_X)
    S *= s
    E, cap = (S, None) if softcap is None else soft_cap(S, softcap)
    if bias is not None:
        E += bias
    seen = in_window(mask, E.shape, offset, window) if causal or window is not None else mask
    A, a = softmax_with_sinks(E, seen, sinks)                 # (…, N_Q, N_X), (…, N_Q, 1)
    D, dropped = drop(A, dropout, rng)                        # (…, N_Q, N_X)
    Y = by_query(by_key(D, K) @ V, Q)                         # (…, N_Q, D_V)
    shapes = None if bias is None else bias.shape, () if sinks is None else sinks.shape
    return Y, Cache(Q, K, V, A, D, a, s, *shapes, cap, dropped)


def scaled_dot_product_attention_backward(dY: Array, cache: Cache) -> tuple[Any, ...]:
    """Return dQ, dK, dV and dbias (None when there was no bias); with sinks, dsinks is the fifth.

    - dY: the gradient of the loss with respect to Y.
    - cache: what `scaled_dot_product_attention` returned beside Y.
    """
    Q, K, V, A, D, a, s, bias_shape, sinks_shape, cap, dropped = SHAPES.check_backward(dY, cache, Cache)
    dY = by_key(dY, K)
    dV = by_key(D, K).mT @ dY                                 # Y = (A ⊙ M) V
    dA = by_query(dY @ V.mT, Q)                               # Y = (A ⊙ M) V
    dA = dA if dropped is None else dropout_backward(dA, dropped)
    dE, dsinks = softmax_with_sinks_back(dA, A, a, sinks_shape)            # A = softmax([E, sinks])
    dbias = None if bias_shape is None else sum_to_shape(dE, bias_shape)   # E = C + bias
    dS = dE if cap is None else soft_cap_backward(dE, cap)    # C = c tanh(S/c)
    dS *= s                                                   # S = s Q Kᵀ: from here on s dS
    dS = by_key(dS, K)
    gradients = by_query(dS @ K, Q), dS.mT @ by_key(Q, K), dV, dbias   # S = s Q Kᵀ
    return gradients if a is None else (*gradients, dsinks)


def by_key(X: Array, K: Array) -> Array:
    """(…, H, N, D) → (…, H_K, G·N, D): the rows of the G heads that share a head of K, one head below the other."""
    if X.shape[:-2] == K.shape[:-2]:
        return X
    *batch, H, N, D = X.shape
    H_K, G = groups_of(H, K)
    return X.reshape(*batch, H_K, G * N, D)


def groups_of(H: int, K: Array) -> tuple[int, int]:
    """Return H_K and G = H/H_K. Raise a ValueError unless H_K divides H."""
    H_K = K.shape[-3]
    if H_K == 0 or H % H_K:
        raise ValueError(f"K: expected H_K to divide H={H}, got H_K={H_K}")
    return H_K, H // H_K


def by_query(X: Array, Q: Array) -> Array:
    """(…, H_K, G·N, D) → (…, H, N, D): the inverse of `by_key`."""
    return X if X.shape[:-1] == Q.shape[:-1] else X.reshape(*Q.shape[:-1], X.shape[-1])


def in_window(mask: Array | None, scores: tuple[int, ...], offset: int | None, window: int | None) -> Array:
    """Return the mask that also hides what follows key i + offset, and what is W or more before it.

    An offset of None is N_X − N_Q: the queries are the last positions.
    """
    N_Q, N_X = scores[-2:]
    last = N_X - N_Q if offset is None else int(offset)
    seen = causal_mask(N_Q, N_X, last)
    if window is not None:
        seen ^= causal_mask(N_Q, N_X, max(last - int(window), -N_Q))       # False for the keys up to i + offset − W
    return seen if mask is None else mask & seen


def drop(A: Array, p: float, rng: np.random.Generator | None) -> tuple[Array, DropoutCache | None]:
    """Return A ⊙ M and the cache of dropout; A itself and None without an rng."""
    return (A, None) if rng is None else dropout(A, p, rng)


def softmax_with_sinks(E: Array, mask: Array | None, sinks: Array | None) -> tuple[Array, Array | None]:
    """Return A (…, N_Q, N_X) and the weights of the sinks (…, N_Q, 1), None for no sinks."""
    if sinks is None:
        return softmax(E, mask), None
    if mask is not None:
        E = np.where(mask, E, -np.inf)
    column = np.broadcast_to(sinks[..., None, None], (*E.shape[:-1], 1))
    A = softmax(np.concatenate([E, column], -1))
    return A[..., :-1], A[..., -1:]


def softmax_with_sinks_back(
    dA: Array, A: Array, a: Array | None, shape: tuple[int, ...]
) -> tuple[Array, Array | None]:
    """Return dE and dsinks of this shape; None for no sinks."""
    dE = softmax_backward(dA, A)
    return dE, None if a is None else sinks_gradient(a, np.vecdot(A, dA)[..., None], shape)


def sinks_gradient(a: Array, delta: Array, shape: tuple[int, ...]) -> Array:
    """dsinks = −Σ a δ, over the rows and over the batch axes that it was broadcast on; a and δ are (…, N_Q, 1)."""
    return sum_to_shape(-a * delta, (*shape, 1, 1)).reshape(shape)


def sum_to_shape(dE: Array, shape: tuple[int, ...]) -> Array:
    """Undo a broadcast from `shape`: sum over the axes that were added or stretched. Never a view of dE."""
    sizes = (1,) * (dE.ndim - len(shape)) + shape
    stretched = [i for i, size in enumerate(sizes) if size != dE.shape[i]]
    kept = [i for i, size in enumerate(sizes) if size == dE.shape[i]]
    n = math.prod(dE.shape[i] for i in stretched)             # how often each number of the bias was used
    return sum_rows(dE.transpose(*stretched, *kept).reshape(n, math.prod(shape))).reshape(shape)


document(SHAPES, scaled_dot_product_attention, scaled_dot_product_attention_backward)
scaled_dot_product_attention = ignore_underflow(scaled_dot_product_attention)
scaled_dot_product_attention_backward = ignore_underflow(scaled_dot_product_attention_backward)
