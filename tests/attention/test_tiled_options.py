"""The options of tiled attention: offset, window, sinks, softcap and grouped heads, as the core has them.

test_tiled_attention.py has masks, biases, scales and the causal order.
"""

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
from npattn.attention.tiled import attention as tiled
from npattn.attention.tiled.tiles import EXP, ScoreTiles, Scratch, order_of, slices
from support.calls import cotangent, examples

B, H, N_Q, N_X, D_Q, D_V = 2, 4, 7, 9, 3, 5
SHAPES = [None, (N_Q, N_X), (N_X,), (B, 1, 1, N_X), (H, N_Q, 1), (B, H, N_Q, N_X)]


@st.composite
def calls(draw: st.DrawFn) -> tuple[tuple[Array, ...], dict[str, Any], dict[str, Any]]:
    """Q, K, V, the options of the core, and those of tiles."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype, size = draw(st.sampled_from(["float32", "float64"])), draw(st.sampled_from([0.5, 6.0]))
    H_K = draw(st.sampled_from([1, 2, 4]))
    shapes = (H, N_Q, D_Q), (H_K, N_X, D_Q), (H_K, N_X, D_V)
    Q, K, V = ((size * rng.normal(size=(B, *shape))).astype(dtype) for shape in shapes)
    mask, bias = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(SHAPES))
    sinks = draw(st.sampled_from([None, (), (H,), (B, 1), (B, H)]))
    of_the_core = {
        "mask": None if mask is None else rng.random(mask) < 0.7,
        "bias": None if bias is None else rng.normal(size=bias).astype(dtype),
        "sinks": None if sinks is None else rng.choice([-np.inf, -40, -2, 0, 3, 40], size=sinks).astype(dtype),
        "causal": draw(st.booleans()),
        "offset": draw(st.integers(-3, 5)),
        "window": draw(st.sampled_from([None, 1, 2, 3, 20])),
        "softcap": draw(st.sampled_from([None, 0.5, 3.0])),
        "grouped": H_K < H or draw(st.booleans()),
    }
    if sinks == ():
        of_the_core["sinks"] = np.asarray(of_the_core["sinks"])
    tiling = {"tile": draw(st.sampled_from([1, 2, 3, 4, 100])), "workers": draw(st.sampled_from([1, 2]))}
    return (Q, K, V), of_the_core, tiling


@given(calls())
@examples(60)
def test_tiles_give_what_the_whole_gives(call: tuple[tuple[Array, ...], dict[str, Any], dict[str, Any]]) -> None:
    """Y and every gradient, to rounding, with any combination of options; dead rows are exactly 0."""
    args, options, tiling = call
    eps = float(np.finfo(args[0].dtype).eps)
    Y, cache = tiled_attention(*args, **options, **tiling)
    expected, core = scaled_dot_product_attention(*args, **options)
    np.testing.assert_allclose(Y, expected, rtol=0, atol=500 * eps * np.abs(args[2]).max())
    assert Y.dtype == expected.dtype and not Y[~expected.any(-1)].any()
    dY = cotangent(Y)
    wanted = scaled_dot_product_attention_backward(dY, core)
    scale = max(np.abs(want).max(initial=0) for want in wanted if want is not None)
    for got, want in zip(tiled_attention_backward(dY, cache), wanted, strict=True):
        assert (got is None) == (want is None)
        if got is not None:
            assert got.shape == want.shape and got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=0, atol=5000 * eps * scale)


@pytest.mark.parametrize("method", ["complex-step", "central-difference"])
def test_gradients_with_every_option(method: Any) -> None:
    rng = np.random.default_rng(0)
    Q, K, V, bias, sinks = (
        rng.normal(size=size) for size in ((H, N_Q, D_Q), (2, N_X, D_Q), (2, N_X, D_V), (H, 1, N_X), (H,))
    )
    options = {"window": 3, "offset": 2, "softcap": 0.7, "grouped": True, "tile": 4}

    def forward(Q: Array, K: Array, V: Array, bias: Array, sinks: Array) -> Any:
        return tiled_attention(Q, K, V, bias=bias, sinks=sinks, **options)  # type: ignore[arg-type]

    assert check_gradients(forward, tiled_attention_backward, (Q, K, V, bias, sinks), method=method).ok


@pytest.mark.parametrize("W", [1, 4, 8, 9])
def test_the_window_skips_tiles(monkeypatch: pytest.MonkeyPatch, W: int) -> None:
    """Of 16 · 16 tiles only those with a key in the window are computed: at length N the time is linear in N."""
    shapes = []

    class Counter(Scratch):
        def product(self, A: Array, B: Array, name: str = "rows") -> Array:
            shapes.extend([B.shape] * (name == "E"))
            return super().product(A, B, name)

    monkeypatch.setattr(tiled, "Scratch", Counter)
    Q = np.ones((64, 3))
    Y, cache = tiled_attention(Q, Q, Q, window=W, tile=4)
    seen = sum(1 for i in range(16) for j in range(16) if i * 4 - W < j * 4 + 3 and j <= i)
    assert len(shapes) == seen <= 16 * (2 + W // 4)
    tiled_attention_backward(Y, cache)
    assert len(shapes) == 2 * seen


def test_the_cost_of_a_window() -> None:
    """At length 32,768 a window of 1,024 leaves 189 of the 2,080 tiles of the causal order, 0.09 of them."""
    N, tiles = 32768, slices(32768, 512)
    seen = []
    for window in (None, 1024):
        scores = ScoreTiles(np.empty((0, 1)), None, None, order_of(N, N, 0, window), None, 1, EXP, Scratch())
        hidden = (scores._hidden(i, j) for i in tiles for j in tiles)
        seen.append(sum(tile is None or tile.ndim == 2 for tile in hidden))
    assert seen == [64 * 65 // 2, 64 * 3 - 3]


@pytest.mark.parametrize(("offset", "window"), [(2**62, None), (-(2**63), 3), (2**62, 2**62), (5, 2**62), (-9, None)])
def test_integers_of_any_size(offset: int, window: int | None) -> None:
    """Beyond the sizes nothing changes, and 32 bits are enough."""
    order = order_of(N_Q, N_X, offset, window)
    assert all(-N_Q <= limit <= N_X for limit in order)
    Q, K = np.ones((N_Q, 2)), np.ones((N_X, 2))
    for one, other in ((np.int64(offset), window), (offset, window)):
        Y, _ = tiled_attention(Q, K, K, causal=True, offset=one, window=other)  # type: ignore[arg-type]
        expected, _ = scaled_dot_product_attention(Q, K, K, causal=True, offset=offset, window=window)
        np.testing.assert_allclose(Y, expected, rtol=1e-14)


@pytest.mark.parametrize("attend", [tiled_attention, scaled_dot_product_attention])
def test_scores_far_beyond_the_cap(attend: Any) -> None:
    """S/c is beyond the largest float32 number: the score is ±c, without a warning, and its gradient is 0."""
    Q, V = np.float32([[1e15], [-1e15]]), np.float32([[3.0], [1.0]])
    with np.errstate(all="raise"):
        Y, cache = attend(Q, Q, V, softcap=1e-30)
        backward = tiled_attention_backward if attend is tiled_attention else scaled_dot_product_attention_backward
        dQ, dK, *_ = backward(np.ones_like(Y), cache)
    assert (Y == 2).all() and not dQ.any() and not dK.any()


def test_grouped_keys_and_values_are_not_copied() -> None:
    Q, K, V = np.ones((B, H, N_Q, D_Q)), np.ones((B, 2, N_X, D_Q)), np.ones((B, 2, N_X, D_V))
    _, cache = tiled_attention(Q, K, V, grouped=True)
    heads = tiled.by_group(cache)
    assert heads.K.shape == (B, 2, 2, N_X, D_Q) and np.shares_memory(heads.K, K)
    assert heads.V.shape == (B, 2, 2, N_X, D_V) and np.shares_memory(heads.V, V)
    assert np.shares_memory(heads.Q, Q) and np.shares_memory(heads.Y, cache.Y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window: expected 1 or more, got 0"),
        ({"offset": None}, "offset: expected an integer, got None"),
        ({"softcap": 0}, "softcap: expected 1.17549e-38 ≤ softcap < 8.50706e+37, got 0"),
        ({"sinks": np.ones(3)}, "sinks: expected a shape that broadcasts to the batch axes (…,) = (2, 4), got (3,)"),
        ({"grouped": "yes"}, "grouped: expected True or False, got 'yes'"),
        ({"causal": 1}, "causal: expected True or False, got 1"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    Q, K = np.ones((2, 4, 3, 5)), np.ones((2, 4, 6, 5))
    with pytest.raises((TypeError, ValueError)) as caught:
        tiled_attention(Q, K, K, **options)
    assert str(caught.value) == message
    with pytest.raises(ValueError, match=r"^K: expected H_K to divide H=4, got H_K=3$"):
        tiled_attention(Q, K[:, :3], K[:, :3], grouped=True)
