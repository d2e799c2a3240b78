"""ℓ2 normalisation: each row is divided by its length.

**Forward**  For one row x of D entries:

    y = x / √(Σ x² + ε)                ε stands inside the root

A row much longer than √ε gets length 1. A row of zeros stays zero.

**Backward**  With r = 1/√(Σ x² + ε), a change of x_k moves y_i directly and through r:

    ∂y_i/∂x_k = r (δ_ik − y_i y_k)

since ∂(Σ x²)/∂x_k = 2 x_k and the derivative of r by Σ x² is −r³/2. Summing over i against dy:

    dx = r (dy − y Σ dy ⊙ y)

The derivation is that of layer norm (foundations F10) without the mean, and with a sum in place of the mean square.

**Changed**  RMS norm with ε/D for ε, divided by √D, and without γ.

**Conventions**  ε = 1e-6 inside the root is that of the models with a gated delta rule (Qwen3-Next).
torch.nn.functional.normalize divides by max(√Σ x², 1e-12) instead: there a short row gets length 1 too.

**Raises**  ValueError for an ε out of range and a dY of another shape than Y, TypeError for what is no floating array
and for a dY of another dtype than Y.

**Source**  Yang, Kautz & Hatamizadeh (2024), arXiv:2412.06464, figure 1, for queries and keys.

By hand: [3, 4] has length 5. Backward, Σ dy ⊙ y = 3 for dy = [5, 0], so dx = ([5, 0] − 3 · [0.6, 0.8])/5.

>>> import numpy as np
>>> Y, cache = l2_norm(np.array([[3.0, 4.0], [0.0, 0.0]]), eps=1e-30)   # too small to matter here
>>> Y
array([[0.6, 0.8],
       [0. , 0. ]])
>>> l2_norm_backward(np.array([[5.0, 0.0], [0.0, 0.0]]), cache)
array([[ 0.64, -0.48],
       [ 0.  ,  0.  ]])
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array, Shapes, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.kernels import sqrt_width
from npattn.layers.layer_norm import EPS
from npattn.layers.rms_norm import normalised

SHAPES = Shapes(X="… D", Y="… D", dY="… D", eps=EPS)


class Cache(NamedTuple):
    """What `l2_norm_backward` needs."""

    Y: Array
    r: Array  # 1 / √(Σ x² + ε), one number a row


def l2_norm(X: Array, eps: float = 1e-6) -> tuple[Array, Cache]:
    """Return the rows divided by their lengths, and the cache for `l2_norm_backward`.

    - X: rows, each normalised by itself.
    - eps: ε, added to the sum of squares inside the root.
    """
    SHAPES.check(X, eps=eps)
    cache = of_length_one(X, float(eps))
    return cache.Y, cache


def l2_norm_backward(dY: Array, cache: Cache) -> Array:
    """Return dX.

    - dY: the gradient of the loss with respect to Y.
    - cache: what `l2_norm` returned beside Y.
    """
    return of_length_one_back(dY, SHAPES.check_backward(dY, cache, Cache))


def of_length_one(X: Array, eps: float) -> Cache:
    """Return Y (…, D) and r (…, 1) of rows X."""
    root = sqrt_width(X)                                      # Σ x² + ε = D (mean(x²) + ε/D)
    X_hat, r = normalised(X, eps / root**2)                   # (…, D), (…, 1)
    return Cache(X_hat / root, r / root)


def of_length_one_back(dY: Array, cache: Cache) -> Array:
    """Return dX (…, D)."""
    Y, r = cache
    return r * (dY - Y * np.vecdot(dY, Y)[..., None])         # Y = X r, directly and through r


document(SHAPES, l2_norm, l2_norm_backward)
l2_norm, l2_norm_backward = ignore_underflow(l2_norm), ignore_underflow(l2_norm_backward)
