"""The softmax of training where all scores are far from 0, with and without pads."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.layers import softmax
from npattn.transformer.fast.packing import Packing
from npattn.transformer.fast.softmax import masked_softmax


@pytest.mark.parametrize("shift", [-500.0, 0.0, 500.0])
@pytest.mark.parametrize("lengths", [(4, 4), (4, 2)], ids=["no pads", "pads"])
def test_it_equals_the_softmax_of_the_layers(lengths: tuple[int, int], shift: float) -> None:
    ids = np.array([[5] * n + [0] * (4 - n) for n in lengths])
    packing = Packing.of(ids, 0, np.dtype(np.float64))
    E = np.random.default_rng(0).normal(size=(2, 3, 4, 4)) + shift
    expected = softmax(E, (ids != 0)[:, None, None])
    assert (packing.bias is None) == (lengths == (4, 4))
    assert np.abs(masked_softmax(E.copy(), packing.bias) - expected).max() <= 1e-13


def test_scores_whose_exponential_underflows() -> None:
    """The exponential of -95 is subnormal in float32, and the weights are not: all scores are as low."""
    ids = np.full((1, 3), 5)
    E = np.array([[[[-95.0, -94.0, -93.0]]]], np.float32)
    with np.errstate(under="raise"):
        A = masked_softmax(E.copy(), Packing.of(ids, 0, np.dtype(np.float32)).bias)
    np.testing.assert_allclose(A, softmax(E), rtol=1e-6)
