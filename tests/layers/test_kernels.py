"""The products and sums that layers share, where the tests of the layers do not reach."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npattn.layers.kernels import drop_negligible, greatest, project, rows, sqrt_width, weight_gradient


@pytest.mark.parametrize(("width", "root"), [(0, 1.0), (1, 1.0), (2, math.sqrt(2)), (64, 8.0)])
def test_the_square_root_of_the_width_is_a_python_float(width: int, root: float) -> None:
    found = sqrt_width(np.zeros((3, width), np.float32))
    assert type(found) is float and found == root


def test_no_rows_have_no_negligible_scores() -> None:
    E = np.zeros((0, 3))
    drop_negligible(E, np.inf, np.zeros((0, 1)))
    assert E.shape == (0, 3)


@pytest.mark.parametrize(("unit", "reach"), [(1.0, 43.66), (1 / math.log(2), 63.0)])
def test_negligible_scores_in_units(unit: float, reach: float) -> None:
    """The root of the smallest normal float32 is 2⁻⁶³ = exp(−43.67)."""
    E = np.array([[0.0, 0.01 - reach, -reach - 0.02]], np.float32)
    drop_negligible(E, float(E.min()), 0.0, unit)
    assert np.isinf(E[0]).tolist() == [False, False, True]


@pytest.mark.parametrize("width", [1, 5, 64])
def test_the_greatest_of_each_row(width: int) -> None:
    X = np.random.default_rng(width).normal(size=(3, 4, width)).astype(np.float32)
    X[0, 1, width // 2], X[1, 0], X[2, 1, -1] = np.inf, -np.inf, np.nan
    for given in (X, X[:, ::2], X[:0], np.asfortranarray(X)):
        got = greatest(given)
        np.testing.assert_array_equal(got, given.max(-1, keepdims=True))
        assert got.dtype == np.float32 and not np.shares_memory(got, X)


def test_no_numbers_have_the_greatest_minus_infinity() -> None:
    assert greatest(np.zeros((2, 0))).tolist() == [[-np.inf], [-np.inf]]


def test_two_axes_are_not_reshaped() -> None:
    X, W = np.ones((3, 2)), np.ones((2, 4))
    assert rows(X) is X and project(X, W).base is None
    assert project(X[None], W).shape == (1, 3, 4)


def test_a_weight_gradient_is_written_where_it_is_wanted() -> None:
    rng, dW = np.random.default_rng(0), np.zeros((2, 9))
    X, dY = rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 5, 4))
    found = weight_gradient(X, dY, out=dW[:, 3:7])
    np.testing.assert_allclose(dW[:, 3:7], np.einsum("bni,bnj->ij", X, dY), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(found, weight_gradient(X, dY))
    assert np.shares_memory(found, dW) and not dW[:, :3].any() and not dW[:, 7:].any()
