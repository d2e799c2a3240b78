"""Multi-head attention with more options: dropout on its weights, a bias on its scores, another scale.

The Transformer trains with it when `attention_dropout` is not 0, and T5 has the bias and the scale.

**Forward**

    Q, K, V                        as in version 7: projections of X_Q and X, split into heads
    E = s Q Kᵀ + B                 s = 1/√D_Q unless `scale` says otherwise; B has a number for each head, query and key
    Y = (A ⊙ M) V                  A = softmax(E) as there; M is 0 with the probability p, else 1/(1 − p)
    Z = merge(Y) W_O + b_O

Each head, query and key has a random number of its own. So a row of A ⊙ M need not have the sum 1.

**Backward**  Three known backwards, one after another. `npattn.attention.v7_multi_head` derives those of projections
and heads, `npattn.attention.dot_product` those of B and of what the factors M change between dY and dQ, dK and dV. Keys
and values are projections of one X, so its two gradients add (foundations F4).

**Source**  The paper has none. The code of its authors, tensor2tensor, has it as `attention_dropout`, and PyTorch as
`dropout` of nn.MultiheadAttention.

The first weight is dropped here and the second doubled: ½ · 2 · 4.

>>> import numpy as np
>>> X, zero, one, none = np.array([[8.0], [4.0]]), np.zeros((1, 1)), np.ones((1, 1)), [None] * 4
>>> options = {"n_heads": 1, "mask": None, "p": 0.5, "rng": np.random.default_rng(1)}
>>> Z, cache = forward(X[:1], X, zero, zero, one, one, *none, **options)
>>> Z
array([[4.]])
>>> dX_Q, dX, *_ = backward(np.array([[3.0]]), cache)
>>> dX
array([[0.],
       [3.]])
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array
from npattn.attention.dot_product import scaled_dot_product_attention, scaled_dot_product_attention_backward
from npattn.attention.v7_multi_head import merge_heads, split_heads
from npattn.layers.linear import linear, linear_backward


class Cache(NamedTuple):
    """What `backward` needs: the cache of each part."""

    Q: Any
    K: Any
    V: Any
    Y: Any
    Z: Any
    n_heads: int


def forward(
    X_Q: Array,
    X: Array,
    W_Q: Array,
    W_K: Array,
    W_V: Array,
    W_O: Array,
    b_Q: Array | None,
    b_K: Array | None,
    b_V: Array | None,
    b_O: Array | None,
    *,
    n_heads: int,
    mask: Array | None,
    bias: Array | None = None,
    scale: float | None = None,
    p: float = 0.0,
    rng: np.random.Generator | None = None,
) -> tuple[Array, Cache]:
    """Return Z and the cache for `backward`.

    - X_Q … mask: as in version 7.
    - bias: B, added to the scores, to which it broadcasts; None for none.
    - scale: s; None for 1/√D_Q.
    - p: the probability that a weight is zeroed, 0 ≤ p < 1.
    - rng: draws the weights that are zeroed; None drops nothing.
    """
    Q, c_Q = linear(X_Q, W_Q, b_Q)                            # (…, N_Q, H·D_Q)
    K, c_K = linear(X, W_K, b_K)                              # (…, N_X, H·D_Q)
    V, c_V = linear(X, W_V, b_V)                              # (…, N_X, H·D_V)
    Q, K, V = (split_heads(each, n_heads) for each in (Q, K, V))           # (…, H, N, D)
    Y, c_Y = scaled_dot_product_attention(Q, K, V, mask, bias=bias, scale=scale, dropout=p, rng=rng)
    Z, c_Z = linear(merge_heads(Y), W_O, b_O)                 # (…, N_Q, D_Z)
    return Z, Cache(c_Q, c_K, c_V, c_Y, c_Z, n_heads)


def backward(dZ: Array, cache: Cache) -> tuple[Array | None, ...]:
    """Return dX_Q, dX, dW_Q, dW_K, dW_V, dW_O, db_Q, db_K, db_V, db_O; None for a bias that was None.

    With a bias of the scores, its gradient comes last.

    - dZ: the gradient of the loss with respect to Z.
    - cache: what `forward` returned beside Z.
    """
    c_Q, c_K, c_V, c_Y, c_Z, n_heads = cache
    dY, dW_O, db_O = linear_backward(dZ, c_Z)                 # Z = merge(Y) W_O + b_O
    dQ, dK, dV, dbias = scaled_dot_product_attention_backward(split_heads(dY, n_heads), c_Y)   # Y = (A ⊙ M) V
    dX_Q, dW_Q, db_Q = linear_backward(merge_heads(dQ), c_Q)  # Q = split(X_Q W_Q + b_Q)
    dX_K, dW_K, db_K = linear_backward(merge_heads(dK), c_K)  # K = split(X W_K + b_K)
    dX_V, dW_V, db_V = linear_backward(merge_heads(dV), c_V)  # V = split(X W_V + b_V)
    dX = dX_K + dX_V                                          # X is used twice, so add
    gradients = dX_Q, dX, dW_Q, dW_K, dW_V, dW_O, db_Q, db_K, db_V, db_O
    return gradients if dbias is None else (*gradients, dbias)
