"""RMS normalisation: each row is divided by its root mean square, then scaled by γ.

**Forward**  For one row x of D entries:

    v = mean(x²)
    x̂ = x / √(v + ε)                   ε stands inside the root
    y = γ ⊙ x̂                          (1 + γ) ⊙ x̂ with `unit_offset`

**Backward**  γ serves every row, so its gradient is summed over rows:

    dγ = Σ dy ⊙ x̂,    dx̂ = γ ⊙ dy      (1 + γ) ⊙ dy with `unit_offset`

With r = 1/√(v + ε), a change of x_k moves x̂_i directly and through v:

    ∂x̂_i/∂x_k = r (δ_ik − x̂_i x̂_k / D)

since ∂v/∂x_k = 2 x_k/D and ∂r/∂v = −r³/2. Summing over i against dx̂:

    dx = r (dx̂ − x̂ mean(dx̂ ⊙ x̂))

The derivation is that of layer norm (foundations F10) without the mean.

**Changed**  Layer norm without the mean: x itself takes the place of x − μ, and there is no shift β.

**Conventions**  Gemma stores γ − 1, so that weights start at 0: that is `unit_offset=True`. ε differs: 1e-6 here and in
most models, 1e-5 in Llama 2, 3 and in ONNX, the machine epsilon in torch.nn.RMSNorm unless it is given.

A row of zeros gives zeros, because ε is at least 2⁻¹²⁶. A row whose squares are beyond the largest number is divided by
its largest entry first.

**Raises**  ValueError for shapes that don't fit and an ε out of range, TypeError for anything but floating arrays of
one dtype.

**Source**  Zhang & Sennrich, "Root Mean Square Layer Normalization" (2019), arXiv:1910.07467.

By hand: the mean of 1², 7², 5² and 5² is 25 = 5², so x̂ = [1, 7, 5, 5]/5. Backward, dx̂ = γ ⊙ dy = [5, 0, 0, 0],
mean(dx̂ ⊙ x̂) = ¼, and dx = (dx̂ − x̂/4)/5.

>>> import numpy as np
>>> X, gamma = np.array([[1.0, 7.0, 5.0, 5.0]]), np.array([1.0, 2.0, 3.0, 4.0])
>>> Y, cache = rms_norm(X, gamma, eps=1e-30)                # too small to matter here
>>> Y
array([[0.2, 2.8, 3. , 4. ]])
>>> dX, dgamma = rms_norm_backward(np.array([[5.0, 0.0, 0.0, 0.0]]), cache)
>>> dgamma                                                  # dy ⊙ x̂
array([1., 0., 0., 0.])
>>> dX
array([[ 0.99, -0.07, -0.05, -0.05]])
>>> rms_norm(X, gamma - 1, eps=1e-30, unit_offset=True)[0]  # the same γ as Gemma stores it
array([[0.2, 2.8, 3. , 4. ]])
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array, Shapes, check_flag, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.kernels import sum_rows
from npattn.layers.layer_norm import EPS, mean_square

SHAPES = Shapes(X="… D", gamma="D", X_hat="… D", dY="… D", eps=EPS, unit_offset=check_flag)


class Cache(NamedTuple):
    """What `rms_norm_backward` needs."""

    X_hat: Array  # normalised rows
    r: Array      # 1 / √(v + ε), one number a row
    gamma: Array  # what multiplies x̂: 1 + γ with the offset


def rms_norm(X: Array, gamma: Array, eps: float = 1e-6, unit_offset: bool = False) -> tuple[Array, Cache]:
    """Return Y = γ ⊙ x̂ and the cache for `rms_norm_backward`.

    - X: rows, each normalised by itself.
    - gamma: the scale γ of each column.
    - eps: ε, added to the mean square inside the root.
    - unit_offset: True multiplies by 1 + γ.
    """
    SHAPES.check(X, gamma, eps=eps, unit_offset=unit_offset)
    X_hat, r = normalised(X, float(eps))                      # (…, D), (…, 1)
    scale = 1 + gamma if unit_offset else gamma
    return X_hat * scale, Cache(X_hat, r, scale)


def normalised(X: Array, eps: float) -> tuple[Array, Array]:
    """Return x̂, (…, D), and r = 1/√(v + ε), (…, 1). With u = 1, r = 1/√(mean((x/u)²) + ε/u²) / u is that too."""
    u: Array | float = 1.0
    with np.errstate(over="ignore", invalid="ignore"):        # ∞/∞ is the NaN that it should be
        v = mean_square(X)                                    # (…, 1)
        if not v.real.max(initial=0) < np.inf:                # a square is beyond the largest number, or NaN
            u = np.maximum(np.maximum(X.real, -X.real).max(-1, keepdims=True), 1)
            X = X / u
            v = mean_square(X)
        r = 1 / np.sqrt(v + (math.sqrt(eps) / u) ** 2)
        return X * r, r / u


def rms_norm_backward(dY: Array, cache: Cache) -> tuple[Array, Array]:
    """Return dX and dgamma.

    - dY: the gradient of the loss with respect to Y.
    - cache: what `rms_norm` returned beside Y.
    """
    X_hat, r, scale = SHAPES.check_backward(dY, cache, Cache)
    dgamma = sum_rows(dY * X_hat)                             # Y = γ ⊙ x̂
    dX = dY * scale                                           # dx̂
    dX -= X_hat * (np.vecdot(dX, X_hat) / max(X_hat.shape[-1], 1))[..., None]   # x̂ = x r, through v
    dX *= r                                                   # x̂ = x r
    return dX, dgamma


document(SHAPES, rms_norm, rms_norm_backward)
rms_norm, rms_norm_backward = ignore_underflow(rms_norm), ignore_underflow(rms_norm_backward)
