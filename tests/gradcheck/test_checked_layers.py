"""Layers as users write them, from convolution to LSTM, each with a right and a subtly wrong backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from npattn.gradcheck import GradientError, check_gradients
from support.gradcheck_pairs import softmax, softmax_backward

rng = np.random.default_rng(1)
N = rng.standard_normal


class Layer(NamedTuple):
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    wrong: Callable[..., Any]
    args: tuple[Any, ...]
    is_safe: bool = True  # for complex numbers


def scaled(backward: Callable[..., Any], factor: float, which: int = -1) -> Callable[..., Any]:
    """Return a backward with one gradient multiplied by a factor."""

    def wrong(dy, cache):
        gradients = list(backward(dy, cache))
        gradients[which] = gradients[which] * factor
        return tuple(gradients)

    return wrong


def convolution(X, W, b):
    windows = np.lib.stride_tricks.sliding_window_view(X, 3, axis=-1)
    return np.einsum("bcnk,ock->bon", windows, W) + b[:, None], (X, W)


def convolution_backward(dY, cache):
    X, W = cache
    dX, dW = np.zeros_like(X), np.zeros_like(W)
    for k in range(3):
        dX[:, :, k : k + 7] += np.einsum("bon,oc->bcn", dY, W[:, :, k])
        dW[:, :, k] = np.einsum("bon,bcn->oc", dY, X[:, :, k : k + 7])
    return dX, dW, dY.sum((0, 2))


def batch_norm(X, gamma, beta):
    inverse = 1 / np.sqrt(X.var(0) + 1e-5)
    normal = (X - X.mean(0)) * inverse
    return normal * gamma + beta, (normal, inverse, gamma)


def batch_norm_backward(dY, cache):
    normal, inverse, gamma = cache
    d = dY * gamma
    return inverse * (d - d.mean(0) - normal * (d * normal).mean(0)), (dY * normal).sum(0), dY.sum(0)


def batch_norm_of_constants(dY, cache):
    """Treat mean and variance as constants, as in evaluation."""
    normal, inverse, gamma = cache
    return dY * gamma * inverse, (dY * normal).sum(0), dY.sum(0)


def lstm(x, h, c, W, b):
    i, f, o, g = np.split(np.concatenate([x, h], 1) @ W + b, 4, axis=1)
    i, f, o = (1 / (1 + np.exp(-z)) for z in (i, f, o))
    g = np.tanh(g)
    new = f * c + i * g
    return (o * np.tanh(new), new), (x, h, c, W, i, f, o, g, new)


def lstm_backward(dy, cache, keeps=1.0):
    dh, dnew = dy
    x, h, c, W, i, f, o, g, new = cache
    t = np.tanh(new)
    dnew = keeps * dnew + dh * o * (1 - t * t)
    gates = dnew * g * i * (1 - i), dnew * c * f * (1 - f), dh * t * o * (1 - o), dnew * i * (1 - g * g)
    dz = np.concatenate(gates, axis=1)
    dxh = dz @ W.T
    return dxh[:, :3].copy(), dxh[:, 3:].copy(), dnew * f, np.concatenate([x, h], 1).T @ dz, dz.sum(0)


def gather(X, ids):
    return X[ids] ** 2, (X, ids)


def gather_backward(dY, cache):
    X, ids = cache
    dX = np.zeros_like(X)
    np.add.at(dX, ids, 2 * X[ids] * dY)
    return dX


def gather_loses_repeats(dY, cache):
    X, ids = cache
    dX = np.zeros_like(X)
    dX[ids] = 2 * X[ids] * dY
    return dX


def running_sum(X):
    return np.cumsum(X, axis=-1) ** 2, np.cumsum(X, axis=-1)


def running_sum_backward(dY, S):
    return np.cumsum((2 * S * dY)[:, ::-1], axis=-1)[:, ::-1].copy()


def ranked(X):
    return np.sort(X, axis=-1) * np.arange(1.0, 7), X.argsort(-1)


def ranked_backward(dY, order):
    dX = np.empty_like(dY)
    np.put_along_axis(dX, order, dY * np.arange(1.0, 7), -1)
    return dX


def max_pool(X):
    pairs = X.reshape(2, 4, 2)
    return pairs.max(-1), pairs.argmax(-1)


def max_pool_backward(dY, places, factor=1.0):
    dX = np.zeros((2, 4, 2))
    np.put_along_axis(dX, places[..., None], factor * dY[..., None], -1)
    return dX.reshape(2, 8)


def laplace_softmax(E):
    A, _ = softmax(-np.abs(E))
    return A, (E, A)


def tempered(E, T):
    A, _ = softmax(E / T)
    return A, (E, T, A)


def tempered_backward(dA, cache):
    E, T, A = cache
    dZ = softmax_backward(dA, A)
    return dZ / T, -np.sum(dZ * E) / T**2


def tempered_forgets(dA, cache):
    return tempered_backward(dA, cache)[0], -np.sum(softmax_backward(dA, cache[2]) * cache[0]) / cache[1]


def huber(p, t):
    d = p - t
    return np.where(abs(d) < 1, d * d / 2, abs(d) - 0.5).mean(), d


def huber_backward(dloss, d):
    dp = np.where(abs(d) < 1, d, np.sign(d)) * dloss / d.size
    return dp, -dp


def log_sum_exp(E):
    """Sum over the keys up to the row's own; the others are −∞."""
    Z = np.where(np.tri(3, 5, dtype=bool), E, -np.inf)
    largest = Z.real.max(-1, keepdims=True)
    S = np.exp(Z - largest)
    return np.log(S.sum(-1)) + largest[:, 0], S / S.sum(-1, keepdims=True)


def spectrum(X):
    F = np.fft.rfft(X)
    return F.real**2 + F.imag**2, F


def spectrum_backward(dY, F):
    full = np.zeros((3, 8), complex)
    full[:, :5] = 2 * F * dY
    return 8 * np.fft.ifft(full).real


def inverse(X):
    return np.linalg.inv(X), np.linalg.inv(X)


def median(X):
    return np.median(X, axis=-1), X


def median_backward(dy, X):
    dX = np.zeros_like(X)
    np.put_along_axis(dX, X.argsort(-1)[:, 2:3], dy[:, None], -1)
    return dX


def shifted(X, b):
    return np.tanh(X + b), np.tanh(X + b)


def shifted_backward(dY, Y):
    dZ = dY * (1 - Y * Y)
    return dZ, dZ.sum((0, 2))[:, None]


LAYERS = {
    "convolution": Layer(
        convolution, convolution_backward, scaled(convolution_backward, 1.0005, 1),
        (N((2, 3, 9)), N((4, 3, 3)), N(4)),
    ),
    "batch norm with var": Layer(
        batch_norm, batch_norm_backward, batch_norm_of_constants, (3 * N((7, 3)) + 5, N(3), N(3)), is_safe=False
    ),
    "LSTM cell, two outputs": Layer(
        lstm, lstm_backward, lambda dy, cache: lstm_backward(dy, cache, keeps=0.0),
        (N((2, 3)), N((2, 4)), N((2, 4)), N((7, 16)), N(16)),
    ),
    "gather and scatter": Layer(gather, gather_backward, gather_loses_repeats, (N((6, 3)), np.array([0, 2, 2, 5, 1]))),
    "cumulative sum": Layer(
        running_sum, running_sum_backward, lambda dY, S: np.cumsum(2 * S * dY, -1), (N((3, 6)),)
    ),
    "sort": Layer(
        ranked, ranked_backward, lambda dY, order: np.take_along_axis(dY * np.arange(1.0, 7), order, -1), (N((3, 6)),)
    ),
    "max-pool with ties": Layer(
        max_pool, max_pool_backward, lambda dY, places: max_pool_backward(dY, places, 1.0001), (N((2, 8)).round(),)
    ),
    "abs in a softmax": Layer(
        laplace_softmax, lambda dA, c: -np.sign(c[0]) * softmax_backward(dA, c[1]),
        lambda dA, c: softmax_backward(dA, c[1]), (N((3, 5)),), is_safe=False,
    ),
    "softmax with a temperature": Layer(tempered, tempered_backward, tempered_forgets, (N((3, 5)), np.array(0.7))),
    "a cold softmax": Layer(tempered, tempered_backward, tempered_forgets, (N((3, 5)), np.array(0.1))),
    "huber, a scalar": Layer(huber, huber_backward, scaled(huber_backward, 6.0), (N(6), N(6)), is_safe=False),
    "log-sum-exp behind a mask": Layer(
        log_sum_exp, lambda dy, A: A * dy[:, None], lambda dy, A: (A + 1e-6) * dy[:, None], (N((3, 5)),)
    ),
    "spectrum": Layer(
        spectrum, spectrum_backward, lambda dY, F: 8 * np.fft.irfft(2 * F * dY, 8), (N((3, 8)),), is_safe=False
    ),
    "inverse": Layer(inverse, lambda dY, Y: -Y.T @ dY @ Y.T, lambda dY, Y: -Y @ dY @ Y, (N((3, 3)),)),
    "median": Layer(median, median_backward, lambda dy, X: dy[:, None] * np.full(X.shape, 0.2), (N((3, 5)),)),
    "broadcast bias": Layer(
        shifted, shifted_backward, lambda dY, Y: (dY * (1 - Y * Y), (dY * (1 - Y * Y)).sum(0)),
        (N((4, 5, 3)), N((5, 1))),
    ),
    "two numbers": Layer(
        lambda a, b: (a * np.exp(b), (a, b)), lambda dy, c: (dy * np.exp(c[1]), dy * c[0] * np.exp(c[1])),
        lambda dy, c: (dy * np.exp(c[1]), dy * np.exp(c[1])), (np.array(1.3), np.array(-0.4)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("method", ["auto", "central-difference"])
@pytest.mark.parametrize("name", LAYERS)
def test_right_passes_and_subtly_wrong_fails(name, method):
    layer = LAYERS[name]
    report = check_gradients(layer.forward, layer.backward, layer.args, method=method)
    assert report.ok and "wrong" not in str(report)
    if method == "auto":  # np.sort and np.median order complex numbers by their real part
        assert (report.method == "complex-step") == layer.is_safe, str(report)
    with pytest.raises(GradientError):
        check_gradients(layer.forward, layer.wrong, layer.args, method=method)


@pytest.mark.parametrize("scale", [1e-100, 1e-12, 1e12, 1e100])
@pytest.mark.parametrize("method", ["auto", "central-difference"])
def test_tiny_and_huge_gradients(scale, method):
    X, W = N((3, 4)), N((4, 2))
    forward = lambda X, W: (scale * np.tanh(X @ W), (X, W))  # noqa: E731

    def backward(dY, cache):
        X, W = cache
        dZ = scale * dY * (1 - np.tanh(X @ W) ** 2)
        return dZ @ W.T, X.T @ dZ

    assert check_gradients(forward, backward, (X, W), method=method).ok
    with pytest.raises(GradientError, match="off by a factor of 1 \\+ 1e-06"):
        check_gradients(forward, scaled(backward, 1 + 1e-6), (X, W), method=method)


def test_a_forward_that_computes_in_float32_for_real_numbers_only():
    """Central differences judge it in float32, the complex step to the last digit."""
    X, W = N((3, 4)), N((4, 2))

    def forward(X, W):
        narrow = X @ W if np.iscomplexobj(X @ W) else (X.astype(np.float32) @ W.astype(np.float32)).astype(X.dtype)
        return np.tanh(narrow), (X, W)

    def backward(dY, cache):
        X, W = cache
        dZ = dY * (1 - np.tanh(X @ W) ** 2)
        return dZ @ W.T, X.T @ dZ

    report = check_gradients(forward, backward, (X, W), method="central-difference")
    assert "computes in float32: checked in that precision, with a tolerance of 2e-03" in report.notes
    assert check_gradients(forward, backward, (X, W), method="complex-step", rtol=1e-6).ok
    with pytest.raises(GradientError):
        check_gradients(forward, scaled(backward, 1 + 1e-2), (X, W), method="central-difference")
