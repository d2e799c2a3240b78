"""Golden numbers of language models: logits, loss and every gradient of small random models of Hugging Face.

Made with torch 2.13.0 and transformers 5.24.0, on a CPU:

    python tests/golden/make_language_models.py

Models compute norms, softmax, rotary tables and the loss in float32, also after `.double()`. So the names of float32 in
torch mean float64 here, before anything is built. Weights are multiples of 1/64 and lie in the file as int8.

`language_models.npz` holds, for each case: `CASE/config`, the config.json as text; `CASE/ids`; `CASE/state/NAME`, 64
times the weight; `CASE/logits`, `CASE/loss`, and `CASE/grad/NAME`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

torch.set_default_dtype(torch.float64)
torch.float32 = torch.float = torch.float64
torch.Tensor.float = torch.Tensor.double

SIZES: dict[str, Any] = {
    "vocab_size": 11, "hidden_size": 12, "intermediate_size": 7, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 6, "max_position_embeddings": 5, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
TWO = SIZES | {"num_hidden_layers": 2, "max_position_embeddings": 64}
# base 3 and 8 columns: the wavelengths 6.3 … 14.3 lie on both sides of, and between, the bounds of each scaling
WIDE = {"head_dim": 8, "num_attention_heads": 2, "num_key_value_heads": 1}
GPT2: dict[str, Any] = {
    "vocab_size": 11, "n_embd": 12, "n_layer": 2, "n_head": 3, "n_positions": 9, "n_inner": 7, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def rope(kind: str, **settings: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 3.0, **settings}}


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", TWO | {"attention_bias": True, "mlp_bias": True}),
    "llama-linear": ("llama", SIZES | WIDE | rope("linear", factor=2.5)),
    "llama-dynamic": ("llama", SIZES | WIDE | rope("dynamic", factor=3.0)),
    "llama-yarn": ("llama", SIZES | WIDE | {"max_position_embeddings": 48} | rope(
        "yarn", factor=4.0, original_max_position_embeddings=12, beta_fast=2.0, beta_slow=0.7)),
    "llama-yarn-mscale": ("llama", SIZES | WIDE | {"max_position_embeddings": 48} | rope(
        "yarn", factor=4.0, original_max_position_embeddings=12, beta_fast=1.7, beta_slow=0.6, truncate=False,
        mscale=0.7, mscale_all_dim=0.4)),
    "llama-llama3": ("llama", SIZES | WIDE | {"max_position_embeddings": 128} | rope(
        "llama3", factor=8.0, original_max_position_embeddings=16, low_freq_factor=1.2, high_freq_factor=2.3)),
    "mistral": ("mistral", TWO | {"sliding_window": 3}),
    "qwen3": ("qwen3", TWO | {
        "use_sliding_window": True, "sliding_window": 2, "max_window_layers": 1, "tie_word_embeddings": True}),
    "olmo2": ("olmo2", TWO | {"rms_norm_eps": 0.01}),
    "gemma2": ("gemma2", TWO | {
        "sliding_window": 3, "query_pre_attn_scalar": 5, "attn_logit_softcapping": 0.8,
        "final_logit_softcapping": 1.5}),
    "gemma3": ("gemma3_text", TWO | {
        "sliding_window": 3, "query_pre_attn_scalar": 5, "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 30.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 5.0}}}),
    "gpt2": ("gpt2", GPT2),
}  # fmt: skip


def main() -> None:
    found: dict[str, Any] = {}
    for seed, (case, (family, settings)) in enumerate(CASES.items()):
        for name, array in numbers_of(family, settings, seed).items():
            found[f"{case}/{name}"] = array
    np.savez_compressed(Path(__file__).with_name("language_models.npz"), **found)


def numbers_of(family: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    config = transformers.AutoConfig.for_model(family, **settings)
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    weights = {}
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float64
        centre = 64 if ("norm" in name and "gemma" not in family) or (".ln_" in name and "weight" in name) else 0
        weights[name] = np.clip(np.rint(rng.normal(centre, 26, parameter.shape)), -127, 127).astype(np.int8)
        parameter.data = torch.tensor(weights[name].astype(np.float64) / 64)
    model.tie_weights()
    ids = rng.integers(3, 11, (2, 9))
    ids[1, 6:] = 0
    logits = model(torch.tensor(ids[:, :-1])).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(ids[:, 1:]).flatten(), ignore_index=0)
    loss.backward()
    assert logits.dtype == torch.float64
    numbers = {"config": json.dumps(config.to_dict()), "ids": ids.astype(np.int8), "loss": loss.item()}
    numbers["logits"] = logits.detach().numpy()
    numbers |= {f"state/{name}": array for name, array in weights.items()}
    return numbers | {f"grad/{name}": parameter.grad.numpy() for name, parameter in model.named_parameters()}


main()
