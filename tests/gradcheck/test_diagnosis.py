"""From a finding to a row of the report: the slope shown, the search for the wrong entry, the hint."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.gradcheck.diagnosis import row
from npattn.gradcheck.numeric import Slope
from npattn.gradcheck.probes import Probe
from npattn.gradcheck.trial import Finding, Trial
from support.gradcheck_pairs import failing_report, loss_of


@pytest.fixture
def rng():
    return np.random.default_rng(13)


def test_the_slope_of_a_shared_direction_is_not_shown(rng):
    loss = loss_of(lambda x, z: x.sum() + z.sum(), np.ones(2), np.ones(3))
    trial = Trial(loss, [np.ones(2), np.ones(3)], "complex-step", 1e-12, rng)
    shared = Probe({0: np.ones(2), 1: np.ones(3)}, 5.0, Slope(5.0), 1.0)
    alone = Probe({1: np.array([1.0, 0.0, 0.0])}, 1.0, Slope(1.5), 1.0, (0,))
    first = row(trial, Finding(0, "ok", probes=(shared,)), False, False)
    assert (first.index, first.analytic, first.numeric) == (None, None, None)
    second = row(trial, Finding(1, "ok", probes=(shared, alone)), False, False)
    assert (second.index, second.analytic, second.numeric) == ((0,), 1.0, 1.5)


@pytest.mark.parametrize(
    ("size", "hint"),
    [
        (1000, "only the entry at (7,) is wrong, by a factor of 1.001"),
        (1001, "wrong in 1 of 201 entries compared, this one by a factor of 1.001"),
    ],
)
def test_up_to_a_thousand_entries_of_a_wrong_gradient_are_compared(rng, size, hint):
    """Together with z there are more than 1,000 numbers, so directions are compared first.

    In a gradient of more than 1,000, halving finds the wrong entry, and a block around it is compared.
    """

    def backward(dy, cache):
        x, z = cache
        dx = 2 * dy * x * z
        dx[7] *= 1.001
        return dx, np.sum(dy * x * x, keepdims=True)

    args = rng.uniform(1, 2, size), np.array([3.0])
    report = failing_report(lambda x, z: (x * x * z, (x, z)), backward, args)
    assert report["z"].ok and report["x"].index == (7,) and report["x"].hint == hint


def test_a_factor_is_explained_by_an_axis_of_the_output(rng):
    c = rng.standard_normal(7)
    report = failing_report(lambda x: (x[:, None] * c, None), lambda dy, _: np.mean(dy * c, axis=1), (np.ones(3),))
    assert report["x"].hint == "off by a factor of 0.142857 = 1/7; 7 is the length of axis 1 of the output"


def test_a_factor_is_explained_along_directions(rng):
    report = failing_report(lambda x: (x * x, x), lambda dy, x: 2 * dy * x / 50, (rng.standard_normal((30, 50)),))
    assert report["x"].hint == "off by a factor of 0.02 = 1/50; 50 is the length of axis 1 of x"
