"""Tiled attention is the core attention, forward and backward, whatever the tile, the options and the magnitude."""

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
from npattn._internal.checks import Array
from npattn.attention.tiled import tiles

SHAPE = (2, 3)  # batch and heads
N_Q, N_X, D_Q, D_V = 7, 9, 4, 5
TILES = st.sampled_from([1, 2, 3, 4, 7, 8, 100])
SEEDS = st.integers(0, 2**32 - 1)


def arrays(seed: int, batch: tuple[int, ...] = SHAPE, dtype: Any = np.float64) -> tuple[Array, Array, Array, Array]:
    rng = np.random.default_rng(seed)
    sizes = ((N_Q, D_Q), (N_X, D_Q), (N_X, D_V), (N_Q, D_V))
    Q, K, V, dY = (rng.normal(size=(*batch, *size)).astype(dtype) for size in sizes)
    return Q, K, V, dY


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    """Masks and biases of every broadcast shape, with rows that may attend to nothing."""
    rng = np.random.default_rng(draw(SEEDS))
    shapes = [(N_Q, N_X), (1, N_X), (N_X,), (N_Q, 1), (*SHAPE, N_Q, N_X), (2, 1, 1, N_X), (3, N_Q, 1), (2, 1, N_Q, N_X)]
    mask_shape, bias_shape = draw(st.sampled_from([None, *shapes])), draw(st.sampled_from([None, *shapes]))
    return {
        "mask": None if mask_shape is None else rng.random(mask_shape) < draw(st.sampled_from([0.1, 0.5, 0.9])),
        "bias": None if bias_shape is None else rng.normal(size=bias_shape),
        "scale": draw(st.sampled_from([None, 0.3, -2.0])),
        "causal": draw(st.booleans()),
    }


def assert_like_core(Q: Array, K: Array, V: Array, dY: Array, tiling: dict[str, Any], **options: Any) -> None:
    """Y and every gradient as the core has them, to rounding; a row of the core that is exactly zero is so here."""
    eps = float(np.finfo(Q.dtype).eps)
    Y, cache = tiled_attention(Q, K, V, **options, **tiling)
    expected, core = scaled_dot_product_attention(Q, K, V, **options)
    np.testing.assert_allclose(Y, expected, rtol=0, atol=500 * eps * np.abs(V).max(initial=0))
    assert not Y[~expected.any(-1)].any()
    wanted = scaled_dot_product_attention_backward(dY, core)
    # A bias that shifts whole rows has a gradient of zero in mathematics: one scale for all, that of the largest.
    scale = max(np.abs(want).max(initial=0) for want in wanted if want is not None)
    for got, want in zip(tiled_attention_backward(dY, cache), wanted, strict=True):
        assert (got is None) == (want is None)
        if got is not None and want is not None:
            assert got.shape == want.shape and got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=0, atol=5000 * eps * scale)


@given(options(), TILES, st.sampled_from([1, 2]), SEEDS)
def test_tiles_give_what_the_whole_gives(options: dict[str, Any], tile: int, workers: int, seed: int) -> None:
    assert_like_core(*arrays(seed), {"tile": tile, "workers": workers}, **options)


@given(
    st.sampled_from([(), (1,), (5,), (2, 3), (0,), (2, 0, 3)]),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from([0.1, 1.0, 10.0]),
    st.sampled_from(["no mask", "causal", "mask"]),
    TILES,
    SEEDS,
)
def test_batches_dtypes_and_magnitudes(
    batch: tuple[int, ...], dtype: Any, magnitude: float, hide: str, tile: int, seed: int
) -> None:
    """From scores within the bound, which need no maximum, to scores far beyond it."""
    Q, K, V, dY = arrays(seed, batch, dtype)
    mask = np.random.default_rng(seed).random((N_Q, N_X)) < 0.6 if hide == "mask" else None
    assert_like_core(
        Q * dtype(magnitude), K * dtype(magnitude), V, dY, {"tile": tile}, mask=mask, causal=hide == "causal"
    )


@pytest.mark.parametrize("n_Q, n_X", [(300, 70), (70, 300), (1, 260), (130, 1)])
@pytest.mark.parametrize("causal", [False, True])
def test_default_and_odd_tiles_on_longer_sequences(n_Q: int, n_X: int, causal: bool) -> None:
    rng = np.random.default_rng(n_Q)
    Q, K, V, dY = (rng.normal(size=(3, *size)) for size in ((n_Q, 6), (n_X, 6), (n_X, 5), (n_Q, 5)))
    for tiling in ({}, {"tile": 64}, {"tile": 33, "workers": 2}):
        assert_like_core(Q, K, V, dY, tiling, causal=causal)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("magnitude", "method"),
    [(1e-3, "complex-step"), (1.0, "complex-step"), (4.0, "complex-step"), (1.0, "central-difference")],
)
def test_gradients(magnitude: float, causal: bool, method: Any) -> None:
    Q, K, V, _ = arrays(4, ())

    def forward(Q: Array, K: Array, V: Array) -> Any:
        return tiled_attention(Q, K, V, causal=causal, tile=4)

    def backward(dY: Array, cache: Any) -> Any:
        return tiled_attention_backward(dY, cache)[:3]

    check_gradients(forward, backward, (magnitude * Q, magnitude * K, V), method=method)


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_with_bias_and_mask(causal: bool) -> None:
    """By the complex step; test_layers_gradients takes central differences as well."""
    rng = np.random.default_rng(5)
    Q, K, V, _ = arrays(4, (2,))
    mask, bias = rng.random((1, N_Q, N_X)) < 0.7, rng.normal(size=N_X)

    def forward(Q: Array, K: Array, V: Array, bias: Array) -> Any:
        return tiled_attention(Q, K, V, mask, bias=bias, causal=causal, tile=4)

    check_gradients(forward, tiled_attention_backward, (Q, K, V, bias), method="complex-step")


@pytest.mark.parametrize("magnitude", [1e4, 1e100, 1e300])
@pytest.mark.parametrize("by", ["queries", "bias"])
def test_huge_scores(magnitude: float, by: str) -> None:
    """A score far above all others gets weight 1, one far below 0, and nothing overflows."""
    Q, K, V, dY = arrays(6)
    bias = np.random.default_rng(6).normal(size=(N_Q, N_X)) * magnitude if by == "bias" else None
    Q = Q * magnitude if by == "queries" else Q
    with np.errstate(over="raise", invalid="raise"):
        Y, cache = tiled_attention(Q, K, V, bias=bias, tile=2)
        gradients = tiled_attention_backward(dY, cache)
    expected, _ = scaled_dot_product_attention(Q, K, V, bias=bias)
    np.testing.assert_allclose(Y, expected, rtol=0, atol=1e-12)
    assert all(np.isfinite(gradient).all() for gradient in gradients if gradient is not None)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("score", [15.9, 16.1, 200.0, 5000.0])
def test_scores_all_at_one_end_of_their_bound(dtype: Any, sign: int, score: float) -> None:
    """All scores are ± |q| |k|, half of the keys a little less: exp of them alone would be 0 or overflow."""
    Q = np.full((6, 1), score, dtype)
    K = sign * np.where(np.arange(8) % 2, 1, 0.99)[:, None].astype(dtype)
    _, _, V, dY = (array[0, 0] for array in arrays(3, dtype=dtype))
    assert_like_core(Q, K, V[:8], dY[:6], {"tile": 3}, scale=1.0)
    assert_like_core(Q, K, V[:8], dY[:6], {"tile": 3}, scale=1.0, causal=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tile", [1, 2, 9])
def test_row_maxima_that_cross_the_bound_from_tile_to_tile(dtype: Any, tile: int) -> None:
    """Each row goes its own way through −∞, below −16, within ±16 and above: every change of reference is met."""
    rng = np.random.default_rng(12)
    levels = np.array([-np.inf, -700.0, -60.0, -17.0, -15.0, 0.0, 15.0, 17.0, 60.0])
    bias = np.array([rng.permutation(levels) for _ in range(40)] + [np.sort(levels)]).astype(dtype)
    K, V = rng.normal(size=(9, 4)).astype(dtype), rng.normal(size=(9, 5)).astype(dtype)
    Q, dY = rng.normal(size=(41, 4)).astype(dtype), rng.normal(size=(41, 5)).astype(dtype)
    for last in (9, 8, 6, 4, 3):                              # without the largest scores
        shown = bias[:, :last] if last < 9 else bias
        assert_like_core(Q, K[:last], V[:last], dY, {"tile": tile}, bias=shown)
    low = np.minimum(bias, -17)                               # all of them below
    assert_like_core(Q, K, V, dY, {"tile": tile}, bias=low)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tile", [1, 2, 9])
def test_bounded_tiles_beside_others(monkeypatch: pytest.MonkeyPatch, dtype: Any, tile: int, quick: bool) -> None:
    """Scores are ± the keys: some tiles stay within ±16 by their norms, others do not, in any order."""
    monkeypatch.setattr(tiles, "exp2_is_quick", lambda: quick)
    rng = np.random.default_rng(13)
    levels = np.array([-700.0, -60.0, -17.0, -15.0, 0.0, 15.0, 17.0, 60.0, 700.0])
    Q = np.array([[1.0], [-1.0], [0.25], [0.02]], dtype)
    V, dY = rng.normal(size=(9, 5)).astype(dtype), rng.normal(size=(4, 5)).astype(dtype)
    for _ in range(20):
        K = rng.permutation(levels)[:, None].astype(dtype)
        assert_like_core(Q, K, V, dY, {"tile": tile}, scale=1.0)
        sinks = np.array(rng.permutation(levels)[0], dtype)
        assert_like_core(Q, K, V, dY, {"tile": tile}, scale=1.0, sinks=sinks)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize(
    ("N", "size", "bound"), [(300, 1.0, 4.5e-7), (300, 9.0, 1.7e-6), (2000, 1.0, 6e-7)],
    ids=["ordinary", "confident", "long"],
)  # fmt: skip
def test_accuracy_in_float32(monkeypatch: pytest.MonkeyPatch, quick: bool, N: int, size: float, bound: float) -> None:
    """With exp2 errors are about those of exp. The bounds are 1.4 times what exp gave."""
    monkeypatch.setattr(tiles, "exp2_is_quick", lambda: quick)
    rng = np.random.default_rng(14)
    Q, K, V, dY = (rng.normal(size=(N, 16)) for _ in range(4))
    Q *= size
    found = []
    for dtype in (np.float32, np.float64):
        q, k, v, dy = (array.astype(np.float32).astype(dtype) for array in (Q, K, V, dY))
        Y, cache = tiled_attention(q, k, v, tile=128, workers=1)
        found.append([Y, *tiled_attention_backward(dy, cache)[:3]])
    errors = [float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(*found, strict=True)]
    assert max(errors) < bound


@pytest.mark.parametrize("unit", [1e-25, 1e25])
def test_tiny_and_huge_values(unit: float) -> None:
    """V comes through at any magnitude, though scores fill the range that needs no reference."""
    Q, K, V, dY = arrays(8, dtype=np.float32)
    Q *= np.float32(15 / np.max(np.linalg.norm(Q, axis=-1)))
    K /= np.max(np.linalg.norm(K, axis=-1))
    V *= np.float32(unit)
    assert_like_core(Q, K, V, dY * np.float32(1e-3), {"tile": 4}, scale=1.0)


def test_a_full_mask_is_no_mask() -> None:
    Q, K, V, dY = arrays(9)
    plain, masked = (tiled_attention(Q, K, V, mask, tile=4) for mask in (None, np.ones((N_Q, 1), bool)))
    np.testing.assert_array_equal(plain[0], masked[0])
    for one, other in zip(*(tiled_attention_backward(dY, cache)[:3] for _, cache in (plain, masked)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("by", ["causal", "mask", "pads"])
def test_hidden_tiles_are_not_computed(by: str) -> None:
    """NaN in keys and values that no query may see is never read, since their tiles are skipped."""
    Q, K, V, dY = arrays(1)
    K[..., 8:, :] = V[..., 8:, :] = np.nan
    seen = np.arange(N_X) < 8
    hide: dict[str, Any] = {
        "causal": {"causal": True},
        "mask": {"mask": np.tile(seen, (N_Q, 1))},
        "pads": {"mask": seen},
    }
    Y, cache = tiled_attention(Q, K, V, **hide[by], tile=4)
    assert np.isfinite(Y).all()
    assert all(np.isfinite(g).all() for g in tiled_attention_backward(dY, cache) if g is not None)


@given(SEEDS, st.sampled_from([1.0, 1e3]), TILES)
def test_later_keys_change_no_bit_of_earlier_rows(seed: int, amount: float, tile: int) -> None:
    """However long they are: hidden scores must not decide on the reference of others."""
    Q, K, V, _ = arrays(seed)
    Y, _ = tiled_attention(Q, K, V, causal=True, tile=tile)
    K[..., 4:, :] += amount
    V[..., 4:, :] += amount
    changed, _ = tiled_attention(Q, K, V, causal=True, tile=tile)
    np.testing.assert_array_equal(changed[..., :4, :], Y[..., :4, :])
    assert (changed[..., 4:, :] != Y[..., 4:, :]).any()


def test_a_width_of_zero() -> None:
    Q, K, V, dY = arrays(11)
    assert_like_core(Q, K, V[..., :0], dY[..., :0], {"tile": 4})
    assert_like_core(Q[..., :0], K[..., :0], V, dY, {"tile": 4})


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("magnitude", [1.0, 1e3])
def test_dead_rows_are_exactly_zero_and_silent(workers: int, magnitude: float) -> None:
    Q, K, V, dY = arrays(2)
    mask = np.ones((N_Q, N_X), bool)
    mask[2] = False
    with np.errstate(all="raise"):
        Y, cache = tiled_attention(Q * magnitude, K, V, mask, tile=4, workers=workers)
        dQ, dK, dV, _ = tiled_attention_backward(dY, cache)
    assert not Y[..., 2, :].any() and not dQ[..., 2, :].any()
    np.testing.assert_array_equal(np.isposinf(cache.lam), np.broadcast_to(~mask.any(-1)[:, None], cache.lam.shape))
    assert Y[..., [0, 1, 3], :].all() and np.isfinite(dK).all() and np.isfinite(dV).all()


def test_no_keys_give_zero() -> None:
    Q, K, V, dY = arrays(3)
    Y, cache = tiled_attention(Q, K[..., :0, :], V[..., :0, :])
    assert Y.shape == dY.shape and not Y.any()
    assert not tiled_attention_backward(dY, cache)[0].any()


def test_views_and_read_only_arrays_are_read_and_left_alone() -> None:
    """Heads as they come out of a split, (B, N, H, D) transposed; two backwards from one cache agree to the bit."""
    given_arrays = arrays(10)
    views = [np.ascontiguousarray(array.swapaxes(-2, -3)).swapaxes(-2, -3) for array in given_arrays]
    for view in views:
        view.setflags(write=False)
    Q, K, V, dY = views
    Y, cache = tiled_attention(Q, K, V, tile=4, workers=2)
    once, again = (tiled_attention_backward(dY, cache) for _ in range(2))
    expected, plain = tiled_attention(*given_arrays[:3], tile=4)
    np.testing.assert_allclose(Y, expected, rtol=0, atol=1e-14)
    for one, other, want in zip(once[:3], again[:3], tiled_attention_backward(given_arrays[3], plain)[:3], strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(one, want, rtol=0, atol=1e-13)


@pytest.mark.parametrize("option", ["tile", "workers"])
def test_sizes_below_one_are_refused(option: str) -> None:
    Q, K, V, _ = arrays(7)
    with pytest.raises(ValueError, match=f"{option}: expected 1 or more, got 0"):
        tiled_attention(Q, K, V, **{option: 0})
    with pytest.raises(TypeError, match=f"{option}: expected an integer, got 2.0"):
        tiled_attention(Q, K, V, **{option: 2.0})


def test_causal_is_a_flag() -> None:
    Q, K, V, _ = arrays(7)
    with pytest.raises(TypeError, match=r"^causal: expected True or False, got 1$"):
        tiled_attention(Q, K, V, causal=1)  # type: ignore[arg-type]


def test_the_default_tile() -> None:
    assert tiled_attention(*arrays(7)[:3])[1].tile == 512
