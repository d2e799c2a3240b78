"""Version 4, multiple queries: N_Q queries attend at once, as matrix products.

**Forward**

    E = Q Xᵀ / √D_Q                one similarity for each query and input
    A = softmax(E)                 attention weights, each row sums to 1
    Y = A X                        each row a weighted mean of the inputs

**Backward**  Line by line, from the last to the first. L is the loss, dY means ∂L/∂Y, and so for every letter:

    Y_id = Σ_n A_in X_nd           dA_in = Σ_d dY_id X_nd,  dX_nd = Σ_i A_in dY_id    dA = dY Xᵀ,  dX = Aᵀ dY
    A = softmax(E)                 dE = A ⊙ (dA − rowsum(A ⊙ dA))                     see npattn.layers.softmax
    E_in = Σ_d Q_id X_nd / √D_Q    dQ_id = Σ_n dE_in X_nd / √D_Q                      dQ = (dE/√D_Q) X
                                   dX_nd += Σ_i dE_in Q_id / √D_Q: X is used twice    dX += (dE/√D_Q)ᵀ Q

Each rule is derived in `npattn explain foundations`: gradients that add (foundations F4), indices as matrices
(foundations F5), the factor 1/√D_Q (foundations F7), softmax (foundations F9). A mask needs no line here, see
npattn.layers.softmax.

**Changed**  One query q becomes N_Q rows of Q. Rows are independent: row i of Y is version 3 of row i of Q. All queries
share the inputs, so the gradients of X are summed over the queries.

**Raises**  ValueError for shapes that don't fit, TypeError for dtypes that differ or a mask that is not boolean.

**Source**  Vaswani et al. (2017), arXiv:1706.03762, §3.2.1, equation 1 with K = V = X.

By hand: D_Q = 4; the first query is that of version 3, the second is 0 and weighs all inputs alike. Backward, both
rows of dA = dY Xᵀ are [4, 0], rowsum(A ⊙ dA) is 1 and 2, and dE/√D_Q = [[⅜, −⅜], [½, −½]].

>>> import numpy as np
>>> Q = np.array([[0.0, 2 * np.log(3), 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
>>> X = np.array([[4.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
>>> Y, cache = forward(Q, X)
>>> Y
array([[1.  , 0.75, 0.  , 0.  ],
       [2.  , 0.5 , 0.  , 0.  ]])
>>> cache.A
array([[0.25, 0.75],
       [0.5 , 0.5 ]])
>>> dQ, dX = backward(np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]), cache)
>>> dX.round(3)                                            # Aᵀ dY + (dE/√D_Q)ᵀ Q: both queries weigh, only one is not 0
array([[ 0.75 ,  0.824,  0.   ,  0.   ],
       [ 1.25 , -0.824,  0.   ,  0.   ]])
>>> dQ                                                     # (dE/√D_Q) X
array([[ 1.5  , -0.375,  0.   ,  0.   ],
       [ 2.   , -0.5  ,  0.   ,  0.   ]])
"""

from __future__ import annotations

from typing import NamedTuple

from npattn._internal.checks import Array, Shapes, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.kernels import sqrt_width
from npattn.layers.softmax import softmax, softmax_backward

SHAPES = Shapes(
    Q="… N_Q D_Q",
    X="… N_X D_Q",
    mask="… N_Q N_X",
    dY="… N_Q D_Q",
)


class Cache(NamedTuple):
    """What `backward` needs, the weights `A` among it."""

    Q: Array
    X: Array
    A: Array


def forward(Q: Array, X: Array, mask: Array | None = None) -> tuple[Array, Cache]:
    """Return Y and the cache for `backward`; see the module for the formula.

    - Q: queries, one a row.
    - X: inputs, one a row.
    - mask: boolean, True = may attend; broadcasts to the scores. None: every query may attend to every input.
    """
    SHAPES.check(Q, X, mask=mask)
    E = Q @ X.mT / sqrt_width(Q)                              # (…, N_Q, N_X)
    A = softmax(E, mask)                                      # (…, N_Q, N_X)
    Y = A @ X                                                 # (…, N_Q, D_Q)
    return Y, Cache(Q, X, A)


def backward(dY: Array, cache: Cache) -> tuple[Array, Array]:
    """Return dQ, dX.

    - dY: the gradient of the loss with respect to Y.
    - cache: what `forward` returned beside Y.
    """
    Q, X, A = SHAPES.check_backward(dY, cache, Cache)
    dA = dY @ X.mT                                            # Y = A X
    dX = A.mT @ dY                                            # Y = A X
    dE = softmax_backward(dA, A)                              # A = softmax(E)
    dE /= sqrt_width(Q)                                       # E = … / √D_Q: from here on dE/√D_Q
    dX += dE.mT @ Q                                           # E = Q Xᵀ / √D_Q: X is used twice, so add
    dQ = dE @ X                                               # E = Q Xᵀ / √D_Q
    return dQ, dX


document(SHAPES, forward, backward)
forward, backward = ignore_underflow(forward), ignore_underflow(backward)
