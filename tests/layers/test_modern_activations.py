"""silu, gelu by tanh, the gated activations, the soft cap, and the biases of ALiBi, against the standard library."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn.layers import (
    alibi_bias,
    geglu,
    geglu_backward,
    gelu,
    gelu_backward,
    silu,
    silu_backward,
    soft_cap,
    soft_cap_backward,
    swiglu,
    swiglu_backward,
)
from npattn.layers.silu import sigmoid
from support.calls import examples

POINTS = [*np.linspace(-8, 8, 401), *np.linspace(-38, 38, 77), 1e-300, -1e-300, 1e-8, -1e-8, 0.0, 700.0, -700.0]
activations = pytest.mark.parametrize(
    ("forward", "backward", "options"),
    [(silu, silu_backward, {}), (gelu, gelu_backward, {"approximate": "tanh"})], ids=["silu", "gelu by tanh"],
)  # fmt: skip


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


@given(st.floats(-700, 700))
@examples(50)
def test_sigmoid_keeps_its_digits_in_both_tails(x: float) -> None:
    assert sigmoid(np.array(x)) == pytest.approx(logistic(x), rel=1e-15)


def test_silu_against_the_standard_library() -> None:
    Y, cache = silu(np.array(POINTS))
    slope = silu_backward(np.ones(len(POINTS)), cache)
    for x, y, dx in zip(POINTS, Y, slope, strict=True):
        assert y == pytest.approx(x * logistic(x), rel=1e-15, abs=0)
        expected = logistic(x) * (1 + x * logistic(-x))
        assert abs(dx - expected) <= 5e-15


def test_gelu_by_tanh_against_the_standard_library() -> None:
    Y, cache = gelu(np.array(POINTS), approximate="tanh")
    slope = gelu_backward(np.ones(len(POINTS)), cache)
    exact, _ = gelu(np.array(POINTS))
    for x, y, dx in zip(POINTS, Y, slope, strict=True):
        t = math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
        assert abs(y - x * (1 + t) / 2) <= 2e-15 * max(abs(x), 1)
        inner = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
        assert abs(dx - ((1 + t) / 2 + x * (1 - t * t) / 2 * inner)) <= 5e-14
    assert 4e-4 < np.abs(Y - exact).max() < 5e-4


@activations
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinity_and_far_out_are_the_limit(forward: Any, backward: Any, options: Any, dtype: str) -> None:
    with np.errstate(all="raise"):
        Y, cache = forward(np.array([math.inf, -math.inf, 1e30, -1e30, math.nan], dtype), **options)
        dX = backward(np.ones(5, dtype), cache)
    assert Y[:4].tolist() == [math.inf, 0, np.array(1e30, dtype), 0] and dX[:4].tolist() == [1, 0, 1, 0]
    assert np.isnan(Y[4]) and np.isnan(dX[4]) and Y.dtype == dX.dtype == dtype


def test_gelu_words() -> None:
    with pytest.raises(ValueError, match=r"^approximate: expected one of none, tanh, got 'erf'$"):
        gelu(np.ones(2), approximate="erf")
    with pytest.raises(ValueError, match=r"^approximate: expected one of none, tanh, got 'erf'$"):
        geglu(np.ones(2), approximate="erf")


# ---- gated ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "g", "u"), [("first", [0, 1], [2, 3]), ("second", [2, 3], [0, 1]), ("even", [0, 2], [1, 3])]
)
def test_which_columns_gate(gate: str, g: list[int], u: list[int]) -> None:
    X, dY = np.random.default_rng(0).normal(size=(2, 3, 4))[0], np.random.default_rng(1).normal(size=(3, 2))
    for gated, gated_backward, plain, plain_backward in (
        (swiglu, swiglu_backward, silu, silu_backward),
        (geglu, geglu_backward, gelu, gelu_backward),
    ):
        Y, cache = gated(X, gate)
        A, of_gate = plain(np.ascontiguousarray(X[:, g]))
        np.testing.assert_allclose(Y, A * X[:, u], rtol=1e-15)
        dX = gated_backward(dY, cache)
        np.testing.assert_allclose(dX[:, u], dY * A, rtol=1e-15)
        np.testing.assert_allclose(dX[:, g], plain_backward(dY * X[:, u], of_gate), rtol=1e-14)


def test_the_first_half_gates_by_default() -> None:
    X = np.array([[1.0, 5.0]])
    assert swiglu(X)[0] == swiglu(X, "first")[0] != swiglu(X, "second")[0]
    assert geglu(X)[0] == geglu(X, "first")[0] != geglu(X, "second")[0]


def test_geglu_by_tanh() -> None:
    X = np.array([[1.0, 5.0], [-2.0, 3.0]])
    Y, cache = geglu(X, approximate="tanh")
    A, of_gate = gelu(X[:, :1], "tanh")
    assert (A * X[:, 1:] == Y).all()
    assert (geglu_backward(np.ones((2, 1)), cache)[:, :1] == gelu_backward(X[:, 1:], of_gate)).all()
    assert (geglu(X)[0] != Y).all()


def test_the_limits_of_swiglu() -> None:
    """g is cut off above the limit alone, u on both sides; on the limit the gradient passes, beyond it it is 0."""
    g, u = np.array([9.0, 7.0, -9.0, 1.0, 1.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0, 9.0, -9.0, 7.0, -7.0])
    X = np.stack([g, u], -1)
    with np.errstate(all="raise"):
        Y, cache = swiglu(X, "even", limit=7.0)
        dX = swiglu_backward(np.ones((7, 1)), cache)
    g_cut, u_cut = np.minimum(g, 7), np.clip(u, -7, 7)
    A, of_gate = silu(g_cut)
    np.testing.assert_allclose(Y[:, 0], A * u_cut, rtol=1e-15)
    np.testing.assert_allclose(dX[:, 0], silu_backward(u_cut, of_gate) * (g <= 7), rtol=1e-14)
    np.testing.assert_allclose(dX[:, 1], A * (np.abs(u) <= 7), rtol=1e-15)
    assert dX[0, 0] == dX[3, 1] == dX[4, 1] == 0 and dX[1, 0] and dX[5, 1] and dX[6, 1]


def test_the_slope_and_the_offset_of_swiglu() -> None:
    X = np.array([[0.3, 2.0]])
    Y, cache = swiglu(X, slope=1.702, unit_offset=True)
    s = logistic(1.702 * 0.3)
    assert Y.item() == pytest.approx(0.3 * s * 3, rel=1e-15)
    expected = [s * (1 + 1.702 * 0.3 * (1 - s)) * 3, 0.3 * s]
    np.testing.assert_allclose(swiglu_backward(np.ones((1, 1)), cache)[0], expected, rtol=1e-14)


@pytest.mark.parametrize("slope", [1.0, 0.1, 30.0])
def test_infinite_gates_are_the_limit(slope: float) -> None:
    X = np.array([[-np.inf, 2.0], [np.inf, 2.0], [-1e200, 2.0], [np.nan, 2.0], [1.0, np.nan]])
    with np.errstate(all="raise"):
        for Y, dX in (
            (swiglu(X, slope=slope)[0], swiglu_backward(np.ones((5, 1)), swiglu(X, slope=slope)[1])),
            (geglu(X)[0], geglu_backward(np.ones((5, 1)), geglu(X)[1])),
        ):
            assert Y[:3, 0].tolist() == [0, math.inf, 0] and np.isnan(Y[3:]).all()
            assert dX[:3, 0].tolist() == [0, 2, 0] and np.isnan(dX[3, 0])
            assert dX[0, 1] == dX[2, 1] == 0


def test_limits_keep_nan_and_cut_infinity() -> None:
    X = np.array([[np.inf, np.inf], [np.nan, 1.0], [1.0, np.nan], [1.0, -np.inf]])
    Y, _ = swiglu(X, limit=2.0)
    silu_2, silu_1 = 2 * logistic(2), logistic(1)
    np.testing.assert_allclose(Y[[0, 3], 0], [2 * silu_2, -2 * silu_1], rtol=1e-15)
    assert np.isnan(Y[1:3]).all()


@pytest.mark.parametrize("gated", [swiglu, geglu])
def test_wrong_gated_calls(gated: Any) -> None:
    with pytest.raises(ValueError, match=r"^X: expected an even number of columns, got 3$"):
        gated(np.ones((2, 4, 3)))
    with pytest.raises(ValueError, match=r"^gate: expected one of first, second, even, got 'odd'$"):
        gated(np.ones((2, 4)), gate="odd")
    with pytest.raises(ValueError, match=r"^X: expected \(…, 2D\), got \(\)$"):
        gated(np.ones(()))
    Y, _ = gated(np.ones((0, 2, 6)))
    assert Y.shape == (0, 2, 3) and gated(np.ones((2, 0)))[0].shape == (2, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0.0}, "limit: expected 1.17549e-38 ≤ limit < 1.70141e+38, got 0.0"),
        ({"limit": 2.0**127}, "limit: expected 1.17549e-38 ≤ limit < 1.70141e+38, got 1.7014118346046923e+38"),
        ({"slope": 0}, "slope: expected 1.17549e-38 ≤ slope < 1.70141e+38, got 0"),
        ({"slope": None}, "slope: expected a number, got None"),
        ({"unit_offset": 1}, "unit_offset: expected True or False, got 1"),
    ],
)
def test_wrong_options_of_swiglu(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        swiglu(np.ones((2, 4)), **options)
    assert str(caught.value) == message


# ---- soft cap ---------------------------------------------------------------------------------------------------


def test_soft_cap_against_the_standard_library() -> None:
    X = np.linspace(-9, 9, 61)
    Y, cache = soft_cap(X, 2.5)
    dX = soft_cap_backward(np.full(61, 3.0), cache)
    for x, y, dx in zip(X, Y, dX, strict=True):
        assert y == pytest.approx(2.5 * math.tanh(x / 2.5), rel=1e-15)
        assert dx == pytest.approx(3 / math.cosh(x / 2.5) ** 2, rel=1e-12, abs=1e-15)


def test_a_large_cap_changes_nothing() -> None:
    X = np.linspace(-9, 9, 61)
    np.testing.assert_allclose(soft_cap(X, 1e8)[0], X, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_ends_of_the_soft_cap(dtype: str) -> None:
    with np.errstate(all="raise"):
        Y, cache = soft_cap(np.array([math.inf, -math.inf, 3e38, 0, math.nan], dtype), 2.0**-126)
        dX = soft_cap_backward(np.ones(5, dtype), cache)
    cap = np.array(2.0**-126, dtype)
    assert Y[:4].tolist() == [cap, -cap, cap, 0] and dX[:4].tolist() == [0, 0, 0, 1] and np.isnan(dX[4])


@pytest.mark.parametrize("cap", [0, -1.0, 2.0**126, math.nan])
def test_wrong_caps(cap: float) -> None:
    with pytest.raises(ValueError, match=r"^cap: expected 1\.17549e-38 ≤ cap < 8\.50706e\+37, got "):
        soft_cap(np.ones(2), cap)


# ---- ALiBi ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_heads", "exponents"),
    [
        (1, [8]), (2, [4, 8]), (3, [4, 8, 2]), (4, [2, 4, 6, 8]), (6, [2, 4, 6, 8, 1, 3]),
        (8, [1, 2, 3, 4, 5, 6, 7, 8]), (12, [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]),
        (16, [i / 2 for i in range(1, 17)]),
    ],
)  # fmt: skip
def test_slopes(n_heads: int, exponents: list[float]) -> None:
    """A row of distance 1: head h has the bias −m_h. Twelve heads as in the authors' code."""
    assert alibi_bias(n_heads, 1, 1, offset=1)[:, 0, 0].tolist() == [-(2.0**-e) for e in exponents]


def test_alibi_falls_with_the_distance() -> None:
    B = alibi_bias(2, 3, 5, offset=2)
    assert B.shape == (2, 3, 5) and B.dtype == np.float64
    for h, i, n in np.ndindex(B.shape):
        assert B[h, i, n] == -(2.0 ** -(4 * (h + 1))) * (i + 2 - n)
    assert (alibi_bias(2, 3) == alibi_bias(2, 3, 3, 0)).all() and alibi_bias(1, 0, 0).shape == (1, 0, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_heads": 0}, "n_heads: expected 1 or more, got 0"), ({"N_Q": -1}, "N_Q: expected 0 or more, got -1"),
        ({"N_X": -1}, "N_X: expected 0 or more, got -1"), ({"offset": 0.5}, "offset: expected an integer, got 0.5"),
        ({"N_Q": 2**40, "N_X": 2**20}, "n_heads, N_Q, N_X: expected no more numbers than memory has room for"),
    ],
)  # fmt: skip
def test_wrong_alibi(given: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        alibi_bias(**{"n_heads": 2, "N_Q": 3} | given)
    assert str(caught.value).startswith(message)
