"""Version 14, the gated delta rule: no softmax; one matrix for each head holds all of the past, and does not grow.

**Forward**  For each head, from S_0 on, t = 1 … N; q_t, k_t and v_t are the rows of Q, K and V as columns:

    q̂_t, k̂_t = q_t/√(|q_t|² + ε), k_t/√(|k_t|² + ε)          unless `normalise` is False; ε = 1e-6
    S̃ = α_t S_{t−1}                α_t = exp g_t: the state decays
    e_t = v_t − S̃ k̂_t              what the state answers to k̂_t is subtracted from the value
    S_t = S̃ + β_t e_t k̂_tᵀ         the rest is written: with |k̂_t| = 1 and β_t = 1 the state then answers v_t
    y_t = s S_t q̂_t                s = 1/√D_Q unless `scale` says otherwise

Time grows with N, not with N². The cache holds the last state S: handed in as S_0 it lets the next call begin where
this one ended.

**Backward**  Line by line, t = N … 1. L is the loss, dy means ∂L/∂y, and so for every letter. dS begins as the gradient
of the last state, and collects what all later steps send back:

    y_t = s S_t q̂_t                dq̂_t = s S_tᵀ dy_t,  dS += s dy_t q̂_tᵀ
    S_t = S̃ + β_t e_t k̂_tᵀ         with w = dS k̂_t:  dβ_t = e_tᵀ w,  de_t = β_t w,  dk̂_t = β_t dSᵀ e_t
    e_t = v_t − S̃ k̂_t              dv_t = β_t w,  dk̂_t −= β_t S̃ᵀ w,  dS̃ = dS − β_t w k̂_tᵀ
    S̃ = α_t S_{t−1}                dα_t = ⟨dS̃, S_{t−1}⟩,  so dg_t = ⟨dS̃, S̃⟩;  dS = α_t dS̃

S̃ and k̂_t are used twice, so their gradients add (foundations F4); each line is the recipe of (foundations F5) with one
row. npattn.layers.l2_norm derives dq_t and dk_t. S_t is needed at every step, from the last to the first, but only
every 64th is kept: the steps between are run again.

**In chunks**  `chunk=C` takes C steps at once, as matrix products. Q, K and V have the rows s q_t, k_t and v_t of these
steps, normalised as above. With the decay from j to i, D_ij = exp(g_{j+1} + … + g_i) for i ≥ j, else 0, and D_i0
likewise from the beginning of the chunk, row i of U is β_i e_i:

    M U = β (V − D_0 ⊙ K Sᵀ),      M = I + strictly lower part of β (K Kᵀ) ⊙ D
    Y = D_0 ⊙ Q Sᵀ + P U,          P = (Q Kᵀ) ⊙ D
    S' = D_C0 S + Uᵀ (D_C ⊙ K)     D_C: the last row of D, one number for each row of K

Backward, from the last line to the first, where β and the columns D_0, D_C multiply rows:

    dU = Pᵀ dY + (D_C ⊙ K) dSᵀ,    Z = M⁻ᵀ dU,    dV = β Z,    dM = −Z Uᵀ (strictly lower part)
    dP = dY Uᵀ,    dQ = (dP ⊙ D) K + D_0 ⊙ dY S
    dK = (dP ⊙ D)ᵀ Q + (F + Fᵀ) K − D_0 ⊙ dV S + D_C ⊙ U dS,    F = β dM ⊙ D
    dβ = rowsum(Z ⊙ (V − D_0 ⊙ K Sᵀ)) + rowsum(dM ⊙ K Kᵀ ⊙ D)
    dS ← (D_0 ⊙ dY)ᵀ Q − (D_0 ⊙ dV)ᵀ K + D_C0 dS
    dD = dP ⊙ Q Kᵀ + β dM ⊙ K Kᵀ,  the last row also rowsum(U dS ⊙ K)
    dD_0 = rowsum(dY ⊙ Q Sᵀ) − rowsum(dV ⊙ K Sᵀ),  the last also ⟨dS, S⟩
    dg_t = Σ dD_ij D_ij over i ≥ t > j: every decay that passes step t

The sums of g between j and i are made term by term, not as differences of sums from the beginning: a strong decay
would take the digits of all weaker ones after it. Both forms agree to rounding for every C; 32 to 64 is quickest.

**Changed**  Against version 8:

1. No softmax and no scores: the state is a sum of what was written, and reading it is a product.
2. The past is one matrix D_V × D_Q for each head instead of all keys and values.
3. g and β say for each step how much is forgotten and written. Models make them from X, g ≤ 0 and 0 ≤ β ≤ 1.
4. Q, K and V are given as they are: the models have a convolution and silu between the projections and the rule.

With orthogonal keys nothing is subtracted, as S̃ k̂_t = 0: what is left is linear attention with decay.

**Conventions**  Implementations differ in all of these:

- The decay comes before the error, as in the paper's §3.1; e_t = v_t − S_{t−1} k̂_t would be another rule.
- g is a logarithm, one number for each head and step; α = exp g.
- Both q and k are normalised, with ε inside the root. ONNX leaves that to the caller, and so does
  flash-linear-attention unless it is asked.
- s = 1/√D_Q multiplies normalised queries too. A naive delta rule has s = 1.
- Heads: each value head has a state, g and β. H_K divides H_V (Qwen3-Next has fewer keys), and H_Q divides H_V or is a
  multiple of it (ONNX). State h reads key head ⌊h H_K/H_V⌋: repeated, never h mod H_K.
- S is D_V × D_Q, so that S k is read. Most other code keeps its transpose.

**Raises**  ValueError for shapes or numbers of heads that don't fit and a chunk below 1, TypeError for dtypes that
differ and options of the wrong type.

**Source**  Yang, Kautz & Hatamizadeh, "Gated Delta Networks" (2024), arXiv:2412.06464, §3; Yang et al. (2024),
arXiv:2406.06484, for chunks; Katharopoulos et al. (2020), arXiv:2006.16236, for linear attention.

By hand: keys and queries of length 1, widths 1. The state learns 8 by half, decays by half to 2 and is asked to learn 6
wholly: e_1 = 8, S_1 = 4; S̃ = 2, e_2 = 4, S_2 = 6. Backward from y_2: dS = 1, w = 1, dβ = e, dv = β.

>>> import numpy as np
>>> one = np.ones((1, 2, 1))                               # one head, two steps, width 1
>>> V, g, beta = np.array([[[8.0], [6.0]]]), np.log([[1.0, 0.5]]), np.array([[0.5, 1.0]])
>>> Y, cache = forward(one, one, V, g, beta, normalise=False)
>>> Y[0, :, 0], cache.S
(array([4., 6.]), array([[[6.]]]))
>>> dQ, dK, dV, dg, dbeta, dS_0 = backward(np.array([[[0.0], [1.0]]]), cache)
>>> dV[0, :, 0], dbeta                                     # β_2 = 1 leaves nothing of the first step
(array([0., 1.]), array([[0., 4.]]))
>>> dK[0, :, 0], dQ[0, :, 0]                               # dk_2 = β (e dS − S̃ w) = 4 − 2, dq_2 = S_2
(array([0., 2.]), array([0., 6.]))

With β_2 = ½ the state would be 4 and half of it from the first step: dS̃ = 1 − ½, dg_2 = ½ · 2.

>>> Y, cache = forward(one, one, V, g, np.array([[0.5, 0.5]]), normalise=False, chunk=2)
>>> dQ, dK, dV, dg, dbeta, _ = backward(np.array([[[0.0], [1.0]]]), cache)
>>> Y[0, :, 0], dg
(array([4., 4.]), array([[0., 1.]]))
>>> dV[0, :, 0], dbeta                                     # dS = ½ · ½ reaches the first step
(array([0.125, 0.5  ]), array([[2., 4.]]))
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from npattn._internal.checks import Array, Shapes, check_flag, check_size, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.attention.dot_product import SCALE
from npattn.attention.v8_causal import plus
from npattn.layers.kernels import row_sum, sqrt_width
from npattn.layers.l2_norm import Cache as Lengths
from npattn.layers.l2_norm import of_length_one, of_length_one_back

#: ε of the lengths of queries and keys.
EPS = 1e-6

#: The recurrence keeps the state before each block of this many steps.
BLOCK = 64


def check_chunk(symbol: str, value: int | None) -> None:
    """Raise unless the value is None or a positive integer."""
    if value is not None:
        check_size(symbol, value, least=1)


SHAPES = Shapes(
    Q="… H_Q N D_Q",
    K="… H_K N D_Q",
    V="… H_V N D_V",
    g="… H_V N",
    beta="… H_V N",
    S_0="… H_V D_V D_Q or None",
    scale=SCALE,
    normalise=check_flag,
    chunk=check_chunk,
    Y="… H N D_V",
    dY="… H N D_V",
    dS="… H_V D_V D_Q or None",
)


class Rows(NamedTuple):
    """The arguments of the rule, one row for each step; G query heads read each of the H_V states."""

    Q: Array     # (…, H_V, N, G, D_Q)  s q̂
    K: Array     # (…, H_V, N, 1, D_Q)  k̂
    V: Array     # (…, H_V, N, 1, D_V)
    g: Array     # (…, H_V, N, 1, 1)
    beta: Array  # (…, H_V, N, 1, 1)


class Cache(NamedTuple):
    """What `backward` needs, and the last state `S`."""

    rows: Rows
    states: list[Array]  # before each block of steps
    Y: Array
    S: Array
    lengths: tuple[Lengths | None, ...]  # of Q and K; None where they were not normalised
    s: float
    chunk: int | None
    heads: tuple[int, int]  # H_Q, H_K
    has_state: bool


def forward(
    Q: Array,
    K: Array,
    V: Array,
    g: Array,
    beta: Array,
    S_0: Array | None = None,
    *,
    scale: float | None = None,
    normalise: bool = True,
    chunk: int | None = None,
) -> tuple[Array, Cache]:
    """Return Y and the cache for `backward`; see the module for the formula. Y has as many heads as Q or V, the larger.

    - Q: queries, one a row.
    - K: keys, one a row.
    - V: values, one a row.
    - g: the logarithm of each step's decay; −∞ forgets all.
    - beta: how much of each step's error is written.
    - S_0: the state before the first step, the `S` of an earlier cache; None for zeros.
    - scale: s, multiplies what is read; None for 1/√D_Q.
    - normalise: True divides each row of Q and K by its length.
    - chunk: C, how many steps are taken at once, as matrix products; None for one after the other.
    """
    SHAPES.check(Q, K, V, g, beta, S_0, scale=scale, normalise=normalise, chunk=chunk)
    H_Q, H_K, H = heads_of(Q, K, V)
    s = 1 / sqrt_width(Q) if scale is None else float(scale)
    lengths = tuple(of_length_one(X, EPS) if normalise else None for X in (Q, K))
    Q, K = (X if length is None else length.Y for X, length in zip((Q, K), lengths, strict=True))
    rows = Rows(by_state(Q * s, H), by_state(K, H), V[..., None, :], g[..., None, None], beta[..., None, None])
    S = np.zeros((*V.shape[:-2], V.shape[-1], Q.shape[-1]), V.dtype) if S_0 is None else S_0
    Y, states = np.empty_like(rows.Q, shape=(*rows.Q.shape[:-1], V.shape[-1])), []
    run = one_by_one if chunk is None else at_once
    for block, part in blocks(rows, chunk):
        states.append(S)
        Y[block], S, *_ = run(part, S)
    Y = by_head(Y, max(H_Q, H))
    return Y, Cache(rows, states, Y, S, lengths, s, chunk, (H_Q, H_K), S_0 is not None)


def backward(dY: Array, cache: Cache, dS: Array | None = None) -> tuple[Array | None, ...]:
    """Return dQ, dK, dV, dg, dbeta, dS_0; the last is None without a state.

    - dY: the gradient of the loss with respect to Y.
    - cache: what `forward` returned beside Y.
    - dS: the gradient with respect to the last state, the dS_0 of the call that went on from it; None for none.
    """
    rows, states, _, S, lengths, s, chunk, (H_Q, H_K), has_state = SHAPES.check_backward(dY, cache, Cache)
    dY = by_state(dY, S.shape[-3])                            # (…, H_V, N, G, D_V)
    dS = plus("dS", np.zeros_like(S), dS)                     # S is an output too
    d = Rows(*(np.empty_like(X) for X in rows))
    run = one_by_one_back if chunk is None else at_once_back
    for (block, part), S in zip(reversed([*blocks(rows, chunk)]), reversed(states), strict=True):
        dpart, dS = run(dY[block], dS, part, S)
        for whole, piece in zip(d, dpart, strict=True):
            whole[block] = piece
    dQ, dK, dV = by_head(d.Q, H_Q) * s, by_head(d.K, H_K), d.V[..., 0, :]         # Q stood for s Q
    dQ, dK = (
        dX if length is None else of_length_one_back(dX, length)
        for dX, length in zip((dQ, dK), lengths, strict=True)
    )
    return dQ, dK, dV, d.g[..., 0, 0], d.beta[..., 0, 0], dS if has_state else None


def one_by_one(rows: Rows, S_0: Array) -> tuple[Array, Array]:
    """Take the steps one after the other, at least one. Return Y and the last state."""
    Y = []
    for (q, *_), (_, _, S) in zip(by_time(rows), steps(rows, S_0), strict=True):
        Y.append(q @ S.mT)                                    # (…, H_V, G, D_V)
    return np.stack(Y, -3), S


def steps(rows: Rows, S: Array) -> Iterator[tuple[Array, Array, Array]]:
    """Yield S̃ (…, H_V, D_V, D_Q), e (…, H_V, 1, D_V) and S of every step."""
    for _, k, v, g, beta in by_time(rows):                    # (…, H_V, 1, D_Q), (…, H_V, 1, D_V) …
        decayed = np.exp(g) * S
        e = v - k @ decayed.mT
        S = decayed + (beta * e).mT @ k
        yield decayed, e, S


def one_by_one_back(dY: Array, dS: Array, rows: Rows, S_0: Array) -> tuple[Rows, Array]:
    """Return the gradients of the rows and of the state S_0 before them."""
    d = Rows(*(np.empty_like(X) for X in rows))
    taken = [*zip(np.moveaxis(dY, -3, 0), by_time(d), by_time(rows), steps(rows, S_0), strict=True)]
    for dy, to, (q, k, _, g, beta), (decayed, e, S) in reversed(taken):
        to.Q[...] = dy @ S                                    # y = S q
        dS = dS + dy.mT @ q                                   # y = S q, and later steps read S too
        w = k @ dS.mT
        to.beta[..., 0, 0] = np.vecdot(e, w)[..., 0]          # S = … + β e kᵀ
        to.V[...] = beta * w                                  # de = β w, e = v − …
        to.K[...] = beta * (e @ dS - w @ decayed)             # S = … + β e kᵀ, e = … − S̃ k: used twice, so add
        dS = dS - (beta * w).mT @ k                           # S = S̃ + …, e = … − S̃ k: from here on dS̃
        to.g[..., 0, 0] = (dS * decayed).sum((-2, -1))        # S̃ = exp(g) S
        dS = np.exp(g) * dS                                   # S̃ = exp(g) S
    return d, dS


class Chunk(NamedTuple):
    """The matrices of one chunk of C steps."""

    Q: Array     # (…, H_V, C·G, D_Q)
    K: Array     # (…, H_V, C, D_Q)
    D: Array     # (…, H_V, C, C+1)  the first column is D_0
    of_Q: Array  # (…, H_V, C·G, C+1)  its rows once for each query head
    KK: Array    # (…, H_V, C, C)  K Kᵀ
    QK: Array    # (…, H_V, C·G, C)  Q Kᵀ
    M: Array     # (…, H_V, C, C)
    R: Array     # (…, H_V, C, D_V)  V − D_0 ⊙ K Sᵀ
    U: Array     # (…, H_V, C, D_V)
    beta: Array  # (…, H_V, C, 1)
    last: Array  # (…, H_V, C, 1)  D_C as a column


def at_once(rows: Rows, S: Array) -> tuple[Array, Array, Chunk]:
    """Take all steps as matrix products. Return Y, the last state, and the matrices."""
    *lead, G, D_Q = rows.Q.shape
    Q, K, V, beta = rows.Q.reshape(*lead[:-1], lead[-1] * G, D_Q), *(X[..., 0, :] for X in (rows.K, rows.V, rows.beta))
    D = decays(rows.g[..., 0, 0])                             # (…, H_V, C, C+1)
    KK, QK, of_Q = K @ K.mT, Q @ K.mT, D.repeat(G, -2)
    M = beta * KK * D[..., 1:]                                # only what is below the diagonal is read
    R = V - D[..., :1] * (K @ S.mT)
    U = solve(M, beta * R)                                    # M U = β (V − D_0 ⊙ K Sᵀ)
    Y = of_Q[..., :1] * (Q @ S.mT) + (QK * of_Q[..., 1:]) @ U
    last = D[..., -1:, 1:].mT
    S = D[..., -1:, :1] * S + U.mT @ (last * K)
    return Y.reshape(*lead, G, Y.shape[-1]), S, Chunk(Q, K, D, of_Q, KK, QK, M, R, U, beta, last)


def at_once_back(dY: Array, dS: Array, rows: Rows, S: Array) -> tuple[Rows, Array]:
    """Return the gradients of the rows and of the state S before them."""
    _, _, (Q, K, D, of_Q, KK, QK, M, R, U, beta, last) = at_once(rows, S)
    G, D_V = dY.shape[-2:]
    dY = dY.reshape(*Q.shape[:-1], D_V)
    US, QS, KS = U @ dS, Q @ S.mT, K @ S.mT
    dU = (QK * of_Q[..., 1:]).mT @ dY + (last * K) @ dS.mT    # Y = … + P U, S' = … + Uᵀ (D_C ⊙ K)
    Z = solve(M.mT[..., ::-1, ::-1], dU[..., ::-1, :])[..., ::-1, :]                # M U = β R; Mᵀ is upper triangular
    dM = -np.tril(Z @ U.mT, -1)                               # M U = β R
    dbeta = np.vecdot(Z, R) + (dM * KK * D[..., 1:]).sum(-1)  # M U = β R, M = I + β KK ⊙ D: used twice, so add
    dV = beta * Z                                             # R = V − …
    dKS = -D[..., :1] * dV                                    # R = … − D_0 ⊙ K Sᵀ
    dP = dY @ U.mT                                            # Y = … + P U
    dQS = of_Q[..., :1] * dY                                  # Y = D_0 ⊙ Q Sᵀ + …
    F, dQK = beta * dM * D[..., 1:], dP * of_Q[..., 1:]       # M = I + β KK ⊙ D, P = QK ⊙ D
    dQ = dQK @ K + dQS @ S                                    # QK = Q Kᵀ, QS = Q Sᵀ
    dK = dQK.mT @ Q + (F + F.mT) @ K + dKS @ S + last * US    # QK, KK = K Kᵀ, KS = K Sᵀ, S' = … + Uᵀ (D_C ⊙ K)
    dD = np.concatenate([row_sum(dY * QS), dP * QK], -1)      # Y = D_0 ⊙ QS + …, P = QK ⊙ D
    dD = dD.reshape(*D.shape[:-1], G, D.shape[-1]).sum(-2)    # all query heads of a state have one D
    dD += np.concatenate([-row_sum(dV * KS), beta * dM * KK], -1)                   # R = … − D_0 ⊙ KS, M = … β KK ⊙ D
    dD[..., -1, 0] += (dS * S).sum((-2, -1))                  # S' = D_C0 S + …
    dD[..., -1, 1:] += np.vecdot(US, K)                       # S' = … + Uᵀ (D_C ⊙ K)
    dS = dQS.mT @ Q + dKS.mT @ K + D[..., -1:, :1] * dS
    return Rows(
        dQ.reshape(rows.Q.shape), dK[..., None, :], dV[..., None, :], decays_back(dD, D)[..., None, None],
        dbeta[..., None, None],
    ), dS  # fmt: skip


def decays(g: Array) -> Array:
    """Return D (…, C, C+1) of g (…, C): exp of the sums of g from the column to the row, 0 for a later column.

    Column j has the steps from j on, counted from 0: the first has the state before all steps, the next the first row.
    """
    steps = np.broadcast_to(g[..., None], (*g.shape, g.shape[-1] + 1))
    return np.tril(np.exp(np.tril(steps).cumsum(-2)), 1)


def decays_back(dD: Array, D: Array) -> Array:
    """Return dg (…, C): each g_t is in every sum from a column j ≤ t to a row i ≥ t."""
    later = (dD * D)[..., ::-1, :].cumsum(-2)[..., ::-1, :]
    return np.tril(later).sum(-1)


def solve(M: Array, R: Array) -> Array:
    """Return U of M U = R (…, C, D), for M (…, C, C) lower triangular with ones on its diagonal; reads M below it."""
    half = R.shape[-2] // 2
    if not half:
        return R
    top = solve(M[..., :half, :half], R[..., :half, :])
    bottom = solve(M[..., half:, half:], R[..., half:, :] - M[..., half:, :half] @ top)
    return np.concatenate([top, bottom], -2)


def blocks(rows: Rows, chunk: int | None) -> Iterator[tuple[tuple[Any, ...], Rows]]:
    """Yield the index of each block of steps, and its rows."""
    size = BLOCK if chunk is None else int(chunk)
    for start in range(0, rows.K.shape[-3], size):
        block = ..., slice(start, start + size), slice(None), slice(None)
        yield block, Rows(*(X[block] for X in rows))


def by_time(rows: Rows) -> Iterator[Rows]:
    """Yield the rows (…, H_V, G, D) of each step, as views."""
    return map(Rows._make, zip(*(np.moveaxis(X, -3, 0) for X in rows), strict=True))


def by_state(X: Array, n_states: int) -> Array:
    """(…, H, N, D) → (…, H_V, N, G, D): a head for several states is repeated, and G heads of one state are rows."""
    *batch, H, N, D = X.shape
    if n_states > H:
        X, H = X.repeat(n_states // H, -3), n_states
    return X.reshape(*batch, n_states, H // n_states, N, D).swapaxes(-2, -3)


def by_head(dX: Array, n_heads: int) -> Array:
    """(…, H_V, N, G, D) → (…, H, N, D): the transpose of `by_state`. The gradients of a repeated head add."""
    *batch, n_states, N, G, D = dX.shape
    return dX.swapaxes(-2, -3).reshape(*batch, n_heads, n_states * G // n_heads, N, D).sum(-3)


def heads_of(Q: Array, K: Array, V: Array) -> tuple[int, int, int]:
    """Return H_Q, H_K and H_V. Raise a ValueError unless they fit."""
    H_Q, H_K, H_V = (X.shape[-3] for X in (Q, K, V))
    for name, H, multiple in (("K", H_K, ""), ("Q", H_Q, " or is a multiple of it")):
        if not H or not H_V or (H_V % H and (not multiple or H % H_V)):
            raise ValueError(f"{name}: expected a number of heads that divides H_V={H_V}{multiple}, got {H}")
    return H_Q, H_K, H_V


document(SHAPES, forward, backward)
forward, backward = ignore_underflow(forward), ignore_underflow(backward)
