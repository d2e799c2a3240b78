"""From a finding to a row of the report: which slope it shows, where it looks for the wrong entry, what it names."""

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


def test_no_slope_is_shown_of_a_direction_that_moves_two_arguments(rng):
    loss = loss_of(lambda x, z: x.sum() + z.sum(), np.ones(2), np.ones(3))
    trial = Trial(loss, [np.ones(2), np.ones(3)], "complex-step", 1e-12, rng)
    shared = Probe({0: np.ones(2), 1: np.ones(3)}, 5.0, Slope(5.0), 1.0)
    alone = Probe({1: np.array([1.0, 0.0, 0.0])}, 1.0, Slope(1.5), 1.0, (0,))
    first = row(trial, Finding(0, "ok", probes=(shared,)), False, False)
    assert (first.index, first.analytic, first.numeric) == (None, None, None)
    second = row(trial, Finding(1, "ok", probes=(shared, alone)), False, False)
    assert (second.index, second.analytic, second.numeric) == ((0,), 1.0, 1.5)


@pytest.mark.parametrize(
    ("size", "hint"), [(1000, "only the entry at (7,) is wrong, by a factor of 1.001"), (1001, None)]
)
def test_up_to_a_thousand_entries_are_all_compared_once_a_gradient_is_wrong(rng, size, hint):
    """Too many at first, together with z; of more, halving finds the wrong one, but not that it is the only one."""

    def backward(dy, cache):
        x, z = cache
        dx = 2 * dy * x * z
        dx[7] *= 1.001
        return dx, np.sum(dy * x * x, keepdims=True)

    args = rng.uniform(1, 2, size), np.array([3.0])
    report = failing_report(lambda x, z: (x * x * z, (x, z)), backward, args)
    assert report["z"].ok and report["x"].index == (7,) and report["x"].hint == hint


def test_the_axes_of_the_output_explain_a_factor_as_well(rng):
    c = rng.standard_normal(7)
    report = failing_report(lambda x: (x[:, None] * c, None), lambda dy, _: np.mean(dy * c, axis=1), (np.ones(3),))
    assert report["x"].hint == "off by a factor of 0.142857 = 1/7; 7 is the length of axis 1 of the output"


def test_a_factor_is_explained_along_directions_as_well(rng):
    report = failing_report(lambda x: (x * x, x), lambda dy, x: 2 * dy * x / 50, (rng.standard_normal((30, 50)),))
    assert report["x"].hint == "off by a factor of 0.02 = 1/50; 50 is the length of axis 1 of x"
