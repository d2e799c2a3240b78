"""What encoder and decoder have in common on packed rows: the embedding, the run through the layers, and both backward.

**Equals** `embed` and `run_layers` of `npattn.transformer.reference` and their backwards. Tests compare the gradients
of the whole model.

**Changed for speed**

- X is packed rows (n, D_X), see `npattn.transformer.fast.packing`.
- The positions of a length are computed once and kept.
- `layers_gradients` yields each gradient as soon as it is known, from the last layer to the first, and releases the
  cache of a layer after its gradients. So memory shrinks on the way back, unless the caller holds on to the cache.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array
from npattn._internal.system.underflow import ignore_underflow
from npattn.layers import dropout, dropout_backward
from npattn.layers.embedding import table_gradient
from npattn.layers.positions import sinusoidal_positions
from npattn.transformer.config import TransformerConfig
from npattn.transformer.fast.gradient import Gradient
from npattn.transformer.fast.layer_norm import normalise, normalise_backward
from npattn.transformer.fast.packing import Packing
from npattn.transformer.parameters import Nested, dotted


class EmbedCache(NamedTuple):
    ids: Array                   # (n,)
    shape: tuple[int, int]       # of W_E
    dropout: Any                 # None without an rng


class LayersCache(NamedTuple):
    layers: tuple[Any, ...]      # one EncoderLayerCache or DecoderLayerCache for each layer
    norm: Any                    # of the final norm, or None


def embed(
    W_E: Array, ids: Array, packing: Packing, config: TransformerConfig, rng: np.random.Generator | None
) -> tuple[Array, EmbedCache]:
    """X = dropout(√D_X W_E[ids] + P), packed (n, D_X)."""
    n_ids = packing.pack(ids)                                 # (n,)
    X = W_E[n_ids] * math.sqrt(config.d_model)                # (n, D_X)
    P = positions(ids.shape[1], config.d_model, X.real.dtype)
    X += packing.pack(np.broadcast_to(P, (*ids.shape, config.d_model)))
    X, c_dropout = (X, None) if rng is None else dropout(X, config.dropout, rng)
    return X, EmbedCache(n_ids, W_E.shape, c_dropout)


def embed_backward(dX: Array, cache: EmbedCache) -> Array:
    """Return dW_E."""
    dX = dX if cache.dropout is None else dropout_backward(dX, cache.dropout)   # X = dropout(√D_X E + P)
    return table_gradient(dX * math.sqrt(dX.shape[1]), cache.ids, cache.shape)   # E = W_E[ids]


@functools.lru_cache(maxsize=32)
def positions(N: int, D: int, dtype: np.dtype[Any]) -> Array:
    """The sinusoids P (N, D), read-only, since all batches of a length share them."""
    P = sinusoidal_positions(N, D).astype(dtype)
    P.flags.writeable = False
    return P


def run_layers(
    X: Array, p: Nested, config: TransformerConfig, layer: Callable[..., Any]
) -> tuple[Array, LayersCache]:
    """Return what the last layer, or the final norm, makes of X (n, D_X). `p` has the layers under "0", "1", …"""
    caches = []
    for i in range(len(p) - ("norm" in p)):
        X, cache = layer(X, p[str(i)])
        caches.append(cache)
    X, c_norm = normalise(X, p["norm"], config) if "norm" in p else (X, None)
    return X, LayersCache(tuple(caches), c_norm)


def layers_gradients(
    dX: Array, cache: LayersCache, name: str, layer_backward: Callable[..., Any]
) -> Generator[tuple[str, Gradient], None, tuple[Array, Any]]:
    """Yield name and gradient of every block of parameters, and return dX and dM in the end; dM is 0 without an M."""
    layers, c_norm, dM = list(cache.layers), cache.norm, 0.0
    del cache
    with np.errstate(under="ignore"):                         # not around a yield: it would hold in the caller too
        dX, d_norm = normalise_backward(dX, c_norm)
    yield from dotted(d_norm, f"{name}.norm")
    while layers:
        dX, dM_i = yield from layer_backward(dX, layers.pop(), f"{name}.{len(layers)}")
        dM_i += dM                                            # every decoder layer reads M, so add
        dM = dM_i
    return dX, dM


embed_backward = ignore_underflow(embed_backward)
