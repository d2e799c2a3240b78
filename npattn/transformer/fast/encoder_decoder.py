"""Encoder and decoder: embedded packing, the layers, and the final norm where there is one.

**Equals** `encode` and `decode` of `npattn.transformer.reference` and their backwards.

**Changed for speed** Rows are packed: X and Y (n, D_X), M (n_S, D_X). `encoder_gradients` and `decoder_gradients` yield
each gradient as soon as it is known, from the last layer to the first. They release what a layer kept once its gradients
are out. So memory shrinks on the way back, unless the caller holds on to the cache.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array
from npattn.layers import dropout, dropout_backward
from npattn.layers.embedding import table_gradient
from npattn.layers.positions import sinusoidal_positions
from npattn.transformer.config import TransformerConfig
from npattn.transformer.fast.layers import (
    DecoderLayerCache,
    EncoderLayerCache,
    decoder_layer,
    decoder_layer_backward,
    encoder_layer,
    encoder_layer_backward,
    normalise,
    normalise_backward,
)
from npattn.transformer.fast.packing import Packing
from npattn.transformer.parameters import Nested, dotted

Named = tuple[str, Array]


class EmbedCache(NamedTuple):
    ids: Array                   # (n,)
    shape: tuple[int, int]       # of the table
    dropout: Any                 # its cache, or None without an rng


class EncoderCache(NamedTuple):
    embed: EmbedCache
    layers: tuple[EncoderLayerCache, ...]
    norm: Any                    # the final norm's cache, or None


class DecoderCache(NamedTuple):
    embed: EmbedCache
    layers: tuple[DecoderLayerCache, ...]
    norm: Any


def encode(
    p: Nested, src: Array, packing: Packing, config: TransformerConfig, rng: np.random.Generator | None
) -> tuple[Array, EncoderCache]:
    """Return the encoder's output M (n_S, D_X)."""
    X, c_embed = embed(src, packing, table(p, config.source_embedding), config, rng)
    caches = []
    for i in range(config.n_encoder_layers):
        X, c_layer = encoder_layer(X, p["encoder"][str(i)], packing, config, rng)
        caches.append(c_layer)
    X, c_norm = normalise(X, p["encoder"]["norm"]) if config.has_final_norm else (X, None)
    return X, EncoderCache(c_embed, tuple(caches), c_norm)


def encoder_gradients(dX: Array, cache: EncoderCache, config: TransformerConfig) -> Iterator[Named]:
    """Yield name and gradient of every block of parameters."""
    c_embed, layers, c_norm = cache.embed, list(cache.layers), cache.norm
    del cache
    if c_norm is not None:
        dX, d_norm = normalise_backward(dX, c_norm)
        yield from dotted(d_norm, "encoder.norm")
    while layers:
        dX, d_layer = encoder_layer_backward(dX, layers.pop())
        yield from dotted(d_layer, f"encoder.{len(layers)}")
    yield config.source_embedding, embed_backward(dX, c_embed, config)


def decode(
    p: Nested,
    tgt: Array,
    M: Array,
    packing: Packing,
    packing_M: Packing,
    config: TransformerConfig,
    rng: np.random.Generator | None,
) -> tuple[Array, DecoderCache]:
    """Return the decoder's output Y (n_T, D_X)."""
    X, c_embed = embed(tgt, packing, table(p, config.target_embedding), config, rng)
    caches = []
    for i in range(config.n_decoder_layers):
        X, c_layer = decoder_layer(X, M, p["decoder"][str(i)], packing, packing_M, config, rng)
        caches.append(c_layer)
    X, c_norm = normalise(X, p["decoder"]["norm"]) if config.has_final_norm else (X, None)
    return X, DecoderCache(c_embed, tuple(caches), c_norm)


def decoder_gradients(
    dX: Array, cache: DecoderCache, config: TransformerConfig
) -> Generator[Named, None, Array]:
    """Yield name and gradient of every block of parameters, and return dM in the end."""
    c_embed, layers, c_norm = cache.embed, list(cache.layers), cache.norm
    del cache
    if c_norm is not None:
        dX, d_norm = normalise_backward(dX, c_norm)
        yield from dotted(d_norm, "decoder.norm")
    dM: Any = 0.0
    while layers:
        dX, dM_i, d_layer = decoder_layer_backward(dX, layers.pop())
        dM_i += dM                                            # every layer reads M, so add
        dM = dM_i
        yield from dotted(d_layer, f"decoder.{len(layers)}")
    yield config.target_embedding, embed_backward(dX, c_embed, config)
    return dM


def embed(
    ids: Array, packing: Packing, W_E: Array, config: TransformerConfig, rng: np.random.Generator | None
) -> tuple[Array, EmbedCache]:
    """√D_X W_E[ids] + P, with dropout."""
    n_ids = packing.pack(ids)                                 # (n,)
    X = W_E[n_ids] * math.sqrt(config.d_model)                # (n, D_X)
    P = positions(ids.shape[1], config.d_model, X.real.dtype)
    X += packing.pack(np.broadcast_to(P, (*ids.shape, config.d_model)))
    X, c_dropout = (X, None) if rng is None else dropout(X, config.dropout, rng)
    return X, EmbedCache(n_ids, W_E.shape, c_dropout)


def embed_backward(dX: Array, cache: EmbedCache, config: TransformerConfig) -> Array:
    """Return dW_E."""
    dX = dX if cache.dropout is None else dropout_backward(dX, cache.dropout)   # X = dropout(√D_X E + P)
    return table_gradient(dX * math.sqrt(config.d_model), cache.ids, cache.shape)   # E = W_E[ids]


@functools.lru_cache(maxsize=32)
def positions(N: int, D: int, dtype: np.dtype[Any]) -> Array:
    """The sinusoids P (N, D), read-only: every batch of a length needs the same."""
    P = sinusoidal_positions(N, D).astype(dtype)
    P.flags.writeable = False
    return P


def table(p: Nested, name: str) -> Array:
    """The parameter of that dotted name."""
    group, leaf = name.split(".")
    return p[group][leaf]
