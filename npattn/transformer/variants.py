"""What models of Hugging Face have and the paper's has not: positions of other kinds, RMS norm, gates.

`npattn.transformer.reference` is built of these parts; each is what the paper has when the configuration says nothing.

**Forward**

    positions      "sinusoidal": P as in the paper; "sinusoidal_halves": its even columns, then its odd ones (Marian);
                   "learned": P_n = W_P[offset + n] (BART); "relative": none, but that of
                   `npattn.transformer.relative_bias` (T5)
    norm           layer norm, or RMS norm
    φ(U)           relu, gelu, silu, or a gate: U = [G, U'], φ(G) ⊙ U'

**Backward**  W_P is a table: its gradient is the sum over the batch, in the rows that were read (foundations F12).

**Source**  Raffel et al. (2020), arXiv:1910.10683, for T5; Junczys-Dowmunt et al. (2018), arXiv:1804.00344, for Marian;
Lewis et al. (2019), arXiv:1910.13461, for BART; Shazeer (2020), arXiv:2002.05202, for gates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from npattn._internal.checks import Array
from npattn.layers import (
    geglu,
    geglu_backward,
    gelu,
    gelu_backward,
    relu,
    relu_backward,
    silu,
    silu_backward,
    swiglu,
    swiglu_backward,
)
from npattn.layers.embedding import embedding, embedding_backward
from npattn.layers.layer_norm import Cache as LayerNormCache
from npattn.layers.layer_norm import layer_norm, layer_norm_backward
from npattn.layers.positions import sinusoidal_positions
from npattn.layers.rms_norm import rms_norm, rms_norm_backward
from npattn.transformer.config import TransformerConfig
from npattn.transformer.parameters import Nested

Pair: TypeAlias = tuple[Array, Any]                           # a value and its cache
#: φ by its name, and whether it is gated: forward, backward and options. Language models take it from here too.
PHI: dict[tuple[str, bool], tuple[Callable[..., Any], Callable[..., Any], dict[str, str]]] = {
    ("relu", False): (relu, relu_backward, {}),
    ("gelu", False): (gelu, gelu_backward, {}),
    ("gelu_tanh", False): (gelu, gelu_backward, {"approximate": "tanh"}),
    ("silu", False): (silu, silu_backward, {}),
    ("gelu", True): (geglu, geglu_backward, {}),
    ("gelu_tanh", True): (geglu, geglu_backward, {"approximate": "tanh"}),
    ("silu", True): (swiglu, swiglu_backward, {}),
}


def positions(N: int, p: Nested, config: TransformerConfig, dtype: Any) -> Pair:
    """Return P (N, D_X), zeros without one, and the cache for `positions_backward`. `p`: parameters of the stack."""
    if config.positions == "learned":
        return embedding(config.position_offset + np.arange(N), p["positions"]["W_P"])
    if config.positions == "relative":
        return np.zeros((N, config.d_model), dtype), None
    P = (sinusoids_in_halves if config.positions == "sinusoidal_halves" else sinusoidal_positions)(N, config.d_model)
    return P.astype(dtype), None


def sinusoids_in_halves(N: int, D: int) -> Array:
    """Return the sines of all pairs, then their cosines, (N, D). Hugging Face rounds them to float32 in every dtype."""
    P = sinusoidal_positions(N, D)
    return np.concatenate([P[:, 0::2], P[:, 1::2]], 1).astype(np.float32)


def positions_backward(dX: Array, cache: Any) -> Nested:
    """Return the gradient of W_P from that of E + P, (B, N, D_X)."""
    return {} if cache is None else {"positions": {"W_P": embedding_backward(dX.sum(0), cache)}}    # each row reads P


def normalise(X: Array, p: Nested | None, config: TransformerConfig) -> Pair:
    """Return the normalised rows, or X itself where there is no norm."""
    if p is None:
        return X, None
    if config.norm_type == "rms":
        return rms_norm(X, p["gamma"], config.norm_eps)
    return layer_norm(X, p["gamma"], p.get("beta"), config.norm_eps)


def normalise_backward(dY: Array, cache: Any) -> tuple[Array, Nested]:
    """Return dX and the gradients of γ and β, None for one that is not there."""
    if cache is None:
        return dY, {}
    dX, dgamma, *dbeta = (layer_norm_backward if isinstance(cache, LayerNormCache) else rms_norm_backward)(dY, cache)
    return dX, {"gamma": dgamma, "beta": dbeta[0] if dbeta else None}     # RMS norm has no β
