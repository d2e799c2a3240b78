"""Version 3, scaled dot-product attention: the dot product divided by √D_Q.

**Forward**

    e = X q / √D_Q                 one similarity for each input
    a = softmax(e)                 attention weights, Σ a = 1
    y = aᵀ X                       the weighted mean of the inputs

**Backward**  Line by line, from the last to the first. L is the loss, dy means ∂L/∂y, and so for every letter:

    y_d = Σ_n a_n X_nd             da_n = Σ_d dy_d X_nd,  dX_nd = a_n dy_d        da = X dy,  dX = a dyᵀ
    a = softmax(e)                 de = a ⊙ (da − aᵀda)                           see npattn.layers.softmax
    e_n = Σ_d X_nd q_d / √D_Q      dq_d = Σ_n X_nd de_n / √D_Q                    dq = Xᵀ (de/√D_Q)
                                   dX_nd += de_n q_d / √D_Q: X is used twice      dX += (de/√D_Q) qᵀ

Each rule is derived in `npattn explain foundations`: gradients that add (foundations F4), indices as matrices
(foundations F5), the factor 1/√D_Q (foundations F7), softmax (foundations F9). A mask needs no line here, see
npattn.layers.softmax.

**Changed**  e = X q becomes e = X q / √D_Q. The dot product of two vectors whose D_Q entries are independent with mean
0 and variance 1 has variance D_Q, so its size grows with √D_Q. Scores far apart saturate the softmax: one weight is
nearly 1, and every product a_n (δ_nm − a_m) in its Jacobian is nearly 0, so little of dy reaches the query. Dividing
keeps the variance at 1 for every width. `figures/why_scale.py` draws the median of |dq| against D_Q. Up to D_Q = 64
it is greater without the division, which also divides dq; near 100 the two are equal. Beyond 128 it vanishes without
the division: at 256 it is a fifth of the scaled one, at 1024 less than a hundredth.

**Raises**  ValueError for shapes that don't fit, TypeError for dtypes that differ or a mask that is not boolean.

**Source**  Vaswani et al., "Attention Is All You Need" (2017), arXiv:1706.03762, §3.2.1 and its footnote 4.

By hand: D_Q = 4, so the dot products 0 and 2 ln 3 become 0 and ln 3, the weights 1/4 and 3/4. Backward,
da = X dy = [4, 0], aᵀda = 1 and de/√D_Q = [⅜, −⅜].

>>> import numpy as np
>>> q, X = np.array([0.0, 2 * np.log(3), 0.0, 0.0]), np.array([[4.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
>>> y, cache = forward(q, X)
>>> y, cache.A                                             # y = ¼ [4, 0, 0, 0] + ¾ [0, 1, 0, 0]
(array([1.  , 0.75, 0.  , 0.  ]), array([0.25, 0.75]))
>>> dq, dX = backward(np.array([1.0, 0.0, 0.0, 0.0]), cache)
>>> dX.round(3)                                            # a dyᵀ + (de/√D_Q) qᵀ: column 2 is 2 ln 3 · de/√D_Q
array([[ 0.25 ,  0.824,  0.   ,  0.   ],
       [ 0.75 , -0.824,  0.   ,  0.   ]])
>>> dq                                                     # Xᵀ (de/√D_Q)
array([ 1.5  , -0.375,  0.   ,  0.   ])
"""

from __future__ import annotations

from typing import NamedTuple

from npattn._internal.checks import Array, Shapes, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.kernels import sqrt_width
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
    e = (X @ q[..., None])[..., 0] / sqrt_width(q)            # (…, N_X)
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
    de /= sqrt_width(q)                                       # e = … / √D_Q: from here on de/√D_Q
    dX += de[..., None] * q[..., None, :]                     # e = X q / √D_Q: X is used twice, so add
    dq = (de[..., None, :] @ X)[..., 0, :]                    # e = X q / √D_Q
    return dq, dX


document(SHAPES, forward, backward)
forward, backward = ignore_underflow(forward), ignore_underflow(backward)
