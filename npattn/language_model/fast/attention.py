"""Self-attention as training runs it.

**Equals** `attention` of `npattn.language_model.reference` and its backward. Tests compare the two.

**Changed for speed**

- W_Q, W_K and W_V stand side by side in one matrix: one product projects, and backward needs one for all their dX.
- Attention goes by blocks, see `npattn.language_model.fast.causal_blocks`, and in long rows by tiles, see
  `npattn.attention.tiled`, in memory linear in the length. Dropout of weights takes the reference's attention.
- The angles of rotary positions are computed once for all layers of a type.
- Nothing is checked, since the batch has been checked where it enters the model.
- Gradients of matrices come as functions that compute them, see `npattn.transformer.fast.gradient`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from npattn._internal.checks import Array
from npattn._internal.system.underflow import ignore_underflow
from npattn.attention.dot_product import scaled_dot_product_attention, scaled_dot_product_attention_backward
from npattn.attention.tiled import tiled_attention, tiled_attention_backward
from npattn.attention.v7_multi_head import merge_heads, split_heads
from npattn.attention.v12_normalised import normed_heads, normed_heads_back
from npattn.language_model.config import LanguageModelConfig
from npattn.language_model.fast.causal_blocks import causal_attention, causal_attention_backward
from npattn.language_model.reference import Rng, window_of
from npattn.layers.kernels import project, sum_rows, weight_gradient
from npattn.layers.rotary import Rotation, rotate, rotate_back, rotation_of
from npattn.transformer.fast.attention import side_by_side
from npattn.transformer.parameters import Nested
from npattn.transformer.variants import Pair

#: Longer rows go by tiles: keeping the weights of one head would take 2 MB and more.
LONG = 1024


def rotations(N: int, dtype: Any, config: LanguageModelConfig) -> dict[str, Rotation | None]:
    """Return how far the heads of N rows turn in each type of layer; None for learned positions."""
    found: dict[str, Rotation | None] = {}
    for layer_type in set(config.layer_types):
        frequencies = config.frequencies(layer_type, N)
        rows = np.empty((N, config.d_head), dtype)
        found[layer_type] = frequencies and rotation_of(rows, frequencies, None, config.pairing)
    return found


def attention(
    X: Array, p: Nested, layer_type: str, rotation: Rotation | None, config: LanguageModelConfig, rng: Rng
) -> tuple[Array, Any]:
    """Z = merge(Y) W_O + b_O, where Y is the attention of the rows X to those before them."""
    W, b = side_by_side(p)
    (Q, c_Q), (K, c_K), V = heads(project(X, W, b), p, rotation, config)
    Y, back = attend(Q, K, V, window_of(layer_type, config), config, rng)      # (B, H, N, d_head)
    Y = merge_heads(Y)                                        # (B, N, H·d_head)
    return project(Y, p["W_O"], p.get("b_O")), (X, W, c_Q, c_K, back, Y, p, rotation, config)


def attend(
    Q: Array, K: Array, V: Array, window: int | None, config: LanguageModelConfig, rng: Rng
) -> tuple[Array, Callable[[Array], tuple[Any, ...]]]:
    """Return Y and the function from dY to dQ, dK, dV and more."""
    scale, cap, p = config.attention_scale, config.attention_softcap, config.attention_dropout
    options: dict[str, Any] = {"scale": scale, "causal": True, "window": window, "softcap": cap, "grouped": True}
    if rng is not None and p:
        Y, c_weights = scaled_dot_product_attention(Q, K, V, dropout=p, rng=rng, **options)
        return Y, partial(scaled_dot_product_attention_backward, cache=c_weights)
    if Q.shape[2] > LONG:
        Y, c_tiles = tiled_attention(Q, K, V, **options)
        return Y, partial(tiled_attention_backward, cache=c_tiles)
    Y, c_blocks = causal_attention(Q, K, V, scale, window, cap)
    return Y, partial(causal_attention_backward, cache=c_blocks)


def attention_backward(dZ: Array, cache: Any) -> tuple[Array, Nested]:
    X, W, c_Q, c_K, back, Y, p, rotation, config = cache
    dY = split_heads(project(dZ, p["W_O"].T), config.n_heads)          # Z = merge(Y) W_O + b_O
    dQ, dK, dV, *_ = back(dY)
    dQ, dgamma_Q = heads_backward(dQ, rotation, c_Q, config)
    dK, dgamma_K = heads_backward(dK, rotation, c_K, config)
    d = np.concatenate([dQ, dK, merge_heads(dV)], -1)         # (B, N, (H + 2 H_K)·d_head)
    dW, dW_O = partial(weight_gradient, X, d), partial(weight_gradient, Y, dZ)
    db, db_O = (sum_rows(d), sum_rows(dZ)) if "b_O" in p else (None, None)
    gradients = {"W_QKV": dW, "b_QKV": db, "W_O": dW_O, "b_O": db_O, "gamma_Q": dgamma_Q, "gamma_K": dgamma_K}
    return project(d, W.T), gradients


def heads(T: Array, p: Nested, rotation: Rotation | None, config: LanguageModelConfig) -> tuple[Pair, Pair, Array]:
    """Return Q (B, H, N, d_head), K (B, H_K, N, d_head), both with the cache of their norm, and V like K.

    T (B, N, (H + 2 H_K)·d_head) has them side by side.
    """
    H, H_K, found = config.n_heads, config.n_kv_heads, []
    q, k = H * config.d_head, (H + H_K) * config.d_head       # the columns where queries and keys end
    for rows, gamma, n in ((T[..., :q], p.get("gamma_Q"), H), (T[..., q:k], p.get("gamma_K"), H_K)):
        gamma = 1 + gamma if gamma is not None and config.unit_offset else gamma
        split, c_norm = normed_heads(rows, gamma, n, config.qk_norm, config.norm_eps)
        found.append((split if rotation is None else rotate(split, rotation), c_norm))   # f R split(norm(…))
    return found[0], found[1], split_heads(T[..., k:], H_K)


def heads_backward(
    dT: Array, rotation: Rotation | None, c_norm: Any, config: LanguageModelConfig
) -> tuple[Array, Array | None]:
    """Return the gradient of the rows (B, N, heads·d_head), and dγ; None without a γ."""
    return normed_heads_back(dT if rotation is None else rotate_back(dT, rotation), config.qk_norm, c_norm)


attention, attention_backward = ignore_underflow(attention), ignore_underflow(attention_backward)
