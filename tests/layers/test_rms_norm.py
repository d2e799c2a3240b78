"""RMS norm against exact arithmetic: its definition, rows far out, rows of zeros, and 1 + γ."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn._internal.checks import Array
from npattn.layers import layer_norm, rms_norm, rms_norm_backward
from support.calls import cotangent, examples


def exact_row(x: Array, gamma: Array, eps: float) -> list[float]:
    """The definition in rational numbers, rounded once."""
    xs = [Fraction(float(v)) for v in x]
    root = math.sqrt(sum(v * v for v in xs) / len(xs) + Fraction(eps))
    return [float(g) * float(v) / root for v, g in zip(xs, gamma, strict=True)]


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-14), ("float32", 1e-6)])
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-9, 1.0, 1e8]), D=st.integers(1, 40))
@examples(10)
def test_definition(dtype: str, rtol: float, seed: int, scale: float, D: int) -> None:
    """ε stands inside the root: for small rows it decides."""
    rng = np.random.default_rng(seed)
    X, gamma = (scale * rng.standard_normal((3, D))).astype(dtype), rng.standard_normal(D).astype(dtype)
    for eps in (1e-6, 1e-18, 16.0):
        Y, _ = rms_norm(X, gamma, eps)
        offset, _ = rms_norm(X, gamma - 1, eps, unit_offset=True)
        for x, y, z in zip(X, Y, offset, strict=True):
            expected = exact_row(x, gamma, eps)
            np.testing.assert_allclose(y, expected, rtol=rtol, atol=0)
            np.testing.assert_allclose(z, expected, rtol=0, atol=10 * rtol * np.abs(expected).max())


def test_the_default_epsilon() -> None:
    assert rms_norm(np.zeros(1), np.ones(1))[1].r.tolist() == [pytest.approx(1e3, rel=1e-15)]


def test_a_centred_row_is_that_of_the_layer_norm() -> None:
    X, gamma = np.random.default_rng(0).normal(size=(2, 4, 5)), np.arange(1.0, 6)
    X -= X.mean(-1, keepdims=True)
    np.testing.assert_allclose(rms_norm(X, gamma, 1e-5)[0], layer_norm(X, gamma)[0], rtol=1e-12, atol=1e-15)


def test_gamma_stands_inside_the_mean() -> None:
    """The Jacobian is written out, with γ and with 1 + γ."""
    rng = np.random.default_rng(1)
    x, gamma, dy = rng.normal(size=(3, 5))
    r = 1 / math.sqrt(np.mean(x * x) + 1e-6)
    for offset in (False, True):
        scale = gamma + offset
        jacobian = scale[:, None] * r * (np.eye(5) - np.outer(x * r, x * r) / 5)   # dy_i/dx_k
        dX, dgamma = rms_norm_backward(dy, rms_norm(x, gamma, unit_offset=offset)[1])
        np.testing.assert_allclose(dX, dy @ jacobian, rtol=1e-12)
        np.testing.assert_allclose(dgamma, dy * x * r, rtol=1e-14)


@pytest.mark.parametrize(
    ("dtype", "size"), [("float32", 1e25), ("float32", 3e38), ("float64", 1e200), ("float64", 1.5e308)]
)
@pytest.mark.parametrize("sign", [0, -1])
def test_rows_whose_squares_are_beyond_the_largest_number(dtype: str, size: float, sign: int) -> None:
    """They are as the row divided by its size, and rows beside them stay as they are alone."""
    row, gamma = np.array([[0.5, -1.0, 0.25, 1.0], [1.5, -2.0, 0.5, 3.0]], dtype)
    row = sign * np.abs(row) if sign else row
    X = np.stack([row * np.array(size, dtype), row, np.zeros_like(row), row / 1024**3])
    dY = cotangent(X)
    with np.errstate(all="raise"):
        Y, cache = rms_norm(X, gamma)
        dX, _ = rms_norm_backward(dY, cache)
    rtol = 1e-6 if dtype == "float32" else 1e-14
    small, cache = rms_norm(row, gamma, eps=2.0**-126)
    expected, _ = rms_norm_backward(dY[0], cache)
    np.testing.assert_allclose(Y[0], small, rtol=rtol)
    if size * np.finfo(dtype).tiny < 1e-2:                    # else r has no digits left
        np.testing.assert_allclose(dX[0] * np.array(size, dtype), expected, rtol=10 * rtol, atol=10 * rtol)
    for i in (1, 2, 3):
        alone, cache = rms_norm(X[i], gamma)
        np.testing.assert_allclose(Y[i], alone, rtol=rtol)
        np.testing.assert_allclose(dX[i], rms_norm_backward(dY[i], cache)[0], rtol=10 * rtol, atol=rtol)


def test_the_gradient_of_a_row_of_one_number() -> None:
    """y = x/√(x² + ε) has the slope ε/(x² + ε)^1.5."""
    dX, _ = rms_norm_backward(np.array([1.0]), rms_norm(np.array([2.0]), np.ones(1), eps=5.0)[1])
    assert dX.item() == pytest.approx(5 / 27, rel=1e-14)


def test_epsilon_counts_beside_a_row_far_out() -> None:
    """ε/u² is taken from u, not from 1: an ε of 1e38 beside squares of 4e38 in float32."""
    Y, cache = rms_norm(np.array([2e19, -2e19], np.float32), np.ones(2, np.float32), eps=1e38)
    np.testing.assert_allclose(Y, np.array([2, -2]) / math.sqrt(5), rtol=1e-6)
    np.testing.assert_allclose(cache.r, [1 / math.sqrt(5e38)], rtol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_make_their_row_nan(value: float) -> None:
    X = np.arange(6.0).reshape(2, 3)
    X[1, 1] = value
    with np.errstate(all="raise"):
        Y, _ = rms_norm(X, np.ones(3))
    assert np.isnan(Y[1]).any()
    np.testing.assert_allclose(Y[0], rms_norm(X[0], np.ones(3))[0], rtol=1e-14)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3), (2, 0)])
def test_empty_axes(shape: tuple[int, ...]) -> None:
    Y, cache = rms_norm(np.zeros(shape), np.ones(shape[-1]))
    dX, dgamma = rms_norm_backward(Y, cache)
    assert dX.shape == shape and dgamma.tolist() == [0] * shape[-1]


def test_bad_options() -> None:
    X = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"^eps: expected 1\.17549e-38 ≤ eps < 1\.70141e\+38, got 0\.0$"):
        rms_norm(X, np.ones(3), eps=0.0)
    with pytest.raises(TypeError, match=r"^unit_offset: expected True or False, got 1$"):
        rms_norm(X, np.ones(3), unit_offset=1)
