"""What encoder and decoder are built of: sub-layers with their residual sums, and the two kinds of layer.

**Forward**  A sub-layer f (self-attention, cross-attention or feed-forward) is wrapped as

    post-norm    S = X + dropout(f(X)),  Y = norm(S)        as in Vaswani et al.
    pre-norm     Y = X + dropout(f(norm(X)))

    encoder layer    self-attention, feed-forward
    decoder layer    self-attention (causal), cross-attention to the encoder's output M, feed-forward
    feed-forward     F = φ(X W_1 + b_1) W_2 + b_2,  φ = relu or gelu

**Backward**  The sum hands its gradient to both terms, so the input X of a sub-layer, used twice, gets two:

    post-norm    dS = norm_backward(dY),  dX = dS + f_backward(dropout_backward(dS))
    pre-norm     dX = dY + norm_backward(f_backward(dropout_backward(dY)))

M serves every decoder layer and gathers a gradient from each.

**Shapes**  X and Y (B, N, D_X), M (B, N_S, D_X). `p` holds a layer's parameters as nested dicts
(`p["self_attention"]["W_Q"]`), and gradients come back under the same names.

**Source**  Vaswani et al. (2017), arXiv:1706.03762, §3.1, §3.3 and, for dropout, §5.4; Xiong et al., "On Layer
Normalization in the Transformer Architecture" (2020), arXiv:2002.04745, for pre-norm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from npattn._types import Array
from npattn.attention import v7_multi_head
from npattn.layers import (
    dropout,
    dropout_backward,
    gelu,
    gelu_backward,
    layer_norm,
    layer_norm_backward,
    linear,
    linear_backward,
    relu,
    relu_backward,
)
from npattn.transformer.config import TransformerConfig

Tree = dict[str, Any]

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
    linear_1: Any
    activation: Any
    linear_2: Any
    name: str     # of the activation


class EncoderLayerCache(NamedTuple):
    self_attention: ResidualCache
    feed_forward: ResidualCache


class DecoderLayerCache(NamedTuple):
    self_attention: ResidualCache
    cross_attention: ResidualCache
    feed_forward: ResidualCache


def attention(X_Q: Array, X: Array, p: Tree, mask: Array | None, n_heads: int) -> tuple[Array, Any]:
    """Multi-head attention from X_Q to X, see `npattn.attention.v7_multi_head`."""
    weights = (p[f"W_{which}"] for which in "QKVO")
    biases = (p.get(f"b_{which}") for which in "QKVO")
    return v7_multi_head.forward(X_Q, X, *weights, *biases, n_heads=n_heads, mask=mask)


def cross_attention_backward(dZ: Array, cache: Any) -> tuple[Array, Array, Tree]:
    """Return dX_Q, dX and the gradients of the parameters."""
    dX_Q, dX, dW_Q, dW_K, dW_V, dW_O, db_Q, db_K, db_V, db_O = v7_multi_head.backward(dZ, cache)
    assert dX_Q is not None and dX is not None
    grads = {"W_Q": dW_Q, "b_Q": db_Q, "W_K": dW_K, "b_K": db_K, "W_V": dW_V, "b_V": db_V, "W_O": dW_O, "b_O": db_O}
    return dX_Q, dX, grads


def self_attention_backward(dZ: Array, cache: Any) -> tuple[Array, Tree]:
    """Return dX and the gradients of the parameters: X came in twice, so its gradients add."""
    dX_Q, dX, grads = cross_attention_backward(dZ, cache)
    return dX_Q + dX, grads


def feed_forward(X: Array, p: Tree, activation: str) -> tuple[Array, FeedForwardCache]:
    """F = φ(X W_1 + b_1) W_2 + b_2."""
    H, c_1 = linear(X, p["W_1"], p.get("b_1"))                # (B, N, d_ff)
    H, c_phi = ACTIVATIONS[activation][0](H)                  # (B, N, d_ff)
    F, c_2 = linear(H, p["W_2"], p.get("b_2"))                # (B, N, D_X)
    return F, FeedForwardCache(c_1, c_phi, c_2, activation)


def feed_forward_backward(dF: Array, cache: FeedForwardCache) -> tuple[Array, Tree]:
    """Return dX and the gradients of the parameters."""
    dH, dW_2, db_2 = linear_backward(dF, cache.linear_2)      # F = H W_2 + b_2
    dH = ACTIVATIONS[cache.name][1](dH, cache.activation)     # H = φ(…)
    dX, dW_1, db_1 = linear_backward(dH, cache.linear_1)      # … = X W_1 + b_1
    return dX, {"W_1": dW_1, "b_1": db_1, "W_2": dW_2, "b_2": db_2}


def residual(
    X: Array,
    f: Callable[[Array], tuple[Array, Any]],
    norm: Tree,
    config: TransformerConfig,
    rng: np.random.Generator | None = None,
) -> tuple[Array, ResidualCache]:
    """Y = norm(X + dropout(f(X))), or X + dropout(f(norm(X))) with pre-norm."""
    post = config.norm == "post"
    I, c_norm = (X, None) if post else normalise(X, norm)     # (B, N, D_X)  what f reads
    F, c_f = f(I)
    F, c_dropout = dropout(F, config.dropout, rng)
    Y = X + F
    if post:
        Y, c_norm = normalise(Y, norm)
    return Y, ResidualCache(c_f, c_dropout, c_norm, post)


def residual_backward(dY: Array, cache: ResidualCache, f_backward: Callable[..., Any]) -> tuple[Any, ...]:
    """Return dX, what `f_backward` returns after its first gradient, and the gradients of γ and β."""
    c_f, c_dropout, c_norm, post = cache
    dS, d_norm = normalise_backward(dY, c_norm) if post else (dY, {})   # Y = norm(S), or Y = S
    dF = dropout_backward(dS, c_dropout)                      # S = X + dropout(F)
    dI, *rest = f_backward(dF, c_f)                           # F = f(I)
    if not post:
        dI, d_norm = normalise_backward(dI, c_norm)           # I = norm(X)
    return dS + dI, *rest, d_norm                             # X reaches S and I, so add


def normalise(X: Array, norm: Tree) -> tuple[Array, Any]:
    """Layer norm with the parameters of one place."""
    return layer_norm(X, norm["gamma"], norm.get("beta"))


def normalise_backward(dY: Array, cache: Any) -> tuple[Array, Tree]:
    """Return dX and the gradients of γ and β."""
    dX, dgamma, dbeta = layer_norm_backward(dY, cache)
    return dX, {"gamma": dgamma, "beta": dbeta}


def encoder_layer(
    X: Array, p: Tree, mask: Array | None, config: TransformerConfig, rng: np.random.Generator | None = None
) -> tuple[Array, EncoderLayerCache]:
    """Self-attention and feed-forward, each with its residual sum."""
    X, c_1 = residual(
        X, lambda I: attention(I, I, p["self_attention"], mask, config.n_heads), p["norm_1"], config, rng
    )
    X, c_2 = residual(X, lambda I: feed_forward(I, p["feed_forward"], config.activation), p["norm_2"], config, rng)
    return X, EncoderLayerCache(c_1, c_2)


def encoder_layer_backward(dX: Array, cache: EncoderLayerCache) -> tuple[Array, Tree]:
    """Return dX and the gradients of the layer's parameters."""
    dX, d_feed_forward, d_norm_2 = residual_backward(dX, cache.feed_forward, feed_forward_backward)
    dX, d_self, d_norm_1 = residual_backward(dX, cache.self_attention, self_attention_backward)
    return dX, {
        "self_attention": d_self, "norm_1": d_norm_1, "feed_forward": d_feed_forward, "norm_2": d_norm_2
    }  # fmt: skip


def decoder_layer(
    X: Array,
    M: Array,
    p: Tree,
    mask: Array | None,
    mask_M: Array | None,
    config: TransformerConfig,
    rng: np.random.Generator | None = None,
) -> tuple[Array, DecoderLayerCache]:
    """Self-attention, cross-attention to M and feed-forward, each with its residual sum."""
    X, c_1 = residual(
        X, lambda I: attention(I, I, p["self_attention"], mask, config.n_heads), p["norm_1"], config, rng
    )
    X, c_2 = residual(
        X, lambda I: attention(I, M, p["cross_attention"], mask_M, config.n_heads), p["norm_2"], config, rng
    )
    X, c_3 = residual(X, lambda I: feed_forward(I, p["feed_forward"], config.activation), p["norm_3"], config, rng)
    return X, DecoderLayerCache(c_1, c_2, c_3)


def decoder_layer_backward(dX: Array, cache: DecoderLayerCache) -> tuple[Array, Array, Tree]:
    """Return dX, dM and the gradients of the layer's parameters."""
    dX, d_feed_forward, d_norm_3 = residual_backward(dX, cache.feed_forward, feed_forward_backward)
    dX, dM, d_cross, d_norm_2 = residual_backward(dX, cache.cross_attention, cross_attention_backward)
    dX, d_self, d_norm_1 = residual_backward(dX, cache.self_attention, self_attention_backward)
    return dX, dM, {
        "self_attention": d_self, "norm_1": d_norm_1, "cross_attention": d_cross, "norm_2": d_norm_2,
        "feed_forward": d_feed_forward, "norm_3": d_norm_3,
    }  # fmt: skip
