"""Arguments at which a check proves little, and what is said about them."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.gradcheck import GradientError, GradientWarning, check_gradients
from support.planted_faults import LAYERS

RELU = LAYERS["relu"]


@pytest.fixture
def X():
    return np.random.default_rng(3).standard_normal((3, 4))


def test_dead_inputs_are_compared_elsewhere(X):
    """No warning, because the comparison at normal random numbers proves the gradient."""
    assert check_gradients(RELU.forward, RELU.backward, (-abs(X),))["x"].verdict == "zero"
    with pytest.raises(GradientError, match="zero at these arguments, wrong at normal random numbers"):
        check_gradients(RELU.forward, lambda dy, x: 0 * dy, (-abs(X),))
    with pytest.raises(GradientError, match="wrong at normal random numbers: off by a factor of\n  2\n"):
        check_gradients(RELU.forward, lambda dy, x: 2 * RELU.backward(dy, x)[0], (-abs(X),))


def test_a_branch_never_taken_is_noted(X):
    report = check_gradients(RELU.forward, lambda dy, x: 1 * dy, (abs(X),))
    assert report.notes[0].startswith("right here, wrong at normal random numbers: x")
    log = check_gradients(lambda x: (np.log(x), x), lambda dy, x: dy / x, (abs(X),))  # forward refuses other numbers
    assert log.notes == ()


def test_a_gradient_that_is_zero_everywhere_warns(X):
    with pytest.warns(GradientWarning, match="every gradient is zero here, so the check proves little"):
        check_gradients(lambda x: (np.floor(x), x), lambda dy, x: 0 * dy, (X,))
    with pytest.warns(GradientWarning, match="there is no number to compare, so the check proves nothing"):
        check_gradients(RELU.forward, RELU.backward, (np.ones((0, 4)),))


def test_the_second_point_has_another_cotangent(X):
    """Backward is right for the cotangents of one point only, and stays linear."""
    seen = []

    def backward(dy, x):
        seen.append(dy.copy())
        return RELU.backward(dy, x)

    check_gradients(RELU.forward, backward, (X,))
    assert len({dy.tobytes() for dy in seen}) >= 4  # the cotangent, zero, two of linearity, one elsewhere
