"""The bounds of gelu, swiglu, embedding and Adam, which npattn.conformance.analysis adds to those of attention.

The formulas are those of npattn.layers and npattn.optim. Where right implementations differ, the bound holds for all of
these ways; each costs a few roundings:

- gelu  Φ is ½ erfc(−x/√2) or ½ (1 + erf(x/√2)). Far to the left the sum cancels, so its error is some u of 1 and not of
  Φ. erf and erfc are a library's, in the dtype that sums are kept in, and have 32 u: the 16 units in the last place
  that OpenCL allows them. The 4 u of other functions are too few: torch's gelu takes an erf with 10 u, on CPUs in
  float32. x/√2 is rounded on the way, which changes Φ by |x| φ(x) 2 u. By tanh, Φ is ½ (1 + tanh z) or σ(2z); the
  error of the first is the larger one.
- swiglu  σ has an exponential to 4 u, a sum and a quotient, together 6 u. exp may overflow where σ(z) is below the
  smallest weight of a softmax, and σ is 0 then.
- embedding  The output is a copy, and has no error. The gradient of a row is a sum over the uses of its id, n of them.
- Adam  m and v are kept in the dtype or in a larger one. The corrections 1 − βᵗ are computed in the dtype that sums are
  kept in, or in a larger one: βᵗ has at most t roundings. The root has 4 u, the quotient 4 u, the rate 3 u, which also
  covers (lr √(1 − β₂ᵗ)/(1 − β₁ᵗ)) · m/(√v + ε √(1 − β₂ᵗ)). Decay is p − lr λ p or (1 − lr λ) p: 5 u of lr λ |p|.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from npattn._internal.checks import Array
from npattn.conformance.bounds import Arithmetic, Bounded

Numbers = dict[str, Bounded]

# np.abs stands in bounds alone: they are real numbers, and nothing differentiates them.

ROOT, CUBIC = math.sqrt(2 / math.pi), 0.044715
ERF, ERFC = (np.vectorize(f, otypes=[np.float64]) for f in (math.erf, math.erfc))


def gelu(a: Arithmetic, inputs: Mapping[str, Array], options: Mapping[str, Any], dY: Array) -> Numbers:
    """Bound Y and dX."""
    X, x = a.exact(inputs["X"]), inputs["X"]
    square, one = a.multiply(X, X), a.exact(1.0)
    if options.get("approximate") == "tanh":
        z = a.scale(a.add(X, a.scale(a.multiply(X, square), CUBIC)), ROOT)
        Phi = a.scale(a.add(one, a.function(np.tanh, z)), 0.5)
        inner = a.scale(a.add(one, a.scale(square, 3 * CUBIC)), 2 * ROOT)
        phi = a.multiply(a.multiply(Phi, a.subtract(one, Phi)), inner)
    else:
        phi = a.scale(a.function(np.exp, a.scale(square, -0.5)), 1 / math.sqrt(2 * math.pi))
        value, half = ERFC(-x / math.sqrt(2)) / 2, np.abs(ERF(x / math.sqrt(2))) / 2
        library = a.gamma(32, a.accumulate) * np.maximum(value, half)
        Phi = a.rounding(value, library, a.gamma(1) * half, a.gamma(2) * np.abs(x) * phi.value, times=3)
    return {"output": a.multiply(X, Phi), "X": a.multiply(a.exact(dY), a.add(Phi, a.multiply(X, phi)))}


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def swiglu(a: Arithmetic, inputs: Mapping[str, Array], options: Mapping[str, Any], dY: Array) -> Numbers:
    """Bound Y and dX."""
    X, limit, one = inputs["X"], options.get("limit", math.inf), a.exact(1.0)
    half = X.shape[-1] // 2
    columns = {
        "first": (slice(half), slice(half, None)),
        "second": (slice(half, None), slice(half)),
        "even": (slice(None, None, 2), slice(1, None, 2)),
    }[options.get("gate", "first")]
    raw_g, raw_u = (X[..., part] for part in columns)
    g, u = a.exact(np.minimum(raw_g, limit)), a.exact(np.clip(raw_u, -limit, limit))
    z = a.scale(g, options["slope"]) if "slope" in options else g
    S = a.function(sigmoid, z)
    S = a.rounding(S.value, S.error, a.weight, times=2)
    phi = a.multiply(g, S)
    if "slope" in options:                                    # z σ(z)/α in place of g σ(z)
        phi = a.rounding(phi.value, phi.error, times=4)
    up = a.add(u, one) if options.get("unit_offset") else u
    slope = a.multiply(S, a.add(one, a.multiply(z, a.subtract(one, S))))
    dg = a.multiply(a.exact(dY), a.multiply(up, slope))
    du = a.multiply(a.exact(dY), phi)
    dX = Bounded(np.empty(X.shape), np.empty(X.shape))
    for part, dZ, passes in zip(columns, (dg, du), (g.value == raw_g, u.value == raw_u), strict=True):
        dX.value[..., part], dX.error[..., part] = dZ.value * passes, dZ.error * passes
    return {"output": a.multiply(phi, up), "X": dX}


def embedding(a: Arithmetic, inputs: Mapping[str, Array], options: Mapping[str, Any], dY: Array) -> Numbers:
    """Bound Y, which is a copy, and dW_E."""
    W_E, ids = inputs["W_E"], options["ids"]
    dW = a.exact(np.zeros(W_E.shape))
    for used in np.unique(ids):
        row = a.sum(a.exact(dY[ids == used]), 0)
        dW.value[used], dW.error[used] = row.value, row.error
    return {"output": a.exact(W_E[ids]), "W_E": dW}


def adam(a: Arithmetic, inputs: Mapping[str, Array], options: Mapping[str, Any], dY: Array) -> Numbers:
    """Bound the parameters after all steps."""
    p, eps, rate, (beta_1, beta_2) = a.exact(inputs["p"]), options["eps"], options["lr"], options["betas"]
    m = v = a.exact(np.zeros(p.value.shape))
    decay = rate * options.get("weight_decay", 0.0)
    for t, g in enumerate(map(a.exact, inputs["gradients"]), 1):
        m, v = _average(a, m, g, beta_1), _average(a, v, a.multiply(g, g), beta_2)
        root = a.function(lambda s: np.sqrt(np.maximum(s, 0)), _corrected(a, v, beta_2, t))
        inverse = a.function(lambda s: 1 / np.maximum(s, eps), a.add(root, a.exact(eps)))
        step = a.multiply(_corrected(a, m, beta_1, t), inverse)
        step = a.rounding(rate * step.value, rate * step.error, times=3)
        if decay:
            kept = 1 - decay
            p = a.rounding(kept * p.value, kept * p.error, a.gamma(5) * decay * np.abs(p.value), times=2)
        p = a.subtract(p, step)
    return {"output": p}


def _average(a: Arithmetic, m: Bounded, x: Bounded, beta: float) -> Bounded:
    """Return β m + (1 − β) x, which may be computed as m + (1 − β)(x − m)."""
    parts = (a.rounding(b * X.value, b * X.error, times=3) for b, X in ((beta, m), (1 - beta, x)))
    return a.add(*parts)


def _corrected(a: Arithmetic, m: Bounded, beta: float, t: int) -> Bounded:
    """Return m / (1 − βᵗ)."""
    c = 1 - beta**t
    powers = a.gamma(t, a.accumulate) * beta**t / c
    return a.rounding(m.value / c, m.error / c, powers * np.abs(m.value) / c, times=2)


ANALYSES = {"gelu": gelu, "swiglu": swiglu, "embedding": embedding, "adam": adam}
