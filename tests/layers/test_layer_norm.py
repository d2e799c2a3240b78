"""Layer norm against exact arithmetic: far from zero, constant rows, γ inside the sums."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn._internal.checks import Array
from npattn.layers import layer_norm, layer_norm_backward
from support.calls import cotangent, examples, settings
from support.pairs import PAIRS


def exact_row(x: Array, gamma: Array, beta: Array, eps: float) -> list[float]:
    """The definition in rational numbers, rounded once."""
    xs = [Fraction(float(v)) for v in x]
    mean = sum(xs) / len(xs)
    variance = sum((v - mean) ** 2 for v in xs) / len(xs)
    deviation = math.sqrt(variance + Fraction(eps))
    return [float(g) * float(v - mean) / deviation + float(b) for v, g, b in zip(xs, gamma, beta, strict=True)]


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 3e-6)])
@given(seed=st.integers(0, 2**32 - 1), offset=st.sampled_from([0.0, 1.0, -1e4, 1e8]), D=st.integers(2, 40))
@examples(10)
def test_a_row_far_from_zero(dtype: str, rtol: float, seed: int, offset: float, D: int) -> None:
    """LayerNorm variance as E[x²] − μ² fails for rows near 1e8: two passes; test with a 1e8 offset."""
    rng = np.random.default_rng(seed)
    spread = 1.0 if dtype == "float64" or abs(offset) < 1e6 else 1e3  # float32 knows 1e8 to ±4
    X = (offset + spread * rng.standard_normal((3, D))).astype(dtype)
    gamma, beta = rng.standard_normal((2, D)).astype(dtype)
    Y, _ = layer_norm(X, gamma, beta)
    for x, y in zip(X, Y, strict=True):
        expected = exact_row(x, gamma, beta, 1e-5)
        np.testing.assert_allclose(y, expected, rtol=0, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("constant", [0.0, 0.1, -100.1, 10_000.1, 1e8 + 0.1, 1e12 + 0.1, 1e30])
@pytest.mark.parametrize("D", [1, 3, 7, 256])
def test_a_constant_row(dtype: str, constant: float, D: int) -> None:
    """Constant row: output β, and the gradient is finite."""
    rng = np.random.default_rng(D)
    gamma, beta = rng.standard_normal((2, D)).astype(dtype)
    Y, cache = layer_norm(np.full((2, D), constant, dtype), gamma, beta)
    assert (beta == Y).all()
    dY = cotangent(Y)
    dX, dgamma, _ = layer_norm_backward(dY, cache)
    assert not dgamma.any()
    dX_hat = (dY * gamma).astype(np.float64)
    expected = (dX_hat - dX_hat.mean(-1, keepdims=True)) / math.sqrt(1e-5)
    rtol = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(dX, expected, rtol=0, atol=rtol * max(np.abs(expected).max(), 1))


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_an_outlier_costs_the_same_digits_in_every_column(offset: float) -> None:
    """Subtracting the first entry of the row took 300 times as many digits from the others when it was the outlier."""
    X = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32) + np.float32(offset)
    for column in (0, 1, 7, 32, 63):
        Z = X.copy()
        Z[:, column] = 1e4
        Y, _ = layer_norm(Z, np.ones(64, np.float32))
        expected = [exact_row(z, np.ones(64), np.zeros(64), 1e-5) for z in Z]
        np.testing.assert_allclose(Y, expected, rtol=1e-6)    # 3e-7; from the first entry: 1e-4


@pytest.mark.parametrize("constant", [1e30, 3e38])
def test_a_constant_row_beside_one_far_out(constant: float) -> None:
    """ε/u² fades to 0 beside squares beyond the largest number; 0/√0 would be NaN."""
    X = np.array([[constant] * 4, [3e38, -3e38, 0, 1e38]], np.float32)
    with np.errstate(all="raise"):
        Y, cache = layer_norm(X, np.ones(4, np.float32))
    assert not Y[0].any()
    np.testing.assert_allclose(cache.r[0], 1 / math.sqrt(1e-5), rtol=1e-6)
    expected = np.array([2.75, -3.25, -0.25, 0.75])
    np.testing.assert_allclose(Y[1], expected / math.sqrt(np.mean(expected**2)), rtol=1e-6)


@given(setting=settings(dtype="float64"))
@examples(10)
def test_gamma_stands_inside_the_sums(setting: object) -> None:
    """γ placed outside the sums in backward: exact at γ = 1, wrong elsewhere. Here the Jacobian is written out."""
    call = PAIRS["npattn.layers.layer_norm.layer_norm"].call(setting)  # type: ignore[arg-type]
    X, gamma, beta = call.args
    x = X.reshape(-1, X.shape[-1])[0]
    D = len(x)
    r = 1 / math.sqrt(np.mean((x - x.mean()) ** 2) + 1e-5)
    x_hat = (x - x.mean()) * r
    jacobian = gamma[:, None] * r * (np.eye(D) - 1 / D - np.outer(x_hat, x_hat) / D)  # dy_i/dx_k
    y, cache = layer_norm(x, gamma, beta)
    dy = cotangent(y)
    dX, dgamma, dbeta = layer_norm_backward(dy, cache)
    np.testing.assert_allclose(dX, dy @ jacobian, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(dgamma, dy * x_hat, rtol=1e-12)
    assert (dbeta is None) == (beta is None)
    if dbeta is not None:
        assert (dbeta == dy).all()


def test_eps_stands_inside_the_root() -> None:
    Y, _ = layer_norm(np.array([3.0, -3.0]), np.ones(2), eps=16.0)
    np.testing.assert_allclose(Y, [0.6, -0.6], rtol=1e-15)  # 3/√(9 + 16); biased variance


def test_empty_axes() -> None:
    for shape in ((0, 3), (2, 0, 3), (2, 0)):
        Y, cache = layer_norm(np.zeros(shape), np.ones(shape[-1]), np.ones(shape[-1]))
        dX, dgamma, _ = layer_norm_backward(Y, cache)
        assert dX.shape == shape and dgamma.tolist() == [0] * shape[-1]


@pytest.mark.parametrize(
    ("dtype", "size"), [("float32", 1e25), ("float32", 3e38), ("float64", 1e200), ("float64", 1.5e308)]
)
def test_rows_whose_squares_are_beyond_the_largest_number(dtype: str, size: float) -> None:
    """Their x̂ and gradients are those of the row divided by its size, with ε so small that it does not matter there."""
    row = np.array([0.5, -1.0, 0.25, 1.0], dtype)
    gamma = np.array([1.5, -2.0, 0.5, 3.0], dtype)
    ordinary = [np.zeros_like(row), np.array([2.0, 2.0, 2.0, 2.0], dtype), row * 1024, row / 1024**3]
    X = np.stack([row, row * np.array(size, dtype), *ordinary, [-size, -1.0, -2.0, -3.0]]).astype(dtype)
    dY = cotangent(X)
    with np.errstate(all="raise"):
        Y, cache = layer_norm(X, gamma)
    dX, _, _ = layer_norm_backward(dY, cache)                 # a gradient may well be too small for a number
    small, cache = layer_norm(row, gamma, eps=2.0**-126)
    expected, _, _ = layer_norm_backward(dY[1], cache)
    rtol = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(Y[1], small, rtol=rtol)
    if size * np.finfo(dtype).tiny < 1e-2:                    # else r has no digits left
        np.testing.assert_allclose(dX[1] * np.array(size, dtype), expected, rtol=10 * rtol, atol=10 * rtol)
    for i in (0, 2, 3, 4, 5):
        alone, _ = layer_norm(X[i], gamma)
        np.testing.assert_allclose(Y[i], alone, rtol=rtol, atol=rtol * np.abs(alone).max())
    np.testing.assert_allclose(Y[6], gamma * [-3, 1, 1, 1] / math.sqrt(3), rtol=10 * rtol)


def test_epsilon_counts_beside_a_row_far_out() -> None:
    """ε/u² is taken from u, not from 1: an ε of 1e30 beside squares of 4e38 in float32."""
    X = np.array([2e19, -2e19], np.float32)
    Y, cache = layer_norm(X, np.ones(2, np.float32), eps=1e38)
    np.testing.assert_allclose(Y, np.array([2, -2]) / math.sqrt(5), rtol=1e-6)
    np.testing.assert_allclose(cache.r, [1 / math.sqrt(5e38)], rtol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_make_their_row_nan(value: float) -> None:
    X = np.arange(6.0).reshape(2, 3)
    X[1, 1] = value
    with np.errstate(all="raise"):
        Y, _ = layer_norm(X, np.ones(3))
    assert np.isnan(Y[1]).all()
    np.testing.assert_allclose(Y[0], layer_norm(X[0], np.ones(3))[0], rtol=1e-14)


@pytest.mark.parametrize(
    ("eps", "message"),
    [
        (0.0, "eps: expected 1.17549e-38 ≤ eps < 1.70141e+38, got 0.0"),
        (2.0**127, "eps: expected 1.17549e-38 ≤ eps < 1.70141e+38, got 1.7014118346046923e+38"),
        ("1e-5", "eps: expected a number, got '1e-5'"),
    ],
)
def test_bad_epsilons(eps: float, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        layer_norm(np.ones((2, 3)), np.ones(3), eps=eps)
    assert str(caught.value) == message
