"""Seven versions of attention, Bahdanau's to the Transformer's; each changes one idea of the one before, the last four.

A version is a module with `forward(...) → (y, cache)` and `backward(dy, cache) → gradients`. All of them keep the same
order of statements and the same names, so the difference of two neighbours is the lesson; `npattn explain v4 v5` prints
it. `VERSIONS` lists them; `MODERN_VERSIONS` goes on to the attention of today's models, from version 8.

`dot_product` is attention on ready queries, keys and values, with every option; `tiled` is the same for long sequences;
`masks` makes masks. Projections into a model's layers are in `npattn.transformer`.
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
    v8_causal,
    v9_rotary,
    v10_grouped_query,
    v11_sliding_window,
    v12_normalised,
    v13_latent,
    v14_gated_delta,
)


class Version(NamedTuple):
    """One step of the climb."""

    module: ModuleType
    name: str
    formula: str
    changed: str

    @property
    def number(self) -> int:
        """The number in the module's name."""
        return int(self.module.__name__.rpartition(".v")[2].partition("_")[0])


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

#: The second ladder goes on from version 7 to the attention of today's models. Each module says what it grows from.
MODERN_VERSIONS = (
    Version(
        v8_causal,
        "causal attention with a past",
        "K, V = [past; X W_K], [past; X W_V],  A = softmax(s Q Kᵀ) over n ≤ i + P,  Z = merge(A V) W_O",
        "no query sees what follows it; keys and values are kept for the next piece",
    ),
    Version(
        v9_rotary,
        "rotary attention",
        "Q_m = f R_m X_m W_Q,  K_n = f R_n X_n W_K,  A = softmax(s Q Kᵀ) over n ≤ i + P,  Z = merge(A V) W_O",
        "queries and keys are turned by their positions, so scores depend on distances",
    ),
    Version(
        v10_grouped_query,
        "grouped-query attention",
        "Q in H heads,  K, V in H_K heads,  A_h = softmax(s Q_h K_gᵀ),  g = ⌊h H_K/H⌋,  Z = merge(A V_g) W_O",
        "several heads of queries share one head of keys and values",
    ),
    Version(
        v11_sliding_window,
        "sliding-window attention with sinks",
        "A = softmax([s Q_h K_gᵀ, sinks_h]) over i + P − W < n ≤ i + P,  Z = merge(A V_g) W_O",
        "a query sees the last W keys alone, and may turn to none of them",
    ),
    Version(
        v12_normalised,
        "normalised and capped attention",
        "Q, K = norm(X W_Q), norm(X W_K),  A = softmax([c tanh(s Q_h K_gᵀ/c), sinks_h]),  Z = merge(A V_g) W_O",
        "queries and keys are normalised, and scores stay between −c and c",
    ),
    Version(
        v13_latent,
        "latent attention",
        "C = norm(X W_DKV),  K, V = C W_UK, C W_UV,  A = softmax(s (Q Kᵀ + Q_R K_Rᵀ)),  Z = merge(A V) W_O",
        "keys and values come from one short row, and positions from a key that all heads share",
    ),
    Version(
        v14_gated_delta,
        "gated delta rule",
        "S̃ = α_t S_{t−1},  S_t = S̃ + β_t (v_t − S̃ k_t) k_tᵀ,  y_t = s S_t q_t",
        "no softmax: one matrix for each head holds the past, and does not grow",
    ),
)

__all__ = [
    "MODERN_VERSIONS",
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
    "v8_causal",
    "v9_rotary",
    "v10_grouped_query",
    "v11_sliding_window",
    "v12_normalised",
    "v13_latent",
    "v14_gated_delta",
]
