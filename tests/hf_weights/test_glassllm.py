"""Somebody else's weights: small golden numbers of glassllm, and, where it is installed, its two trained models."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn import LanguageModel, generate
from npattn._internal.checks import Array
from npattn.hf_weights import load_folder, save_folder
from npattn.language_model import RotarySettings
from support.glassllm_adapter import adapted, contents, language_model

GOLDEN = Path(__file__).parents[1] / "golden" / "glassllm.npz"


def golden() -> tuple[dict[str, Any], dict[str, Array], Array, Array]:
    """Return sizes, weights, ids and logits."""
    with GOLDEN.open("rb") as file:
        sizes, arrays = contents(file)
    ids, logits = arrays.pop("__ids__").astype(int), arrays.pop("__logits__")
    return sizes, {name: array / 64 for name, array in arrays.items()}, ids, logits


def with_halves(model: LanguageModel) -> LanguageModel:
    """Return the same function with the pairing of Hugging Face: columns 2i and 2i + 1 go to i and i + R/2."""
    config = dataclasses.replace(model.config, pairing="halves")
    R = config.d_head
    order = np.concatenate([np.arange(0, R, 2), np.arange(1, R, 2)])
    arrays = dict(model.params)
    for name, array in model.params.items():
        if name.endswith(("W_Q", "W_K")):
            arrays[name] = array.reshape(len(array), -1, R)[..., order].reshape(array.shape)
    return LanguageModel.from_arrays(config, arrays)


def test_the_logits_are_theirs() -> None:
    sizes, arrays, ids, logits = golden()
    model = adapted(sizes, arrays, np.float64)
    assert np.abs(model.forward(ids)[0] - logits).max() < 1e-12 * np.abs(logits).max()


@pytest.mark.parametrize("change", [
    {"pairing": "halves"}, {"norm_eps": 1e-6}, {"activation": "gelu"}, {"rotary": RotarySettings(10000.0)},
])  # fmt: skip
def test_each_choice_matters(change: dict[str, Any]) -> None:
    sizes, arrays, ids, logits = golden()
    model = adapted(sizes, arrays, np.float64)
    other = LanguageModel.from_arrays(dataclasses.replace(model.config, **change), model.params)
    assert np.abs(other.forward(ids)[0] - logits).max() > 1e-3


def test_pairs_of_halves_are_a_permutation_of_columns_and_a_llama(tmp_path: Path) -> None:
    sizes, arrays, ids, logits = golden()
    model = with_halves(adapted(sizes, arrays, np.float64))
    assert np.abs(model.forward(ids)[0] - logits).max() < 1e-12 * np.abs(logits).max()
    save_folder(tmp_path, model)
    assert load_folder(tmp_path).params == model.params


@pytest.mark.parametrize(("language", "prompt"), [("en", "Alice was beginning to"), ("pt", "Capitu olhou para")])
def test_the_trained_models(tmp_path: Path, language: str, prompt: str) -> None:
    glassllm = pytest.importorskip("glassllm")
    theirs, tokenizer = glassllm.load_pretrained(language)
    path = resources.files("glassllm") / "weights" / f"{language}.npz"
    model = language_model(path)
    assert model.params.flat.size == sum(p.data.size for p in theirs.parameters())
    ids = np.random.default_rng(0).integers(0, model.config.vocab, (3, 128))
    with glassllm.no_grad():
        logits = theirs.forward(ids).data
    assert np.abs(language_model(path, np.float64).forward(ids)[0] - logits).max() < 1e-5   # theirs is part float64
    assert np.abs(model.forward(ids)[0] - logits).max() < 1e-6 * np.abs(logits).max()
    begin = tokenizer.encode(prompt)
    (new,) = generate(model, [np.array(begin)], 40, temperature=0)
    assert new == [step.token for step in theirs.generate(begin, 40, greedy=True)]
    assert tokenizer.decode(begin + new).startswith(prompt)
    llama = with_halves(model)
    assert generate(llama, [np.array(begin)], 40, temperature=0) == [new]
    save_folder(tmp_path, llama)
    assert load_folder(tmp_path).params == llama.params
