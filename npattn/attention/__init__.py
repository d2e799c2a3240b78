"""Seven versions of attention, from Bahdanau's to the Transformer's; each changes one idea of the one before.

A version is a module with `forward(...) → (y, cache)` and `backward(dy, cache) → gradients`. All of them keep the same
order of statements and the same names, so the difference of two neighbours is the lesson; `npattn explain v4 v5` prints
it. `VERSIONS` lists them. `dot_product` is attention on ready queries, keys and values, with every option; `tiled` is
the same for long sequences; `masks` makes masks. Projections into a model's layers are in `npattn.transformer`.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from npattn.attention import (
    dot_product,
    masks,
    v1_feed_forward,
    v2_dot_product,
    v3_scaled_dot_product,
    v4_multiple_queries,
    v5_cross_attention,
    v6_self_attention,
    v7_multi_head,
)


class Version(NamedTuple):
    """One step of the climb."""

    module: ModuleType
    name: str
    formula: str
    changed: str


VERSIONS = (
    Version(
        v1_feed_forward,
        "feed-forward attention",
        "e = tanh(q W_Q + X W_X) w,  a = softmax(e),  y = aᵀ X",
        "a small network scores each input against the query",
    ),
    Version(
        v2_dot_product,
        "dot-product attention",
        "e = X q,  a = softmax(e),  y = aᵀ X",
        "the similarity is the dot product; three parameters vanish",
    ),
    Version(
        v3_scaled_dot_product,
        "scaled dot-product attention",
        "e = X q / √D_Q,  a = softmax(e),  y = aᵀ X",
        "divided by √D_Q, so that the softmax does not saturate",
    ),
    Version(
        v4_multiple_queries,
        "multiple queries",
        "E = Q Xᵀ / √D_Q,  A = softmax(E),  Y = A X",
        "many queries at once, as matrix products",
    ),
    Version(
        v5_cross_attention,
        "cross-attention",
        "K = X W_K,  V = X W_V,  E = Q Kᵀ / √D_Q,  A = softmax(E),  Y = A V",
        "inputs split into keys, to be matched, and values, to be read",
    ),
    Version(
        v6_self_attention,
        "self-attention",
        "Q = X W_Q,  K = X W_K,  V = X W_V,  E = Q Kᵀ / √D_Q,  A = softmax(E),  Y = A V",
        "the queries come from the input too",
    ),
    Version(
        v7_multi_head,
        "multi-head attention",
        "Q, K, V in H heads,  A = softmax(Q Kᵀ / √D_Q),  Z = merge(A V) W_O + b_O",
        "H attentions side by side, mixed by W_O",
    ),
)

__all__ = [
    "VERSIONS",
    "Version",
    "dot_product",
    "masks",
    "v1_feed_forward",
    "v2_dot_product",
    "v3_scaled_dot_product",
    "v4_multiple_queries",
    "v5_cross_attention",
    "v6_self_attention",
    "v7_multi_head",
]
