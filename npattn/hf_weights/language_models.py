"""Decoder-only models of Hugging Face as an `npattn.LanguageModel`, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from npattn._internal.checks import Array, Params, layout_of
from npattn.hf_weights.configs import read_config, write_config
from npattn.hf_weights.encoder_decoders import named
from npattn.hf_weights.layouts import BUFFERS, arrays_of, entries_of, fill, nothing, shapes_of, to_theirs
from npattn.language_model import LanguageModel, LanguageModelConfig
from npattn.language_model.model import empty_model
from npattn.torch_weights.layouts import check_layout
from npattn.transformer import Transformer


def load_language_model(config: Mapping[str, Any], state: Mapping[str, Any]) -> LanguageModel:
    """Return the model that a configuration and a state describe.

    - config: a parsed config.json, in its old or new form.
    - state: names to arrays, of a file or of `model.state_dict()`; a value may be anything that `np.asarray` accepts.

    The model has the widest dtype of the state; float16 and bfloat16 become float32, which is exact.

    Raises ValueError that names a setting that is not supported, or every name, shape and dtype of the state that does
    not fit; TypeError for what is no mapping and no floating array.
    """
    return load_and_forget(config, state, nothing)


def load_and_forget(
    config: Mapping[str, Any], state: Mapping[str, Any], forget: Callable[[], object]
) -> LanguageModel:
    """Return the model. `forget` is called again and again while the state is copied."""
    found = read_config(config)
    arrays, dtype = arrays_of(state, BUFFERS)
    entries = entries_of(found)
    shapes = shapes_of(found, entries)
    arrays = with_prefix(arrays, found)
    if found.tie and "lm_head.weight" in arrays:
        check_tied(arrays, found)
    check_layout("state", {name: (array.shape, dtype) for name, array in arrays.items()}, shapes, dtype)
    model = empty_model(found, dtype)
    fill(model.params, arrays, entries, forget)
    return model


def dump_language_model(model: LanguageModel) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return a config.json, as a dict, and the state of the model: Hugging Face's names to arrays.

    - model: a LanguageModel that one of the families describes: Llama, Mistral, Qwen3, OLMo 2, Gemma 2, Gemma 3, GPT-2.

    Each array is a C-contiguous copy. A tied output projection is left out, as in Hugging Face's files.

    Raises ValueError that names the choices of the model that its family does not have, TypeError for what is no model.
    """
    check_model(model)
    config = write_config(model.config) | {"dtype": str(model.params.flat.dtype)}
    return config, to_theirs(model.params, entries_of(model.config))


def dump_gradients(model: LanguageModel | Transformer, grads: Params) -> dict[str, Array]:
    """Return gradients under Hugging Face's names and in its layouts, as C-contiguous copies.

    - model: the model that they belong to.
    - grads: names to gradients, as `model.backward` and `model.loss_and_gradients` return them.

    A tied weight has one gradient, the sum over its uses, under the name of the embedding. `final_logits_bias` has one
    too, though Hugging Face does not train it.

    Raises ValueError that lists every name, shape and dtype that does not fit, TypeError for what is no model.
    """
    if not isinstance(model, Transformer):
        check_model(model)
    check_layout("grads", layout_of("grads", grads), model.params.shapes, model.params.flat.dtype)
    return named(model, grads) if isinstance(model, Transformer) else to_theirs(grads, entries_of(model.config))


def check_model(model: LanguageModel) -> None:
    """Raise a TypeError unless it is a model."""
    if not isinstance(model, LanguageModel):
        raise TypeError(f"model: expected a LanguageModel, got {type(model).__name__}")


def with_prefix(arrays: Mapping[str, Array], config: LanguageModelConfig) -> dict[str, Array]:
    """Return the arrays under the names of the whole model; a file of its body alone has no prefix."""
    prefix = "transformer." if config.positions == "learned" else "model."
    if any(name.startswith(prefix) for name in arrays):
        return dict(arrays)
    return {name if name.startswith("lm_head.") else prefix + name: array for name, array in arrays.items()}


def check_tied(arrays: dict[str, Array], config: LanguageModelConfig) -> None:
    """Take out the tied output projection. Raise a ValueError if it differs from the embedding."""
    name = "transformer.wte.weight" if config.positions == "learned" else "model.embed_tokens.weight"
    W = arrays.pop("lm_head.weight")
    if name in arrays and not np.array_equal(W, arrays[name]):
        raise ValueError(f"state: 'lm_head.weight': expected the numbers of {name!r}, as tie_word_embeddings is true")
