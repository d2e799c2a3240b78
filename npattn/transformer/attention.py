"""Multi-head attention as the Transformer runs it: the mathematics of `npattn.attention.v7_multi_head`, made lean.

**Forward** and **Backward** are those of version 7, and tests hold this module to it. What differs:

- Inputs are packed rows (n, D_X), see `npattn.transformer.tokens`: pads are projected neither forth nor back.
- W_Q, W_K and W_V stand side by side in one matrix (D_X, 3·D_X): self-attention projects with one product, and
  cross-attention with two, one for each of its inputs. Backward likewise, which also adds up the gradients of X.
- Products write where their result is wanted, among the other heads, so that no head is ever copied.
- The row maximum is subtracted only where it has to be, see `weights`.

**Shapes**  X and Z (n, D_X), Q (B, H, N_Q, D_H), K and V (B, H, N_X, D_H), A (B, H, N_Q, N_X), with D_H = D_X/H the
width of a head, D_Q and D_V of version 7. They are checked where a batch enters the model, not here.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from npattn._types import Array
from npattn.layers.linear import project, sum_rows, weight_gradient
from npattn.layers.softmax import row_maximum, row_sum
from npattn.transformer.tokens import Tokens

Tree = dict[str, Any]

#: exp of scores up to here stays far inside float32 (e⁶⁰ ≈ 1e26), also when a million of them are summed.
HIGHEST = 60.0

#: A row whose exponentials sum to less has all its scores far below 0: it needs its maximum subtracted.
LEAST = 1e-20


class Cache(NamedTuple):
    X_Q: Array        # (n_Q, D_X)
    X: Array          # (n_X, D_X)  the same array in self-attention
    W: Array          # (D_X, 3·D_X)  W_Q, W_K, W_V
    W_O: Array        # (D_X, D_X)
    Q: Array          # (B, H, N_Q, D_H)
    K: Array          # (B, H, N_X, D_H)
    V: Array          # (B, H, N_X, D_H)
    A: Array          # (B, H, N_Q, N_X)
    Y: Array          # (n_Q, D_X)  merged
    biased: bool
    tokens_Q: Tokens
    tokens_X: Tokens


def self_attention(X: Array, p: Tree, n_heads: int, tokens: Tokens) -> tuple[Array, Cache]:
    """Return Z (n, D_X), every token attending to those that `tokens` admits."""
    W, b = side_by_side(p)
    Q, K, V = project_heads(X, W, b, n_heads, tokens)
    A, Y = attend(Q, K, V, tokens)
    Y = tokens.pack(Y)
    return project(Y, p["W_O"], p.get("b_O")), Cache(X, X, W, p["W_O"], Q, K, V, A, Y, b is not None, tokens, tokens)


def self_attention_backward(dZ: Array, cache: Cache) -> tuple[Array, Tree]:
    """Return dX and the gradients of the parameters."""
    X, W, tokens = cache.X, cache.W, cache.tokens_X
    dQKV = np.empty((*tokens.shape, 3, *heads(cache.Q)), dZ.dtype)
    d_O = attend_backward(dZ, cache, dQKV[:, :, 0], dQKV[:, :, 1:])
    d = tokens.pack(merged(dQKV))                             # (n, 3·D_X)
    return project(d, W.T), gradients(weight_gradient(X, d), sum_rows(d) if cache.biased else None) | d_O


def cross_attention(
    X: Array, M: Array, p: Tree, n_heads: int, tokens: Tokens, tokens_M: Tokens
) -> tuple[Array, Cache]:
    """Return Z (n, D_X), every token of X attending to those of M that `tokens_M` admits."""
    (W, b), D = side_by_side(p), X.shape[1]
    (Q,) = project_heads(X, W[:, :D], None if b is None else b[:D], n_heads, tokens)
    K, V = project_heads(M, W[:, D:], None if b is None else b[D:], n_heads, tokens_M)
    A, Y = attend(Q, K, V, tokens_M)
    Y = tokens.pack(Y)
    return project(Y, p["W_O"], p.get("b_O")), Cache(X, M, W, p["W_O"], Q, K, V, A, Y, b is not None, tokens, tokens_M)


def cross_attention_backward(dZ: Array, cache: Cache) -> tuple[Array, Array, Tree]:
    """Return dX, dM and the gradients of the parameters."""
    X, M, W, D = cache.X_Q, cache.X, cache.W, cache.X.shape[1]
    dQ = np.empty((*cache.tokens_Q.shape, 1, *heads(cache.Q)), dZ.dtype)
    dKV = np.empty((*cache.tokens_X.shape, 2, *heads(cache.K)), dZ.dtype)
    d_O = attend_backward(dZ, cache, dQ[:, :, 0], dKV)
    d, d_M = cache.tokens_Q.pack(merged(dQ)), cache.tokens_X.pack(merged(dKV))   # (n, D_X), (n_M, 2·D_X)
    dW = np.empty_like(W)
    dW[:, :D], dW[:, D:] = weight_gradient(X, d), weight_gradient(M, d_M)
    db = np.concatenate((sum_rows(d), sum_rows(d_M))) if cache.biased else None
    return project(d, W[:, :D].T), project(d_M, W[:, D:].T), gradients(dW, db) | d_O


def attend(Q: Array, K: Array, V: Array, tokens: Tokens) -> tuple[Array, Array]:
    """Return A (B, H, N_Q, N_X) and Y = A V with its heads merged, (B, N_Q, D_X)."""
    E = Q @ K.mT                                              # (B, H, N_Q, N_X)
    E *= 1 / math.sqrt(Q.shape[-1])
    A = weights(E, tokens)
    B, H, N_Q, D_H = Q.shape
    Y = np.empty((B, N_Q, H, D_H), Q.dtype)
    np.matmul(A, V, out=Y.swapaxes(1, 2))
    return A, Y.reshape(B, N_Q, H * D_H)


def attend_backward(dZ: Array, cache: Cache, dQ: Array, dKV: Array) -> Tree:
    """Fill dQ (B, N_Q, H, D_H) and dKV (B, N_X, 2, H, D_H), and return the gradients of W_O and b_O."""
    Q, K, V, A, Y = cache.Q, cache.K, cache.V, cache.A, cache.Y
    dY = cache.tokens_Q.unpack(project(dZ, cache.W_O.T))      # Z = Y W_O + b_O
    dY = dY.reshape(dQ.shape).swapaxes(1, 2)                  # (B, H, N_Q, D_H)
    dE = dY @ V.mT                                            # Y = A V: dA
    np.matmul(A.mT, dY, out=dKV[:, :, 1].swapaxes(1, 2))      # Y = A V: dV
    dE -= np.vecdot(A, dE)[..., None]                         # A = softmax(E)
    dE *= A                                                   # A = softmax(E)
    dE *= 1 / math.sqrt(Q.shape[-1])                          # E = Q Kᵀ / √D_H
    np.matmul(dE.mT, Q, out=dKV[:, :, 0].swapaxes(1, 2))      # E = Q Kᵀ / √D_H: dK
    np.matmul(dE, K, out=dQ.swapaxes(1, 2))                   # E = Q Kᵀ / √D_H: dQ
    d_O = {"W_O": weight_gradient(Y, dZ)}                     # Z = Y W_O + b_O
    return d_O | {"b_O": sum_rows(dZ)} if cache.biased else d_O


def side_by_side(p: Tree) -> tuple[Array, Array | None]:
    """W_Q, W_K and W_V in one matrix (D_X, 3·D_X), and likewise the biases: views where they are stored so."""
    W, b = p.get("W_QKV"), p.get("b_QKV")
    if W is None:
        W = np.concatenate([p[f"W_{name}"] for name in "QKV"], 1)
        b = np.concatenate([p[f"b_{name}"] for name in "QKV"]) if "b_Q" in p else None
    return W, b


def gradients(dW: Array, db: Array | None) -> Tree:
    """The gradients of what stands side by side."""
    return {"W_QKV": dW} if db is None else {"W_QKV": dW, "b_QKV": db}


def project_heads(X: Array, W: Array, b: Array | None, n_heads: int, tokens: Tokens) -> Array:
    """X W + b cut into heads: (n, D_X) and (D_X, k·D_X) give (k, B, H, N, D_H), a view."""
    k, D_H = W.shape[1] // X.shape[1], X.shape[1] // n_heads
    return tokens.spread(project(X, W, b)).reshape(*tokens.shape, k, n_heads, D_H).transpose(2, 0, 3, 1, 4)


def heads(Q: Array) -> tuple[int, int]:
    """(H, D_H) of (B, H, N, D_H)."""
    return Q.shape[1], Q.shape[3]


def merged(d: Array) -> Array:
    """(B, N, k, H, D_H) → (B, N, k·D_X): a view."""
    return d.reshape(*d.shape[:2], d.shape[2] * d.shape[3] * d.shape[4])


def weights(E: Array, tokens: Tokens) -> Array:
    """softmax(E) under the mask of the tokens attended to; E is the caller's own and may be written to.

    The maximum of a short row costs more than its exponentials, and that of the whole array next to nothing. A row
    whose scores are moderate needs none subtracted: exp cannot overflow, and where its sum is moderate too, it has not
    vanished. Usually all rows are like that; where some are not, the others keep their bits.
    """
    if not E.size:
        return E                                              # no scores, no weights
    with np.errstate(under="ignore", invalid="ignore"):       # ∞ − ∞ under the mask
        if tokens.bias is not None:
            E += tokens.bias
        if E.real.max() <= HIGHEST:                           # not if it is NaN
            A = np.exp(E)
            total = row_sum(A)
            if total.real.min() >= LEAST:
                A /= total
                return A
    return careful_weights(E if tokens.mask is None else np.where(tokens.mask, E, -np.inf))


def careful_weights(E: Array) -> Array:
    """softmax(E), with the maximum subtracted from the rows that need it."""
    top = row_maximum(E)                                      # (B, H, N_Q, 1)
    shift = np.where(top > HIGHEST, top, 0)
    with np.errstate(under="ignore"):
        vanished = row_sum(np.exp(E - shift)).real < LEAST
        A = np.exp(E - np.where(vanished, top, shift))
        total = row_sum(A)
        total[total.real == 0] = 1                            # may attend to nothing: 0 / 1
        A /= total
    return A
