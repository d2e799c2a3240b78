"""The best of many scores, the next beginnings of a beam, and the hypotheses that have ended."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn.decoding.hypotheses import Ended, extend, log_softmax, top

SEED = st.integers(0, 2**32)


@given(SEED, st.integers(1, 40), st.integers(1, 45))
def test_top(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.permuted(np.tile(np.arange(n, dtype=float), (3, 1)), axis=1)
    values[values < n // 3] = -np.inf
    found = top(values, k)
    np.testing.assert_array_equal(np.take_along_axis(values, found, 1), -np.sort(-values, axis=1)[:, :k])
    assert all(len(set(row)) == min(k, n) for row in found.tolist())


@pytest.mark.parametrize("k", [1, 2, 3, 8, 50, 299, 300])
def test_top_of_many(k: int) -> None:
    """There are so many that a selection does not sort them by chance."""
    values = np.random.default_rng(k).permuted(np.tile(np.arange(300.0), (9, 1)), axis=1)
    found = np.take_along_axis(values, top(values, k), 1)
    np.testing.assert_array_equal(found, np.tile(np.arange(299.0, 299.0 - k, -1), (9, 1)))


def test_top_keeps_the_order_of_equal_values() -> None:
    assert top(np.array([[1.0, 3.0, 1.0, 3.0, 3.0, 1.0]]), 6).tolist() == [[1, 3, 4, 0, 2, 5]]


@given(SEED, st.integers(1, 400), st.integers(1, 9), st.integers(1, 4))
def test_of_equal_values_top_takes_the_first(seed: int, n: int, k: int, kinds: int) -> None:
    values = np.random.default_rng(seed).integers(kinds, size=(5, n)).astype(float)
    values[values == 3] = -np.inf
    np.testing.assert_array_equal(top(values, k), np.argsort(-values, 1, kind="stable")[:, :k])


@given(SEED, st.integers(1, 4), st.integers(2, 6), st.integers(1, 3))
def test_extend(seed: int, k: int, V: int, B: int) -> None:
    rng = np.random.default_rng(seed)
    log_p, extensions = rng.normal(size=(B, k)), rng.normal(size=(B * k, V))
    found, beams, tokens = extend(log_p, extensions)
    assert found.shape == beams.shape == tokens.shape == (B, 2 * k)
    totals = log_p[:, :, None] + extensions.reshape(B, k, V)
    np.testing.assert_array_equal(found, -np.sort(-totals.reshape(B, -1))[:, : 2 * k])
    np.testing.assert_array_equal(found, totals[np.arange(B)[:, None], beams, tokens])


def test_of_equal_scores_the_earlier_comes_first() -> None:
    """There are so many that an unstable sort would change their order."""
    ended = Ended(1, 60, 2)
    for t in range(2):
        ended.add(np.array([0]), -(np.arange(60)[None] % 3.0), np.arange(60)[None], t, 1.0)
    order = [0, *range(3, 60, 3)] * 2 + [*range(1, 60, 3)]
    assert ended.beams.tolist() == [order] and ended.lengths.tolist() == [[0] * 20 + [1] * 20 + [0] * 20]


def test_log_softmax() -> None:
    np.testing.assert_allclose(np.exp(log_softmax(np.log([[1.0, 2.0, 5.0]]))), [[0.125, 0.25, 0.625]], rtol=1e-15)
    with np.errstate(under="ignore"):
        np.testing.assert_array_equal(log_softmax(np.array([[1e4, 0.0, -1e300]])), [[0.0, -1e4, -1e300]])
