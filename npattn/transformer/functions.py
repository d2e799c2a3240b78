"""The encoder–decoder Transformer as one pure pair, `forward` and `backward`, on a mapping of parameters.

**Forward**

    S = dropout(√D_X W_E[src] + P)          embedded source and its positions
    M = encoder layers of S                 the pad mask hides <pad>; with a final norm, norm of that
    T = dropout(√D_X W_E[tgt] + P)
    Y = decoder layers of T and M           pad mask and sequence mask on tgt, pad mask on M; likewise
    logits = Y W_Eᵀ                         or Y W when the output is not tied

**Backward**  In the reverse order. Decoder layers each add to dM, from which the encoder continues. A tied embedding is
used two or three times (output, target, source), and gathers as many gradients.

**Shapes**  src (B, N_S), tgt (B, N_T) integer ids; logits (B, N_T, V).

**Source**  Vaswani et al. (2017), arXiv:1706.03762, §3; §3.4 for the tied embeddings and √D_X, §3.5 for positions.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from npattn._shapes import check_cotangent, check_ids
from npattn._types import Array, Params
from npattn.layers import dropout, dropout_backward, embedding, embedding_backward
from npattn.layers.linear import project, weight_gradient
from npattn.masks import causal_mask, padding_mask
from npattn.positions import sinusoidal_positions
from npattn.transformer.blocks import (
    DecoderLayerCache,
    EncoderLayerCache,
    Tree,
    decoder_layer,
    decoder_layer_backward,
    encoder_layer,
    encoder_layer_backward,
    normalise,
    normalise_backward,
)
from npattn.transformer.config import TransformerConfig
from npattn.transformer.parameters import dotted, nested


class EmbedCache(NamedTuple):
    embedding: Any
    dropout: Any


class EncoderCache(NamedTuple):
    embed: EmbedCache
    layers: tuple[EncoderLayerCache, ...]
    norm: Any                    # the final norm's cache, or None


class DecoderCache(NamedTuple):
    embed: EmbedCache
    layers: tuple[DecoderLayerCache, ...]
    norm: Any


class TransformerCache(NamedTuple):
    encoder: EncoderCache
    decoder: DecoderCache
    Y: Array                     # (B, N_T, D_X)  what the output projection reads
    W_out: Array                 # (V, D_X) when tied, else (D_X, V)
    config: TransformerConfig

    def attention_weights(self) -> dict[str, Array]:
        """Return the weights (B, H, N_Q, N_X) of every attention, by the name of the layer."""
        weights = {}
        for i, encoder in enumerate(self.encoder.layers):
            weights[f"encoder.{i}.self_attention"] = encoder.self_attention.A
        for i, decoder in enumerate(self.decoder.layers):
            weights[f"decoder.{i}.self_attention"] = decoder.self_attention.A
            weights[f"decoder.{i}.cross_attention"] = decoder.cross_attention.A
        return weights


def forward(
    params: Params, src: Array, tgt: Array, config: TransformerConfig, rng: np.random.Generator | None = None
) -> tuple[Array, TransformerCache]:
    """Return logits (B, N_T, V) and the cache for `backward`; an rng switches dropout on."""
    check_batch(src, tgt, config)
    p = nested(params)
    M, c_encoder = encode(p, src, config, rng)
    Y, c_decoder = decode(p, tgt, M, pad_mask(src, config), config, rng)
    if config.tie == "none":
        W_out = params["output.W"]
        logits = project(Y, W_out)
    else:
        W_out = params[config.target_embedding]
        logits = project(Y, W_out.T)
    return logits, TransformerCache(c_encoder, c_decoder, Y, W_out, config)


def backward(dlogits: Array, cache: TransformerCache) -> dict[str, Array]:
    """Return the gradient of every parameter, by name."""
    c_encoder, c_decoder, Y, W_out, config = cache
    check_cotangent("dlogits", dlogits, (*Y.shape[:-1], config.tgt_vocab), Y.dtype)
    if config.tie == "none":
        dY = project(dlogits, W_out.T)                        # logits = Y W
    else:
        dY = project(dlogits, W_out)                          # logits = Y W_Eᵀ
    dW_target, dM, d_decoder = decode_backward(dY, c_decoder, config)
    dW_source, d_encoder = encode_backward(dM, c_encoder, config)
    grads = dict(dotted({"encoder": d_encoder, "decoder": d_decoder}))
    if config.tie == "none":
        grads["output.W"] = weight_gradient(Y, dlogits)       # logits = Y W
    else:
        dW_target += weight_gradient(dlogits, Y)              # logits = Y W_Eᵀ: a second use
    if config.tie == "all":
        dW_target += dW_source                                # … and a third
    else:
        grads[config.source_embedding] = dW_source
    grads[config.target_embedding] = dW_target
    return grads


def encode(
    p: Tree, src: Array, config: TransformerConfig, rng: np.random.Generator | None = None
) -> tuple[Array, EncoderCache]:
    """Return the encoder's output M (B, N_S, D_X)."""
    X, c_embed = embed(src, _table(p, config.source_embedding), config, rng)
    mask, caches = pad_mask(src, config), []
    for i in range(config.n_encoder_layers):
        X, c_layer = encoder_layer(X, p["encoder"][str(i)], mask, config, rng)
        caches.append(c_layer)
    X, c_norm = normalise(X, p["encoder"]["norm"]) if config.has_final_norm else (X, None)
    return X, EncoderCache(c_embed, tuple(caches), c_norm)


def encode_backward(dX: Array, cache: EncoderCache, config: TransformerConfig) -> tuple[Array, Tree]:
    """Return the source embedding's gradient and those of the encoder's parameters."""
    grads: Tree = {}
    if cache.norm is not None:
        dX, grads["norm"] = normalise_backward(dX, cache.norm)
    for i in reversed(range(len(cache.layers))):
        dX, grads[str(i)] = encoder_layer_backward(dX, cache.layers[i])
    return embed_backward(dX, cache.embed, config), grads


def decode(
    p: Tree,
    tgt: Array,
    M: Array,
    mask_M: Array | None,
    config: TransformerConfig,
    rng: np.random.Generator | None = None,
) -> tuple[Array, DecoderCache]:
    """Return the decoder's output Y (B, N_T, D_X)."""
    X, c_embed = embed(tgt, _table(p, config.target_embedding), config, rng)
    mask, pads, caches = causal_mask(tgt.shape[1]), pad_mask(tgt, config), []
    if pads is not None:
        mask = mask & pads                                    # (B, 1, N_T, N_T)
    for i in range(config.n_decoder_layers):
        X, c_layer = decoder_layer(X, M, p["decoder"][str(i)], mask, mask_M, config, rng)
        caches.append(c_layer)
    X, c_norm = normalise(X, p["decoder"]["norm"]) if config.has_final_norm else (X, None)
    return X, DecoderCache(c_embed, tuple(caches), c_norm)


def decode_backward(dX: Array, cache: DecoderCache, config: TransformerConfig) -> tuple[Array, Array, Tree]:
    """Return the target embedding's gradient, dM and the gradients of the decoder's parameters."""
    grads: Tree = {}
    dM: Any = 0.0
    if cache.norm is not None:
        dX, grads["norm"] = normalise_backward(dX, cache.norm)
    for i in reversed(range(len(cache.layers))):
        dX, dM_i, grads[str(i)] = decoder_layer_backward(dX, cache.layers[i])
        dM = dM + dM_i                                        # every layer reads M, so add
    return embed_backward(dX, cache.embed, config), dM, grads


def embed(
    ids: Array, W_E: Array, config: TransformerConfig, rng: np.random.Generator | None = None
) -> tuple[Array, EmbedCache]:
    """√D_X W_E[ids] + P, with dropout."""
    E, c_embedding = embedding(ids, W_E)                      # (B, N, D_X)
    E *= math.sqrt(config.d_model)
    E += sinusoidal_positions(ids.shape[1], config.d_model).astype(W_E.real.dtype)
    X, c_dropout = dropout(E, config.dropout, rng)
    return X, EmbedCache(c_embedding, c_dropout)


def embed_backward(dX: Array, cache: EmbedCache, config: TransformerConfig) -> Array:
    """Return dW_E."""
    dE = dropout_backward(dX, cache.dropout) * math.sqrt(config.d_model)   # X = dropout(√D_X E + P)
    return embedding_backward(dE, cache.embedding)            # E = W_E[ids]


def pad_mask(ids: Array, config: TransformerConfig) -> Array | None:
    """(B, 1, 1, N): False on <pad>. None when there is no pad, which gives the same bits and costs nothing."""
    mask = padding_mask(ids, pad_id=config.pad_id)
    return None if mask.all() else mask


def check_batch(src: Array, tgt: Array, config: TransformerConfig) -> None:
    """Raise unless src and tgt are integer ids (B, N_S) and (B, N_T) of their vocabularies."""
    for symbol, ids, size in (("src", src, config.src_vocab), ("tgt", tgt, config.tgt_vocab)):
        check_ids(symbol, ids, size)
        if ids.ndim != 2:
            raise ValueError(f"{symbol}: expected ids (B, N), got {ids.shape}")
    if len(src) != len(tgt):
        raise ValueError(f"tgt: expected (B={len(src)}, N_T), got {tgt.shape}")


def _table(p: Tree, name: str) -> Array:
    group, leaf = name.split(".")
    return p[group][leaf]
