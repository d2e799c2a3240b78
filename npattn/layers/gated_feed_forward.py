"""Gated activations: one half of the columns, after an activation, multiplies the other half.

A gated feed-forward layer is `linear`, then `swiglu` or `geglu`, then `linear`: Z = (φ(X W_G) ⊙ X W_U) W_D, with W_G
and W_U side by side in one W.

**Forward**  g are the columns that gate, u the others:

    swiglu    y = g σ(αg) ⊙ u             α is `slope`, 1 unless it is given
    geglu     y = g Φ(g) ⊙ u              Φ as in npattn.layers.gelu, exact or by tanh

**Backward**  By the product rule; each entry of g and u reaches its own y alone (foundations F7):

    du = dy ⊙ φ(g),    dg = dy ⊙ u ⊙ φ'(g)

with φ' as in npattn.layers.silu and npattn.layers.gelu. As g σ(αg) = silu(αg)/α, its derivative is silu'(αg).

**Conventions**  Which columns gate is `gate`:

- "first": the first half, as where W_G stands before W_U (Llama, Phi-3).
- "second": the second half, as in torch.nn.functional.glu.
- "even": columns 0, 2, 4, …, with u between them (gpt-oss).

gpt-oss limits both before they are used, g to at most 7 and u to −7 … 7, has the slope 1.702, for which g σ(1.702 g) is
close to gelu, and takes u + 1 for u: `limit=7.0, slope=1.702, unit_offset=True`. A number beyond the limit has gradient
0, one on the limit passes it, as in torch. Gemma's geglu is `approximate="tanh"`.

**Raises**  ValueError for an odd number of columns, an unknown word, a number out of range and a dY of another shape
than Y, TypeError for what is no floating array, no number or no bool, and for a dY of another dtype than Y.

**Source**  Dauphin et al. (2016), arXiv:1612.08083; Shazeer, "GLU Variants Improve Transformer" (2020),
arXiv:2002.05202; OpenAI (2025), arXiv:2508.10925, for gpt-oss.

By hand: σ(ln 3) = ¾, so a gate of ln 3 lets ¾ ln 3 of u pass: ¾ · 4 ln 3 = 3 ln 3.

>>> import numpy as np
>>> X = np.array([[np.log(3), 0.0, 4.0, 5.0]])
>>> Y, cache = swiglu(X)                                   # g = [ln 3, 0], u = [4, 5]
>>> (Y / np.log(3)).round(12)
array([[3., 0.]])
>>> swiglu_backward(np.array([[1.0, 1.0]]), cache).round(3)    # dg = [4 · ¾ (1 + ¼ ln 3), 5 · ½], du = [¾ ln 3, 0]
array([[3.824, 2.5  , 0.824, 0.   ]])
>>> Y, cache = geglu(X, gate="second")                     # g = [4, 5], u = [ln 3, 0], and Φ(4), Φ(5) are nearly 1
>>> Y.round(3)
array([[4.394, 0.   ]])
>>> geglu_backward(np.array([[1.0, 1.0]]), cache).round(3)     # du = [4, 5], dg = [ln 3, 0]
array([[4.   , 5.   , 1.099, 0.   ]])
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array, Interval, Shapes, check_choice, check_flag, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers.gelu import FAR, check_approximate, cumulative, gelu_slope
from npattn.layers.silu import sigmoid, silu_slope

SHAPES = Shapes(
    X="… 2D", S="… D", Phi="… D", dY="… D", gate=partial(check_choice, choices=("first", "second", "even")),
    limit=Interval(2.0**-126, 2.0**127, optional=True), slope=Interval(2.0**-126, 2.0**127), unit_offset=check_flag,
    approximate=check_approximate,
)  # fmt: skip


class SwigluCache(NamedTuple):
    """What `swiglu_backward` needs."""

    X: Array
    S: Array  # σ(αg)
    gate: str
    limit: float
    slope: float
    unit_offset: bool


class GegluCache(NamedTuple):
    """What `geglu_backward` needs."""

    X: Array
    Phi: Array  # Φ(g)
    gate: str
    approximate: str


def swiglu(
    X: Array, gate: str = "first", *, limit: float | None = None, slope: float = 1.0, unit_offset: bool = False
) -> tuple[Array, SwigluCache]:
    """Return g σ(αg) ⊙ u, (…, D), and the cache for `swiglu_backward`.

    - X: rows of g and u together.
    - gate: which columns are g: "first", "second" or "even".
    - limit: g is cut off above it, u above it and below its negative; None for no limit.
    - slope: α.
    - unit_offset: True takes u + 1 for u.
    """
    SHAPES.check(X, gate=gate, limit=limit, slope=slope, unit_offset=unit_offset)
    limit, slope = math.inf if limit is None else float(limit), float(slope)
    g, u = limited(X, gate, limit)                            # (…, D), (…, D)
    S = sigmoid(slope * g)
    Y = np.maximum(slope * g, -FAR) * S / slope * (u + unit_offset)                 # −∞ · 0 would be NaN
    return Y, SwigluCache(X, S, gate, limit, slope, bool(unit_offset))


def swiglu_backward(dY: Array, cache: SwigluCache) -> Array:
    """Return dX.

    - dY: the gradient of the loss with respect to Y.
    - cache: what `swiglu` returned beside Y.
    """
    X, S, gate, limit, slope, unit_offset = SHAPES.check_backward(dY, cache, SwigluCache)
    g, u = limited(X, gate, limit)
    dg = dY * (u + unit_offset) * silu_slope(slope * g, S)    # Y = silu(αg)/α ⊙ u
    du = dY * np.maximum(slope * g, -FAR) * S / slope         # Y = silu(αg)/α ⊙ u
    g, u = columns(X, gate)
    return joined(X, gate, np.where(g > limit, 0, dg), np.where((u > limit) | (u < -limit), 0, du))


def geglu(X: Array, gate: str = "first", *, approximate: str = "none") -> tuple[Array, GegluCache]:
    """Return g Φ(g) ⊙ u, (…, D), and the cache for `geglu_backward`.

    - X: rows of g and u together.
    - gate: which columns are g: "first", "second" or "even".
    - approximate: "none" for the exact Φ, "tanh" for the approximation.
    """
    SHAPES.check(X, gate=gate, approximate=approximate)
    g, u = columns(X, gate)                                   # (…, D), (…, D)
    Phi = cumulative(g, approximate)
    return np.maximum(g, -FAR) * Phi * u, GegluCache(X, Phi, gate, approximate)


def geglu_backward(dY: Array, cache: GegluCache) -> Array:
    """Return dX.

    - dY: the gradient of the loss with respect to Y.
    - cache: what `geglu` returned beside Y.
    """
    X, Phi, gate, approximate = SHAPES.check_backward(dY, cache, GegluCache)
    g, u = columns(X, gate)
    dg = dY * u * gelu_slope(g, Phi, approximate)             # Y = g Φ(g) ⊙ u
    du = dY * np.maximum(g, -FAR) * Phi                       # Y = g Φ(g) ⊙ u
    return joined(X, gate, dg, du)


def columns(X: Array, gate: str) -> tuple[Array, Array]:
    """Return g and u, (…, D) each: views of X."""
    D, odd = divmod(X.shape[-1], 2)
    if odd:
        raise ValueError(f"X: expected an even number of columns, got {X.shape[-1]}")
    if gate == "even":
        return X[..., ::2], X[..., 1::2]
    first, second = X[..., :D], X[..., D:]
    return (first, second) if gate == "first" else (second, first)


def limited(X: Array, gate: str, limit: float) -> tuple[Array, Array]:
    """Return g and u, (…, D) each, cut off at the limit."""
    g, u = columns(X, gate)
    return np.where(g.real > limit, limit, g), np.where(u.real > limit, limit, np.where(u.real < -limit, -limit, u))


def joined(X: Array, gate: str, dg: Array, du: Array) -> Array:
    """Return dX, like X, from the gradients of g and u."""
    dX = np.empty_like(X)
    for part, gradient in zip(columns(dX, gate), (dg, du), strict=True):
        part[...] = gradient
    return dX


document(SHAPES, swiglu, swiglu_backward, geglu, geglu_backward)
swiglu, swiglu_backward = ignore_underflow(swiglu), ignore_underflow(swiglu_backward)
geglu, geglu_backward = ignore_underflow(geglu), ignore_underflow(geglu_backward)
