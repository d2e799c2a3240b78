"""Sizes of arrays, lengths of vectors, and perturbed points."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.gradcheck.points import norm, perturbed, size_of


def test_size_of_an_array():
    assert size_of(np.array([[1.0, -3.0], [2.0, 0.5]])) == 3.0
    assert size_of(np.array([-np.inf, 0.25, np.nan])) == 0.25
    assert size_of(np.zeros(3)) == size_of(np.zeros(0)) == size_of(np.array([np.inf])) == 1.0
    assert type(size_of(np.float32([2]))) is float


def test_length_of_a_vector():
    assert norm(np.array([[3.0], [-4.0]])) == 5.0 and norm([-1.0]) == 1.0
    assert norm([]) == norm([0.0, 0.0]) == 0.0
    for unit in (0.1, 1e200, 1e-200):
        assert norm([-3 * unit, 4 * unit]) / unit == pytest.approx(5, rel=1e-14)
    assert norm([-np.inf, 1.0]) == np.inf and np.isnan(norm([1.0, np.nan]))


def test_perturbed_by_half_to_one_amount_up_or_down():
    rng = np.random.default_rng(0)
    x = np.where(np.arange(4000).reshape(2, -1) % 2, 4.0, -0.5)
    x[0, 0], x[0, 1] = 0.0, -np.inf
    moved, single, integers = perturbed([x, np.float32([1, 2]), np.array(3.0)], 1e-2, rng)
    assert moved.shape == x.shape and moved[0, 1] == -np.inf and np.abs(moved[0, 0]) <= 0.04 and moved[0, 0] != 0
    steps = (moved[1] - x[1]) / (1e-2 * x[1])
    assert 0.5 <= np.abs(steps).min() < 0.501 and 0.999 < np.abs(steps).max() <= 1.0
    assert 0.45 < np.mean(steps > 0) < 0.55
    assert single.dtype == np.float32 and integers.shape == () and isinstance(integers, np.ndarray)
    zeros = perturbed([np.zeros(1000)], 1e-2, rng)[0]  # moved by the size of the array, which is 1 if all is zero
    assert np.abs(zeros).min() >= 0.005 and np.abs(zeros).max() <= 0.01
