"""Version 1, feed-forward attention: a small network scores each input against the query.

It is also called additive attention. Its hidden layer H has D_E numbers for each input.

**Forward**

    p = q W_Q                      the query projected to D_E
    P = p + X W_X                  and added to each projected input
    H = tanh(P)
    e = H w                        one similarity for each input
    a = softmax(e)                 attention weights, Σ a = 1
    y = aᵀ X                       the weighted mean of the inputs

**Backward**  Line by line, from the last to the first. L is the loss, dy means ∂L/∂y, and so for every letter:

    y_d = Σ_n a_n X_nd             da_n = Σ_d dy_d X_nd,  dX_nd = a_n dy_d        da = X dy,  dX = a dyᵀ
    a = softmax(e)                 de = a ⊙ (da − aᵀda)                           see npattn.layers.softmax
    e_n = Σ_j H_nj w_j             dH_nj = de_n w_j,  dw_j = Σ_n H_nj de_n        dH = de wᵀ,  dw = Hᵀ de
    H = tanh(P)                    dP = dH ⊙ (1 − H²)                             as tanh' = 1 − tanh²
    P = p + X W_X                  dW_X = Xᵀ dP,  dX += dP W_Xᵀ: X is used twice, so its gradients add
                                   p reaches every row of P, so its gradient sums over the rows: dp = Σ_n dP_n
    p = q W_Q                      dW_Q = q dpᵀ,  dq = W_Q dp

Each rule is derived in `npattn explain foundations`: gradients that add (foundations F4), indices as matrices
(foundations F5), linear layers and what every row shares (foundations F6), tanh (foundations F7), softmax
(foundations F9). A mask needs no line here, see npattn.layers.softmax. Over a batch, dW_Q, dW_X and dw are sums.

**Changed**  This is where it begins: attention as Bahdanau wrote it.

**Raises**  ValueError for shapes that don't fit, TypeError for dtypes that differ or a mask that is not boolean.

**Source**  Bahdanau, Cho & Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate" (2015),
arXiv:1409.0473, appendix A.1.2.

By hand: D_E = 1, and p = q W_Q = 0, so that P = X W_X = [0, ½ ln 3]ᵀ. As tanh(½ ln 3) = ½, the scores are
e = H w = [0, ln 3] and the weights 1/4 and 3/4. Backward, da = X dy = [4, 0], aᵀda = 1 and de = [¾, −¾].

>>> import numpy as np
>>> q, X = np.array([1.0, 2.0]), np.array([[4.0, 0.0], [0.0, 1.0]])
>>> W_Q, W_X, w = np.array([[2.0], [-1.0]]), np.array([[0.0], [np.log(3) / 2]]), np.array([2 * np.log(3)])
>>> y, cache = forward(q, X, W_Q, W_X, w)
>>> y, cache.A                                             # y = ¼ [4, 0] + ¾ [0, 1]
(array([1.  , 0.75]), array([0.25, 0.75]))
>>> dq, dX, dW_Q, dW_X, dw = backward(np.array([1.0, 0.0]), cache)
>>> dw                                                     # Hᵀ de, with H = [0, ½]ᵀ
array([-0.375])
>>> dW_X.round(3)                                          # Xᵀ dP, dP = 2 ln 3 · [¾ (1 − 0), −¾ (1 − ¼)]ᵀ
array([[ 6.592],
       [-1.236]])
>>> dX.round(3)                                            # a dyᵀ + dP W_Xᵀ: column 2 is ½ ln 3 · dP
array([[ 0.25 ,  0.905],
       [ 0.75 , -0.679]])
>>> dW_Q.round(3)                                          # q dpᵀ, dp = Σ dP = ⅜ ln 3
array([[0.412],
       [0.824]])
>>> dq.round(3)                                            # W_Q dp
array([ 0.824, -0.412])
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array, Shapes, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.kernels import project, weight_gradient
from npattn.layers.softmax import softmax, softmax_backward

SHAPES = Shapes(
    q="… D_Q",
    X="… N_X D_X",
    W_Q="D_Q D_E",
    W_X="D_X D_E",
    w="D_E",
    mask="… N_X",
    dy="… D_X",
)


class Cache(NamedTuple):
    """What `backward` needs, the weights `A` among it."""

    q: Array
    X: Array
    W_Q: Array
    W_X: Array
    w: Array
    H: Array
    A: Array


def forward(q: Array, X: Array, W_Q: Array, W_X: Array, w: Array, mask: Array | None = None) -> tuple[Array, Cache]:
    """Return y and the cache for `backward`; see the module for the formula.

    - q: one query.
    - X: inputs, one a row.
    - W_Q: projects the query to D_E.
    - W_X: projects the inputs to D_E.
    - w: one weight for each of the D_E hidden numbers.
    - mask: boolean, True = may attend; broadcasts to the scores. None: the query may attend to every input.
    """
    SHAPES.check(q, X, W_Q, W_X, w, mask=mask)
    H = np.tanh(project(q, W_Q)[..., None, :] + project(X, W_X))   # (…, N_X, D_E)
    e = H @ w                                                 # (…, N_X)
    a = softmax(e, mask)                                      # (…, N_X)
    y = (a[..., None, :] @ X)[..., 0, :]                      # (…, D_X)
    return y, Cache(q, X, W_Q, W_X, w, H, a)


def backward(dy: Array, cache: Cache) -> tuple[Array, Array, Array, Array, Array]:
    """Return dq, dX, dW_Q, dW_X, dw.

    - dy: the gradient of the loss with respect to y.
    - cache: what `forward` returned beside y.
    """
    q, X, W_Q, W_X, w, H, a = SHAPES.check_backward(dy, cache, Cache)
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


document(SHAPES, forward, backward)
forward, backward = ignore_underflow(forward), ignore_underflow(backward)
