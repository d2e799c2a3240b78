"""The language model that training runs on, against its reference; and its own: the order of gradients, and angles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npattn._internal.checks import Array
from npattn.language_model import LanguageModel, generate, reference
from npattn.language_model.fast import attention, causal_blocks, feed_forward
from npattn.language_model.fast import language_model as fast
from npattn.layers import cross_entropy, cross_entropy_backward
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
