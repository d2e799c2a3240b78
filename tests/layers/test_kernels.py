"""The products and sums that layers share, where the tests of the layers do not reach."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npattn.layers.kernels import drop_negligible, sqrt_width


@pytest.mark.parametrize(("width", "root"), [(0, 1.0), (1, 1.0), (2, math.sqrt(2)), (64, 8.0)])
def test_the_square_root_of_the_width_is_a_python_float(width: int, root: float) -> None:
    found = sqrt_width(np.zeros((3, width), np.float32))
    assert type(found) is float and found == root


def test_no_rows_have_no_negligible_scores() -> None:
    E = np.zeros((0, 3))
    drop_negligible(E, np.inf, np.zeros((0, 1)))
    assert E.shape == (0, 3)
