"""Plain implementations in small steps, each of which a fault can replace; see npattn.conformance.faults.

Each class has `forward` and `backward`, and a method for every step that goes wrong in the field. They are written
without the rest of the package, so that the right answers of the cases, which come from npattn's own functions, have a
second witness.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from npattn._internal.checks import Array
from npattn.conformance.analysis import visible

Arrays = dict[str, Array]


class Layer:
    """What all have in common: the inputs by name, the options as attributes of `o`."""

    def __init__(self, inputs: Mapping[str, Array], options: Mapping[str, Any]) -> None:
        self.i, self.o = dict(inputs), dict(options)

    def answer(self, dY: Array) -> Arrays:
        """Return the output and the gradient of every input, by name."""
        with np.errstate(all="ignore"):
            return {"output": self.forward(), **self.backward(dY)}

    def forward(self) -> Array:
        raise NotImplementedError

    def backward(self, dY: Array) -> Arrays:
        raise NotImplementedError

    def sum_to(self, X: Array, like: Array) -> Array:
        """Sum over the axes that `like` was broadcast on."""
        sizes = (1,) * (X.ndim - like.ndim) + like.shape
        axes = tuple(i for i, size in enumerate(sizes) if size != X.shape[i])
        return X.sum(axes).reshape(like.shape)


class Attention(Layer):
    def scale(self, D: int) -> float:
        return float(self.o.get("scale", 1 / math.sqrt(D)))

    def share(self, X: Array, H: int) -> Array:
        return np.repeat(X, H // X.shape[-3], -3)

    def unshare(self, dX: Array, H_K: int) -> Array:
        *batch, H, N, D = dX.shape
        return dX.reshape(*batch, H_K, H // H_K, N, D).sum(-3)

    def products(self, Q: Array, K: Array, s: float) -> Array:
        return s * (Q @ K.mT)

    def cap(self, S: Array, c: float) -> Array:
        return c * np.tanh(S / c)

    def cap_back(self, dC: Array, C: Array, c: float) -> Array:
        return dC * (1 - (C / c) ** 2)

    def add_bias(self, E: Array, bias: Array) -> Array:
        return E + bias

    def seen(self, shape: tuple[int, ...]) -> Array:
        return visible(shape, self.o)

    def hide(self, E: Array, seen: Array) -> Array:
        return np.where(seen, E, -np.inf)

    def score_sinks(self, sinks: Array) -> Array:
        return sinks

    def exponentials(self, E: Array, top: Array) -> Array:
        return np.exp(E - top)

    def maximum(self, E: Array) -> Array:
        top = E.max(-1, keepdims=True)
        return np.where(np.isfinite(top), top, 0)

    def total(self, p: Array, sink: Array | float) -> Array:
        total = p.sum(-1, keepdims=True) + sink
        return np.where(total == 0, 1, total)

    def output(self, A: Array, V: Array) -> Array:
        return A @ V

    def forward(self) -> Array:
        Q, K, V = (self.i[name] for name in "QKV")
        self.K, self.V = (self.share(K, Q.shape[-3]), self.share(V, Q.shape[-3])) if "grouped" in self.o else (K, V)
        self.s = self.scale(Q.shape[-1])
        E = self.C = self.products(Q, self.K, self.s)
        if "softcap" in self.o:
            E = self.C = self.cap(E, self.o["softcap"])
        if "bias" in self.i:
            E = self.add_bias(E, self.i["bias"])
        E = self.hide(E, self.seen(E.shape))
        top, sink = self.maximum(E), 0.0
        if "sinks" in self.i:
            column = self.score_sinks(self.i["sinks"])[..., None, None]
            top = np.maximum(top, column)
            sink = np.exp(column - top)
        p = self.exponentials(E, top)
        total = self.total(p, sink)
        self.A, self.a = p / total, sink / total
        return self.output(self.A, self.V)

    def d_weights(self, dY: Array) -> Array:
        return dY @ self.V.mT

    def delta(self, dA: Array) -> Array:
        return (self.A * dA).sum(-1, keepdims=True)

    def d_scores(self, dA: Array, delta: Array) -> Array:
        return self.A * (dA - delta)

    def d_queries(self, dS: Array) -> Array:
        return self.s * (dS @ self.K)

    def d_keys(self, dS: Array) -> Array:
        return self.s * (dS.mT @ self.i["Q"])

    def d_values(self, dY: Array) -> Array:
        return self.A.mT @ dY

    def d_bias(self, dE: Array) -> Array:
        return self.sum_to(dE, self.i["bias"])

    def d_sinks(self, delta: Array) -> Array:
        return self.sum_to(-self.a * delta, self.i["sinks"][..., None, None])[..., 0, 0]

    def backward(self, dY: Array) -> Arrays:
        dA, found = self.d_weights(dY), {}
        delta = self.delta(dA)
        dE = self.d_scores(dA, delta)
        if "bias" in self.i:
            found["bias"] = self.d_bias(dE)
        if "sinks" in self.i:
            found["sinks"] = self.d_sinks(delta)
        dS = self.cap_back(dE, self.C, self.o["softcap"]) if "softcap" in self.o else dE
        found |= {"Q": self.d_queries(dS), "K": self.d_keys(dS), "V": self.d_values(dY)}
        if "grouped" in self.o:
            found |= {name: self.unshare(found[name], self.i[name].shape[-3]) for name in "KV"}
        return found


class Rotary(Layer):
    def frequencies(self, half: int) -> Array:
        return np.asarray(self.o["base"] ** (-np.arange(half) / half))

    def positions(self, N: int) -> Array:
        return np.asarray(self.o.get("positions", np.arange(N)))

    def cut(self, D: int) -> tuple[slice, slice]:
        if self.o["pairing"] == "halves":
            return slice(D // 2), slice(D // 2, None)
        return slice(None, None, 2), slice(1, None, 2)

    def turn(self, X: Array, sign: int) -> Array:
        angle = self.positions(X.shape[-2])[..., None] * self.frequencies(X.shape[-1] // 2)
        first, second = self.cut(X.shape[-1])
        cos, sin = (f(angle).astype(X.dtype) for f in (np.cos, np.sin))
        Y = np.empty(X.shape, cos.dtype)
        Y[..., first] = X[..., first] * cos - X[..., second] * (sign * sin)
        Y[..., second] = X[..., second] * cos + X[..., first] * (sign * sin)
        return Y

    def forward(self) -> Array:
        return self.turn(self.i["X"], 1)

    def backward(self, dY: Array) -> Arrays:
        return {"X": self.turn(dY, -1)}


class Softmax(Layer):
    def seen(self, shape: tuple[int, ...]) -> Array:
        return visible(shape, self.o)

    def maximum(self, E: Array) -> Array:
        top = E.max(-1, keepdims=True)
        return np.where(np.isfinite(top), top, 0)

    def total(self, p: Array) -> Array:
        total = p.sum(-1, keepdims=True)
        return np.where(total == 0, 1, total)

    def forward(self) -> Array:
        E = np.where(self.seen(self.i["E"].shape), self.i["E"], -np.inf)
        p = np.exp(E - self.maximum(E))
        self.A = p / self.total(p)
        return self.A

    def delta(self, dA: Array) -> Array:
        return (self.A * dA).sum(-1, keepdims=True)

    def d_scores(self, dA: Array) -> Array:
        return self.A * (dA - self.delta(dA))

    def backward(self, dY: Array) -> Arrays:
        return {"E": self.d_scores(dY)}


class RMSNorm(Layer):
    def centre(self, X: Array) -> Array:
        return X

    def variance(self, X: Array) -> Array:
        return np.square(X).mean(-1, keepdims=True)

    def inverse(self, v: Array) -> Array:
        return 1 / np.sqrt(v + self.o["eps"])

    def scaled(self, x: Array) -> Array:
        return self.i["gamma"] * x

    def d_scaled(self, dY: Array) -> Array:
        return self.i["gamma"] * dY

    def forward(self) -> Array:
        X = self.centre(self.i["X"])
        self.r = self.inverse(self.variance(X))
        self.x = X * self.r
        return self.scaled(self.x) + self.i.get("beta", 0)

    def mean_part(self, dx: Array) -> Array | float:
        return 0.0

    def spread_part(self, dx: Array) -> Array:
        return self.x * (dx * self.x).mean(-1, keepdims=True)

    def d_inputs(self, dY: Array) -> Array:
        dx = self.d_scaled(dY)
        return self.r * (dx - self.mean_part(dx) - self.spread_part(dx))

    def d_gamma(self, dY: Array) -> Array:
        return self.sum_to(dY * self.x, self.i["gamma"])

    def d_beta(self, dY: Array) -> Array:
        return self.sum_to(dY, self.i["beta"])

    def backward(self, dY: Array) -> Arrays:
        found = {"X": self.d_inputs(dY), "gamma": self.d_gamma(dY)}
        return found | {"beta": self.d_beta(dY)} if "beta" in self.i else found


class LayerNorm(RMSNorm):
    def centre(self, X: Array) -> Array:
        return X - X.mean(-1, keepdims=True)

    def mean_part(self, dx: Array) -> Array | float:
        return dx.mean(-1, keepdims=True)


class CrossEntropy(Layer):
    def counted(self) -> Array:
        return np.asarray(self.o["targets"] != self.o.get("ignore_id"))

    def count(self) -> float:
        return max(int(self.counted().sum()), 1)

    def log_p(self, z: Array) -> Array:
        shifted = z - z.max(-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))

    def wanted(self, V: int) -> Array:
        smoothing, hot = self.o.get("smoothing", 0.0), np.arange(V) == self.o["targets"][..., None]
        return (1 - smoothing) * hot.astype(self.i["logits"].dtype) + smoothing / V

    def forward(self) -> Array:
        self.logs = self.log_p(self.i["logits"])
        losses = -(self.wanted(self.logs.shape[-1]) * self.logs).sum(-1)
        return np.asarray((losses * self.counted()).sum() / self.count())

    def d_logits(self, dY: Array) -> Array:
        off = np.exp(self.logs) - self.wanted(self.logs.shape[-1])
        return off * self.counted()[..., None] * dY / self.count()

    def backward(self, dY: Array) -> Arrays:
        return {"logits": self.d_logits(dY)}


REFERENCES: dict[str, type[Layer]] = {
    "attention": Attention,
    "rotary": Rotary,
    "softmax": Softmax,
    "layer_norm": LayerNorm,
    "rms_norm": RMSNorm,
    "cross_entropy": CrossEntropy,
}
