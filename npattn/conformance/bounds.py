"""How far a right implementation may be from the exact numbers: arithmetic on numbers with an error bound.

A `Bounded` is an array of float64 numbers with a bound on the error that an implementation in a smaller dtype has made
in each. `Arithmetic` computes with them as the implementation computes, and adds to each bound what every operation
adds: this is a running error analysis (Higham, *Accuracy and Stability of Numerical Algorithms*, ch. 3). Nothing in it
is measured or tuned. Let u be the unit roundoff of the dtype, and a hat stand for a computed number:

    one operation             fl(x ∘ y) = (x ∘ y)(1 + δ) + η,  |δ| ≤ u          η: half the smallest positive number
    a sum of n products       |fl(Σ x_k y_k) − Σ x_k y_k| ≤ γ_n Σ |x_k| |y_k|,   γ_n = n u / (1 − n u)    (ch. 3, 4)
    errors that came in       |x̂ ŷ − x y| ≤ |x| e_y + |y| e_x + e_x e_y,         e: the bound of each factor
    a function f              |f(x̂) − f(x)| ≤ the largest change of f within e_x,  and 4 u |f(x)| for f itself, which is
                              an assumption about libraries; npattn.conformance.analysis lists what else is assumed

γ_n holds for every order of the sum: one after the other, pairwise, in blocks or in threads. Implementations in 16 bits
usually keep a sum in float32 and round it once at the end; then γ_n has the u of float32, and one u of the dtype comes
on top. A factor may be scaled before the product or the result after it, so a product has two more roundings.

**Two bounds**  The *verdict* adds all these errors, as if they all had the worst sign. No right implementation exceeds
it. The *tightness* is probabilistic: with independent errors of mean 0, a sum of n terms is λ √n u off at most, up to a
probability that falls as exp(−λ²/2) (Higham & Mary, *A New Approach to Probabilistic Rounding Error Analysis*, 2019),
here with λ = 4, and errors that come in from different places are combined by the root of the sum of their squares. The
rounding of a sum is u times its partial sums s_k. For terms x_k in random order with the sum s and q = Σ x_k², the mean
of Σ_k s_k² is n s²/3 + n q/6, up to terms of order 1/n: that takes the place of n (Σ |x_k|)², which is far too large
where signs alternate (Higham & Mary, *Sharper Probabilistic Backward Error Analysis*, 2020). This bound
says how good the arithmetic is, not whether it is right: structured data, such as repeated tokens, can exceed it.

>>> import numpy as np
>>> verdict = Arithmetic("float32")
>>> x = verdict.exact(np.ones((1, 1000)))
>>> y = verdict.product(x, verdict.exact(np.ones((1000, 1))))
>>> float(y.value[0, 0]), bool(1000 * 2.0**-24 < y.error[0, 0] / 1000 < 1004 * 2.0**-24)
(1000.0, True)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array


class Precision(NamedTuple):
    """What a dtype can hold: unit roundoff, half of the smallest positive number, and the smallest weight it keeps.

    A softmax may set weights below 10⁻¹⁹ of the row's largest to 0 (10⁻¹⁵⁴ in float64), as no sum can tell.
    """

    roundoff: float
    underflow: float
    weight: float


PRECISIONS = {
    "float64": Precision(2.0**-53, 2.0**-1075, 1e-154),
    "float32": Precision(2.0**-24, 2.0**-150, 1e-19),
    "float16": Precision(2.0**-11, 2.0**-25, 2.0**-24),
    "bfloat16": Precision(2.0**-8, 2.0**-134, 1e-19),
}
LAMBDA = 4.0


def rounded(X: Array, dtype: str) -> Array:
    """Return float64 numbers that the dtype can hold: X rounded to nearest, ties to even.

    >>> rounded(np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8]), "bfloat16") - 1
    array([0.      , 0.015625])
    """
    if dtype != "bfloat16":
        return X.astype(dtype).astype(np.float64)
    bits = X.astype(np.float32).view(np.uint32)
    bits = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    return (bits & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


@dataclass(frozen=True)
class Bounded:
    """Numbers and a bound on the error of each."""

    value: Array
    error: Array

    def __getitem__(self, index: Any) -> Bounded:
        return Bounded(self.value[index], self.error[index])

    @property
    def mT(self) -> Bounded:
        """Swap the last two axes."""
        return Bounded(self.value.mT, self.error.mT)

    def reshape(self, *shape: int) -> Bounded:
        """Give numbers and bounds another shape."""
        return Bounded(self.value.reshape(shape), self.error.reshape(shape))


@dataclass(frozen=True)
class Arithmetic:
    """Operations on `Bounded` numbers as a dtype carries them out.

    - dtype: a name of PRECISIONS.
    - accumulated: the dtype that sums are kept in; None for float32 with 16 bits, else the dtype itself.
    - tightness: True for the probabilistic bound, False for the verdict.
    """

    dtype: str
    accumulated: str | None = None
    tightness: bool = False

    @property
    def accumulate(self) -> str:
        """The dtype that sums are kept in."""
        return self.accumulated or ("float32" if self.dtype in ("float16", "bfloat16") else self.dtype)

    @property
    def eta(self) -> float:
        """Half of the smallest positive number."""
        return PRECISIONS[self.dtype].underflow

    @property
    def weight(self) -> float:
        """The smallest weight of a softmax that is kept."""
        return PRECISIONS[self.dtype].weight

    def gamma(self, n: int, dtype: str | None = None) -> float:
        """Return γ_n of the dtype, ∞ where n u ≥ 1; for the tightness λ √n u."""
        u = PRECISIONS[dtype or self.dtype].roundoff
        if self.tightness:
            return LAMBDA * math.sqrt(n) * u
        return n * u / (1 - n * u) if n * u < 1 else math.inf

    def gamma_of_sum(self, n: int) -> float:
        """Return the relative rounding of a sum of n products: γ_n of the dtype of sums, and three more roundings."""
        return float(self.mix(self.gamma(n, self.accumulate), self.gamma(3)))

    def of_sum(self, n: int, total: Array, size: Array, squares: Array) -> Array:
        """Return the rounding of sums of n terms from their totals, sums of absolute values and sums of squares."""
        if not self.tightness:
            return self.gamma_of_sum(n) * size
        partial = n * (np.square(total) / 3 + squares / 6)
        own = 2 * squares + np.square(total)
        return np.sqrt(self.gamma(1, self.accumulate) ** 2 * partial + self.gamma(1) ** 2 * own)

    def mix(self, *errors: Array | float) -> Array:
        """Combine errors that come from different places."""
        if self.tightness:
            return np.sqrt(sum(np.square(error) for error in errors))
        return np.asarray(sum(errors))

    def total(self, error: Array, axis: int | tuple[int, ...], keepdims: bool) -> Array:
        """Combine the errors along the axes."""
        if self.tightness:
            return np.sqrt(np.square(error).sum(axis, keepdims=keepdims))
        return np.asarray(error.sum(axis, keepdims=keepdims))

    def _matmul(self, A: Array, B: Array) -> Array:
        return np.sqrt(np.square(A) @ np.square(B)) if self.tightness else A @ B

    def exact(self, X: Array | float) -> Bounded:
        """Return numbers without an error, as inputs are."""
        X = np.asarray(X, np.float64)
        return Bounded(X, np.zeros_like(X))

    def rounding(self, value: Array, *errors: Array | float, times: int = 1) -> Bounded:
        """Return the value with these errors and those of as many roundings to the dtype."""
        new = self.gamma(times) * np.abs(value) + times * self.eta
        return Bounded(value, self.mix(new, *errors))

    def add(self, X: Bounded, Y: Bounded) -> Bounded:
        return self.rounding(X.value + Y.value, X.error, Y.error)

    def subtract(self, X: Bounded, Y: Bounded) -> Bounded:
        return self.rounding(X.value - Y.value, X.error, Y.error)

    def multiply(self, X: Bounded, Y: Bounded) -> Bounded:
        cross = (np.abs(X.value) * Y.error, np.abs(Y.value) * X.error, X.error * Y.error)
        return self.rounding(X.value * Y.value, *cross)

    def scale(self, X: Bounded, factor: float) -> Bounded:
        """Multiply by a number that is itself rounded."""
        return self.rounding(factor * X.value, abs(factor) * X.error, times=2)

    def product(self, A: Bounded, B: Bounded) -> Bounded:
        """Return A B, a sum of n products for each entry."""
        n, total, size = A.value.shape[-1], A.value @ B.value, np.abs(A.value) @ np.abs(B.value)
        new = self.of_sum(n, total, size, np.square(A.value) @ np.square(B.value)) + (n + 3) * self.eta
        cross = (self._matmul(np.abs(A.value), B.error), self._matmul(A.error, np.abs(B.value)))
        return Bounded(total, self.mix(new, *cross, self._matmul(A.error, B.error)))

    def sum(self, X: Bounded, axis: int | tuple[int, ...], keepdims: bool = False) -> Bounded:
        """Return the sum along the axes."""
        value, size, squares = (f(X.value).sum(axis, keepdims=keepdims) for f in (np.positive, np.abs, np.square))
        new = self.of_sum(X.value.size // max(value.size, 1), value, size, squares) + self.eta
        return Bounded(value, self.mix(new, self.total(X.error, axis, keepdims)))

    def mean(self, X: Bounded) -> Bounded:
        """Return the mean of each row, (…, 1)."""
        return self.scale(self.sum(X, -1, keepdims=True), 1 / X.value.shape[-1])

    def function(self, f: Callable[[Array], Array], X: Bounded) -> Bounded:
        """Return f(X) of a monotone f that a library computes to 4 u."""
        value = f(X.value)
        change = np.maximum(np.abs(f(X.value + X.error) - value), np.abs(value - f(X.value - X.error)))
        return self.rounding(value, change, times=4)
