"""Version 10, grouped queries: several heads of queries share the keys and values of one head.

**Forward**

    Q = f R split(X W_Q)           queries, in H heads of width D_Q
    K = [K_past; f R split(X W_K)] keys, in H_K heads of width D_Q
    V = [V_past; split(X W_V)]     values, in H_K heads of width D_V
    E = s Q K_gᵀ                   query head h reads key head g = ⌊h H_K/H⌋
    A = softmax(E)                 over the keys n ≤ i + P: those of the past, and the new ones up to the query's own
    Y = A V_g                      each row a weighted mean of the values, one for each query head
    Z = merge(Y) W_O               H heads side by side again, mixed by the output projection

With G = H/H_K, the heads g·G to (g+1)·G − 1 are the group of key head g. `grouped` puts the rows of a group one below
the other: (…, H, N, D) becomes (…, H_K, G·N, D), a view. Then each product below has one K_g or V_g for all rows of a
group, and neither K nor V is ever copied. `headed` is its inverse.

**Backward**  Line by line, from the last to the first. L is the loss, dZ means ∂L/∂Z, and so for every letter:

    Z = merge(Y) W_O               dW_O = merge(Y)ᵀ dZ,  dY = split(dZ W_Oᵀ)
    Y = A V_g                      dA = dY V_gᵀ,  dV_g = Σ_{h in g} A_hᵀ dY_h: the heads of a group add
    A = softmax(E)                 dE = A ⊙ (dA − rowsum(A ⊙ dA))                     see npattn.layers.softmax
    E = s Q K_gᵀ                   dQ = s dE K_g,  dK_g = s Σ_{h in g} dE_hᵀ Q_h
    V = [V_past; split(X W_V)]     the first P rows of dV are dV_past, the others are split(X W_V)'s, and so for K
                                   dW_V = Xᵀ merge(dV),  dX = merge(dV) W_Vᵀ
    K = [K_past; f R split(X W_K)] dK of the new rows turns back, f Rᵀ dK; then
                                   dW_K = Xᵀ merge(f Rᵀ dK),  dX += merge(f Rᵀ dK) W_Kᵀ
    Q = f R split(X W_Q)           dW_Q = Xᵀ merge(f Rᵀ dQ),  dX += merge(f Rᵀ dQ) W_Qᵀ: X is used three times

Each rule is derived in `npattn explain foundations`: gradients that add (foundations F4), indices as matrices
(foundations F5), linear layers (foundations F6), softmax (foundations F9), split and merge (foundations F14). Over a
batch, every dW is a sum.

The sums over a group need no line of their own: grouped(A)ᵀ grouped(dY) sums over all rows of a group, of every head.

**Changed**  Against version 9, W_K and W_V are narrower: H_K heads instead of H. What decoding must keep and read at
every step, K and V, shrinks by the factor G. H_K = H is version 9; H_K = 1 is multi-query attention.

**Conventions**  Neighbouring query heads share a key head, head h reads ⌊h H_K/H⌋, as in all models and in torch's
`enable_gqa`: K repeated, each head G times in a row. Reading h mod H_K (K tiled) is wrong, and has the same shape.

**Raises**  ValueError for shapes that don't fit, widths that the numbers of heads do not divide, H_K that does not
divide H, more than D_Q/2 frequencies and a past of which one half is missing, TypeError for dtypes that differ, a mask
that is not boolean and frequencies that `rotary_frequencies` did not make.

**Source**  Shazeer (2019), arXiv:1911.02150, for H_K = 1; Ainslie et al. (2023), arXiv:2305.13245, for groups.

By hand: two query heads of width 2 share one key head, and nothing turns, as there are no frequencies. The second row
has the keys [0, 0] and [1, 1]. Head 0 asks [0, 0] and weighs ½, ½; head 1 asks ln 3 · [1, 0] and weighs ¼, ¾. The
values are 8 and 4, so the heads find 6 and 5. Backward, dZ is 1 for both: dV = [½ + ¼, ½ + ¾].

>>> import numpy as np
>>> from npattn.layers import RotaryFrequencies
>>> X, W_Q = np.eye(2), np.array([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, np.log(3), 0.0]])
>>> W_K, W_V, W_O = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[8.0], [4.0]]), np.array([[1.0], [10.0]])
>>> heads = {"n_heads": 2, "n_kv_heads": 1, "frequencies": RotaryFrequencies(np.zeros(0)), "scale": 1.0}
>>> Z, cache = forward(X, W_Q, W_K, W_V, W_O, **heads)
>>> Z                                                      # 8 + 10·8 and 6 + 10·5
array([[88.],
       [56.]])
>>> cache.A[:, 1], cache.K.shape
(array([[0.5 , 0.5 ],
       [0.25, 0.75]]), (1, 2, 2))
>>> W_O = np.array([[1.0], [1.0]])
>>> dX, dW_Q, dW_K, dW_V, *_ = backward(np.array([[0.0], [1.0]]), forward(X, W_Q, W_K, W_V, W_O, **heads)[1])
>>> dW_V                                                   # ½ + ¼ and ½ + ¾
array([[0.75],
       [1.25]])

dA = [8, 4] in both heads, so dE = [1, −1] and [¾, −¾]. Head 0 asked [0, 0], so dK has the part of head 1 alone,
dEᵀ Q = ±¾ ln 3 in the first column; dQ = dE K = [−1, −1] and [−¾, −¾].

>>> dW_Q
array([[ 0.  ,  0.  ,  0.  ,  0.  ],
       [-1.  , -1.  , -0.75, -0.75]])
>>> (dW_K / np.log(3)).round(12)
array([[ 0.75,  0.  ],
       [-0.75,  0.  ]])
"""

from __future__ import annotations

from typing import NamedTuple

from npattn._internal.checks import Array, Shapes, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.attention.dot_product import SCALE
from npattn.attention.v7_multi_head import merge_heads, split_heads
from npattn.attention.v8_causal import after, check_offset, in_order, parted, plus
from npattn.attention.v9_rotary import rotation_of_heads
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
from npattn.layers.softmax import softmax, softmax_backward

SHAPES = Shapes(
    X="… N_Q D_X",
    W_Q="D_X H·D_Q",
    W_K="D_X H_K·D_Q",
    W_V="D_X H_K·D_V",
    W_O="H·D_V D_Z",
    K_past="… H_K P D_Q or None",
    V_past="… H_K P D_V or None",
    n_heads="H, an integer",
    n_kv_heads="H_K, an integer",
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
    *,
    n_heads: int,
    n_kv_heads: int,
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
    - n_heads: H, the number of query heads. It divides the widths H·D_Q and H·D_V.
    - n_kv_heads: H_K, the number of groups, each with one head of keys and values. It divides H.
    - frequencies: θ (R/2,) and f, from `npattn.layers.rotary_frequencies`; R ≤ D_Q.
    - positions: integers that broadcast to (…, N_Q), the positions of X; None for P … P + N_Q − 1.
    - pairing: which columns are a pair, "neighbours" or "halves".
    - scale: multiplies Q Kᵀ; None for 1/√D_Q.
    - offset: query i may attend to keys 0 … i + offset; None for P.
    - mask: boolean, True = may attend; broadcasts to the scores. None: every query may attend to all that is before it.
    """
    SHAPES.check(
        X, W_Q, W_K, W_V, W_O, K_past, V_past, n_heads=n_heads, n_kv_heads=n_kv_heads, frequencies=frequencies,
        positions=positions, pairing=pairing, scale=scale, offset=offset, mask=mask,
    )  # fmt: skip
    Q = split_heads(project(X, W_Q), n_heads)                 # (…, H, N_Q, D_Q)
    rotation = rotation_of_heads(Q, K_past, frequencies, positions, pairing)
    Q = rotate(Q, rotation)                                   # (…, H, N_Q, D_Q)
    K = rotate(split_heads(project(X, W_K), n_kv_heads), rotation)                  # (…, H_K, N_Q, D_Q)  new
    V = split_heads(project(X, W_V), n_kv_heads)              # (…, H_K, N_Q, D_V)  new
    K, V = after(K_past, V_past, K, V)                        # (…, H_K, N_X, D_Q), (…, H_K, N_X, D_V)
    s = 1 / sqrt_width(Q) if scale is None else float(scale)
    E = headed(grouped(Q, n_kv_heads) @ K.mT, n_heads) * s    # (…, H, N_Q, N_X)  new
    A = softmax(E, in_order(mask, E.shape, offset))           # (…, H, N_Q, N_X)
    Y = merge_heads(headed(grouped(A, n_kv_heads) @ V, n_heads))                    # (…, N_Q, H·D_V)  new
    Z = project(Y, W_O)                                       # (…, N_Q, D_Z)
    return Z, Cache(X, W_Q, W_K, W_V, W_O, Q, K, V, A, Y, s, K_past is not None, rotation)


def backward(dZ: Array, cache: Cache, dK: Array | None = None, dV: Array | None = None) -> tuple[Array | None, ...]:
    """Return dX, dW_Q, dW_K, dW_V, dW_O, dK_past, dV_past; the last two are None without a past.

    - dZ: the gradient of the loss with respect to Z.
    - cache: what `forward` returned beside Z.
    - dK, dV: the gradients with respect to the grown K and V, from later pieces that read them; None for none.
    """
    X, W_Q, W_K, W_V, W_O, Q, K, V, A, Y, s, has_past, rotation = SHAPES.check_backward(dZ, cache, Cache)
    dW_O = weight_gradient(Y, dZ)                             # Z = merge(Y) W_O
    H, H_K = A.shape[-3], V.shape[-3]
    dY = grouped(split_heads(project(dZ, W_O.T), H), H_K)     # Z = merge(Y) W_O, one dY for each head
    dA = headed(dY @ V.mT, H)                                 # Y = A V_g
    dV = plus("dV", grouped(A, H_K).mT @ dY, dV)              # Y = A V_g: a sum over the group; V is an output too
    dE = softmax_backward(dA, A)                              # A = softmax(E)
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
    return dX, dW_Q, dW_K, dW_V, dW_O, *((dK_past, dV_past) if has_past else (None, None))


def grouped(X: Array, n_kv_heads: int) -> Array:
    """(…, H, N, D) → (…, H_K, G·N, D): the rows of the G heads of a group, one head below the other."""
    *batch, H, N, D = X.shape
    if H % n_kv_heads:
        raise ValueError(f"n_kv_heads: expected a divisor of n_heads={H}, got {n_kv_heads}")
    return X.reshape(*batch, n_kv_heads, H // n_kv_heads * N, D)


def headed(X: Array, n_heads: int) -> Array:
    """(…, H_K, G·N, D) → (…, H, N, D): the inverse of `grouped`."""
    *batch, H_K, rows, D = X.shape
    return X.reshape(*batch, n_heads, rows * H_K // n_heads, D)


document(SHAPES, forward, backward)
forward, backward = ignore_underflow(forward), ignore_underflow(backward)
