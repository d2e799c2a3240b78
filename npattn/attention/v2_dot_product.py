"""Version 2, dot-product attention: the similarity of query and input is their dot product.

**Forward**

    e = X q                        one similarity for each input
    a = softmax(e)                 attention weights, Σ a = 1
    y = aᵀ X                       the weighted mean of the inputs

**Backward**  Line by line, from the last to the first. L is the loss, dy means ∂L/∂y, and so for every letter:

    y_d = Σ_n a_n X_nd             da_n = Σ_d dy_d X_nd,  dX_nd = a_n dy_d        da = X dy,  dX = a dyᵀ
    a = softmax(e)                 de = a ⊙ (da − aᵀda)                           see npattn.layers.softmax
    e_n = Σ_d X_nd q_d             dq_d = Σ_n X_nd de_n                           dq = Xᵀ de
                                   dX_nd += de_n q_d: X is used twice             dX += de qᵀ

Each rule is derived in `npattn explain foundations`: gradients that add (foundations F4), indices as matrices
(foundations F5), softmax (foundations F9). A mask needs no line here, see npattn.layers.softmax.

**Changed**  e = tanh(q W_Q + X W_X) w becomes e = X q: the three parameters vanish, and one matrix product is left.
Query and input must now have the same width, D_X = D_Q.

**Raises**  ValueError for shapes that don't fit, TypeError for dtypes that differ or a mask that is not boolean.

**Source**  Luong, Pham & Manning, "Effective Approaches to Attention-based Neural Machine Translation" (2015),
arXiv:1508.04025, §3.1 ("dot").

By hand: the scores are 0 and ln 3, the weights 1/4 and 3/4. Backward, da = X dy = [4, 0], aᵀda = 1 and de = [¾, −¾].

>>> import numpy as np
>>> q, X = np.array([0.0, np.log(3)]), np.array([[4.0, 0.0], [0.0, 1.0]])
>>> y, cache = forward(q, X)
>>> y, cache.A                                             # y = ¼ [4, 0] + ¾ [0, 1]
(array([1.  , 0.75]), array([0.25, 0.75]))
>>> dq, dX = backward(np.array([1.0, 0.0]), cache)
>>> dX.round(3)                                            # a dyᵀ + de qᵀ: column 2 is ln 3 · de
array([[ 0.25 ,  0.824],
       [ 0.75 , -0.824]])
>>> dq                                                     # Xᵀ de
array([ 3.  , -0.75])
"""

from __future__ import annotations

from typing import NamedTuple

from npattn._internal.checks import Array, Shapes, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.softmax import softmax, softmax_backward

SHAPES = Shapes(
    q="… D_Q",
    X="… N_X D_Q",
    mask="… N_X",
    dy="… D_Q",
)


class Cache(NamedTuple):
    """What `backward` needs, the weights `A` among it."""

    q: Array
    X: Array
    A: Array


def forward(q: Array, X: Array, mask: Array | None = None) -> tuple[Array, Cache]:
    """Return y and the cache for `backward`; see the module for the formula.

    - q: one query.
    - X: inputs, one a row.
    - mask: boolean, True = may attend; broadcasts to the scores. None: the query may attend to every input.
    """
    SHAPES.check(q, X, mask=mask)
    e = (X @ q[..., None])[..., 0]                            # (…, N_X)
    a = softmax(e, mask)                                      # (…, N_X)
    y = (a[..., None, :] @ X)[..., 0, :]                      # (…, D_Q)
    return y, Cache(q, X, a)


def backward(dy: Array, cache: Cache) -> tuple[Array, Array]:
    """Return dq, dX.

    - dy: the gradient of the loss with respect to y.
    - cache: what `forward` returned beside y.
    """
    q, X, a = SHAPES.check_backward(dy, cache, Cache)
    da = (X @ dy[..., None])[..., 0]                          # y = aᵀ X
    dX = a[..., None] * dy[..., None, :]                      # y = aᵀ X
    de = softmax_backward(da, a)                              # a = softmax(e)
    dX += de[..., None] * q[..., None, :]                     # e = X q: X is used twice, so add
    dq = (de[..., None, :] @ X)[..., 0, :]                    # e = X q
    return dq, dX


document(SHAPES, forward, backward)
forward, backward = ignore_underflow(forward), ignore_underflow(backward)
