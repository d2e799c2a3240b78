"""Causal attention in blocks of queries, against scaled dot-product attention."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.attention.dot_product import scaled_dot_product_attention, scaled_dot_product_attention_backward
from npattn.attention.v7_multi_head import merge_heads
from npattn.language_model.fast import causal_blocks


class TestBlocks:
    @pytest.mark.parametrize("N", [1, 4, 5, 9])
    @pytest.mark.parametrize(("window", "softcap", "scale"), [(None, None, None), (3, 0.8, 0.7), (1, None, 90.0)])
    def test_is_causal_attention(
        self, N: int, window: int | None, softcap: float | None, scale: float | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With scores beyond 60 too, where the softmax needs the maxima of rows."""
        monkeypatch.setattr(causal_blocks, "BLOCK", 4)
        rng = np.random.default_rng(N)
        Q, K, V = (rng.normal(size=(2, H, N, 5)) for H in (6, 2, 2))
        wanted, cache = scaled_dot_product_attention(
            Q, K, V, scale=scale, causal=True, window=window, softcap=softcap, grouped=True
        )
        arrays = [Q.copy(), K.copy(), V.copy()]
        Y, blocks = causal_blocks.causal_attention(Q, K, V, scale, window, softcap)
        np.testing.assert_allclose(Y, wanted, rtol=0, atol=1e-13)
        dY = rng.normal(size=Y.shape)
        gradients = scaled_dot_product_attention_backward(dY, cache)
        for got, gradient in zip(causal_blocks.causal_attention_backward(dY, blocks), gradients, strict=False):
            np.testing.assert_allclose(got, gradient, rtol=0, atol=1e-12 * max(np.abs(gradient).max(), 1))
        for array, copy in zip((Q, K, V), arrays, strict=True):
            np.testing.assert_array_equal(array, copy)

    def test_keeps_the_dtype_and_merges_without_a_copy(self) -> None:
        Q = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
        Y, cache = causal_blocks.causal_attention(Q, Q, Q, None, 2, 0.5)
        assert np.shares_memory(merge_heads(Y), Y)
        assert {Y.dtype, *(each.dtype for each in causal_blocks.causal_attention_backward(Y, cache))} == {Q.dtype}

    @pytest.mark.parametrize(("H", "N", "few", "wanted"), [
        (3, 4, 24, [(0, 2), (2, 4), (4, 5)]), (3, 4, 35, [(0, 2), (2, 4), (4, 5)]),
        (3, 4, 11, [(i, i + 1) for i in range(5)]), (1, 1, 2, [(0, 2), (2, 4), (4, 5)]),
    ])  # fmt: skip
    def test_few_rows_at_a_time(
        self, H: int, N: int, few: int, wanted: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(causal_blocks, "FEW", few)
        Q = np.random.default_rng(0).normal(size=(5, H, N, 2))
        Y, cache = causal_blocks.causal_attention(Q, Q, Q, None, None, None)
        assert [(rows.start, rows.stop) for rows, *_ in cache[-1]] == wanted
        np.testing.assert_allclose(Y, scaled_dot_product_attention(Q, Q, Q, causal=True)[0], atol=1e-14)

    def test_groups_and_few_rows_at_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(causal_blocks, "FEW", 2 * 6 * 5)
        rng = np.random.default_rng(0)
        Q, K, V = rng.normal(size=(3, 6, 5, 2)), *rng.normal(size=(2, 3, 2, 5, 2))
        wanted, cache = scaled_dot_product_attention(Q, K, V, causal=True, grouped=True)
        Y, blocks = causal_blocks.causal_attention(Q, K, V, None, None, None)
        assert len(blocks[-1]) == 2                           # two rows of the batch, then one
        np.testing.assert_allclose(Y, wanted, rtol=0, atol=1e-14)
        dY = rng.normal(size=Y.shape)
        gradients = scaled_dot_product_attention_backward(dY, cache)
        for got, gradient in zip(causal_blocks.causal_attention_backward(dY, blocks), gradients, strict=False):
            np.testing.assert_allclose(got, gradient, rtol=0, atol=1e-13)

    def test_no_more_keys_than_are_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(causal_blocks, "BLOCK", 4)

        def cut(N: int, window: int | None) -> list[tuple[int, int, int, int]]:
            return [(i.start, i.stop, j.start, j.stop) for i, j, _ in causal_blocks.blocks(N, window)]

        assert cut(9, None) == [(0, 4, 0, 4), (4, 8, 0, 8), (8, 9, 0, 9)]
        assert cut(9, 3) == [(0, 4, 0, 4), (4, 8, 2, 8), (8, 9, 6, 9)]
        assert cut(8, 1) == [(0, 4, 0, 4), (4, 8, 4, 8)]
        (_, _, bias), = causal_blocks.blocks(2, 1)
        assert bias.dtype == np.float32 and bias.tolist() == [[0, -np.inf], [-np.inf, 0]]
        assert not bias.flags.writeable                       # all models and threads share it
