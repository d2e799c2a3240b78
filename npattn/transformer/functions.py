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

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from npattn._shapes import check_cotangent, check_ids
from npattn._types import Array, Params
from npattn.layers import (
    cross_entropy,
    cross_entropy_backward,
    dropout,
    dropout_backward,
    embedding,
    embedding_backward,
)
from npattn.layers.cross_entropy import gradient_in_place, loss_in_place
from npattn.layers.linear import project, weight_gradient
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
from npattn.transformer.parameters import Blocks, dotted, nested
from npattn.transformer.tokens import Tokens


class EmbedCache(NamedTuple):
    embedding: Any
    dropout: Any                 # its cache, or None without an rng


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
    Y: Array                     # (n_T, D_X)  what the output projection reads
    W_out: Array                 # (V, D_X) when tied, else (D_X, V)
    tokens: Tokens               # of the target
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
    everywhere = np.full(tgt.shape, True)                     # a caller may want the logits at pads too
    logits, cache = forward_rows(params, src, tgt, everywhere, config, rng)
    return cache.tokens.unpack(logits), cache


def backward(dlogits: Array, cache: TransformerCache) -> dict[str, Array]:
    """Return the gradient of every parameter, by name."""
    shape = (*cache.tokens.shape, cache.config.tgt_vocab)
    check_cotangent("dlogits", dlogits, shape, cache.Y.dtype)
    blocks: dict[str, Array] = {}
    for name, gradient in gradients(cache.tokens.pack(dlogits), cache):
        blocks[name] = blocks[name] + gradient if name in blocks else gradient
    return dict(Blocks(cache.config.shapes(), cache.config.side_by_side(), blocks))


def loss_and_gradients(
    params: Params,
    src: Array,
    tgt: Array,
    config: TransformerConfig,
    smoothing: float,
    rng: np.random.Generator | None = None,
    share: float = 1.0,
) -> tuple[float, Iterator[tuple[str, Array]]]:
    """Return the mean loss over the real tokens of tgt but the first, and `gradients` of `share` times that loss.

    The same numbers as from `forward`, `cross_entropy` and `backward`, but no work is done on pads.
    """
    src = src[:, : max(longest(src, config.pad_id), 1)]
    tgt = tgt[:, : max(longest(tgt, config.pad_id), 1)]
    wanted = tgt[:, 1:]                                       # (B, N_T)
    # A position is needed for its own logits, or as a key for those of a later one.
    kept = np.logical_or.accumulate((wanted != config.pad_id)[:, ::-1], 1)[:, ::-1]
    logits, cache = forward_rows(params, src, tgt[:, :-1], kept, config, rng)
    targets = wanted[kept]
    real = targets != config.pad_id
    if not real.all():
        loss, c_loss = cross_entropy(logits, targets, smoothing, ignore_id=config.pad_id)
        return float(loss), gradients(cross_entropy_backward(share, c_loss), cache)
    loss = loss_in_place(logits, targets, smoothing)          # logits are ours, and large
    gradient_in_place(logits, targets, smoothing, share)
    return float(loss), gradients(logits, cache)


def forward_rows(
    params: Params,
    src: Array,
    tgt: Array,
    kept: Array,
    config: TransformerConfig,
    rng: np.random.Generator | None = None,
) -> tuple[Array, TransformerCache]:
    """Return the logits (n_T, V) of the target tokens `kept` (B, N_T) alone, and the cache for `gradients`.

    Whoever leaves out a token leaves out all later ones of its row.
    """
    p = nested(params)
    dtype = _table(p, config.source_embedding).real.dtype
    tokens_M = Tokens.of(src, config.pad_id, dtype)
    tokens = Tokens.of(tgt, config.pad_id, dtype, kept=kept, causal=True)
    M, c_encoder = encode_rows(p, src, tokens_M, config, rng)
    Y, c_decoder = decode_rows(p, tgt, M, tokens, tokens_M, config, rng)
    if config.tie == "none":
        W_out = p["output"]["W"]
        logits = project(Y, W_out)
    else:
        W_out = _table(p, config.target_embedding)
        logits = project(Y, W_out.T)
    return logits, TransformerCache(c_encoder, c_decoder, Y, W_out, tokens, config)


def gradients(dlogits: Array, cache: TransformerCache) -> Iterator[tuple[str, Array]]:
    """Yield name and gradient of every block of parameters as soon as it is known, from the last layer to the first.

    Blocks are those of `npattn.transformer.parameters`, with W_Q, W_K and W_V side by side, and each array is a new
    one. A tied embedding comes once for each of its uses: what comes under one name is to be added up. What a layer
    kept is let go of when its gradients are out, so that memory shrinks on the way back, unless the caller holds on
    to the cache.
    """
    (c_src, encoder, c_norm_M), (c_tgt, decoder, c_norm), Y, W_out, _, config = cache
    encoder_layers, decoder_layers = list(encoder), list(decoder)
    del cache, encoder, decoder
    if config.tie == "none":
        yield "output.W", weight_gradient(Y, dlogits)         # logits = Y W
        dX = project(dlogits, W_out.T)                        # logits = Y W
    else:
        yield config.target_embedding, weight_gradient(dlogits, Y)   # logits = Y W_Eᵀ
        dX = project(dlogits, W_out)                          # logits = Y W_Eᵀ
    del dlogits, Y
    if c_norm is not None:
        dX, d_norm = normalise_backward(dX, c_norm)
        yield from dotted(d_norm, "decoder.norm")
    dM: Any = 0.0
    while decoder_layers:
        dX, dM_i, d_layer = decoder_layer_backward(dX, decoder_layers.pop())
        dM_i += dM                                            # every layer reads M, so add
        dM = dM_i
        yield from dotted(d_layer, f"decoder.{len(decoder_layers)}")
    yield config.target_embedding, embed_backward(dX, c_tgt, config)
    if c_norm_M is not None:
        dM, d_norm = normalise_backward(dM, c_norm_M)
        yield from dotted(d_norm, "encoder.norm")
    while encoder_layers:
        dM, d_layer = encoder_layer_backward(dM, encoder_layers.pop())
        yield from dotted(d_layer, f"encoder.{len(encoder_layers)}")
    yield config.source_embedding, embed_backward(dM, c_src, config)


def encode(
    p: Tree, src: Array, config: TransformerConfig, rng: np.random.Generator | None = None
) -> tuple[Array, EncoderCache]:
    """Return the encoder's output M (B, N_S, D_X), zeros at pads."""
    tokens = Tokens.of(src, config.pad_id, _table(p, config.source_embedding).real.dtype)
    M, cache = encode_rows(p, src, tokens, config, rng)
    return tokens.unpack(M), cache


def encode_rows(
    p: Tree, src: Array, tokens: Tokens, config: TransformerConfig, rng: np.random.Generator | None
) -> tuple[Array, EncoderCache]:
    """Return the encoder's output M (n_S, D_X)."""
    X, c_embed = embed(src, tokens, _table(p, config.source_embedding), config, rng)
    caches = []
    for i in range(config.n_encoder_layers):
        X, c_layer = encoder_layer(X, p["encoder"][str(i)], tokens, config, rng)
        caches.append(c_layer)
    X, c_norm = normalise(X, p["encoder"]["norm"]) if config.has_final_norm else (X, None)
    return X, EncoderCache(c_embed, tuple(caches), c_norm)


def decode_rows(
    p: Tree,
    tgt: Array,
    M: Array,
    tokens: Tokens,
    tokens_M: Tokens,
    config: TransformerConfig,
    rng: np.random.Generator | None,
) -> tuple[Array, DecoderCache]:
    """Return the decoder's output Y (n_T, D_X)."""
    X, c_embed = embed(tgt, tokens, _table(p, config.target_embedding), config, rng)
    caches = []
    for i in range(config.n_decoder_layers):
        X, c_layer = decoder_layer(X, M, p["decoder"][str(i)], tokens, tokens_M, config, rng)
        caches.append(c_layer)
    X, c_norm = normalise(X, p["decoder"]["norm"]) if config.has_final_norm else (X, None)
    return X, DecoderCache(c_embed, tuple(caches), c_norm)


def embed(
    ids: Array, tokens: Tokens, W_E: Array, config: TransformerConfig, rng: np.random.Generator | None
) -> tuple[Array, EmbedCache]:
    """√D_X W_E[ids] + P, with dropout."""
    E, c_embedding = embedding(tokens.pack(ids), W_E)         # (n, D_X)
    E *= math.sqrt(config.d_model)
    P = positions(ids.shape[1], config.d_model, E.real.dtype)
    E += tokens.pack(np.broadcast_to(P, (*ids.shape, config.d_model)))
    if rng is None:
        return E, EmbedCache(c_embedding, None)
    X, c_dropout = dropout(E, config.dropout, rng)
    return X, EmbedCache(c_embedding, c_dropout)


def embed_backward(dX: Array, cache: EmbedCache, config: TransformerConfig) -> Array:
    """Return dW_E."""
    dE = dX if cache.dropout is None else dropout_backward(dX, cache.dropout)   # X = dropout(√D_X E + P)
    return embedding_backward(dE * math.sqrt(config.d_model), cache.embedding)   # E = W_E[ids]


@functools.lru_cache(maxsize=32)
def positions(N: int, D: int, dtype: np.dtype[Any]) -> Array:
    """The sinusoids P (N, D), read-only: every batch of a length needs the same."""
    P = sinusoidal_positions(N, D).astype(dtype)
    P.flags.writeable = False
    return P


def longest(ids: Array, pad_id: int) -> int:
    """The number of columns up to the last one that is not all pads."""
    columns = np.flatnonzero((ids != pad_id).any(0))
    return int(columns[-1]) + 1 if len(columns) else 0


def check_batch(src: Array, tgt: Array, config: TransformerConfig) -> None:
    """Raise unless src and tgt are integer ids (B, N_S) and (B, N_T) of their vocabularies."""
    for symbol, ids, size in (("src", src, config.src_vocab), ("tgt", tgt, config.tgt_vocab)):
        check_ids(symbol, ids, size)
        if ids.ndim != 2:
            raise ValueError(f"{symbol}: expected ids (B, N), got {ids.shape}")
    if len(src) != len(tgt):
        raise ValueError(f"tgt: expected (B={len(src)}, N_T), got {tgt.shape}")


def check_pairs(src: Array, tgt: Array, config: TransformerConfig) -> None:
    """Raise unless src and tgt are such ids, and tgt has room for <bos> and <eos>."""
    check_batch(src, tgt, config)
    if tgt.shape[1] < 2:
        raise ValueError(f"tgt: expected ids (B, N_T) from <bos> to <eos>, at least two, got {tgt.shape}")


def _table(p: Tree, name: str) -> Array:
    group, leaf = name.split(".")
    return p[group][leaf]
