"""Layer normalisation: every row to mean 0 and variance 1, then a learned scale γ and shift β.

**Forward**  For one row x of D entries:

    μ = mean(x)
    v = mean((x − μ)²)                 biased, and in two passes: E[x²] − μ² fails for rows near 10⁸
                                       μ itself is x_1 + mean(x − x_1), which is exact for a constant row
    x̂ = (x − μ) / √(v + ε)
    y = γ ⊙ x̂ + β

**Backward**  γ and β serve every row, so their gradients are summed over rows:

    dβ = Σ dy,    dγ = Σ dy ⊙ x̂,    dx̂ = γ ⊙ dy

With r = 1/√(v + ε), a change of x_k moves x̂_i in three ways: directly, through μ and through v:

    ∂x̂_i/∂x_k = r (δ_ik − 1/D − x̂_i x̂_k / D)

since ∂μ/∂x_k = 1/D, ∂v/∂x_k = 2 (x_k − μ)/D and ∂r/∂v = −r³/2. Summing over i against dx̂:

    dx = r (dx̂ − mean(dx̂) − x̂ mean(dx̂ ⊙ x̂))

γ stands inside both means. Outside them it would be right only when γ is the same everywhere, as it is on the
first step of training and on no later one.

**Shapes**  X, Y (…, D), γ (D,), β (D,) or None. A constant row gives β, as long as ε > 0.

**Source**  Ba, Kiros & Hinton, "Layer Normalization" (2016), arXiv:1607.06450.

>>> import numpy as np
>>> X, gamma, beta = np.array([[1.0, 3.0]]), np.array([2.0, 10.0]), np.array([0.0, 1.0])
>>> Y, cache = layer_norm(X, gamma, beta, eps=0.0)
>>> Y                                                       # x̂ = [−1, 1]
array([[-2., 11.]])
>>> dX, dgamma, dbeta = layer_norm_backward(np.array([[1.0, 1.0]]), cache)
>>> dgamma, dbeta
(array([-1.,  1.]), array([1., 1.]))
>>> dX                                                      # two entries: x̂ is ±1 whatever x is
array([[0., 0.]])
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npattn._shapes import check_cotangent, dims
from npattn._types import Array
from npattn.layers.linear import sum_rows
from npattn.layers.softmax import row_sum


class Cache(NamedTuple):
    X_hat: Array  # (…, D)  normalised rows
    r: Array      # (…, 1)  1 / √(v + ε)
    gamma: Array  # (D,)
    has_beta: bool


def layer_norm(X: Array, gamma: Array, beta: Array | None = None, eps: float = 1e-5) -> tuple[Array, Cache]:
    """Return Y = γ ⊙ x̂ + β and the cache for `layer_norm_backward`."""
    dims(X=(X, "... D"), gamma=(gamma, "D"), beta=(beta, "D"))
    D = max(X.shape[-1], 1)
    X_hat = X - X[..., :1]                                    # (…, D)  the shift keeps the digits of rows far from 0
    X_hat -= row_sum(X_hat) / D
    v = np.vecdot(X_hat.conj(), X_hat) / D                    # vecdot conjugates once more: Σ x², also when complex
    r = (1 / np.sqrt(v + eps))[..., None]                     # (…, 1)
    X_hat *= r
    Y = X_hat * gamma
    if beta is not None:
        Y += beta
    return Y, Cache(X_hat, r, gamma, beta is not None)


def layer_norm_backward(dY: Array, cache: Cache) -> tuple[Array, Array, Array | None]:
    """Return dX, dgamma and dbeta (None when there was no beta)."""
    X_hat, r, gamma, has_beta = cache
    check_cotangent("dY", dY, X_hat.shape, X_hat.dtype)
    D = max(X_hat.shape[-1], 1)
    dbeta = sum_rows(dY) if has_beta else None                # Y = … + β
    dgamma = sum_rows(dY * X_hat)                             # Y = γ ⊙ x̂
    dX = dY * gamma                                           # dx̂
    along = (np.vecdot(dX, X_hat) / D)[..., None]             # (…, 1)  mean(dx̂ ⊙ x̂)
    dX -= row_sum(dX) / D                                     # x̂ = (x − μ) r, through μ
    dX -= X_hat * along                                       # … and through v
    dX *= r
    return dX, dgamma, dbeta
