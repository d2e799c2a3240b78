"""Masked softmax over the last axis: scores in, weights that sum to 1 out.

**Forward**

    A_ij = exp(E_ij − m_i) / Σ_k exp(E_ik − m_i),    m_i = max_k E_ik

Subtracting the row's maximum changes nothing (it cancels) and keeps exp from overflowing. Where the mask is False the
score counts as −∞ and the weight is exactly 0: a large finite number instead could be out-learned. A row that may
attend to nothing, all of whose scores are −∞ by the mask or of themselves, gets weights 0, and so A V = 0 and
gradient 0, where a plain softmax would say 0/0.

**Backward**  From ∂A_ij/∂E_ik = A_ij (δ_jk − A_ik):

    dE_ik = Σ_j dA_ij A_ij (δ_jk − A_ik) = A_ik (dA_ik − Σ_j A_ij dA_ij)

The sum is one number a row: what the weights, which share a total of 1, take from one another.

**Shapes**  E, A, dA, dE (…, N_X); mask boolean, broadcastable to E, True = may attend.

**Raises**  TypeError for a mask that is not boolean, ValueError for one that does not broadcast to E.
NaN or +∞ in a score that takes part makes its whole row NaN; under the mask neither is read.

**Source**  Bridle, "Probabilistic interpretation of feedforward classification network outputs" (1990).

>>> import numpy as np
>>> A = softmax(np.log(np.array([1.0, 2.0, 5.0])))
>>> A.round(12)
array([0.125, 0.25 , 0.625])
>>> softmax_backward(np.array([8.0, 0.0, 0.0]), A)        # Σ A dA = 1, so A · (dA − 1)
array([ 0.875, -0.25 , -0.625])
>>> softmax(np.array([1.0, 2.0]), np.array([False, False]))
array([0., 0.])
"""

from __future__ import annotations

import numpy as np

from npattn._shapes import check_cotangent, check_floating, check_mask, dims
from npattn._types import Array
from npattn.layers.linear import ones


def softmax(E: Array, mask: Array | None = None) -> Array:
    """Return the weights A; see the module for the formula."""
    dims(E=(E, "... N_X"))
    check_mask(mask, E.shape, "(…, N_X)")
    if mask is not None:
        E = np.where(mask, E, -np.inf)
    A = E - row_maximum(E)                                    # dead rows: −∞ − 0
    with np.errstate(under="ignore"):                         # a weight below the smallest number is 0
        np.exp(A, out=A)
        total = row_sum(A)
        total[total.real == 0] = 1                            # dead rows: 0 / 1
        A /= total
    return A


def softmax_backward(dA: Array, A: Array) -> Array:
    """Return dE from dA and the weights that `softmax` returned."""
    check_floating("A", A)
    check_cotangent("dA", dA, A.shape, A.dtype)
    dE = dA - np.vecdot(A, dA)[..., None]                     # A = softmax(E)
    dE *= A
    return dE


def row_maximum(E: Array) -> Array:
    """The greatest real part of each row, (…, 1); 0 for a row of −∞ or of no entries, since it is subtracted."""
    top = E.real.max(-1, keepdims=True, initial=-np.inf)
    top[np.isneginf(top)] = 0
    return top


def row_sum(A: Array) -> Array:
    """Σ over the last axis, (…, 1): for short rows a product with ones is three times as fast as `.sum(-1)`."""
    return A @ ones(A.shape[-1], A.dtype)[:, None]
