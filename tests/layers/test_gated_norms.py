"""ℓ2 normalisation far out and near 0, and the gated RMS norm as the norm times silu."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.layers import (
    gated_rms_norm,
    gated_rms_norm_backward,
    l2_norm,
    l2_norm_backward,
    rms_norm,
    rms_norm_backward,
    silu,
    silu_backward,
)
from support.calls import assert_same, cotangent


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_every_length(dtype: str) -> None:
    """Long rows have length 1, also where their squares are beyond the largest number; short ones are divided by √ε."""
    sizes = np.array([0.6 * np.finfo(dtype).max, 1e30, 1, 1e-3, 1e-9, 0], dtype)
    X = sizes[:, None] * np.array([[0.6, -0.8]], dtype)
    with np.errstate(all="raise"):
        Y, cache = l2_norm(X)
        dX = l2_norm_backward(np.broadcast_to(np.array([4, 3], dtype) / 5, X.shape).astype(dtype), cache)
    for y, dx, size in zip(Y, dX, sizes.astype(float), strict=True):
        length = np.hypot(size, 1e-3)                         # √(|x|² + ε)
        within = {"rtol": 3e-6 if dtype == "float32" else 1e-12}
        np.testing.assert_allclose(y, size / length * np.array([0.6, -0.8]), **within)
        np.testing.assert_allclose(dx, np.array([0.8, 0.6]) / length, **within)             # dY is at right angles to x


def test_l2_norm_is_rms_norm_of_another_scale() -> None:
    X = np.random.default_rng(0).standard_normal((3, 5))
    Y, cache = l2_norm(X, eps=0.5)
    expected, other = rms_norm(X, np.full(5, 5**-0.5), eps=0.1)
    dY = cotangent(Y)
    assert_same([Y, l2_norm_backward(dY, cache)], [expected, rms_norm_backward(dY, other)[0]])


def test_the_norm_comes_first_and_then_the_gate() -> None:
    rng = np.random.default_rng(0)
    X, Z, gamma = rng.standard_normal((4, 5)), rng.standard_normal((4, 5)), rng.standard_normal(5)
    Y, cache = gated_rms_norm(X, Z, gamma, eps=0.3)
    normed, of_X = rms_norm(X, gamma, 0.3)
    gates, of_Z = silu(Z)
    dY = cotangent(Y)
    dX, dgamma = rms_norm_backward(dY * gates, of_X)
    assert_same([Y], [normed * gates])
    assert_same(gated_rms_norm_backward(dY, cache), [dX, silu_backward(dY * normed, of_Z), dgamma])
    small = 1e-3 * X                                          # by default, ε is 1e-6
    assert_same([gated_rms_norm(small, Z, gamma)[0]], [gated_rms_norm(small, Z, gamma, 1e-6)[0]])


@pytest.mark.parametrize("eps", [0.0, np.nan, 2.0**127])
def test_epsilon_out_of_range(eps: float) -> None:
    X = np.ones((2, 3))
    for norm, given in ((l2_norm, (X,)), (gated_rms_norm, (X, X, X[0]))):
        with pytest.raises(ValueError, match=r"^eps: expected 1.17549e-38 ≤ eps < 1.70141e\+38, got "):
            norm(*given, eps=eps)
