"""Multi-head attention as training runs it.

**Equals** `npattn.attention.v7_multi_head` and, with dropout, `npattn.transformer.dropped_attention`, forward and
backward, under the mask of a `Packing`. Tests compare them.

**Changed for speed**

- Inputs are packed rows (n, D_X), see `npattn.transformer.fast.packing`: no projection has a row for a pad.
- W_Q, W_K and W_V stand side by side in one matrix (D_X, 3·D_X). Self-attention projects with one product,
  cross-attention with two, one for each of its inputs. Backward does likewise, and its product for dX adds up what
  comes through queries, keys and values.
- The product of each head is written to its place in the merged array, so no head is copied.
- The softmax subtracts the row maximum only where it must, see `npattn.transformer.fast.softmax`.
- Dropout of the weights makes no copy where nothing is dropped.
- Gradients of matrices come as functions that compute them, see `npattn.transformer.fast.gradient`.
- No shape is checked: the batch has been checked where it enters the model.

X and Z (n, D_X), Q (B, H, N_Q, D_H), K and V (B, H, N_X, D_H), A and D (B, H, N_Q, N_X), with D_H = D_X/H the width of
a head.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from npattn._internal.checks import Array
from npattn.layers.dropout import dropout, dropout_backward
from npattn.layers.kernels import project, row_sum, sqrt_width, sum_rows, weight_gradient
from npattn.transformer.config import TransformerConfig
from npattn.transformer.fast.packing import Packing
from npattn.transformer.fast.softmax import masked_softmax
from npattn.transformer.parameters import Nested

Rng: TypeAlias = np.random.Generator | None


class Cache(NamedTuple):
    """What both backwards need, the weights `A` among it."""

    X_Q: Array        # (n_Q, D_X)
    X: Array          # (n_X, D_X)  the same array in self-attention
    W: Array          # (D_X, 3·D_X)  W_Q, W_K, W_V
    W_O: Array        # (D_X, D_X)
    Q: Array          # (B, H, N_Q, D_H)
    K: Array          # (B, H, N_X, D_H)
    V: Array          # (B, H, N_X, D_H)
    A: Array          # (B, H, N_Q, N_X)
    D: Array          # (B, H, N_Q, N_X)  A ⊙ M, the weights after dropout: A itself where nothing is dropped
    Y: Array          # (n_Q, D_X)  merged
    dropout: Any      # None where nothing is dropped
    biased: bool
    packing_Q: Packing
    packing_X: Packing


def self_attention(X: Array, p: Nested, packing: Packing, config: TransformerConfig, rng: Rng) -> tuple[Array, Cache]:
    """Return Z (n, D_X) and the cache: each token attends to the real tokens of its own row."""
    W, b = side_by_side(p)
    Q, K, V = project_heads(X, W, b, config.n_heads, packing)
    weights = attend(Q, K, V, packing, packing, config.attention_dropout, rng)
    cache = Cache(X, X, W, p["W_O"], Q, K, V, *weights, b is not None, packing, packing)
    return project(cache.Y, p["W_O"], p.get("b_O")), cache


def self_attention_backward(dZ: Array, cache: Cache) -> tuple[Array, Nested]:
    """Return dX and the gradients of the parameters; None for a bias that is not there."""
    X, W, (B, H, N, D_H) = cache.X, cache.W, cache.Q.shape
    dQKV = np.empty((B, N, 3, H, D_H), dZ.dtype)
    d_O = attend_backward(dZ, cache, dQKV[:, :, 0], dQKV[:, :, 1:])
    d = cache.packing_X.pack(dQKV).reshape(len(X), W.shape[1])                     # (n, 3·D_X)
    dW = partial(weight_gradient, X, d)
    return project(d, W.T), {"W_QKV": dW, "b_QKV": sum_rows(d) if cache.biased else None} | d_O


def cross_attention(
    X: Array, M: Array, p: Nested, packing: Packing, packing_M: Packing, config: TransformerConfig, rng: Rng
) -> tuple[Array, Cache]:
    """Return Z (n, D_X) and the cache: each token of X attends to the real tokens of M."""
    (W, b), D = side_by_side(p), X.shape[1]
    (Q,) = project_heads(X, W[:, :D], None if b is None else b[:D], config.n_heads, packing)
    K, V = project_heads(M, W[:, D:], None if b is None else b[D:], config.n_heads, packing_M)
    weights = attend(Q, K, V, packing, packing_M, config.attention_dropout, rng)
    cache = Cache(X, M, W, p["W_O"], Q, K, V, *weights, b is not None, packing, packing_M)
    return project(cache.Y, p["W_O"], p.get("b_O")), cache


def cross_attention_backward(dZ: Array, cache: Cache) -> tuple[Array, Array, Nested]:
    """Return dX, dM and the gradients of the parameters; None for a bias that is not there."""
    X, M, W, (B, H, N_Q, D_H), D = cache.X_Q, cache.X, cache.W, cache.Q.shape, cache.X.shape[1]
    dQ = np.empty((B, N_Q, H, D_H), dZ.dtype)
    dKV = np.empty((B, cache.K.shape[2], 2, H, D_H), dZ.dtype)
    d_O = attend_backward(dZ, cache, dQ, dKV)
    d, d_M = cache.packing_Q.pack(dQ).reshape(X.shape), cache.packing_X.pack(dKV).reshape(len(M), 2 * D)
    dW = partial(cross_weight_gradient, X, d, M, d_M)
    db = np.concatenate((sum_rows(d), sum_rows(d_M))) if cache.biased else None
    return project(d, W[:, :D].T), project(d_M, W[:, D:].T), {"W_QKV": dW, "b_QKV": db} | d_O


def cross_weight_gradient(X: Array, dQ: Array, M: Array, dKV: Array, out: Array | None = None) -> Array:
    """Return the gradient of W (D_X, 3·D_X): W_Q is multiplied with X, W_K and W_V are with M."""
    D = dQ.shape[1]
    dW = np.empty((D, 3 * D), dQ.dtype) if out is None else out
    weight_gradient(X, dQ, out=dW[:, :D])
    weight_gradient(M, dKV, out=dW[:, D:])
    return dW


def attend(
    Q: Array, K: Array, V: Array, packing_Q: Packing, packing_X: Packing, p: float, rng: Rng
) -> tuple[Array, Array, Array, Any]:
    """Return A and D = dropout(A), both (B, H, N_Q, N_X), Y = D V with its heads merged, (n_Q, D_X), and a cache."""
    E = Q @ K.mT                                              # (B, H, N_Q, N_X)
    E *= 1 / sqrt_width(Q)
    A = masked_softmax(E, packing_X.bias)
    D, c_dropout = (A, None) if rng is None or p == 0 else dropout(A, p, rng)
    B, H, N_Q, D_H = Q.shape
    Y = np.empty((B, N_Q, H, D_H), Q.dtype)
    np.matmul(D, V, out=Y.swapaxes(1, 2))
    return A, D, packing_Q.pack(Y.reshape(B, N_Q, H * D_H)), c_dropout


def attend_backward(dZ: Array, cache: Cache, dQ: Array, dKV: Array) -> Nested:
    """Fill dQ (B, N_Q, H, D_H) and dKV (B, N_X, 2, H, D_H), and return the gradients of W_O and b_O."""
    Q, K, V, A, D = cache.Q, cache.K, cache.V, cache.A, cache.D
    dY = cache.packing_Q.unpack(project(dZ, cache.W_O.T))     # Z = Y W_O + b_O
    dY = dY.reshape(dQ.shape).swapaxes(1, 2)                  # (B, H, N_Q, D_H)
    dA = dY @ V.mT                                            # Y = D V: dD
    np.matmul(D.mT, dY, out=dKV[:, :, 1].swapaxes(1, 2))      # Y = D V: dV
    dA = dA if cache.dropout is None else dropout_backward(dA, cache.dropout)   # D = dropout(A)
    dA -= row_sum(A * dA)  # vecdot takes twice as long       # A = softmax(E): dE = A ⊙ (dA − rowsum(A ⊙ dA))
    dE = np.multiply(dA, A, out=dA)                           # … in the memory of dA
    dE *= 1 / sqrt_width(Q)                                   # E = Q Kᵀ / √D_H: from here on dE/√D_H
    np.matmul(dE.mT, Q, out=dKV[:, :, 0].swapaxes(1, 2))      # E = Q Kᵀ / √D_H: dK
    np.matmul(dE, K, out=dQ.swapaxes(1, 2))                   # E = Q Kᵀ / √D_H: dQ
    d_O = partial(weight_gradient, cache.Y, dZ)               # Z = Y W_O + b_O
    return {"W_O": d_O, "b_O": sum_rows(dZ) if cache.biased else None}


def side_by_side(p: Nested) -> tuple[Array, Array | None]:
    """Return W_Q, W_K and W_V as one matrix (D_X, 3·D_X), and their biases as one vector or None."""
    W, b = p.get("W_QKV"), p.get("b_QKV")
    if W is None:
        W = np.concatenate([p[f"W_{name}"] for name in "QKV"], 1)
        b = np.concatenate([p[f"b_{name}"] for name in "QKV"]) if "b_Q" in p else None
    return W, b


def project_heads(X: Array, W: Array, b: Array | None, n_heads: int, packing: Packing) -> Array:
    """X W + b cut into heads: (n, D_X) and (D_X, k·D_X) give (k, B, H, N, D_H), a view."""
    k, D_H = W.shape[1] // X.shape[1], X.shape[1] // n_heads
    return packing.unpack_repeated(project(X, W, b)).reshape(*packing.shape, k, n_heads, D_H).transpose(2, 0, 3, 1, 4)
