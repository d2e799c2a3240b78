"""Version 6, self-attention: the queries come from the input too.

**Forward**

    Q = X W_Q                      queries
    K = X W_K                      keys
    V = X W_V                      values
    E = Q Kᵀ / √D_Q                one similarity for each query and key
    A = softmax(E)                 attention weights, each row sums to 1
    Y = A V                        each row a weighted mean of the values

**Backward**  Line by line, from the last to the first. L is the loss, dY means ∂L/∂Y, and so for every letter:

    Y_id = Σ_n A_in V_nd           dA_in = Σ_d dY_id V_nd,  dV_nd = Σ_i A_in dY_id    dA = dY Vᵀ,  dV = Aᵀ dY
    A = softmax(E)                 dE = A ⊙ (dA − rowsum(A ⊙ dA))                     see npattn.layers.softmax
    E_in = Σ_d Q_id K_nd / √D_Q    dQ_id = Σ_n dE_in K_nd / √D_Q                      dQ = (dE/√D_Q) K
                                   dK_nd = Σ_i dE_in Q_id / √D_Q                      dK = (dE/√D_Q)ᵀ Q
    V = X W_V                      dW_V = Xᵀ dV,  dX = dV W_Vᵀ                        see npattn.layers.linear
    K = X W_K                      dW_K = Xᵀ dK,  dX += dK W_Kᵀ
    Q = X W_Q                      dW_Q = Xᵀ dQ,  dX += dQ W_Qᵀ: X is used three times, so its gradients add

Each rule is derived in `npattn explain foundations`: gradients that add (foundations F4), indices as matrices
(foundations F5), linear layers (foundations F6), the factor 1/√D_Q (foundations F7), softmax (foundations F9). A mask
needs no line here, see npattn.layers.softmax. Over a batch, dW_Q, dW_K and dW_V are sums.

**Changed**  Q is no longer an argument; it is Q = X W_Q. Every input attends to every input, itself included. In place
of dQ there are dW_Q and a third term in dX.

**Raises**  ValueError for shapes that don't fit, TypeError for dtypes that differ or a mask that is not boolean.

**Source**  Vaswani et al. (2017), arXiv:1706.03762, §3.2.3; Cheng, Dong & Lapata (2016), arXiv:1601.06733.

By hand: W_Q gives the two inputs the queries 2 ln 3 · (0, 1, 0, 0) and 0 of version 4, W_K and W_V are those of
version 5. Backward, dY asks for the first output alone: dA = [[8, 4], [0, 0]] and dE/√D_Q = [[⅜, −⅜], [0, 0]].

>>> import numpy as np
>>> X, W_Q = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 2 * np.log(3), 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
>>> W_K, W_V = np.array([[4.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]), np.array([[8.0], [4.0]])
>>> Y, cache = forward(X, W_Q, W_K, W_V)
>>> Y                                                      # ¼·8 + ¾·4 and ½·8 + ½·4
array([[5.],
       [6.]])
>>> cache.A
array([[0.25, 0.75],
       [0.5 , 0.5 ]])
>>> dX, dW_Q, dW_K, dW_V = backward(np.array([[1.0], [0.0]]), cache)
>>> dW_V                                                   # Xᵀ dV, as in version 5
array([[0.25],
       [0.75]])
>>> dW_K.round(3)                                          # Xᵀ dK, as in version 5
array([[ 0.   ,  0.824,  0.   ,  0.   ],
       [ 0.   , -0.824,  0.   ,  0.   ]])
>>> dW_Q                                                   # Xᵀ dQ, and only the first query has a gradient
array([[ 1.5  , -0.375,  0.   ,  0.   ],
       [ 0.   ,  0.   ,  0.   ,  0.   ]])
>>> dX.round(3)                                            # as in version 5, and dQ W_Qᵀ = [[−¾ ln 3, 0], [0, 0]]
array([[1.176, 1.824],
       [6.   , 2.176]])
"""

from __future__ import annotations

from typing import NamedTuple

from npattn._internal.checks import Array, Shapes, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.kernels import project, sqrt_width, weight_gradient
from npattn.layers.softmax import softmax, softmax_backward

SHAPES = Shapes(
    X="… N_X D_X",
    W_Q="D_X D_Q",
    W_K="D_X D_Q",
    W_V="D_X D_V",
    mask="… N_X N_X",
    dY="… N_X D_V",
)


class Cache(NamedTuple):
    """What `backward` needs, the weights `A` among it."""

    X: Array
    W_Q: Array
    W_K: Array
    W_V: Array
    Q: Array
    K: Array
    V: Array
    A: Array


def forward(X: Array, W_Q: Array, W_K: Array, W_V: Array, mask: Array | None = None) -> tuple[Array, Cache]:
    """Return Y and the cache for `backward`; see the module for the formula.

    - X: inputs, one a row.
    - W_Q: projects inputs to queries.
    - W_K: projects inputs to keys.
    - W_V: projects inputs to values.
    - mask: boolean, True = may attend; broadcasts to the scores. None: every query may attend to every input.
    """
    SHAPES.check(X, W_Q, W_K, W_V, mask=mask)
    Q = project(X, W_Q)                                       # (…, N_X, D_Q)
    K = project(X, W_K)                                       # (…, N_X, D_Q)
    V = project(X, W_V)                                       # (…, N_X, D_V)
    E = Q @ K.mT / sqrt_width(Q)                              # (…, N_X, N_X)
    A = softmax(E, mask)                                      # (…, N_X, N_X)
    Y = A @ V                                                 # (…, N_X, D_V)
    return Y, Cache(X, W_Q, W_K, W_V, Q, K, V, A)


def backward(dY: Array, cache: Cache) -> tuple[Array, Array, Array, Array]:
    """Return dX, dW_Q, dW_K, dW_V.

    - dY: the gradient of the loss with respect to Y.
    - cache: what `forward` returned beside Y.
    """
    X, W_Q, W_K, W_V, Q, K, V, A = SHAPES.check_backward(dY, cache, Cache)
    dA = dY @ V.mT                                            # Y = A V
    dV = A.mT @ dY                                            # Y = A V
    dE = softmax_backward(dA, A)                              # A = softmax(E)
    dE /= sqrt_width(Q)                                       # E = … / √D_Q: from here on dE/√D_Q
    dK = dE.mT @ Q                                            # E = Q Kᵀ / √D_Q
    dQ = dE @ K                                               # E = Q Kᵀ / √D_Q
    dX = project(dV, W_V.T)                                   # V = X W_V
    dX += project(dK, W_K.T)                                  # K = X W_K: X is used twice, so add
    dX += project(dQ, W_Q.T)                                  # Q = X W_Q: … and a third time
    dW_Q = weight_gradient(X, dQ)                             # Q = X W_Q
    dW_K = weight_gradient(X, dK)                             # K = X W_K
    dW_V = weight_gradient(X, dV)                             # V = X W_V
    return dX, dW_Q, dW_K, dW_V


document(SHAPES, forward, backward)
forward, backward = ignore_underflow(forward), ignore_underflow(backward)
