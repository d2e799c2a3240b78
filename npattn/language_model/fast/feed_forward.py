"""The feed-forward layer as training runs it.

**Equals** `feed_forward` of `npattn.language_model.reference` and its backward. Tests compare the two.

**Changed for speed**

- swiglu works in place and on a few rows at a time, so that they stay in the processor's cache. Before, it took a
  quarter of a step. A gate of −∞ becomes NaN here, and 0 there.
- Nothing is checked, since the batch has been checked where it enters the model.
- Gradients of matrices come as functions that compute them, see `npattn.transformer.fast.gradient`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from npattn._internal.checks import Array
from npattn._internal.system.underflow import ignore_underflow
from npattn.language_model.config import LanguageModelConfig
from npattn.layers.kernels import project, rows, sum_rows, weight_gradient
from npattn.transformer import variants
from npattn.transformer.parameters import Nested

#: So many numbers of a gate are worked on at a time. All arrays of a piece together take 2 MB in float32. With half
#: as many a step takes 1 % longer.
PIECE = 1 << 16


def feed_forward(X: Array, p: Nested, config: LanguageModelConfig) -> tuple[Array, Any]:
    """F = φ(X W_1 + b_1) W_2 + b_2."""
    phi, phi_backward, options = PHI[config.activation, config.gated]
    H, c_H = phi(project(X, p["W_1"], p.get("b_1")), **options)        # (B, N, d_ff)
    return project(H, p["W_2"], p.get("b_2")), (X, H, c_H, phi_backward, p)


def feed_forward_backward(dF: Array, cache: Any) -> tuple[Array, Nested]:
    X, H, c_H, phi_backward, p = cache
    dU = phi_backward(project(dF, p["W_2"].T), c_H)           # F = H W_2 + b_2, H = φ(U)
    db_1, db_2 = (sum_rows(dU), sum_rows(dF)) if "b_1" in p else (None, None)
    dW_1, dW_2 = partial(weight_gradient, X, dU), partial(weight_gradient, H, dF)   # U = X W_1 + b_1, F = H W_2 + b_2
    return project(dU, p["W_1"].T), {"W_1": dW_1, "b_1": db_1, "W_2": dW_2, "b_2": db_2}


def swiglu(U: Array) -> tuple[Array, Any]:
    """H = g σ(g) ⊙ u for U = [g, u] (…, 2F)."""
    F = U.shape[-1] // 2
    H, S = np.empty((*U.shape[:-1], F), U.dtype), np.empty((*U.shape[:-1], F), U.dtype)
    for g, u, h, s in pieces(U[..., :F], U[..., F:], H, S):
        np.negative(g, out=s)
        np.exp(s, out=s)
        s += 1
        np.divide(1, s, out=s)                                # σ(g) = 1/(1 + exp(−g))
        np.multiply(g, s, out=h)
        h *= u
    return H, (U, S)


def swiglu_backward(dH: Array, cache: Any) -> Array:
    """Return dU."""
    U, S = cache
    dU, F = np.empty_like(U), S.shape[-1]
    for g, u, s, dh, dg, du in pieces(U[..., :F], U[..., F:], S, dH, dU[..., :F], dU[..., F:]):
        f, t = g * s, 1 - s                                   # their rows have no gaps, unlike those of g, u, dg and du
        np.multiply(f, dh, out=du)                            # h = f ⊙ u, f = φ(g): du
        t *= f
        t += s                                                # φ'(g) = σ + f (1 − σ)
        t *= u
        np.multiply(t, dh, out=dg)                            # h = φ(g) ⊙ u: dg
    return dU


def pieces(*arrays: Array) -> Any:
    """Yield the same few rows of each array (…, F)."""
    flat = [rows(array) for array in arrays]
    few = max(PIECE // flat[0].shape[1], 1)
    for start in range(0, len(flat[0]), few):
        yield [array[start : start + few] for array in flat]


swiglu = np.errstate(under="ignore", over="ignore")(swiglu)   # exp(−g) is ∞ far out, and σ(g) is 0
swiglu_backward = ignore_underflow(swiglu_backward)
feed_forward, feed_forward_backward = ignore_underflow(feed_forward), ignore_underflow(feed_forward_backward)

#: As in the reference, with the swiglu of this file.
PHI = variants.PHI | {("silu", True): (swiglu, swiglu_backward, {})}
