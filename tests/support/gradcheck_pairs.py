"""Correct forward/backward pairs that use nothing of npattn, and two helpers for the tests of the checker."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from npattn.gradcheck import GradientError, GradientReport, check_gradients
from npattn.gradcheck.numeric import Loss
from npattn.gradcheck.pair import PairUnderTest


class Example(NamedTuple):
    """A forward, its backward, and arguments to call them with."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    args: tuple[Any, ...]


def softmax(E):
    A = np.exp(E - E.max(axis=-1, keepdims=True))
    A = A / A.sum(axis=-1, keepdims=True)
    return A, A


def softmax_backward(dA, A):
    return A * (dA - (A * dA).sum(axis=-1, keepdims=True))


def linear(X, W, b=None):
    return X @ W if b is None else X @ W + b, (X, W, b)


def linear_backward(dY, cache):
    X, W, b = cache
    return dY @ W.T, X.T @ dY, None if b is None else dY.sum(axis=0)


def layer_norm(X, gamma, beta, eps=1e-5):
    centred = X - X.mean(axis=-1, keepdims=True)
    inverse = 1 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)
    N = centred * inverse
    return N * gamma + beta, (N, inverse, gamma)


def layer_norm_backward(dY, cache):
    N, inverse, gamma = cache
    dN = dY * gamma
    dX = inverse * (dN - dN.mean(axis=-1, keepdims=True) - N * (dN * N).mean(axis=-1, keepdims=True))
    return dX, (dY * N).sum(axis=0), dY.sum(axis=0)


def embedding(ids, W_E):
    return W_E[ids], (ids, W_E.shape)


def embedding_backward(dY, cache):
    ids, shape = cache
    dW_E = np.zeros(shape, dY.dtype)
    np.add.at(dW_E, ids, dY)
    return dW_E


def tanh_backward(dY, X):
    return dY * (1 - np.tanh(X) ** 2)


def relu(X):
    return np.where(X.real > 0, X, 0), X


def relu_backward(dY, X):
    return np.where(X > 0, dY, 0)


def cross_entropy(logits, targets):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    sums = np.exp(shifted).sum(axis=-1, keepdims=True)
    losses = np.log(sums[:, 0]) - shifted[np.arange(len(targets)), targets]
    return losses.mean(), (np.exp(shifted) / sums, targets)


def cross_entropy_backward(dloss, cache):
    A, targets = cache
    dlogits = A.copy()
    dlogits[np.arange(len(targets)), targets] -= 1
    return dlogits * (dloss / len(targets))


def attention(Q, X, mask=None):
    E = Q @ X.T / math.sqrt(Q.shape[-1])
    A, _ = softmax(E if mask is None else np.where(mask, E, -np.inf))
    return A @ X, (Q, X, A)


def attention_backward(dY, cache):
    Q, X, A = cache
    dE = softmax_backward(dY @ X.T, A) / math.sqrt(Q.shape[-1])
    return dE @ X, A.T @ dY + dE.T @ Q


def key_value_attention(X, params):
    """Self-attention whose key bias has no effect: its gradient is zero in mathematics and noise in numbers."""
    keys, key_cache = linear(X, params["W_K"], params["b_K"])
    A, _ = softmax(X @ keys.T)
    values, value_cache = linear(X, params["W_V"])
    return A @ values, (X, keys, A, values, key_cache, value_cache)


def key_value_attention_backward(dY, cache):
    X, keys, A, values, key_cache, value_cache = cache
    dE = softmax_backward(dY @ values.T, A)
    dX_of_keys, dW_K, db_K = linear_backward(dE.T @ X, key_cache)
    dX_of_values, dW_V, _ = linear_backward(A.T @ dY, value_cache)
    return dE @ keys + dX_of_keys + dX_of_values, {"W_K": dW_K, "b_K": db_K, "W_V": dW_V}


class Tower:
    """A stack of residual attention layers. It counts its forward calls."""

    def __init__(self, n_layers: int, d: int, rng: np.random.Generator) -> None:
        self.n_layers, self.calls = n_layers, 0
        self.params = {}
        for i in range(n_layers):
            self.params |= {f"{i}.{name}": rng.standard_normal((d, d)) / d**0.5 for name in ("W_K", "W_V")}
            self.params |= {f"{i}.{name}": rng.standard_normal(d) for name in ("b_K", "gamma", "beta")}

    def forward(self, X, params):
        self.calls += 1
        caches = []
        for i in range(self.n_layers):
            layer = {name: params[f"{i}.{name}"] for name in ("W_K", "b_K", "W_V")}
            Y, attention_cache = key_value_attention(X, layer)
            X, norm_cache = layer_norm(X + Y, params[f"{i}.gamma"], params[f"{i}.beta"])
            caches.append((attention_cache, norm_cache))
        return X, caches

    def backward(self, dX, caches):
        grads = {}
        for i, (attention_cache, norm_cache) in reversed(list(enumerate(caches))):
            dX, grads[f"{i}.gamma"], grads[f"{i}.beta"] = layer_norm_backward(dX, norm_cache)
            dX_attention, layer = key_value_attention_backward(dX, attention_cache)
            grads |= {f"{i}.{name}": gradient for name, gradient in layer.items()}
            dX = dX + dX_attention
        return dX, grads


def random_pair(kind: str, rng: np.random.Generator, scale: float = 1.0) -> Example:
    """Return a pair with random arguments. All its axes have different lengths."""
    n, d, k = (int(size) for size in rng.permutation([2, 3, 4]))

    def draw(*shape: int) -> np.ndarray:
        return scale * rng.standard_normal(shape)

    match kind:
        case "softmax":
            return Example(softmax, softmax_backward, (draw(n, d),))
        case "linear":
            return Example(linear, linear_backward, (draw(n, d), draw(d, k), draw(k)))
        case "layer_norm":
            return Example(layer_norm, layer_norm_backward, (draw(n, d), draw(d), draw(d)))
        case "embedding":
            return Example(embedding, embedding_backward, (rng.integers(0, k, (d, 2)), draw(k, n)))
        case "relu":
            return Example(relu, relu_backward, (draw(n, d),))
        case "cross_entropy":
            return Example(cross_entropy, cross_entropy_backward, (draw(n, d), rng.integers(0, d, n)))
        case "attention":
            return Example(attention, attention_backward, (draw(n, d), draw(k, d)))
        case "key_value_attention":
            params = {"W_K": draw(d, d), "b_K": draw(d), "W_V": draw(d, k)}
            return Example(key_value_attention, key_value_attention_backward, (draw(n, d), params))
    raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind}")


KINDS = (
    "softmax",
    "linear",
    "layer_norm",
    "embedding",
    "relu",
    "cross_entropy",
    "attention",
    "key_value_attention",
)


def failing_report(
    forward: Callable[..., Any], backward: Callable[..., Any], args: tuple[Any, ...], **options: Any
) -> GradientReport:
    """Return the report of a check that must fail."""
    with pytest.raises(GradientError) as error:
        check_gradients(forward, backward, args, **options)
    assert not error.value.report.ok
    return error.value.report


def loss_of(function: Callable[..., Any], *values: Any) -> Loss:
    """Return Σ y(x) as a Loss."""
    values = tuple(np.asarray(value, float) for value in values)
    pair = PairUnderTest(lambda *xs: (function(*xs), None), lambda dy, cache: (None,) * len(values), values, {})
    return Loss(pair, values, np.ones(np.size(function(*values))))
