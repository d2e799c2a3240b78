"""Hugging Face's config.json of T5, Marian and BART as a TransformerConfig, and back.

Every key is read, known to be harmless, or refused. What only says how `generate` searches is harmless here: these are
arguments of `npattn.greedy_search` and `npattn.beam_search`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from npattn._internal.checks import check_flag, check_size, shown
from npattn.hf_weights.configs import ACTIVATIONS, FIXED, HARMLESS, activation, check_mapping, values_of
from npattn.transformer import TransformerConfig

#: Settings of `generate` in older files, and keys of older versions that do not change what a model computes.
SEARCH = {
    "bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping",
    "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id",
    "length_penalty", "max_length", "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams",
    "num_return_sequences", "output_scores", "prefix", "remove_invalid_values", "repetition_penalty",
    "return_dict_in_generate", "suppress_tokens", "temperature", "top_k", "top_p", "typical_p",
}  # fmt: skip
OLD = {
    "add_bias_logits", "classif_dropout", "classifier_dropout", "finetuning_task", "init_std", "initializer_factor",
    "model_type", "n_positions", "num_hidden_layers", "output_past", "save_step", "sep_token_id", "tokenizer_class",
    "torchscript", "use_bfloat16",
}  # fmt: skip
IS_PAIR = FIXED | {"is_encoder_decoder": True, "tie_encoder_decoder": False, "cross_attention_hidden_size": None}

#: What each family has when a key is absent. `...` marks a key that must be there.
BART: dict[str, Any] = {
    "vocab_size": ..., "d_model": ..., "encoder_layers": ..., "decoder_layers": ..., "encoder_attention_heads": ...,
    "decoder_attention_heads": ..., "encoder_ffn_dim": ..., "decoder_ffn_dim": ..., "max_position_embeddings": 1024,
    "activation_function": "gelu", "dropout": 0.1, "attention_dropout": 0.0, "activation_dropout": 0.0,
    "scale_embedding": False, "pad_token_id": 1, "bos_token_id": None, "eos_token_id": 2, "decoder_start_token_id": 2,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "t5": {
        "vocab_size": ..., "d_model": ..., "d_kv": 64, "d_ff": ..., "num_layers": ..., "num_decoder_layers": None,
        "num_heads": ..., "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
        "dropout_rate": 0.1, "layer_norm_epsilon": 1e-6, "feed_forward_proj": "relu", "dense_act_fn": None,
        "is_gated_act": None, "scale_decoder_outputs": None, "tie_word_embeddings": True, "pad_token_id": 0,
        "bos_token_id": None, "eos_token_id": 1, "decoder_start_token_id": 0,
    },
    "marian": BART | {
        "decoder_vocab_size": None, "share_encoder_decoder_embeddings": True, "pad_token_id": 58100, "eos_token_id": 0,
        "decoder_start_token_id": 58100,
    },
    "bart": BART,
}  # fmt: skip
LAYERS = {"add_final_layer_norm": False, "decoder_layerdrop": 0.0, "encoder_layerdrop": 0.0, "normalize_before": False,
          "tie_word_embeddings": True}  # fmt: skip
FAMILY_FIXED: dict[str, dict[str, Any]] = {
    "t5": IS_PAIR,
    "marian": IS_PAIR | LAYERS | {"normalize_embedding": False, "static_position_embeddings": True},
    "bart": IS_PAIR | LAYERS | {
        "extra_pos_embeddings": 2, "force_bos_token_to_be_generated": False, "normalize_embedding": True,
        "static_position_embeddings": False,
    },
}  # fmt: skip
CLASSES = {"t5": "T5ForConditionalGeneration", "marian": "MarianMTModel", "bart": "BartForConditionalGeneration"}


def is_encoder_decoder(config: Mapping[str, Any]) -> bool:
    """Whether a parsed config.json describes one of these models."""
    check_mapping(config)
    family = config.get("model_type")
    return isinstance(family, str) and family in FAMILIES


def read_config(config: Mapping[str, Any], own_output: bool) -> TransformerConfig:
    """Return the sizes and choices that a parsed config.json describes.

    - config: the parsed config.json.
    - own_output: whether the state has an output projection that is not the embedding.

    Raises ValueError that names a model, key or value that is not supported, TypeError for what is no mapping.
    """
    family = config["model_type"]
    ignored = HARMLESS | SEARCH | OLD
    values = values_of(config, family, FAMILIES[family], FAMILY_FIXED[family], ignored)
    choices = t5_choices(values, own_output) if family == "t5" else bart_choices(family, values)
    ids = {"pad_id": "pad_token_id", "bos_id": "decoder_start_token_id", "eos_id": "eos_token_id"}
    return TransformerConfig(**choices, **{ours: values[theirs] for ours, theirs in ids.items()})


def t5_choices(v: Mapping[str, Any], own_output: bool) -> dict[str, Any]:
    *gate, word = str(v["feed_forward_proj"]).split("-")
    if gate not in ([], ["gated"]):
        raise ValueError(f"config: feed_forward_proj: expected φ or gated-φ, got {shown(v['feed_forward_proj'])}")
    word = "gelu_new" if gate and word == "gelu" else word    # as Hugging Face reads it
    for key, value in (("dense_act_fn", word), ("is_gated_act", bool(gate))):
        if v[key] is not None and (type(v[key]) is not type(value) or v[key] != value):
            raise ValueError(f"config: {key}: expected {value}, as feed_forward_proj says, got {shown(v[key])}")
    scaled = v["tie_word_embeddings"] if v["scale_decoder_outputs"] is None else v["scale_decoder_outputs"]
    depth = v["num_layers"] if v["num_decoder_layers"] is None else v["num_decoder_layers"]
    return {
        "src_vocab": v["vocab_size"], "tgt_vocab": v["vocab_size"], "d_model": v["d_model"], "n_heads": v["num_heads"],
        "d_ff": v["d_ff"], "n_encoder_layers": v["num_layers"], "n_decoder_layers": depth, "d_head": v["d_kv"],
        "dropout": v["dropout_rate"], "attention_dropout": v["dropout_rate"], "activation_dropout": v["dropout_rate"],
        "final_dropout": True, "norm": "pre", "norm_type": "rms", "norm_eps": v["layer_norm_epsilon"], "bias": False,
        "tie": "embeddings" if own_output else "all", "activation": activation(word), "gated": bool(gate),
        "positions": "relative", "relative_buckets": v["relative_attention_num_buckets"],
        "relative_max_distance": v["relative_attention_max_distance"], "attention_scale": 1.0, "scale_embedding": False,
        "scale_output": scaled,
    }  # fmt: skip


def bart_choices(family: str, v: Mapping[str, Any]) -> dict[str, Any]:
    for key in ("attention_heads", "ffn_dim"):
        wanted, got = (check_size(f"config: {side}_{key}", v[f"{side}_{key}"]) for side in ("encoder", "decoder"))
        if wanted != got:
            raise ValueError(f"config: decoder_{key}: expected encoder_{key}={wanted}, got {got}")
    one = check_flag("config: share_encoder_decoder_embeddings", v.get("share_encoder_decoder_embeddings", True))
    vocab, bart = v.get("decoder_vocab_size"), family == "bart"
    return {
        "src_vocab": v["vocab_size"], "tgt_vocab": v["vocab_size"] if vocab is None else vocab,
        "tie": "all" if one else "output", "d_model": v["d_model"],
        "n_heads": v["encoder_attention_heads"], "d_ff": v["encoder_ffn_dim"], "n_encoder_layers": v["encoder_layers"],
        "n_decoder_layers": v["decoder_layers"], "activation": activation(v["activation_function"]),
        "dropout": v["dropout"], "attention_dropout": v["attention_dropout"],
        "activation_dropout": v["activation_dropout"], "scale_embedding": v["scale_embedding"],
        "positions": "learned" if bart else "sinusoidal_halves", "max_length": v["max_position_embeddings"],
        "position_offset": 2 if bart else 0, "embedding_norm": bart, "output_bias": True, "pad_gradient": False,
    }  # fmt: skip


def write_config(c: TransformerConfig) -> dict[str, Any]:
    """Return the config.json of the family that has these sizes and choices.

    Raises ValueError that names the choices which this family does not have.
    """
    family = {"relative": "t5", "learned": "bart"}.get(c.positions, "marian")
    config = {
        "model_type": family, "architectures": [CLASSES[family]], "is_encoder_decoder": True, "vocab_size": c.src_vocab,
        "d_model": c.d_model, "pad_token_id": c.pad_id, "eos_token_id": c.eos_id, "decoder_start_token_id": c.bos_id,
        **(t5_config(c) if family == "t5" else bart_config(family, c)),
    }  # fmt: skip
    twin = read_config(config, c.tie == "embeddings")
    names = [field.name for field in dataclasses.fields(c)]
    if other := [name for name in names if getattr(c, name) != getattr(twin, name)]:
        choices = ", ".join(f"{name}={shown(getattr(c, name))}" for name in other)
        raise ValueError(f"model: {CLASSES[family]} of Hugging Face has no {choices}")
    return config


def t5_config(c: TransformerConfig) -> dict[str, Any]:
    word = "gelu" if c.gated and c.activation == "gelu_tanh" else ACTIVATIONS[c.activation][0]
    return {
        "d_kv": c.head_width, "d_ff": c.d_ff, "num_layers": c.n_encoder_layers,
        "num_decoder_layers": c.n_decoder_layers, "num_heads": c.n_heads,
        "relative_attention_num_buckets": c.relative_buckets,
        "relative_attention_max_distance": c.relative_max_distance, "dropout_rate": c.dropout,
        "layer_norm_epsilon": c.norm_eps, "feed_forward_proj": f"gated-{word}" if c.gated else word,
        "tie_word_embeddings": c.scale_output,
    }  # fmt: skip


def bart_config(family: str, c: TransformerConfig) -> dict[str, Any]:
    config: dict[str, Any] = {"activation_function": ACTIVATIONS[c.activation][0], "scale_embedding": c.scale_embedding}
    for side, depth in (("encoder", c.n_encoder_layers), ("decoder", c.n_decoder_layers)):
        config |= {f"{side}_layers": depth, f"{side}_attention_heads": c.n_heads, f"{side}_ffn_dim": c.d_ff}
    for key in ("dropout", "attention_dropout", "activation_dropout"):
        config[key] = getattr(c, key)
    config["forced_eos_token_id"] = c.eos_id
    if c.max_length is not None:                              # Hugging Face wants a number
        config["max_position_embeddings"] = c.max_length
    if family == "marian":
        config |= {"decoder_vocab_size": c.tgt_vocab, "share_encoder_decoder_embeddings": c.tie == "all"}
    return config
