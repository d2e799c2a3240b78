"""The causal convolution: in pieces of every length = at once, nothing from later rows, and its messages."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.layers import causal_convolution, causal_convolution_backward
from support.calls import assert_same, cotangent


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("cut", range(8))
@pytest.mark.parametrize("taps", [1, 2, 4])
def test_in_pieces_is_at_once(taps: int, cut: int) -> None:
    """The last rows go to the next piece, and their gradient comes back; a piece may be shorter than the taps."""
    X, W, past = draw(2, 7, 3), draw(taps, 3, seed=1), draw(2, taps - 1, 3, seed=2)
    Y, cache = causal_convolution(X, W, past)
    dY, dX_last = cotangent(Y), cotangent(cache.X_last, 2)
    expected = causal_convolution_backward(dY, cache, dX_last)
    Y_1, first = causal_convolution(X[:, :cut], W, past)
    Y_2, second = causal_convolution(X[:, cut:], W, first.X_last)
    dX_2, dW_2, dX_between = causal_convolution_backward(dY[:, cut:], second, dX_last)
    dX_1, dW_1, dX_past = causal_convolution_backward(dY[:, :cut], first, dX_between)
    assert_same([np.concatenate([Y_1, Y_2], 1), second.X_last], [Y, cache.X_last])
    assert_same([np.concatenate([dX_1, dX_2], 1), dW_1 + dW_2, dX_past], expected)


def test_without_a_past_there_are_zeros_before() -> None:
    X, W = draw(5, 3), draw(3, 3, seed=1)
    Y, cache = causal_convolution(X, W)
    from_zeros, _ = causal_convolution(X, W, np.zeros((2, 3)))
    assert_same([Y], [from_zeros])
    assert causal_convolution_backward(cotangent(Y), cache)[2] is None
    for n in range(5):
        assert_same([Y[n]], [sum(W[2 - back] * X[n - back] for back in range(min(n, 2) + 1))])


def test_no_row_sees_a_later_one() -> None:
    X, W = draw(6, 2), draw(4, 2, seed=1)
    moved = X.copy()
    moved[3] += 1
    before, after = causal_convolution(X, W)[0], causal_convolution(moved, W)[0]
    assert (before[:3] == after[:3]).all() and (before[3:] != after[3:]).all()


def test_messages() -> None:
    X, W = draw(2, 5, 3), draw(3, 3)
    with pytest.raises(ValueError, match=r"^X_past: expected \(…, C−1, D\) = \(2, 2, 3\), got \(2, 3, 3\)$"):
        causal_convolution(X, W, X[:, :3])
    Y, cache = causal_convolution(X, W)
    with pytest.raises(ValueError, match=r"^dX_last: expected \(2, 2, 3\) like the output, got \(2, 3, 3\)$"):
        causal_convolution_backward(Y, cache, X[:, :3])
    with pytest.raises(TypeError, match=r"^dX_last: expected an array of float64 like the output, got float32$"):
        causal_convolution_backward(Y, cache, X[:, :2].astype(np.float32))
    with pytest.raises(ValueError, match=r"^dY: expected \(2, 5, 3\) like the output, got \(2, 4, 3\)$"):
        causal_convolution_backward(Y[:, 1:], cache)


@pytest.mark.parametrize(("N", "D", "taps"), [(0, 3, 3), (4, 0, 3), (0, 0, 3), (4, 3, 0)])
def test_empty_axes(N: int, D: int, taps: int) -> None:
    """Without taps, the sum of none is 0."""
    X, W = np.ones((N, D), np.float32), np.ones((taps, D), np.float32)
    Y, cache = causal_convolution(X, W)
    dX, dW, _ = causal_convolution_backward(np.ones_like(Y), cache)
    assert Y.shape == dX.shape == X.shape and dW.shape == W.shape
    assert cache.X_last.shape == (max(taps - 1, 0), D) and (taps or not (Y.any() or dX.any()))
