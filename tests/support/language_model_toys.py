"""Small language models for the tests: one of each family, with axes of pairwise different sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from npattn import LanguageModel, LanguageModelConfig
from npattn._internal.checks import Array
from npattn.language_model import RotarySettings

SIZES: dict[str, Any] = {
    "vocab": 7, "d_model": 5, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_head": 6, "d_ff": 3, "pad_id": 0,
}  # fmt: skip
GEMMA: dict[str, Any] = {
    "norm_position": "both", "unit_offset": True, "activation": "gelu_tanh", "scale_embedding": True, "tie": True,
    "attention_scale": 0.3, "layer_types": ("sliding_attention", "full_attention"), "window": 2,
}  # fmt: skip
#: The choices of each family.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "feed_forward_bias": True},
    "mistral": {"layer_types": ("sliding_attention",) * 2, "window": 3},
    "qwen3": {"qk_norm": "rms", "rotary": RotarySettings(10.0, "yarn", 4.0, 6, (0.3, 2.0))},
    "olmo2": {"qk_norm": "wide_rms", "norm_position": "post", "norm_eps": 0.1},
    "gemma2": GEMMA | {"attention_softcap": 0.7, "logit_softcap": 0.9},
    "gemma3": GEMMA | {"qk_norm": "rms", "rotary_sliding": RotarySettings(100.0)},
    "gpt2": {
        "positions": "learned", "max_length": 9, "norm": "layer", "norm_bias": True, "attention_bias": True,
        "feed_forward_bias": True, "gated": False, "activation": "gelu_tanh", "tie": True, "n_kv_heads": 4,
    },
}  # fmt: skip
#: The forms of feed-forward layers that no family above has.
OTHERS: dict[str, dict[str, Any]] = {
    "geglu": {"activation": "gelu", "dropout": 0.3, "attention_dropout": 0.2},
    "silu": {"gated": False, "pairing": "neighbours"},
    "gelu": {"gated": False, "activation": "gelu", "rotary": RotarySettings(10.0, "dynamic", 3.0, 2)},
    "relu": {
        "gated": False, "activation": "relu", "norm": "layer", "scale_embedding": True, "positions": "learned",
        "max_length": 9,
    },
}
IDS = np.array([[4, 5, 4, 1, 3], [6, 6, 2, 0, 0]])


def toy_config(family: str, **options: Any) -> LanguageModelConfig:
    return LanguageModelConfig(**SIZES | (FAMILIES | OTHERS)[family] | options)


def toy_params(config: LanguageModelConfig, seed: int = 0) -> dict[str, Array]:
    """Draw every parameter apart from the values that a new model starts with: γ is not 1, β and b are not 0."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal("gamma" in name, 0.4, shape) for name, shape in config.shapes().items()}


def toy_language_model(family: str, seed: int = 0, **options: Any) -> LanguageModel:
    config = toy_config(family, **options)
    return LanguageModel.from_arrays(config, toy_params(config, seed))
