"""config.json in its old and new form, its defaults, and what is refused by name."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from npattn.hf_weights.configs import read_config, write_config
from npattn.language_model import LanguageModelConfig, RotarySettings

LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 9, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 32,
}  # fmt: skip
MISTRAL = LLAMA | {"model_type": "mistral", "num_key_value_heads": 1}
QWEN = LLAMA | {"model_type": "qwen3", "num_key_value_heads": 1}
OLMO = LLAMA | {"model_type": "olmo2"}
GEMMA_2 = LLAMA | {"model_type": "gemma2", "num_key_value_heads": 1}
GEMMA_3 = LLAMA | {"model_type": "gemma3_text", "num_key_value_heads": 1, "num_hidden_layers": 7}
GPT_2: dict[str, Any] = {
    "model_type": "gpt2", "vocab_size": 9, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 32,
}  # fmt: skip

ROTARY = (LLAMA, MISTRAL, QWEN, OLMO, GEMMA_2, GEMMA_3)


class TestDefaults:
    """What each class of transformers 5.24 has when a key is absent."""

    def test_llama(self) -> None:
        assert read_config(LLAMA) == LanguageModelConfig(
            9, d_model=8, n_layers=2, n_heads=2, d_ff=16, max_length=32, norm_eps=1e-6, bos_id=1, eos_id=2
        )

    def test_mistral(self) -> None:
        assert read_config(MISTRAL) == LanguageModelConfig(
            9, d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, d_ff=16, max_length=32, bos_id=1, eos_id=2, window=4096,
            layer_types=("sliding_attention",) * 2,
        )  # fmt: skip
        assert read_config(MISTRAL | {"sliding_window": None}).layer_types == ("full_attention",) * 2

    def test_qwen3(self) -> None:
        config = LanguageModelConfig(
            9, d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, d_head=128, d_ff=16, max_length=32, qk_norm="rms"
        )
        assert read_config(QWEN) == config == read_config(QWEN | {"sliding_window": 3})
        sliding = read_config(QWEN | {"use_sliding_window": True, "max_window_layers": 1})
        assert sliding.layer_types == ("full_attention", "sliding_attention") and sliding.window == 4096
        assert read_config(QWEN | {"use_sliding_window": True}).window is None

    def test_olmo2(self) -> None:
        assert read_config(OLMO) == LanguageModelConfig(
            9, d_model=8, n_layers=2, n_heads=2, d_ff=16, max_length=32, norm_eps=1e-5, pad_id=1, eos_id=50279,
            qk_norm="wide_rms", norm_position="post",
        )  # fmt: skip

    def test_gemma2(self) -> None:
        assert read_config(GEMMA_2) == LanguageModelConfig(
            9, d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, d_head=256, d_ff=16, max_length=32, pad_id=0, bos_id=2,
            eos_id=1, layer_types=("sliding_attention", "full_attention"), window=4096, attention_softcap=50.0,
            logit_softcap=30.0, norm_position="both", unit_offset=True, scale_embedding=True, tie=True,
            activation="gelu_tanh",
        )  # fmt: skip
        assert read_config(GEMMA_2 | {"query_pre_attn_scalar": 4}).attention_scale == 0.5

    def test_gemma3(self) -> None:
        config = read_config(GEMMA_3)
        assert config.layer_types == ("sliding_attention",) * 5 + ("full_attention", "sliding_attention")
        assert config.rotary == RotarySettings(1e6) and config.rotary_sliding == RotarySettings(1e4)
        assert config.attention_softcap is config.logit_softcap is None and config.qk_norm == "rms"
        assert read_config(GEMMA_3 | {"sliding_window_pattern": 2}).layer_types[:3] == (
            "sliding_attention", "full_attention", "sliding_attention"
        )  # fmt: skip

    def test_gpt2(self) -> None:
        assert read_config(GPT_2) == LanguageModelConfig(
            9, d_model=8, n_layers=2, n_heads=2, d_ff=32, max_length=32, positions="learned", norm="layer",
            norm_bias=True, norm_eps=1e-5, attention_bias=True, feed_forward_bias=True, gated=False,
            activation="gelu_tanh", dropout=0.1, attention_dropout=0.1, tie=True, bos_id=50256, eos_id=50256,
        )  # fmt: skip
        assert read_config(GPT_2 | {"n_inner": 5}).d_ff == 5
        assert read_config(GPT_2 | {"scale_attn_weights": False}).attention_scale == 1.0

    def test_harmless_keys(self) -> None:
        more = {"use_cache": True, "torch_dtype": "bfloat16", "transformers_version": "4.1", "chunked": None}
        assert read_config(LLAMA | more | {"is_encoder_decoder": False}) == read_config(LLAMA)
        assert read_config(GPT_2 | {"n_ctx": 32, "summary_type": "mean"}) == read_config(GPT_2)
        assert read_config(GEMMA_3 | {"_sliding_window_pattern": 6}) == read_config(GEMMA_3)


#: The old form of a scaling, and what it means.
OLD: list[tuple[dict[str, Any], RotarySettings]] = [
    ({"rope_theta": 500.0}, RotarySettings(500.0)),
    ({"rope_scaling": {"type": "linear", "factor": 2.0}}, RotarySettings(1e4, "linear", 2.0)),
    ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, RotarySettings(1e4, "dynamic", 2.0, 32)),
    ({"rope_scaling": {"rope_type": "yarn", "type": "linear", "factor": 2.0}}, RotarySettings(1e4, "yarn", 2.0, 32)),
    ({"rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": 8}},
     RotarySettings(1e4, "yarn", 4.0, 8)),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "beta_fast": 8, "beta_slow": 2, "truncate": False,
                       "attention_factor": 1.5}}, RotarySettings(1e4, "yarn", 2.0, 32, (2, 8), False, 1.5)),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "mscale": 0.7}}, RotarySettings(1e4, "yarn", 2.0, 32)),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "mscale_all_dim": 1.0}},
     RotarySettings(1e4, "yarn", 2.0, 32)),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 2.0, "high_freq_factor": 5.0,
                       "original_max_position_embeddings": 16}, "rope_theta": 5e5},
     RotarySettings(5e5, "llama3", 8.0, 16, (2.0, 5.0))),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, RotarySettings(1e4, "llama3", 8.0, 32, (1.0, 4.0))),
]  # fmt: skip


class TestRotary:
    @pytest.mark.parametrize(("old", "wanted"), OLD)
    def test_old_and_new_form(self, old: dict[str, Any], wanted: RotarySettings) -> None:
        assert read_config(LLAMA | old).rotary == wanted
        base = old.get("rope_theta", 1e4)
        new = {"rope_theta": base, "partial_rotary_factor": 1.0, **old.get("rope_scaling", {})}
        assert read_config(LLAMA | {"rope_parameters": new}).rotary == wanted
        assert read_config(LLAMA | {"rope_theta": 7.0, "rope_parameters": new}).rotary == wanted

    def test_mscale(self) -> None:
        given = {"rope_type": "yarn", "factor": 2.718281828459045, "mscale": 2.0, "mscale_all_dim": 1.0}
        factor = read_config(LLAMA | {"rope_scaling": given}).rotary.factor
        assert factor is not None and abs(factor - 1.2 / 1.1) < 1e-15

    def test_gemma3(self) -> None:
        old = {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_theta": 99.0, "rope_local_base_freq": 9.0}
        new = {"rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 99.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 9.0}}}  # fmt: skip
        assert read_config(GEMMA_3 | old) == read_config(GEMMA_3 | new)
        assert read_config(GEMMA_3 | new).rotary == RotarySettings(99.0, "linear", 8.0)
        assert read_config(GEMMA_3 | new).rotary_sliding == RotarySettings(9.0)


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (LLAMA, {"model_type": "gpt_oss"},
     "model_type: expected one of llama, mistral, qwen3, olmo2, gemma2, gemma3_text, gpt2, got 'gpt_oss'"),
    (LLAMA, {"model_type": None},
     "model_type: expected one of llama, mistral, qwen3, olmo2, gemma2, gemma3_text, gpt2, got None"),
    (LLAMA, {"attention_sinks": True}, "attention_sinks: not supported for llama, got True"),
    (LLAMA, {"sliding_window": 4}, "sliding_window: not supported for llama, got 4"),
    (LLAMA, {"quantization_config": {"bits": 4}}, "quantization_config: not supported for llama, got {'bits': 4}"),
    (LLAMA, {"n_ctx": 4}, "n_ctx: not supported for llama, got 4"),
    (LLAMA, {"partial_rotary_factor": 0.5}, "partial_rotary_factor: expected 1.0, got 0.5"),
    (LLAMA, {"is_decoder": True}, "is_decoder: expected False, got True"),
    (LLAMA, {"hidden_act": "mish"}, "activation: expected one of silu, swish, gelu, gelu_pytorch_tanh, gelu_new, "
     "relu, got 'mish'"),
    (MISTRAL, {"num_key_value_heads": ...}, "missing num_key_value_heads"),
    (LLAMA, {"rope_scaling": {"rope_type": "longrope"}},
     "rope_type: expected one of default, linear, dynamic, yarn, llama3, got 'longrope'"),
    (LLAMA, {"rope_scaling": {"type": "linear"}}, "missing factor of rope_type 'linear'"),
    (LLAMA, {"rope_scaling": {"type": "linear", "factor": 2.0, "beta_fast": 3}},
     "beta_fast: not supported for rope_type 'linear', got 3"),
    (LLAMA, {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_theta": 3.0}},
     "rope_scaling: expected None beside rope_parameters, which is its newer form"),
    (LLAMA, {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor: expected 1.0, got 0.5"),
    (LLAMA | {"max_position_embeddings": None}, {"rope_scaling": {"type": "yarn"}},
     "missing factor of rope_type 'yarn'"),
    (LLAMA, {"rope_scaling": {"type": ["linear"]}},
     "rope_type: expected one of default, linear, dynamic, yarn, llama3, got ['linear']"),
    (LLAMA, {"rope_scaling": {"type": "linear", "factor": 0.5}},
     "factor: expected 1 ≤ config: factor < inf, got 0.5"),
    (LLAMA, {"rope_scaling": {"type": "yarn", "factor": 2.0, "mscale": -1.0, "mscale_all_dim": 1.0}},
     "mscale: expected 0 ≤ config: mscale < inf, got -1.0"),
    (LLAMA, {"rope_scaling": {"type": "yarn", "original_max_position_embeddings": 0}},
     "original_max_position_embeddings: expected 1 or more, got 0"),
    (LLAMA, {"rope_scaling": {"type": "yarn", "factor": 2.0, "attention_factor": math.inf}},
     "attention_factor: expected -inf ≤ config: attention_factor < inf, got inf"),
    (GEMMA_3, {"sliding_window_pattern": 0}, "sliding_window_pattern: expected 1 or more, got 0"),
    (GEMMA_3, {"rope_parameters": [3]},
     "rope_parameters: expected full_attention and sliding_attention, got [3]"),
    (QWEN, {"use_sliding_window": True, "max_window_layers": -1}, "max_window_layers: expected 0 or more, got -1"),
    (GEMMA_3, {"rope_parameters": {"rope_theta": 3.0}},
     "rope_parameters: expected full_attention and sliding_attention, got {'rope_theta': 3.0}"),
    (GEMMA_2, {"use_bidirectional_attention": True}, "use_bidirectional_attention: expected False, got True"),
    (GEMMA_2, {"query_pre_attn_scalar": 0},
     "query_pre_attn_scalar: expected 0 < config: query_pre_attn_scalar < inf, got 0"),
    (GEMMA_2, {"num_hidden_layers": -1}, "num_hidden_layers: expected 0 or more, got -1"),
    (GPT_2, {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx: expected False, got True"),
    (GPT_2, {"resid_pdrop": 0.3}, "resid_pdrop: expected embd_pdrop=0.1, got 0.3"),
]  # fmt: skip


class TestRefused:
    @pytest.mark.parametrize(("config", "change", "message"), REFUSED, ids=[message[:30] for *_, message in REFUSED])
    def test_by_name(self, config: dict[str, Any], change: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=rf"^config: {re.escape(message)}$"):
            read_config(config | change)

    def test_missing_sizes(self) -> None:
        with pytest.raises(ValueError, match=r"^config: missing vocab_size, hidden_size, intermediate_size, num_"):
            read_config({"model_type": "llama"})
        with pytest.raises(TypeError, match=r"^config: expected a mapping, a parsed config.json, got str$"):
            read_config("llama")  # type: ignore[arg-type]

    def test_wrong_types(self) -> None:
        with pytest.raises(TypeError, match=r"^config: rope_parameters: expected a mapping, got 'linear'$"):
            read_config(LLAMA | {"rope_scaling": "linear"})
        with pytest.raises(TypeError, match=r"^config: layer_types: expected a list, got 'full_attention'$"):
            read_config(QWEN | {"layer_types": "full_attention"})

    def test_too_many_layers(self) -> None:
        with pytest.raises(ValueError, match=r"^n_layers: expected at most 10,000, got 1,000,000,000,000$"):
            read_config(LLAMA | {"num_hidden_layers": 10**12})

    def test_sizes_that_do_not_fit_each_other(self) -> None:
        with pytest.raises(ValueError, match=r"^n_kv_heads: expected a divisor of n_heads=2, got 3$"):
            read_config(LLAMA | {"num_key_value_heads": 3})


def test_a_choice_that_cannot_be_written() -> None:
    config = read_config(GEMMA_2)
    object.__setattr__(config, "attention_scale", 0.3)        # no whole number to the power of −½
    with pytest.raises(ValueError, match=r"^model: Gemma2ForCausalLM of Hugging Face has no attention_scale=0\.3$"):
        write_config(config)
    ntk = LanguageModelConfig(9, d_model=8, n_layers=1, n_heads=2, rotary=RotarySettings(scaling="ntk", s=2.0))
    with pytest.raises(ValueError, match=r"^config: rope_type: expected one of .*, got 'ntk'$"):
        write_config(ntk)


@pytest.mark.parametrize("given", [LLAMA, MISTRAL, QWEN, OLMO, GEMMA_2, GEMMA_3, GPT_2], ids=lambda c: c["model_type"])
def test_what_is_written_is_read(given: dict[str, Any]) -> None:
    config = read_config(given)
    assert read_config(write_config(config)) == config
    written = write_config(config)
    assert written["model_type"] == given["model_type"]
    if given is not GPT_2:
        assert written["max_position_embeddings"] == 32
        unlimited = read_config(given | {"max_position_embeddings": None})
        assert "max_position_embeddings" not in write_config(unlimited)


def test_the_words_that_are_written() -> None:
    """Those of each family's class, and no key that it does not have."""
    for word in ("gelu_new", "gelu", "relu", "silu"):
        assert write_config(read_config(GPT_2 | {"activation_function": word}))["activation_function"] == word
    assert write_config(read_config(LLAMA | {"hidden_act": "swish"}))["hidden_act"] == "silu"
    for given in (GEMMA_2, GEMMA_3):
        written = write_config(read_config(given))
        assert written["hidden_activation"] == "gelu_pytorch_tanh" and "hidden_act" not in written
    with_types = {c["model_type"] for c in ROTARY if "layer_types" in write_config(read_config(c))}
    assert with_types == {"qwen3", "gemma2", "gemma3_text"}
    with_windows = {c["model_type"] for c in ROTARY if "sliding_window" in write_config(read_config(c))}
    assert with_windows == with_types | {"mistral"}
    with_uses = {c["model_type"] for c in ROTARY if "use_sliding_window" in write_config(read_config(c))}
    assert with_uses == {"qwen3"}
    with_biases = {c["model_type"] for c in ROTARY if "mlp_bias" in write_config(read_config(c))}
    assert with_biases == {"llama"}


@pytest.mark.parametrize(("old", "wanted"), OLD)
def test_scalings_are_written(old: dict[str, Any], wanted: RotarySettings) -> None:
    config = read_config(LLAMA | old)
    written = write_config(config)["rope_parameters"]
    assert read_config(LLAMA | {"rope_parameters": written}).rotary == wanted
    assert written["rope_type"] == ("default" if wanted.scaling == "none" else wanted.scaling)
