"""Scaled dot-product attention on queries, keys and values as they are: the common core, with every option.

**Forward**

    E = s Q Kᵀ + bias              s = 1/√D_Q unless `scale` says otherwise
    A = softmax(E)                 over the keys that mask and causal order allow
    Y = A V

**Backward**

    Y = A V                        dA = dY Vᵀ,  dV = Aᵀ dY
    A = softmax(E)                 dE_i = A_i ⊙ (dA_i − A_iᵀ dA_i), row by row
    E = s Q Kᵀ + bias              dQ = s dE K,  dK = s dEᵀ Q,  dbias = dE summed over the axes it was broadcast on

**Shapes**  Q (…, N_Q, D_Q), K (…, N_X, D_Q), V (…, N_X, D_V), Y (…, N_Q, D_V); mask (boolean, True = may attend) and
bias (added to the scores) broadcast to (…, N_Q, N_X). `causal=True` lets query i see keys 0 … i, counted from the
top left also when N_Q ≠ N_X.

**Raises**  ValueError for shapes that don't fit, TypeError for dtypes that differ or a mask that is not boolean.
NaN and ∞ reach every output that depends on them; in a V under the mask as well, for 0 · NaN is NaN. A score of −∞
counts as hidden, be it of the bias or beyond the largest number.

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
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from npattn._scalars import check_flag, check_number
from npattn._shapes import check_cache, check_cotangent, check_mask, dims
from npattn._types import Array
from npattn.layers.linear import sum_rows
from npattn.layers.softmax import softmax, softmax_backward
from npattn.masks import causal_mask


class Cache(NamedTuple):
    """What `scaled_dot_product_attention_backward` needs, the weights `A` among it."""

    Q: Array     # (…, N_Q, D_Q)
    K: Array     # (…, N_X, D_Q)
    V: Array     # (…, N_X, D_V)
    A: Array     # (…, N_Q, N_X)
    scale: float
    bias_shape: tuple[int, ...] | None


def scaled_dot_product_attention(
    Q: Array,
    K: Array,
    V: Array,
    mask: Array | None = None,
    *,
    bias: Array | None = None,
    scale: float | None = None,
    causal: bool = False,
) -> tuple[Array, Cache]:
    """Return Y (…, N_Q, D_V) and the cache for `scaled_dot_product_attention_backward`."""
    sizes = dims(Q=(Q, "... N_Q D_Q"), K=(K, "... N_X D_Q"), V=(V, "... N_X D_V"))
    scores = (*Q.shape[:-1], sizes["N_X"])
    check_mask(mask, scores)
    if check_flag("causal", causal):
        order = causal_mask(sizes["N_Q"], sizes["N_X"])
        mask = order if mask is None else mask & order
    s = check_scale(scale, sizes["D_Q"])
    E = Q @ K.mT * s                                          # (…, N_Q, N_X)
    if bias is not None:
        check_bias(bias, scores, Q.dtype)
        E += bias
    A = softmax(E, mask)                                      # (…, N_Q, N_X)
    return A @ V, Cache(Q, K, V, A, s, None if bias is None else bias.shape)


def scaled_dot_product_attention_backward(dY: Array, cache: Cache) -> tuple[Array, Array, Array, Array | None]:
    """Return dQ, dK, dV and dbias (None when there was no bias)."""
    Q, K, V, A, s, bias_shape = check_cache(cache, Cache)
    check_cotangent("dY", dY, (*Q.shape[:-1], V.shape[-1]), V.dtype)
    dV = A.mT @ dY                                            # Y = A V
    dE = softmax_backward(dY @ V.mT, A)                       # Y = A V, A = softmax(E)
    dbias = None if bias_shape is None else sum_to_shape(dE, bias_shape)   # E = … + bias
    dS = dE * s                                               # E = s S + …, S = Q Kᵀ
    return dS @ K, dS.mT @ Q, dV, dbias


def sum_to_shape(dE: Array, shape: tuple[int, ...]) -> Array:
    """Undo a broadcast from `shape`: sum over the axes that were added or stretched. Never a view of dE."""
    sizes = (1,) * (dE.ndim - len(shape)) + shape
    stretched = [i for i, size in enumerate(sizes) if size != dE.shape[i]]
    kept = [i for i, size in enumerate(sizes) if size == dE.shape[i]]
    n = math.prod(dE.shape[i] for i in stretched)             # how often each number of the bias was used
    return sum_rows(dE.transpose(*stretched, *kept).reshape(n, math.prod(shape))).reshape(shape)


def check_scale(scale: float | None, D_Q: int) -> float:
    """Return 1/√D_Q for None; raise unless any other scale is a number in float32 too."""
    return 1 / math.sqrt(max(D_Q, 1)) if scale is None else check_number("scale", scale, -(2.0**127), 2.0**127)


def check_bias(bias: Array, scores: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    """Raise unless `bias` has the dtype of the scores and broadcasts to them without enlarging them."""
    dims(bias=(bias, "..."))
    if bias.dtype != dtype:
        raise TypeError(f"bias: expected {dtype} like Q, got {bias.dtype}")
    lead = len(scores) - bias.ndim
    if lead < 0 or any(b not in (1, s) for b, s in zip(bias.shape, scores[lead:], strict=True)):
        raise ValueError(
            f"bias: expected a shape that broadcasts to the scores (…, N_Q, N_X) = {scores}, got {bias.shape}"
        )
