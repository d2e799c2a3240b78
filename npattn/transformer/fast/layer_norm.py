"""Layer norm on packed rows, forward and backward.

**Equals** `npattn.layers.layer_norm`, which derives both, the forward to the bit; tests compare the two. A batch with
rows far from 0, or with squares that overflow, goes there. Beside rows far from 0 the others keep their bits.

**Changed for speed** In a step of 8.4 ms, twelve layer norms take 0.76 ms here and 0.87 ms there. Nothing is checked. A
column of γ/D turns the means of rows into matrix products, dY ⊙ x̂ is computed once for dγ and dx, and small arrays are
overwritten.
"""

from __future__ import annotations

import numpy as np

from npattn._internal.checks import Array
from npattn.layers.kernels import row_sum, sum_rows
from npattn.layers.layer_norm import Cache, layer_norm
from npattn.transformer.config import TransformerConfig
from npattn.transformer.parameters import Nested


def normalise(X: Array, p: Nested, config: TransformerConfig) -> tuple[Array, Cache]:
    """Return Y (…, D) and the cache."""
    gamma, beta, D = p["gamma"], p.get("beta"), X.shape[-1]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = row_sum(X)                                     # (…, 1)
        mean /= D
        X_hat = X - mean
        v = np.vecdot(X_hat.conj(), X_hat)[..., None]         # (…, 1)
        v /= D
        mean *= mean
        is_near = bool((mean.real <= 4 * v.real).all())       # see "Rounding" there; False for NaN
    if not is_near or not v.real.max(initial=0) < np.inf:
        return layer_norm(X, gamma, beta, config.norm_eps)
    v += config.norm_eps
    r = np.divide(1, np.sqrt(v, out=v), out=v)
    X_hat *= r
    Y = X_hat * gamma
    if beta is not None:
        Y += beta
    return Y, Cache(X_hat, r, gamma, beta is not None)


def normalise_backward(dY: Array, cache: Cache | None) -> tuple[Array, Nested]:
    """Return dX and the gradients of γ and β, None for a β that is not there; dY itself where there is no norm."""
    if cache is None:
        return dY, {}
    X_hat, r, gamma, has_beta = cache
    share = (gamma / len(gamma))[:, None]                     # (D, 1)
    P = dY * X_hat
    dgamma, along = sum_rows(P), P @ share                    # along = mean(dx̂ ⊙ x̂), dx̂ = γ ⊙ dY
    dX = dY * gamma
    dX -= dY @ share                                          # mean(dx̂)
    dX -= np.multiply(X_hat, along, out=P)
    dX *= r
    return dX, {"gamma": dgamma, "beta": sum_rows(dY) if has_beta else None}
