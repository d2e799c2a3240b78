"""The Transformer's layers without a backward: what `npattn.decoding.cached_decoder` runs on.

With one token a row the arrays are small, and the time of a step is that of its NumPy calls. So this is a second
version of `npattn.transformer.fast.layers` with fewer of them. Nothing is checked, and nothing is kept for a backward.
Weights that are multiplied with the same rows stand side by side in one matrix, and 1/√D_H is part of W_Q. Arrays are
overwritten once their values have been used. The encoder runs on these layers too: caches for a backward would double
its time. Tests compare the logits with those of `npattn.transformer.fast.transformer.forward`. Dropout is off.

X (B·N, D_X) has the rows of all sequences one below another; D_H = D_X/H is the width of a head. Masks are floating
arrays that are added to the scores: 0 where a query may attend, −∞ elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from npattn._internal.checks import Array, Params
from npattn.attention.masks import padding_mask
from npattn.transformer.config import TransformerConfig
from npattn.transformer.fast.softmax import masked_softmax
from npattn.transformer.parameters import Nested, nested
from npattn.transformer.relative_bias import distances, relative_bias
from npattn.transformer.variants import PHI, positions


class Norm:
    """`npattn.layers.layer_norm` or `rms_norm` for X (rows, D), without the second subtraction for rows far from 0.

    In float32 a row with |μ| = 100σ has errors up to 1e-5 therefore, where others have 5e-7. The subtraction would take
    5 % of a step of one token.
    """

    def __init__(self, p: Nested, config: TransformerConfig) -> None:
        D = len(p["gamma"])
        self.gamma, self.beta = p["gamma"] * math.sqrt(D), p.get("beta")
        self.eps = config.norm_eps * D                        # γ/√(Σ(x − μ)²/D + ε) = γ√D/√(Σ(x − μ)² + εD)
        self.mean = None                                      # X @ mean is three times as fast as X.mean(-1)
        if config.norm_type == "layer":
            self.mean = np.full((D, 1), 1 / D, self.gamma.dtype)

    def __call__(self, X: Array) -> Array:
        Y: Array = X.copy() if self.mean is None else X - X @ self.mean            # (rows, D)
        Y /= np.sqrt(np.vecdot(Y, Y) + self.eps)[:, None]
        Y *= self.gamma
        if self.beta is not None:
            Y += self.beta
        return Y


class Projection:
    """Queries, keys or values of all heads, those that `which` names, from one product."""

    def __init__(self, p: Nested, which: str, config: TransformerConfig) -> None:
        self.W = np.concatenate([p[f"W_{name}"] for name in which], axis=1)
        self.b = np.concatenate([p[f"b_{name}"] for name in which]) if f"b_{which[0]}" in p else None
        H, D_H = config.n_heads, config.head_width
        self.heads = len(which), H, D_H
        if which.startswith("Q"):                             # E = s Q Kᵀ, s = 1/√D_H
            scale = 1 / math.sqrt(D_H) if config.attention_scale is None else config.attention_scale
            self.W[:, : H * D_H] *= scale
            if self.b is not None:
                self.b[: H * D_H] *= scale

    def __call__(self, X: Array, B: int) -> Array:
        """X (B·N, D_X) → (B, len(which), H, N, D_H), a view."""
        return affine(X, self.W, self.b).reshape(B, -1, *self.heads).transpose(0, 2, 3, 1, 4)


class Layer:
    """What encoder and decoder layers have in common."""

    def __init__(self, p: Nested, config: TransformerConfig) -> None:
        self.QKV = Projection(p["self_attention"], "QKV", config)
        self.norms = [Norm(p[name], config) for name in ("norm_1", "norm_2", "norm_3") if name in p]
        self.p, self.post, self.is_relu = p, config.norm == "post", config.activation == "relu"
        self.phi, _, self.options = PHI[config.activation, config.gated]

    def sub_layer(self, X: Array, f: Callable[[Array], Array], norm: Norm) -> Array:
        """norm(X + f(X)), or X + f(norm(X)) with pre-norm."""
        F = f(X if self.post else norm(X))
        F += X
        return norm(F) if self.post else F

    def attention(self, Q: Array, K: Array, V: Array, mask: Array | None, name: str) -> Array:
        """Attend in each head, merge the heads, project."""
        p = self.p[name]
        return affine(attend(Q, K, V, mask), p["W_O"], p.get("b_O"))

    def feed_forward(self, X: Array) -> Array:
        """φ(X W_1 + b_1) W_2 + b_2."""
        p = self.p["feed_forward"]
        hidden = affine(X, p["W_1"], p.get("b_1"))            # (rows, d_ff)
        if self.is_relu:                                      # NumPy takes half the time for a row of zeros as for 0
            np.maximum(hidden, np.zeros(hidden.shape[1], hidden.dtype), out=hidden)
        else:
            hidden, _ = self.phi(hidden, **self.options)
        return affine(hidden, p["W_2"], p.get("b_2"))


class Embedding:
    """`embed` of the reference, for the ids of a stack (n,) and their positions (n, D_X)."""

    def __init__(self, W_E: Array, p: Nested, config: TransformerConfig) -> None:
        self.W_E, self.scale = W_E, math.sqrt(config.d_model) if config.scale_embedding else 1.0
        self.norm = Norm(p["embedding_norm"], config) if config.embedding_norm else None

    def __call__(self, ids: Array, P: Array) -> Array:
        X: Array = self.W_E[ids]                              # (n, D_X)
        X *= self.scale
        X += P
        return X if self.norm is None else self.norm(X)


class EncoderLayer(Layer):
    """`npattn.transformer.fast.layers.encoder_layer`."""

    def __call__(self, X: Array, pads: Array) -> Array:
        """X (B·N_S, D_X), pads (B, 1, 1, N_S) or with a bias (B, H, N_S, N_S)."""
        def self_attention(I: Array) -> Array:
            Q, K, V = np.moveaxis(self.QKV(I, len(pads)), 1, 0)
            return self.attention(Q, K, V, pads, "self_attention")

        X = self.sub_layer(X, self_attention, self.norms[0])
        return self.sub_layer(X, self.feed_forward, self.norms[1])


def encode(params: Params, src: Array, config: TransformerConfig) -> tuple[Array, Array, Array]:
    """Return the encoder's output M (B·N_S, D_X), its mask (B, 1, 1, N_S), and which rows (B,) are pads alone.

    Rows of pads alone are not masked, because softmax of −∞ alone is 0/0. Their M means nothing.
    """
    mask = padding_mask(src, pad_id=config.pad_id)            # (B, 1, 1, N_S)
    all_pads: Array = np.logical_not(mask.any(-1)).reshape(len(src))
    W_E: Array = params[config.source_embedding]
    p: Any = nested(params).get("encoder")                    # None without layers
    pads = np.where(mask | all_pads[:, None, None, None], 0, -np.inf).astype(W_E.dtype)
    bias, _ = relative_bias(distances(src.shape[1]), p, config, both=True)
    scores = pads if bias is None else pads + bias            # (B, H, N_S, N_S)
    P, _ = positions(src.shape[1], p, config, W_E.dtype)
    X = Embedding(W_E, p, config)(src.reshape(-1), np.tile(P, (len(src), 1)))
    for i in range(config.n_encoder_layers):
        X = EncoderLayer(p[str(i)], config)(X, scores)
    return Norm(p["norm"], config)(X) if config.has_final_norm else X, pads, all_pads


def affine(X: Array, W: Array, b: Array | None) -> Array:
    """X W + b for X (rows, D)."""
    Y = X @ W
    if b is not None:
        Y += b
    return Y


def attend(Q: Array, K: Array, V: Array, mask: Array | None) -> Array:
    """Attention (B·k, D_X) of Q (B, H, k, D_H), which has been divided by √D_H, to K and V (B, H, N, D_H)."""
    A = masked_softmax(Q @ K.mT, mask)                        # (B, H, k, N)
    Y = A @ V                                                 # (B, H, k, D_H)
    B, H, k, D_H = Y.shape
    return Y.transpose(0, 2, 1, 3).reshape(B * k, H * D_H)
