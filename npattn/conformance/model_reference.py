"""Plain implementations of gelu, swiglu, embedding and Adam in small steps, each of which a fault can replace.

See npattn.conformance.reference, whose kinds of layer these add to.
"""

from __future__ import annotations

import math

import numpy as np

from npattn._internal.checks import Array
from npattn.conformance.reference import Arrays, Layer

#: NumPy has no erf.
ERF = np.vectorize(math.erf, otypes=[np.float64])
ROOT, CUBIC = math.sqrt(2 / math.pi), 0.044715


class Gelu(Layer):
    def exact(self) -> bool:
        return bool(self.o.get("approximate", "none") == "none")

    def argument(self, x: Array) -> Array:
        return x * (1 / math.sqrt(2)) if self.exact() else ROOT * (x + CUBIC * x**3)

    def cumulative(self, x: Array) -> Array:
        z = self.argument(x)
        return 0.5 * (1 + (ERF(z).astype(x.dtype) if self.exact() else np.tanh(z)))

    def density(self, x: Array, Phi: Array) -> Array:
        if self.exact():
            return np.exp(-0.5 * x**2) * (1 / math.sqrt(2 * math.pi))
        return 2 * Phi * (1 - Phi) * self.inner_slope(x)

    def inner_slope(self, x: Array) -> Array:
        return ROOT * (1 + 3 * CUBIC * x**2)

    def slope(self, x: Array, Phi: Array) -> Array:
        return Phi + x * self.density(x, Phi)

    def forward(self) -> Array:
        X = self.i["X"]
        self.Phi = self.cumulative(X)
        return X * self.Phi

    def backward(self, dY: Array) -> Arrays:
        return {"X": dY * self.slope(self.i["X"], self.Phi)}


class Swiglu(Layer):
    def gating(self, width: int) -> tuple[slice, slice]:
        """Return which columns gate, and which are gated."""
        first, second = slice(width // 2), slice(width // 2, None)
        ways = {"first": (first, second), "second": (second, first), "even": (slice(None, None, 2), slice(1, None, 2))}
        return ways[self.o.get("gate", "first")]

    def limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the smallest and largest g, and the smallest and largest u."""
        limit = self.o.get("limit", math.inf)
        return (-math.inf, limit), (-limit, limit)

    def slope(self) -> float:
        return float(self.o.get("slope", 1.0))

    def offset(self) -> int:
        return int(self.o.get("unit_offset", False))

    def sigmoid(self, z: Array) -> Array:
        return np.exp(np.minimum(z, 0)) / (1 + np.exp(-np.abs(z)))

    def gated(self, u: Array) -> Array:
        return u + self.offset()

    def activation(self, g: Array) -> Array:
        return g * self.sigmoid(self.slope() * g)

    def derivative(self, g: Array) -> Array:
        z = self.slope() * g
        S = self.sigmoid(z)
        return S * (1 + z * (1 - S))

    def passes(self, X: Array, limits: tuple[float, float]) -> Array:
        """Return where a number is within its limits, so that its gradient passes."""
        return np.asarray(np.clip(X, *limits) == X)

    def forward(self) -> Array:
        X = self.i["X"]
        self.columns = self.gating(X.shape[-1])
        self.raw = [X[..., part] for part in self.columns]
        self.g, u = (np.clip(Z, *limits) for Z, limits in zip(self.raw, self.limits(), strict=True))
        self.up, self.phi = self.gated(u), self.activation(self.g)
        return self.phi * self.up

    def d_gate(self, dY: Array) -> Array:
        return dY * self.up * self.derivative(self.g)

    def d_up(self, dY: Array) -> Array:
        return dY * self.phi

    def backward(self, dY: Array) -> Arrays:
        dX = np.zeros_like(self.i["X"])
        both = zip(self.columns, (self.d_gate(dY), self.d_up(dY)), self.raw, self.limits(), strict=True)
        for part, dZ, Z, limits in both:
            dX[..., part] = np.where(self.passes(Z, limits), dZ, 0)
        return {"X": dX}


class Embedding(Layer):
    def ids(self) -> Array:
        return np.asarray(self.o["ids"])

    def rows(self, W_E: Array) -> Array:
        return W_E[self.ids()]

    def forward(self) -> Array:
        return self.rows(self.i["W_E"])

    def d_table(self, dY: Array) -> Array:
        dW = np.zeros_like(self.i["W_E"])
        np.add.at(dW, self.ids(), dY)
        return dW

    def backward(self, dY: Array) -> Arrays:
        return {"W_E": self.d_table(dY)}


class Adam(Layer):
    def betas(self) -> tuple[float, float]:
        b_1, b_2 = self.o["betas"]
        return b_1, b_2

    def t(self, step: int) -> int:
        return step

    def gradient(self, g: Array, p: Array) -> Array:
        return g

    def moment(self, m: Array, g: Array) -> Array:
        b = self.betas()[0]
        return b * m + (1 - b) * g

    def second_moment(self, v: Array, g: Array) -> Array:
        b = self.betas()[1]
        return b * v + (1 - b) * np.square(g)

    def correction(self, t: int) -> float:
        return float(1 - self.betas()[0] ** t)

    def second_correction(self, t: int) -> float:
        return float(1 - self.betas()[1] ** t)

    def divisor(self, v: Array, t: int) -> Array:
        return np.sqrt(v / self.second_correction(t)) + self.o["eps"]

    def kept(self) -> float:
        """Return what weight decay leaves of a parameter."""
        return float(1 - self.o["lr"] * self.o.get("weight_decay", 0.0))

    def update(self, m: Array, v: Array, t: int) -> Array:
        return self.o["lr"] * (m / self.correction(t) / self.divisor(v, t))

    def forward(self) -> Array:
        p = self.i["p"]
        m = v = np.zeros_like(p)
        for step, g in enumerate(self.i["gradients"], 1):
            g = self.gradient(g, p)
            m, v = self.moment(m, g), self.second_moment(v, g)
            p = self.kept() * p - self.update(m, v, self.t(step))
        return p

    def backward(self, dY: Array) -> Arrays:
        return {}


REFERENCES: dict[str, type[Layer]] = {"gelu": Gelu, "swiglu": Swiglu, "embedding": Embedding, "adam": Adam}
