"""Dropout: an own mask in every call, the identity without a generator, the expectation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn.layers import dropout, dropout_backward
from support.calls import examples


@given(seed=st.integers(0, 2**32 - 1), p=st.floats(0.05, 0.95), dtype=st.sampled_from(["float32", "float64"]))
@examples(10)
def test_zero_or_scaled(seed: int, p: float, dtype: str) -> None:
    """Each entry is 0 or x/(1 − p), its gradient 0 or dy/(1 − p) at the same places."""
    rng = np.random.default_rng(seed)
    X, dY = rng.standard_normal((2, 40, 50)).astype(dtype)
    Y, cache = dropout(X, p, rng)
    dX = dropout_backward(dY, cache)
    kept = Y != 0
    rtol = 1e-6 if dtype == "float32" else 1e-15
    np.testing.assert_allclose(Y, np.where(kept, X / (1 - p), 0), rtol=rtol)
    np.testing.assert_allclose(dX, np.where(kept, dY / (1 - p), 0), rtol=rtol)
    assert abs(kept.mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / kept.size)


def test_expectation() -> None:
    """Inverted dropout: the mean over many masks is the input, so nothing is scaled at evaluation."""
    rng = np.random.default_rng(0)
    X = np.array([1.0, -2.0, 30.0])
    mean = np.mean([dropout(X, 0.3, rng)[0] for _ in range(4000)], axis=0)
    np.testing.assert_allclose(mean, X, rtol=5 * np.sqrt(0.3 / 0.7 / 4000))


def test_own_mask_in_every_call() -> None:
    """One shared mask: two calls on one generator drop different entries, and each cache keeps its own."""
    rng = np.random.default_rng(0)
    X = np.ones(100)
    (Y_1, cache_1), (Y_2, cache_2) = dropout(X, 0.5, rng), dropout(X, 0.5, rng)
    assert (Y_1 != Y_2).any()
    assert (dropout_backward(X, cache_1) == Y_1).all()
    assert (dropout_backward(X, cache_2) == Y_2).all()
    assert (dropout(X, 0.5, np.random.default_rng(0))[0] == Y_1).all()


@pytest.mark.parametrize("p", [0.0, 0.5, 0.9])
def test_identity_without_a_generator(p: float) -> None:
    """1/(1−p) at evaluation: without rng it is the identity, and a copy."""
    X = np.random.default_rng(0).normal(size=(3, 4))
    for rng in [None, *([np.random.default_rng(0)] if p == 0 else [])]:
        Y, cache = dropout(X, p, rng)
        dX = dropout_backward(X, cache)
        assert Y is not X and dX is not X
        assert (Y == X).all() and (dX == X).all()


def test_nothing_to_drop_leaves_the_generator_alone() -> None:
    """p = 0 in one layer does not change which entries the next layer drops."""
    rng = np.random.default_rng(0)
    dropout(np.ones(5), 0.0, rng)
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


@pytest.mark.parametrize("p", [1.0, -0.1, 1.5, np.nan])
def test_p_must_be_a_probability_below_one(p: float) -> None:
    """p = 1: 0 ≤ p < 1 or ValueError, also when nothing would be dropped."""
    with pytest.raises(ValueError, match=f"^p: expected 0 ≤ p < 1, got {p}$"):
        dropout(np.ones(3), p)


@pytest.mark.parametrize("rng", [0, np.random.RandomState(0), True])
def test_the_generator_must_be_one(rng: object) -> None:
    with pytest.raises(TypeError, match=f"^rng: expected a numpy.random.Generator or None, got {type(rng).__name__}$"):
        dropout(np.ones(3), 0.5, rng)  # type: ignore[arg-type]
