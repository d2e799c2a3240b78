"""Layer normalisation: each row is centred and divided by its spread, then scaled by γ and shifted by β.

**Forward**  For one row x of D entries:

    μ = mean(x)
    v = mean((x − μ)²)                 biased, and in two passes: E[x²] − μ² fails for rows near 10⁸
    x̂ = (x − μ) / √(v + ε)
    y = γ ⊙ x̂ + β

x̂ has mean 0 and variance v/(v + ε): nearly 1 where v is far above ε, 0 for a constant row. Such a row gives β; its r is
finite, because ε is at least 2⁻¹²⁶.

**Backward**  γ and β serve every row, so their gradients are summed over rows:

    dβ = Σ dy,    dγ = Σ dy ⊙ x̂,    dx̂ = γ ⊙ dy

With r = 1/√(v + ε), a change of x_k moves x̂_i in three ways: directly, through μ and through v:

    ∂x̂_i/∂x_k = r (δ_ik − 1/D − x̂_i x̂_k / D)

since ∂μ/∂x_k = 1/D, ∂v/∂x_k = 2 (x_k − μ)/D (through μ it does not change, as Σ_j (x_j − μ) = 0) and ∂r/∂v = −r³/2;
so the way through v is (x_i − μ) (−r³/2) 2 (x_k − μ)/D. Each step is in (foundations F10). Summing over i against dx̂:

    dx = r (dx̂ − mean(dx̂) − x̂ mean(dx̂ ⊙ x̂))

γ stands inside both means, in dx̂. Outside them the formula would be right only while all entries of γ are equal, as
they are before training.

**Rounding**  In a row far from 0, the rounding of μ can be as large as the spread of the row. So where |μ| > 2√v, the
mean of x − μ is subtracted once more. There x − μ is small and nearly exact, and a constant row becomes exactly 0. No
column has a special part in this, so an outlier costs the same digits in every column.

**Raises**  ValueError for shapes that don't fit and an ε out of range, TypeError for anything but
floating arrays of one dtype.

**Source**  Ba, Kiros & Hinton, "Layer Normalization" (2016), arXiv:1607.06450.

By hand: x = [1, 3, 5] has μ = 3 and v = 8/3. ε = 4/3 makes v + ε = 4, r = ½ and x̂ = [−1, 0, 1]. Backward,
dx̂ = γ ⊙ dy = [3, 6, 0], mean(dx̂) = 3 and mean(dx̂ ⊙ x̂) = −1, so dx = ½ ([3, 6, 0] − 3 + [−1, 0, 1]). With γ outside
the means it would be ½ γ ⊙ ([3, 3, 0] − 2 + [−1, 0, 1]) = [0, 1, −2].

>>> import numpy as np
>>> X, gamma, beta = np.array([[1.0, 3.0, 5.0]]), np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0, 0.0])
>>> Y, cache = layer_norm(X, gamma, beta, eps=4 / 3)
>>> Y                                                       # γ ⊙ x̂ + β
array([[-1.,  1.,  4.]])
>>> dX, dgamma, dbeta = layer_norm_backward(np.array([[3.0, 3.0, 0.0]]), cache)
>>> dX
array([[-0.5,  1.5, -1. ]])
>>> dgamma, dbeta                                           # dy ⊙ x̂ and dy
(array([-3.,  0.,  0.]), array([3., 3., 0.]))
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array, Interval, Shapes, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.kernels import row_sum, sum_rows

#: ε must be a number in float32 too: with 0 a constant row would be 0/0.
EPS = Interval(2.0**-126, 2.0**127)
SHAPES = Shapes(X="… D", gamma="D", beta="D or None", X_hat="… D", dY="… D", eps=EPS)


class Cache(NamedTuple):
    """What `layer_norm_backward` needs."""

    X_hat: Array  # normalised rows
    r: Array      # 1 / √(v + ε), one number a row
    gamma: Array
    has_beta: bool


def layer_norm(X: Array, gamma: Array, beta: Array | None = None, eps: float = 1e-5) -> tuple[Array, Cache]:
    """Return Y = γ ⊙ x̂ + β and the cache for `layer_norm_backward`.

    - X: rows, each normalised by itself.
    - gamma: the scale γ of each column.
    - beta: the shift β of each column; None for none.
    - eps: ε, added to the variance inside the root.
    """
    SHAPES.check(X, gamma, beta, eps=eps)
    with np.errstate(over="ignore", invalid="ignore"):
        X_hat, v = centred(X)                                 # (…, D), (…, 1)
    if v.real.max(initial=0) < np.inf:
        r = 1 / np.sqrt(v + float(eps))                       # (…, 1)
        X_hat *= r
    else:                                                     # not if it is NaN
        X_hat, r = normalised_far_out(X, float(eps))
    Y = X_hat * gamma
    if beta is not None:
        Y += beta
    return Y, Cache(X_hat, r, gamma, beta is not None)


def centred(X: Array) -> tuple[Array, Array]:
    """Return x − μ, (…, D), and the biased variance v, (…, 1)."""
    D = max(X.shape[-1], 1)
    mean = row_sum(X) / D                                     # (…, 1)
    X_hat = X - mean
    v = mean_square(X_hat)                                    # (…, 1)
    far = mean * mean > 4 * v                                 # rows far from 0
    if far.any():
        X_hat -= np.where(far, row_sum(X_hat) / D, 0)         # what rounding left of the mean
        v = mean_square(X_hat)
    return X_hat, v


def mean_square(X: Array) -> Array:
    """mean(x²) of each row, (…, 1); also when complex: vecdot conjugates, so conj comes first."""
    return np.vecdot(X.conj(), X)[..., None] / max(X.shape[-1], 1)


def normalised_far_out(X: Array, eps: float) -> tuple[Array, Array]:
    """Return x̂ and r also where squares are beyond the largest number, from rows divided by their largest entry u.

        x̂ = (x/u − μ/u) u r,    r = 1/√(s² + ε),  s = √(v/u²) u
    """
    u = np.maximum(X.real.max(-1, keepdims=True), -X.real.min(-1, keepdims=True))          # (…, 1)
    u = np.maximum(u, 1)                                      # small rows stay as they are, beside ε too
    with np.errstate(invalid="ignore"):                       # ∞/∞ is the NaN that it should be
        X_hat, v = centred(X / u)
        s, t = np.sqrt(v) * u, math.sqrt(eps)                 # √v and √ε
        top = np.maximum(s.real, t)
        r = 1 / (top * np.sqrt((s / top) ** 2 + (t / top) ** 2))   # no square here is beyond 1
        X_hat *= u / 2                                        # x − μ can be twice the largest number
        X_hat *= 2 * r
        return X_hat, r


def layer_norm_backward(dY: Array, cache: Cache) -> tuple[Array, Array, Array | None]:
    """Return dX, dgamma and dbeta (None when there was no beta).

    - dY: the gradient of the loss with respect to Y.
    - cache: what `layer_norm` returned beside Y.
    """
    X_hat, r, gamma, has_beta = SHAPES.check_backward(dY, cache, Cache)
    D = max(X_hat.shape[-1], 1)
    dbeta = sum_rows(dY) if has_beta else None                # Y = … + β
    dgamma = sum_rows(dY * X_hat)                             # Y = γ ⊙ x̂
    dX = dY * gamma                                           # dx̂
    along = (np.vecdot(dX, X_hat) / D)[..., None]             # (…, 1)  mean(dx̂ ⊙ x̂)
    dX -= row_sum(dX) / D                                     # x̂ = (x − μ) r, through μ
    dX -= X_hat * along                                       # … and through v
    dX *= r
    return dX, dgamma, dbeta


document(SHAPES, layer_norm, layer_norm_backward)
layer_norm, layer_norm_backward = ignore_underflow(layer_norm), ignore_underflow(layer_norm_backward)
