"""Golden numbers of encoder–decoders: logits, loss, every gradient and what is generated, of small random models.

Made with torch 2.13.0 and transformers 5.24.0, on a CPU:

    python tests/golden/make_encoder_decoders.py

Models compute norms, softmax and the loss in float32, also after `.double()`. So the names of float32 in torch mean
float64 here, before anything is built. Weights are multiples of 1/64 and lie in the file as int8.

`encoder_decoders.npz` holds, for each case: `CASE/config`, the config.json as text; `CASE/src` and `CASE/tgt`, with
pads after the end of short rows; `CASE/state/NAME`, 64 times the weight; `CASE/logits` at tgt[:, :-1], `CASE/loss`,
and `CASE/grad/NAME`. Then `CASE/sources`, 50 of them, and for each of the settings in `CASE/searches` (JSON)
`CASE/found/I`, what `generate` returns for them.
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

T5: dict[str, Any] = {
    "vocab_size": 13, "d_model": 8, "d_kv": 3, "d_ff": 7, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2,
    "relative_attention_num_buckets": 6, "relative_attention_max_distance": 7, "pad_token_id": 0, "eos_token_id": 1,
    "decoder_start_token_id": 0,
}  # fmt: skip
MARIAN: dict[str, Any] = {
    "vocab_size": 13, "d_model": 8, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 7, "decoder_ffn_dim": 7, "max_position_embeddings": 24,
    "activation_function": "swish", "scale_embedding": True, "pad_token_id": 12, "decoder_start_token_id": 12,
    "eos_token_id": 0, "forced_eos_token_id": 0, "bos_token_id": None,
}  # fmt: skip
BART: dict[str, Any] = MARIAN | {
    "encoder_layers": 1, "decoder_layers": 2, "activation_function": "gelu", "scale_embedding": False,
    "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": 2,
}  # fmt: skip
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("t5", T5),
    "t5-gated": ("t5", T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "marian": ("marian", MARIAN),
    "marian-two": ("marian", MARIAN | {"decoder_vocab_size": 15, "share_encoder_decoder_embeddings": False}),
    "bart": ("bart", BART),
}
CLASSES = {
    "t5": transformers.T5ForConditionalGeneration, "marian": transformers.MarianMTModel,
    "bart": transformers.BartForConditionalGeneration,
}  # fmt: skip
#: Settings of `generate` for each family, beside max_new_tokens.
SEARCHES: dict[str, list[dict[str, Any]]] = {
    "t5": [
        {"num_beams": 1}, {"num_beams": 3, "length_penalty": 1.0}, {"num_beams": 4, "length_penalty": 0.0},
        {"num_beams": 3, "length_penalty": 2.0, "bad_words_ids": [[5], [0], [4, 6]], "num_return_sequences": 3},
    ],
    "marian": [
        {"num_beams": 1, "bad_words_ids": [[12]]}, {"num_beams": 4, "bad_words_ids": [[12]], "length_penalty": 1.0},
        {"num_beams": 6, "bad_words_ids": [[12], [3, 4]], "length_penalty": 0.5, "early_stopping": True},
    ],
    "bart": [
        {"num_beams": 1, "forced_bos_token_id": 0}, {"num_beams": 4, "forced_bos_token_id": 0, "length_penalty": 2.0},
        {"num_beams": 3, "length_penalty": 1.0, "early_stopping": True, "num_return_sequences": 2},
    ],
}  # fmt: skip


def main() -> None:
    found: dict[str, Any] = {}
    for seed, (case, (family, settings)) in enumerate(CASES.items()):
        for name, array in numbers_of(family, settings, seed).items():
            found[f"{case}/{name}"] = array
    np.savez_compressed(Path(__file__).with_name("encoder_decoders.npz"), **found)


def numbers_of(family: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    config = transformers.AutoConfig.for_model(family, **settings)
    config._attn_implementation = "eager"
    model = CLASSES[family](config).eval()
    if "tie_word_embeddings" in settings:                     # the files of T5 1.1 have a matrix of its own
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    weights = {}
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float64
        if family == "marian" and "embed_positions" in name:
            continue
        centre = 64 if "norm" in name and "weight" in name else 0
        weights[name] = np.clip(np.rint(rng.normal(centre, 26, parameter.shape)), -127, 127).astype(np.int8)
        parameter.data = torch.tensor(weights[name].astype(np.float64) / 64)
    if family != "t5":
        weights["final_logits_bias"] = np.rint(rng.normal(0, 26, model.final_logits_bias.shape)).astype(np.int8)
        model.final_logits_bias[:] = torch.tensor(weights["final_logits_bias"].astype(np.float64) / 64)
    pad, first, vocab = config.pad_token_id, config.decoder_start_token_id, model.lm_head.out_features
    src, tgt = rng.integers(3, 12, (3, 9)), rng.integers(3, 12, (3, 8))
    tgt[:, 0], tgt[:, -1] = first, config.eos_token_id
    src[1, 6:] = src[2, 2:] = pad
    tgt[1, 4], tgt[1, 5:] = config.eos_token_id, pad
    labels = np.where(np.arange(8) > np.array([[7], [4], [7]]), -100, tgt)[:, 1:]
    inputs = {"input_ids": src, "attention_mask": src != pad, "decoder_input_ids": tgt[:, :-1]}
    output = model(**{name: torch.tensor(array) for name, array in inputs.items()})
    loss = torch.nn.functional.cross_entropy(output.logits.flatten(0, 1), torch.tensor(labels).flatten())
    loss.backward()
    assert output.logits.dtype == torch.float64 and output.logits.shape[-1] == vocab
    numbers = {"config": json.dumps(config.to_dict()), "src": src.astype(np.int8), "tgt": tgt.astype(np.int8)}
    numbers |= {"logits": output.logits.detach().numpy(), "loss": loss.item()}
    numbers |= {f"state/{name}": array for name, array in weights.items()}
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    return numbers | {f"grad/{name}": array for name, array in gradients.items()} | generated(model, family, rng)


def generated(model: Any, family: str, rng: np.random.Generator) -> dict[str, Any]:
    pad, lengths = model.config.pad_token_id, rng.integers(1, 9, (50, 1))
    sources = np.where(np.arange(8) < lengths, rng.integers(3, 12, (50, 8)), pad)
    numbers = {"sources": sources.astype(np.int8), "searches": json.dumps(SEARCHES[family])}
    for i, settings in enumerate(SEARCHES[family]):
        settings = {"length_penalty": 1.0, "max_new_tokens": 10, "do_sample": False} | settings
        ids = model.generate(torch.tensor(sources), attention_mask=torch.tensor(sources != pad), **settings)
        numbers[f"found/{i}"] = ids.numpy().astype(np.int8)
    return numbers


main()
