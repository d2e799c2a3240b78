"""Version 9, rotary attention: queries and keys are turned by angles that grow with their position.

**Forward**

    Q = f R split(X W_Q)           queries, each row turned by its own position
    K = [K_past; f R split(X W_K)] keys: those of the past are turned already, the new ones by their own positions
    V = [V_past; split(X W_V)]     values are not turned
    E = s Q Kᵀ                     s = 1/√D_Q unless `scale` says otherwise
    A = softmax(E)                 over the keys n ≤ i + P: those of the past, and the new ones up to the query's own
    Y = A V                        each row a weighted mean of the values, one for each head
    Z = merge(Y) W_O               heads side by side again, mixed by the output projection

R turns pair i of the columns of the row at position m by m θ_i, for each head alike, and f is a factor; see
npattn.layers.rotary. Q_mᵀ K_n becomes f² Q_mᵀ R_{n−m} K_n, so scores depend on the distance n − m alone.

**Backward**  Line by line, from the last to the first. L is the loss, dZ means ∂L/∂Z, and so for every letter:

    Z = merge(Y) W_O               dW_O = merge(Y)ᵀ dZ,  dY = split(dZ W_Oᵀ)
    Y_id = Σ_n A_in V_nd           dA_in = Σ_d dY_id V_nd,  dV_nd = Σ_i A_in dY_id    dA = dY Vᵀ,  dV = Aᵀ dY
    A = softmax(E)                 dE = A ⊙ (dA − rowsum(A ⊙ dA))                     see npattn.layers.softmax
    E_in = s Σ_d Q_id K_nd         dQ_id = s Σ_n dE_in K_nd                           dQ = s dE K
                                   dK_nd = s Σ_i dE_in Q_id                           dK = s dEᵀ Q
    V = [V_past; split(X W_V)]     the first P rows of dV are dV_past, the others are split(X W_V)'s, and so for K
                                   dW_V = Xᵀ merge(dV),  dX = merge(dV) W_Vᵀ
    K = [K_past; f R split(X W_K)] dK of the new rows turns back, f Rᵀ dK; then
                                   dW_K = Xᵀ merge(f Rᵀ dK),  dX += merge(f Rᵀ dK) W_Kᵀ
    Q = f R split(X W_Q)           dW_Q = Xᵀ merge(f Rᵀ dQ),  dX += merge(f Rᵀ dQ) W_Qᵀ: X is used three times

Each rule is derived in `npattn explain foundations`: gradients that add (foundations F4), indices as matrices
(foundations F5), linear layers (foundations F6), softmax (foundations F9), split and merge (foundations F14). Over a
batch, every dW is a sum.

dK_past is the gradient of the turned keys, as the past holds them. The positions and θ are fixed numbers and have none.

**Changed**  Against version 8, two lines: Q and K are turned. Version 8 knows the order of its inputs from the sequence
mask alone; what is further back looks like what is near. No positions are added to X: they enter here, in every layer.

**Conventions**  The past holds keys that are turned already, as almost all code keeps them; so new positions start at P
unless `positions` says otherwise. Which columns are a pair is `pairing`. How many turn, R = 2 · the number of
frequencies, and f come with `frequencies`. npattn.layers.rotary and npattn.layers.rotary_frequencies name the models
that do one or the other. With "dynamic" frequencies a past can't equal the full pass.

**Raises**  ValueError for shapes that don't fit, widths that n_heads does not divide, more than D_Q/2 frequencies and a
past of which one half is missing, TypeError for dtypes that differ, a mask that is not boolean and frequencies that
`rotary_frequencies` did not make.

**Source**  Su et al., "RoFormer" (2021), arXiv:2104.09864, §3.2 and §3.4.

By hand: one head of width 2, and every row asks and answers [1, 0]: without positions all scores are equal. θ = [π/2]
makes a quarter turn a position, so the score is cos of 90° times the distance: 1, 0, −1. With s = ln 3 the third row
has weights in the ratio ⅓ : 1 : 3, that is 1/13, 3/13, 9/13, and gets (1·13 + 3·26 + 9·0)/13.

>>> import numpy as np
>>> from npattn.layers import RotaryFrequencies
>>> X, one = np.eye(3), np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
>>> W_V, W_O, theta = np.array([[13.0], [26.0], [0.0]]), np.array([[1.0]]), RotaryFrequencies(np.array([np.pi / 2]))
>>> Z, cache = forward(X, one, one, W_V, W_O, n_heads=1, frequencies=theta, scale=np.log(3))
>>> (cache.A[0, 2] * 13).round(12)
array([1., 3., 9.])
>>> Z.round(12)                                            # the second row: (1·13 + 3·26)/4
array([[13.  ],
       [22.75],
       [ 7.  ]])
>>> dX, dW_Q, dW_K, dW_V, dW_O, *_ = backward(np.array([[0.0], [0.0], [13.0]]), cache)
>>> dW_V.round(12)                                         # Xᵀ merge(dV) = Aᵀ dZ
array([[1.],
       [3.],
       [9.]])

dA = [169, 338, 0] and rowsum(A ⊙ dA) = 91, so s dE = [6, 57, −63] ln 3. The keys are [1, 0], [0, 1], [−1, 0], so the
third query has dQ = s dE K = [69, 57] ln 3. It was turned by 180°, and turned back dQ is the third row of dW_Q.

>>> (dW_Q / np.log(3)).round(12)
array([[  0.,   0.],
       [  0.,   0.],
       [-69., -57.]])
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array, Shapes, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.attention.dot_product import SCALE
from npattn.attention.v7_multi_head import merge_heads, split_heads
from npattn.attention.v8_causal import after, check_offset, in_order, parted, plus
from npattn.layers.kernels import project, sqrt_width, weight_gradient
from npattn.layers.rotary import (
    Rotation,
    check_frequencies,
    check_pairing,
    check_positions,
    rotate,
    rotate_back,
    rotation_of,
)
from npattn.layers.rotary_frequencies import RotaryFrequencies
from npattn.layers.softmax import softmax, softmax_backward

SHAPES = Shapes(
    X="… N_Q D_X",
    W_Q="D_X H·D_Q",
    W_K="D_X H·D_Q",
    W_V="D_X H·D_V",
    W_O="H·D_V D_Z",
    K_past="… H P D_Q or None",
    V_past="… H P D_V or None",
    n_heads="H, an integer",
    frequencies=check_frequencies,
    positions=check_positions,
    pairing=check_pairing,
    scale=SCALE,
    offset=check_offset,
    mask="… H N_Q P+N_Q",
    dZ="… N_Q D_Z",
    dK="… H P+N_Q D_Q or None",
    dV="… H P+N_Q D_V or None",
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
    - W_K: projects X to the keys of all heads.
    - W_V: projects X to the values of all heads.
    - W_O: projects the merged heads to the output.
    - K_past: the keys of the P positions before X, the `K` of an earlier cache; None for none.
    - V_past: the values of these positions, its `V`.
    - n_heads: H, the number of heads. It divides the widths H·D_Q and H·D_V.
    - frequencies: θ (R/2,) and f, from `npattn.layers.rotary_frequencies`; R ≤ D_Q.
    - positions: integers that broadcast to (…, N_Q), the positions of X; None for P … P + N_Q − 1.
    - pairing: which columns are a pair, "neighbours" or "halves".
    - scale: multiplies Q Kᵀ; None for 1/√D_Q.
    - offset: query i may attend to keys 0 … i + offset; None for P.
    - mask: boolean, True = may attend; broadcasts to the scores. None: every query may attend to all that is before it.
    """
    SHAPES.check(
        X, W_Q, W_K, W_V, W_O, K_past, V_past, n_heads=n_heads, frequencies=frequencies, positions=positions,
        pairing=pairing, scale=scale, offset=offset, mask=mask,
    )  # fmt: skip
    Q = split_heads(project(X, W_Q), n_heads)                 # (…, H, N_Q, D_Q)
    rotation = rotation_of_heads(Q, K_past, frequencies, positions, pairing)
    Q = rotate(Q, rotation)                                   # (…, H, N_Q, D_Q)  new
    K = rotate(split_heads(project(X, W_K), n_heads), rotation)                     # (…, H, N_Q, D_Q)  new
    V = split_heads(project(X, W_V), n_heads)                 # (…, H, N_Q, D_V)
    K, V = after(K_past, V_past, K, V)                        # (…, H, N_X, D_Q), (…, H, N_X, D_V)
    s = 1 / sqrt_width(Q) if scale is None else float(scale)
    E = Q @ K.mT * s                                          # (…, H, N_Q, N_X)
    A = softmax(E, in_order(mask, E.shape, offset))           # (…, H, N_Q, N_X)
    Y = merge_heads(A @ V)                                    # (…, N_Q, H·D_V)
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
    dY = split_heads(project(dZ, W_O.T), A.shape[-3])         # Z = merge(Y) W_O, one dY for each head
    dA = dY @ V.mT                                            # Y = A V
    dV = plus("dV", A.mT @ dY, dV)                            # Y = A V, and V is an output too
    dE = softmax_backward(dA, A)                              # A = softmax(E)
    dE *= s                                                   # E = s …: from here on s dE
    dK = plus("dK", dE.mT @ Q, dK)                            # E = s Q Kᵀ, and K is an output too
    dK_past, dK = parted(dK, Q)                               # K = [K_past; …]
    dV_past, dV = parted(dV, Q)                               # V = [V_past; …]
    dQ = merge_heads(rotate_back(dE @ K, rotation))           # E = s Q Kᵀ, Q = f R …
    dK, dV = merge_heads(rotate_back(dK, rotation)), merge_heads(dV)                # K = f R …
    dX = project(dV, W_V.T)                                   # V = split(X W_V)
    dX += project(dK, W_K.T)                                  # K = f R split(X W_K): X is used twice, so add
    dX += project(dQ, W_Q.T)                                  # Q = f R split(X W_Q): … and a third time
    dW_Q = weight_gradient(X, dQ)                             # Q = f R split(X W_Q)
    dW_K = weight_gradient(X, dK)                             # K = f R split(X W_K)
    dW_V = weight_gradient(X, dV)                             # V = split(X W_V)
    return dX, dW_Q, dW_K, dW_V, dW_O, *((dK_past, dV_past) if has_past else (None, None))


def rotation_of_heads(
    Q: Array, K_past: Array | None, frequencies: RotaryFrequencies, positions: Array | None, pairing: str
) -> Rotation:
    """Return the rotation of the new rows, the same for every head; Q (…, H, N_Q, D_Q)."""
    P = 0 if K_past is None else K_past.shape[-2]
    rotation = rotation_of(Q[..., 0, :, :], frequencies, positions, pairing, P)         # every head has these rows
    cos, sin = (np.expand_dims(np.atleast_2d(part), -3) for part in rotation[:2])       # (…, 1, N_Q, R/2)
    return rotation._replace(cos=cos, sin=sin)


document(SHAPES, forward, backward)
forward, backward = ignore_underflow(forward), ignore_underflow(backward)
