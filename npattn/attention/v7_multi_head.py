"""Version 7, multi-head attention: H attentions side by side, each with projections of its own.

**Forward**

    Q = split(X_Q W_Q + b_Q)       queries, in H heads of width D_Q
    K = split(X W_K + b_K)         keys, likewise
    V = split(X W_V + b_V)         values, in H heads of width D_V
    E = Q Kᵀ / √D_Q                one similarity for each head, query and key
    A = softmax(E)                 attention weights, each row sums to 1
    Y = A V                        each row a weighted mean of the values, one for each head
    Z = merge(Y) W_O + b_O         heads side by side again, mixed by the output projection

split turns (…, N, H·D) into (…, H, N, D), merge back: head h is the columns h·D to (h+1)·D − 1. The lines with E, A and
Y hold for each head.

**Backward**  Line by line, from the last to the first. L is the loss, dZ means ∂L/∂Z, and so for every letter:

    Z = merge(Y) W_O + b_O         dW_O = merge(Y)ᵀ dZ,  db_O = 1ᵀ dZ,  dY = split(dZ W_Oᵀ)
    Y_id = Σ_n A_in V_nd           dA_in = Σ_d dY_id V_nd,  dV_nd = Σ_i A_in dY_id    dA = dY Vᵀ,  dV = Aᵀ dY
    A = softmax(E)                 dE = A ⊙ (dA − rowsum(A ⊙ dA))                     see npattn.layers.softmax
    E_in = Σ_d Q_id K_nd / √D_Q    dQ_id = Σ_n dE_in K_nd / √D_Q                      dQ = (dE/√D_Q) K
                                   dK_nd = Σ_i dE_in Q_id / √D_Q                      dK = (dE/√D_Q)ᵀ Q
    V = split(X W_V + b_V)         dW_V = Xᵀ merge(dV),  db_V = 1ᵀ merge(dV),  dX = merge(dV) W_Vᵀ
    K = split(X W_K + b_K)         dW_K = Xᵀ merge(dK),  db_K = 1ᵀ merge(dK),  dX += merge(dK) W_Kᵀ
    Q = split(X_Q W_Q + b_Q)       dW_Q = X_Qᵀ merge(dQ),  db_Q = 1ᵀ merge(dQ),  dX_Q = merge(dQ) W_Qᵀ

Each rule is derived in `npattn explain foundations`: gradients that add (foundations F4), indices as matrices
(foundations F5), linear layers and their biases (foundations F6), the factor 1/√D_Q (foundations F7), softmax
(foundations F9), split and merge (foundations F14). A mask needs no line here, see npattn.layers.softmax. Over a batch,
every dW and db is a sum.

split and merge move numbers without changing them, so each is the other's backward. The code keeps Y, dK, dQ and dV
merged where only their merged form is needed. In exact arithmetic db_K is zero: b_K shifts all scores of a query
alike, and a shift does not change the softmax.

**Changed**  Four things; the comments in `forward` mark them.

1. Heads: Q, K and V are cut into H heads, and one softmax becomes H. A query can look at H places at once, where a
   single head can only average them.
2. An output projection: W_O mixes what the heads found.
3. Biases: the four projections may have them, as in torch's nn.MultiheadAttention; the paper has none.
4. X_Q is separate from X again. One module is then self-attention (pass X twice and add dX_Q and dX) and the decoder's
   cross-attention (X_Q from the decoder, X from the encoder).

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

from typing import NamedTuple

from npattn._internal.checks import Array, Shapes, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.kernels import project, sqrt_width, sum_rows, weight_gradient
from npattn.layers.softmax import softmax, softmax_backward

SHAPES = Shapes(
    X_Q="… N_Q D_XQ",
    X="… N_X D_X",
    W_Q="D_XQ H·D_Q",
    W_K="D_X H·D_Q",
    W_V="D_X H·D_V",
    W_O="H·D_V D_Z",
    b_Q="H·D_Q or None",
    b_K="H·D_Q or None",
    b_V="H·D_V or None",
    b_O="D_Z or None",
    n_heads="H, an integer",
    mask="… H N_Q N_X",
    dZ="… N_Q D_Z",
)


class Cache(NamedTuple):
    """What `backward` needs, the weights `A` among it."""

    X_Q: Array
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
    biased: tuple[bool, ...]  # which of b_Q, b_K, b_V, b_O were given


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
    """Return Z and the cache for `backward`; see the module for the formula.

    - X_Q: inputs of the queries, one a row; pass X twice for self-attention.
    - X: inputs of keys and values, one a row.
    - W_Q: projects X_Q to the queries of all heads, side by side.
    - W_K: projects X to the keys of all heads.
    - W_V: projects X to the values of all heads.
    - W_O: projects the merged heads to the output.
    - b_Q, b_K, b_V, b_O: biases of the four projections; None for none.
    - n_heads: H, the number of heads. It divides the widths H·D_Q and H·D_V.
    - mask: boolean, True = may attend; broadcasts to the scores. None: every query may attend to every input.
    """
    SHAPES.check(X_Q, X, W_Q, W_K, W_V, W_O, b_Q, b_K, b_V, b_O, mask=mask, n_heads=n_heads)
    Q = split_heads(project(X_Q, W_Q, b_Q), n_heads)          # (…, H, N_Q, D_Q)  1 heads, 3 biases, 4 X_Q
    K = split_heads(project(X, W_K, b_K), n_heads)            # (…, H, N_X, D_Q)  1, 3
    V = split_heads(project(X, W_V, b_V), n_heads)            # (…, H, N_X, D_V)  1, 3
    E = Q @ K.mT / sqrt_width(Q)                              # (…, H, N_Q, N_X)
    A = softmax(E, mask)                                      # (…, H, N_Q, N_X)
    Y = merge_heads(A @ V)                                    # (…, N_Q, H·D_V)  1, kept merged
    Z = project(Y, W_O, b_O)                                  # (…, N_Q, D_Z)  2 output projection, 3
    return Z, Cache(X_Q, X, W_Q, W_K, W_V, W_O, Q, K, V, A, Y, tuple(b is not None for b in (b_Q, b_K, b_V, b_O)))


def backward(dZ: Array, cache: Cache) -> tuple[Array | None, ...]:
    """Return dX_Q, dX, dW_Q, dW_K, dW_V, dW_O, db_Q, db_K, db_V, db_O; None for a bias that was None.

    - dZ: the gradient of the loss with respect to Z.
    - cache: what `forward` returned beside Z.
    """
    X_Q, X, W_Q, W_K, W_V, W_O, Q, K, V, A, Y, biased = SHAPES.check_backward(dZ, cache, Cache)
    dW_O = weight_gradient(Y, dZ)                             # Z = merge(Y) W_O + b_O
    dY = split_heads(project(dZ, W_O.T), A.shape[-3])         # Z = merge(Y) W_O + b_O, one dY for each head
    dA = dY @ V.mT                                            # Y = A V
    dV = merge_heads(A.mT @ dY)                               # Y = A V, merged for W_V
    dE = softmax_backward(dA, A)                              # A = softmax(E)
    dE /= sqrt_width(Q)                                       # E = … / √D_Q: from here on dE/√D_Q
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
    """(…, N, H·D) → (…, H, N, D): a view. The reshape cuts each row into heads; then the axes swap."""
    return X.reshape(*X.shape[:-1], n_heads, X.shape[-1] // n_heads).swapaxes(-2, -3)


def merge_heads(X: Array) -> Array:
    """(…, H, N, D) → (…, N, H·D): the inverse of `split_heads`."""
    merged = X.swapaxes(-2, -3)                               # (…, N, H, D)
    return merged.reshape(*merged.shape[:-2], merged.shape[-2] * merged.shape[-1])


document(SHAPES, forward, backward)
forward, backward = ignore_underflow(forward), ignore_underflow(backward)
