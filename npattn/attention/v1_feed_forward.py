"""Version 1, feed-forward attention: a small network with one hidden layer scores each input against the query.

**Forward**

    p = q W_Q                      the query projected to D_E
    P = p + X W_X                  and added to each projected input
    H = tanh(P)
    e = H w                        one similarity for each input
    a = softmax(e)                 attention weights, Σ a = 1
    y = aᵀ X                       the weighted mean of the inputs

**Backward**  Line by line, from the last to the first, with dZ = ∂L/∂Z:

    y_d = Σ_n a_n X_nd             da_n = Σ_d dy_d X_nd,  dX_nd = a_n dy_d        da = X dy,  dX = a dyᵀ
    a = softmax(e)                 de = a ⊙ (da − aᵀda)                           see npattn.layers.softmax
    e_n = Σ_j H_nj w_j             dH_nj = de_n w_j,  dw_j = Σ_n H_nj de_n        dH = de wᵀ,  dw = Hᵀ de
    H = tanh(P)                    dP = dH ⊙ (1 − H²)                             as tanh' = 1 − tanh²
    P = p + X W_X                  dW_X = Xᵀ dP,  dX += dP W_Xᵀ: X is used twice, so its gradients add
                                   p reaches every row of P, so its gradient sums over the rows: dp = Σ_n dP_n
    p = q W_Q                      dW_Q = q dpᵀ,  dq = W_Q dp

**Shapes**  q (…, D_Q), X (…, N_X, D_X), W_Q (D_Q, D_E), W_X (D_X, D_E), w (D_E,), p (…, D_E),
P and H (…, N_X, D_E), e and a (…, N_X), y (…, D_X). In every version the cache holds the weights as `A`.

**Changed**  This is where it begins: attention as Bahdanau wrote it.

**Raises**  ValueError for shapes that don't fit, TypeError for dtypes that differ or a mask that is not boolean.

**Source**  Bahdanau, Cho & Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate" (2015),
arXiv:1409.0473, appendix A.1.2.

By hand: with w = 0 every score is 0, the weights are equal and y is the mean of the inputs.

>>> import numpy as np
>>> q, X = np.array([1.0, 2.0]), np.array([[0.0, 2.0, 4.0], [2.0, 4.0, 0.0]])
>>> W_Q, W_X, w = np.ones((2, 1)), np.zeros((3, 1)), np.array([0.0])
>>> y, cache = forward(q, X, W_Q, W_X, w)
>>> y, cache.A
(array([1., 3., 2.]), array([0.5, 0.5]))
>>> dq, dX, dW_Q, dW_X, dw = backward(np.array([1.0, 0.0, 0.0]), cache)
>>> dX                                                     # dX = a dyᵀ
array([[0.5, 0. , 0. ],
       [0.5, 0. , 0. ]])
>>> dw                                                     # de = [−½, ½] and both rows of H are tanh(3)
array([0.])
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npattn._shapes import check_cotangent, dims
from npattn._types import Array
from npattn.layers.linear import project, weight_gradient
from npattn.layers.softmax import softmax, softmax_backward


class Cache(NamedTuple):
    q: Array    # (…, D_Q)
    X: Array    # (…, N_X, D_X)
    W_Q: Array  # (D_Q, D_E)
    W_X: Array  # (D_X, D_E)
    w: Array    # (D_E,)
    H: Array    # (…, N_X, D_E)
    A: Array    # (…, N_X)


def forward(
    q: Array, X: Array, W_Q: Array, W_X: Array, w: Array, mask: Array | None = None
) -> tuple[Array, Cache]:
    """Return y (…, D_X) and the cache for `backward`; see the module for the formula."""
    dims(
        q=(q, "... D_Q"),
        X=(X, "... N_X D_X"),
        W_Q=(W_Q, "D_Q D_E"),
        W_X=(W_X, "D_X D_E"),
        w=(w, "D_E"),
    )
    H = np.tanh(project(q, W_Q)[..., None, :] + project(X, W_X))   # (…, N_X, D_E)
    e = H @ w                                                 # (…, N_X)
    a = softmax(e, mask)                                      # (…, N_X)
    y = (a[..., None, :] @ X)[..., 0, :]                      # (…, D_X)
    return y, Cache(q, X, W_Q, W_X, w, H, a)


def backward(dy: Array, cache: Cache) -> tuple[Array, Array, Array, Array, Array]:
    """Return dq, dX, dW_Q, dW_X, dw."""
    q, X, W_Q, W_X, w, H, a = cache
    check_cotangent("dy", dy, (*q.shape[:-1], X.shape[-1]), X.dtype)
    da = (X @ dy[..., None])[..., 0]                          # y = aᵀ X
    dX = a[..., None] * dy[..., None, :]                      # y = aᵀ X
    de = softmax_backward(da, a)                              # a = softmax(e)
    dw = weight_gradient(H, de[..., None])[:, 0]              # e = H w
    dP = de[..., None] * w * (1 - H * H)                      # e = H w, H = tanh(P)
    dW_X = weight_gradient(X, dP)                             # P = p + X W_X
    dX += project(dP, W_X.T)                                  # P = p + X W_X: X is used twice, so add
    dp = dP.sum(-2)                                           # P = p + X W_X: every row
    dW_Q = weight_gradient(q, dp)                             # p = q W_Q
    dq = project(dp, W_Q.T)                                   # p = q W_Q
    return dq, dX, dW_Q, dW_X, dw
