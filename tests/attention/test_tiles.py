"""The pieces of tiled attention one by one: what they promise beyond the right result, in bits, dtypes and memory."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from npattn import tiled_attention, tiled_attention_backward
from npattn._internal.checks import Array
from npattn.attention.tiled import attention as tiled
from npattn.attention.tiled import tiles as pieces
from npattn.attention.tiled.tiles import EXP, EXP2, Exponential, ScoreTiles, Scratch, order_of, slices


def arrays(dtype: Any = np.float64) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(2, 3, *size)).astype(dtype) for size in ((7, 4), (9, 4), (9, 5), (7, 5))]


def scores(
    mask: Array | None = None, causal: bool = False, window: int | None = None, *, bias: Array | None = None,
    exp: Exponential = EXP,
) -> ScoreTiles:  # fmt: skip
    order = order_of(7, 9, 0, window) if causal else None
    return ScoreTiles(np.random.default_rng(0).normal(size=(9, 4)), mask, bias, order, None, 4, exp, Scratch())


def test_slices() -> None:
    assert slices(7, 3) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert slices(6, 3) == [slice(0, 3), slice(3, 6)] and slices(0, 3) == []


class TestReference:
    def test_is_zero_within_the_bound(self) -> None:
        x = np.array([-np.inf, -1e9, -16.5, -16.0, -1.0, 0.0, 16.0, 16.5, np.inf])
        expected = np.array([0, -1e9, -16.5, 0, 0, 0, 0, 16.5, np.inf])
        np.testing.assert_array_equal(EXP.safe_shift(x), expected)
        u = np.log2(np.e)
        np.testing.assert_array_equal(EXP2.safe_shift(x * u), expected * u)


class TestExponential:
    @pytest.mark.parametrize("exp", [EXP, EXP2])
    def test_is_exp_of_scores_without_the_unit(self, exp: Exponential) -> None:
        E = np.linspace(-20, 20, 41)
        np.testing.assert_allclose(exp.function(E * exp.unit), np.exp(E), rtol=2e-14)

    @pytest.mark.parametrize("quick", [False, True])
    def test_exp2_serves_float32_without_a_bias_where_it_is_quick(
        self, monkeypatch: pytest.MonkeyPatch, quick: bool
    ) -> None:
        monkeypatch.setattr(pieces, "exp2_is_quick", lambda: quick)
        single, others = np.dtype(np.float32), (np.float64, np.complex128)
        assert pieces.exponential(single, False) is (EXP2 if quick else EXP)
        assert pieces.exponential(single, True) is EXP
        assert all(pieces.exponential(np.dtype(other), False) is EXP for other in others)

    def test_a_call_uses_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pieces, "exp2_is_quick", lambda: True)
        for dtype, bias, expected in ((np.float32, None, EXP2), (np.float64, None, EXP), (np.float32, np.ones, EXP)):
            Q, K, V, _ = arrays(dtype)
            _, cache = tiled_attention(Q, K, V, bias=bias and bias((7, 9), dtype))
            assert cache.exp is expected

    @pytest.mark.parametrize("tile", [1, 2])
    def test_small_weights_are_kept_in_any_unit(self, monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
        """A weight of exp(−35) counts beside values of 1e16: exp2 takes it at −50, which would be negligible as exp."""
        monkeypatch.setattr(pieces, "exp2_is_quick", lambda: True)
        Q, K, V, dY = (np.array(rows, np.float32) for rows in ([[1]], [[65], [100]], [[1e16], [1]], [[1]]))
        Y, cache = tiled_attention(Q, K, V, scale=1.0, tile=tile)
        np.testing.assert_allclose(Y, [[1 + 1e16 * np.exp(-35)]], rtol=1e-4)
        dV = tiled_attention_backward(dY, cache)[2]
        np.testing.assert_allclose(dV, [[np.exp(-35)], [1]], rtol=1e-4)

    @pytest.mark.parametrize(
        ("found", "quick"),
        [({}, False), ({"exp2": {}}, False), ({"exp2": {"ff": {"current": "baseline(X86_V2)"}}}, False),
         ({"exp2": {"ff": {"current": "X86_V4"}}}, True), ({"exp2": {"ff": {"current": "AVX512_SKX"}}}, True),
         ({"exp2": {"ff": {"current": "AVX2"}}}, False)],
        ids=str,
    )  # fmt: skip
    def test_where_exp2_is_quick(self, monkeypatch: pytest.MonkeyPatch, found: Any, quick: bool) -> None:
        asked = []

        def info(**names: str) -> Any:
            asked.append(names)
            return found

        monkeypatch.setattr(np.lib.introspect, "opt_func_info", info)
        assert pieces.exp2_is_quick.__wrapped__() is quick
        assert asked == [{"func_name": "^exp2$", "signature": "^float32$"}]

    def test_numpy_knows_its_exp2(self) -> None:
        """NumPy says which instructions it uses; a name that it does not know would mean exp for ever."""
        found = np.lib.introspect.opt_func_info(func_name="^exp$", signature="^float32$")
        assert [list(each) for of_types in found.values() for each in of_types.values()] == [["current", "available"]]


class TestBounds:
    """A tile whose norms bound its scores is not searched for the extremes."""

    @pytest.mark.parametrize("exp", [EXP, EXP2])
    def test_norms_bound_the_scores(self, exp: Exponential) -> None:
        first, last = slice(0, 4), slice(4, 8)
        tiles = scores(exp=exp)
        K = np.random.default_rng(0).normal(size=(9, 4))
        norms = [max(np.linalg.norm(row) for row in K[j]) for j in (first, last, slice(8, 9))]
        np.testing.assert_allclose(tiles.norms, norms)
        for j, norm in ((first, norms[0]), (last, norms[1])):
            for factor, is_bounded in ((0.999, True), (1.001, False)):
                Q = np.zeros((4, 4))
                Q[2, 1] = factor * exp.bound / norm
                scored = tiles.tile(Q, first, j, Q[2, 1])
                assert scored is not None
                E, low, flag = scored
                np.testing.assert_allclose(E, Q @ K[j].T, atol=1e-14)
                assert flag is is_bounded and low == (-exp.bound if is_bounded else E.min())

    def test_a_bounded_tile_is_not_searched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        searched = []
        monkeypatch.setattr(tiled, "greatest", lambda P: searched.append(P) or P.max(-1, keepdims=True))
        Q, K, V, _ = arrays()
        tiled_attention(Q, K, V, tile=4)
        assert not searched
        tiled_attention(Q * 100, K, V, tile=4)
        assert searched

    def test_hidden_scores_and_a_bias_have_no_bound(self) -> None:
        mask = np.ones((7, 9), bool)
        mask[1, 3] = False
        first, last, Q = slice(0, 4), slice(4, 8), np.zeros((4, 4))
        for tiles, j, expected in (
            (scores(mask), first, False), (scores(mask), last, True), (scores(bias=np.zeros((7, 9))), last, False),
        ):  # fmt: skip
            scored = tiles.tile(Q, first, j, 0.0)
            assert scored is not None and scored[2] is expected

    @pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e200])
    def test_norms_that_are_no_numbers_bound_nothing(self, wrong: float) -> None:
        X = np.ones((3, 2))
        X[1, 0] = wrong
        with np.errstate(all="raise"):
            norms = pieces.largest_norms(X, 2)
        assert len(norms) == 2 and not norms[0] < np.inf and norms[1] == pytest.approx(np.sqrt(2))
        for shape, expected in (((2, 0, 3), []), ((2, 1, 0), [0]), ((0, 3, 1), [0, 0])):
            assert pieces.largest_norms(np.empty(shape), 2) == expected


class TestScratch:
    def test_a_name_is_a_buffer(self) -> None:
        """It serves every product that fits, and is replaced by the first that does not."""
        rng, scratch = np.random.default_rng(0), Scratch()
        A, B = rng.normal(size=(6, 5)), rng.normal(size=(5, 4))
        first = scratch.product(A, B)
        np.testing.assert_array_equal(first, A @ B)
        other = scratch.product(A, B, "other")
        again = scratch.product(A[:5], B)
        np.testing.assert_array_equal(again, A[:5] @ B)
        assert np.shares_memory(first, again) and np.shares_memory(first, scratch.product(A, B))
        assert not np.shares_memory(first, other)
        np.testing.assert_array_equal(scratch.product(B.T, B), B.T @ B)
        np.testing.assert_array_equal(scratch.product(A, np.tile(B, 2)), A @ np.tile(B, 2))

    def test_a_thread_has_its_own(self) -> None:
        scratch, found = Scratch(), []
        mine = scratch.product(np.ones((2, 3)), np.ones((3, 2)))
        thread = threading.Thread(target=lambda: found.append(scratch.product(np.zeros((2, 3)), np.zeros((3, 2)))))
        thread.start()
        thread.join()
        assert not np.shares_memory(mine, found[0]) and (mine == 3).all()


class TestTiles:
    @pytest.mark.parametrize("bias", [False, True])
    def test_products_keep_to_float32(self, monkeypatch: pytest.MonkeyPatch, bias: bool) -> None:
        """In float64 they would take twice the time and the memory, and nobody would see it in the result."""
        dtypes = set()

        class Recorder(Scratch):
            def product(self, A: Array, B: Array, name: str = "rows") -> Array:
                out = super().product(A, B, name)
                dtypes.update({A.dtype, B.dtype, out.dtype})
                return out

        monkeypatch.setattr(tiled, "Scratch", Recorder)
        Q, K, V, dY = arrays(np.float32)
        _, cache = tiled_attention(Q * 9, K, V, bias=np.ones((7, 9), np.float32) if bias else None, tile=4)
        tiled_attention_backward(dY, cache)
        assert dtypes == {np.dtype(np.float32)}

    def test_what_is_hidden_from_a_tile(self) -> None:
        """None where nothing is, and a single True where the causal order leaves nothing to be seen."""
        mask = np.ones((7, 9), bool)
        mask[1, 8] = False
        first, last = slice(0, 4), slice(4, 9)
        assert scores(mask)._hidden(first, first) is None
        np.testing.assert_array_equal(scores(mask)._hidden(first, last), ~mask[first, last])
        causal = scores(causal=True)._hidden
        assert causal(slice(3, 5), first) is None             # query 3 is the first to see key 3
        np.testing.assert_array_equal(causal(slice(2, 4), first), [[False, False, False, True], [False] * 4])
        after = causal(first, last)
        assert after is not None and (after.shape, after.dtype, bool(after)) == ((), bool, True)
        windowed = scores(causal=True, window=3)._hidden
        assert windowed(slice(3, 5), slice(2, 4)) is None     # query 4 is the last to see key 2
        np.testing.assert_array_equal(windowed(slice(4, 6), slice(2, 4)), [[False, False], [True, False]])
        before = windowed(slice(5, 7), slice(1, 3))
        assert before is not None and (before.shape, before.dtype, bool(before)) == ((), bool, True)

    def test_underflow_is_silent(self) -> None:
        """Products of numbers so small are 0, and nothing is said about it."""
        Q, K, V, dY = arrays()
        with np.errstate(all="raise"):
            _, cache = tiled_attention(Q, K, V * 1e-200, tile=4)
            gradients = tiled_attention_backward(dY * 1e-200, cache)
        assert not gradients[0].any() and not gradients[1].any() and gradients[2].any()
