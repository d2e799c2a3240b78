"""Tiled attention is the core attention, forward and backward, whatever the tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import (
    check_gradients,
    scaled_dot_product_attention,
    scaled_dot_product_attention_backward,
    tiled_attention,
    tiled_attention_backward,
)
from npattn._types import Array

SHAPE = (2, 3)  # batch and heads
N_Q, N_X, D_Q, D_V = 7, 9, 4, 5


def arrays(seed: int) -> tuple[Array, Array, Array, Array]:
    rng = np.random.default_rng(seed)
    sizes = ((N_Q, D_Q), (N_X, D_Q), (N_X, D_V), (N_Q, D_V))
    Q, K, V, dY = (rng.normal(size=(*SHAPE, *size)) for size in sizes)
    return Q, K, V, dY


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    """Masks and biases of every broadcast shape, with rows that may attend to nothing."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shapes = [(N_Q, N_X), (1, N_X), (N_X,), (N_Q, 1), (*SHAPE, N_Q, N_X), (2, 1, 1, N_X), (3, N_Q, 1)]
    mask_shape, bias_shape = draw(st.sampled_from([None, *shapes])), draw(st.sampled_from([None, *shapes]))
    return {
        "mask": None if mask_shape is None else rng.random(mask_shape) < draw(st.sampled_from([0.1, 0.5, 0.9])),
        "bias": None if bias_shape is None else rng.normal(size=bias_shape),
        "scale": draw(st.sampled_from([None, 0.3, 2.0])),
        "causal": draw(st.booleans()),
    }


@given(options(), st.sampled_from([1, 2, 3, 4, 7, 8, 100]), st.integers(0, 2**32 - 1))
def test_tiles_give_what_the_whole_gives(options: dict[str, Any], tile: int, seed: int) -> None:
    Q, K, V, dY = arrays(seed)
    Y, cache = tiled_attention(Q, K, V, **options, tile=tile)
    expected, core = scaled_dot_product_attention(Q, K, V, **options)
    np.testing.assert_allclose(Y, expected, rtol=0, atol=1e-13 * np.abs(V).max())
    wanted = scaled_dot_product_attention_backward(dY, core)
    # A bias that shifts whole rows has a gradient of zero in mathematics: one scale for all, that of the largest.
    scale = max(np.abs(want).max() for want in wanted if want is not None)
    for got, want in zip(tiled_attention_backward(dY, cache), wanted, strict=True):
        assert (got is None) == (want is None)
        if got is not None and want is not None:
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("method", ["complex-step", "central-difference"])
def test_gradients_with_bias_and_mask(causal: bool, method: Any) -> None:
    rng = np.random.default_rng(5)
    Q, K, V, _ = arrays(4)
    mask, bias = rng.random((2, 1, N_Q, N_X)) < 0.7, rng.normal(size=(3, 1, N_X))

    def forward(Q: Array, K: Array, V: Array, bias: Array) -> Any:
        return tiled_attention(Q, K, V, mask, bias=bias, causal=causal, tile=3)

    check_gradients(forward, tiled_attention_backward, (Q, K, V, bias), method=method)


def test_causal_tiles_above_the_diagonal_are_not_computed() -> None:
    """NaN in keys and values that no query may see is never read, since their tiles are skipped."""
    Q, K, V, dY = arrays(1)
    K[..., 8:, :] = V[..., 8:, :] = np.nan
    Y, cache = tiled_attention(Q, K, V, causal=True, tile=4)
    assert np.isfinite(Y).all()
    assert all(np.isfinite(g).all() for g in tiled_attention_backward(dY, cache) if g is not None)


def test_dead_rows_are_exactly_zero_and_silent() -> None:
    Q, K, V, dY = arrays(2)
    mask = np.ones((N_Q, N_X), bool)
    mask[2] = False
    with np.errstate(all="raise"):
        Y, cache = tiled_attention(Q, K, V, mask, tile=4)
        dQ, dK, dV, _ = tiled_attention_backward(dY, cache)
    assert not Y[..., 2, :].any() and not dQ[..., 2, :].any()
    assert np.isfinite(dK).all() and np.isfinite(dV).all()


def test_no_keys_give_zero() -> None:
    Q, K, V, dY = arrays(3)
    Y, cache = tiled_attention(Q, K[..., :0, :], V[..., :0, :])
    assert Y.shape == dY.shape and not Y.any()
    assert not tiled_attention_backward(dY, cache)[0].any()


def test_large_scores_stay_finite_and_float32_stays_float32() -> None:
    Q, K, V, dY = (array.astype(np.float32) for array in arrays(6))
    Y, cache = tiled_attention(Q * 1e4, K, V, tile=2)
    gradients = tiled_attention_backward(dY, cache)[:3]
    assert Y.dtype == np.float32 and all(g.dtype == np.float32 for g in gradients if g is not None)
    assert np.isfinite(Y).all()


def test_a_tile_below_one_is_refused() -> None:
    Q, K, V, _ = arrays(7)
    with pytest.raises(ValueError, match="tile: expected 1 or more, got 0"):
        tiled_attention(Q, K, V, tile=0)
