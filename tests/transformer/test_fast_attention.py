"""Attention of the fast path equals version 7 with dropout, its softmax that of the layers; packed rows are batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn import causal_mask, layers
from npattn._internal.checks import Array
from npattn.attention import v7_multi_head
from npattn.transformer import TransformerConfig, dropped_attention
from npattn.transformer.fast import attention, softmax
from npattn.transformer.fast.gradient import computed
from npattn.transformer.fast.packing import Packing
from npattn.transformer.parameters import Parameters, nested
from support.transformer_toys import mask_of, toy_config

NAMES = [f"{kind}_{which}" for kind in "Wb" for which in "QKVO"]


def draw(seed: int, biased: bool, apart: bool) -> tuple[dict[str, Array], Any, Any]:
    """Return parameters of width 6, stored apart or side by side, and ids of 4 sources and targets with pads.

    Source 2 has pads alone.
    """
    rng = np.random.default_rng(seed)
    p: dict[str, Any] = {name: rng.normal(size=(6, 6) if name[0] == "W" else 6) for name in NAMES}
    if not biased:
        p = {name: array for name, array in p.items() if name[0] == "W"}
    if not apart:
        unions = {f"{kind}_QKV": tuple(f"{kind}_{which}" for which in "QKV") for kind in ("Wb" if biased else "W")}
        params = Parameters({name: array.shape for name, array in p.items()}, np.float64, unions)
        for name, array in p.items():
            params[name] = array
        p = nested(params)
    src, tgt = rng.integers(1, 5, (4, 5)), rng.integers(1, 5, (4, 3))
    for ids in (src, tgt):
        for row, n in zip(ids, rng.integers(1, ids.shape[1] + 1, 4), strict=True):
            row[n:] = 0
    src[2] = 0
    return p, src, tgt


def arguments(p: dict[str, Array]) -> list[Array | None]:
    return [p.get(name) for name in NAMES]


CASES = given(
    st.integers(0, 2**32), st.booleans(), st.booleans(), st.sampled_from([1, 2, 3]), st.sampled_from([0.0, 0.4])
)


def plain(
    X_Q: Array, X: Array, p: dict[str, Array], mask: Any, config: TransformerConfig, seed: int, dZ: Array
) -> tuple[Array, Array, Array, dict[str, Any]]:
    """Return Z, dX_Q, dX and the gradients by name, from version 7 or, with dropout, from `dropped_attention`."""
    if config.attention_dropout:
        options: dict[str, Any] = {"p": config.attention_dropout, "rng": np.random.default_rng(seed)}
        Z, cache = dropped_attention.forward(X_Q, X, *arguments(p), n_heads=config.n_heads, mask=mask, **options)
        dX_Q, dX, *d = dropped_attention.backward(dZ, cache)
    else:
        Z, c = v7_multi_head.forward(X_Q, X, *arguments(p), n_heads=config.n_heads, mask=mask)
        dX_Q, dX, *d = v7_multi_head.backward(dZ, c)
    return Z, dX_Q, dX, dict(zip(NAMES, d, strict=True))


class TestAgainstVersion7:
    @CASES
    def test_self_attention(self, seed: int, biased: bool, apart: bool, n_heads: int, dropout: float) -> None:
        p, src, _ = draw(seed, biased, apart)
        rng, packing = np.random.default_rng(seed), Packing.of(src, 0)
        X, dZ = rng.normal(size=(2, 4, 5, 6))
        dZ[src == 0] = 0                                      # pads have no row and no gradient
        config = toy_config(n_heads=n_heads, attention_dropout=dropout)
        Z, cache = attention.self_attention(packing.pack(X), p, packing, config, np.random.default_rng(seed))
        dX, grads = attention.self_attention_backward(packing.pack(dZ), cache)
        expected, dX_Q, dX_X, d = plain(X, X, p, mask_of(packing), config, seed, dZ)
        np.testing.assert_allclose(Z, packing.pack(expected), rtol=0, atol=1e-13 * abs(expected).max())
        self.compare(dX, packing.pack(dX_Q + dX_X))
        self.compare_parameters(grads, d)

    @CASES
    def test_cross_attention(self, seed: int, biased: bool, apart: bool, n_heads: int, dropout: float) -> None:
        p, src, tgt = draw(seed, biased, apart)
        rng, packing_M = np.random.default_rng(seed), Packing.of(src, 0)
        packing = Packing.of(tgt, 0, causal=True)
        M, (X, dZ) = rng.normal(size=(4, 5, 6)), rng.normal(size=(2, 4, 3, 6))
        dZ[tgt == 0] = 0
        config, rows = toy_config(n_heads=n_heads, attention_dropout=dropout), (packing.pack(X), packing_M.pack(M))
        Z, cache = attention.cross_attention(*rows, p, packing, packing_M, config, np.random.default_rng(seed))
        dX, dM, grads = attention.cross_attention_backward(packing.pack(dZ), cache)
        expected, dX_Q, dX_X, d = plain(X, M, p, mask_of(packing_M), config, seed, dZ)
        np.testing.assert_allclose(Z, packing.pack(expected), rtol=0, atol=1e-13 * abs(expected).max())
        self.compare(dX, packing.pack(dX_Q))
        self.compare(dM, packing_M.pack(dX_X))
        self.compare_parameters(grads, d)

    def compare(self, got: Array, expected: Array) -> None:
        assert abs(got - expected).max(initial=0) <= 1e-12 * max(abs(expected).max(initial=0), 1e-300)

    def compare_parameters(self, found: dict[str, Any], expected: dict[str, Array | None]) -> None:
        grads = {name: computed(gradient) for name, gradient in found.items()}
        split = {f"{kind}_{which}": part for kind in "Wb" if grads[f"{kind}_QKV"] is not None
                 for which, part in zip("QKV", np.split(grads[f"{kind}_QKV"], 3, -1), strict=True)}
        split |= {name: gradient for name, gradient in grads.items() if "QKV" not in name}
        split = {name: gradient for name, gradient in split.items() if gradient is not None}
        assert split.keys() == {name for name, gradient in expected.items() if gradient is not None}
        largest = max(abs(gradient).max() for gradient in expected.values() if gradient is not None)
        assert all(abs(split[name] - expected[name]).max() <= 1e-12 * largest for name in split)


class TestWeights:
    @pytest.mark.parametrize("scale", [1.0, 20.0, 1e3, 1e6])
    @pytest.mark.parametrize("offset", [0.0, -40.0, -200.0, 1e4])
    @given(st.integers(0, 2**32))
    def test_are_those_of_softmax(self, scale: float, offset: float, seed: int) -> None:
        """Scores are moderate, huge or vanishing, and some rows may attend to nothing: with and without the maximum."""
        rng = np.random.default_rng(seed)
        E = rng.normal(size=(3, 2, 4, 5)) * scale + offset
        ids = rng.integers(0, 3, (3, 5))
        packing = Packing.of(ids, 0)
        expected = layers.softmax(E, mask_of(packing))
        np.testing.assert_allclose(softmax.masked_softmax(E.copy(), packing.bias), expected, rtol=1e-12, atol=1e-300)

    @pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
    def test_hidden_scores_are_not_read(self, wrong: float) -> None:
        packing = Packing.of(np.array([[1, 0, 2]]), 0)
        E = np.random.default_rng(0).normal(size=(1, 1, 2, 3))
        expected = layers.softmax(E, mask_of(packing))
        E[..., 1] = wrong
        np.testing.assert_allclose(softmax.masked_softmax(E, packing.bias), expected, rtol=1e-14)

    @given(st.integers(0, 2**32))
    def test_the_maximum_is_subtracted_only_where_it_must(self, seed: int) -> None:
        """Moderate rows, up to the limits themselves, keep their bits, also beside rows that need the maximum."""
        rng = np.random.default_rng(seed)
        E, packing = rng.normal(size=(2, 3, 4, 5)) * 9, Packing.of(np.array([[1, 0, 1, 1, 1], [1, 1, 1, 1, 0]]), 0)
        seen = E + packing.bias
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(softmax, "HIGHEST", seen.max())
            patch.setattr(softmax, "LEAST", softmax.row_sum(np.exp(seen)).min())
            with pytest.MonkeyPatch.context() as without:
                without.delattr(softmax, "careful_softmax")
                moderate = softmax.masked_softmax(E.copy(), packing.bias)
            for shift in (500, 1e4, -500, -1e4, -np.inf):
                E[1, 2, 3] += shift
                A = softmax.masked_softmax(E.copy(), packing.bias)
                np.testing.assert_array_equal(A.reshape(-1, 5)[:-1], moderate.reshape(-1, 5)[:-1])
                np.testing.assert_allclose(A, layers.softmax(E, mask_of(packing)), rtol=1e-12)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
    @pytest.mark.parametrize("factor", [1.0, 1e4, -1e4])
    def test_raises_no_floating_point_error(self, factor: float, dtype: Any) -> None:
        """Weights below the smallest number are 0, and so are rows that may attend to nothing, under any errstate."""
        packing = Packing.of(np.array([[1, 1, 0, 1], [0, 0, 0, 0]]), 0, dtype(0).real.dtype)
        E = (np.linspace(0, 1, 24).reshape(2, 1, 3, 4) * factor).astype(dtype)
        expected = layers.softmax(E, mask_of(packing))
        with np.errstate(all="raise"):
            A = softmax.masked_softmax(E, packing.bias)
        assert A.dtype == dtype
        np.testing.assert_allclose(A, expected, rtol=1e-6 if dtype is np.float32 else 1e-14)


def test_the_cache_of_self_attention_holds_its_input_once() -> None:
    p, src, _ = draw(0, biased=True, apart=True)
    packing = Packing.of(src, 0)
    _, cache = attention.self_attention(np.ones((int((src != 0).sum()), 6)), p, packing, toy_config(), None)
    assert cache.X_Q is cache.X
    assert cache.packing_Q is cache.packing_X is packing


@pytest.mark.parametrize("biased", [True, False])
def test_weights_side_by_side_are_not_copied(biased: bool) -> None:
    p, _, _ = draw(0, biased, apart=False)
    W, b = attention.side_by_side(p)
    np.testing.assert_array_equal(W, np.hstack([p["W_Q"], p["W_K"], p["W_V"]]))
    assert np.shares_memory(W, p["W_K"])
    assert b is None if not biased else np.shares_memory(b, p["b_K"])


class TestPacking:
    @given(st.integers(0, 2**32), st.sampled_from([np.float32, np.float64, np.complex128]))
    def test_pack_and_unpack(self, seed: int, dtype: Any) -> None:
        rng = np.random.default_rng(seed)
        ids = rng.integers(0, 3, (4, 5))
        packing, X = Packing.of(ids, 0), rng.normal(size=(4, 5, 2)).astype(dtype)
        rows = packing.pack(X)
        np.testing.assert_array_equal(rows, X[ids != 0])
        np.testing.assert_array_equal(packing.unpack(rows), np.where((ids != 0)[..., None], X, 0))
        np.testing.assert_array_equal(packing.unpack_repeated(rows)[ids != 0], rows)
        assert packing.unpack_repeated(rows).shape == X.shape
        assert rows.dtype == packing.unpack(rows).dtype == packing.unpack_repeated(rows).dtype == dtype
        assert np.isin(packing.unpack_repeated(rows), rows).all() or not len(rows)      # not zeros, but copies of rows

    def test_without_pads_nothing_is_copied(self) -> None:
        packing, X = Packing.of(np.ones((2, 3), int), 0), np.zeros((2, 3, 4))
        assert packing.bias is packing.places is None
        for view in (packing.pack(X), packing.unpack(packing.pack(X)), packing.unpack_repeated(packing.pack(X))):
            assert np.shares_memory(view, X)

    def test_masks(self) -> None:
        """Pads are hidden whether they have a row or not. With `causal`, later tokens are hidden too."""
        ids = np.array([[1, 1, 0]])
        np.testing.assert_array_equal(mask_of(Packing.of(ids, 0)), [[[[True, True, False]]]])
        causal = Packing.of(ids, 0, np.float32, kept=np.array([[True, True, True]]), causal=True)
        np.testing.assert_array_equal(mask_of(causal)[0, 0], causal_mask(3) & [True, True, False])
        np.testing.assert_array_equal(causal.bias, np.where(mask_of(causal), 0, -np.inf))
        assert causal.bias.dtype == np.float32
        assert causal.places is None
