"""Version 5, cross-attention: each input is projected to a key, which is matched, and to a value, which is read.

**Forward**

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
    K = X W_K                      dW_K = Xᵀ dK,  dX += dK W_Kᵀ: X is used twice, so its gradients add

Each rule is derived in `npattn explain foundations`: gradients that add (foundations F4), indices as matrices
(foundations F5), linear layers (foundations F6), the factor 1/√D_Q (foundations F7), softmax (foundations F9). A mask
needs no line here, see npattn.layers.softmax. Over a batch, dW_K and dW_V are sums. `npattn explain autograd` shows
what PyTorch does for each line.

**Changed**  X in the scores becomes K = X W_K, X in the output becomes V = X W_V. An input is found by its key and read
by its value, and the two may differ. The widths D_X and D_V are free; only keys and queries share D_Q. The name:
queries of one sequence read the inputs of another.

**Raises**  ValueError for shapes that don't fit, TypeError for dtypes that differ or a mask that is not boolean.

**Source**  Vaswani et al. (2017), arXiv:1706.03762, §3.2.1, equation 1; "encoder-decoder attention" in §3.2.3.

By hand: W_K turns the inputs into those of version 4, now as keys, W_V into one number each, 8 and 4. Backward,
dA = dY Vᵀ = [8, 4], rowsum(A ⊙ dA) = 5, dE/√D_Q = [⅜, −⅜], and X is the identity, so dW_K = dK and dW_V = dV.

>>> import numpy as np
>>> Q, X = np.array([[0.0, 2 * np.log(3), 0.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
>>> W_K, W_V = np.array([[4.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]), np.array([[8.0], [4.0]])
>>> Y, cache = forward(Q, X, W_K, W_V)
>>> Y, cache.A                                             # ¼·8 + ¾·4
(array([[5.]]), array([[0.25, 0.75]]))
>>> dQ, dX, dW_K, dW_V = backward(np.array([[1.0]]), cache)
>>> dW_V                                                   # Xᵀ dV, dV = Aᵀ dY
array([[0.25],
       [0.75]])
>>> dW_K.round(3)                                          # Xᵀ dK, dK = (dE/√D_Q)ᵀ Q
array([[ 0.   ,  0.824,  0.   ,  0.   ],
       [ 0.   , -0.824,  0.   ,  0.   ]])
>>> dX.round(3)                                            # dV W_Vᵀ + dK W_Kᵀ = [[2, 1 + ¾ ln 3], [6, 3 − ¾ ln 3]]
array([[2.   , 1.824],
       [6.   , 2.176]])
>>> dQ                                                     # (dE/√D_Q) K
array([[ 1.5  , -0.375,  0.   ,  0.   ]])
"""

from __future__ import annotations

from typing import NamedTuple

from npattn._internal.checks import Array, Shapes, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.kernels import project, sqrt_width, weight_gradient
from npattn.layers.softmax import softmax, softmax_backward

SHAPES = Shapes(
    Q="… N_Q D_Q",
    X="… N_X D_X",
    W_K="D_X D_Q",
    W_V="D_X D_V",
    mask="… N_Q N_X",
    dY="… N_Q D_V",
)


class Cache(NamedTuple):
    """What `backward` needs, the weights `A` among it."""

    Q: Array
    X: Array
    W_K: Array
    W_V: Array
    K: Array
    V: Array
    A: Array


def forward(Q: Array, X: Array, W_K: Array, W_V: Array, mask: Array | None = None) -> tuple[Array, Cache]:
    """Return Y and the cache for `backward`; see the module for the formula.

    - Q: queries, one a row.
    - X: inputs, one a row.
    - W_K: projects inputs to keys.
    - W_V: projects inputs to values.
    - mask: boolean, True = may attend; broadcasts to the scores. None: every query may attend to every input.
    """
    SHAPES.check(Q, X, W_K, W_V, mask=mask)
    K = project(X, W_K)                                       # (…, N_X, D_Q)
    V = project(X, W_V)                                       # (…, N_X, D_V)
    E = Q @ K.mT / sqrt_width(Q)                              # (…, N_Q, N_X)
    A = softmax(E, mask)                                      # (…, N_Q, N_X)
    Y = A @ V                                                 # (…, N_Q, D_V)
    return Y, Cache(Q, X, W_K, W_V, K, V, A)


def backward(dY: Array, cache: Cache) -> tuple[Array, Array, Array, Array]:
    """Return dQ, dX, dW_K, dW_V.

    - dY: the gradient of the loss with respect to Y.
    - cache: what `forward` returned beside Y.
    """
    Q, X, W_K, W_V, K, V, A = SHAPES.check_backward(dY, cache, Cache)
    dA = dY @ V.mT                                            # Y = A V
    dV = A.mT @ dY                                            # Y = A V
    dE = softmax_backward(dA, A)                              # A = softmax(E)
    dE /= sqrt_width(Q)                                       # E = … / √D_Q: from here on dE/√D_Q
    dK = dE.mT @ Q                                            # E = Q Kᵀ / √D_Q
    dQ = dE @ K                                               # E = Q Kᵀ / √D_Q
    dX = project(dV, W_V.T)                                   # V = X W_V
    dX += project(dK, W_K.T)                                  # K = X W_K: X is used twice, so add
    dW_K = weight_gradient(X, dK)                             # K = X W_K
    dW_V = weight_gradient(X, dV)                             # V = X W_V
    return dQ, dX, dW_K, dW_V


document(SHAPES, forward, backward)
forward, backward = ignore_underflow(forward), ignore_underflow(backward)
