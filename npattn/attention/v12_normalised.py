"""Version 12, normalised and capped: queries and keys are normalised, and scores stay between −c and c.

**Forward**

    Q = f R split(norm(X W_Q))             queries, in H heads of width D_Q
    K = [K_past; f R split(norm(X W_K))]   keys, in H_K heads of width D_Q
    V = [V_past; split(X W_V)]             values, in H_K heads of width D_V; they are not normalised
    S = s Q K_gᵀ                           query head h reads key head g = ⌊h H_K/H⌋
    E = c tanh(S/c)                        c is `softcap`
    A = softmax([E, sinks])                over the keys i + P − W < n ≤ i + P, and a sink with the score sinks_h
    Y = A V_g                              each row a weighted mean of the values, one for each query head
    Z = merge(Y) W_O                       H heads side by side again, mixed by the output projection

Norm and cap keep scores from growing without end in training: that leaves one key with all the weight, and no gradient.
A normalised row has the length √D_Q, times γ, whatever W_Q and W_K are. The cap bounds the scores themselves.

**Backward**  Line by line, from the last to the first. L is the loss, dZ means ∂L/∂Z, and so for every letter:

    Z = merge(Y) W_O                       dW_O = merge(Y)ᵀ dZ,  dY = split(dZ W_Oᵀ)
    Y = A V_g                              dA = dY V_gᵀ,  dV_g = Σ_{h in g} A_hᵀ dY_h: the heads of a group add
    A = softmax([E, sinks])                dE = A ⊙ (dA − δ),  dsinks_h = −Σ_i a_i δ_i,  δ_i = Σ_n A_in dA_in
    E = c tanh(S/c)                        dS = dE ⊙ (1 − (E/c)²), with E before the mask
    S = s Q K_gᵀ                           dQ = s dS K_g,  dK_g = s Σ_{h in g} dS_hᵀ Q_h
    V = [V_past; split(X W_V)]             the first P rows of dV are dV_past, the others split(X W_V)'s, and so for K
                                           dW_V = Xᵀ merge(dV),  dX = merge(dV) W_Vᵀ
    K = [K_past; f R split(norm(X W_K))]   dK of the new rows turns back, f Rᵀ dK; then through the norm, with dγ_K;
                                           dK̃ being what comes out, dW_K = Xᵀ dK̃,  dX += dK̃ W_Kᵀ
    Q = f R split(norm(X W_Q))             likewise with dγ_Q and dQ̃: dW_Q = Xᵀ dQ̃,  dX += dQ̃ W_Qᵀ

Each rule is derived in `npattn explain foundations`: gradients that add (foundations F4), indices as matrices
(foundations F5), linear layers (foundations F6), tanh (foundations F7), softmax (foundations F9), norms
(foundations F10), split and merge (foundations F14). Over a batch, every dW, dγ and dsinks is a sum.

The mask makes hidden scores −∞ after the cap. With these in the fourth line, dE ⊙ (1 − (E/c)²) would be 0 · ∞.

**Changed**  Against version 11, two things; the comments in `forward` mark them.

1. The norms of queries and keys, each with a scale γ.
2. The cap.

**Conventions**  Norms come before the rotation: after it, two γ in a pair of columns would make scores depend on more
than distances. The past holds keys that are normalised and turned. Scores are scaled, then capped, then masked. Sinks
are not capped.

`norm="rms"`: RMS norm of each head, with one γ (D_Q,) for all heads (Qwen3, Gemma 3). `norm="wide_rms"`: RMS norm of
the whole row before it is split, γ_Q (H·D_Q,) and γ_K (H_K·D_Q,) (OLMo 2). `norm="layer"`: layer norm of each head,
without β (ViT-22B). Henry et al. divide rows by their length and learn one scale for all scores; that is not here.
Gemma 3 stores γ − 1: add the 1. Gemma 2 has the cap, c = 50, and no norm; most models of today have norms and no cap.

**Raises**  ValueError for shapes that don't fit, widths that the numbers of heads do not divide, H_K that does not
divide H, more than D_Q/2 frequencies, numbers out of range, a `norm` of another name and a past of which one half is
missing, TypeError for dtypes that differ, a mask that is not boolean and frequencies that `rotary_frequencies` did not
make.

**Source**  Henry et al., "Query-Key Normalization for Transformers" (2020), arXiv:2010.04245, and Dehghani et al.,
"Scaling Vision Transformers to 22 Billion Parameters" (2023), arXiv:2302.05442, §2, for norms; Gemma Team, "Gemma 2"
(2024), arXiv:2408.00118, §2, for the cap.

By hand: one head of width 2. The norm makes [1, −1] and [1, 1] of the keys [3, −3] and [5, 5]: their lengths no longer
matter. The second row asks [7, 7], which is [1, 1] normalised, so q·k = 0 and 2. With s = ½ (ln 3)² the score S is
2s = (ln 3)² for the second key. The cap c = 2 ln 3 makes E = c tanh(½ ln 3) = c/2 = ln 3 of it, and the weights are ¼
and ¾. The values are 8 and 4.

>>> import numpy as np
>>> from npattn.layers import RotaryFrequencies
>>> X, one, s = np.eye(2), np.ones(2), np.log(3) ** 2 / 2
>>> W_Q, W_K = np.array([[0.0, 0.0], [7.0, 7.0]]), np.array([[3.0, -3.0], [5.0, 5.0]])
>>> W_V, W_O = np.array([[8.0], [4.0]]), np.array([[1.0]])
>>> heads = {"n_heads": 1, "n_kv_heads": 1, "frequencies": RotaryFrequencies(np.zeros(0)), "eps": 1e-30}
>>> Z, cache = forward(X, W_Q, W_K, W_V, W_O, gamma_Q=one, gamma_K=one, softcap=2 * np.log(3), scale=s, **heads)
>>> Z[1].round(12), cache.A[0, 1].round(12)
(array([5.]), array([0.25, 0.75]))

Backward, dZ asks for the second row: dA = [8, 4] and δ = 5, so dE = [¾, −¾]. Where S is 0 the cap changes nothing; at
the second key it takes the factor 1 − (½)² = ¾, so dS = [12, −9]/16. Then dq = s dS K = s [12 − 9, −12 − 9]/16, which
is dγ_Q, as the normalised query is [1, 1].

>>> *_, dgamma_Q, dgamma_K = backward(np.array([[0.0], [1.0]]), cache)
>>> (dgamma_Q / s * 16).round(12)
array([  3., -21.])

The norm divides by 7 and takes away the part along the query, mean(dq ⊙ [1, 1]) = s (−9)/16.

>>> dW_Q = backward(np.array([[0.0], [1.0]]), cache)[1]
>>> (dW_Q[1] / s * 16 * 7).round(12)                       # [3 + 9, −21 + 9]
array([ 12., -12.])
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from npattn._internal.checks import Array, Shapes, check_choice, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.attention.dot_product import (
    SCALE,
    SOFTCAP,
    check_window,
    in_window,
    softmax_with_sinks,
    softmax_with_sinks_back,
)
from npattn.attention.v7_multi_head import merge_heads, split_heads
from npattn.attention.v8_causal import after, check_offset, parted, plus
from npattn.attention.v9_rotary import rotation_of_heads
from npattn.attention.v10_grouped_query import grouped, headed
from npattn.layers.kernels import project, sqrt_width, weight_gradient
from npattn.layers.layer_norm import EPS, layer_norm, layer_norm_backward
from npattn.layers.rms_norm import rms_norm, rms_norm_backward
from npattn.layers.rotary import (
    Rotation,
    check_frequencies,
    check_pairing,
    check_positions,
    rotate,
    rotate_back,
)
from npattn.layers.rotary_frequencies import RotaryFrequencies
from npattn.layers.soft_cap import Cache as CapCache
from npattn.layers.soft_cap import soft_cap, soft_cap_backward

DECLARED: dict[str, Any] = {
    "X": "… N_Q D_X",
    "W_Q": "D_X H·D_Q",
    "W_K": "D_X H_K·D_Q",
    "W_V": "D_X H_K·D_V",
    "W_O": "H·D_V D_Z",
    "K_past": "… H_K P D_Q or None",
    "V_past": "… H_K P D_V or None",
    "sinks": "H or None",
    "gamma_Q": "D_Q or None",
    "gamma_K": "D_Q or None",
    "n_heads": "H, an integer",
    "n_kv_heads": "H_K, an integer",
    "window": check_window,
    "norm": partial(check_choice, choices=("rms", "wide_rms", "layer")),
    "eps": EPS,
    "softcap": SOFTCAP,
    "frequencies": check_frequencies,
    "positions": check_positions,
    "pairing": check_pairing,
    "scale": SCALE,
    "offset": check_offset,
    "mask": "… H N_Q P+N_Q",
    "dZ": "… N_Q D_Z",
    "dK": "… H_K P+N_Q D_Q or None",
    "dV": "… H_K P+N_Q D_V or None",
}
SHAPES = Shapes(**DECLARED)
WIDE = Shapes(**DECLARED | {"gamma_Q": "H·D_Q or None", "gamma_K": "H_K·D_Q or None"})


class Cache(NamedTuple):
    """What `backward` needs, the weights `A` among it, and the grown `K` and `V`."""

    X: Array
    W_Q: Array
    W_K: Array
    W_V: Array
    W_O: Array
    Q: Array
    K: Array
    V: Array
    A: Array
    a: Array | None  # (…, H, N_Q, 1)  weights of the sinks
    Y: Array  # merged
    s: float
    has_past: bool
    rotation: Rotation  # of the new rows
    norm: str
    norm_Q: Any  # the cache of the norm, or None
    norm_K: Any
    cap: CapCache | None


def forward(
    X: Array,
    W_Q: Array,
    W_K: Array,
    W_V: Array,
    W_O: Array,
    K_past: Array | None = None,
    V_past: Array | None = None,
    sinks: Array | None = None,
    gamma_Q: Array | None = None,
    gamma_K: Array | None = None,
    *,
    n_heads: int,
    n_kv_heads: int,
    window: int | None = None,
    norm: str = "rms",
    eps: float = 1e-6,
    softcap: float | None = None,
    frequencies: RotaryFrequencies,
    positions: Array | None = None,
    pairing: str = "neighbours",
    scale: float | None = None,
    offset: int | None = None,
    mask: Array | None = None,
) -> tuple[Array, Cache]:
    """Return Z and the cache for `backward`; see the module for the formula.

    - X: the new inputs, one a row.
    - W_Q: projects X to the queries of all heads, side by side.
    - W_K: projects X to the keys of all groups, side by side.
    - W_V: projects X to the values of all groups.
    - W_O: projects the merged heads to the output.
    - K_past: the keys of the P positions before X, the `K` of an earlier cache; None for none.
    - V_past: the values of these positions, its `V`.
    - sinks: the score of the sink of each query head; None for no sinks.
    - gamma_Q: γ of the norm of the queries; None for no norm.
    - gamma_K: γ of the norm of the keys; None for no norm.
    - n_heads: H, the number of query heads. It divides the widths H·D_Q and H·D_V.
    - n_kv_heads: H_K, the number of groups, each with one head of keys and values. It divides H.
    - window: W, how many keys a query may attend to, its own and those right before it; None for all before it.
    - norm: which norm: "rms" or "layer", of each head, or "wide_rms", of all heads together.
    - eps: ε, added inside the root of the norm.
    - softcap: c, keeps scores between −c and c; None for no cap.
    - frequencies: θ (R/2,) and f, from `npattn.layers.rotary_frequencies`; R ≤ D_Q.
    - positions: integers that broadcast to (…, N_Q), the positions of X; None for P … P + N_Q − 1.
    - pairing: which columns are a pair, "neighbours" or "halves".
    - scale: multiplies Q Kᵀ; None for 1/√D_Q.
    - offset: query i may attend to the keys up to i + offset; None for P.
    - mask: boolean, True = may attend; broadcasts to the scores. None: every query may attend to all that is before it.
    """
    (WIDE if str(norm) == "wide_rms" else SHAPES).check(
        X, W_Q, W_K, W_V, W_O, K_past, V_past, sinks, gamma_Q, gamma_K, n_heads=n_heads, n_kv_heads=n_kv_heads,
        window=window, norm=norm, eps=eps, softcap=softcap, frequencies=frequencies, positions=positions,
        pairing=pairing, scale=scale, offset=offset, mask=mask,
    )  # fmt: skip
    Q, norm_Q = normed_heads(project(X, W_Q), gamma_Q, n_heads, norm, eps)          # (…, H, N_Q, D_Q)  1 norms
    rotation = rotation_of_heads(Q, K_past, frequencies, positions, pairing)
    Q = rotate(Q, rotation)                                   # (…, H, N_Q, D_Q)
    K, norm_K = normed_heads(project(X, W_K), gamma_K, n_kv_heads, norm, eps)       # (…, H_K, N_Q, D_Q)  1
    K = rotate(K, rotation)                                   # (…, H_K, N_Q, D_Q)
    V = split_heads(project(X, W_V), n_kv_heads)              # (…, H_K, N_Q, D_V)
    K, V = after(K_past, V_past, K, V)                        # (…, H_K, N_X, D_Q), (…, H_K, N_X, D_V)
    s = 1 / sqrt_width(Q) if scale is None else float(scale)
    S = headed(grouped(Q, n_kv_heads) @ K.mT, n_heads) * s    # (…, H, N_Q, N_X)
    E, cap = (S, None) if softcap is None else soft_cap(S, softcap)                 # (…, H, N_Q, N_X)  2 cap
    seen = in_window(mask, E.shape, offset, window)           # (…, H, N_Q, N_X)
    A, a = softmax_with_sinks(E, seen, sinks)                 # (…, H, N_Q, N_X), (…, H, N_Q, 1)
    Y = merge_heads(headed(grouped(A, n_kv_heads) @ V, n_heads))                    # (…, N_Q, H·D_V)
    Z = project(Y, W_O)                                       # (…, N_Q, D_Z)
    return Z, Cache(
        X, W_Q, W_K, W_V, W_O, Q, K, V, A, a, Y, s, K_past is not None, rotation, norm, norm_Q, norm_K, cap
    )  # fmt: skip


def backward(dZ: Array, cache: Cache, dK: Array | None = None, dV: Array | None = None) -> tuple[Array | None, ...]:
    """Return dX, dW_Q, dW_K, dW_V, dW_O, dK_past, dV_past, dsinks, dgamma_Q, dgamma_K; None for what was None.

    - dZ: the gradient of the loss with respect to Z.
    - cache: what `forward` returned beside Z.
    - dK, dV: the gradients with respect to the grown K and V, from later pieces that read them; None for none.
    """
    (
        X, W_Q, W_K, W_V, W_O, Q, K, V, A, a, Y, s, has_past, rotation, norm, norm_Q, norm_K, cap
    ) = SHAPES.check_backward(dZ, cache, Cache)  # fmt: skip
    dW_O = weight_gradient(Y, dZ)                             # Z = merge(Y) W_O
    H, H_K = A.shape[-3], V.shape[-3]
    dY = grouped(split_heads(project(dZ, W_O.T), H), H_K)     # Z = merge(Y) W_O, one dY for each head
    dA = headed(dY @ V.mT, H)                                 # Y = A V_g
    dV = plus("dV", grouped(A, H_K).mT @ dY, dV)              # Y = A V_g: a sum over the group; V is an output too
    dE, dsinks = softmax_with_sinks_back(dA, A, a, (H,))      # A = softmax([E, sinks])
    dS = dE if cap is None else soft_cap_backward(dE, cap)    # E = c tanh(S/c)
    dS *= s                                                   # S = s …: from here on s dS
    dS = grouped(dS, H_K)
    dK = plus("dK", dS.mT @ grouped(Q, H_K), dK)              # S = s Q K_gᵀ: a sum over the group; K is an output too
    dK_past, dK = parted(dK, Q)                               # K = [K_past; …]
    dV_past, dV = parted(dV, Q)                               # V = [V_past; …]
    dQ = headed(dS @ K, H)                                    # S = s Q K_gᵀ
    dXW_Q, dgamma_Q = normed_heads_back(rotate_back(dQ, rotation), norm, norm_Q)    # Q = f R split(norm(X W_Q)), merged
    dXW_K, dgamma_K = normed_heads_back(rotate_back(dK, rotation), norm, norm_K)    # K = f R split(norm(X W_K)), merged
    dV = merge_heads(dV)                                      # merged for W_V
    dX = project(dV, W_V.T)                                   # V = split(X W_V)
    dX += project(dXW_K, W_K.T)                               # K = f R split(norm(X W_K)): X is used twice, so add
    dX += project(dXW_Q, W_Q.T)                               # Q = f R split(norm(X W_Q)): … and a third time
    dW_Q = weight_gradient(X, dXW_Q)                          # Q = f R split(norm(X W_Q))
    dW_K = weight_gradient(X, dXW_K)                          # K = f R split(norm(X W_K))
    dW_V = weight_gradient(X, dV)                             # V = split(X W_V)
    return dX, dW_Q, dW_K, dW_V, dW_O, *((dK_past, dV_past) if has_past else (None, None)), dsinks, dgamma_Q, dgamma_K


def normed_heads(XW: Array, gamma: Array | None, n_heads: int, norm: str, eps: float) -> tuple[Array, Any]:
    """(…, N, H·D) → (…, H, N, D): the rows split into heads and normalised, and the norm's cache; None without a γ."""
    if gamma is None:
        return split_heads(XW, n_heads), None
    if norm == "wide_rms":
        X, cache = rms_norm(XW, gamma, eps)
        return split_heads(X, n_heads), cache
    return (rms_norm if norm == "rms" else layer_norm)(split_heads(XW, n_heads), gamma, eps=eps)


def normed_heads_back(dX: Array, norm: str, cache: Any) -> tuple[Array, Array | None]:
    """Return the gradient of the rows, merged, and dγ; None without a γ."""
    if cache is None:
        return merge_heads(dX), None
    if norm == "wide_rms":
        return rms_norm_backward(merge_heads(dX), cache)
    dXW, dgamma, *_ = (rms_norm_backward if norm == "rms" else layer_norm_backward)(dX, cache)
    return merge_heads(dXW), dgamma


document(SHAPES, forward, backward)
forward, backward = ignore_underflow(forward), ignore_underflow(backward)
