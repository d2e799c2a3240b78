"""Layers in NumPy alone, each right and with faults, to measure what a gradient checker finds.

Every layer is a pair of functions of float arrays only, ``forward(*args) -> (y, cache)`` with one array y, and
``backward(dy, cache)`` with a tuple of gradients. So other packages can check the same faults.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

IDS = np.array([2, 0, 2, 1, 2])
KEEP = np.array([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 1]]) / 0.75


class Layer(NamedTuple):
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    shapes: Sequence[tuple[int, ...]]

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        return tuple(rng.standard_normal(shape) for shape in self.shapes)


def _softmax(E, axis=-1):
    A = np.exp(E - E.real.max(axis=axis, keepdims=True))
    return A / A.sum(axis=axis, keepdims=True)


def _softmax_backward(dA, A, axis=-1):
    return A * (dA - (A * dA).sum(axis=axis, keepdims=True))


def _logsumexp(E):
    top = E.real.max(-1, keepdims=True)
    return np.log(np.exp(E - top).sum(-1)) + top[..., 0]


def _map(f, slope, shape=(3, 4)):
    return Layer(lambda x: (f(x), x), lambda dy, x: (dy * slope(x),), [shape])


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _norm(N, dN, inverse):
    return inverse * (dN - dN.mean(-1, keepdims=True) - N * (dN * N).mean(-1, keepdims=True))


def layer_norm(X, gamma, beta):
    C = X - X.mean(-1, keepdims=True)
    inverse = 1 / np.sqrt((C * C).mean(-1, keepdims=True) + 1e-5)
    return C * inverse * gamma + beta, (C * inverse, inverse, gamma)


def layer_norm_backward(dY, cache):
    N, inverse, gamma = cache
    return _norm(N, dY * gamma, inverse), (dY * N).sum(0), dY.sum(0)


def batch_norm(X, gamma, beta):
    y, (N, inverse, _) = layer_norm(X.T, 1.0, 0.0)
    return y.T * gamma + beta, (N, inverse, gamma)


def batch_norm_backward(dY, cache):
    N, inverse, gamma = cache
    return _norm(N, (dY * gamma).T, inverse).T, (dY * N.T).sum(0), dY.sum(0)


def rms_norm(X, gamma):
    inverse = 1 / np.sqrt((X * X).mean(-1, keepdims=True) + 1e-5)
    return X * inverse * gamma, (X, inverse, gamma)


def rms_norm_backward(dY, cache):
    X, inverse, gamma = cache
    dN = dY * gamma
    return inverse * (dN - X * inverse**2 * (dN * X).mean(-1, keepdims=True)), (dY * X * inverse).sum(0)


def attention(Q, K, V):
    A = _softmax(Q @ K.T / math.sqrt(Q.shape[-1]))
    return A @ V, (Q, K, V, A)


def attention_backward(dY, cache):
    Q, K, V, A = cache
    dE = _softmax_backward(dY @ V.T, A) / math.sqrt(Q.shape[-1])
    return dE @ K, dE.T @ Q, A.T @ dY


def self_attention(X, W):
    E = X @ W @ X.T
    A = _softmax(E)
    return A @ X, (X, W, A)


def self_attention_backward(dY, cache):
    X, W, A = cache
    dE = _softmax_backward(dY @ X.T, A)
    return A.T @ dY + dE @ X @ W.T + dE.T @ X @ W, X.T @ dE @ X


def embedding_backward(dY, W_E):
    dW_E = np.zeros(W_E.shape)
    np.add.at(dW_E, IDS, dY)
    return (dW_E,)


def cross_entropy(logits):
    A = _softmax(logits)
    return -np.log(A[np.arange(5), IDS]).mean(), A


def cross_entropy_backward(dloss, A):
    return ((A - np.eye(A.shape[1])[IDS]) * (dloss / len(IDS)),)


def convolution(x, w):
    n, k = len(x), len(w)
    return np.array([x[i : i + k] @ w for i in range(n - k + 1)]), (x, w)


def convolution_backward(dy, cache):
    x, w = cache
    dx, k = np.zeros(len(x)), len(w)
    for i, each in enumerate(dy):
        dx[i : i + k] += each * w
    return dx, np.array([dy @ x[i : i + len(dy)] for i in range(k)])


def recurrent(X, W, U):
    h, states = np.zeros(U.shape[0], X.dtype), []
    for x in X:
        h = np.tanh(x @ W + h @ U)
        states.append(h)
    return h * 1.0, (X, W, U, states)


def recurrent_backward(dh, cache):
    X, W, U, states = cache
    dX, dW, dU = np.zeros(X.shape), np.zeros(W.shape), np.zeros(U.shape)
    for t in reversed(range(len(X))):
        dz = dh * (1 - states[t] ** 2)
        dX[t], dW = dz @ W.T, dW + np.outer(X[t], dz)
        if t:
            dU = dU + np.outer(states[t - 1], dz)
        dh = dz @ U.T
    return dX, dW, dU


def unit_rows(X):
    n = np.sqrt((X * X).sum(-1, keepdims=True))
    return X / n, (X / n, n)


def unit_rows_backward(dY, cache):
    Y, n = cache
    return ((dY - Y * (dY * Y).sum(-1, keepdims=True)) / n,)


def max_backward(dy, X):
    return ((X.max(-1, keepdims=True) == X) * dy[:, None],)


def heads(X, W):
    """Two heads of width 2, merged again."""
    H = np.tanh(X @ W).reshape(3, 2, 2).swapaxes(0, 1)
    return (H * np.array([1.0, 2.0])[:, None, None]).swapaxes(0, 1).reshape(3, 4), (X, W, H)


def heads_backward(dY, cache):
    X, W, H = cache
    dH = dY.reshape(3, 2, 2).swapaxes(0, 1) * np.array([1.0, 2.0])[:, None, None]
    dZ = (dH * (1 - H * H)).swapaxes(0, 1).reshape(3, 4)
    return dZ @ W.T, X.T @ dZ


def _linear_backward(dY, cache):
    X, W, _ = cache
    return dY @ W.T, X.T @ dY, dY.sum(0)


LAYERS: dict[str, Layer] = {
    "linear": Layer(lambda X, W, b: (X @ W + b, (X, W, b)), _linear_backward, [(5, 3), (3, 4), (4,)]),
    "square": Layer(lambda X, W: (X @ W, (X, W)), lambda dY, c: (dY @ c[1].T, c[0].T @ dY), [(5, 4), (4, 4)]),
    "bilinear": Layer(lambda x, A: ((x @ A @ x), (x, A)), lambda d, c: (d * (c[1] + c[1].T) @ c[0],
        d * np.outer(c[0], c[0])), [(4,), (4, 4)]),
    "softmax": Layer(lambda E: (_softmax(E),) * 2, lambda dA, A: (_softmax_backward(dA, A),), [(3, 4)]),
    "softmax of columns": Layer(lambda E: (_softmax(E, 0),) * 2, lambda dA, A: (_softmax_backward(dA, A, 0),),
        [(3, 4)]),
    "log softmax": Layer(lambda E: (np.log(_softmax(E)), E),
        lambda dY, E: (dY - _softmax(E) * dY.sum(-1, keepdims=True),), [(3, 4)]),
    "logsumexp": Layer(lambda E: (_logsumexp(E), E), lambda d, E: (d[:, None] * _softmax(E),), [(3, 4)]),
    "layer norm": Layer(layer_norm, layer_norm_backward, [(3, 4), (4,), (4,)]),
    "batch norm": Layer(batch_norm, batch_norm_backward, [(5, 3), (3,), (3,)]),
    "rms norm": Layer(rms_norm, rms_norm_backward, [(3, 4), (4,)]),
    "unit rows": Layer(unit_rows, unit_rows_backward, [(3, 4)]),
    "relu": _map(lambda x: np.where(x.real > 0, x, 0), lambda x: x > 0),
    "abs": _map(np.abs, np.sign),
    "tanh": _map(np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "sigmoid": _map(_sigmoid, lambda x: _sigmoid(x) * (1 - _sigmoid(x))),
    "swish": _map(lambda x: x * _sigmoid(x), lambda x: _sigmoid(x) * (1 + x * (1 - _sigmoid(x)))),
    "square root": _map(lambda x: np.sqrt(1 + x * x), lambda x: x / np.sqrt(1 + x * x)),
    "attention": Layer(attention, attention_backward, [(3, 4), (5, 4), (5, 2)]),
    "self-attention": Layer(self_attention, self_attention_backward, [(4, 3), (3, 3)]),
    "embedding": Layer(lambda W_E: (W_E[IDS], W_E), embedding_backward, [(4, 3)]),
    "cross-entropy": Layer(cross_entropy, cross_entropy_backward, [(5, 4)]),
    "squared error": Layer(lambda X, Y: (((X - Y) ** 2).mean(), (X, Y)),
        lambda d, c: (d * 2 * (c[0] - c[1]) / c[0].size, d * 2 * (c[1] - c[0]) / c[0].size), [(3, 4), (3, 4)]),
    "convolution": Layer(convolution, convolution_backward, [(8,), (3,)]),
    "recurrent": Layer(recurrent, recurrent_backward, [(3, 2), (2, 4), (4, 4)]),
    "dropout": Layer(lambda X: (X * KEEP, None), lambda dY, _: (dY * KEEP,), [(3, 4)]),
    "maximum": Layer(lambda X: (np.take_along_axis(X, X.real.argmax(-1)[:, None], -1)[:, 0], X), max_backward,
        [(3, 4)]),
    "mean": Layer(lambda X: (X.mean(0), X), lambda d, X: (np.tile(d / len(X), (len(X), 1)),), [(5, 3)]),
    "cumulative sum": Layer(lambda X: (X.cumsum(0), X), lambda d, X: (d[::-1].cumsum(0)[::-1].copy(),), [(5, 3)]),
    "gated": Layer(lambda X, G: (X * _sigmoid(G), (X, _sigmoid(G))),
        lambda d, c: (d * c[1], d * c[0] * c[1] * (1 - c[1])), [(3, 4), (3, 4)]),
    "residual": Layer(lambda X, W: (X + np.tanh(X @ W), (X, W, np.tanh(X @ W))),
        lambda d, c: (d + (d * (1 - c[2] ** 2)) @ c[1].T, c[0].T @ (d * (1 - c[2] ** 2))), [(3, 4), (4, 4)]),
    "outer product": Layer(lambda a, b: (np.outer(a, b), (a, b)), lambda d, c: (d @ c[1], c[0] @ d), [(3,), (4,)]),
    "heads": Layer(heads, heads_backward, [(3, 4), (4, 4)]),
    "variance": Layer(lambda X: (((X - X.mean(-1, keepdims=True)) ** 2).mean(-1), X),
        lambda d, X: (d[:, None] * 2 * (X - X.mean(-1, keepdims=True)) / X.shape[-1],), [(3, 4)]),
}  # fmt: skip


class Fault(NamedTuple):
    """A layer with a wrong backward, at arguments that may hide it."""

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    draw: Callable[[np.random.Generator], tuple[np.ndarray, ...]]


def _entry(g):
    changed = np.array(g, float)
    changed.flat[np.argmax(abs(changed))] *= 1.01
    return changed


#: Faults that any layer can have, as changes of its first gradient.
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "the sign": lambda g: -g,
    "a factor of 1 + 1e-5": lambda g: g * (1 + 1e-5),
    "one entry by a hundredth": _entry,
    "zeros": np.zeros_like,
    "twice": lambda g: 2 * g,
}


def _changed(backward, change):
    return lambda dy, cache: (change(backward(dy, cache)[0]), *backward(dy, cache)[1:])


def _own(layer: str, name: str, backward, draw=None) -> Fault:
    return Fault(f"{layer}: {name}", LAYERS[layer].forward, backward, draw or LAYERS[layer].draw)


def _symmetric(rng):
    A = rng.standard_normal((4, 4))
    return rng.standard_normal((5, 4)), A + A.T


def _orthogonal(rng):
    return rng.standard_normal((5, 4)), np.linalg.qr(rng.standard_normal((4, 4)))[0]


def _faults() -> list[Fault]:
    found = [
        Fault(f"{name}: {what}", layer.forward, _changed(layer.backward, change), layer.draw)
        for name, layer in LAYERS.items()
        for what, change in CHANGES.items()
    ]
    square, norm = (LAYERS[name].backward for name in ("square", "layer norm"))
    ones = lambda shape: lambda rng: (np.ones(shape),)  # noqa: E731
    return [
        *found,
        _own("square", "dY X for Xᵀ dY, dY drawn as X", lambda d, c: (d @ c[1].T, d.T @ c[0])),
        _own("square", "dY W for dY Wᵀ", lambda d, c: (d @ c[1], square(d, c)[1])),
        _own("square", "the same at a symmetric W", lambda d, c: (d @ c[1], square(d, c)[1]), _symmetric),
        _own("square", "W⁻¹ for Wᵀ at an orthogonal W", lambda d, c: (d @ np.linalg.inv(c[1]), square(d, c)[1]),
             _orthogonal),
        _own("square", "no W at the identity", lambda d, c: (d * 1.0, square(d, c)[1]),
             lambda rng: (rng.standard_normal((5, 4)), np.eye(4))),
        _own("square", "W for Wᵀ at W = 0", lambda d, c: (d @ c[1], square(d, c)[1]),
             lambda rng: (rng.standard_normal((5, 4)), np.zeros((4, 4)))),
        _own("square", "the mean of the batch", lambda d, c: (square(d, c)[0], square(d, c)[1] / 5)),
        _own("bilinear", "one of two terms", lambda d, c: (d * c[1] @ c[0], d * np.outer(c[0], c[0]))),
        _own("bilinear", "2Ax at a symmetric A", lambda d, c: (2 * d * c[1] @ c[0], d * np.outer(c[0], c[0])),
             lambda rng: (rng.standard_normal(4), (lambda A: A + A.T)(rng.standard_normal((4, 4))))),
        _own("linear", "no sum of the rows but the first", lambda d, c: (*_linear_backward(d, c)[:2], d[0].copy())),
        _own("linear", "the bias for the row sum, constant X", lambda d, c: (d @ c[1].T, c[0][:1].T @ d.sum(0)[None],
             d.sum(0)), lambda rng: (np.ones((5, 3)), rng.standard_normal((3, 4)), np.zeros(4))),
        _own("softmax", "no row sum", lambda d, A: (A * d,)),
        _own("softmax", "the diagonal only", lambda d, A: (A * (1 - A) * d,)),
        _own("softmax", "the sum over the wrong axis", lambda d, A: (_softmax_backward(d, A, 0),)),
        _own("softmax", "the mean for the sum", lambda d, A: (A * (d - (A * d).mean(-1, keepdims=True)),)),
        _own("softmax", "1/n for A at equal scores", lambda d, A: ((d - d.mean(-1, keepdims=True)) / 4,), ones((3, 4))),
        _own("log softmax", "no sum", lambda d, E: (d - _softmax(E),)),
        _own("log softmax", "the diagonal only", lambda d, E: (d * (1 - _softmax(E)),)),
        _own("logsumexp", "1/n at equal scores", lambda d, E: (np.tile(d[:, None] / 4, (1, 4)),), ones((3, 4))),
        _own("layer norm", "no mean of dN", lambda d, c: (c[1] * (d * c[2] - c[0] * (d * c[2] * c[0]).mean(-1,
             keepdims=True)), *norm(d, c)[1:])),
        _own("layer norm", "no projection on N", lambda d, c: (c[1] * (d * c[2] - (d * c[2]).mean(-1, keepdims=True)),
             *norm(d, c)[1:])),
        _own("layer norm", "γ outside, at γ = 1", lambda d, c: (c[2] * _norm(c[0], d, c[1]), *norm(d, c)[1:]),
             lambda rng: (rng.standard_normal((3, 4)), np.ones(4), np.zeros(4))),
        _own("layer norm", "γ left out, at γ = 1", lambda d, c: (_norm(c[0], d, c[1]), *norm(d, c)[1:]),
             lambda rng: (rng.standard_normal((3, 4)), np.ones(4), np.zeros(4))),
        _own("layer norm", "dβ for dγ", lambda d, c: (norm(d, c)[0], d.sum(0), d.sum(0))),
        _own("rms norm", "no projection", lambda d, c: (c[1] * d * c[2], (d * c[0] * c[1]).sum(0))),
        _own("unit rows", "no projection", lambda d, c: (d / c[1],)),
        _own("unit rows", "not divided by the length, at unit rows", lambda d, c: (
             d - c[0] * (d * c[0]).sum(-1, keepdims=True),), lambda rng: (unit_rows(rng.standard_normal((3, 4)))[0],)),
        _own("relu", "zero at dead inputs", lambda d, X: (0 * d,), lambda rng: (-abs(rng.standard_normal((3, 4))),)),
        _own("relu", "the gradient of leaky relu", lambda d, X: (np.where(X > 0, d, 0.01 * d),)),
        _own("relu", "its output for its input, at 0 and 1", lambda d, X: (d * X,), lambda rng: (
             (rng.random((3, 4)) < 0.5) * 1.0,)),
        _own("abs", "zero", lambda d, X: (0 * d,)),
        _own("abs", "x for sign x, at ±1", lambda d, X: (d * X,), lambda rng: (rng.choice([-1.0, 1.0], (3, 4)),)),
        _own("tanh", "1 − x² for 1 − y²", lambda d, X: (d * (1 - X * X),)),
        _own("tanh", "1 at 0", lambda d, X: (d * 1.0,), lambda rng: (np.zeros((3, 4)),)),
        _own("tanh", "clipped cotangents", lambda d, X: (np.clip(d, -3, 3) * (1 - np.tanh(X) ** 2),)),
        _own("sigmoid", "¼ at 0", lambda d, X: (d / 4,), lambda rng: (np.zeros((3, 4)),)),
        _own("attention", "no 1/√D", lambda d, c: (*(2 * g for g in attention_backward(d, c)[:2]), c[3].T @ d)),
        _own("attention", "A for Aᵀ", lambda d, c: (*attention_backward(d, c)[:2], c[3][:, :3] @ d @ np.eye(2)),
             lambda rng: (rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), rng.standard_normal((3, 2)))),
        _own("self-attention", "one use of X forgotten", lambda d, c: (c[2].T @ d, self_attention_backward(d, c)[1])),
        _own("self-attention", "dE for dEᵀ", lambda d, c: (
             self_attention_backward(d, (c[0], c[1].T, c[2]))[0], self_attention_backward(d, c)[1])),
        _own("embedding", "repeats counted once", lambda d, W: ((lambda g: (g.__setitem__(IDS, d), g)[1])(
             np.zeros(W.shape)),)),
        _own("cross-entropy", "not divided by the batch", lambda d, A: (5 * cross_entropy_backward(d, A)[0],)),
        _own("cross-entropy", "the cotangent ignored", lambda d, A: (cross_entropy_backward(1.0, A)[0],)),
        _own("convolution", "not flipped", lambda d, c: (convolution_backward(d, (c[0], c[1][::-1]))[0],
             convolution_backward(d, c)[1])),
        _own("convolution", "flipped, at a symmetric w", lambda d, c: (convolution_backward(d, (c[0], c[1][::-1]))[0],
             convolution_backward(d, c)[1]), lambda rng: (rng.standard_normal(8), np.array([1.0, 2.0, 1.0]))),
        _own("recurrent", "the last step only", lambda d, c: (recurrent_backward(d, c)[0], np.outer(c[0][-1], d * (
             1 - c[3][-1] ** 2)), recurrent_backward(d, c)[2])),
        _own("dropout", "not scaled", lambda d, _: (d * (KEEP > 0),)),
        _own("maximum", "every tie", lambda d, X: (d[:, None] * (X.max(-1, keepdims=True) - 2.0 <= X),)),
        _own("mean", "not divided", lambda d, X: (np.tile(d, (len(X), 1)),)),
        _own("cumulative sum", "in the wrong direction", lambda d, X: (d.cumsum(0),)),
        _own("gated", "the slope at 0 of the gate", lambda d, c: (d * c[1], d * c[0] / 4),
             lambda rng: (rng.standard_normal((3, 4)), np.zeros((3, 4)))),
        _own("residual", "the residual forgotten", lambda d, c: (LAYERS["residual"].backward(d, c)[0] - d,
             LAYERS["residual"].backward(d, c)[1])),
        _own("heads", "not merged", lambda d, c: (LAYERS["heads"].backward(d, c)[0], c[0].T @ (
             d.reshape(3, 2, 2).swapaxes(0, 1) * np.array([1.0, 2.0])[:, None, None] * (1 - c[2] ** 2)).reshape(3, 4))),
        _own("variance", "n − 1 for n", lambda d, X: (LAYERS["variance"].backward(d, X)[0] * 4 / 3,)),
        _own("outer product", "a for b at equal vectors", lambda d, c: (d @ c[0], c[0] @ d),
             lambda rng: (np.ones(4),) * 2),
    ]  # fmt: skip


FAULTS = _faults()

#: The same by attributes, for the command line: support.planted_faults:F12.forward
for _number, _fault in enumerate(FAULTS):
    globals()[f"F{_number}"] = SimpleNamespace(**_fault._asdict())
