"""The measurements of the contract: linearity, differences between calls, the point of the second forward."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.gradcheck.contract import Contract
from npattn.gradcheck.pair import PairUnderTest
from npattn.gradcheck.points import norm

X = np.array([[2.0, -0.5, 0.25], [1.0, 0.75, -4.0]])


def square(X):
    return X * X, X


def square_backward(dY, X):
    return 2 * X * dY


def contract_of(forward, backward, *args, seed=0):
    return Contract(PairUnderTest(forward, backward, args, {}), np.random.default_rng(seed))


# ---- linearity ------------------------------------------------------------------------------------------------


def nonlinear(dY, X):
    return 2 * X * (dY + 1e-6 * dY * dY)


def test_cotangents_of_the_check_for_linearity():
    given = []
    contract = contract_of(square, lambda dY, X: given.append(dY) or square_backward(dY, X), X)
    contract.check_linearity([X], {0: 1e-9})
    one, other, both = (dY.ravel() for dY in given)
    a, b = np.linalg.lstsq(np.stack([one, -other], 1), both, rcond=None)[0]
    np.testing.assert_allclose(a * one - b * other, both, rtol=1e-12)
    assert contract.problems == [] and np.array_equal(one, contract.cotangent) and not np.array_equal(one, other)
    assert 3 <= a <= 7 and 3 <= b <= 7 and a != b
    rng = np.random.default_rng(0)
    rng.standard_normal(one.size)
    np.testing.assert_array_equal(other, rng.standard_normal(one.size))
    np.testing.assert_allclose([a, b], rng.uniform(3.0, 7.0, 2), rtol=1e-12)


@pytest.mark.parametrize("X", [X, 1e-6 * X])
@pytest.mark.parametrize("seed", range(6))
def test_the_deviation_from_linearity_is_relative_to_the_largest_entry(X, seed):
    given = []
    contract_of(square, lambda dY, X: given.append(dY) or nonlinear(dY, X), X, seed=seed).check_linearity([X], {0: 1.0})
    one, other, both = (nonlinear(dY, X) for dY in given)
    a, b = np.linalg.lstsq(np.stack([given[0].ravel(), -given[1].ravel()], 1), given[2].ravel(), rcond=None)[0]
    deviation = np.max(abs(a * one - b * other - both)) / max(np.max(abs(a * one)), np.max(abs(b * other)))
    for rtol, problems in (
        (1.001 * deviation, []),
        (0.999 * deviation, ["gradient of X: not linear in the cotangent"]),
    ):
        contract = contract_of(square, nonlinear, X, seed=seed)
        contract.check_linearity([X], {0: rtol})
        assert contract.problems == problems


def test_only_gradients_with_a_tolerance_are_checked_for_linearity():
    """None counts as linear. nan does not."""

    def forward(X, Y, Z):
        return X * Y, (X, Y)

    def backward(dZ, cache):
        return dZ * cache[1] + dZ**2, cache[0] * dZ**3, None

    contract = contract_of(forward, backward, X, X + 1, X)
    contract.check_linearity([X, X + 1, X], {1: 1e-9, 2: 1e-9})
    assert contract.problems == ["gradient of Y: not linear in the cotangent"]
    contract.check_linearity([X, X + 1, X], {0: 1e-9})
    assert contract.problems[1:] == ["gradient of X: not linear in the cotangent"]
    nan = contract_of(square, lambda dY, X: dY * np.nan, X)
    nan.check_linearity([X], {0: 1e-9})
    assert nan.problems == ["gradient of X: not linear in the cotangent"]


def test_linearity_is_checked_at_the_given_values():
    seen = []
    contract = contract_of(square, lambda dY, X: seen.append(X.copy()) or square_backward(dY, X), X)
    contract.check_linearity([X + 1], {0: 1e-9})
    assert len(seen) == 3 and all(np.array_equal(values, X + 1) for values in seen)


# ---- second forward -------------------------------------------------------------------------------------------


FIRST = [-100.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("second", "is_same"),
    [
        ([-100.0, 1.00099, 2.0], True),
        ([-100.0, 0.99901, 2.0], True),
        ([-100.0, 1.00101, 2.0], False),
        ([-100.0, 1.0, 1.99899], False),
        ([-100.0, 1.0, 2.0, 0.0], False),
    ],
)
@pytest.mark.parametrize("unit", [1.0, 1e-6])
def test_outputs_of_two_calls_may_differ_by_1e_5_of_the_largest_number(second, is_same, unit):
    outputs = iter([FIRST, second])
    contract = contract_of(lambda X: (unit * np.array(next(outputs)), X), square_backward, X)
    problem = "forward: two calls with the same arguments give different outputs"
    assert contract.problems == ([] if is_same else [problem])


def test_outputs_of_zero_are_the_same():
    assert contract_of(lambda X: (0 * X, X), square_backward, X).problems == []


def test_forward_is_called_again_at_other_and_smaller_values():
    calls = []

    def forward(X, Z):
        calls.append((X.copy(), Z.copy()))
        return X * 3 + Z.sum(), (X, Z)

    Z = np.array([0.1, -0.2])
    contract = contract_of(forward, lambda dY, c: (3 * dY, np.full(2, dY.sum())), X, Z)
    assert len(calls) == 2 and contract.size_elsewhere == 0.0 and contract.gradients == []
    contract.check_backward()
    assert contract.problems == [] and len(calls) == 4  # elsewhere, and for the zero cotangent
    x, z = calls[2]
    for there, here, size in ((x, X, 4.0), (z, Z, 1.0)):
        moved = np.flip(there) * np.max(np.abs(here)) / np.max(np.abs(there)) if size > 1 else np.flip(there)
        away = np.abs(moved / here - 1)
        assert away.max() <= 2.1e-3 and away.max() > 1e-4 and not np.array_equal(moved, here)
    assert np.max(np.abs(x)) == 1.0 and 0.19 < np.max(np.abs(z)) < 0.21
    assert contract.size_elsewhere == pytest.approx(norm(contract.cotangent * (3 * x + z.sum()).ravel()), rel=1e-14)


@pytest.mark.parametrize("fails", [True, False])
def test_forward_may_refuse_the_smaller_values_or_return_inf(fails):
    def forward(X):
        if fails and abs(X).max() < 3:
            raise ValueError("X: expected larger numbers")
        return np.where(abs(X).max() < 3, np.inf, X * X), X

    contract = contract_of(forward, square_backward, X)
    contract.check_backward()
    assert contract.problems == [] and contract.size_elsewhere == 0.0
