"""Relative positions as T5 has them: a learned number for the distance of key and query, added to the score.

**Forward**

    B_hin = W_B[b_in, h]           b_in = bucket(n − i): the bucket of the distance of key n from query i
    E = s Q Kᵀ + B                 in every self-attention of a stack, which has one W_B (n_b, H)

With n_b buckets and d = n − i: the decoder sees no key after its query, and has all n_b for d = 0, −1, …; the encoder
has n_b/2 for these and as many for d > 0. Of m buckets the first e = ⌊m/2⌋ hold one distance each, the others grow as
powers:

    |d| < e        bucket |d|
    |d| ≥ e        bucket e + ⌊ln(|d|/e) / ln(d_max/e) · (m − e)⌋, at most m − 1            d_max: relative_max_distance

**Backward**  E = … + B: dB is dE, summed over the batch. B serves every layer of its stack, so these gradients add
(foundations F4). W_B is a table that is read: dW_B[v] = Σ dB_in over all i, n with b_in = v (foundations F12).

**Source**  Raffel et al. (2020), "Exploring the Limits of Transfer Learning", arXiv:1910.10683, §2.1, and its code.

>>> distance_buckets(np.array([-9, -5, -3, -2, -1, 0, 1, 2, 3, 5, 9]), 8, 9, both=True)
array([3, 3, 2, 2, 1, 0, 5, 6, 6, 7, 7])
>>> distance_buckets(np.array([-9, -5, -3, -2, -1, 0]), 8, 9, both=False)
array([7, 5, 3, 2, 1, 0])
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from npattn._internal.checks import Array
from npattn.layers.embedding import embedding, embedding_backward
from npattn.transformer.config import TransformerConfig
from npattn.transformer.parameters import Nested


def relative_bias(distance: Array, p: Nested, config: TransformerConfig, both: bool) -> tuple[Array | None, Any]:
    """Return B (H, …) for distances n − i (…), and the cache for `relative_bias_backward`; None for other positions.

    `both`: whether keys after the query have buckets of their own, as in the encoder. `p`: parameters of the stack.
    """
    if config.positions != "relative":
        return None, None
    buckets = distance_buckets(distance, config.relative_buckets, config.relative_max_distance, both=both)
    B, cache = embedding(buckets, p["positions"]["W_B"])      # (…, H)
    return np.moveaxis(B, -1, 0), cache


def distances(N: int) -> Array:
    """Return n − i (N, N) for the queries i and keys n of a sequence."""
    return np.arange(N) - np.arange(N)[:, None]


def with_bias(p: Nested, B: Array | None) -> Nested:
    """Return the parameters of a layer with B (H, N, N), or None, among those of its self-attention."""
    return p | {"self_attention": p["self_attention"] | {"B": B}}


def relative_bias_backward(layers: Nested, cache: Any) -> Nested:
    """Return the gradient of W_B. It takes those of B (H, N, N) out of the gradients of the layers."""
    if cache is None:
        return {}
    own = [layer["self_attention"].pop("B") for name, layer in layers.items() if name.isdigit()]
    dB = sum(own, np.zeros((cache.shape[1], *cache.ids.shape), cache.dtype))               # every layer reads B: add
    return {"positions": {"W_B": embedding_backward(np.moveaxis(dB, 0, -1), cache)}}


def distance_buckets(distance: Array, n_buckets: int, max_distance: int, *, both: bool) -> Array:
    """Return the bucket of each distance n − i; without `both` those beyond 0 count as 0."""
    first: Any = 0
    if both:
        n_buckets //= 2
        first = np.where(distance > 0, n_buckets, 0)
    d = np.abs(distance) if both else np.maximum(-distance, 0)
    exact = n_buckets // 2
    power = np.log(np.maximum(d, exact) / exact) / math.log(max_distance / exact) * (n_buckets - exact)
    return first + np.minimum(d, exact) + np.minimum(power.astype(np.intp), n_buckets - 1 - exact)    # power is 0 first
