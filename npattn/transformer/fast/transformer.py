"""The whole encoder–decoder on packed rows: logits, loss, and the gradient of every parameter.

**Equals** `forward` and `backward` of `npattn.transformer.reference`, which derives them. `loss_and_gradients` equals
that forward, `npattn.layers.cross_entropy` and both backwards. Tests compare logits, loss and every gradient.

**Changed for speed**

- Pads have no row, so most parts do no work on them: pads of the source, and in `loss_and_gradients` of the target too.
- Gradients are yielded one by one as soon as they are known. Several workers can add theirs up meanwhile.
- The loss turns the logits into their gradient in place.

A configuration with choices that the paper's models do not have runs on `npattn.transformer.fast.by_reference`.

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

from npattn._internal.checks import Array, Params, check_cache, check_cotangent
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers import cross_entropy, cross_entropy_backward
from npattn.layers.cross_entropy import SMOOTHING, gradient_in_place, loss_in_place
from npattn.layers.kernels import project, weight_gradient
from npattn.transformer import reference
from npattn.transformer.batch import check_batch
from npattn.transformer.config import TransformerConfig
from npattn.transformer.fast import by_reference
from npattn.transformer.fast.encoder_decoder import (
    EmbedCache,
    LayersCache,
    embed,
    embed_backward,
    layers_gradients,
    run_layers,
)
from npattn.transformer.fast.gradient import Gradient, computed
from npattn.transformer.fast.layers import (
    decoder_layer,
    decoder_layer_backward,
    encoder_layer,
    encoder_layer_backward,
)
from npattn.transformer.fast.packing import Packing
from npattn.transformer.parameters import Blocks, nested


class TransformerCache(NamedTuple):
    """What `backward` needs: the caches of all parts, in the order of forward."""

    source: EmbedCache
    encoder: LayersCache
    target: EmbedCache
    decoder: LayersCache
    Y: Array                     # (n_T, D_X)  what the output projection reads
    W: Array                     # (D_X, V)  the output projection
    packing: Packing             # of the target
    config: TransformerConfig

    def attention_weights(self) -> dict[str, Array]:
        """Return the weights (B, H, N_Q, N_X) of every attention before dropout, by the name of the attention."""
        weights = {}
        for i, encoder in enumerate(self.encoder.layers):
            weights[f"encoder.{i}.self_attention"] = encoder.self_attention.f.A
        for i, decoder in enumerate(self.decoder.layers):
            weights[f"decoder.{i}.self_attention"] = decoder.self_attention.f.A
            weights[f"decoder.{i}.cross_attention"] = decoder.cross_attention.f.A
        return weights


def forward(
    params: Params, src: Array, tgt: Array, config: TransformerConfig, rng: np.random.Generator | None = None
) -> tuple[Array, TransformerCache | by_reference.Cache]:
    """Return the logits (B, N_T, V), at pads too, and the cache for `backward`; an rng switches dropout on."""
    if not config.is_plain:
        return by_reference.forward(params, src, tgt, config, rng)
    check_batch(src, tgt, config)
    everywhere = np.full(tgt.shape, True)
    logits, cache = forward_rows(params, src, tgt, everywhere, config, rng)
    return cache.packing.unpack(logits), cache


def backward(dlogits: Array, cache: TransformerCache | by_reference.Cache) -> dict[str, Array]:
    """Return the gradient of every parameter, by name."""
    if isinstance(cache, by_reference.Cache):
        return reference.backward(dlogits, cache.reference)
    check_cache(cache, TransformerCache)
    shape = (*cache.packing.shape, cache.config.tgt_vocab)
    check_cotangent("dlogits", dlogits, shape, cache.Y.dtype)
    blocks: dict[str, Array] = {}
    for name, found in gradients(cache.packing.pack(dlogits), cache):
        gradient = computed(found)
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
) -> tuple[float, Iterator[tuple[str, Gradient]]]:
    """Return the mean loss over the real tokens of tgt[:, 1:], and `gradients` of `share` times that loss."""
    SMOOTHING("smoothing", smoothing)
    src = src[:, : longest(src, config.pad_id)]
    tgt = tgt[:, : longest(tgt, config.pad_id)]
    if not config.is_plain:
        return by_reference.loss_and_gradients(params, src, tgt, config, smoothing, rng, share)
    wanted = tgt[:, 1:]                                       # (B, N_T)
    # A position is kept for its own logits, or as a key for the logits of a later position.
    kept = np.logical_or.accumulate((wanted != config.pad_id)[:, ::-1], 1)[:, ::-1]
    logits, cache = forward_rows(params, src, tgt[:, :-1], kept, config, rng)
    targets = wanted[kept]
    real = targets != config.pad_id
    if not real.all():
        loss, c_loss = cross_entropy(logits, targets, smoothing, ignore_id=config.pad_id)
        return float(loss), gradients(cross_entropy_backward(share, c_loss), cache)
    loss = loss_in_place(logits, targets, float(smoothing))   # in the memory of the logits
    gradient_in_place(logits, targets, float(smoothing), share)
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

    When a token is not kept, no later token of its row is kept either.
    """
    p, dtype = nested(params), params[config.source_embedding].real.dtype
    packing_M = Packing.of(src, config.pad_id, dtype)
    packing = Packing.of(tgt, config.pad_id, dtype, kept=kept, causal=True)
    S, c_S = embed(params[config.source_embedding], src, packing_M, config, rng)           # (n_S, D_X)
    M, c_M = run_layers(S, p.get("encoder", {}), config, lambda X, p: encoder_layer(X, p, packing_M, config, rng))
    T, c_T = embed(params[config.target_embedding], tgt, packing, config, rng)             # (n_T, D_X)
    Y, c_Y = run_layers(T, p["decoder"], config, lambda X, p: decoder_layer(X, M, p, packing, packing_M, config, rng))
    W = params["output.W"] if config.tie == "none" else params[config.target_embedding].T  # (D_X, V)
    return project(Y, W), TransformerCache(c_S, c_M, c_T, c_Y, Y, W, packing, config)


def gradients(dlogits: Array, cache: TransformerCache) -> Iterator[tuple[str, Gradient]]:
    """Yield name and gradient of every block of parameters as soon as it is known, from the last layer to the first.

    The blocks are those of `npattn.transformer.parameters`, with W_Q, W_K and W_V side by side. Each array is new;
    gradients of matrices in the layers are functions, see `npattn.transformer.fast.gradient`. A tied embedding comes
    once for each of its uses: gradients under one name must be added.
    """
    c_S, c_M, c_T, c_Y, Y, W, _, config = cache
    with np.errstate(under="ignore"):                         # not around a yield: it would hold in the caller too
        dY = project(dlogits, W.T)                            # logits = Y W
        d_output = weight_gradient(Y, dlogits) if config.tie == "none" else weight_gradient(dlogits, Y)   # W or W_Eᵀ
    yield "output.W" if config.tie == "none" else config.target_embedding, d_output
    decoder = layers_gradients(dY, c_Y, "decoder", decoder_layer_backward)
    del dlogits, dY, d_output, Y, c_Y, cache                  # see npattn.transformer.fast.encoder_decoder
    dT, dM = yield from decoder
    yield config.target_embedding, embed_backward(dT, c_T)
    encoder = layers_gradients(dM, c_M, "encoder", encoder_layer_backward)
    del dT, dM, c_T, c_M
    dS, _ = yield from encoder
    yield config.source_embedding, embed_backward(dS, c_S)


def longest(ids: Array, pad_id: int) -> int:
    """The number of columns up to the last one that has a real token."""
    columns = np.flatnonzero((ids != pad_id).any(0))
    return int(columns[-1]) + 1 if len(columns) else 0


forward, backward = ignore_underflow(forward), ignore_underflow(backward)
loss_and_gradients = ignore_underflow(loss_and_gradients)
