"""Models that the fast path does not cover, on the reference: those with choices that the paper's do not have.

**Equals** `npattn.transformer.reference`, by calling it. The interface is that of
`npattn.transformer.fast.transformer`, which hands over every configuration that is not `is_plain`.

>>> from npattn.transformer.model import Transformer
>>> config = TransformerConfig(9, 7, d_model=8, n_heads=2, d_ff=16, norm_type="rms", gated=True, activation="silu")
>>> logits, cache = Transformer(config, rng=0).forward(np.array([[4, 5, 6]]), np.array([[1, 3]]))
>>> cache.attention_weights()["decoder.5.cross_attention"].shape         # (B, H, N_T, N_S)
(1, 2, 2, 3)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array, Params
from npattn.layers import cross_entropy, cross_entropy_backward
from npattn.transformer import reference
from npattn.transformer.config import TransformerConfig
from npattn.transformer.dropped_attention import Cache as DroppedCache


class Cache(NamedTuple):
    """What `backward` needs."""

    reference: reference.Cache

    def attention_weights(self) -> dict[str, Array]:
        """Return the weights (B, H, N_Q, N_X) of every attention before dropout, by the name of the attention."""
        _, (encoder, *_), _, (decoder, *_), _ = self.reference.parts
        weights = {f"encoder.{i}.self_attention": weights_of(layer[0]) for i, layer in enumerate(encoder)}
        for i, layer in enumerate(decoder):
            weights[f"decoder.{i}.self_attention"] = weights_of(layer[0])
            weights[f"decoder.{i}.cross_attention"] = weights_of(layer[1])
        return weights


def weights_of(sub_layer: Any) -> Array:
    """Return A from the cache of a sub-layer."""
    attention = sub_layer[1]
    weights: Array = attention.Y.A if isinstance(attention, DroppedCache) else attention.A
    return weights


def forward(
    params: Params, src: Array, tgt: Array, config: TransformerConfig, rng: np.random.Generator | None = None
) -> tuple[Array, Cache]:
    """Return the logits (B, N_T, V) and the cache for `backward`."""
    logits, cache = reference.forward(params, src, tgt, config, rng)
    return logits, Cache(cache)


def loss_and_gradients(
    params: Params,
    src: Array,
    tgt: Array,
    config: TransformerConfig,
    smoothing: float,
    rng: np.random.Generator | None,
    share: float,
) -> tuple[float, Iterator[tuple[str, Array]]]:
    """Return the mean loss over the real tokens of tgt[:, 1:], and name and gradient of every block of parameters."""
    logits, cache = reference.forward(params, src, tgt[:, :-1], config, rng)
    loss, c_loss = cross_entropy(logits, tgt[:, 1:], smoothing, ignore_id=config.pad_id)
    grads = reference.backward(cross_entropy_backward(share, c_loss), cache)
    for union, names in config.side_by_side().items():
        grads[union] = np.concatenate([grads.pop(name) for name in names], -1)
    return float(loss), iter(grads.items())
