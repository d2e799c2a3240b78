"""The encoder–decoder Transformer as one pure pair, `forward` and `backward`, on a mapping of parameters.

**Forward**

    S = dropout(√D_X W_E[src] + P)          embedded source and its positions
    M = encoder layers of S                 the pad mask hides <pad>; with a final norm, norm of that
    T = dropout(√D_X W_E[tgt] + P)
    Y = decoder layers of T and M           pad mask and sequence mask on tgt, pad mask on M; likewise
    logits = Y W_Eᵀ                         or Y W when the output is not tied

**Backward**  In the reverse order. Decoder layers each add to dM, from which the encoder continues. A tied embedding is
used two or three times (output, target, source), and gathers as many gradients.

**Shapes**  src (B, N_S), tgt (B, N_T) integer ids; dlogits and logits (B, N_T, V), with V = tgt_vocab, D_X = d_model,
F = d_ff. Parameters and their gradients, by name: W_E (V, D_X), W_Q, W_K, W_V and W_O (D_X, D_X), W_1 (D_X, F),
W_2 (F, D_X), biases, γ and β of the width of what they are added to; `TransformerConfig.shapes` lists them.

**Raises**  TypeError for ids that are no integers, IndexError for ids outside their vocabulary, ValueError for shapes
that don't fit.

**Source**  Vaswani et al. (2017), arXiv:1706.03762, §3; §3.4 for the tied embeddings and √D_X, §3.5 for positions.

>>> from npattn.transformer.model import Transformer
>>> config = TransformerConfig(9, 7, d_model=8, n_heads=2, d_ff=16, n_encoder_layers=1, n_decoder_layers=1)
>>> params = dict(Transformer(config, rng=0, dtype=np.float64).params)
>>> logits, cache = forward(params, np.array([[4, 5, 6]]), np.array([[1, 3]]), config)
>>> logits.shape                                           # (B, N_T, V)
(1, 2, 7)
>>> grads = backward(np.random.default_rng(0).normal(size=logits.shape), cache)
>>> grads.keys() == params.keys(), grads["decoder.0.cross_attention.W_K"].shape
(True, (8, 8))
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from npattn._shapes import check_cache, check_cotangent, check_ids
from npattn._types import Array, Params
from npattn.layers import cross_entropy, cross_entropy_backward
from npattn.layers.cross_entropy import checked_smoothing, gradient_in_place, loss_in_place
from npattn.layers.linear import project, weight_gradient
from npattn.transformer.config import TransformerConfig
from npattn.transformer.parameters import Blocks, nested
from npattn.transformer.stacks import (
    DecoderCache,
    EncoderCache,
    decode,
    decoder_gradients,
    encode,
    encoder_gradients,
    table,
)
from npattn.transformer.tokens import Tokens


class TransformerCache(NamedTuple):
    """What `backward` needs: the caches of both stacks, and those of every layer in them."""

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
    check_cache(cache, TransformerCache)
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
    smoothing = checked_smoothing(smoothing)
    src = src[:, : longest(src, config.pad_id)]
    tgt = tgt[:, : longest(tgt, config.pad_id)]
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
    dtype = table(p, config.source_embedding).real.dtype
    tokens_M = Tokens.of(src, config.pad_id, dtype)
    tokens = Tokens.of(tgt, config.pad_id, dtype, kept=kept, causal=True)
    M, c_encoder = encode(p, src, tokens_M, config, rng)
    Y, c_decoder = decode(p, tgt, M, tokens, tokens_M, config, rng)
    if config.tie == "none":
        W_out = p["output"]["W"]
        logits = project(Y, W_out)
    else:
        W_out = table(p, config.target_embedding)
        logits = project(Y, W_out.T)
    return logits, TransformerCache(c_encoder, c_decoder, Y, W_out, tokens, config)


def gradients(dlogits: Array, cache: TransformerCache) -> Iterator[tuple[str, Array]]:
    """Yield name and gradient of every block of parameters as soon as it is known, from the last layer to the first.

    Blocks are those of `npattn.transformer.parameters`, with W_Q, W_K and W_V side by side, and each array is a new
    one. A tied embedding comes once for each of its uses: what comes under one name is to be added up.
    """
    c_encoder, c_decoder, Y, W_out, _, config = cache
    if config.tie == "none":
        yield "output.W", weight_gradient(Y, dlogits)         # logits = Y W
        dY = project(dlogits, W_out.T)                        # logits = Y W
    else:
        yield config.target_embedding, weight_gradient(dlogits, Y)   # logits = Y W_Eᵀ
        dY = project(dlogits, W_out)                          # logits = Y W_Eᵀ
    upper = decoder_gradients(dY, c_decoder, config)
    del dlogits, dY, Y, c_decoder, cache                      # see npattn.transformer.stacks
    dM = yield from upper
    lower = encoder_gradients(dM, c_encoder, config)
    del c_encoder
    yield from lower


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
