"""The feed-forward layer as training runs it.

**Equals** `feed_forward` of `npattn.language_model.reference` and its backward. Tests compare the two.

**Changed for speed**

- g and u, the halves of X W_1 + b_1 in a swiglu, are two arrays without gaps, from a product each. Element by element
  they take half to 0.7 of the time. A single row has no gaps, so one product makes both.
- swiglu works in place and on a few rows at a time, so that they stay in the processor's cache. Before, it took a
  quarter of a step. A gate of −∞ becomes NaN here, and 0 there.
- Nothing is checked, since the batch has been checked where it enters the model.
- Gradients of matrices come as functions that compute them, see `npattn.transformer.fast.gradient`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from npattn._internal.checks import Array
from npattn._internal.system.underflow import ignore_underflow
from npattn.language_model.config import LanguageModelConfig
from npattn.layers.kernels import project, rows, sum_rows, weight_gradient
from npattn.transformer.parameters import Nested
from npattn.transformer.variants import PHI

#: So many numbers of a gate are worked on at a time. The six arrays of a piece of the backward take 1.5 MB in float32.
PIECE = 1 << 16


def feed_forward(X: Array, p: Nested, config: LanguageModelConfig) -> tuple[Array, Any]:
    """F = φ(X W_1 + b_1) W_2 + b_2."""
    is_swiglu = config.gated and config.activation == "silu"
    H, c_H = swiglu_hidden(X, p) if is_swiglu else hidden(X, p, config)    # (B, N, d_ff)
    return project(H, p["W_2"], p.get("b_2")), (H, c_H, is_swiglu, p)


def feed_forward_backward(dF: Array, cache: Any) -> tuple[Array, Nested]:
    H, c_H, is_swiglu, p = cache
    dX, d_1 = (swiglu_hidden_backward if is_swiglu else hidden_backward)(project(dF, p["W_2"].T), c_H)
    dW_2 = partial(weight_gradient, H, dF)                    # F = H W_2 + b_2
    return dX, {**d_1, "W_2": dW_2, "b_2": sum_rows(dF) if "b_2" in p else None}


def hidden(X: Array, p: Nested, config: LanguageModelConfig) -> tuple[Array, Any]:
    """H = φ(U), U = X W_1 + b_1."""
    phi, phi_backward, options = PHI[config.activation, config.gated]
    H, c_H = phi(project(X, p["W_1"], p.get("b_1")), **options)
    return H, (X, c_H, phi_backward, p)


def hidden_backward(dH: Array, cache: Any) -> tuple[Array, Nested]:
    X, c_H, phi_backward, p = cache
    dU = phi_backward(dH, c_H)                                # H = φ(U)
    dW, db = partial(weight_gradient, X, dU), sum_rows(dU) if "b_1" in p else None         # U = X W_1 + b_1
    return project(dU, p["W_1"].T), {"W_1": dW, "b_1": db}


def swiglu_hidden(X: Array, p: Nested) -> tuple[Array, Any]:
    """H = g σ(g) ⊙ u, [g, u] = X W_1 + b_1."""
    if math.prod(X.shape[:-1]) == 1:                          # the halves of a single row have no gaps
        g, u = halves(project(X, p["W_1"], p.get("b_1")))
    else:
        b = halves(p["b_1"]) if "b_1" in p else (None, None)
        g, u = map(project, (X, X), halves(p["W_1"]), b)
    H, c_H = swiglu(g, u)
    return H, (X, c_H, p)


def swiglu_hidden_backward(dH: Array, cache: Any) -> tuple[Array, Nested]:
    X, c_H, p = cache
    dg, du = swiglu_backward(dH, c_H)                         # H = g σ(g) ⊙ u
    W_g, W_u = halves(p["W_1"])
    dX = project(dg, W_g.T)                                   # g = X W_g + b_g
    dX += project(du, W_u.T)                                  # u = X W_u + b_u
    db = np.concatenate([sum_rows(dg), sum_rows(du)]) if "b_1" in p else None
    return dX, {"W_1": partial(weight_gradients, X, dg, du), "b_1": db}


def weight_gradients(X: Array, dg: Array, du: Array, out: Array | None = None) -> Array:
    """dW_1 = [Xᵀ dg, Xᵀ du]; `out` is the array to write it to."""
    dW = np.empty((X.shape[-1], 2 * dg.shape[-1]), X.dtype) if out is None else out
    for half, d in zip(halves(dW), (dg, du), strict=True):
        weight_gradient(X, d, out=half)
    return dW


def halves(W: Array) -> tuple[Array, Array]:
    """The columns of g and those of u."""
    F = W.shape[-1] // 2
    return W[..., :F], W[..., F:]


def swiglu(g: Array, u: Array) -> tuple[Array, Any]:
    """H = f ⊙ u, f = g σ(g). f is written to the memory of g."""
    H, S = np.empty_like(u), np.empty_like(u)
    for f, u_, h, s in pieces(g, u, H, S):
        np.negative(f, out=s)
        np.exp(s, out=s)
        s += 1
        np.divide(1, s, out=s)                                # σ(g) = 1/(1 + exp(−g))
        f *= s
        np.multiply(f, u_, out=h)
    return H, (g, u, S)


def swiglu_backward(dH: Array, cache: Any) -> tuple[Array, Array]:
    """Return dg and du."""
    dG, dU = np.empty_like(dH), np.empty_like(dH)
    for f, u, s, dh, dg, du in pieces(*cache, dH, dG, dU):    # s = σ(g)
        np.multiply(f, dh, out=du)                            # h = f ⊙ u, f = φ(g): du
        np.subtract(1, s, out=dg)
        dg *= f
        dg += s                                               # φ'(g) = σ + f (1 − σ)
        dg *= u
        dg *= dh                                              # h = φ(g) ⊙ u: dg
    return dG, dU


def pieces(*arrays: Array) -> Iterator[list[Array]]:
    """Yield the same few rows of each array (…, F), as views."""
    flat = [rows(array) for array in arrays]
    few = max(PIECE // flat[0].shape[1], 1)
    for start in range(0, len(flat[0]), few):
        yield [array[start : start + few] for array in flat]


swiglu = np.errstate(under="ignore", over="ignore")(swiglu)   # exp(−g) is ∞ far out, and σ(g) is 0
swiglu_backward = ignore_underflow(swiglu_backward)
feed_forward, feed_forward_backward = ignore_underflow(feed_forward), ignore_underflow(feed_forward_backward)
