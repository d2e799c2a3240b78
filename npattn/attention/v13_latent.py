"""Version 13, latent attention: keys and values of all heads come from one short row for each position.

**Forward**

    C_Q = norm(X W_DQ)             latent rows of the queries, of width D_LQ; X itself without W_DQ
    Q = split(C_Q W_Q)             queries, in H heads of width D_C
    Q_R = f R split(C_Q W_QR)      rotary queries, in H heads of width D_R, turned by their positions
    C = [C_past; norm(X W_DKV)]    latent rows of width D_L, those of the past and then the new ones
    K_R = [K_R_past; f R X W_KR]   rotary keys of width D_R, one for all heads, turned by their positions
    K = split(C W_UK)              keys, in H heads of width D_C
    V = split(C W_UV)              values, in H heads of width D_V
    E = s (Q Kᵀ + Q_R K_Rᵀ)        s = 1/√(D_C + D_R) unless `scale` says otherwise
    A = softmax(E)                 over the keys n ≤ i + P: those of the past, and the new ones up to the query's own
    Y = A V                        each row a weighted mean of the values, one for each head
    Z = merge(Y) W_O               heads side by side again, mixed by the output projection

norm is the RMS norm, with `gamma_Q` for C_Q and `gamma` for C; without its γ nothing is normalised. K_R has no norm.
Only C and K_R are kept for the next call: D_L + D_R numbers for each position, however many heads there are.

**Absorbed**  `absorbed=True` never makes K and V: matrix products can be taken in another order. For each head,

    U = Q W_UKᵀ                    queries in the space of the latent rows
    E = s (U Cᵀ + Q_R K_Rᵀ)        Q Kᵀ = Q (C W_UK)ᵀ = (Q W_UKᵀ) Cᵀ
    M = A C                        each row a weighted mean of latent rows
    Y = M W_UV                     A V = A (C W_UV) = (A C) W_UV

That is quicker where few queries meet a long past, as in decoding. Where many queries read the same K and V, it takes
more multiplications, as D_L is larger than D_C and D_V.

**Backward**  Line by line, from the last to the first. L is the loss, dZ means ∂L/∂Z, and so for every letter:

    Z = merge(Y) W_O               dW_O = merge(Y)ᵀ dZ,  dY = split(dZ W_Oᵀ)
    Y = A V                        dA = dY Vᵀ,  dV = Aᵀ dY
    A = softmax(E)                 dE = A ⊙ (dA − rowsum(A ⊙ dA))                     see npattn.layers.softmax
    E = s (Q Kᵀ + Q_R K_Rᵀ)        dQ = s dE K,  dK = s dEᵀ Q,  dQ_R = s dE K_R
                                   dK_R = s Σ_h dE_hᵀ Q_R,h: all heads use it, so add
    V = split(C W_UV)              dW_UV = Cᵀ merge(dV),  dC = merge(dV) W_UVᵀ
    K = split(C W_UK)              dW_UK = Cᵀ merge(dK),  dC += merge(dK) W_UKᵀ
    K_R = [K_R_past; f R X W_KR]   the first P rows are dK_R_past; the others turn back, and are X W_KR's
    C = [C_past; norm(X W_DKV)]    the first P rows are dC_past; the others go through the norm, and are X W_DKV's
    Q_R = f R split(C_Q W_QR)      dW_QR = C_Qᵀ merge(f Rᵀ dQ_R),  dC_Q = merge(f Rᵀ dQ_R) W_QRᵀ
    Q = split(C_Q W_Q)             dW_Q = C_Qᵀ merge(dQ),  dC_Q += merge(dQ) W_Qᵀ
    C_Q = norm(X W_DQ)             dC_Q goes through the norm, and is X W_DQ's.  X is used three times: dX is the sum

Absorbed, for each head: dM = dY W_UVᵀ, dW_UV = Mᵀ dY, dA = dM Cᵀ, dU = s dE C, dQ = dU W_UK, dW_UK = dUᵀ Q, and
dC = Σ_h (A_hᵀ dM_h + s dE_hᵀ U_h), as C is used by all heads, and twice in each.

Each rule is derived in `npattn explain foundations`: gradients that add (foundations F4), indices as matrices
(foundations F5), linear layers (foundations F6), softmax (foundations F9), split and merge (foundations F14). Over a
batch, every dW is a sum. npattn.layers.rms_norm has the norm, npattn.layers.rotary the rotation.

C and K_R are outputs too, where a later piece reads them: its dC_past and dK_R_past are given to `backward` of the
earlier piece as dC and dK_R.

**Changed**  Against version 9; the comments in `forward` mark them.

1. Keys and values are made of one latent row C, and C is what is kept.
2. Content and position are apart: only Q_R and K_R are turned. If K were turned, W_UK could not be absorbed, because a
   rotation would stand between it and W_Q.
3. All heads share the rotary key.
4. Latent rows are normalised, and queries may have a latent row too.

**Conventions**  The norms are not in the paper's formulas but in its §3.1.2 and in all code, with ε = 1e-6; those of
the latent rows alone. Where YaRN's `mscale_all_dim` is set, models multiply the scale by m² with m = 0.1 ·
mscale_all_dim · ln r + 1, where r is the s of `rotary_frequencies`: give `scale` = m²/√(D_C + D_R). cos and sin are
then multiplied by g(mscale)/g(mscale_all_dim) with g(a) = 0.1 a ln r + 1, which is the factor that `rotary_frequencies`
takes; where these are not set, by 0.1 ln r + 1. Published weights have their pairs as "neighbours"; Hugging Face
reorders columns for "halves". Checkpoints hold Q and Q_R of a head side by side in one matrix, K and V likewise, and
W_DKV beside W_KR.

**Raises**  ValueError for shapes that don't fit, widths that n_heads does not divide, more than D_R/2 frequencies and a
past of which one half is missing, TypeError for dtypes that differ, a mask that is not boolean and frequencies that
`rotary_frequencies` did not make.

**Source**  DeepSeek-AI, "DeepSeek-V2" (2024), arXiv:2405.04434, §2.1 and appendix C.

By hand: one head, latent rows of width 1 without a norm, and nothing turns. Rows 1 and 2 have C = 1 and 2, so K is 0
times C, V is 4 C = [4, 8], and the second row weighs both by ½. Backward from it, dV = [½, ½] and dC = 4 dV.

>>> import numpy as np
>>> from npattn.layers import RotaryFrequencies
>>> X, none = np.eye(2), np.zeros((2, 0))                  # D_R = 0
>>> W_Q, W_DKV, W_UK = np.ones((2, 1)), np.array([[1.0], [2.0]]), np.array([[0.0]])
>>> W_UV, W_O = np.array([[4.0]]), np.array([[1.0]])
>>> options = {"n_heads": 1, "frequencies": RotaryFrequencies(np.zeros(0))}
>>> Z, cache = forward(X, W_Q, none, W_DKV, none, W_UK, W_UV, W_O, **options)
>>> Z, cache.C
(array([[4.],
       [6.]]), array([[1.],
       [2.]]))
>>> dX, dW_Q, _, dW_DKV, _, dW_UK, dW_UV, dW_O, *_ = backward(np.array([[0.0], [1.0]]), cache)
>>> dW_DKV, dW_UV                                          # Xᵀ dC, and Cᵀ dV = ½ · 1 + ½ · 2
(array([[2.],
       [2.]]), array([[1.5]]))
>>> dW_UK                                                  # dA = [4, 8], dE = [−1, 1], dK = dE: −1 · 1 + 1 · 2
array([[1.]])

The same absorbed, for the second row alone, with the first as its past: M = ½ · 1 + ½ · 2.

>>> Z, cache = forward(X[1:], W_Q, none, W_DKV, none, W_UK, W_UV, W_O, C_past=cache.C[:1], K_R_past=cache.K_R[:1],
...                    absorbed=True, **options)
>>> Z, cache.M
(array([[6.]]), array([[[1.5]]]))
>>> *_, dC_past, dK_R_past = backward(np.array([[1.0]]), cache)
>>> dC_past
array([[2.]])
"""

from __future__ import annotations

from typing import NamedTuple

from npattn._internal.checks import Array, Shapes, check_flag, document
from npattn._internal.system.underflow import ignore_underflow
from npattn.attention.dot_product import SCALE
from npattn.attention.v7_multi_head import merge_heads, split_heads
from npattn.attention.v8_causal import after, in_order, parted, plus
from npattn.attention.v9_rotary import rotation_of_heads
from npattn.layers.kernels import project, weight_gradient
from npattn.layers.layer_norm import EPS
from npattn.layers.rms_norm import Cache as NormCache
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
from npattn.layers.softmax import softmax, softmax_backward

SHAPES = Shapes(
    X="… N_Q D_X",
    W_DQ="D_X D_LQ or None",
    gamma_Q="D_LQ or None",
    W_Q="D_LQ H·D_C",
    W_QR="D_LQ H·D_R",
    W_DKV="D_X D_L",
    W_KR="D_X D_R",
    W_UK="D_L H·D_C",
    W_UV="D_L H·D_V",
    W_O="H·D_V D_Z",
    gamma="D_L or None",
    C_past="… P D_L or None",
    K_R_past="… P D_R or None",
    n_heads="H, an integer",
    frequencies=check_frequencies,
    positions=check_positions,
    pairing=check_pairing,
    scale=SCALE,
    mask="… H N_Q P+N_Q",
    eps=EPS,
    absorbed=check_flag,
    dZ="… N_Q D_Z",
    dC="… P+N_Q D_L or None",
    dK_R="… P+N_Q D_R or None",
)


class Cache(NamedTuple):
    """What `backward` needs, the weights `A` among it, and the grown `C` and `K_R`."""

    X: Array
    W_DQ: Array | None
    W_Q: Array
    W_QR: Array
    W_DKV: Array
    W_KR: Array
    W_UK: Array
    W_UV: Array
    W_O: Array
    C_Q: Array
    Q: Array
    Q_R: Array
    C: Array
    K_R: Array
    U: Array  # (…, H, N_Q, D_L)  absorbed; else Q
    K: Array  # (…, 1, N_X, D_L)  C, absorbed; else (…, H, N_X, D_C)
    V: Array  # (…, 1, N_X, D_L)  C, absorbed; else (…, H, N_X, D_V)
    A: Array
    M: Array  # (…, H, N_Q, D_L)  absorbed; else Y in heads
    Y: Array  # merged
    of_C_Q: NormCache | None
    of_C: NormCache | None
    s: float
    has_past: bool
    rotation: Rotation  # of the new rows
    absorbed: bool


def forward(
    X: Array,
    W_Q: Array,
    W_QR: Array,
    W_DKV: Array,
    W_KR: Array,
    W_UK: Array,
    W_UV: Array,
    W_O: Array,
    gamma: Array | None = None,
    W_DQ: Array | None = None,
    gamma_Q: Array | None = None,
    C_past: Array | None = None,
    K_R_past: Array | None = None,
    *,
    n_heads: int,
    frequencies: RotaryFrequencies,
    positions: Array | None = None,
    pairing: str = "neighbours",
    scale: float | None = None,
    mask: Array | None = None,
    eps: float = 1e-6,
    absorbed: bool = False,
) -> tuple[Array, Cache]:
    """Return Z and the cache for `backward`; see the module for the formula.

    - X: the new inputs, one a row.
    - W_Q: projects C_Q to the queries of all heads, side by side.
    - W_QR: projects C_Q to the rotary queries of all heads; D_R = 0 for none.
    - W_DKV: projects X down to the latent rows C.
    - W_KR: projects X to the rotary key of all heads.
    - W_UK: projects C up to the keys of all heads.
    - W_UV: projects C up to the values of all heads.
    - W_O: projects the merged heads to the output.
    - gamma: the scale γ of the norm of C; None for no norm.
    - W_DQ: projects X down to the latent rows C_Q; None for C_Q = X.
    - gamma_Q: the scale γ of the norm of C_Q; None for no norm.
    - C_past: the latent rows of the P positions before X, the `C` of an earlier cache; None for none.
    - K_R_past: the rotary keys of these positions, its `K_R`.
    - n_heads: H, the number of heads. It divides the widths H·D_C, H·D_R and H·D_V.
    - frequencies: θ (R/2,) and f, from `npattn.layers.rotary_frequencies`; R ≤ D_R.
    - positions: integers that broadcast to (…, N_Q), the positions of X; None for P … P + N_Q − 1.
    - pairing: which columns are a pair, "neighbours" or "halves".
    - scale: multiplies the scores; None for 1/√(D_C + D_R).
    - mask: boolean, True = may attend; broadcasts to the scores. None: every query may attend to all that is before it.
    - eps: ε of both norms.
    - absorbed: True takes W_UK to the queries and W_UV behind the weights, in place of making K and V.
    """
    SHAPES.check(
        X, W_DQ, gamma_Q, W_Q, W_QR, W_DKV, W_KR, W_UK, W_UV, W_O, gamma, C_past, K_R_past, n_heads=n_heads,
        frequencies=frequencies, positions=positions, pairing=pairing, scale=scale, mask=mask, eps=eps,
        absorbed=absorbed,
    )  # fmt: skip
    C_Q, of_C_Q = normed(projected_down(X, W_DQ, W_Q), gamma_Q, eps)                # (…, N_Q, D_LQ)  4 latent queries
    C, of_C = normed(project(X, W_DKV), gamma, eps)           # (…, N_Q, D_L)  1 latent rows, 4 their norm
    Q = split_heads(project(C_Q, W_Q), n_heads)               # (…, H, N_Q, D_C)
    Q_R = split_heads(project(C_Q, W_QR), n_heads)            # (…, H, N_Q, D_R)  2 position apart
    rotation = rotation_of_heads(Q_R, C_past, frequencies, positions, pairing)
    Q_R = rotate(Q_R, rotation)                               # (…, H, N_Q, D_R)  2
    K_R = rotate(project(X, W_KR)[..., None, :, :], rotation)[..., 0, :, :]         # (…, N_Q, D_R)  3 one for all heads
    C, K_R = grown(C_past, K_R_past, C, K_R)                  # (…, N_X, D_L), (…, N_X, D_R)  1
    if absorbed:
        U = Q @ by_head(W_UK, n_heads).mT                     # (…, H, N_Q, D_L)
        K = V = C[..., None, :, :]                            # (…, 1, N_X, D_L)
    else:
        U, K, V = Q, split_heads(project(C, W_UK), n_heads), split_heads(project(C, W_UV), n_heads)     # 1
    s = max(Q.shape[-1] + Q_R.shape[-1], 1) ** -0.5 if scale is None else float(scale)
    E = (U @ K.mT + Q_R @ K_R[..., None, :, :].mT) * s        # (…, H, N_Q, N_X)  2
    A = softmax(E, in_order(mask, E.shape, None))             # (…, H, N_Q, N_X)
    M = A @ V
    Y = merge_heads(M @ by_head(W_UV, n_heads) if absorbed else M)                  # (…, N_Q, H·D_V)
    Z = project(Y, W_O)                                       # (…, N_Q, D_Z)
    return Z, Cache(
        X, W_DQ, W_Q, W_QR, W_DKV, W_KR, W_UK, W_UV, W_O, C_Q, Q, Q_R, C, K_R, U, K, V, A, M, Y, of_C_Q, of_C, s,
        C_past is not None, rotation, bool(absorbed),
    )  # fmt: skip


def backward(dZ: Array, cache: Cache, dC: Array | None = None, dK_R: Array | None = None) -> tuple[Array | None, ...]:
    """Return the gradients of all arrays in forward's order: dX, dW_Q … dK_R_past; None for one that was None.

    - dZ: the gradient of the loss with respect to Z.
    - cache: what `forward` returned beside Z.
    - dC, dK_R: the gradients with respect to the grown C and K_R, from later pieces that read them; None for none.
    """
    SHAPES.check_backward(dZ, cache, Cache)
    X, W_DQ, W_Q, W_QR, W_DKV, W_KR, W_UK, W_UV, W_O, C_Q, Q, Q_R, C, K_R, U, K, V, A, M, Y, *_ = cache
    H = A.shape[-3]
    dW_O = weight_gradient(Y, dZ)                             # Z = merge(Y) W_O
    dY = split_heads(project(dZ, W_O.T), H)                   # Z = merge(Y) W_O
    dM = dY @ by_head(W_UV, H).mT if cache.absorbed else dY   # Y = M W_UV
    dA = dM @ V.mT                                            # M = A C or A V
    dE = softmax_backward(dA, A)                              # A = softmax(E)
    dE *= cache.s                                             # E = s …: from here on s dE
    dU = dE @ K                                               # E = s (U Kᵀ + …)
    dQ_R = dE @ K_R[..., None, :, :]                          # E = s (… + Q_R K_Rᵀ)
    dK_R = plus("dK_R", all_rows(dE).mT @ all_rows(Q_R), dK_R)                      # … of all heads, and an output too
    if cache.absorbed:
        dQ, dW_UK = dU @ by_head(W_UK, H), side_by_side(dU.mT @ Q)                  # U = Q W_UKᵀ
        dW_UV = side_by_side(M.mT @ dY)                       # Y = M W_UV
        own = all_rows(A).mT @ all_rows(dM) + all_rows(dE).mT @ all_rows(U)         # M = A C, E = s (U Cᵀ + …)
    else:
        dQ, dK, dV = dU, merge_heads(dE.mT @ Q), merge_heads(A.mT @ dY)             # E = s (Q Kᵀ + …), Y = A V
        dW_UK, dW_UV = weight_gradient(C, dK), weight_gradient(C, dV)               # K = split(C W_UK), V likewise
        own = project(dK, W_UK.T) + project(dV, W_UV.T)       # K and V: C is used twice, so add
    dC_past, dC = parted(plus("dC", own, dC), Q)              # C = [C_past; …]
    dK_R_past, dK_R = parted(dK_R, Q)                         # K_R = [K_R_past; …]
    dK_R = rotate_back(dK_R[..., None, :, :], cache.rotation)[..., 0, :, :]         # K_R = f R X W_KR
    dQ, dQ_R = merge_heads(dQ), merge_heads(rotate_back(dQ_R, cache.rotation))      # Q_R = f R split(C_Q W_QR)
    dC_Q = project(dQ, W_Q.T) + project(dQ_R, W_QR.T)         # Q = split(C_Q W_Q), Q_R = …: C_Q is used twice, so add
    dXW_DQ, dgamma_Q = normed_back(dC_Q, cache.of_C_Q)        # C_Q = norm(X W_DQ)
    dXW_DKV, dgamma = normed_back(dC, cache.of_C)             # C = norm(X W_DKV)
    dX = project(dXW_DKV, W_DKV.T)                            # C = norm(X W_DKV)
    dX += project(dK_R, W_KR.T)                               # K_R = f R X W_KR: X is used twice, so add
    dX += dXW_DQ if W_DQ is None else project(dXW_DQ, W_DQ.T)         # C_Q = norm(X W_DQ): … and a third time
    pasts = (dC_past, dK_R_past) if cache.has_past else (None, None)
    dW_DQ = None if W_DQ is None else weight_gradient(X, dXW_DQ)      # C_Q = norm(X W_DQ)
    dW_Q, dW_QR = weight_gradient(C_Q, dQ), weight_gradient(C_Q, dQ_R)
    dW_DKV, dW_KR = weight_gradient(X, dXW_DKV), weight_gradient(X, dK_R)
    return dX, dW_Q, dW_QR, dW_DKV, dW_KR, dW_UK, dW_UV, dW_O, dgamma, dW_DQ, dgamma_Q, *pasts


def projected_down(X: Array, W_DQ: Array | None, W_Q: Array) -> Array:
    """Return X W_DQ, (…, N_Q, D_LQ), or X itself. Raise a ValueError where W_Q then has not as many rows."""
    if W_DQ is not None:
        return project(X, W_DQ)
    if len(W_Q) != X.shape[-1]:
        raise ValueError(f"W_Q: expected (D_X={X.shape[-1]}, H·D_C) without W_DQ, got {W_Q.shape}")
    return X


def grown(C_past: Array | None, K_R_past: Array | None, C: Array, K_R: Array) -> tuple[Array, Array]:
    """Return C and K_R, (…, N_X, D), with the rows of the past above the new ones. Raise where one half is missing."""
    if (C_past is None) is not (K_R_past is None):
        raise ValueError("C_past: expected together with K_R_past, or None for both")
    return after(C_past, K_R_past, C, K_R)


def normed(X: Array, gamma: Array | None, eps: float) -> tuple[Array, NormCache | None]:
    """Return the RMS norm of the rows, (…, D), and its cache; X itself and None without γ."""
    return (X, None) if gamma is None else rms_norm(X, gamma, eps)


def normed_back(dY: Array, cache: NormCache | None) -> tuple[Array, Array | None]:
    """Return dX (…, D) and dgamma, None without γ."""
    return (dY, None) if cache is None else rms_norm_backward(dY, cache)


def by_head(W: Array, n_heads: int) -> Array:
    """(D_L, H·D) → (H, D_L, D): the columns of each head, a view."""
    return W.reshape(len(W), n_heads, W.shape[1] // n_heads).swapaxes(0, 1)


def side_by_side(dW: Array) -> Array:
    """(…, H, D_L, D) → (D_L, H·D): the inverse of `by_head`, after a sum over the batch."""
    dW = dW.sum(tuple(range(dW.ndim - 3))).swapaxes(0, 1)     # (D_L, H, D)
    return dW.reshape(len(dW), dW.shape[1] * dW.shape[2])


def all_rows(X: Array) -> Array:
    """(…, H, N, D) → (…, H·N, D): the rows of all heads one below the other, so that products sum over heads."""
    *batch, H, N, D = X.shape
    return X.reshape(*batch, H * N, D)


document(SHAPES, forward, backward)
forward, backward = ignore_underflow(forward), ignore_underflow(backward)
