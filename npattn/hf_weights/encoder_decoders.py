"""Encoder–decoders of Hugging Face as an `npattn.Transformer`, and back: T5, Marian (opus-mt) and BART."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from npattn._internal.checks import Array, shown
from npattn.hf_weights.configs import check_mapping
from npattn.hf_weights.encoder_decoder_configs import FAMILIES, is_encoder_decoder, read_config, write_config
from npattn.hf_weights.layouts import (
    Entry,
    arrays_of,
    fill,
    is_bfloat16,
    nothing,
    projections,
    shapes_of,
    to_theirs,
    widened,
    with_norms,
)
from npattn.torch_weights.layouts import check_layout
from npattn.transformer import Transformer, TransformerConfig
from npattn.transformer.model import check_model, empty_model
from npattn.transformer.variants import sinusoids_in_halves

#: What older files hold beside the weights: numbers of versions, and a bias that T5 never reads.
BUFFERS = re.compile(r"(.*\.)?version|decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight")

LOGITS_BIAS = "final_logits_bias"
#: Our names and T5's for the attentions of a layer, in their order.
T5_ATTENTIONS = {
    "encoder": (("self_attention", "SelfAttention"),),
    "decoder": (("self_attention", "SelfAttention"), ("cross_attention", "EncDecAttention")),
}


def load_transformer(config: Mapping[str, Any], state: Mapping[str, Any]) -> Transformer:
    """Return the encoder–decoder that a configuration and a state describe: T5, Marian or BART.

    - config: a parsed config.json.
    - state: names to arrays, of a file or of `model.state_dict()`; a value may be anything that `np.asarray` accepts.

    The model has the widest dtype of the state; float16 and bfloat16 become float32, which is exact. bos_id is
    decoder_start_token_id. What a configuration says of `generate` is not in the model: see the arguments of
    `npattn.greedy_search` and `npattn.beam_search`.

    Raises ValueError that names a setting that is not supported, or every name, shape and dtype of the state that does
    not fit; TypeError for what is no mapping and no floating array.
    """
    return load_and_forget(config, state, nothing)


def load_and_forget(config: Mapping[str, Any], state: Mapping[str, Any], forget: Callable[[], object]) -> Transformer:
    """Return the model. `forget` is called again and again while the state is copied."""
    check_mapping(config)
    if not is_encoder_decoder(config):
        wanted = ", ".join(FAMILIES)
        raise ValueError(f"config: model_type: expected one of {wanted}, got {shown(config.get('model_type'))}")
    arrays, dtype = arrays_of(state, BUFFERS)
    arrays = with_prefix(arrays, config)
    output, shared = arrays.get("lm_head.weight"), arrays.get("shared.weight")
    found = read_config(config, output is not None and shared is not None and not np.array_equal(output, shared))
    entries = entries_of(found)
    untie(arrays, found)
    shapes = shapes_of(found, entries)
    if found.output_bias:
        bias = arrays.get(LOGITS_BIAS, np.zeros(found.tgt_vocab))              # absent: zeros
        arrays[LOGITS_BIAS] = bias[0] if bias.ndim == 2 and len(bias) == 1 else bias
    check_layout("state", {name: (array.shape, dtype) for name, array in arrays.items()}, shapes, dtype)
    model = empty_model(found, dtype)
    fill(model.params, arrays, entries, forget)
    return model


def dump_transformer(model: Transformer) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return a config.json, as a dict, and the state of the model: Hugging Face's names to arrays.

    - model: a Transformer that one of the families describes: T5, Marian or BART.

    Each array is a C-contiguous copy. Tied weights are there once, as in Hugging Face's files.

    Raises ValueError that names the choices of the model that its family does not have, TypeError for what is no model.
    """
    check_model(model)
    config = write_config(model.config) | {"dtype": str(model.params.flat.dtype)}
    return config, named(model, model.params)


def named(model: Transformer, params: Mapping[str, Array]) -> dict[str, Array]:
    """Return parameters, or their gradients, under Hugging Face's names."""
    state = to_theirs(params, entries_of(model.config))
    if LOGITS_BIAS in state:
        state[LOGITS_BIAS] = state[LOGITS_BIAS][None]
    return state


def with_prefix(arrays: dict[str, Array], config: Mapping[str, Any]) -> dict[str, Array]:
    """Return the arrays under the names of the whole model; a file of its body alone has no prefix."""
    if config["model_type"] == "t5" or any(name.startswith("model.") for name in arrays):
        return arrays
    own = (LOGITS_BIAS, "lm_head.weight")
    return {name if name in own else f"model.{name}": array for name, array in arrays.items()}


def untie(arrays: dict[str, Array], config: TransformerConfig) -> None:
    """Take out what other arrays hold too. Raise a ValueError unless it has the same numbers.

    A tied embedding may be there under any of its names. Marian's table of positions is computed.
    """
    prefix = "" if config.positions == "relative" else "model."
    decoder = f"{prefix}decoder.embed_tokens.weight"
    name = f"{prefix}shared.weight" if config.has_one_embedding else decoder
    others = [f"{prefix}encoder.embed_tokens.weight", decoder] if config.has_one_embedding else []
    if not config.has_output:
        others.append("lm_head.weight")
    for other in others:
        if other in arrays:
            W = arrays.pop(other)
            if not np.array_equal(W, arrays.setdefault(name, W)):
                raise ValueError(f"state: {other!r}: expected the numbers of {name!r}, to which it is tied")
    for side in ("encoder", "decoder") if config.positions == "sinusoidal_halves" else ():
        table = f"model.{side}.embed_positions.weight"
        if table in arrays and not is_sinusoidal(arrays.pop(table), config.d_model):
            raise ValueError(f"state: {table!r}: expected the sines and cosines of positions, got others")


def is_sinusoidal(W: Array, D: int) -> bool:
    """Whether these are the positions of Marian (N, D), to the precision of the dtype."""
    if W.shape[1:] != (D,):
        return False
    W, eps = (widened(W), 2.0**-8) if is_bfloat16(W) else (W, max(np.finfo(W.dtype).eps, 2.0**-23))
    return bool((np.abs(W - sinusoids_in_halves(*W.shape)) < eps).all())


def entries_of(config: TransformerConfig) -> list[Entry]:
    """Return what corresponds to what, for every parameter."""
    shapes = config.shapes()
    entries = t5_entries(config) if config.positions == "relative" else bart_entries(config)
    entries.append(Entry(["output.W"], ["lm_head.weight"], True))
    return [entry for entry in entries if entry.ours[0] in shapes]


def bart_entries(config: TransformerConfig) -> list[Entry]:
    """BART and Marian: a layer's last norm has one name in the encoder and the decoder."""
    names = {"embedding.W_E": "shared.weight"}
    entries = [Entry(["output.b"], [LOGITS_BIAS])]
    for side, depth in (("encoder", config.n_encoder_layers), ("decoder", config.n_decoder_layers)):
        names[f"{'source' if side == 'encoder' else 'target'}_embedding.W_E"] = f"{side}.embed_tokens.weight"
        names[f"{side}.positions.W_P"] = f"{side}.embed_positions.weight"
        names[f"{side}.embedding_norm"] = f"{side}.layernorm_embedding"
        for i in range(depth):
            ours, theirs = f"{side}.{i}.", f"{side}.layers.{i}."
            attentions = {"self_attention": "self_attn", "cross_attention": "encoder_attn"}
            for number, (a, b) in enumerate(attentions.items(), 1):
                names[f"{ours}norm_{number}"] = f"{theirs}{b}_layer_norm"
                words = {"Q": "q_proj", "K": "k_proj", "V": "v_proj", "O": "out_proj"}
                entries += projections(f"{ours}{a}.", {w: [f"model.{theirs}{b}.{word}"] for w, word in words.items()})
            names[f"{ours}norm_{2 if side == 'encoder' else 3}"] = f"{theirs}final_layer_norm"
            products = {"1": [f"model.{theirs}fc1"], "2": [f"model.{theirs}fc2"]}
            entries += projections(f"{ours}feed_forward.", products)
    return entries + [Entry([a], [f"model.{b}"]) for a, b in with_norms(names)]


def t5_entries(config: TransformerConfig) -> list[Entry]:
    """T5 numbers the sub-layers of a layer, each with the norm before it. The gate is wi_0."""
    names = {"embedding.W_E": "shared.weight"}
    entries = []
    for side, depth in (("encoder", config.n_encoder_layers), ("decoder", config.n_decoder_layers)):
        names[f"{side}.norm"] = f"{side}.final_layer_norm"
        names[f"{side}.positions.W_B"] = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        for i in range(depth):
            ours, theirs = f"{side}.{i}.", f"{side}.block.{i}.layer."
            for number, (a, b) in enumerate(T5_ATTENTIONS[side]):
                words = {which: [f"{theirs}{number}.{b}.{which.lower()}"] for which in ("Q", "K", "V", "O")}
                entries += projections(f"{ours}{a}.", words)
                names[f"{ours}norm_{number + 1}"] = f"{theirs}{number}.layer_norm"
            number = len(T5_ATTENTIONS[side])
            names[f"{ours}norm_{number + 1}"] = f"{theirs}{number}.layer_norm"
            last = f"{theirs}{number}.DenseReluDense."
            wi = [f"{last}wi_0", f"{last}wi_1"] if config.gated else [f"{last}wi"]
            entries += projections(f"{ours}feed_forward.", {"1": wi, "2": [f"{last}wo"]})
    return entries + [Entry([a], [b]) for a, b in with_norms(names)]
