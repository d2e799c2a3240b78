"""An example: somebody else's trained weights in an `npattn.LanguageModel`.

The package `glassllm` 0.1.0 (MIT) ships two small language models, English and Portuguese, and computes with NumPy too.

    model = language_model(resources.files("glassllm") / "weights" / "en.npz")
    npattn.generate(model, [ids], 40, temperature=0)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from npattn import LanguageModel, LanguageModelConfig
from npattn._internal.checks import Array
from npattn.language_model import RotarySettings

#: Our names in a layer, and theirs; W_1 and W_3 of theirs stand side by side in our W_1.
NAMES = {
    "attention_norm.gamma": ["norm1.gamma"], "feed_forward_norm.gamma": ["norm2.gamma"],
    **{f"attention.W_{which}": [f"attn.W_{which}"] for which in "QKVO"},
    "feed_forward.W_1": ["ffn.W1", "ffn.W3"], "feed_forward.W_2": ["ffn.W2"],
}  # fmt: skip


def language_model(path: Any, dtype: Any = np.float32) -> LanguageModel:
    """Return the model in a file of weights, whose numbers are halves."""
    with path.open("rb") as file:
        return adapted(*contents(file), dtype)


def contents(file: IO[bytes]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the sizes and the arrays of a file."""
    with np.load(file) as archive:
        return json.loads(str(archive["__config__"])), {n: archive[n] for n in archive.files if n != "__config__"}


def adapted(sizes: Mapping[str, Any], arrays: Mapping[str, Array], dtype: Any) -> LanguageModel:
    """Return the model of these sizes and arrays."""
    config = LanguageModelConfig(
        sizes["vocab_size"], d_model=sizes["d_model"], n_layers=sizes["n_layers"], n_heads=sizes["n_heads"],
        n_kv_heads=sizes["n_kv_heads"], d_ff=arrays["blocks.0.ffn.W1"].shape[1], max_length=sizes["max_len"],
        rotary=RotarySettings(sizes["rope_base"]), pairing="neighbours", norm_eps=sizes["eps"], tie=True,
    )  # fmt: skip
    ours = {"embedding.W_E": arrays["E"], "norm.gamma": arrays["norm_f.gamma"]}
    for i in range(config.n_layers):
        for name, theirs in NAMES.items():
            ours[f"layers.{i}.{name}"] = np.concatenate([arrays[f"blocks.{i}.{each}"] for each in theirs], -1)
    return LanguageModel.from_arrays(config, {name: array.astype(dtype) for name, array in ours.items()})
