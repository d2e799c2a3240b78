"""The language model that training runs on, against its reference; and its own: blocks, pieces, order, shares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npattn._internal.checks import Array
from npattn.attention.dot_product import scaled_dot_product_attention, scaled_dot_product_attention_backward
from npattn.attention.v7_multi_head import merge_heads
from npattn.language_model import LanguageModel, generate, reference
from npattn.language_model.fast import attention, causal_blocks, feed_forward
from npattn.language_model.fast import language_model as fast
from npattn.layers import cross_entropy, cross_entropy_backward, swiglu, swiglu_backward
from npattn.transformer.fast.gradient import computed
from support.language_model_toys import FAMILIES, IDS, OTHERS, toy_config, toy_language_model, toy_params

#: Three rows of nine ids; the last two end early.
ROWS = np.array([[4, 5, 4, 1, 3, 2, 2, 6, 1], [6, 6, 2, 5, 1, 1, 4, 0, 0], [3, 6, 0, 0, 0, 0, 0, 0, 0]])
every_model = pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
#: Settings under which 9 ids are one block, five blocks, and tiles.
WAYS = {"one block": (64, 1024), "blocks": (2, 1024), "tiles": (64, 4)}


def small(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    block, long = WAYS[way]
    monkeypatch.setattr(causal_blocks, "BLOCK", block)
    monkeypatch.setattr(attention, "LONG", long)
    monkeypatch.setattr(feed_forward, "PIECE", 3 * block)


class TestReference:
    @every_model
    @pytest.mark.parametrize("way", WAYS)
    def test_logits_loss_and_every_gradient(self, family: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """With dropout too, from the same draws."""
        small(monkeypatch, way)
        config = toy_config(family)
        params = toy_params(config)
        wanted, cache = reference.forward(params, ROWS, config, np.random.default_rng(8))
        model = LanguageModel.from_arrays(config, params)
        logits, fast_cache = model.forward(ROWS, np.random.default_rng(8))
        np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-12)
        self.compare(model.backward(np.cos(wanted), fast_cache), reference.backward(np.cos(wanted), cache))
        logits, cache = reference.forward(params, ROWS[:, :-1], config, np.random.default_rng(8))
        wanted_loss, c_loss = cross_entropy(logits, ROWS[:, 1:], 0.2, ignore_id=0)
        loss, grads = model.loss_and_gradients(ROWS, smoothing=0.2, rng=np.random.default_rng(8))
        assert loss == pytest.approx(float(wanted_loss), rel=1e-13)
        self.compare(grads, reference.backward(cross_entropy_backward(1.0, c_loss), cache))

    @staticmethod
    def compare(grads: Any, wanted: Any) -> None:
        assert grads.keys() == wanted.keys()
        largest = max(float(np.abs(gradient).max()) for gradient in wanted.values())
        for name, gradient in wanted.items():
            np.testing.assert_allclose(grads[name], gradient, rtol=0, atol=1e-12 * largest, err_msg=name)

    def test_parameters_that_are_a_plain_mapping(self) -> None:
        config = toy_config("llama")
        params = toy_params(config)
        logits, _ = fast.forward(params, IDS, config)
        np.testing.assert_allclose(logits, reference.forward(params, IDS, config)[0], rtol=0, atol=1e-12)

    @pytest.mark.parametrize("ids", [np.zeros((0, 3), int), np.zeros((2, 0), int)])
    def test_nothing_to_read(self, ids: Array) -> None:
        model = toy_language_model("qwen3")
        logits, cache = model.forward(ids)
        assert logits.shape == (*ids.shape, 7)
        assert not model.backward(logits, cache).flat.any()

    def test_long_rows_go_by_tiles(self, monkeypatch: pytest.MonkeyPatch) -> None:
        small(monkeypatch, "tiles")
        lengths, tiled = [], attention.tiled_attention

        def spy(Q: Array, *rest: Any, **options: Any) -> Any:
            lengths.append(Q.shape[2])
            return tiled(Q, *rest, **options)

        monkeypatch.setattr(attention, "tiled_attention", spy)
        model = toy_language_model("mistral")
        for N in (3, 4, 5):
            model.forward(ROWS[:, :N])
        assert lengths == [5, 5]
        model.forward(ROWS[:, :6], np.random.default_rng(0))  # its weights are not dropped
        dropped = toy_language_model("geglu")
        dropped.forward(ROWS[:, :7])
        dropped.forward(ROWS[:, :8], np.random.default_rng(0))
        assert lengths == [5, 5, 6, 6, 7, 7]


class TestGradients:
    def test_they_come_from_the_last_layer_to_the_first(self) -> None:
        """Those of matrices in the layers come as functions, a tied embedding twice."""
        config = toy_config("gemma2")
        _, found = fast.loss_and_gradients(toy_params(config), IDS, config, 0.1)
        gradients = list(found)
        names = [name for name, _ in gradients]
        parts = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
        assert parts == ["embedding.W_E", "norm.gamma", "layers.1", "layers.0"]
        assert [i for i, name in enumerate(names) if name == "embedding.W_E"] == [0, len(names) - 1]
        assert all(computed(gradient).flags.c_contiguous for _, gradient in gradients)
        later = {name for name, gradient in gradients if callable(gradient)}
        kinds = ("attention.W_QKV", "attention.W_O", "feed_forward.W_1", "feed_forward.W_2")
        assert later == {f"layers.{i}.{kind}" for i in range(2) for kind in kinds}
        at = names.index
        assert at("layers.1.feed_forward.W_2") < at("layers.1.attention.W_O") < at("layers.0.feed_forward.W_2")

    def test_those_of_matrices_are_written_where_they_are_wanted(self) -> None:
        config = toy_config("llama")
        for name, gradient in fast.loss_and_gradients(toy_params(config), IDS, config, 0.1)[1]:
            if callable(gradient):
                out = np.full_like(wanted := gradient(), 9)
                assert gradient(out=out) is out, name
                np.testing.assert_array_equal(out, wanted)

    @pytest.mark.parametrize("share", [0.25, 2.0])
    def test_a_share_scales_them_and_not_the_loss(self, share: float) -> None:
        config = toy_config("gpt2")
        params = toy_params(config)
        loss, whole = fast.loss_and_gradients(params, IDS, config, 0.1)
        same, part = fast.loss_and_gradients(params, IDS, config, 0.1, None, share)
        assert loss == same
        for (name, one), (_, other) in zip(whole, part, strict=True):
            np.testing.assert_array_equal(computed(one) * share, computed(other), err_msg=name)

    def test_a_smoothing_out_of_range(self) -> None:
        config = toy_config("llama")
        with pytest.raises(ValueError, match=r"^smoothing: expected "):
            fast.loss_and_gradients(toy_params(config), IDS, config, 1.0)

    def test_targets_that_are_pads_alone(self) -> None:
        config = toy_config("llama")
        loss, gradients = fast.loss_and_gradients(toy_params(config), np.array([[4, 0, 0], [5, 0, 0]]), config, 0.1)
        assert loss == 0 and not any(computed(gradient).any() for _, gradient in gradients)

    @pytest.mark.parametrize("family", ["llama", "gemma3", "geglu"])
    def test_a_cache_serves_twice(self, family: str) -> None:
        model = toy_language_model(family)
        logits, cache = model.forward(IDS, np.random.default_rng(1))
        before = np.cos(logits)
        assert model.backward(before, cache) == model.backward(before, cache)
        np.testing.assert_array_equal(before, np.cos(logits))

    @pytest.mark.parametrize("family", FAMILIES)
    def test_underflow_does_not_raise(self, family: str) -> None:
        config = toy_config(family)
        params = {name: array.astype(np.float32) for name, array in toy_params(config).items()}
        with np.errstate(all="raise"):
            _, gradients = fast.loss_and_gradients(params, ROWS, config, 0.0, None, 1e-42)
            assert all(np.isfinite(computed(gradient)).all() for _, gradient in gradients)


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


class TestSwiglu:
    @pytest.mark.parametrize("piece", [1, 7, 8, 1 << 16])
    def test_is_that_of_the_layers(self, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(feed_forward, "PIECE", piece)
        U = np.random.default_rng(0).normal(0, 5, (2, 3, 8))
        wanted, cache = swiglu(U)
        H, fast_cache = feed_forward.swiglu(*(half.copy() for half in feed_forward.halves(U)))
        np.testing.assert_allclose(H, wanted, rtol=1e-15, atol=0)
        dH = np.cos(H)
        dU = np.concatenate(feed_forward.swiglu_backward(dH, fast_cache), -1)
        np.testing.assert_allclose(dU, swiglu_backward(dH, cache), rtol=1e-14, atol=1e-14)

    def test_far_out(self) -> None:
        """σ is 0 or 1 there, without a warning."""
        g, u = np.array([[-1e3, 1e3]], np.float32), np.array([[2.0, 3.0]], np.float32)
        with np.errstate(all="raise"):
            H, cache = feed_forward.swiglu(g, u)
            dg, du = feed_forward.swiglu_backward(np.ones_like(H), cache)
        assert H.tolist() == [[0, 3e3]] and dg.tolist() == [[0, 3]] and du.tolist() == [[0, 1e3]]
        assert {H.dtype, dg.dtype, du.dtype, *(array.dtype for array in cache)} == {np.dtype(np.float32)}

    def test_rows_of_a_piece(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """They are views, also of rows with gaps: what is written to them must not be lost."""
        monkeypatch.setattr(feed_forward, "PIECE", 9)
        X = np.arange(20.0).reshape(5, 4)
        found = list(feed_forward.pieces(X, X[:, :2]))
        assert [one.tolist() for one, _ in found] == [X[:2].tolist(), X[2:4].tolist(), X[4:].tolist()]
        assert [other.shape for _, other in found] == [(2, 2), (2, 2), (1, 2)]
        assert all(np.shares_memory(one, X) and np.shares_memory(other, X) for one, other in found)
        assert len(list(feed_forward.pieces(np.zeros((3, 10))))) == 3

    @pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 3)])
    @pytest.mark.parametrize("d_model", [1, 6])
    def test_a_single_row_takes_one_product(
        self, shape: tuple[int, int], d_model: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its backward is that of the reference too."""
        config = toy_config("llama", d_model=d_model, tie=False)
        params, ids = toy_params(config), np.full(shape, 4)
        products, project = [], feed_forward.project
        monkeypatch.setattr(feed_forward, "project", lambda X, *rest: products.append(X) or project(X, *rest))
        logits, cache = fast.forward(params, ids, config)
        assert len(products) == config.n_layers * (2 if shape == (1, 1) else 3)
        wanted, c_wanted = reference.forward(params, ids, config)
        np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-13)
        found = {name: computed(gradient) for name, gradient in fast.gradients(np.cos(wanted), cache)}
        gradients = reference.backward(np.cos(wanted), c_wanted)
        for i in range(config.n_layers):
            name = f"layers.{i}.feed_forward.W_1"
            np.testing.assert_allclose(found[name], gradients[name], rtol=0, atol=1e-12, err_msg=name)

    def test_gradients_of_both_halves_are_one_array(self) -> None:
        rng = np.random.default_rng(0)
        X, dg, du = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4))
        wanted = X.reshape(6, 5).T @ np.concatenate([dg, du], -1).reshape(6, 8)
        out = np.full((5, 8), 9.0)
        assert feed_forward.weight_gradients(X, dg, du, out) is out
        for dW in (out, feed_forward.weight_gradients(X, dg, du)):
            np.testing.assert_allclose(dW, wanted, rtol=0, atol=1e-14)
        assert feed_forward.weight_gradients(*(T.astype(np.float32) for T in (X, dg, du))).dtype == np.float32


class TestRotations:
    @pytest.mark.parametrize("pairing", ["halves", "neighbours"])
    def test_float32_turns_by_float32(self, pairing: str, monkeypatch: pytest.MonkeyPatch) -> None:
        dtypes, rotate = set(), attention.rotate

        def spy(T: Array, rotation: Any) -> Array:
            dtypes.update({T.dtype, rotation.cos.dtype, rotation.sin.dtype})
            return rotate(T, rotation)

        monkeypatch.setattr(attention, "rotate", spy)
        model = LanguageModel(toy_config("llama", pairing=pairing))
        model.forward(IDS)
        generate(model, IDS, 2)
        assert dtypes == {np.dtype(np.float32)}

    def test_one_for_each_type_of_layer(self) -> None:
        dtype = np.dtype(np.float32)
        found = attention.rotations(3, dtype, toy_config("gemma3"))
        assert found.keys() == {"sliding_attention", "full_attention"}
        for layer_type, base in (("sliding_attention", 100.0), ("full_attention", 1e4)):
            rotation = found[layer_type]
            assert rotation is not None and rotation.pairing == "halves" and rotation.cos.dtype == np.float32
            angles = np.arange(3)[:, None] * base ** (-np.arange(3) / 3)
            np.testing.assert_allclose(rotation.cos, np.cos(angles), atol=1e-7)
        assert attention.rotations(3, dtype, toy_config("gpt2")) == {"full_attention": None}
