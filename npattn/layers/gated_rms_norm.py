"""Gated RMS norm: each row is normalised and scaled by γ, then multiplied by silu of a second row.

**Forward**  For one row x of D entries and one row z, with x̂ = x/√(mean(x²) + ε) as in npattn.layers.rms_norm:

    n = γ ⊙ x̂
    y = n ⊙ silu(z)                    silu(z) = z σ(z)

**Backward**  y is a product of two rows, each of which reaches it alone (foundations F7):

    dn = dy ⊙ silu(z)                  from it dx and dγ, see npattn.layers.rms_norm
    dz = dy ⊙ n ⊙ silu'(z)             see npattn.layers.silu

**Conventions**  Here the norm comes first, then the gate, as in Qwen3-Next, whose heads of version 14 each pass through
it with one γ for all heads. Mamba 2 does it the other way round: the norm of x ⊙ silu(z).

**Raises**  ValueError for shapes that don't fit and an ε out of range, TypeError for anything but floating arrays of
one dtype.

**Source**  Dao & Gu, "Transformers are SSMs" (2024), arXiv:2405.21060, §7.1, with the gate before the norm; Zhang &
Sennrich (2019), arXiv:1910.07467, for the norm.

By hand: the mean of 1² and 7² is 25 = 5², so n = [5, 2] ⊙ [1, 7]/5 = [1, 2.8]. silu(ln 3) is ¾ ln 3, and silu(0) is 0.
Backward, silu'(0) = ½.

>>> import numpy as np
>>> X, Z = np.array([[1.0, 7.0]]), np.array([[np.log(3), 0.0]])
>>> Y, cache = gated_rms_norm(X, Z, np.array([5.0, 2.0]), eps=1e-30)    # too small to matter here
>>> (Y / np.log(3)).round(12)
array([[0.75, 0.  ]])
>>> dX, dZ, dgamma = gated_rms_norm_backward(np.array([[0.0, 1.0]]), cache)
>>> dZ                                                     # ½ · 2.8; the gate 0 lets nothing back to X and γ
array([[0. , 1.4]])
>>> dX, dgamma
(array([[0., 0.]]), array([0., 0.]))
"""

from __future__ import annotations

from typing import NamedTuple

from npattn._internal.checks import Array, Shapes, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.layer_norm import EPS
from npattn.layers.rms_norm import Cache as NormCache
from npattn.layers.rms_norm import rms_norm, rms_norm_backward
from npattn.layers.silu import Cache as SiluCache
from npattn.layers.silu import silu, silu_backward

SHAPES = Shapes(X="… D", Z="… D", gamma="D", N="… D", dY="… D", eps=EPS)


class Cache(NamedTuple):
    """What `gated_rms_norm_backward` needs."""

    N: Array  # γ ⊙ x̂
    S: Array  # silu(z)
    of_N: NormCache
    of_S: SiluCache


def gated_rms_norm(X: Array, Z: Array, gamma: Array, eps: float = 1e-6) -> tuple[Array, Cache]:
    """Return γ ⊙ x̂ ⊙ silu(z) and the cache for `gated_rms_norm_backward`.

    - X: rows, each normalised by itself.
    - Z: rows of gates, one number for each of X.
    - gamma: the scale γ of each column.
    - eps: ε, added to the mean square inside the root.
    """
    SHAPES.check(X, Z)                                        # rms_norm checks γ and ε
    N, of_N = rms_norm(X, gamma, eps)                         # (…, D)
    S, of_S = silu(Z)                                         # (…, D)
    return N * S, Cache(N, S, of_N, of_S)


def gated_rms_norm_backward(dY: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return dX, dZ and dgamma.

    - dY: the gradient of the loss with respect to Y.
    - cache: what `gated_rms_norm` returned beside Y.
    """
    N, S, of_N, of_S = SHAPES.check_backward(dY, cache, Cache)
    dX, dgamma = rms_norm_backward(dY * S, of_N)              # Y = N ⊙ S
    return dX, silu_backward(dY * N, of_S), dgamma            # Y = N ⊙ S


document(SHAPES, gated_rms_norm, gated_rms_norm_backward)
gated_rms_norm, gated_rms_norm_backward = ignore_underflow(gated_rms_norm), ignore_underflow(gated_rms_norm_backward)
