"""Rotary positions against complex numbers; rotary frequencies against their formulas, and their errors."""

from __future__ import annotations

import cmath
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn.layers import RotaryFrequencies, rotary, rotary_backward, rotary_frequencies
from npattn.layers.rotary import rotate, rotate_back
from support.calls import Setting, assert_same, cotangent, examples, settings
from support.pairs import PAIRS

each_setting = given(setting=settings(dtype="float64"))


def columns(i: int, R: int, pairing: str) -> list[int]:
    return [2 * i, 2 * i + 1] if pairing == "neighbours" else [i, i + R // 2]


@each_setting
@examples(10)
def test_definition(setting: Setting) -> None:
    """(a + b i) exp(i m θ) f, number by number; columns beyond R stay."""
    call = PAIRS["npattn.layers.rotary.rotary"].call(setting)
    (X,), (theta, f), pairing = call.args, call.kwargs["frequencies"], call.kwargs["pairing"]
    Y, _ = call.run()
    positions = call.kwargs["positions"]
    m = np.broadcast_to(np.arange(X.shape[-2]) if positions is None else positions, X.shape[:-1])
    expected = X.copy()
    for row in np.ndindex(m.shape):
        for i, angle in enumerate(theta * m[row]):
            at = columns(i, 2 * len(theta), pairing)
            turned = complex(*X[row][at]) * cmath.exp(1j * angle) * f
            expected[row][at] = turned.real, turned.imag
    assert_same([Y], [expected])
    assert (Y[..., 2 * len(theta) :] == X[..., 2 * len(theta) :]).all()


@each_setting
@examples(5)
def test_lengths_stay_and_the_backward_turns_back(setting: Setting) -> None:
    call = PAIRS["npattn.layers.rotary.rotary"].call(setting)
    call.kwargs["frequencies"] = RotaryFrequencies(call.kwargs["frequencies"].theta)
    Y, cache = call.run()
    np.testing.assert_allclose((Y * Y).sum(-1), (call.args[0] ** 2).sum(-1), rtol=1e-12)
    assert_same([rotary_backward(Y, cache)], call.args)


@pytest.mark.parametrize("pairing", ["neighbours", "halves"])
def test_products_depend_on_the_distance(pairing: str) -> None:
    q, k = np.random.default_rng(0).normal(size=(2, 1, 8))
    frequencies = rotary_frequencies(6, base=50.0, factor=1.2)

    def product(m: int, n: int) -> Any:
        Q, K = (rotary(x, frequencies, np.array([at]), pairing=pairing)[0] for x, at in ((q, m), (k, n)))
        return (Q @ K.T).item()

    assert product(3, 5) == pytest.approx(product(1003, 1005), rel=1e-11) == pytest.approx(product(-2, 0), rel=1e-12)
    assert abs(product(3, 5) - product(5, 3)) > 1e-3 and abs(product(3, 5) - product(3, 6)) > 1e-3


def test_angles_are_exact_at_positions_far_out() -> None:
    """float32 would round the angle 10⁶ · 0.1 to a hundredth; here only cos and sin are rounded."""
    X = np.array([[1.0, 0.0]], np.float32)
    Y, _ = rotary(X, RotaryFrequencies(np.array([0.1])), np.array([10**6]))
    np.testing.assert_allclose(Y[0], [math.cos(1e5), math.sin(1e5)], atol=1e-7)
    Z, _ = rotary(X, RotaryFrequencies(np.array([0.1])), np.array([2**40], np.uint64))
    np.testing.assert_allclose(Z[0], [math.cos(2**40 * 0.1), math.sin(2**40 * 0.1)], atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_frequencies_of_other_floating_dtypes(dtype: str) -> None:
    """float32 as a model stores them; complex when check_gradients makes all floating arrays complex."""
    X, theta = np.arange(6.0).reshape(3, 2), np.array([0.5])
    expected, _ = rotary(X, RotaryFrequencies(theta))
    assert (rotary(X, RotaryFrequencies(theta.astype(dtype)))[0] == expected).all()


def test_no_frequencies_turn_nothing() -> None:
    X = np.arange(6.0).reshape(2, 3)
    assert (rotary(X, RotaryFrequencies(np.zeros(0)), pairing="halves")[0] == X).all()


def test_positions_of_any_broadcasting_shape() -> None:
    X, frequencies = np.random.default_rng(0).normal(size=(2, 3, 4)), rotary_frequencies(4, base=3.0)
    whole = rotary(X, frequencies, np.full((2, 3), 7))[0]
    for shape in ((), (1,), (3,), (1, 3), (2, 1)):
        assert (rotary(X, frequencies, np.full(shape, 7))[0] == whole).all()


@pytest.mark.parametrize("shape", [(0, 4), (2, 0, 4), (0, 3, 4)])
def test_empty_axes(shape: tuple[int, ...]) -> None:
    Y, cache = rotary(np.zeros(shape), rotary_frequencies(4))
    assert Y.shape == rotary_backward(Y, cache).shape == shape


def test_turning_back_does_not_change_the_rotation() -> None:
    X, cache = np.ones((3, 2)), rotary(np.ones((3, 2)), RotaryFrequencies(np.array([0.5]), 2.0))[1]
    np.testing.assert_allclose(rotate_back(rotate(X, cache.rotation), cache.rotation), 4 * X, rtol=1e-14)
    assert (rotate(X, cache.rotation) == rotary(X, RotaryFrequencies(np.array([0.5]), 2.0))[0]).all()


NO_FREQUENCIES = "frequencies: expected what rotary_frequencies returns, got"
NO_POSITIONS = "positions: expected a shape that broadcasts to (…, N) = (3,), got"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"frequencies": np.ones(1)}, f"{NO_FREQUENCIES} an array of float64 (1,)"),
        ({"frequencies": RotaryFrequencies([0.5])}, f"{NO_FREQUENCIES} RotaryFrequencies(theta=[0.5], factor=1.0)"),
        ({"frequencies": RotaryFrequencies(np.array([1]))}, f"{NO_FREQUENCIES} RotaryFrequencies(theta=array([1])"),
        ({"frequencies": RotaryFrequencies(np.ones((1, 1)))}, f"{NO_FREQUENCIES} RotaryFrequencies(theta=array("),
        ({"frequencies": RotaryFrequencies(np.ones(1), None)}, f"{NO_FREQUENCIES} RotaryFrequencies(theta=array([1.])"),
        ({"frequencies": RotaryFrequencies(np.ones(3))}, "frequencies: expected at most D/2=2 of them, got 3"),
        ({"positions": np.arange(4)}, f"{NO_POSITIONS} (4,)"),
        ({"positions": np.zeros((1, 3), int)}, f"{NO_POSITIONS} (1, 3)"),
        ({"positions": np.ones(3)}, "positions: expected an integer array, got float64"),
        ({"pairing": "both"}, "pairing: expected one of neighbours, halves, got 'both'"),
    ],
)
def test_wrong_arguments(given: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        rotary(np.ones((3, 5)), **{"frequencies": RotaryFrequencies(np.ones(2))} | given)
    assert str(caught.value).startswith(message)


# ---- frequencies ------------------------------------------------------------------------------------------------


@given(st.integers(1, 40).map(lambda n: 2 * n), st.floats(1.5, 1e6))
@examples(20)
def test_plain_frequencies(R: int, base: float) -> None:
    theta, factor = rotary_frequencies(R, base=base)
    np.testing.assert_allclose(theta, [base ** (-2 * i / R) for i in range(R // 2)], rtol=1e-13)
    assert factor == 1 and theta[0] == 1


@pytest.mark.parametrize("R", [2, 4, 64])
def test_ntk_keeps_the_first_pair_and_divides_the_last_by_s(R: int) -> None:
    plain, scaled = rotary_frequencies(R).theta, rotary_frequencies(R, scaling="ntk", s=5).theta
    assert scaled[0] == 1
    if R > 2:
        assert scaled[-1] == pytest.approx(plain[-1] / 5, rel=1e-14)
    assert (np.diff(scaled / plain) < 0).all()


def test_dynamic_is_ntk_with_a_factor_that_grows_with_the_length() -> None:
    given = {"scaling": "dynamic", "s": 4.0, "original_length": 100}
    for length, s in ((None, 1), (0, 1), (100, 1), (150, 3), (400, 13)):
        expected = rotary_frequencies(8, scaling="ntk", s=s).theta
        np.testing.assert_allclose(rotary_frequencies(8, **given, length=length).theta, expected, rtol=1e-14)


def test_yarn_by_hand() -> None:
    """base = L/2π and R = 8: pair number 4 (1 − ln β / ln base). β = 1 gives 4, β = √base gives 2."""
    L = 10_000
    base = L / (2 * math.pi)
    given = {"base": base, "scaling": "yarn", "s": 4.0, "original_length": L, "turns": (1.0, math.sqrt(base))}
    plain, (theta, factor) = rotary_frequencies(16, base=base).theta, rotary_frequencies(16, **given, truncate=False)
    gamma = np.array([1, 1, 1, 1, 1, 0.75, 0.5, 0.25])        # from pair 4 to pair 8
    np.testing.assert_allclose(theta / plain, gamma + (1 - gamma) / 4, rtol=1e-12)
    assert factor == pytest.approx(0.1 * math.log(4) + 1, rel=1e-15)
    given["turns"] = (1.0, base**0.4)                         # low = 4.8 is rounded down to 4
    np.testing.assert_allclose(rotary_frequencies(16, **given, truncate=True).theta / plain, gamma * 0.75 + 0.25)
    assert rotary_frequencies(16, **given, truncate=False).theta[5] / plain[5] > 0.85      # γ = (8 − 5)/(8 − 4.8)


def test_the_ends_of_the_ramp_of_yarn_stay_within_the_columns() -> None:
    """`low` is at least 0; `high` is at most R − 1, the last column and not the last pair, as in all code."""
    given = {"scaling": "yarn", "s": 4.0, "truncate": False}
    plain = rotary_frequencies(8).theta
    theta = rotary_frequencies(8, **given, original_length=10**9).theta             # low = 6.7, high = 7: no pair
    np.testing.assert_allclose(theta, plain, rtol=1e-15)
    theta = rotary_frequencies(8, **given, original_length=20, turns=(1.0, 30.0)).theta    # low = 0, high = 0.5
    np.testing.assert_allclose(theta / plain, [1, 0.25, 0.25, 0.25], rtol=1e-14)
    theta = rotary_frequencies(8, base=10.0, **given, original_length=628_319, turns=(1.0, 1e6)).theta
    gamma = (7 - np.arange(4)) / 7                            # low = −4 and high = 20, cut off to 0 and 7
    np.testing.assert_allclose(theta / rotary_frequencies(8, base=10.0).theta, gamma * 0.75 + 0.25, rtol=1e-14)
    given["truncate"] = True
    theta = rotary_frequencies(8, **given, original_length=3 * 10**9).theta         # both 7: beyond every pair
    np.testing.assert_allclose(theta, plain, rtol=1e-15)
    short = rotary_frequencies(8, **given, original_length=6)                       # both 0: high grows by 0.001
    np.testing.assert_allclose(short.theta / plain, [1, 0.25, 0.25, 0.25], rtol=1e-12)


def test_llama3_by_hand() -> None:
    """L = 8 · 2π and θ = 1, ½, ¼, 1/8: 8, 4, 2 and 1 turns."""
    L, theta = 8, np.array([1, 0.5, 0.25, 0.125])
    plain = rotary_frequencies(8, base=16.0).theta
    np.testing.assert_allclose(plain, theta, rtol=1e-15)
    turns = L * theta / (2 * math.pi)                         # 1.273, 0.637, 0.318, 0.159
    found = rotary_frequencies(
        8, base=16.0, scaling="llama3", s=2, original_length=L, turns=(float(turns[2]), float(turns[0]))
    )
    np.testing.assert_allclose(found.theta / plain, [1, (1 / 3 + 1) / 2, 0.5, 0.5], rtol=1e-14)
    assert found.factor == 1


def test_a_factor_that_is_given() -> None:
    for scaling in ("none", "yarn"):
        found = rotary_frequencies(8, scaling=scaling, s=4, original_length=64, factor=0.7)
        assert found.factor == 0.7


@pytest.mark.parametrize("scaling", ["none", "linear", "ntk", "dynamic", "yarn", "llama3"])
def test_a_scaling_by_1_changes_nothing(scaling: str) -> None:
    theta, factor = rotary_frequencies(16, scaling=scaling, s=1, original_length=64)
    np.testing.assert_allclose(theta, rotary_frequencies(16).theta, rtol=1e-14)
    assert factor == 1 and theta.dtype == np.float64


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rotary_width": 7}, "rotary_width: expected an even number, got 7"),
        ({"rotary_width": 0}, "rotary_width: expected 2 or more, got 0"),
        ({"rotary_width": 2**60}, "rotary_width: expected no more numbers than memory has room for"),
        ({"base": 1.0}, "base: expected 1 < base < 1.70141e+38, got 1.0"),
        ({"base": 2.0**127}, "base: expected 1 < base < 1.70141e+38, got 1.7014118346046923e+38"),
        ({"s": 0.5}, "s: expected 1 ≤ s < 1.70141e+38, got 0.5"),
        ({"s": 2.0**127}, "s: expected 1 ≤ s < 1.70141e+38, got 1.7014118346046923e+38"),
        ({"scaling": "longer"}, "scaling: expected one of none, linear, ntk, dynamic, yarn, llama3, got 'longer'"),
        ({"scaling": "yarn"}, "original_length: expected the length of training for 'yarn', got None"),
        ({"scaling": "dynamic"}, "original_length: expected the length of training for 'dynamic', got None"),
        ({"scaling": "llama3"}, "original_length: expected the length of training for 'llama3', got None"),
        ({"original_length": 0}, "original_length: expected 1 or more, got 0"),
        ({"length": -1}, "length: expected 0 or more, got -1"),
        ({"turns": (4.0, 1.0)}, "turns: expected the smaller number first, got (4.0, 1.0)"),
        ({"turns": (4.0, 4.0)}, "turns: expected the smaller number first, got (4.0, 4.0)"),
        ({"turns": [1.0, 4.0]}, "turns: expected a tuple of two numbers, got [1.0, 4.0]"),
        ({"turns": (1.0, 2.0, 3.0)}, "turns: expected a tuple of two numbers, got (1.0, 2.0, 3.0)"),
        ({"turns": (0.0, 2.0)}, "turns: expected 5.87747e-39 ≤ turns < 1.70141e+38, got 0.0"),
        ({"turns": (1.0, 2.0**127)}, "turns: expected 5.87747e-39 ≤ turns < 1.70141e+38, got 1.7014118346046923e+38"),
        ({"truncate": 1}, "truncate: expected True or False, got 1"),
        ({"factor": "1"}, "factor: expected a number, got '1'"),
        ({"factor": 2.0**127}, "factor: expected -1.70141e+38 ≤ factor < 1.70141e+38, got 1.7014118346046923e+38"),
    ],
)
def test_wrong_frequencies(given: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        rotary_frequencies(**{"rotary_width": 8} | given)
    assert str(caught.value).startswith(message)


def test_the_defaults() -> None:
    """The base of the paper, and no scaling."""
    assert rotary_frequencies(4).theta.tolist() == [1, 0.01]
    assert rotary_frequencies(4, scaling="linear").theta.tolist() == [1, 0.01]


def test_the_number_of_frequencies_is_compared_with_the_width_of_a_row() -> None:
    with pytest.raises(ValueError, match=r"^frequencies: expected at most D/2=1 of them, got 2$"):
        rotary(np.ones((5, 8, 3)), RotaryFrequencies(np.ones(2)))


def test_gradients_of_float32_stay_float32() -> None:
    X = np.ones((3, 4), np.float32)
    Y, cache = rotary(X, rotary_frequencies(4, factor=np.float64(1.5)))
    assert Y.dtype == rotary_backward(cotangent(Y), cache).dtype == np.float32
