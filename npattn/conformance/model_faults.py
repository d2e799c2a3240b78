"""Known faults of gelu, swiglu, embedding and Adam; see npattn.conformance.faults, whose table has them too."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from npattn.conformance.model_reference import ERF, Adam, Embedding, Gelu, Swiglu
from npattn.conformance.planting import Fault, fault


def _last_uses(self: Embedding, dY: Any) -> Any:
    dW = np.zeros_like(self.i["W_E"])
    dW[self.ids()] = dY
    return dW


def _mean_of_uses(self: Embedding, dY: Any) -> Any:
    uses = np.bincount(self.ids().ravel(), minlength=len(self.i["W_E"]))
    return Embedding.d_table(self, dY) / np.maximum(uses, 1)[:, None]


def _without_row(self: Embedding, X: Any) -> Any:
    """Return a copy whose row 0 is 0."""
    kept = X.copy()
    kept[0] = 0
    return kept


def _in_order(self: Embedding, dY: Any) -> Any:
    """Return a gradient in which use n adds to the n-th id in sorted order."""
    dW, ids = np.zeros_like(self.i["W_E"]), self.ids()
    np.add.at(dW, np.sort(ids, axis=None).reshape(ids.shape), dY)
    return dW


def _kept_largest(self: Adam, v: Any, g: Any) -> Any:
    return np.maximum(v, Adam.second_moment(self, v, g))


GELU = {
    "tanh for exact": fault(
        "Φ is approximated by tanh where the exact one is asked for", exact=lambda self: False
    ),
    "exact for tanh": fault("Φ is exact where the approximation by tanh is asked for", exact=lambda self: True),
    "sigmoid of 1.702 x": fault(
        "Φ(x) is approximated by σ(1.702 x)",
        cumulative=lambda self, x: 1 / (1 + np.exp(-1.702 * x)),
        density=lambda self, x, Phi: 1.702 * Phi * (1 - Phi),
    ),
    "relu": fault(
        "max(x, 0) takes the place of x Φ(x)",
        cumulative=lambda self, x: np.where(x > 0, 1.0, 0.0),
        density=lambda self, x, Phi: 0.0,
    ),
    "erf of x": fault("erf has x in place of x/√2", argument=lambda self, x: x),
    "no half": fault("Φ lacks its factor ½", cumulative=lambda self, x: 2 * Gelu.cumulative(self, x)),
    "no 1": fault("Φ is ½ erf(x/√2), without the 1", cumulative=lambda self, x: 0.5 * ERF(x / math.sqrt(2))),
    "φ lost": fault("the derivative is Φ(x), without x φ(x)", slope=lambda self, x, Phi: Phi),
    "φ without x": fault(
        "the derivative has φ(x) in place of x φ(x)", slope=lambda self, x, Phi: Phi + self.density(x, Phi)
    ),
    "sign of φ": fault(
        "the derivative is Φ(x) − x φ(x)", slope=lambda self, x, Phi: Phi - x * self.density(x, Phi)
    ),
    "φ without root": fault(
        "φ lacks its factor 1/√(2π)", density=lambda self, x, Phi: np.exp(-0.5 * x**2)
    ),
    "φ of x²": fault(
        "φ has exp(−x²) in place of exp(−x²/2)", density=lambda self, x, Phi: np.exp(-(x**2)) / math.sqrt(2 * math.pi)
    ),
    "inner derivative lost": fault(
        "the derivative of tanh lacks that of √(2/π) (x + 0.044715 x³)", inner_slope=lambda self, x: 1.0
    ),
    "1 − tanh² lost": fault(
        "the derivative takes tanh for a linear function", density=lambda self, x, Phi: 0.5 * self.inner_slope(x)
    ),
    "cotangent not used": fault(
        "the gradient ignores its cotangent", backward=lambda self, dY: {"X": self.slope(self.i["X"], self.Phi)}
    ),
    "slope at y": fault(
        "the derivative is taken at y, not at x",
        backward=lambda self, dY: {"X": dY * self.slope(self.i["X"] * self.Phi, self.Phi)},
    ),
}

SWIGLU = {
    "halves exchanged": fault(
        "the other columns gate",
        gating=lambda self, width: Swiglu.gating(self, width)[::-1],
    ),
    "halves always": fault(
        "the first half gates, whatever is asked for", gating=lambda self, D: (slice(D // 2), slice(D // 2, None))
    ),
    "gradients exchanged": fault(
        "the gradients of the two halves are exchanged",
        d_gate=lambda self, dY: Swiglu.d_up(self, dY),
        d_up=lambda self, dY: Swiglu.d_gate(self, dY),
    ),
    "sigmoid alone": fault(
        "σ(g) gates, not g σ(g)",
        activation=lambda self, g: self.sigmoid(self.slope() * g),
        derivative=lambda self, g: self.sigmoid(self.slope() * g) * (1 - self.sigmoid(self.slope() * g)) * self.slope(),
    ),
    "gelu": fault(
        "gelu gates, not silu",
        sigmoid=lambda self, z: 0.5 * (1 + ERF(z / math.sqrt(2))),
        derivative=lambda self, g: Gelu({}, {}).slope(g, Gelu({}, {}).cumulative(g)),
    ),
    "gate of both": fault(
        "both halves go through silu", gated=lambda self, u: u * self.sigmoid(u)
    ),
    "derivative σ": fault(
        "the derivative of g σ(g) is σ(g) alone", derivative=lambda self, g: self.sigmoid(self.slope() * g)
    ),
    "derivative σ (1 − σ)": fault(
        "the derivative of g σ(g) is that of σ alone",
        derivative=lambda self, g: self.sigmoid(self.slope() * g) * (1 - self.sigmoid(self.slope() * g)),
    ),
    "dg without u": fault(
        "the gradient of g lacks the factor u", d_gate=lambda self, dY: dY * self.derivative(self.g)
    ),
    "du of g": fault("the gradient of u has g in place of g σ(g)", d_up=lambda self, dY: dY * self.g),
    "du lost": fault("the gradient of u is 0", d_up=lambda self, dY: 0 * dY),
    "slope not used": fault("the slope is not used", slope=lambda self: 1.0),
    "slope outside": fault(
        "the activation is α g σ(α g), without the division by α",
        activation=lambda self, g: self.slope() * Swiglu.activation(self, g),
        derivative=lambda self, g: self.slope() * Swiglu.derivative(self, g),
    ),
    "slope lost in backward": fault(
        "the derivative is that without a slope",
        derivative=lambda self, g: self.sigmoid(g) * (1 + g * (1 - self.sigmoid(g))),
    ),
    "offset not used": fault("u takes the place of u + 1", offset=lambda self: 0),
    "offset always": fault("u + 1 takes the place of u", offset=lambda self: 1),
    "limit not used": fault("the limit is not used", limits=lambda self: ((-np.inf, np.inf), (-np.inf, np.inf))),
    "limit on both sides of g": fault(
        "g is limited from below too", limits=lambda self: (Swiglu.limits(self)[1],) * 2
    ),
    "limit on one side of u": fault(
        "u is limited from above alone", limits=lambda self: (Swiglu.limits(self)[0],) * 2
    ),
    "limit lost in backward": fault(
        "a number beyond the limit has a gradient", passes=lambda self, X, limits: np.full(X.shape, True)
    ),
}

EMBEDDING = {
    "repeats lost": fault("of the uses of an id, the last alone gives a gradient", d_table=_last_uses),
    "repeats averaged": fault("the gradient of a row is the mean over its uses", d_table=_mean_of_uses),
    "divided by ids": fault(
        "the gradient is divided by the number of ids",
        d_table=lambda self, dY: Embedding.d_table(self, dY) / self.ids().size,
    ),
    "ids from 1": fault("ids are counted from 1", ids=lambda self: Embedding.ids(self) - 1),
    "backward one row off": fault(
        "the gradient is one row too far", d_table=lambda self, dY: np.roll(Embedding.d_table(self, dY), 1, 0)
    ),
    "row 0 is padding": fault(
        "row 0 is taken for padding: its output and gradient are 0",
        rows=lambda self, W_E: Embedding.rows(self, _without_row(self, W_E)),
        d_table=lambda self, dY: _without_row(self, Embedding.d_table(self, dY)),
    ),
    "row 0 not trained": fault(
        "row 0 has no gradient, as if it were padding",
        d_table=lambda self, dY: _without_row(self, Embedding.d_table(self, dY)),
    ),
    "rows times √D": fault(
        "the rows are multiplied by √D",
        rows=lambda self, W_E: math.sqrt(W_E.shape[-1]) * Embedding.rows(self, W_E),
        d_table=lambda self, dY: math.sqrt(dY.shape[-1]) * Embedding.d_table(self, dY),
    ),
    "cotangent not used": fault(
        "the gradient counts the uses of an id, and ignores the cotangent",
        d_table=lambda self, dY: Embedding.d_table(self, np.ones_like(dY)),
    ),
    "gradient in sorted order": fault(
        "the ids of the backward are sorted, the cotangent is not", d_table=_in_order
    ),
}

ADAM = {
    "t from 0": fault("the first step has t = 0, so its corrections are 0", t=lambda self, step: step - 1),
    "t from 2": fault("the first step has t = 2", t=lambda self, step: step + 1),
    "t twice": fault("t grows by 2 in a step, as if counted for every parameter", t=lambda self, step: 2 * step),
    "no corrections": fault(
        "m and v are not divided by 1 − βᵗ",
        correction=lambda self, t: 1.0,
        second_correction=lambda self, t: 1.0,
    ),
    "no correction of m": fault("m is not divided by 1 − β₁ᵗ", correction=lambda self, t: 1.0),
    "no correction of v": fault("v is not divided by 1 − β₂ᵗ", second_correction=lambda self, t: 1.0),
    "first corrections always": fault("the corrections are those of the first step", t=lambda self, step: 1),
    "ε inside the root": fault(
        "ε is added inside the root",
        divisor=lambda self, v, t: np.sqrt(v / self.second_correction(t) + self.o["eps"]),
    ),
    "ε before the correction": fault(
        "ε is added to √v before the division by √(1 − β₂ᵗ)",
        divisor=lambda self, v, t: (np.sqrt(v) + self.o["eps"]) / math.sqrt(self.second_correction(t)),
    ),
    "ε not used": fault("ε is not used", divisor=lambda self, v, t: np.sqrt(v / self.second_correction(t))),
    "no root": fault("the update is divided by v, not by √v", divisor=lambda self, v, t: v + self.o["eps"]),
    "betas exchanged": fault("β₁ and β₂ are exchanged", betas=lambda self: Adam.betas(self)[::-1]),
    "1 − β lost": fault(
        "gradients are added to m and v without 1 − β",
        moment=lambda self, m, g: self.betas()[0] * m + g,
        second_moment=lambda self, v, g: self.betas()[1] * v + np.square(g),
    ),
    "moments not kept": fault(
        "m and v start anew in every step", moment=lambda self, m, g: g, second_moment=lambda self, v, g: np.square(g),
        t=lambda self, step: 10**6,
    ),
    "m not used": fault(
        "the gradient takes the place of m", moment=lambda self, m, g: g, correction=lambda self, t: 1.0
    ),
    "largest v kept": fault("v never falls, as in AMSGrad", second_moment=_kept_largest),
    "sign": fault("the update is added", update=lambda self, m, v, t: -Adam.update(self, m, v, t)),
    "rate not used": fault(
        "the rate is not used", update=lambda self, m, v, t: Adam.update(self, m, v, t) / self.o["lr"]
    ),
    "decay not used": fault("the weight decay is not used", kept=lambda self: 1.0),
    "decay in the gradient": fault(
        "the weight decay is added to the gradient, as L2 regularisation",
        gradient=lambda self, g, p: g + self.o.get("weight_decay", 0.0) * p,
        kept=lambda self: 1.0,
    ),
    "decay without the rate": fault(
        "the weight decay is not multiplied by the rate", kept=lambda self: 1 - self.o.get("weight_decay", 0.0)
    ),
}

FAULTS: dict[str, dict[str, Fault]] = {"gelu": GELU, "swiglu": SWIGLU, "embedding": EMBEDDING, "adam": ADAM}
