"""The configuration: its defaults, its names and shapes, and the values that it refuses."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from npattn import TransformerConfig
from support.transformer_toys import toy_config


def count(config: TransformerConfig) -> int:
    return sum(math.prod(shape) for shape in config.shapes().values())


class TestShapes:
    def test_the_base_model_of_the_paper_has_63_million_parameters(self) -> None:
        attention = 4 * (512 * 512 + 512)
        feed_forward = 512 * 2048 + 2048 + 2048 * 512 + 512
        norm = 2 * 512
        encoder = 6 * (attention + feed_forward + 2 * norm)
        decoder = 6 * (2 * attention + feed_forward + 3 * norm)
        assert 37_000 * 512 + encoder + decoder == 63_082_496
        assert count(TransformerConfig(37_000, 37_000, tie="all")) == 63_082_496

    def test_an_rms_norm_has_no_beta(self) -> None:
        names = toy_config(norm_type="rms", bias=True).shapes()
        assert not any(name.endswith("beta") for name in names)
        assert "encoder.0.norm_1.gamma" in names and "encoder.0.feed_forward.b_1" in names

    def test_the_parameters_that_each_option_adds(self) -> None:
        D, V_S, V_T, n_norms, n_biases = 6, 9, 11, 10, 6 * 4 * 6 + 4 * (8 + 6)
        base = count(toy_config())
        assert count(toy_config(tie="none")) == base + D * V_T
        assert count(toy_config(tie="all", src_vocab=V_T)) == base - D * V_S
        assert count(toy_config(norm="pre")) == base + 2 * 2 * D == count(toy_config(final_norm=True))
        assert count(toy_config(norm="pre", final_norm=False)) == base
        assert count(toy_config(bias=False)) == base - n_norms * D - n_biases

    def test_names_and_shapes_one_by_one(self) -> None:
        config = toy_config(n_encoder_layers=1, n_decoder_layers=1, norm="pre", tie="none")
        attention: dict[str, tuple[int, ...]] = {f"W_{which}": (6, 6) for which in "QKVO"}
        attention |= {f"b_{which}": (6,) for which in "QKVO"}
        feed_forward = {"W_1": (6, 8), "b_1": (8,), "W_2": (8, 6), "b_2": (6,)}
        norm = {"gamma": (6,), "beta": (6,)}
        groups = {"source_embedding": {"W_E": (9, 6)}, "target_embedding": {"W_E": (11, 6)}, "output": {"W": (6, 11)}}
        for name in ("encoder.0.norm_1", "encoder.0.norm_2", "encoder.norm", "decoder.0.norm_1", "decoder.0.norm_2",
                     "decoder.0.norm_3", "decoder.norm"):  # fmt: skip
            groups[name] = norm
        for name in ("encoder.0.self_attention", "decoder.0.self_attention", "decoder.0.cross_attention"):
            groups[name] = attention
        groups["encoder.0.feed_forward"] = groups["decoder.0.feed_forward"] = feed_forward
        expected = {f"{group}.{name}": shape for group, shapes in groups.items() for name, shape in shapes.items()}
        assert config.shapes() == expected

    def test_without_bias_there_are_only_weights_and_gamma(self) -> None:
        names = toy_config(bias=False, norm="pre").shapes()
        assert {name.rpartition(".")[2] for name in names} == {
            "W_E", "W_Q", "W_K", "W_V", "W_O", "W_1", "W_2", "gamma"
        }  # fmt: skip

    @pytest.mark.parametrize("tie", ["output", "all", "none"])
    def test_names_of_the_embeddings(self, tie: Any) -> None:
        config = toy_config(tie=tie, src_vocab=11)
        embeddings = {name for name in config.shapes() if name.endswith("W_E")}
        assert embeddings == {config.source_embedding, config.target_embedding}
        assert len(embeddings) == (1 if tie == "all" else 2)


class TestValues:
    def test_defaults_are_the_base_model_of_the_paper(self) -> None:
        config = TransformerConfig(3, 4)
        assert dataclasses.asdict(config) == {
            "src_vocab": 3, "tgt_vocab": 4, "d_model": 512, "n_heads": 8, "d_ff": 2048, "n_encoder_layers": 6,
            "n_decoder_layers": 6, "dropout": 0.1, "norm": "post", "final_norm": None, "tie": "output", "bias": True,
            "activation": "relu", "pad_id": 0, "bos_id": 1, "eos_id": 2, "norm_eps": 1e-5,
            "attention_dropout": 0.0, "norm_type": "layer", "d_head": None, "attention_scale": None, "gated": False,
            "activation_dropout": 0.0, "final_dropout": False, "positions": "sinusoidal", "max_length": None,
            "position_offset": 0, "relative_buckets": 32, "relative_max_distance": 128, "scale_embedding": True,
            "embedding_norm": False, "scale_output": False, "output_bias": False, "pad_gradient": True,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("norm", "final_norm", "expected"),
        [("post", None, False), ("pre", None, True), ("post", True, True), ("pre", False, False)],
    )
    def test_final_norm(self, norm: Any, final_norm: Any, expected: bool) -> None:
        assert toy_config(norm=norm, final_norm=final_norm).has_final_norm is expected

    def test_is_frozen(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            toy_config().d_model = 8  # type: ignore[misc]


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"src_vocab": 0}, "src_vocab: expected 1 or more, got 0"),
            ({"d_ff": -3}, "d_ff: expected 1 or more, got -3"),
            ({"n_heads": 0}, "n_heads: expected 1 or more, got 0"),
            ({"n_heads": 4}, "d_model: expected a multiple of n_heads=4, got 6"),
            ({"n_encoder_layers": -1}, "n_encoder_layers: expected 0 or more, got -1"),
            ({"n_decoder_layers": 0}, "n_decoder_layers: expected 1 or more, got 0"),
            ({"n_encoder_layers": 10_001}, "n_encoder_layers: expected at most 10,000, got 10,001"),
            ({"n_decoder_layers": 10**9}, "n_decoder_layers: expected at most 10,000, got 1,000,000,000"),
            ({"pad_id": -1}, "pad_id: expected 0 or more, got -1"),
            ({"src_vocab": 3, "pad_id": 3}, "pad_id: expected an id below src_vocab=3, got 3"),
            ({"eos_id": 0}, "pad_id, bos_id, eos_id: expected ids below 11 with pad_id ≠ eos_id, got 0, 1, 0"),
            ({"eos_id": 11}, "pad_id, bos_id, eos_id: expected ids below 11 with pad_id ≠ eos_id, got 0, 1, 11"),
            ({"bos_id": 11}, "pad_id, bos_id, eos_id: expected ids below 11 with pad_id ≠ eos_id, got 0, 11, 2"),
            ({"dropout": 1.0}, "dropout: expected 0 ≤ dropout < 1, got 1.0"),
            ({"norm_eps": 0.0}, "norm_eps: expected 1.17549e-38 ≤ norm_eps < 1.70141e+38, got 0.0"),
            ({"dropout": math.nan}, "dropout: expected 0 ≤ dropout < 1, got nan"),
            ({"attention_dropout": 1}, "attention_dropout: expected 0 ≤ attention_dropout < 1, got 1"),
            ({"attention_dropout": -0.1}, "attention_dropout: expected 0 ≤ attention_dropout < 1, got -0.1"),
            ({"norm": "sandwich"}, "norm: expected one of post, pre, got 'sandwich'"),
            ({"tie": True}, "tie: expected one of output, all, none, embeddings, got True"),
            ({"activation": "swish"}, "activation: expected one of relu, gelu, gelu_tanh, silu, got 'swish'"),
            ({"tie": "all"}, 'tie="all": expected one vocabulary, got src_vocab=9, tgt_vocab=11'),
            ({"tie": "embeddings"}, 'tie="embeddings": expected one vocabulary, got src_vocab=9, tgt_vocab=11'),
            ({"norm_type": "batch"}, "norm_type: expected one of layer, rms, got 'batch'"),
            ({"positions": "alibi"},
             "positions: expected one of sinusoidal, sinusoidal_halves, learned, relative, got 'alibi'"),
            ({"positions": "learned"},
             'max_length: expected a number of positions for positions="learned", got None'),
            ({"max_length": 0}, "max_length: expected 1 or more, got 0"),
            ({"d_head": 0}, "d_head: expected 1 or more, got 0"),
            ({"position_offset": -1}, "position_offset: expected 0 or more, got -1"),
            ({"relative_buckets": 3}, "relative_buckets: expected 4 or more, got 3"),
            ({"relative_max_distance": 16},
             "relative_max_distance: expected more than 16, half of relative_buckets, got 16"),
            ({"activation_dropout": 1}, "activation_dropout: expected 0 ≤ activation_dropout < 1, got 1"),
            ({"attention_scale": 2.0**127},
             "attention_scale: expected -1.70141e+38 ≤ attention_scale < 1.70141e+38, got 1.7014118346046923e+38"),
            ({"gated": True}, 'gated: expected False for activation="relu", got True'),
        ],
    )
    def test_values(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError) as caught:
            toy_config(**options)
        assert str(caught.value) == message

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"d_model": 6.0}, "d_model: expected an integer, got 6.0"),
            ({"n_heads": True}, "n_heads: expected an integer, got True"),
            ({"eos_id": "2"}, "eos_id: expected an integer, got '2'"),
            ({"dropout": "0.1"}, "dropout: expected a number, got '0.1'"),
            ({"dropout": False}, "dropout: expected a number, got False"),
            ({"attention_dropout": "0.1"}, "attention_dropout: expected a number, got '0.1'"),
            ({"attention_dropout": None}, "attention_dropout: expected a number, got None"),
            ({"norm_eps": "1e-5"}, "norm_eps: expected a number, got '1e-5'"),
            ({"bias": 1}, "bias: expected True or False, got 1"),
            ({"gated": 1}, "gated: expected True or False, got 1"),
            ({"final_dropout": None}, "final_dropout: expected True or False, got None"),
            ({"scale_embedding": 0}, "scale_embedding: expected True or False, got 0"),
            ({"embedding_norm": "y"}, "embedding_norm: expected True or False, got 'y'"),
            ({"scale_output": 1}, "scale_output: expected True or False, got 1"),
            ({"output_bias": 1}, "output_bias: expected True or False, got 1"),
            ({"pad_gradient": 1}, "pad_gradient: expected True or False, got 1"),
            ({"d_head": 2.0}, "d_head: expected an integer, got 2.0"),
            ({"max_length": "9"}, "max_length: expected an integer, got '9'"),
            ({"relative_max_distance": 9.5}, "relative_max_distance: expected an integer, got 9.5"),
            ({"attention_scale": "1"}, "attention_scale: expected a number, got '1'"),
            ({"activation_dropout": None}, "activation_dropout: expected a number, got None"),
            ({"final_norm": "no"}, "final_norm: expected True or False, got 'no'"),
            ({"final_norm": 0}, "final_norm: expected True or False, got 0"),
        ],
    )
    def test_types(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(TypeError) as caught:
            toy_config(**options)
        assert str(caught.value) == message

    def test_numbers_of_numpy_become_numbers_of_python(self) -> None:
        """JSON cannot hold np.int64, and np.float64 would promote float32."""
        sizes = {"d_model": np.int64(6), "dropout": np.float64(0.5), "pad_id": np.uint8(0)}
        more = {"norm_eps": np.float32(0.25), "attention_dropout": np.float32(0.25)}
        config = toy_config(**sizes, **more, bias=np.True_, final_norm=np.False_)
        assert config == toy_config(dropout=0.5, norm_eps=0.25, attention_dropout=0.25, final_norm=False)
        kinds = {name: type(value) for name, value in dataclasses.asdict(config).items()}
        assert kinds == {name: type(value) for name, value in dataclasses.asdict(toy_config(final_norm=False)).items()}

    @pytest.mark.parametrize(("name", "value"), [
        ("relative_buckets", 8), ("relative_max_distance", 20), ("max_length", 9), ("d_head", 3),
        ("position_offset", 2), ("attention_scale", 0.5), ("activation_dropout", 0.25),
    ])  # fmt: skip
    def test_later_numbers_of_numpy_become_numbers_of_python(self, name: str, value: Any) -> None:
        found = getattr(toy_config(**{name: np.float32(value) if isinstance(value, float) else np.int16(value)}), name)
        assert type(found) is type(value) and found == value

    def test_the_largest_number_of_layers(self) -> None:
        config = toy_config(n_encoder_layers=10_000, n_decoder_layers=10_000)
        assert (config.n_encoder_layers, config.n_decoder_layers) == (10_000, 10_000)
