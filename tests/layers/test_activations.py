"""relu at its kink, gelu against the standard library's error function."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn.layers import gelu, gelu_backward, relu, relu_backward
from npattn.layers.gelu import erfc
from support.calls import examples


def test_relu_at_zero() -> None:
    """relu'(0): 0, on both zeros; and 1 on the smallest number above."""
    X = np.array([0.0, -0.0, 5e-324, -5e-324, 2.0, -3.0])
    Y, cache = relu(X)
    assert Y.tolist() == [0, 0, 5e-324, 0, 2, 0]
    assert relu_backward(np.full(6, 7.0), cache).tolist() == [0, 0, 7, 0, 7, 0]


def test_relu_keeps_nan() -> None:
    """NaN or inf in an input: a NaN passes on, it does not become 0."""
    Y, _ = relu(np.array([np.nan, np.inf, -np.inf]))
    assert np.isnan(Y[0]) and Y[1:].tolist() == [np.inf, 0]


#: Both tails, the middle finely, and where the series changes sides.
POINTS = [*np.linspace(-8, 8, 1601), *np.linspace(-38, 38, 77), 1e-300, -1e-300, 1e-8, -1e-8, 0.0]


def test_gelu_against_the_error_function() -> None:
    """x Φ(x) and its slope Φ(x) + x φ(x), to 1e-15 of the larger of x and 1."""
    X = np.array(POINTS)
    Y, cache = gelu(X)
    slope = gelu_backward(np.ones_like(X), cache)
    for x, y, dx in zip(POINTS, Y, slope, strict=True):
        phi = math.erfc(-x / math.sqrt(2)) / 2
        assert abs(y - x * phi) <= 1e-15 * max(abs(x), 1)
        expected = phi + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        assert abs(dx - expected) <= 1e-15 * max(abs(expected), 1)


@given(z=st.floats(0, 26))
@examples(50)
def test_erfc_keeps_its_digits_in_the_tail(z: float) -> None:
    assert erfc(np.array(z)) == pytest.approx(math.erfc(z), rel=1e-13)
    assert erfc(np.array(-z)) == pytest.approx(math.erfc(-z), rel=1e-15)


@pytest.mark.parametrize(("dtype", "x"), [("float64", 1e200), ("float32", 1e30), ("float64", 50.0)])
def test_gelu_far_out_is_relu(dtype: str, x: float) -> None:
    with np.errstate(all="raise"):
        Y, cache = gelu(np.array([x, -x], dtype))
        dX = gelu_backward(np.ones(2, dtype), cache)
    assert Y.tolist() == [np.array(x, dtype), 0] and dX.tolist() == [1, 0]


@pytest.mark.parametrize("activation", [relu, gelu])
def test_bad_arrays_are_named(activation) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TypeError, match=r"^X: expected float32 or float64, got int64$"):
        activation(np.arange(3))
    with pytest.raises(TypeError, match=r"^X: expected a NumPy array, got list$"):
        activation([1.0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gelu_of_infinity_is_its_limit(dtype: str) -> None:
    with np.errstate(all="raise"):
        Y, cache = gelu(np.array([math.inf, -math.inf, math.nan], dtype))
        dX = gelu_backward(np.ones(3, dtype), cache)
    assert Y[:2].tolist() == [math.inf, 0] and dX[:2].tolist() == [1, 0]
    assert np.isnan(Y[2]) and np.isnan(dX[2])
