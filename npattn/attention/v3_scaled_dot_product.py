"""Version 3, scaled dot-product attention: the dot product divided by √D_Q.

**Forward**

    e = X q / √D_Q                 one similarity for each input
    a = softmax(e)                 attention weights, Σ a = 1
    y = aᵀ X                       the weighted mean of the inputs

**Backward**  Line by line, from the last to the first, with dZ = ∂L/∂Z:

    y_d = Σ_n a_n X_nd             da_n = Σ_d dy_d X_nd,  dX_nd = a_n dy_d        da = X dy,  dX = a dyᵀ
    a = softmax(e)                 de = a ⊙ (da − aᵀda)                           see npattn.layers.softmax
    e_n = Σ_d X_nd q_d / √D_Q      dq_d = Σ_n X_nd de_n / √D_Q                    dq = Xᵀ (de/√D_Q)
                                   dX_nd += de_n q_d / √D_Q: X is used twice      dX += (de/√D_Q) qᵀ

**Shapes**  q (…, D_Q), X (…, N_X, D_Q), e and a (…, N_X), y (…, D_Q). The mask broadcasts to e.

**Changed**  e = X q becomes e = X q / √D_Q. The dot product of two vectors whose D_Q entries are independent with
mean 0 and variance 1 has variance D_Q, so its size grows with √D_Q. Large scores saturate the softmax: one weight is
nearly 1, every product a_n (δ_nm − a_m) in its Jacobian nearly 0, and the query learns nothing. Dividing keeps the
variance at 1 for every width.

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

import math
from typing import NamedTuple

from npattn._shapes import check_cache, check_cotangent, check_mask, dims
from npattn._types import Array
from npattn.layers.softmax import softmax, softmax_backward


class Cache(NamedTuple):
    """What `backward` needs, the weights `A` among it."""

    q: Array  # (…, D_Q)
    X: Array  # (…, N_X, D_Q)
    A: Array  # (…, N_X)


def forward(q: Array, X: Array, mask: Array | None = None) -> tuple[Array, Cache]:
    """Return y (…, D_Q) and the cache for `backward`; see the module for the formula."""
    dims(
        q=(q, "... D_Q"),
        X=(X, "... N_X D_Q"),
    )
    check_mask(mask, X.shape[:-1], "(…, N_X)")
    e = (X @ q[..., None])[..., 0] / math.sqrt(max(q.shape[-1], 1))   # (…, N_X)
    a = softmax(e, mask)                                      # (…, N_X)
    y = (a[..., None, :] @ X)[..., 0, :]                      # (…, D_Q)
    return y, Cache(q, X, a)


def backward(dy: Array, cache: Cache) -> tuple[Array, Array]:
    """Return dq, dX."""
    q, X, a = check_cache(cache, Cache)
    check_cotangent("dy", dy, (*q.shape[:-1], X.shape[-1]), X.dtype)
    da = (X @ dy[..., None])[..., 0]                          # y = aᵀ X
    dX = a[..., None] * dy[..., None, :]                      # y = aᵀ X
    de = softmax_backward(da, a)                              # a = softmax(e)
    de /= math.sqrt(max(q.shape[-1], 1))                      # e = … / √D_Q: from here on de/√D_Q
    dX += de[..., None] * q[..., None, :]                     # e = X q / √D_Q: X is used twice, so add
    dq = (de[..., None, :] @ X)[..., 0, :]                    # e = X q / √D_Q
    return dq, dX
