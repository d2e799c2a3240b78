"""Folders that come and go between npattn and `transformers`, where that package and torch are installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn import LanguageModel, Transformer
from npattn.cli.predict.folder import found_ids
from npattn.hf_weights import load_folder, save_folder
from npattn.hf_weights.search import search_of
from support.encoder_decoder_goldens import encoder_decoder
from support.language_model_toys import FAMILIES, toy_language_model

IDS = np.array([[4, 5, 4, 1, 3, 2, 6]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_loads_what_is_saved_and_saves_what_is_loaded(tmp_path: Path, family: str, dtype: type) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    sizes = {"d_model": 8, "max_length": 9} | ({"d_head": 2} if family == "gpt2" else {})
    scale = {"attention_scale": 0.5} if family.startswith("gemma") else {}
    toy = toy_language_model(family, **sizes, **scale)
    model = LanguageModel.from_arrays(toy.config, {name: array.astype(dtype) for name, array in toy.params.items()})
    save_folder(tmp_path / "ours", model)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", attn_implementation="eager", dtype="auto"
    )
    with torch.no_grad():
        logits = theirs(torch.tensor(IDS)).logits.numpy()
    assert logits.dtype == dtype
    np.testing.assert_allclose(logits, model.forward(IDS)[0], rtol=0, atol=2e-5)   # their norms are float32
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="1KB")
    twin = load_folder(tmp_path / "theirs")
    assert twin.params == model.params and twin.config == model.config
    assert (tmp_path / "theirs" / "model.safetensors.index.json").exists()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", ["t5", "t5-gated", "marian", "bart"])
def test_the_same_of_encoder_decoders(tmp_path: Path, case: str, dtype: type) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    toy = encoder_decoder(case)
    model = Transformer.from_arrays(toy.config, {name: array.astype(dtype) for name, array in toy.params.items()})
    save_folder(tmp_path / "ours", model)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        tmp_path / "ours", attn_implementation="eager", dtype="auto"
    )
    src, tgt = np.array([[4, 5, 3, 6]]), np.array([[toy.config.bos_id, 3, 5]])
    with torch.no_grad():
        logits = theirs(input_ids=torch.tensor(src), decoder_input_ids=torch.tensor(tgt)).logits.numpy()
    assert logits.dtype == dtype
    np.testing.assert_allclose(logits, model.forward(src, tgt)[0], rtol=0, atol=2e-5)
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="1KB")
    twin = load_folder(tmp_path / "theirs")
    assert twin.params == model.params and twin.config == model.config


@pytest.mark.parametrize("settings", [
    {"max_length": 9}, {"max_new_tokens": 7, "num_beams": 3}, {"max_length": 8, "forced_eos_token_id": 2},
    {"max_length": 9, "num_beams": 2, "length_penalty": 0.3, "early_stopping": True, "forced_eos_token_id": 2},
    {"max_length": 8, "num_beams": 4, "early_stopping": "never", "bad_words_ids": [[5], [3, 4]]},
    {"max_length": 9, "num_beams": 2, "forced_bos_token_id": 6, "length_penalty": 2.0},
])  # fmt: skip
@pytest.mark.parametrize("case", ["t5", "marian", "bart"])
def test_the_search_of_generate(tmp_path: Path, case: str, settings: dict[str, Any]) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model = encoder_decoder(case)
    ids = {"pad_token_id": model.config.pad_id, "eos_token_id": model.config.eos_id,
           "decoder_start_token_id": model.config.bos_id}  # fmt: skip
    settings = settings | ({"forced_eos_token_id": model.config.eos_id} if "forced_eos_token_id" in settings else {})
    save_folder(tmp_path, model)
    transformers.GenerationConfig(**ids, **settings).save_pretrained(tmp_path)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        tmp_path, attn_implementation="eager", dtype="auto"
    )
    search, rng = search_of(tmp_path), np.random.default_rng(3)
    assert search.max_new is not None and not search.left_out
    for _ in range(5):
        src = rng.choice([i for i in range(3, 11) if i not in ids.values()], (1, 4))
        wanted = [*theirs.generate(torch.tensor(src))[0, 1:].tolist(), model.config.eos_id]
        ours = found_ids(model, src, search, search.max_new, search.beam)
        assert ours == wanted[: wanted.index(model.config.eos_id)], src
