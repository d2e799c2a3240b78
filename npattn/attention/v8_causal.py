"""Version 8, causal self-attention with a past: no query sees what comes after it, and keys and values are kept.

**Forward**

    Q = split(X W_Q)               queries of the N_Q new positions, in H heads of width D_Q
    K = [K_past; split(X W_K)]     keys of all N_X = P + N_Q positions: those of the past, then the new ones
    V = [V_past; split(X W_V)]     values, likewise
    E = s Q Kᵀ                     s = 1/√D_Q unless `scale` says otherwise
    A = softmax(E)                 over the keys n ≤ i + P: those of the past, and the new ones up to the query's own
    Y = A V                        each row a weighted mean of the values, one for each head
    Z = merge(Y) W_O               heads side by side again, mixed by the output projection

The cache holds the grown K and V. Handed in as K_past and V_past, they let the next call begin where this one ended:
a sequence in pieces, down to one row at a time, gives what it gives at once.

**Backward**  Line by line, from the last to the first. L is the loss, dZ means ∂L/∂Z, and so for every letter:

    Z = merge(Y) W_O               dW_O = merge(Y)ᵀ dZ,  dY = split(dZ W_Oᵀ)
    Y_id = Σ_n A_in V_nd           dA_in = Σ_d dY_id V_nd,  dV_nd = Σ_i A_in dY_id    dA = dY Vᵀ,  dV = Aᵀ dY
    A = softmax(E)                 dE = A ⊙ (dA − rowsum(A ⊙ dA))                     see npattn.layers.softmax
    E_in = s Σ_d Q_id K_nd         dQ_id = s Σ_n dE_in K_nd                           dQ = s dE K
                                   dK_nd = s Σ_i dE_in Q_id                           dK = s dEᵀ Q
    V = [V_past; split(X W_V)]     the first P rows of dV are dV_past, the others are split(X W_V)'s, and so for K
                                   dW_V = Xᵀ merge(dV),  dX = merge(dV) W_Vᵀ
                                   dW_K = Xᵀ merge(dK),  dX += merge(dK) W_Kᵀ
    Q = split(X W_Q)               dW_Q = Xᵀ merge(dQ),  dX += merge(dQ) W_Qᵀ: X is used three times

Each rule is derived in `npattn explain foundations`: gradients that add (foundations F4), indices as matrices
(foundations F5), linear layers (foundations F6), softmax (foundations F9), split and merge (foundations F14). Over a
batch, every dW is a sum.

K and V are outputs too, where a later piece reads them. Its dK_past and dV_past are given to `backward` of the earlier
piece as dK and dV, and add to the gradients there. Without that, the gradients of the pieces miss every term in which
a later query reads an earlier key.

**Changed**  Four things; the comments in `forward` mark them.

1. The order: the sequence mask is part of the layer. The queries are the last N_Q of the N_X positions, so query i sees
   keys 0 … i + P.
2. The past: K and V of earlier positions are handed in, and the new rows stand below them.
3. One X again, because queries and keys are those of one sequence, and no biases, as in most models of today.
4. The scale is an argument.

**Conventions**  Query i sees keys 0 … i + `offset`. Here `offset` is P unless it is given, which aligns the mask at the
bottom right: flash-attn does the same from version 2.1 on. torch's `is_causal=True` is offset 0, aligned at the top
left. With a past that hides the newest keys from their own queries. Without a past the two are the same.

**Raises**  ValueError for shapes that don't fit, widths that n_heads does not divide and a past of which one half is
missing, TypeError for dtypes that differ or a mask that is not boolean.

**Source**  Vaswani et al. (2017), arXiv:1706.03762, §3.2.3, for the order; Radford et al., "Language Models are
Unsupervised Multitask Learners" (2019), for a model of such layers alone. Code that decodes has long kept keys and
values; Shazeer (2019), arXiv:1911.02150, §2.4, analyses it.

By hand: one head of width 1. The first row sees itself alone and gets 8. The second asks ln 3, finds keys 0 and 1 and
gets (1·8 + 3·4)/4. Backward, dZ asks for the second row alone: dA = [8, 4], rowsum(A ⊙ dA) = 5, dE = [¾, −¾].

>>> import numpy as np
>>> X, W_O = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0]])
>>> W_Q, W_K, W_V = np.array([[7.0], [np.log(3)]]), np.array([[0.0], [1.0]]), np.array([[8.0], [4.0]])
>>> Z, cache = forward(X, W_Q, W_K, W_V, W_O, n_heads=1)
>>> Z
array([[8.],
       [5.]])
>>> cache.A
array([[[1.  , 0.  ],
        [0.25, 0.75]]])
>>> dX, dW_Q, dW_K, dW_V, dW_O, dK_past, dV_past = backward(np.array([[0.0], [1.0]]), cache)
>>> dW_V                                                   # Xᵀ merge(dV), dV = Aᵀ dY
array([[0.25],
       [0.75]])

The same in two pieces of one row. The gradients of the past go into the first piece, and dW_V is the sum of both.

>>> _, first = forward(X[:1], W_Q, W_K, W_V, W_O, n_heads=1)
>>> Z, second = forward(X[1:], W_Q, W_K, W_V, W_O, first.K, first.V, n_heads=1)
>>> Z, second.A
(array([[5.]]), array([[[0.25, 0.75]]]))
>>> *_, dW_V_second, _, dK_past, dV_past = backward(np.array([[1.0]]), second)
>>> dW_V_second, dK_past.round(3), dV_past                 # dK_past = ¾ ln 3
(array([[0.  ],
       [0.75]]), array([[[0.824]]]), array([[[0.25]]]))
>>> *_, dW_V_first, _, _, _ = backward(np.array([[0.0]]), first, dK_past, dV_past)
>>> dW_V_first + dW_V_second
array([[0.25],
       [0.75]])
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array, Shapes, check_cotangent, check_integer, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.attention.dot_product import SCALE
from npattn.attention.masks import causal_mask
from npattn.attention.v7_multi_head import merge_heads, split_heads
from npattn.layers.kernels import project, sqrt_width, weight_gradient
from npattn.layers.softmax import softmax, softmax_backward


def check_offset(symbol: str, value: Any) -> None:
    """Raise unless the value is an integer or None."""
    if value is not None:
        check_integer(symbol, value)


SHAPES = Shapes(
    X="… N_Q D_X",
    W_Q="D_X H·D_Q",
    W_K="D_X H·D_Q",
    W_V="D_X H·D_V",
    W_O="H·D_V D_Z",
    K_past="… H P D_Q or None",
    V_past="… H P D_V or None",
    n_heads="H, an integer",
    scale=SCALE,
    offset=check_offset,
    mask="… H N_Q P+N_Q",
    dZ="… N_Q D_Z",
    dK="… H P+N_Q D_Q or None",
    dV="… H P+N_Q D_V or None",
)


class Cache(NamedTuple):
    """What `backward` needs, the weights `A` among it, and the grown `K` and `V`."""

    X: Array
    W_Q: Array
    W_K: Array
    W_V: Array
    W_O: Array
    Q: Array
    K: Array
    V: Array
    A: Array
    Y: Array  # merged
    s: float
    has_past: bool


def forward(
    X: Array,
    W_Q: Array,
    W_K: Array,
    W_V: Array,
    W_O: Array,
    K_past: Array | None = None,
    V_past: Array | None = None,
    *,
    n_heads: int,
    scale: float | None = None,
    offset: int | None = None,
    mask: Array | None = None,
) -> tuple[Array, Cache]:
    """Return Z and the cache for `backward`; see the module for the formula.

    - X: the new inputs, one a row.
    - W_Q: projects X to the queries of all heads, side by side.
    - W_K: projects X to the keys of all heads.
    - W_V: projects X to the values of all heads.
    - W_O: projects the merged heads to the output.
    - K_past: the keys of the P positions before X, the `K` of an earlier cache; None for none.
    - V_past: the values of these positions, its `V`.
    - n_heads: H, the number of heads. It divides the widths H·D_Q and H·D_V.
    - scale: multiplies Q Kᵀ; None for 1/√D_Q.
    - offset: query i may attend to keys 0 … i + offset; None for P.
    - mask: boolean, True = may attend; broadcasts to the scores. None: every query may attend to all that is before it.
    """
    SHAPES.check(X, W_Q, W_K, W_V, W_O, K_past, V_past, n_heads=n_heads, scale=scale, offset=offset, mask=mask)
    Q = split_heads(project(X, W_Q), n_heads)                 # (…, H, N_Q, D_Q)  3 one X, no biases
    K = split_heads(project(X, W_K), n_heads)                 # (…, H, N_Q, D_Q)  3
    V = split_heads(project(X, W_V), n_heads)                 # (…, H, N_Q, D_V)  3
    K, V = after(K_past, V_past, K, V)                        # (…, H, N_X, D_Q), (…, H, N_X, D_V)  2 past
    s = 1 / sqrt_width(Q) if scale is None else float(scale)
    E = Q @ K.mT * s                                          # (…, H, N_Q, N_X)  4 scale
    A = softmax(E, in_order(mask, E.shape, offset))           # (…, H, N_Q, N_X)  1 order
    Y = merge_heads(A @ V)                                    # (…, N_Q, H·D_V)
    Z = project(Y, W_O)                                       # (…, N_Q, D_Z)  3
    return Z, Cache(X, W_Q, W_K, W_V, W_O, Q, K, V, A, Y, s, K_past is not None)


def backward(dZ: Array, cache: Cache, dK: Array | None = None, dV: Array | None = None) -> tuple[Array | None, ...]:
    """Return dX, dW_Q, dW_K, dW_V, dW_O, dK_past, dV_past; the last two are None without a past.

    - dZ: the gradient of the loss with respect to Z.
    - cache: what `forward` returned beside Z.
    - dK, dV: the gradients with respect to the grown K and V, from later pieces that read them; None for none.
    """
    X, W_Q, W_K, W_V, W_O, Q, K, V, A, Y, s, has_past = SHAPES.check_backward(dZ, cache, Cache)
    dW_O = weight_gradient(Y, dZ)                             # Z = merge(Y) W_O
    dY = split_heads(project(dZ, W_O.T), A.shape[-3])         # Z = merge(Y) W_O, one dY for each head
    dA = dY @ V.mT                                            # Y = A V
    dV = plus("dV", A.mT @ dY, dV)                            # Y = A V, and V is an output too
    dE = softmax_backward(dA, A)                              # A = softmax(E)
    dE *= s                                                   # E = s …: from here on s dE
    dK = plus("dK", dE.mT @ Q, dK)                            # E = s Q Kᵀ, and K is an output too
    dK_past, dK = parted(dK, Q)                               # K = [K_past; …]
    dV_past, dV = parted(dV, Q)                               # V = [V_past; …]
    dQ = merge_heads(dE @ K)                                  # E = s Q Kᵀ, merged for W_Q
    dK, dV = merge_heads(dK), merge_heads(dV)                 # merged for W_K and W_V
    dX = project(dV, W_V.T)                                   # V = split(X W_V)
    dX += project(dK, W_K.T)                                  # K = split(X W_K): X is used twice, so add
    dX += project(dQ, W_Q.T)                                  # Q = split(X W_Q): … and a third time
    dW_Q = weight_gradient(X, dQ)                             # Q = split(X W_Q)
    dW_K = weight_gradient(X, dK)                             # K = split(X W_K)
    dW_V = weight_gradient(X, dV)                             # V = split(X W_V)
    return dX, dW_Q, dW_K, dW_V, dW_O, *((dK_past, dV_past) if has_past else (None, None))


def after(K_past: Array | None, V_past: Array | None, K: Array, V: Array) -> tuple[Array, Array]:
    """Return K and V, (…, H, N_X, D), with the rows of the past above the new ones. K and V themselves for no past."""
    if K_past is None and V_past is None:
        return K, V
    if K_past is None or V_past is None:
        symbol, other = ("K_past", "V_past") if K_past is None else ("V_past", "K_past")
        raise ValueError(f"{symbol}: expected an array beside {other}, got None")
    return np.concatenate([K_past, K], -2), np.concatenate([V_past, V], -2)


def in_order(mask: Array | None, scores: tuple[int, ...], offset: int | None) -> Array:
    """Return the mask that also hides what follows a query; scores (…, H, N_Q, N_X)."""
    N_Q, N_X = scores[-2:]
    order = causal_mask(N_Q, N_X, N_X - N_Q if offset is None else offset)
    return order if mask is None else mask & order


def plus(symbol: str, own: Array, later: Array | None) -> Array:
    """Return the gradient of K or V, `own` of this piece and that of later ones, which must have its shape."""
    if later is not None:
        check_cotangent(symbol, later, own.shape, own.dtype)
        own += later
    return own


def parted(dK: Array, Q: Array) -> tuple[Array, Array]:
    """Return the rows of the past, (…, H, P, D), and the new ones, as many as there are queries."""
    P = dK.shape[-2] - Q.shape[-2]
    return dK[..., :P, :], dK[..., P:, :]


document(SHAPES, forward, backward)
forward, backward = ignore_underflow(forward), ignore_underflow(backward)
