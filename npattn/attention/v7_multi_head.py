"""Version 7, multi-head attention: H attentions side by side, each in a subspace of its own.

**Forward**

    Q = split(X_Q W_Q + b_Q)       queries, in H heads of width D_Q
    K = split(X W_K + b_K)         keys, likewise
    V = split(X W_V + b_V)         values, in H heads of width D_V
    E = Q Kᵀ / √D_Q                one similarity for each head, query and key
    A = softmax(E)                 attention weights, each row sums to 1
    Y = A V                        each row a weighted mean of the values, one for each head
    Z = merge(Y) W_O + b_O         heads side by side again, mixed by the output projection

split turns (…, N, H·D) into (…, H, N, D), merge back.

**Backward**  Line by line, from the last to the first, with dZ = ∂L/∂Z:

    Z = merge(Y) W_O + b_O         dW_O = merge(Y)ᵀ dZ,  db_O = 1ᵀ dZ,  dY = split(dZ W_Oᵀ)
    Y_id = Σ_n A_in V_nd           dA_in = Σ_d dY_id V_nd,  dV_nd = Σ_i A_in dY_id    dA = dY Vᵀ,  dV = Aᵀ dY
    A = softmax(E)                 dE_i = A_i ⊙ (dA_i − A_iᵀ dA_i), row by row        see npattn.layers.softmax
    E_in = Σ_d Q_id K_nd / √D_Q    dQ_id = Σ_n dE_in K_nd / √D_Q                      dQ = (dE/√D_Q) K
                                   dK_nd = Σ_i dE_in Q_id / √D_Q                      dK = (dE/√D_Q)ᵀ Q
    V = split(X W_V + b_V)         dW_V = Xᵀ merge(dV),  db_V = 1ᵀ merge(dV),  dX = merge(dV) W_Vᵀ
    K = split(X W_K + b_K)         dW_K = Xᵀ merge(dK),  db_K = 1ᵀ merge(dK),  dX += merge(dK) W_Kᵀ
    Q = split(X_Q W_Q + b_Q)       dW_Q = X_Qᵀ merge(dQ),  db_Q = 1ᵀ merge(dQ),  dX_Q = merge(dQ) W_Qᵀ

The last three are npattn.layers.linear. split and merge move numbers without changing them, so each is the other's
backward. In mathematics db_K is zero: b_K shifts all scores of a query alike, and the softmax does not see a shift.

**Shapes**  X_Q (…, N_Q, D_XQ), X (…, N_X, D_X), W_Q (D_XQ, H·D_Q), W_K (D_X, H·D_Q), W_V (D_X, H·D_V),
W_O (H·D_V, D_Z), b_Q and b_K (H·D_Q,), b_V (H·D_V,), b_O (D_Z,), Q (…, H, N_Q, D_Q), K (…, H, N_X, D_Q),
V (…, H, N_X, D_V), E and A (…, H, N_Q, N_X), Y (…, H, N_Q, D_V), Z (…, N_Q, D_Z).
The mask broadcasts to (…, H, N_Q, N_X).

**Changed**  Q, K and V are cut into H heads, and one softmax becomes H: a query can look at H places at once, where a
single head could only average them. W_O mixes what the heads found. The four projections may have biases, as in
torch's nn.MultiheadAttention; the paper has none. X_Q is separate from X again, so that one module is self-attention
(pass X twice and add dX_Q and dX) and the decoder's cross-attention (X_Q from the decoder, X from the encoder).

**Raises**  ValueError for shapes that don't fit or widths that n_heads does not divide, TypeError for dtypes that
differ or a mask that is not boolean.

**Source**  Vaswani et al. (2017), arXiv:1706.03762, §3.2.2.

By hand: two heads of width 1. The first asks 0 and gets the mean of 8 and 4, the second asks ln 3 and gets
(1·0 + 3·4)/4; W_O adds them. Backward, dY is 1 in both heads: dA = [8, 4] and [0, 4], dE = [1, −1] and [−¾, ¾].

>>> import numpy as np
>>> X_Q, X = np.array([[0.0, np.log(3)]]), np.array([[0.0, 8.0], [1.0, 4.0]])
>>> W_Q, W_K = np.eye(2), np.array([[0.0, 1.0], [0.0, 0.0]])
>>> W_V, W_O = np.array([[0.0, 4.0], [1.0, 0.0]]), np.array([[1.0], [1.0]])
>>> Z, cache = forward(X_Q, X, W_Q, W_K, W_V, W_O, n_heads=2)
>>> Z                                                      # ½·8 + ½·4, and ¼·0 + ¾·4
array([[9.]])
>>> cache.A                                                # one row of weights for each head
array([[[0.5 , 0.5 ]],
<BLANKLINE>
       [[0.25, 0.75]]])
>>> dX_Q, dX, dW_Q, dW_K, dW_V, dW_O, *db = backward(np.array([[1.0]]), cache)
>>> dW_O                                                   # merge(Y)ᵀ dZ
array([[6.],
       [3.]])
>>> dW_V                                                   # Xᵀ merge(dV), merge(dV) = [[½, ¼], [½, ¾]]
array([[0.5 , 0.75],
       [6.  , 5.  ]])
>>> dW_K.round(3)                                          # Xᵀ merge(dK), merge(dK) = [[0, −¾], [0, ¾]] ln 3
array([[ 0.   ,  0.824],
       [ 0.   , -3.296]])
>>> dW_Q.round(3)                                          # X_Qᵀ merge(dQ), merge(dQ) = [[0, ¾]]
array([[0.   , 0.   ],
       [0.   , 0.824]])
>>> dX.round(3)                                            # merge(dV) W_Vᵀ + merge(dK) W_Kᵀ, [[1 − ¾ ln 3, ½], …]
array([[0.176, 0.5  ],
       [3.824, 0.5  ]])
>>> dX_Q                                                   # merge(dQ) W_Qᵀ: head 1's keys are both 0
array([[0.  , 0.75]])
>>> db                                                     # there were no biases
[None, None, None, None]
"""

from __future__ import annotations

import math
from typing import NamedTuple

from npattn._scalars import check_size
from npattn._shapes import check_cache, check_cotangent, check_mask, dims
from npattn._types import Array
from npattn.layers.linear import project, sum_rows, weight_gradient
from npattn.layers.softmax import softmax, softmax_backward


class Cache(NamedTuple):
    """What `backward` needs, the weights `A` among it."""

    X_Q: Array  # (…, N_Q, D_XQ)
    X: Array    # (…, N_X, D_X)
    W_Q: Array  # (D_XQ, H·D_Q)
    W_K: Array  # (D_X, H·D_Q)
    W_V: Array  # (D_X, H·D_V)
    W_O: Array  # (H·D_V, D_Z)
    Q: Array    # (…, H, N_Q, D_Q)
    K: Array    # (…, H, N_X, D_Q)
    V: Array    # (…, H, N_X, D_V)
    A: Array    # (…, H, N_Q, N_X)
    Y: Array    # (…, N_Q, H·D_V)  merged
    biased: tuple[bool, bool, bool, bool]  # which of b_Q, b_K, b_V, b_O were given


def forward(
    X_Q: Array,
    X: Array,
    W_Q: Array,
    W_K: Array,
    W_V: Array,
    W_O: Array,
    b_Q: Array | None = None,
    b_K: Array | None = None,
    b_V: Array | None = None,
    b_O: Array | None = None,
    *,
    n_heads: int,
    mask: Array | None = None,
) -> tuple[Array, Cache]:
    """Return Z (…, N_Q, D_Z) and the cache for `backward`; see the module for the formula."""
    sizes = dims(
        X_Q=(X_Q, "... N_Q D_XQ"),
        X=(X, "... N_X D_X"),
        W_Q=(W_Q, "D_XQ H·D_Q"),
        W_K=(W_K, "D_X H·D_Q"),
        W_V=(W_V, "D_X H·D_V"),
        W_O=(W_O, "H·D_V D_Z"),
        b_Q=(b_Q, "H·D_Q or None"),
        b_K=(b_K, "H·D_Q or None"),
        b_V=(b_V, "H·D_V or None"),
        b_O=(b_O, "D_Z or None"),
    )
    n_heads = check_heads(n_heads, sizes)
    check_mask(mask, (*X_Q.shape[:-2], n_heads, X_Q.shape[-2], X.shape[-2]), "(…, H, N_Q, N_X)")
    Q = split_heads(project(X_Q, W_Q, b_Q), n_heads)          # (…, H, N_Q, D_Q)
    K = split_heads(project(X, W_K, b_K), n_heads)            # (…, H, N_X, D_Q)
    V = split_heads(project(X, W_V, b_V), n_heads)            # (…, H, N_X, D_V)
    E = Q @ K.mT / math.sqrt(max(Q.shape[-1], 1))             # (…, H, N_Q, N_X)
    A = softmax(E, mask)                                      # (…, H, N_Q, N_X)
    Y = merge_heads(A @ V)                                    # (…, N_Q, H·D_V)  kept merged
    Z = project(Y, W_O, b_O)                                  # (…, N_Q, D_Z)
    biased = (b_Q is not None, b_K is not None, b_V is not None, b_O is not None)
    return Z, Cache(X_Q, X, W_Q, W_K, W_V, W_O, Q, K, V, A, Y, biased)


def backward(dZ: Array, cache: Cache) -> tuple[Array | None, ...]:
    """Return dX_Q, dX, dW_Q, dW_K, dW_V, dW_O, db_Q, db_K, db_V, db_O; None for a bias that was None."""
    X_Q, X, W_Q, W_K, W_V, W_O, Q, K, V, A, Y, biased = check_cache(cache, Cache)
    check_cotangent("dZ", dZ, (*X_Q.shape[:-1], W_O.shape[1]), X.dtype)
    dW_O = weight_gradient(Y, dZ)                             # Z = merge(Y) W_O + b_O
    dY = split_heads(project(dZ, W_O.T), A.shape[-3])         # Z = merge(Y) W_O + b_O, one dY for each head
    dA = dY @ V.mT                                            # Y = A V
    dV = merge_heads(A.mT @ dY)                               # Y = A V, merged for W_V
    dE = softmax_backward(dA, A)                              # A = softmax(E)
    dE /= math.sqrt(max(Q.shape[-1], 1))                      # E = … / √D_Q: from here on dE/√D_Q
    dK = merge_heads(dE.mT @ Q)                               # E = Q Kᵀ / √D_Q, merged for W_K
    dQ = merge_heads(dE @ K)                                  # E = Q Kᵀ / √D_Q, merged for W_Q
    dX = project(dV, W_V.T)                                   # V = X W_V + b_V
    dX += project(dK, W_K.T)                                  # K = X W_K + b_K: X is used twice, so add
    dX_Q = project(dQ, W_Q.T)                                 # Q = X_Q W_Q + b_Q
    dW_Q = weight_gradient(X_Q, dQ)                           # Q = X_Q W_Q + b_Q
    dW_K = weight_gradient(X, dK)                             # K = X W_K + b_K
    dW_V = weight_gradient(X, dV)                             # V = X W_V + b_V
    db = (sum_rows(d) if b else None for d, b in zip((dQ, dK, dV, dZ), biased, strict=True))
    return dX_Q, dX, dW_Q, dW_K, dW_V, dW_O, *db


def split_heads(X: Array, n_heads: int) -> Array:
    """(…, N, H·D) → (…, H, N, D): a view. The reshape alone would cut rows, not heads; the axes must swap."""
    return X.reshape(*X.shape[:-1], n_heads, X.shape[-1] // n_heads).swapaxes(-2, -3)


def merge_heads(X: Array) -> Array:
    """(…, H, N, D) → (…, N, H·D): the inverse of `split_heads`."""
    merged = X.swapaxes(-2, -3)                               # (…, N, H, D)
    return merged.reshape(*merged.shape[:-2], merged.shape[-2] * merged.shape[-1])


def check_heads(n_heads: int, sizes: dict[str, int]) -> int:
    """Return n_heads; raise unless it is a positive integer that divides both widths."""
    n_heads = check_size("n_heads", n_heads, least=1)
    for symbol, width in (("W_Q", "H·D_Q"), ("W_V", "H·D_V")):
        if sizes[width] % n_heads:
            raise ValueError(f"{symbol}: expected {width} divisible by n_heads={n_heads}, got {sizes[width]}")
    return n_heads
