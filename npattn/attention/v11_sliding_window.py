"""Version 11, a sliding window and sinks: a query sees the last W keys alone, and may turn to none of them.

**Forward**

    Q = f R split(X W_Q)           queries, in H heads of width D_Q
    K = [K_past; f R split(X W_K)] keys, in H_K heads of width D_Q
    V = [V_past; split(X W_V)]     values, in H_K heads of width D_V
    E = s Q K_gᵀ                   query head h reads key head g = ⌊h H_K/H⌋
    A = softmax([E, sinks])        over the keys i + P − W < n ≤ i + P, and a sink with the score sinks_h
    Y = A V_g                      each row a weighted mean of the values, one for each query head; the sink has none
    Z = merge(Y) W_O               H heads side by side again, mixed by the output projection

The sink is one more key, whose score is a learnt number sinks_h for each head and whose value is zero. So it enters the
denominator only, and takes the weight that no key should have:

    A_in = exp E_in / (exp sinks_h + Σ_m exp E_im),    a_i = exp sinks_h / (exp sinks_h + Σ_m exp E_im) = 1 − Σ_n A_in

**Backward**  Line by line, from the last to the first. L is the loss, dZ means ∂L/∂Z, and so for every letter:

    Z = merge(Y) W_O               dW_O = merge(Y)ᵀ dZ,  dY = split(dZ W_Oᵀ)
    Y = A V_g                      dA = dY V_gᵀ,  dV_g = Σ_{h in g} A_hᵀ dY_h: the heads of a group add
    A = softmax([E, sinks])        dE = A ⊙ (dA − δ),  dsinks_h = −Σ_i a_i δ_i,  δ_i = Σ_n A_in dA_in
    E = s Q K_gᵀ                   dQ = s dE K_g,  dK_g = s Σ_{h in g} dE_hᵀ Q_h
    V = [V_past; split(X W_V)]     the first P rows of dV are dV_past, the others are split(X W_V)'s, and so for K
                                   dW_V = Xᵀ merge(dV),  dX = merge(dV) W_Vᵀ
    K = [K_past; f R split(X W_K)] dK of the new rows turns back, f Rᵀ dK; then
                                   dW_K = Xᵀ merge(f Rᵀ dK),  dX += merge(f Rᵀ dK) W_Kᵀ
    Q = f R split(X W_Q)           dW_Q = Xᵀ merge(f Rᵀ dQ),  dX += merge(f Rᵀ dQ) W_Qᵀ: X is used three times

Each rule is derived in `npattn explain foundations`: gradients that add (foundations F4), indices as matrices
(foundations F5), linear layers (foundations F6), softmax (foundations F9), split and merge (foundations F14). Over a
batch, every dW and dsinks is a sum.

The third line is the softmax's backward over N_X + 1 columns. Y does not read the last, so its dA is 0: it adds nothing
to δ, and its own gradient is a_i (0 − δ_i). δ_i = dY_i · Y_i too, as Y_i = Σ_n A_in V_n.

**Changed**  Against version 10, two things; the comments in `forward` mark them.

1. The window: what is W or more positions back is hidden. The past can drop it, so it does not grow without end. What
   is further back reaches a query through the layers below, at most W − 1 positions each.
2. The sinks. Without one, the weights of a row have the sum 1, also where no key matters to the query.

**Conventions**  W counts the query itself: it sees itself and W − 1 keys before it, as in all code. Jiang et al. write
W for the number of keys before it; the left size of ONNX's window is W − 1 too.

The sinks are those of gpt-oss: not scaled by s, and a number, where those of Xiao et al. are the first tokens of the
text. Sinks of −∞, or none at all, is the softmax of version 10. A row with every key hidden gives zero with zero
gradients, with a sink or without.

`offset` moves the window with the order: query i sees keys i + offset − W + 1 … i + offset. A past that was cut short
needs `positions`, because without them the new rows begin at position P.

**Raises**  ValueError for shapes that don't fit, widths that the numbers of heads do not divide, H_K that does not
divide H, more than D_Q/2 frequencies, a window below 1 and a past of which one half is missing, TypeError for dtypes
that differ, a mask that is not boolean and frequencies that `rotary_frequencies` did not make.

**Source**  Jiang et al., "Mistral 7B" (2023), arXiv:2310.06825, §2, for the window; Xiao et al., "Efficient Streaming
Language Models with Attention Sinks" (2023), arXiv:2309.17453, for sinks; OpenAI, "gpt-oss-120b & gpt-oss-20b Model
Card" (2025), arXiv:2508.10925, §2, for a learnt number in the denominator.

By hand: one head of width 1, W = 2 and exp sinks = 2. The queries are 0, so every visible key has exp 0 = 1. The first
row sees one key with the weight 1/(1 + 2), the others two with 1/(1 + 1 + 2) each. The values are 12, 24 and 36: the
rows find 12/3, (12 + 24)/4 and (24 + 36)/4.

>>> import numpy as np
>>> from npattn.layers import RotaryFrequencies
>>> X, W_Q, W_O, sinks = np.eye(3), np.zeros((3, 1)), np.array([[1.0]]), np.array([np.log(2)])
>>> W_K, W_V = np.array([[1.0], [0.0], [4.0]]), np.array([[12.0], [24.0], [36.0]])
>>> one = {"n_heads": 1, "n_kv_heads": 1, "frequencies": RotaryFrequencies(np.zeros(0)), "window": 2}
>>> Z, cache = forward(X, W_Q, W_K, W_V, W_O, sinks=sinks, **one)
>>> Z.round(12)
array([[ 4.],
       [ 9.],
       [15.]])
>>> cache.A[0].round(12)
array([[0.33333333, 0.        , 0.        ],
       [0.25      , 0.25      , 0.        ],
       [0.        , 0.25      , 0.25      ]])

Backward, dZ asks for the third row. δ = Y = 15, so dE = ¼ [24 − 15, 36 − 15] and dsinks = −½ · 15. Their sum is 0:
the sink loses what the keys win. The keys are 0 and 4, so dQ = 4 · 5.25.

>>> dX, dW_Q, dW_K, dW_V, dW_O, _, _, dsinks = backward(np.array([[0.0], [0.0], [1.0]]), cache)
>>> dsinks.round(12), dW_Q.ravel().round(12), dW_V.ravel().round(12)
(array([-7.5]), array([ 0.,  0., 21.]), array([0.  , 0.25, 0.25]))
"""

from __future__ import annotations

from typing import NamedTuple

from npattn._internal.checks import Array, Shapes, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.attention.dot_product import SCALE, check_window, in_window, softmax_with_sinks, softmax_with_sinks_back
from npattn.attention.v7_multi_head import merge_heads, split_heads
from npattn.attention.v8_causal import after, check_offset, parted, plus
from npattn.attention.v9_rotary import rotation_of_heads
from npattn.attention.v10_grouped_query import grouped, headed
from npattn.layers.kernels import project, sqrt_width, weight_gradient
from npattn.layers.rotary import (
    Rotation,
    check_frequencies,
    check_pairing,
    check_positions,
    rotate,
    rotate_back,
)
from npattn.layers.rotary_frequencies import RotaryFrequencies

SHAPES = Shapes(
    X="… N_Q D_X",
    W_Q="D_X H·D_Q",
    W_K="D_X H_K·D_Q",
    W_V="D_X H_K·D_V",
    W_O="H·D_V D_Z",
    K_past="… H_K P D_Q or None",
    V_past="… H_K P D_V or None",
    sinks="H or None",
    n_heads="H, an integer",
    n_kv_heads="H_K, an integer",
    window=check_window,
    frequencies=check_frequencies,
    positions=check_positions,
    pairing=check_pairing,
    scale=SCALE,
    offset=check_offset,
    mask="… H N_Q P+N_Q",
    dZ="… N_Q D_Z",
    dK="… H_K P+N_Q D_Q or None",
    dV="… H_K P+N_Q D_V or None",
)


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


def forward(
    X: Array,
    W_Q: Array,
    W_K: Array,
    W_V: Array,
    W_O: Array,
    K_past: Array | None = None,
    V_past: Array | None = None,
    sinks: Array | None = None,
    *,
    n_heads: int,
    n_kv_heads: int,
    window: int | None = None,
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
    - n_heads: H, the number of query heads. It divides the widths H·D_Q and H·D_V.
    - n_kv_heads: H_K, the number of groups, each with one head of keys and values. It divides H.
    - window: W, how many keys a query may attend to, its own and those right before it; None for all before it.
    - frequencies: θ (R/2,) and f, from `npattn.layers.rotary_frequencies`; R ≤ D_Q.
    - positions: integers that broadcast to (…, N_Q), the positions of X; None for P … P + N_Q − 1.
    - pairing: which columns are a pair, "neighbours" or "halves".
    - scale: multiplies Q Kᵀ; None for 1/√D_Q.
    - offset: query i may attend to the keys up to i + offset; None for P.
    - mask: boolean, True = may attend; broadcasts to the scores. None: every query may attend to all that is before it.
    """
    SHAPES.check(
        X, W_Q, W_K, W_V, W_O, K_past, V_past, sinks, n_heads=n_heads, n_kv_heads=n_kv_heads, window=window,
        frequencies=frequencies, positions=positions, pairing=pairing, scale=scale, offset=offset, mask=mask,
    )  # fmt: skip
    Q = split_heads(project(X, W_Q), n_heads)                 # (…, H, N_Q, D_Q)
    rotation = rotation_of_heads(Q, K_past, frequencies, positions, pairing)
    Q = rotate(Q, rotation)                                   # (…, H, N_Q, D_Q)
    K = rotate(split_heads(project(X, W_K), n_kv_heads), rotation)                  # (…, H_K, N_Q, D_Q)
    V = split_heads(project(X, W_V), n_kv_heads)              # (…, H_K, N_Q, D_V)
    K, V = after(K_past, V_past, K, V)                        # (…, H_K, N_X, D_Q), (…, H_K, N_X, D_V)
    s = 1 / sqrt_width(Q) if scale is None else float(scale)
    E = headed(grouped(Q, n_kv_heads) @ K.mT, n_heads) * s    # (…, H, N_Q, N_X)
    seen = in_window(mask, E.shape, offset, window)           # (…, H, N_Q, N_X)  1 window
    A, a = softmax_with_sinks(E, seen, sinks)                 # (…, H, N_Q, N_X), (…, H, N_Q, 1)  2 sinks
    Y = merge_heads(headed(grouped(A, n_kv_heads) @ V, n_heads))                    # (…, N_Q, H·D_V)
    Z = project(Y, W_O)                                       # (…, N_Q, D_Z)
    return Z, Cache(X, W_Q, W_K, W_V, W_O, Q, K, V, A, a, Y, s, K_past is not None, rotation)


def backward(dZ: Array, cache: Cache, dK: Array | None = None, dV: Array | None = None) -> tuple[Array | None, ...]:
    """Return dX, dW_Q, dW_K, dW_V, dW_O, dK_past, dV_past, dsinks; None for what was None.

    - dZ: the gradient of the loss with respect to Z.
    - cache: what `forward` returned beside Z.
    - dK, dV: the gradients with respect to the grown K and V, from later pieces that read them; None for none.
    """
    X, W_Q, W_K, W_V, W_O, Q, K, V, A, a, Y, s, has_past, rotation = SHAPES.check_backward(dZ, cache, Cache)
    dW_O = weight_gradient(Y, dZ)                             # Z = merge(Y) W_O
    H, H_K = A.shape[-3], V.shape[-3]
    dY = grouped(split_heads(project(dZ, W_O.T), H), H_K)     # Z = merge(Y) W_O, one dY for each head
    dA = headed(dY @ V.mT, H)                                 # Y = A V_g
    dV = plus("dV", grouped(A, H_K).mT @ dY, dV)              # Y = A V_g: a sum over the group; V is an output too
    dE, dsinks = softmax_with_sinks_back(dA, A, a, (H,))      # A = softmax([E, sinks])
    dE *= s                                                   # E = s …: from here on s dE
    dE = grouped(dE, H_K)
    dK = plus("dK", dE.mT @ grouped(Q, H_K), dK)              # E = s Q K_gᵀ: a sum over the group; K is an output too
    dK_past, dK = parted(dK, Q)                               # K = [K_past; …]
    dV_past, dV = parted(dV, Q)                               # V = [V_past; …]
    dQ = merge_heads(rotate_back(headed(dE @ K, H), rotation))                      # E = s Q K_gᵀ, Q = f R …
    dK, dV = merge_heads(rotate_back(dK, rotation)), merge_heads(dV)                # K = f R …
    dX = project(dV, W_V.T)                                   # V = split(X W_V)
    dX += project(dK, W_K.T)                                  # K = f R split(X W_K): X is used twice, so add
    dX += project(dQ, W_Q.T)                                  # Q = f R split(X W_Q): … and a third time
    dW_Q = weight_gradient(X, dQ)                             # Q = f R split(X W_Q)
    dW_K = weight_gradient(X, dK)                             # K = f R split(X W_K)
    dW_V = weight_gradient(X, dV)                             # V = split(X W_V)
    return dX, dW_Q, dW_K, dW_V, dW_O, *((dK_past, dV_past) if has_past else (None, None)), dsinks


document(SHAPES, forward, backward)
forward, backward = ignore_underflow(forward), ignore_underflow(backward)
