"""The decoder one token at a time, with key/value caches: what greedy and beam search run on.

A decoder layer at position t needs the keys and values of positions 0 … t, and those of earlier positions do not
change, because the sequence mask lets no position see a later one. So they are kept: the buffers are allocated once,
for the longest sequence, and each step writes one position. Keys and values of the encoder's output M are computed
once. A step costs the same work for every t but for the t + 1 scores of each head.

Inference only: there is no backward, and dropout is off.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from npattn._types import Array, Params
from npattn.attention.v7_multi_head import merge_heads, split_heads
from npattn.layers import softmax
from npattn.layers.linear import project
from npattn.positions import sinusoidal_positions
from npattn.transformer.blocks import Tree, feed_forward, normalise, residual
from npattn.transformer.config import TransformerConfig
from npattn.transformer.functions import encode, pad_mask
from npattn.transformer.parameters import nested


class LayerState(NamedTuple):
    K: Array    # (B, H, N_max, D_H)  keys of the positions so far
    V: Array    # (B, H, N_max, D_H)
    K_M: Array  # (B, H, N_S, D_H)    keys of the encoder's output
    V_M: Array  # (B, H, N_S, D_H)


class DecoderState(NamedTuple):
    """All that one decoding needs. `advance` writes position t into its buffers, and nothing else."""

    p: Tree
    config: TransformerConfig
    layers: tuple[LayerState, ...]
    mask_M: Array | None  # (B, 1, 1, N_S)
    positions: Array      # (N_max, D_X)

    def select(self, rows: Array) -> DecoderState:
        """Return a state of the given rows, repeated or left out as `rows` says, in buffers of its own."""
        layers = tuple(LayerState(*(buffer[rows] for buffer in layer)) for layer in self.layers)
        return self._replace(layers=layers, mask_M=None if self.mask_M is None else self.mask_M[rows])


def start(params: Params, src: Array, config: TransformerConfig, N_max: int, copies: int = 1) -> DecoderState:
    """Encode src (B, N_S) and return the state before the first token, each row `copies` times."""
    p = nested(params)
    M, _ = encode(p, src, config)                             # (B, N_S, D_X)
    mask_M = pad_mask(src, config)
    H, D_H = config.n_heads, config.d_model // config.n_heads
    layers = []
    for i in range(config.n_decoder_layers):
        cross = p["decoder"][str(i)]["cross_attention"]
        K_M = split_heads(project(M, cross["W_K"], cross.get("b_K")), H)
        V_M = split_heads(project(M, cross["W_V"], cross.get("b_V")), H)
        K, V = (np.zeros((len(src) * copies, H, N_max, D_H), M.dtype) for _ in range(2))
        layers.append(LayerState(K, V, np.repeat(K_M, copies, axis=0), np.repeat(V_M, copies, axis=0)))
    positions = sinusoidal_positions(N_max, config.d_model).astype(M.dtype)
    if mask_M is not None:
        mask_M = np.repeat(mask_M, copies, axis=0)
    return DecoderState(p, config, tuple(layers), mask_M, positions)


def advance(state: DecoderState, ids: Array, t: int) -> Array:
    """Read the tokens ids (B,) at position t; return the logits (B, V) of the next ones."""
    p, config = state.p, state.config
    group, leaf = config.target_embedding.split(".")
    W_E = p[group][leaf]
    X = W_E[ids][:, None] * math.sqrt(config.d_model) + state.positions[t]   # (B, 1, D_X)
    for i, layer in enumerate(state.layers):
        X = decoder_layer_step(X, p["decoder"][str(i)], layer, t, state.mask_M, config)
    if config.has_final_norm:
        X, _ = normalise(X, p["decoder"]["norm"])
    return project(X[:, 0], p["output"]["W"] if config.tie == "none" else W_E.T)


def decoder_layer_step(
    X: Array, p: Tree, layer: LayerState, t: int, mask_M: Array | None, config: TransformerConfig
) -> Array:
    """`npattn.transformer.blocks.decoder_layer` at the one position t."""

    def self_attention(I: Array) -> tuple[Array, Any]:
        own = p["self_attention"]
        layer.K[:, :, t] = split_heads(project(I, own["W_K"], own.get("b_K")), config.n_heads)[:, :, 0]
        layer.V[:, :, t] = split_heads(project(I, own["W_V"], own.get("b_V")), config.n_heads)[:, :, 0]
        return attend(I, layer.K[:, :, : t + 1], layer.V[:, :, : t + 1], own, None, config.n_heads), None

    def cross_attention(I: Array) -> tuple[Array, Any]:
        return attend(I, layer.K_M, layer.V_M, p["cross_attention"], mask_M, config.n_heads), None

    X, _ = residual(X, self_attention, p["norm_1"], config)
    X, _ = residual(X, cross_attention, p["norm_2"], config)
    X, _ = residual(X, lambda I: feed_forward(I, p["feed_forward"], config.activation), p["norm_3"], config)
    return X


def attend(I: Array, K: Array, V: Array, p: Tree, mask: Array | None, n_heads: int) -> Array:
    """Multi-head attention to keys and values that are there already."""
    Q = split_heads(project(I, p["W_Q"], p.get("b_Q")), n_heads)   # (B, H, 1, D_H)
    A = softmax(Q @ K.mT / math.sqrt(Q.shape[-1]), mask)      # (B, H, 1, N_X)
    return project(merge_heads(A @ V), p["W_O"], p.get("b_O"))
