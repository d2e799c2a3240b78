"""The two kinds of layer, of sub-layers with their residual sums, on packed rows.

**Equals** `sub_layer`, `encoder_layer` and `decoder_layer` of `npattn.transformer.reference`, which derives the
backward.

**Changed for speed** X and Y are packed rows (n, D_X), M is (n_S, D_X). Attention is that of
`npattn.transformer.fast.attention`. The residual sum is taken in the memory of its new term. Nothing is checked: a
batch is checked where it enters the model.

`p` holds a layer's parameters as nested dicts (`p["self_attention"]["W_Q"]`); gradients come back under the same names,
with W_Q, W_K and W_V side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array
from npattn.layers import (
    dropout,
    dropout_backward,
    gelu,
    gelu_backward,
    layer_norm,
    layer_norm_backward,
    relu,
    relu_backward,
)
from npattn.layers.kernels import project, sum_rows, weight_gradient
from npattn.transformer.config import TransformerConfig
from npattn.transformer.fast.attention import (
    cross_attention,
    cross_attention_backward,
    self_attention,
    self_attention_backward,
)
from npattn.transformer.fast.packing import Packing
from npattn.transformer.parameters import Nested

ACTIVATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "relu": (relu, relu_backward),
    "gelu": (gelu, gelu_backward),
}


class ResidualCache(NamedTuple):
    f: Any        # the sub-layer's own cache
    dropout: Any
    norm: Any
    post: bool

    @property
    def A(self) -> Array:
        """The attention weights (B, H, N_Q, N_X), when the sub-layer is an attention."""
        return self.f.A


class FeedForwardCache(NamedTuple):
    X: Array         # (n, D_X)
    H: Array         # (n, d_ff)  φ(…)
    activation: Any  # its cache
    p: Nested
    name: str        # of the activation


class EncoderLayerCache(NamedTuple):
    self_attention: ResidualCache
    feed_forward: ResidualCache


class DecoderLayerCache(NamedTuple):
    self_attention: ResidualCache
    cross_attention: ResidualCache
    feed_forward: ResidualCache


def feed_forward(X: Array, p: Nested, activation: str) -> tuple[Array, FeedForwardCache]:
    """F = φ(X W_1 + b_1) W_2 + b_2."""
    H, c_phi = ACTIVATIONS[activation][0](project(X, p["W_1"], p.get("b_1")))   # (n, d_ff)
    F = project(H, p["W_2"], p.get("b_2"))                    # (n, D_X)
    return F, FeedForwardCache(X, H, c_phi, p, activation)


def feed_forward_backward(dF: Array, cache: FeedForwardCache) -> tuple[Array, Nested]:
    """Return dX and the gradients of the parameters."""
    X, H, c_phi, p, name = cache
    grads = {"W_2": weight_gradient(H, dF)}                   # F = H W_2 + b_2
    dH = ACTIVATIONS[name][1](project(dF, p["W_2"].T), c_phi)   # F = H W_2 + b_2, H = φ(…)
    grads["W_1"] = weight_gradient(X, dH)                     # … = X W_1 + b_1
    if "b_1" in p:
        grads |= {"b_2": sum_rows(dF), "b_1": sum_rows(dH)}
    return project(dH, p["W_1"].T), grads                     # … = X W_1 + b_1


def residual(
    X: Array,
    f: Callable[[Array], tuple[Array, Any]],
    norm: Nested,
    config: TransformerConfig,
    rng: np.random.Generator | None = None,
) -> tuple[Array, ResidualCache]:
    """Y = norm(X + dropout(f(X))), or X + dropout(f(norm(X))) with pre-norm."""
    post = config.norm == "post"
    I, c_norm = (X, None) if post else normalise(X, norm)     # (n, D_X)  what f reads
    F, c_f = f(I)
    if rng is not None:
        F, c_dropout = dropout(F, config.dropout, rng)
    else:
        c_dropout = None
    F += X                                                    # ours: f and dropout return arrays of their own
    Y = F
    if post:
        Y, c_norm = normalise(Y, norm)
    return Y, ResidualCache(c_f, c_dropout, c_norm, post)


def residual_backward(dY: Array, cache: ResidualCache, f_backward: Callable[..., Any]) -> tuple[Any, ...]:
    """Return dX, what `f_backward` returns after its first gradient, and the gradients of γ and β."""
    c_f, c_dropout, c_norm, post = cache
    dS, d_norm = normalise_backward(dY, c_norm) if post else (dY, {})   # Y = norm(S), or Y = S
    dF = dS if c_dropout is None else dropout_backward(dS, c_dropout)   # S = X + dropout(F)
    dI, *rest = f_backward(dF, c_f)                           # F = f(I)
    if not post:
        dI, d_norm = normalise_backward(dI, c_norm)           # I = norm(X)
    dI += dS                                                  # X reaches S and I, so add
    return dI, *rest, d_norm


def normalise(X: Array, norm: Nested) -> tuple[Array, Any]:
    """Layer norm with the parameters of one place."""
    return layer_norm(X, norm["gamma"], norm.get("beta"))


def normalise_backward(dY: Array, cache: Any) -> tuple[Array, Nested]:
    """Return dX and the gradients of γ and β."""
    dX, dgamma, dbeta = layer_norm_backward(dY, cache)
    return dX, {"gamma": dgamma, "beta": dbeta}


def encoder_layer(
    X: Array, p: Nested, packing: Packing, config: TransformerConfig, rng: np.random.Generator | None = None
) -> tuple[Array, EncoderLayerCache]:
    """Self-attention and feed-forward, each with its residual sum."""

    def attend(I: Array) -> tuple[Array, Any]:
        return self_attention(I, p["self_attention"], config.n_heads, packing)

    X, c_1 = residual(X, attend, p["norm_1"], config, rng)
    X, c_2 = residual(X, lambda I: feed_forward(I, p["feed_forward"], config.activation), p["norm_2"], config, rng)
    return X, EncoderLayerCache(c_1, c_2)


def encoder_layer_backward(dX: Array, cache: EncoderLayerCache) -> tuple[Array, Nested]:
    """Return dX and the gradients of the layer's parameters."""
    dX, d_feed_forward, d_norm_2 = residual_backward(dX, cache.feed_forward, feed_forward_backward)
    dX, d_self, d_norm_1 = residual_backward(dX, cache.self_attention, self_attention_backward)
    return dX, {
        "self_attention": d_self, "norm_1": d_norm_1, "feed_forward": d_feed_forward, "norm_2": d_norm_2
    }  # fmt: skip


def decoder_layer(
    X: Array,
    M: Array,
    p: Nested,
    packing: Packing,
    packing_M: Packing,
    config: TransformerConfig,
    rng: np.random.Generator | None = None,
) -> tuple[Array, DecoderLayerCache]:
    """Self-attention, cross-attention to M and feed-forward, each with its residual sum."""

    def attend(I: Array) -> tuple[Array, Any]:
        return self_attention(I, p["self_attention"], config.n_heads, packing)

    def attend_to_M(I: Array) -> tuple[Array, Any]:
        return cross_attention(I, M, p["cross_attention"], config.n_heads, packing, packing_M)

    X, c_1 = residual(X, attend, p["norm_1"], config, rng)
    X, c_2 = residual(X, attend_to_M, p["norm_2"], config, rng)
    X, c_3 = residual(X, lambda I: feed_forward(I, p["feed_forward"], config.activation), p["norm_3"], config, rng)
    return X, DecoderLayerCache(c_1, c_2, c_3)


def decoder_layer_backward(dX: Array, cache: DecoderLayerCache) -> tuple[Array, Array, Nested]:
    """Return dX, dM and the gradients of the layer's parameters."""
    dX, d_feed_forward, d_norm_3 = residual_backward(dX, cache.feed_forward, feed_forward_backward)
    dX, dM, d_cross, d_norm_2 = residual_backward(dX, cache.cross_attention, cross_attention_backward)
    dX, d_self, d_norm_1 = residual_backward(dX, cache.self_attention, self_attention_backward)
    return dX, dM, {
        "self_attention": d_self, "norm_1": d_norm_1, "cross_attention": d_cross, "norm_2": d_norm_2,
        "feed_forward": d_feed_forward, "norm_3": d_norm_3,
    }  # fmt: skip
