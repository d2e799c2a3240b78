"""Scaled dot-product attention on queries, keys and values as they are: the common core, with every option.

**Forward**

    E = s Q Kᵀ + bias              s = 1/√D_Q unless `scale` says otherwise
    A = softmax(E)                 over the keys that mask and causal order allow
    Y = A V

**Backward**

    Y = A V                        dA = dY Vᵀ,  dV = Aᵀ dY
    A = softmax(E)                 dE = A ⊙ (dA − rowsum(A ⊙ dA))
    E = s Q Kᵀ + bias              dQ = s dE K,  dK = s dEᵀ Q,  dbias = dE summed over the axes it was broadcast on

**Causal order**  `causal=True` lets query i see keys 0 … i, counted from the top left also when N_Q ≠ N_X.

**Raises**  ValueError for shapes that don't fit, TypeError for dtypes that differ or a mask that is not boolean.
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
"""

from __future__ import annotations

import math
from typing import NamedTuple

from npattn._internal.checks import Array, Interval, Shapes, check_flag, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.attention.masks import causal_mask
from npattn.layers.kernels import sqrt_width, sum_rows
from npattn.layers.softmax import softmax, softmax_backward

#: A scale must be a number in float32 too.
SCALE = Interval(-(2.0**127), 2.0**127, optional=True)

SHAPES = Shapes(
    Q="… N_Q D_Q",
    K="… N_X D_Q",
    V="… N_X D_V",
    mask="… N_Q N_X",
    bias="… N_Q N_X",
    scale=SCALE,
    causal=check_flag,
    dY="… N_Q D_V",
)


class Cache(NamedTuple):
    """What `scaled_dot_product_attention_backward` needs, the weights `A` among it."""

    Q: Array
    K: Array
    V: Array
    A: Array
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
    """Return Y and the cache for `scaled_dot_product_attention_backward`.

    - Q, K, V: queries, keys and values, one a row.
    - mask: boolean, True = may attend; broadcasts to the scores. None: every query may attend to every key.
    - bias: added to the scores, to which it broadcasts; it has a gradient. None for none.
    - scale: multiplies Q Kᵀ; None for 1/√D_Q.
    - causal: True lets query i attend to keys 0 … i alone.
    """
    SHAPES.check(Q, K, V, mask=mask, bias=bias, scale=scale, causal=causal)
    s = 1 / sqrt_width(Q) if scale is None else float(scale)
    E = Q @ K.mT * s                                          # (…, N_Q, N_X)
    if bias is not None:
        E += bias
    A = softmax(E, with_causal_order(mask, E.shape) if causal else mask)                   # (…, N_Q, N_X)
    return A @ V, Cache(Q, K, V, A, s, None if bias is None else bias.shape)


def scaled_dot_product_attention_backward(dY: Array, cache: Cache) -> tuple[Array, Array, Array, Array | None]:
    """Return dQ, dK, dV and dbias (None when there was no bias).

    - dY: the gradient of the loss with respect to Y.
    - cache: what `scaled_dot_product_attention` returned beside Y.
    """
    Q, K, V, A, s, bias_shape = SHAPES.check_backward(dY, cache, Cache)
    dV = A.mT @ dY                                            # Y = A V
    dE = softmax_backward(dY @ V.mT, A)                       # Y = A V, A = softmax(E)
    dbias = None if bias_shape is None else sum_to_shape(dE, bias_shape)   # E = … + bias
    dS = dE * s                                               # E = s S + …, S = Q Kᵀ
    return dS @ K, dS.mT @ Q, dV, dbias


def with_causal_order(mask: Array | None, scores: tuple[int, ...]) -> Array:
    """Return the mask that also hides what follows a query."""
    order = causal_mask(*scores[-2:])
    return order if mask is None else mask & order


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
