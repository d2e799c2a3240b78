"""The arithmetic of bounds: each operation against its formula, written out once more, and against real rounding."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from npattn.conformance.analysis import ANALYSES, visible, weights
from npattn.conformance.bounds import LAMBDA, PRECISIONS, Arithmetic, Bounded, rounded
from npattn.conformance.case import KINDS, Case, bounds_in, cases

A = Arithmetic("float32")
T = Arithmetic("float32", tightness=True)
U = 2.0**-24
ONE = U / (1 - U)


def b(value: object, error: object) -> Bounded:
    return Bounded(np.array(value, float), np.array(error, float))


def close(X: Bounded, value: object, error: object) -> None:
    assert np.allclose(X.value, value, rtol=1e-14, atol=0)
    assert np.allclose(X.error, error, rtol=1e-12, atol=0), (X.error, error)


def test_the_precisions_are_those_of_numpy() -> None:
    for name in ("float16", "float32", "float64"):
        info = np.finfo(name)
        assert PRECISIONS[name].roundoff == float(info.epsneg)
        assert PRECISIONS[name].underflow == float(info.smallest_subnormal) / 2
    assert PRECISIONS["bfloat16"][:2] == (2.0**-8, 2.0**-134)
    assert [PRECISIONS[name].weight for name in ("float64", "float32", "bfloat16", "float16")] == [
        1e-154, 1e-19, 1e-19, 2.0**-24
    ]  # fmt: skip
    assert LAMBDA == 4.0


def test_rounding_to_bfloat16() -> None:
    X = np.array([1.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-8 + 2.0**-20, -3.3, 0.0, 1e30])
    Y = rounded(X, "bfloat16")
    assert Y[:4].tolist() == [1.0, 1.0, 1 + 2.0**-6, 1 + 2.0**-7] and Y.dtype == np.float64
    assert np.all(np.abs(Y - X) <= 2.0**-8 * np.abs(X)) and np.all(Y.astype(np.float32).view(np.uint32) % 65536 == 0)
    assert rounded(np.array([0.1]), "float16")[0] == float(np.float16(0.1))


def test_gamma() -> None:
    assert A.gamma(3) == 3 * U / (1 - 3 * U) and A.gamma(2**24) == math.inf and A.gamma(2**24 - 1) < math.inf
    assert T.gamma(9) == pytest.approx(4 * 3 * U, rel=1e-15, abs=0)
    assert A.gamma(5, "float64") == 5 * 2.0**-53 / (1 - 5 * 2.0**-53)
    assert A.gamma_of_sum(7) == pytest.approx(A.gamma(7) + A.gamma(3), rel=1e-15, abs=0)
    half = Arithmetic("bfloat16")
    assert (half.accumulate, Arithmetic("float16").accumulate, A.accumulate) == ("float32", "float32", "float32")
    assert Arithmetic("float64").accumulate == "float64" and Arithmetic("float16", "float16").accumulate == "float16"
    assert half.gamma_of_sum(7) == pytest.approx(A.gamma(7) + half.gamma(3), rel=1e-15, abs=0)


def test_one_operation() -> None:
    x, y, eta = b([2.0, -3.0], [0.5, 0.25]), b([5.0, 7.0], [0.125, 0.0]), A.eta
    close(A.add(x, y), [7, 4], [0.625 + 7 * ONE + eta, 0.25 + 4 * ONE + eta])
    close(A.subtract(x, y), [-3, -10], [0.625 + 3 * ONE + eta, 0.25 + 10 * ONE + eta])
    close(A.multiply(x, y), [10, -21], [2 * 0.125 + 5 * 0.5 + 0.0625 + 10 * ONE + eta, 7 * 0.25 + 21 * ONE + eta])
    close(A.scale(x, -3.0), [-6, 9], [1.5 + 6 * A.gamma(2) + 2 * eta, 0.75 + 9 * A.gamma(2) + 2 * eta])
    close(A.rounding(x.value), [2, -3], [2 * ONE + eta, 3 * ONE + eta])
    close(T.add(x, y), [7, 4], [math.hypot(0.5, 0.125, 28 * U + eta), math.hypot(0.25, 16 * U + eta)])
    zero = A.multiply(b([0.0], [0.0]), b([0.0], [0.0]))
    assert zero.error[0] == eta > 0                           # numbers that are too small for the dtype
    exact = A.exact(np.ones((2, 3), np.float32))
    assert exact.value.dtype == np.float64 and exact.error.shape == (2, 3) and not exact.error.any()


def test_sums() -> None:
    x = b([[1.0, -2.0, 4.0]], [[0.1, 0.2, 0.4]])
    close(A.sum(x, -1), [3], [0.7 + A.gamma_of_sum(3) * 7 + A.eta])
    assert A.sum(x, -1, keepdims=True).value.shape == (1, 1) and A.sum(x, (0, 1)).value.shape == ()
    close(A.mean(x), [[1]], [[(0.7 + A.gamma_of_sum(3) * 7 + A.eta) / 3 + A.gamma(2) + 2 * A.eta]])
    own = math.sqrt((4 * U) ** 2 * 3 * (9 / 3 + 21 / 6) + (4 * U) ** 2 * (2 * 21 + 9)) + T.eta
    close(T.sum(x, -1), [3], [math.hypot(0.1, 0.2, 0.4, own)])
    y = b([[1.0], [3.0], [0.5]], [[0.0], [0.1], [0.0]])
    size, cross = 1 + 6 + 2, 2 * 0.1 + (0.1 * 1 + 0.2 * 3 + 0.4 * 0.5) + 0.2 * 0.1
    close(A.product(x, y), [[-3]], [[A.gamma_of_sum(3) * size + 6 * A.eta + cross]])
    q = 1 + 36 + 4
    own = math.sqrt((4 * U) ** 2 * 3 * (9 / 3 + q / 6) + (4 * U) ** 2 * (2 * q + 9)) + 6 * T.eta
    close(T.product(x, y), [[-3]], [[math.hypot(own, 2 * 0.1, 0.1 * 1, 0.2 * 3, 0.4 * 0.5, 0.2 * 0.1)]])


def test_partial_sums_in_random_order() -> None:
    """The mean of Σ s_k² over orders, which the tightness of a sum rests on."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(200) + 0.1
    measured = np.mean([np.square(np.cumsum(rng.permutation(x))).sum() for _ in range(4000)])
    assert measured == pytest.approx(200 * (x.sum() ** 2 / 3 + np.square(x).sum() / 6), rel=0.05)


def test_functions() -> None:
    x = b([0.5], [0.1])
    close(A.function(np.exp, x), [math.exp(0.5)],
          [math.exp(0.6) - math.exp(0.5) + A.gamma(4) * math.exp(0.5) + 4 * A.eta])
    close(A.function(np.tanh, x), [math.tanh(0.5)],
          [math.tanh(0.5) - math.tanh(0.4) + A.gamma(4) * math.tanh(0.5) + 4 * A.eta])


def test_views() -> None:
    x = b([[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]])
    close(x.mT, [[1, 3], [2, 4]], [[5, 7], [6, 8]])
    close(x[0], [1, 2], [5, 6])
    close(x.reshape(4), [1, 2, 3, 4], [5, 6, 7, 8])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_real_sums_stay_within_the_verdict_in_every_order(dtype: str) -> None:
    arithmetic = Arithmetic(dtype, dtype)
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((1, 300)).astype(dtype) for _ in range(2))
    bound = arithmetic.product(arithmetic.exact(x), arithmetic.exact(y.T))
    for order in (np.arange(300), np.argsort(x[0] * y[0]), rng.permutation(300)):
        total = x.dtype.type(0)
        for one, other in zip(x[0, order], y[0, order], strict=True):
            total += one * other
        assert abs(float(total) - bound.value[0, 0]) <= bound.error[0, 0]


def test_weights() -> None:
    E = b([[0.0, math.log(3.0), 9.0], [1.0, 1.0, 1.0]], np.full((2, 3), 0.01))
    seen = np.array([[True, True, False], [False, False, False]])
    found = weights(A, E, seen)
    assert np.allclose(found.value, [[0.25, 0.75, 0], [0, 0, 0]]) and not found.error[~seen].any()
    grow = math.expm1(0.01)
    expected = 0.25 * 2 * grow / (1 - grow)                   # exponentials and their sum, in the worst direction
    assert found.error[0, 0] == pytest.approx(expected, rel=1e-3)
    assert found.error[0, 0] > expected
    assert weights(A, b([[800.0, 0.0]], [[50.0, 900.0]]), np.ones((1, 2), bool)).error.tolist() == [[1 + 1e-19] * 2]


def test_what_is_visible() -> None:
    assert visible((2, 3), {}).all()
    assert visible((3, 3), {"causal": True}).tolist() == np.tri(3, dtype=bool).tolist()
    assert visible((2, 4), {"causal": True, "offset": 2}).sum(-1).tolist() == [3, 4]
    assert visible((1, 6), {"offset": 4, "window": 2}).tolist() == [[False, False, False, True, True, False]]
    assert visible((2, 2), {"mask": np.array([True, False])}).tolist() == [[True, False]] * 2
    assert visible((2, 2), {"mask": None}).all()


def level(case: Case, tightness: bool) -> float:
    """Return the mean of log₂ of all bounds that are not 0."""
    logs = [np.log2(bound[bound > 0]) for bound in case.bounds(tightness=tightness).values()]
    return float(sum(log.sum() for log in logs) / max(1, sum(log.size for log in logs)))


@pytest.mark.parametrize("of", KINDS)
def test_bounds_stay_what_they_are(of: str) -> None:
    """A bound that changes is a decision. bounds.json has the mean of log₂: the verdict, the tightness."""
    kept = json.loads(Path(__file__).with_name("bounds.json").read_text(encoding="utf-8"))[of]
    found = {
        wide.name: [level(wide, False), level(half, True)]
        for wide, half in zip(cases(of, "float32"), cases(of, "bfloat16"), strict=True)
    }
    assert found.keys() == kept.keys()
    for name, levels in found.items():
        assert levels == pytest.approx(kept[name], abs=1e-5), name


@pytest.mark.parametrize("of", KINDS)
def test_the_numbers_that_are_bounded_are_the_right_ones(of: str) -> None:
    for case in cases(of):
        with np.errstate(all="ignore"):
            found = ANALYSES[of](Arithmetic("float64"), case.inputs, case.options, case.cotangent)
        assert found.keys() == case.answer.keys()
        for name, right in case.answer.items():
            assert found[name].value.shape == right.shape, (case, name)
            assert np.all(np.abs(found[name].value - right) <= case.bounds()[name]), (case, name)


def test_the_rounding_of_sums_alone() -> None:
    x, y = T.exact(np.array([[1.0, -2.0, 4.0]])), T.exact(np.array([[1.0], [3.0], [0.5]]))
    own = math.sqrt((4 * U) ** 2 * 3 * (9 / 3 + 21 / 6) + (4 * U) ** 2 * (2 * 21 + 9)) + T.eta
    close(T.sum(x, -1), [3], [own])
    own = math.sqrt((4 * U) ** 2 * 3 * (9 / 3 + 41 / 6) + (4 * U) ** 2 * (2 * 41 + 9)) + 6 * T.eta
    close(T.product(x, y), [[-3]], [[own]])


def test_weights_of_tiny_and_of_large_errors() -> None:
    wide, seen = Arithmetic("float64"), np.ones((1, 2), bool)
    exponent = 3e-17 + 2 * wide.gamma(2)
    change = 0.5 * math.expm1(exponent)
    spread = 2 * change + wide.gamma_of_sum(2)
    expected = (change + 0.5 * spread) / (1 - spread) + 0.5 * wide.gamma(6)
    found = weights(wide, b([[1.0, 1.0]], [[3e-17] * 2]), seen)
    assert found.error[0] == pytest.approx([expected] * 2, rel=1e-9, abs=0)           # all are near 1e-15
    large = weights(A, b([[math.log(9.0), 0.0]], [[math.log(2.2)] * 2]), seen)        # the sum is off by 120 %
    assert large.error.tolist() == [[1 + 1e-19] * 2]


@pytest.mark.parametrize("of", KINDS)
def test_bounds_are_computed_in_any_error_state(of: str) -> None:
    for case in cases(of, "float32"):
        fresh, names = replace(case), case.answer.keys()      # no bounds of it are kept
        fresh.__dict__["answer"] = case.answer
        with np.errstate(all="raise"):
            assert bounds_in(fresh, A).keys() == names
