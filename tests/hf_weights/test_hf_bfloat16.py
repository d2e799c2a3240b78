"""bfloat16: its bits are the upper half of a float32, as arrays of the package `ml_dtypes` and as pairs of bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npattn._internal.checks import Array
from npattn.hf_weights import dump_language_model, load_language_model
from npattn.hf_weights.layouts import is_bfloat16, widened
from support.language_model_toys import toy_language_model


def pairs_of_bytes(array: Array) -> Array:
    """Cut float32 to the upper half of its bits."""
    return (array.astype("<f4").view("<u4") >> 16).astype("<u2").view("V2")


@pytest.fixture
def given() -> tuple[dict[str, Any], dict[str, Array]]:
    config, state = dump_language_model(toy_language_model("llama", tie=True))
    return config, {name: np.rint(array * 32) / 64 for name, array in state.items()}


def test_every_number_keeps_its_bits() -> None:
    bits = np.arange(2**16, dtype="<u2")                      # with subnormals, infinities and NaN
    assert np.array_equal(widened(bits.view("V2")).view("<u4"), bits.astype("<u4") << 16)
    square = bits.reshape(256, 256).T
    assert np.array_equal(widened(square.view("V2")).view("<u4"), square.astype("<u4") << 16)


def test_pairs_of_bytes_among_others(given: tuple[dict[str, Any], dict[str, Array]]) -> None:
    config, state = given
    wanted = load_language_model(config, state).params
    some = {name: pairs_of_bytes(array) if "proj" in name else array for name, array in state.items()}
    model = load_language_model(config, some)
    assert model.params.flat.dtype == np.float64 and model.params == wanted
    every = {name: pairs_of_bytes(array) for name, array in state.items()}
    model = load_language_model(config, every | {"lm_head.weight": every["model.embed_tokens.weight"].copy()})
    assert model.params.flat.dtype == np.float32 and np.array_equal(model.params.flat, wanted.flat)
    other = pairs_of_bytes(state["model.embed_tokens.weight"] + 1)
    with pytest.raises(ValueError, match=r"^state: 'lm_head\.weight': expected the numbers of "):
        load_language_model(config, every | {"lm_head.weight": other})


def test_arrays_of_the_package(given: tuple[dict[str, Any], dict[str, Array]]) -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    config, state = given
    narrow = {name: array.astype(bfloat16) for name, array in state.items()}
    assert all(map(is_bfloat16, narrow.values()))
    model = load_language_model(config, narrow | {"lm_head.weight": narrow["model.embed_tokens.weight"]})
    assert np.array_equal(model.params.flat, load_language_model(config, state).params.flat)
    bits = np.arange(2**16, dtype="<u2").view(bfloat16)
    finite = np.isfinite(bits.astype(np.float32))
    assert np.array_equal(widened(bits)[finite], bits.astype(np.float32)[finite])


@pytest.mark.parametrize("dtype", ["V1", "V3", "V4", [("a", "V1"), ("b", "V1"), ("c", "V1")]])
def test_other_bytes_are_no_numbers(given: tuple[dict[str, Any], dict[str, Array]], dtype: Any) -> None:
    config, state = given
    with pytest.raises(TypeError, match=r"^state: 'model\.norm\.weight': expected a floating array, got "):
        load_language_model(config, state | {"model.norm.weight": np.zeros(5, dtype)})
