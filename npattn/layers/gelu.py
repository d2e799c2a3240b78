"""gelu: y = x Φ(x), with Φ the cumulative function of the normal distribution; exact, or approximated by tanh.

**Forward**

    y = x Φ(x),    Φ(x) = ½ erfc(−x/√2)

**Backward**  By the product rule; Φ is the integral of the density φ, so Φ' = φ. Each x reaches its own y alone
(foundations F7):

    dx = dy (Φ(x) + x φ(x)),    φ(x) = exp(−x²/2)/√(2π)

NumPy has no erfc. For z ≥ 0 we evaluate erfc(z) = t exp(−z² + P(t)), t = 2/(2 + z). P is the Chebyshev series of
log(erfc(z) exp(z²)/t), the form of Press et al., *Numerical Recipes*, 3rd ed., §6.2.2. The coefficients below were
computed with 40 digits and 40 nodes; on 0 ≤ z ≤ 6 the result is within 5e-16 of `math.erfc`.
Every step is analytic, so the complex step can differentiate it.

**Approximation**  `approximate="tanh"` has another Φ, with σ the logistic function:

    Φ(x) = ½ (1 + tanh z) = σ(2z),    z = √(2/π) (x + 0.044715 x³)
    φ(x) = Φ' = 2 Φ (1 − Φ) √(2/π) (1 + 3 · 0.044715 x²)

y differs by up to 5e-4. GPT-2 ("gelu_new") and Gemma use it, BERT the exact form; torch has both under these words.

**Raises**  TypeError for what is no floating array, and for a dY of another dtype than Y; ValueError for one of another
shape.

**Source**  Hendrycks & Gimpel, "Gaussian Error Linear Units" (2016), arXiv:1606.08415.

>>> import numpy as np
>>> Y, cache = gelu(np.array([-1.0, 0.0, 1.0]))            # Φ(1) = 0.841345
>>> Y.round(6)
array([-0.158655,  0.      ,  0.841345])
>>> gelu_backward(np.array([1.0, 1.0, 1.0]), cache).round(6)
array([-0.083315,  0.5     ,  1.083315])
>>> gelu(np.array([-1.0, 0.0, 1.0]), approximate="tanh")[0].round(6)
array([-0.158808,  0.      ,  0.841192])
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array, Shapes, check_choice, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.silu import sigmoid

#: torch's two words.
check_approximate = partial(check_choice, choices=("none", "tanh"))

SHAPES = Shapes(X="…", dY="…", approximate=check_approximate)

#: From here on Φ is 0 or 1 and φ is 0, in float64 too: what lies beyond, ∞ as well, counts as this.
FAR = 1e3

#: The numbers of the approximation.
ROOT, CUBIC = math.sqrt(2 / math.pi), 0.044715


class Cache(NamedTuple):
    """What `gelu_backward` needs."""

    X: Array
    Phi: Array  # Φ(X)
    approximate: str


def gelu(X: Array, approximate: str = "none") -> tuple[Array, Cache]:
    """Return X Φ(X) and the cache for `gelu_backward`.

    - X: numbers; any shape.
    - approximate: "none" for the exact Φ, "tanh" for the approximation.
    """
    SHAPES.check(X, approximate=approximate)
    Phi = cumulative(X, approximate)
    return np.maximum(X, -FAR) * Phi, Cache(X, Phi, approximate)                    # −∞ · 0 would be NaN


def gelu_backward(dY: Array, cache: Cache) -> Array:
    """Return dX.

    - dY: the gradient of the loss with respect to Y.
    - cache: what `gelu` returned beside Y.
    """
    X, Phi, approximate = SHAPES.check_backward(dY, cache, Cache)
    return dY * gelu_slope(X, Phi, approximate)               # Y = X Φ(X)


def cumulative(X: Array, approximate: str) -> Array:
    """Φ(X), exact or by tanh; X of any shape."""
    if approximate == "none":
        return erfc(X * (-1 / math.sqrt(2))) * 0.5
    x = np.maximum(np.minimum(X, FAR), -FAR)
    return sigmoid(2 * ROOT * (x + CUBIC * x * x * x))


def gelu_slope(X: Array, Phi: Array, approximate: str) -> Array:
    """The derivative of x Φ(x); X and Phi = Φ(X) of any shape."""
    x = np.clip(X, -FAR, FAR)
    if approximate == "none":
        phi = np.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
    else:
        phi = Phi * (1 - Phi) * (2 * ROOT * (1 + 3 * CUBIC * x * x))
    return Phi + x * phi


def erfc(Z: Array) -> Array:
    """The complementary error function 1 − erf(Z) = (2/√π) ∫_Z^∞ exp(−t²) dt, entry by entry; Z of any shape."""
    right = Z.real >= 0
    z = np.where(right, Z, -Z)                                # erfc(−z) = 2 − erfc(z)
    t = 2 / (2 + z)
    u = 4 * t - 2                                             # twice the Chebyshev variable 2t − 1
    b_0, b_1 = t * 0, t * 0
    for c in reversed(SERIES[1:]):                            # Clenshaw's recurrence
        b_0, b_1 = u * b_0 - b_1 + c, b_0
    with np.errstate(over="ignore"):                          # far out z² is ∞ and the tail 0
        tail = t * np.exp(u * b_0 * 0.5 - b_1 + SERIES[0] - z * z)
    return np.where(right, tail, 2 - tail)


SERIES = (
    -0.6513268598908547171, 0.6419697923564902603, 0.019476473204185836312, -0.0095615147868086316419,
    -0.0009465953444820368663, 0.00036683949785276145187, 0.000042523324806907771645, -0.000020278578112534243154,
    -1.6242900046470255135e-6, 1.3036558355805232018e-6, 1.5626441722066143178e-8, -8.5238095914926542525e-8,
    6.5290544390988514964e-9, 5.0593434955514689418e-9, -9.9136415649303308674e-10, -2.2736512229318358557e-10,
    9.646791102015526802e-11, 2.3940380830391147447e-12, -6.8860275264975533984e-12, 8.9448792730907257167e-13,
    3.1309213993429580783e-13, -1.1270822361367252365e-13, 3.8109052551892320679e-16, 7.1060976136092369431e-15,
    -1.5230282014571041472e-15, -9.4574945712912544538e-17, 1.2102371892242730223e-16, -2.8166630877467739642e-17,
)  # fmt: skip


document(SHAPES, gelu, gelu_backward)
gelu, gelu_backward = ignore_underflow(gelu), ignore_underflow(gelu_backward)
