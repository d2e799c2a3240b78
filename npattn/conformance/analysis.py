"""The bound of every output and gradient of a case: each kind of layer, computed on `Bounded` numbers.

The formulas are those of npattn.attention.dot_product and npattn.layers, line by line. Each function takes the
arithmetic, the inputs and options of a case and its cotangent, and returns `Bounded` numbers by name: "output", and the
name of each input for its gradient. Three lines allow what right implementations do differently:

- The exponent E − m of a softmax may be computed with base 2, or from a stored logarithm of the sum; so its error has
  2 (|E| + |m|) u of the dtype that sums are kept in, and not only |E − m| u.
- δ = rowsum(A ⊙ dA) may be computed as rowsum(dY ⊙ Y), which has products of the same absolute values in another
  order: Σ_j A_ij Σ_d |dY_id| |V_jd| takes the place of Σ_j A_ij |dA_ij| in its verdict.
- A weight is a number from 0 to 1, however large the error of its score. So its error is 1 at most, and it is 1 where
  the sum of the row may be 0 within its error. A weight that rounds to 0 may be large in truth, if its score has an
  error of hundreds; so its change is computed from its logarithm.

**What is assumed, not derived**  These numbers are no consequence of rounding, and every verdict rests on them:

- exp, log, tanh, sine, cosine and the root of a library have an error of 4 u at most. Common libraries have 1 or 2 u;
  OpenCL allows tanh 10 u. Only erf may have more here; see npattn.conformance.model_analysis.
- The angle m θ of rotary positions has an error of 8 u at most, of the dtype that sums are kept in: 1 u for the
  product, the rest for θ = base^(−i/half). Its exponent is rounded too, which alone changes θ by up to ½ u ln base, 5 u
  for 10,000. Frequencies or angles in 16 bits exceed this bound, and they ought to.
- A scale, a rate and other numbers that are given as options may be rounded to the dtype.
- Weights below those of npattn.conformance.bounds.Precision may be 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from npattn._internal.checks import Array
from npattn.conformance import model_analysis
from npattn.conformance.bounds import Arithmetic, Bounded

Numbers = dict[str, Bounded]
ONE = np.ones(())


def visible(shape: tuple[int, ...], options: Mapping[str, Any]) -> Array:
    """Return which scores mask, causal order and window let a query see, in the shape of the scores."""
    i, j = np.arange(shape[-2])[:, None], np.arange(shape[-1])
    last, window = i + options.get("offset", 0), options.get("window")
    seen = np.ones(shape, bool)
    if options.get("causal") or window:
        seen &= j <= last
    if window:
        seen &= j > last - window
    mask = options.get("mask")
    return seen if mask is None else seen & mask


def weights(a: Arithmetic, E: Bounded, seen: Array) -> Bounded:
    """Return softmax(E) over the visible scores; rows that see nothing are exactly 0."""
    top = np.max(E.value, -1, keepdims=True, where=seen, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    p = np.exp(np.where(seen, E.value - top, -np.inf))
    total = p.sum(-1, keepdims=True)
    total = np.where(total > 0, total, 1)
    A = p / total
    base_2 = a.gamma(2, a.accumulate) * (np.abs(E.value) + np.abs(top))
    exponent = a.mix(E.error, a.gamma(2) * np.abs(E.value - top), base_2)
    grown = np.exp(np.minimum(E.value - top - np.log(total) + exponent, 9.0))   # also of a weight that is 0 in float64
    change = np.where(exponent < 1, A * np.expm1(np.minimum(exponent, 1)), grown - A)
    squares = np.square(A).sum(-1, keepdims=True)
    spread = a.mix(a.total(np.where(seen, change, 0), -1, keepdims=True), a.of_sum(A.shape[-1], ONE, ONE, squares))
    error = a.mix(change, A * spread) / np.where(spread < 1, 1 - spread, 1)
    error = np.where(spread < 1, np.minimum(error + a.gamma(6) * A, 1), 1)
    return Bounded(A, np.where(seen, error + a.weight, 0))


def weights_back(a: Arithmetic, dA: Bounded, A: Bounded, size: Array) -> tuple[Bounded, Bounded]:
    """Return dE and δ; `size` are the absolute values of the products in dA, summed."""
    wide = a.sum(a.multiply(A, dA if a.tightness else Bounded(size, dA.error)), -1, keepdims=True)
    delta = Bounded((A.value * dA.value).sum(-1, keepdims=True), wide.error)
    return a.multiply(A, a.subtract(dA, delta)), delta


def sum_to(a: Arithmetic, X: Bounded, shape: tuple[int, ...]) -> Bounded:
    """Sum over the axes that an array of this shape was broadcast on."""
    sizes = (1,) * (X.value.ndim - len(shape)) + shape
    axes = tuple(i for i, size in enumerate(sizes) if size != X.value.shape[i])
    return (a.sum(X, axes) if axes else X).reshape(*shape)


def attention(a: Arithmetic, inputs: Mapping[str, Array], options: Mapping[str, Any], dY: Array) -> Numbers:
    """Bound Y and the gradients of Q, K, V, bias and sinks."""
    Q, K, V = (a.exact(inputs[name]) for name in "QKV")
    if groups := options.get("grouped") and Q.value.shape[-3] // K.value.shape[-3]:
        K, V = (a.exact(np.repeat(X.value, groups, -3)) for X in (K, V))
    s, cap = options.get("scale", Q.value.shape[-1] ** -0.5), options.get("softcap")
    E = a.scale(a.product(Q, K.mT), s)
    if cap:
        t = a.function(np.tanh, a.scale(E, 1 / cap))
        E = a.scale(t, cap)
    if "bias" in inputs:
        E = a.add(E, a.exact(inputs["bias"]))
    scores, seen = E.value.shape, visible(E.value.shape, options)
    if "sinks" in inputs:
        column = np.broadcast_to(inputs["sinks"][..., None, None], (*scores[:-1], 1))
        E = Bounded(np.concatenate([E.value, column], -1), np.concatenate([E.error, np.zeros_like(column)], -1))
        seen = np.concatenate([seen, np.ones_like(column, bool)], -1)
    every = weights(a, E, seen)
    A, sink = every[..., : scores[-1]], every[..., scores[-1] :]
    dY_ = a.exact(dY)
    found = {"output": a.product(A, V), "V": a.product(A.mT, dY_)}
    dA, size = a.product(dY_, V.mT), np.abs(dY) @ np.abs(V.value.mT)
    dE, delta = weights_back(a, dA, A, size)
    if "bias" in inputs:
        found["bias"] = sum_to(a, dE, inputs["bias"].shape)
    if "sinks" in inputs:
        minus = a.multiply(sink, Bounded(-delta.value, delta.error))
        found["sinks"] = sum_to(a, minus, (*inputs["sinks"].shape, 1, 1)).reshape(*inputs["sinks"].shape)
    if cap:
        dE = a.multiply(dE, a.subtract(a.exact(1.0), a.multiply(t, t)))
    dS = a.scale(dE, s)
    found |= {"Q": a.product(dS, K), "K": a.product(dS.mT, Q)}
    if groups:
        for name in "KV":
            shape = (*inputs[name].shape[:-2], groups, *inputs[name].shape[-2:])
            found[name] = a.sum(found[name].reshape(*shape), -3)
    return found


def rotary(a: Arithmetic, inputs: Mapping[str, Array], options: Mapping[str, Any], dY: Array) -> Numbers:
    """Bound Y and dX: two products for each number, with the cosine and sine of an angle that has 8 roundings."""
    X, half = inputs["X"], inputs["X"].shape[-1] // 2
    positions = options.get("positions", np.arange(X.shape[-2]))
    angle = positions[..., None] * options["base"] ** (-np.arange(half) / half)
    cos, sin = (a.rounding(f(angle), a.gamma(8, a.accumulate) * np.abs(angle), times=4) for f in (np.cos, np.sin))
    cut = (slice(None, None, 2), slice(1, None, 2))
    if options["pairing"] == "halves":
        cut = (slice(half), slice(half, None))
    found = {}
    for name, Z, sign in (("output", X, 1), ("X", dY, -1)):
        first, second = (a.exact(Z[..., part]) for part in cut)
        turned = (
            a.subtract(a.multiply(first, cos), a.multiply(second, Bounded(sign * sin.value, sin.error))),
            a.add(a.multiply(second, cos), a.multiply(first, Bounded(sign * sin.value, sin.error))),
        )
        Y = Bounded(np.empty(X.shape), np.empty(X.shape))
        for part, one in zip(cut, turned, strict=True):
            Y.value[..., part], Y.error[..., part] = one.value, one.error
        found[name] = Y
    return found


def softmax(a: Arithmetic, inputs: Mapping[str, Array], options: Mapping[str, Any], dY: Array) -> Numbers:
    """Bound A and dE."""
    E = a.exact(inputs["E"])
    A = weights(a, E, visible(E.value.shape, options))
    dE, _ = weights_back(a, a.exact(dY), A, np.abs(dY))
    return {"output": A, "E": dE}


def layer_norm(a: Arithmetic, inputs: Mapping[str, Array], options: Mapping[str, Any], dY: Array) -> Numbers:
    """Bound Y, dX, dgamma and dbeta."""
    X = a.exact(inputs["X"])
    return _normalised(a, a.subtract(X, a.mean(X)), inputs, options["eps"], a.exact(dY), centre=True)


def rms_norm(a: Arithmetic, inputs: Mapping[str, Array], options: Mapping[str, Any], dY: Array) -> Numbers:
    """Bound Y, dX and dgamma."""
    return _normalised(a, a.exact(inputs["X"]), inputs, options["eps"], a.exact(dY), centre=False)


def _normalised(
    a: Arithmetic, X: Bounded, inputs: Mapping[str, Array], eps: float, dY: Bounded, centre: bool
) -> Numbers:
    gamma = a.exact(inputs["gamma"])
    v = a.add(a.mean(a.multiply(X, X)), a.exact(eps))
    r = a.function(lambda t: 1 / np.sqrt(np.maximum(t, eps)), v)
    x = a.multiply(X, r)
    Y, dx = a.multiply(gamma, x), a.multiply(gamma, dY)
    found = {"gamma": sum_to(a, a.multiply(dY, x), gamma.value.shape)}
    if "beta" in inputs:
        Y, found["beta"] = a.add(Y, a.exact(inputs["beta"])), sum_to(a, dY, inputs["beta"].shape)
    inner = a.subtract(dx, a.mean(dx)) if centre else dx
    inner = a.subtract(inner, a.multiply(x, a.mean(a.multiply(dx, x))))
    return {"output": Y, "X": a.multiply(r, inner), **found}


def cross_entropy(a: Arithmetic, inputs: Mapping[str, Array], options: Mapping[str, Any], dY: Array) -> Numbers:
    """Bound the mean loss and dlogits."""
    z, targets = a.exact(inputs["logits"]), options["targets"]
    smoothing, classes = options.get("smoothing", 0.0), z.value.shape[-1]
    counts = (targets != options.get("ignore_id"))[..., None]
    n = max(int(counts.sum()), 1)
    wanted = (1 - smoothing) * (np.arange(classes) == targets[..., None]) + smoothing / classes
    p = weights(a, z, visible(z.value.shape, {}))
    top = z.value.max(-1, keepdims=True)
    log_sum = np.log(np.exp(z.value - top).sum(-1, keepdims=True))
    change = a.total(p.value * a.gamma(2) * np.abs(z.value - top), -1, keepdims=True)
    lse = a.rounding(log_sum, change, a.gamma_of_sum(classes), a.gamma(2) * np.abs(top), times=4)
    lse = a.add(a.exact(top), lse)
    log_p = a.subtract(z, lse)
    losses = a.multiply(a.rounding(np.where(counts, -wanted, 0.0), times=3), log_p)
    loss = a.scale(a.sum(losses.reshape(-1), 0), 1 / n)
    off = a.subtract(p, a.rounding(wanted, times=3))
    dz = a.scale(a.multiply(off, a.exact(dY)), 1 / n)
    return {"output": loss, "logits": Bounded(dz.value * counts, dz.error * counts)}


ANALYSES = {
    "attention": attention,
    "rotary": rotary,
    "softmax": softmax,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "cross_entropy": cross_entropy,
    **model_analysis.ANALYSES,
}
