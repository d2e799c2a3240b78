"""The encoder layer and the decoder layer on packed rows, made of sub-layers with their residual sums.

**Equals** `sub_layer`, `feed_forward`, `encoder_layer` and `decoder_layer` of `npattn.transformer.reference` and their
backwards, which are derived there. Tests compare the gradients of the whole model.

**Changed for speed**

- X and Y are packed rows (n, D_X), M is (n_S, D_X), see `npattn.transformer.fast.packing`.
- Attention is that of `npattn.transformer.fast.attention`, the layer norm that of `npattn.transformer.fast.layer_norm`.
- Gradients of matrices come as functions that compute them, see `npattn.transformer.fast.gradient`.
- A residual sum is written to the memory of its new term. Dropout without an rng makes no copy.
- The feed-forward checks nothing, since the batch has been checked where it enters the model. Its relu works in place:
  of a step of 8.4 ms, that saves 0.1 ms.

`p` holds the parameters of a layer as nested dicts (`p["self_attention"]["W_Q"]`). Gradients come back under the same
names, with W_Q, W_K and W_V side by side, and None for a bias that is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from npattn._internal.checks import Array
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers import dropout, dropout_backward, gelu, gelu_backward
from npattn.layers.kernels import project, sum_rows, weight_gradient
from npattn.transformer.config import TransformerConfig
from npattn.transformer.fast.attention import (
    cross_attention,
    cross_attention_backward,
    self_attention,
    self_attention_backward,
)
from npattn.transformer.fast.gradient import Gradient
from npattn.transformer.fast.layer_norm import normalise, normalise_backward
from npattn.transformer.fast.packing import Packing
from npattn.transformer.parameters import Nested, dotted

T = TypeVar("T")

#: Names and gradients, those of a sub-layer as soon as they are known; in the end dX and dM.
LayerGradients: TypeAlias = Generator[tuple[str, Gradient], None, tuple[Array, T]]


class SubLayerCache(NamedTuple):
    before: Any   # of the norm before f, or None
    f: Any        # of f; for an attention it has the weights, f.A
    dropout: Any  # None without an rng
    after: Any    # of the norm after the sum, or None


class FeedForwardCache(NamedTuple):
    X: Array      # (n, D_X)
    H: Array      # (n, d_ff)
    phi: Any      # the cache of φ
    phi_backward: Any
    p: Nested


class EncoderLayerCache(NamedTuple):
    self_attention: SubLayerCache
    feed_forward: SubLayerCache


class DecoderLayerCache(NamedTuple):
    self_attention: SubLayerCache
    cross_attention: SubLayerCache
    feed_forward: SubLayerCache


def relu(U: Array) -> tuple[Array, Array]:
    """Return H = max(0, U) in the memory of U, and H again as the cache."""
    H = np.maximum(U, np.zeros(U.shape[-1], U.dtype), out=U)   # a row of zeros takes half the time of 0
    return H, H


def relu_backward(dH: Array, H: Array) -> Array:
    """Return dU in the memory of dH."""
    return np.multiply(dH, H > 0, out=dH)


PHI: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "relu": (relu, relu_backward), "gelu": (gelu, gelu_backward),
}  # fmt: skip


def feed_forward(X: Array, p: Nested, activation: str) -> tuple[Array, FeedForwardCache]:
    """F = H W_2 + b_2, H = φ(U), U = X W_1 + b_1."""
    phi, phi_backward = PHI[activation]
    H, c_phi = phi(project(X, p["W_1"], p.get("b_1")))        # (n, d_ff)
    return project(H, p["W_2"], p.get("b_2")), FeedForwardCache(X, H, c_phi, phi_backward, p)


def feed_forward_backward(dF: Array, cache: FeedForwardCache) -> tuple[Array, Nested]:
    """Return dX and the gradients of the parameters."""
    X, H, c_phi, phi_backward, p = cache
    dU = phi_backward(project(dF, p["W_2"].T), c_phi)         # F = H W_2 + b_2, H = φ(U)
    db_1, db_2 = (sum_rows(dU), sum_rows(dF)) if "b_1" in p else (None, None)
    dW_1, dW_2 = partial(weight_gradient, X, dU), partial(weight_gradient, H, dF)   # U = X W_1 + b_1, F = H W_2 + b_2
    return project(dU, p["W_1"].T), {"W_1": dW_1, "b_1": db_1, "W_2": dW_2, "b_2": db_2}


def sub_layer(
    X: Array,
    f: Callable[[Array], tuple[Array, Any]],
    norm: Nested,
    config: TransformerConfig,
    rng: np.random.Generator | None = None,
) -> tuple[Array, SubLayerCache]:
    """Y = norm(X + dropout(f(X))), or X + dropout(f(norm(X))) with pre-norm."""
    I, c_before = normalise(X, norm, config) if config.norm == "pre" else (X, None)   # (n, D_X)
    F, c_f = f(I)
    F, c_dropout = (F, None) if rng is None else dropout(F, config.dropout, rng)
    F += X                                                    # f and dropout return new arrays, so this spoils nothing
    Y, c_after = normalise(F, norm, config) if config.norm == "post" else (F, None)
    return Y, SubLayerCache(c_before, c_f, c_dropout, c_after)


def sub_layer_backward(dY: Array, cache: SubLayerCache, f_backward: Callable[..., Any]) -> tuple[Any, ...]:
    """Return dX, then what `f_backward` returns after its first gradient, then the gradients of γ and β."""
    c_before, c_f, c_dropout, c_after = cache
    dR, d_after = normalise_backward(dY, c_after)             # Y = norm(R), or Y = R
    dF = dR if c_dropout is None else dropout_backward(dR, c_dropout)   # R = X + dropout(F)
    dI, *rest = f_backward(dF, c_f)                           # F = f(I)
    dX, d_before = normalise_backward(dI, c_before)           # I = norm(X), or I = X
    dX += dR                                                  # X is used in R and in I, so add
    return dX, *rest, d_before if c_after is None else d_after


def encoder_layer(
    X: Array, p: Nested, packing: Packing, config: TransformerConfig, rng: np.random.Generator | None = None
) -> tuple[Array, EncoderLayerCache]:
    """Self-attention and feed-forward."""
    phi, both = config.activation, (config, rng)
    X, c_1 = sub_layer(X, lambda I: self_attention(I, p["self_attention"], packing, *both), p["norm_1"], *both)
    X, c_2 = sub_layer(X, lambda I: feed_forward(I, p["feed_forward"], phi), p["norm_2"], *both)
    return X, EncoderLayerCache(c_1, c_2)


def encoder_layer_backward(dX: Array, cache: EncoderLayerCache, name: str) -> LayerGradients[float]:
    """Yield name and gradient of the parameters, and return dX and dM = 0 since there is no M."""
    dX, d_feed_forward, d_2 = sub_layer_backward(dX, cache.feed_forward, feed_forward_backward)
    yield from dotted({"feed_forward": d_feed_forward, "norm_2": d_2}, name)
    dX, d_self, d_1 = sub_layer_backward(dX, cache.self_attention, self_attention_backward)
    yield from dotted({"self_attention": d_self, "norm_1": d_1}, name)
    return dX, 0.0


def decoder_layer(
    X: Array,
    M: Array,
    p: Nested,
    packing: Packing,
    packing_M: Packing,
    config: TransformerConfig,
    rng: np.random.Generator | None = None,
) -> tuple[Array, DecoderLayerCache]:
    """Self-attention, cross-attention to M and feed-forward."""
    phi, both, p_cross = config.activation, (config, rng), p["cross_attention"]
    X, c_1 = sub_layer(X, lambda I: self_attention(I, p["self_attention"], packing, *both), p["norm_1"], *both)
    X, c_2 = sub_layer(X, lambda I: cross_attention(I, M, p_cross, packing, packing_M, *both), p["norm_2"], *both)
    X, c_3 = sub_layer(X, lambda I: feed_forward(I, p["feed_forward"], phi), p["norm_3"], *both)
    return X, DecoderLayerCache(c_1, c_2, c_3)


def decoder_layer_backward(dX: Array, cache: DecoderLayerCache, name: str) -> LayerGradients[Array]:
    """Yield name and gradient of the parameters, and return dX and dM."""
    dX, d_feed_forward, d_3 = sub_layer_backward(dX, cache.feed_forward, feed_forward_backward)
    yield from dotted({"feed_forward": d_feed_forward, "norm_3": d_3}, name)
    dX, dM, d_cross, d_2 = sub_layer_backward(dX, cache.cross_attention, cross_attention_backward)
    yield from dotted({"cross_attention": d_cross, "norm_2": d_2}, name)
    dX, d_self, d_1 = sub_layer_backward(dX, cache.self_attention, self_attention_backward)
    yield from dotted({"self_attention": d_self, "norm_1": d_1}, name)
    return dX, dM


sub_layer_backward = ignore_underflow(sub_layer_backward)
