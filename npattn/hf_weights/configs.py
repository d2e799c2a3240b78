"""Hugging Face's config.json as a LanguageModelConfig, and back. Every key is read, known to be harmless, or refused.

Two forms are read: the old one has `rope_theta` and `rope_scaling`, the new one `rope_parameters`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Set
from typing import Any

from npattn._internal.checks import check_number, check_size, shown
from npattn.language_model import LanguageModelConfig, RotarySettings
from npattn.transformer.config import MOST_LAYERS

#: Keys that say how a model is stored, trained or run, and do not change what it computes.
HARMLESS = {
    "_attn_implementation", "_name_or_path", "architectures", "attn_implementation", "cache_implementation",
    "chunk_size_feed_forward", "dtype", "gradient_checkpointing", "id2label", "initializer_range", "label2id",
    "output_attentions", "output_hidden_states", "pretraining_tp", "problem_type", "return_dict",
    "task_specific_params", "torch_dtype", "transformers_version", "use_cache",
}  # fmt: skip

#: Keys that must have this value, or be None or absent: another one is a computation that is not here.
FIXED: dict[str, Any] = {"add_cross_attention": False, "is_decoder": False, "partial_rotary_factor": 1.0}

#: What each family has when a key is absent. `...` marks a key that must be there.
COMMON: dict[str, Any] = {
    "vocab_size": ..., "hidden_size": ..., "intermediate_size": ..., "num_hidden_layers": ...,
    "num_attention_heads": ..., "num_key_value_heads": None, "head_dim": None, "max_position_embeddings": None,
    "hidden_act": "silu", "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "attention_bias": False,
    "attention_dropout": 0.0, "rope_theta": 10000.0, "rope_scaling": None, "rope_parameters": None,
    "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
GEMMA: dict[str, Any] = COMMON | {
    "num_key_value_heads": ..., "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1, "query_pre_attn_scalar": 256,
    "sliding_window": 4096, "layer_types": None,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": COMMON | {"mlp_bias": False, "bos_token_id": 1, "eos_token_id": 2},
    "mistral": COMMON | {"num_key_value_heads": ..., "sliding_window": 4096, "bos_token_id": 1, "eos_token_id": 2},
    "qwen3": COMMON | {
        "num_key_value_heads": ..., "head_dim": 128, "use_sliding_window": False, "sliding_window": 4096,
        "max_window_layers": 28, "layer_types": None,
    },
    "olmo2": COMMON | {"rms_norm_eps": 1e-5, "pad_token_id": 1, "eos_token_id": 50279},
    "gemma2": GEMMA | {"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0},
    "gemma3_text": GEMMA | {
        "final_logit_softcapping": None, "attn_logit_softcapping": None, "rope_theta": 1e6, "sliding_window_pattern": 6,
        "rope_local_base_freq": 10000.0,
    },
    "gpt2": {
        "vocab_size": ..., "n_embd": ..., "n_layer": ..., "n_head": ..., "n_positions": ..., "n_inner": None,
        "activation_function": "gelu_new", "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1,
        "layer_norm_epsilon": 1e-5, "scale_attn_weights": True, "tie_word_embeddings": True, "pad_token_id": None,
        "bos_token_id": 50256, "eos_token_id": 50256,
    },
}  # fmt: skip
FAMILY_FIXED = {
    "gemma2": {"use_bidirectional_attention": False},
    "gemma3_text": {"use_bidirectional_attention": False},
    "gpt2": {"scale_attn_by_inverse_layer_idx": False},
}
#: As HARMLESS: Gemma's own code does not read that key, GPT-2's summary is for other tasks, and its reordered product
#: is the same but for rounding.
FAMILY_HARMLESS = {
    "gemma3_text": {"_sliding_window_pattern"},
    "gpt2": {
        "n_ctx", "reorder_and_upcast_attn", "summary_activation", "summary_first_dropout", "summary_proj_to_labels",
        "summary_type", "summary_use_proj",
    }
}  # fmt: skip
CLASSES = {
    "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen3": "Qwen3ForCausalLM",
    "olmo2": "Olmo2ForCausalLM", "gemma2": "Gemma2ForCausalLM", "gemma3_text": "Gemma3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
}  # fmt: skip
#: Hugging Face's words for activations; the first is the one that is written.
ACTIVATIONS = {
    "silu": ("silu", "swish"), "gelu": ("gelu",), "gelu_tanh": ("gelu_pytorch_tanh", "gelu_new"), "relu": ("relu",),
}  # fmt: skip
#: The keys of each scaling of rotary positions, beside its type and base.
SCALINGS: dict[str, set[str]] = {
    "default": set(),
    "linear": {"factor"},
    "dynamic": {"factor"},
    "yarn": {
        "factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate",
        "original_max_position_embeddings",
    },
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
}  # fmt: skip


def read_config(config: Mapping[str, Any]) -> LanguageModelConfig:
    """Return the sizes and choices that a parsed config.json describes.

    Raises ValueError that names a model, key or value that is not supported, TypeError for what is no mapping.
    """
    check_mapping(config)
    family = config.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise ValueError(f"config: model_type: expected one of {', '.join(FAMILIES)}, got {shown(family)}")
    fixed = FIXED | FAMILY_FIXED.get(family, {}) | {"is_encoder_decoder": False}
    ignored = HARMLESS | FAMILY_HARMLESS.get(family, set()) | {"model_type"}
    values = values_of(config, family, FAMILIES[family], fixed, ignored)
    choices = gpt2_choices(values) if family == "gpt2" else rotary_choices(family, values)
    ids = {ours: values[f"{ours.removesuffix('_id')}_token_id"] for ours in ("pad_id", "bos_id", "eos_id")}
    return LanguageModelConfig(values["vocab_size"], tie=values["tie_word_embeddings"], **ids, **choices)


def check_mapping(config: Any) -> None:
    """Raise a TypeError unless it is a mapping."""
    if not isinstance(config, Mapping):
        raise TypeError(f"config: expected a mapping, a parsed config.json, got {type(config).__name__}")


def values_of(
    config: Mapping[str, Any], family: str, defaults: Mapping[str, Any], fixed: Mapping[str, Any], ignored: Set[str]
) -> dict[str, Any]:
    """Return the values of the keys in `defaults`. Raise for others but `ignored` and `fixed` ones."""
    values = dict(defaults)
    for key, value in config.items():
        if key in values:
            values[key] = value
        elif key in fixed:
            if value is not None and value != fixed[key]:
                raise ValueError(f"config: {key}: expected {fixed[key]}, got {shown(value)}")
        elif key not in ignored and value is not None:
            raise ValueError(f"config: {key}: not supported for {family}, got {shown(value)}")
    if missing := [key for key, value in values.items() if value is ...]:
        raise ValueError(f"config: missing {', '.join(missing)}")
    return values


def gpt2_choices(v: Mapping[str, Any]) -> dict[str, Any]:
    if v["resid_pdrop"] != v["embd_pdrop"]:
        raise ValueError(f"config: resid_pdrop: expected embd_pdrop={v['embd_pdrop']}, got {v['resid_pdrop']}")
    return {
        "d_model": v["n_embd"], "n_layers": v["n_layer"], "n_heads": v["n_head"], "d_ff": v["n_inner"],
        "positions": "learned", "max_length": v["n_positions"], "norm": "layer", "norm_bias": True,
        "norm_eps": v["layer_norm_epsilon"], "attention_bias": True, "feed_forward_bias": True, "gated": False,
        "activation": activation(v["activation_function"]), "dropout": v["resid_pdrop"],
        "attention_dropout": v["attn_pdrop"], "attention_scale": None if v["scale_attn_weights"] else 1.0,
    }  # fmt: skip


def rotary_choices(family: str, v: Mapping[str, Any]) -> dict[str, Any]:
    choices = {
        "d_model": v["hidden_size"], "n_layers": v["num_hidden_layers"], "n_heads": v["num_attention_heads"],
        "n_kv_heads": v["num_key_value_heads"], "d_head": v["head_dim"], "d_ff": v["intermediate_size"],
        "max_length": v["max_position_embeddings"], "norm_eps": v["rms_norm_eps"],
        "attention_bias": v["attention_bias"], "feed_forward_bias": v.get("mlp_bias", False),
        "attention_dropout": v["attention_dropout"],
        "activation": activation(v.get("hidden_activation", v["hidden_act"])),
        "qk_norm": {"qwen3": "rms", "gemma3_text": "rms", "olmo2": "wide_rms"}.get(family, "none"),
        **rotary_settings(family, v), **windows(family, v),
    }  # fmt: skip
    if family == "olmo2":
        choices["norm_position"] = "post"
    if family.startswith("gemma"):
        scalar = check_number("config: query_pre_attn_scalar", v["query_pre_attn_scalar"], 0, ends="()")
        choices |= {
            "norm_position": "both", "unit_offset": True, "scale_embedding": True,
            "attention_scale": None if scalar == v["head_dim"] else scalar**-0.5,
            "attention_softcap": v["attn_logit_softcapping"], "logit_softcap": v["final_logit_softcapping"],
        }  # fmt: skip
    return choices


def windows(family: str, v: Mapping[str, Any]) -> dict[str, Any]:
    """Return the window and the type of each layer."""
    n = min(check_size("config: num_hidden_layers", v["num_hidden_layers"]), MOST_LAYERS)        # more are refused
    window, types = v.get("sliding_window"), v.get("layer_types")
    if family == "qwen3" and not v["use_sliding_window"]:
        window = None
    if types is None:
        words = {True: "sliding_attention", False: "full_attention"}
        types = [words[window is not None and slides(family, v, i)] for i in range(n)]
    if not isinstance(types, list):
        raise TypeError(f"config: layer_types: expected a list, got {shown(types)}")
    return {"window": window if "sliding_attention" in types else None, "layer_types": types}


def slides(family: str, v: Mapping[str, Any], i: int) -> bool:
    """Whether layer i has a window when the configuration names no types."""
    if family == "mistral":
        return True
    if family == "qwen3":
        return i >= check_size("config: max_window_layers", v["max_window_layers"])
    pattern = 2 if family == "gemma2" else check_size("config: sliding_window_pattern", v["sliding_window_pattern"], 1)
    return (i + 1) % pattern != 0


def rotary_settings(family: str, v: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of full and sliding attention; Gemma 3 has two, the others one."""
    old, new = v["rope_scaling"], v["rope_parameters"]
    if old and new:
        raise ValueError("config: rope_scaling: expected None beside rope_parameters, which is its newer form")
    given, length = old or new or {}, v["max_position_embeddings"]
    if family != "gemma3_text":
        return {"rotary": rotary(given, v["rope_theta"], length)}
    parts = {"full_attention": given} if old else given
    if not isinstance(parts, Mapping) or parts.keys() - {"full_attention", "sliding_attention"}:
        raise ValueError(f"config: rope_parameters: expected full_attention and sliding_attention, got {shown(parts)}")
    return {
        "rotary": rotary(parts.get("full_attention") or {}, v["rope_theta"], length),
        "rotary_sliding": rotary(parts.get("sliding_attention") or {}, v["rope_local_base_freq"], length),
    }


def rotary(given: Any, base: float, length: int | None) -> RotarySettings:
    """Return the settings of one mapping; `base` and `length` are what it has when it does not say."""
    if not isinstance(given, Mapping):
        raise TypeError(f"config: rope_parameters: expected a mapping, got {shown(given)}")
    kind = given.get("rope_type", given.get("type", "default"))
    if not isinstance(kind, str) or kind not in SCALINGS:
        raise ValueError(f"config: rope_type: expected one of {', '.join(SCALINGS)}, got {shown(kind)}")
    v = {key: value for key, value in given.items() if value is not None and key not in ("rope_type", "type")}
    base = v.pop("rope_theta", base)
    if v.pop("partial_rotary_factor", 1.0) != 1:
        raise ValueError(f"config: partial_rotary_factor: expected 1.0, got {shown(given['partial_rotary_factor'])}")
    if unknown := [key for key in v if key not in SCALINGS[kind]]:
        raise ValueError(f"config: {unknown[0]}: not supported for rope_type {kind!r}, got {shown(v[unknown[0]])}")
    if kind == "default":
        return RotarySettings(base)
    original: Any = v.get("original_max_position_embeddings", length)
    if kind == "yarn" and "factor" not in v and length is not None:
        v["factor"] = length / check_size("config: original_max_position_embeddings", original, least=1)
    if "factor" not in v:
        raise ValueError(f"config: missing factor of rope_type {kind!r}")
    s = check_number("config: factor", v["factor"], 1)
    if kind == "linear":
        return RotarySettings(base, "linear", s)
    if kind == "dynamic":
        return RotarySettings(base, "dynamic", s, original)
    if kind == "llama3":
        turns = v.get("low_freq_factor", 1.0), v.get("high_freq_factor", 4.0)
        return RotarySettings(base, "llama3", s, original, turns)
    turns = v.get("beta_slow") or 1.0, v.get("beta_fast") or 32.0
    return RotarySettings(base, "yarn", s, original, turns, v.get("truncate", True), yarn_factor(v, s))


def yarn_factor(v: Mapping[str, Any], s: float) -> float | None:
    """Return what multiplies cos and sin; None for 0.1 ln s + 1."""
    if "attention_factor" in v:
        return check_number("config: attention_factor", v["attention_factor"])
    if not v.get("mscale") or not v.get("mscale_all_dim"):
        return None
    over, under = (check_number(f"config: {key}", v[key], 0) for key in ("mscale", "mscale_all_dim"))
    return (0.1 * over * math.log(s) + 1) / (0.1 * under * math.log(s) + 1)


def activation(word: str) -> str:
    """Return our word for an activation."""
    for ours, theirs in ACTIVATIONS.items():
        if word in theirs:
            return ours
    words = ", ".join(word for theirs in ACTIVATIONS.values() for word in theirs)
    raise ValueError(f"config: activation: expected one of {words}, got {shown(word)}")


def family_of(c: LanguageModelConfig) -> str:
    """Return the family that comes closest to a configuration."""
    if c.positions == "learned":
        return "gpt2"
    if c.norm_position == "both":
        return "gemma2" if c.qk_norm == "none" else "gemma3_text"
    if c.norm_position == "post":
        return "olmo2"
    if c.qk_norm != "none":
        return "qwen3"
    return "llama" if "full_attention" in c.layer_types else "mistral"


def write_config(c: LanguageModelConfig) -> dict[str, Any]:
    """Return the config.json of the family that has these sizes and choices.

    Raises ValueError that names the choices which this family does not have.
    """
    family = family_of(c)
    ids = {f"{name}_token_id": getattr(c, f"{name}_id") for name in ("pad", "bos", "eos")}
    ids = {key: list(value) if isinstance(value, tuple) else value for key, value in ids.items()}
    config = {
        "model_type": family, "architectures": [CLASSES[family]], "vocab_size": c.vocab, **ids,
        "tie_word_embeddings": c.tie, **(gpt2_config(c) if family == "gpt2" else rotary_config(family, c)),
    }  # fmt: skip
    twin = read_config(config)
    names = [field.name for field in dataclasses.fields(c)]
    if other := [name for name in names if getattr(c, name) != getattr(twin, name)]:
        choices = ", ".join(f"{name}={shown(getattr(c, name))}" for name in other)
        raise ValueError(f"model: {CLASSES[family]} of Hugging Face has no {choices}")
    return config


def gpt2_config(c: LanguageModelConfig) -> dict[str, Any]:
    return {
        "n_embd": c.d_model, "n_layer": c.n_layers, "n_head": c.n_heads, "n_positions": c.max_length, "n_inner": c.d_ff,
        "activation_function": "gelu_new" if c.activation == "gelu_tanh" else ACTIVATIONS[c.activation][0],
        "resid_pdrop": c.dropout, "embd_pdrop": c.dropout, "attn_pdrop": c.attention_dropout,
        "layer_norm_epsilon": c.norm_eps, "scale_attn_weights": c.attention_scale is None,
    }  # fmt: skip


def rotary_config(family: str, c: LanguageModelConfig) -> dict[str, Any]:
    config: dict[str, Any] = {
        "hidden_size": c.d_model, "intermediate_size": c.d_ff, "num_hidden_layers": c.n_layers,
        "num_attention_heads": c.n_heads, "num_key_value_heads": c.n_kv_heads, "head_dim": c.d_head,
        "rms_norm_eps": c.norm_eps, "attention_bias": c.attention_bias,
        "attention_dropout": c.attention_dropout, "rope_parameters": rope_parameters(c.rotary),
    }  # fmt: skip
    if c.max_length is not None:                              # Hugging Face wants a number, or its default
        config["max_position_embeddings"] = c.max_length
    config["hidden_activation" if family.startswith("gemma") else "hidden_act"] = ACTIVATIONS[c.activation][0]
    if family == "llama":
        config["mlp_bias"] = c.feed_forward_bias
    if family in ("qwen3", "gemma2", "gemma3_text"):
        config["layer_types"] = list(c.layer_types)
    if family not in ("llama", "olmo2"):
        config["sliding_window"] = c.window
    if family == "qwen3":
        config["use_sliding_window"] = c.window is not None
    if family.startswith("gemma"):
        scalar = c.d_head if c.attention_scale is None else round(c.attention_scale**-2)
        config |= {
            "query_pre_attn_scalar": scalar, "attn_logit_softcapping": c.attention_softcap,
            "final_logit_softcapping": c.logit_softcap,
        }  # fmt: skip
    if family == "gemma3_text":
        config["rope_parameters"] = {
            "full_attention": rope_parameters(c.rotary), "sliding_attention": rope_parameters(c.rotary_sliding)
        }  # fmt: skip
    return config


def rope_parameters(settings: RotarySettings) -> dict[str, Any]:
    """Return the settings in the new form."""
    kind = "default" if settings.scaling == "none" else settings.scaling
    least, most = settings.turns or (None, None)
    values = {
        "factor": settings.s, "attention_factor": settings.factor, "beta_fast": most, "beta_slow": least,
        "low_freq_factor": least, "high_freq_factor": most, "truncate": settings.truncate,
        "original_max_position_embeddings": settings.original_length,
    }  # fmt: skip
    kept = {key: value for key, value in values.items() if key in SCALINGS.get(kind, set()) and value is not None}
    return {"rope_type": kind, "rope_theta": settings.base, **kept}
