"""Masked softmax over the last axis: it turns scores into weights that sum to 1.

**Forward**

    A_ij = exp(E_ij − m_i) / Σ_k exp(E_ik − m_i),    m_i = max_k E_ik

The row's maximum cancels, so subtracting it changes nothing; it keeps exp from overflowing. Where the mask is False,
the score counts as −∞ and the weight is exactly 0. A large negative number in place of −∞ would not do, because scores
can grow beyond it in training. A row may have no visible score, or only scores of −∞. Such a dead row gets weights
of 0, so the output of attention and the gradient are 0 too, where a plain softmax has 0/0.

A weight below 10⁻¹⁹ of the largest in its row (10⁻¹⁵⁴ in float64) counts as 0. It can't change an output, but products
of such numbers take up to 100 times as long, see `drop_negligible` of npattn.layers.kernels.

**Backward**  L is the loss, dA means ∂L/∂A; δ_jk is 1 for j = k, else 0. With s_i = Σ_k exp E_ik, the quotient rule for
A_ij = exp E_ij / s_i and the chain rule over all j give

    ∂A_ij/∂E_ik = (δ_jk exp E_ij s_i − exp E_ij exp E_ik) / s_i² = A_ij (δ_jk − A_ik)
    dE_ik = Σ_j dA_ij A_ij (δ_jk − A_ik) = A_ik (dA_ik − Σ_j A_ij dA_ij)

The sum is one number a row, rowsum(A ⊙ dA). It is there because the weights of a row share a total of 1. A masked or
dead entry has A_ik = 0, so its dE_ik is 0: a mask needs no line of its own. `npattn explain foundations` takes the same
steps one by one (foundations F9).

**Raises**  TypeError for a mask that is not boolean, ValueError for one that does not broadcast to E.
NaN or +∞ in a visible score makes its whole row NaN; masked scores are not read.

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

from npattn._internal.checks import Array, Shapes, check_gradient_of, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.kernels import drop_negligible, row_maximum, row_sum

SHAPES = Shapes(E="… N_X", mask="… N_X", A="… N_X", dA="… N_X")


def softmax(E: Array, mask: Array | None = None) -> Array:
    """Return the weights A; each row sums to 1.

    - E: scores; the softmax is taken over the last axis.
    - mask: boolean, True = may attend; a score under False gets the weight 0. None lets every score take part.
    """
    SHAPES.check(E, mask=mask)
    low = E.real.min(initial=np.inf)
    if mask is not None:
        E = np.where(mask, E, -np.inf)
    top = row_maximum(E)
    A = E - top                                               # dead rows: −∞ − 0
    drop_negligible(A, low - top.max(initial=-np.inf))
    np.exp(A, out=A)
    total = row_sum(A)
    total[total.real == 0] = 1                                # dead rows: 0 / 1
    A /= total
    return A


def softmax_backward(dA: Array, A: Array) -> Array:
    """Return dE.

    - dA: the gradient of the loss with respect to A.
    - A: the weights that `softmax` returned.
    """
    check_gradient_of("A", A, "dA", dA)
    dE = dA - np.vecdot(A, dA)[..., None]                     # A = softmax(E)
    dE *= A
    return dE


document(SHAPES, softmax, softmax_backward)
softmax, softmax_backward = ignore_underflow(softmax), ignore_underflow(softmax_backward)
