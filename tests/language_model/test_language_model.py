"""`LanguageModel`: its loss, its files, its first parameters; `LanguageModelConfig`: its messages."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn import CheckpointError, LanguageModel, LanguageModelConfig
from npattn.language_model import RotarySettings
from npattn.layers import cross_entropy, cross_entropy_backward
from support.language_model_toys import FAMILIES, IDS, SIZES, toy_config, toy_language_model

every_family = pytest.mark.parametrize("family", FAMILIES)


class TestLoss:
    def test_the_next_token_without_pads(self) -> None:
        """The second row has the targets 6 and 2 alone."""
        model = toy_language_model("llama")
        logits, cache = model.forward(IDS[:, :-1])
        shifted = np.where(IDS[:, 1:] == 0, -1, IDS[:, 1:])
        wanted, c_loss = cross_entropy(logits, shifted, 0.2, ignore_id=-1)
        loss, grads = model.loss_and_gradients(IDS, smoothing=0.2)
        assert isinstance(loss, float) and loss == float(wanted)
        assert grads == model.backward(cross_entropy_backward(1.0, c_loss), cache)
        assert model.loss_and_gradients(IDS)[0] == float(cross_entropy(logits, shifted, 0.0, ignore_id=-1)[0])

    def test_without_a_pad_every_id_counts(self) -> None:
        model = toy_language_model("llama", pad_id=None)
        wanted, _ = cross_entropy(model.forward(IDS[:, :-1])[0], IDS[:, 1:])
        assert model.loss_and_gradients(IDS)[0] == float(wanted)

    def test_pads_change_no_gradient(self) -> None:
        model = toy_language_model("gemma2")
        loss, grads = model.loss_and_gradients(IDS[1:, :3])
        padded_loss, padded_grads = model.loss_and_gradients(IDS[1:])
        assert abs(loss - padded_loss) < 1e-14
        np.testing.assert_allclose(padded_grads.flat, grads.flat, rtol=0, atol=1e-14)

    def test_at_least_two_columns(self) -> None:
        model = toy_language_model("llama")
        with pytest.raises(ValueError, match=r"^ids: expected ids \(B, N\) with two columns or more, got \(2, 1\)$"):
            model.loss_and_gradients(IDS[:, :1])
        assert np.isfinite(model.loss_and_gradients(IDS[:, :2])[0])
        with pytest.raises(TypeError, match=r"^ids: "):
            model.loss_and_gradients(IDS / 2)


class TestFiles:
    @every_family
    def test_save_and_load(self, family: str, tmp_path: Path) -> None:
        model = toy_language_model(family, eos_id=(2, 3))
        model.save(tmp_path / "model.npz")
        twin = LanguageModel.load(tmp_path / "model.npz")
        assert twin.config == model.config and twin.params == model.params
        assert twin.params.flat.dtype == np.float64

    def test_other_content(self, tmp_path: Path) -> None:
        from npattn._internal.files import save_arrays

        path, model = tmp_path / "model.npz", toy_language_model("llama")
        start, config = f"^{re.escape(str(path))}: ", dataclasses.asdict(model.config)
        for metadata in ({}, {"config": config | {"vocab": 0}}, {"config": {"vocabulary": 3}}):
            save_arrays(path, dict(model.params), metadata)
            with pytest.raises(CheckpointError, match=rf"{start}no valid model configuration \(.+\)$"):
                LanguageModel.load(path)
        save_arrays(path, {}, {"config": config})
        with pytest.raises(CheckpointError, match=rf"{start}expected 2 layers, got 0 arrays$"):
            LanguageModel.load(path)

    def test_arrays_that_do_not_fit(self) -> None:
        model = toy_language_model("llama")
        arrays, config = dict(model.params), model.config
        half = {name: array.astype(np.float16) for name, array in arrays.items()}
        mixed = arrays | {"norm.gamma": arrays["norm.gamma"].astype(np.float32)}
        missing = {name: array for name, array in arrays.items() if name != "embedding.W_E"}
        for given, message in (
            (half, "arrays: 'embedding.W_E': expected float32 or float64, got float16"),
            (mixed, "arrays: 'norm.gamma': expected float64 (5,), got float32 (5,)"),
            ({"norm.gamma": np.ones(3)}, "arrays: expected 2 layers, got 1 arrays"),
            (arrays | {"x": np.ones(3)}, "arrays: unexpected 'x'"),
        ):
            with pytest.raises(CheckpointError, match=rf"^{re.escape(message)}$"):
                LanguageModel.from_arrays(config, given)
        with pytest.raises(CheckpointError, match=r"^here: missing 'embedding.W_E'; .*expected float32 \(5, 24\)"):
            LanguageModel.from_arrays(config, missing, "here")
        with pytest.raises(CheckpointError, match=r"^arrays: missing 'layers.0.attention.W_Q'; "):
            LanguageModel.from_arrays(config, {name: arrays[name] for name in ("embedding.W_E", "norm.gamma")})
        with pytest.raises(TypeError, match=r"^config: expected a LanguageModelConfig, got dict$"):
            LanguageModel.from_arrays({}, arrays)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^arrays: expected a mapping"):
            LanguageModel.from_arrays(config, [])  # type: ignore[arg-type]


class TestFirstParameters:
    def test_their_spread(self) -> None:
        model = LanguageModel(toy_config("gpt2", vocab=200, d_model=64, d_ff=80, n_layers=1), rng=3, dtype=np.float64)
        params = model.params
        assert abs(params["embedding.W_E"].std() * 8 - 1) < 0.05
        assert abs(params["embedding.W_P"].std() * 8 - 1) < 0.1 and abs(params["embedding.W_E"].mean()) < 0.02
        limit = (6 / 144) ** 0.5
        assert 0.99 * limit < np.abs(params["layers.0.feed_forward.W_1"]).max() <= limit
        assert abs(params["layers.0.feed_forward.W_1"].mean()) < 0.05 * limit
        assert (params["norm.gamma"] == 1).all() and not params["norm.beta"].any()
        assert not params["layers.0.attention.b_Q"].any()
        assert params == LanguageModel(model.config, rng=3, dtype=np.float64).params
        assert params != LanguageModel(model.config, rng=4, dtype=np.float64).params

    def test_norms_multiply_by_one(self) -> None:
        assert not LanguageModel(toy_config("gemma3")).params["layers.0.attention.gamma_Q"].any()
        assert (LanguageModel(toy_config("qwen3")).params["layers.0.attention.gamma_Q"] == 1).all()

    def test_the_defaults(self) -> None:
        model = LanguageModel(toy_config("llama"))
        assert model.params.flat.dtype == np.float32
        assert model.params == LanguageModel(model.config, rng=0).params
        text = f"<LanguageModel of 1,033 parameters: {model.config}>"
        assert repr(model) == text

    def test_what_is_multiplied_with_the_same_rows_stands_side_by_side(self) -> None:
        config = toy_config("llama")
        for model in (LanguageModel(config), toy_language_model("llama")):
            blocks = model.params.blocks
            names = [name for name in blocks if "QKV" in name]
            assert names == [f"layers.{i}.attention.{kind}_QKV" for i in range(2) for kind in "Wb"]
            assert blocks["layers.1.attention.W_QKV"].shape == (5, 48) and "layers.0.attention.W_K" not in blocks
            assert np.shares_memory(model.params["layers.0.attention.W_K"], blocks["layers.0.attention.W_QKV"])
        assert list(toy_config("olmo2").side_by_side()) == [f"layers.{i}.attention.W_QKV" for i in range(2)]

    def test_room(self) -> None:
        with pytest.raises(ValueError, match=r"^config: expected no more numbers than memory has room for, got "):
            LanguageModel(toy_config("llama", vocab=2**50))
        with pytest.raises(TypeError, match=r"^config: expected a LanguageModelConfig, got int$"):
            LanguageModel(3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^dtype: "):
            LanguageModel(toy_config("llama"), dtype=np.float16)
        with pytest.raises(TypeError, match=r"^rng: "):
            LanguageModel(toy_config("llama"), rng=0.5)  # type: ignore[arg-type]

    def test_the_object_of_parameters_stays(self) -> None:
        with pytest.raises(AttributeError):
            LanguageModel(toy_config("llama")).params = None  # type: ignore[misc, assignment]


#: A field, a wrong value, and what is said about it.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"vocab": 0}, "vocab: expected 1 or more, got 0"),
    ({"d_model": 0}, "d_model: expected 1 or more, got 0"),
    ({"n_layers": 0}, "n_layers: expected 1 or more, got 0"),
    ({"n_layers": 10_001}, "n_layers: expected at most 10,000, got 10,001"),
    ({"n_heads": 0}, "n_heads: expected 1 or more, got 0"),
    ({"n_kv_heads": 0}, "n_kv_heads: expected 1 or more, got 0"),
    ({"n_kv_heads": 3}, "n_kv_heads: expected a divisor of n_heads=4, got 3"),
    ({"d_head": None}, "d_model: expected a multiple of n_heads=4, or a d_head, got 5"),
    ({"d_head": 0}, "d_head: expected 1 or more, got 0"),
    ({"d_head": 3}, "d_head: expected an even number for rotary positions, got 3"),
    ({"d_ff": 0}, "d_ff: expected 1 or more, got 0"),
    ({"max_length": 0}, "max_length: expected 1 or more, got 0"),
    ({"window": 0}, "window: expected 1 or more, got 0"),
    ({"positions": "learned"}, "max_length: expected a number for learned positions, got None"),
    ({"positions": "none"}, "positions: expected one of rotary, learned, got 'none'"),
    ({"pairing": "thirds"}, "pairing: expected one of halves, neighbours, got 'thirds'"),
    ({"norm": "l2"}, "norm: expected one of rms, layer, got 'l2'"),
    ({"norm_position": "none"}, "norm_position: expected one of pre, post, both, got 'none'"),
    ({"qk_norm": "layer"}, "qk_norm: expected one of none, rms, wide_rms, got 'layer'"),
    ({"activation": "tanh"}, "activation: expected one of silu, gelu, gelu_tanh, relu, got 'tanh'"),
    ({"activation": "relu"}, 'gated: expected False for activation="relu", got True'),
    ({"norm": "layer", "unit_offset": True}, 'unit_offset: expected False for norm="layer", got True'),
    ({"norm_bias": True}, 'norm_bias: expected False for norm="rms", got True'),
    ({"layer_types": ["full_attention"]},
     "layer_types: expected a word for each of 2 layers, got ['full_attention']"),
    ({"layer_types": "ab"}, "layer_types: expected a word for each of 2 layers, got 'ab'"),
    ({"layer_types": ("linear_attention",) * 2},
     "layer_types: expected one of full_attention, sliding_attention, got 'linear_attention'"),
    ({"layer_types": ["full_attention", "sliding_attention"]},
     "window: expected a number for sliding attention, got None"),
    ({"dropout": 1.0}, "dropout: expected 0 ≤ dropout < 1, got 1.0"),
    ({"attention_dropout": -0.1}, "attention_dropout: expected 0 ≤ attention_dropout < 1, got -0.1"),
    ({"norm_eps": 0}, "norm_eps: expected 1.17549e-38 ≤ norm_eps < 1.70141e+38, got 0"),
    ({"attention_softcap": 0}, "attention_softcap: expected 1.17549e-38 ≤ attention_softcap < 8.50706e+37, got 0"),
    ({"logit_softcap": 0}, "logit_softcap: expected 1.17549e-38 ≤ logit_softcap < 8.50706e+37, got 0"),
    ({"attention_scale": 2.0**127},
     "attention_scale: expected -1.70141e+38 ≤ attention_scale < 1.70141e+38, got 1.7014118346046923e+38"),
    ({"pad_id": 7}, "pad_id: expected an id below vocab=7, got 7"),
    ({"pad_id": -1}, "pad_id: expected 0 or more, got -1"),
    ({"bos_id": -1}, "bos_id: expected 0 or more, got -1"),
    ({"eos_id": [2, -3]}, "eos_id: expected 0 or more, got -3"),
]  # fmt: skip
FLAGS = ("attention_bias", "norm_bias", "unit_offset", "gated", "feed_forward_bias", "scale_embedding", "tie")


class TestConfig:
    @pytest.mark.parametrize(("fields", "message"), WRONG, ids=[f"{fields}"[:40] for fields, _ in WRONG])
    def test_a_wrong_field_is_named(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
            LanguageModelConfig(**SIZES | fields)

    def test_wrong_types(self) -> None:
        for name in FLAGS:
            with pytest.raises(TypeError, match=rf"^{name}: expected True or False, got 1$"):
                LanguageModelConfig(**SIZES | {name: 1})
        for name in ("rotary", "rotary_sliding"):
            with pytest.raises(TypeError, match=rf"^{name}: expected RotarySettings, got 3$"):
                LanguageModelConfig(**SIZES | {name: 3})

    def test_defaults(self) -> None:
        config = LanguageModelConfig(np.int64(9), d_model=np.int64(8), n_layers=1, n_heads=2, dropout=np.float32(0.5),
                                     norm_eps=np.float32(0.5))  # fmt: skip
        assert (config.n_kv_heads, config.d_head, config.d_ff) == (2, 4, 32)
        assert config.rotary_sliding is config.rotary and config.layer_types == ("full_attention",)
        assert all(type(value) is not np.int64 for value in dataclasses.astuple(config))
        assert type(config.dropout) is type(config.norm_eps) is float
        assert config.pad_id is None and config.eos_id is None
        assert LanguageModelConfig(9, d_model=9, n_layers=1, n_heads=2, d_head=4).n_kv_heads == 2

    def test_the_largest_values(self) -> None:
        config = LanguageModelConfig(**SIZES | {"n_layers": 10_000, "pad_id": 6, "attention_scale": -3.0, "window": 1})
        assert config.n_layers == 10_000 and config.pad_id == 6 and config.attention_scale == -3.0

    def test_shapes_have_every_choice(self) -> None:
        gpt2, gemma = toy_config("gpt2").shapes(), toy_config("gemma3").shapes()
        assert gpt2["embedding.W_P"] == (9, 5) and gpt2["layers.1.feed_forward.b_1"] == (3,)
        assert gpt2["layers.0.attention.b_Q"] == (24,) and gpt2["layers.0.attention.b_O"] == (5,)
        assert gemma["layers.1.attention.gamma_Q"] == gemma["layers.1.attention.gamma_K"] == (6,)
        wide = toy_config("olmo2").shapes()
        assert wide["layers.0.attention.gamma_Q"] == (24,) and wide["layers.0.attention.gamma_K"] == (12,)
        assert wide["layers.0.feed_forward.W_1"] == (5, 6) and wide["output.W"] == (5, 7)


class TestRotarySettings:
    def test_from_json(self) -> None:
        settings = RotarySettings(turns=[1.0, 8.0], scaling="yarn", original_length=16)  # type: ignore[arg-type]
        assert settings.turns == (1.0, 8.0)
        assert RotarySettings(scaling="yarn", original_length=16).turns == (1.0, 32.0)
        assert RotarySettings(scaling="llama3", original_length=16).turns == (1.0, 4.0)
        assert RotarySettings().turns is None
        assert LanguageModelConfig(**SIZES, rotary=dataclasses.asdict(settings)).rotary == settings

    def test_wrong_fields(self) -> None:
        with pytest.raises(ValueError, match=r"^base: "):
            RotarySettings(1.0)
        with pytest.raises(ValueError, match=r"^original_length: "):
            RotarySettings(scaling="dynamic")
        with pytest.raises(TypeError, match=r"^turns: "):
            RotarySettings(turns=3)  # type: ignore[arg-type]
