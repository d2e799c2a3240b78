"""Read the numbers of PyTorch in golden/*.npz and compare with them. golden/make_golden.py made and describes them."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from npattn import Transformer, TransformerConfig
from npattn._internal.checks import Array
from npattn.torch_weights import load_transformer

#: The largest difference from PyTorch, relative to the largest number of the array, that counts as agreement.
AGREEMENT = 1e-11


def read(file: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return case → kind → name → array of attention, layers or multi_head. Options may be numbers or booleans."""
    cases: dict[str, dict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
    for key, array in _load(file).items():
        case, kind, name = key.split("/")
        cases[case][kind][name] = array.item() if kind == "option" and array.ndim == 0 else array
    return cases


def names_of_modern_cases() -> set[str]:
    """Return the names of the functions with cases in golden/modern*.npz: versions from 8 on, and their layers."""
    files = sorted((Path(__file__).parents[1] / "golden").glob("modern*.npz"))
    return {case.partition(".")[0] for file in files for case in read(file.stem)}


def read_transformers() -> dict[str, dict[str, Any]]:
    """Return case → entries of transformer, with `config` and, as name → array, `state` and the gradients."""
    cases: dict[str, dict[str, Any]] = defaultdict(dict)
    for key, array in _load("transformer").items():
        case, name = key.split("/")
        cases[case][name] = array
    for entries in cases.values():
        entries["config"] = TransformerConfig(**json.loads(str(entries["config"])))
        layout = json.loads(str(entries["layout"]))
        ends = np.cumsum([math.prod(shape) for shape in layout.values()])[:-1]
        for vector in ("state", "gradients", "loss_gradients"):
            parts = zip(layout.items(), np.split(entries[vector], ends), strict=True)
            entries[vector] = {name: part.reshape(shape) for (name, shape), part in parts}
    return cases


def core(state: dict[str, Array]) -> dict[str, Array]:
    """Return the part of a state that belongs to nn.Transformer itself."""
    return {name.removeprefix("core."): array for name, array in state.items() if name.startswith("core.")}


def model_of(config: TransformerConfig, state: dict[str, Array], dtype: Any = np.float64) -> Transformer:
    """Return a model whose parameters are `state`: weights, or gradients under the names of the weights."""
    model = Transformer(config, dtype=dtype)
    load_transformer(model, {name: array.astype(dtype) for name, array in core(state).items()})
    model.params[config.target_embedding] = state["target_embedding.weight"]
    if config.tie != "all":
        model.params[config.source_embedding] = state["source_embedding.weight"]
    if config.tie == "none":
        model.params["output.W"] = state["output.weight"].T
    return model


def errors(got: dict[str, Array], want: dict[str, Array]) -> dict[str, float]:
    """Return the largest difference of each array of `want`, relative to its largest number.

    The gradient of b_K is zero in mathematics and rounding noise in numbers. Its difference is relative to the gradient
    of b_Q, which enters the same scores.
    """
    found = {}
    for name, expected in want.items():
        assert (got[name].shape, got[name].dtype) == (expected.shape, expected.dtype), name
        beside = want[name.removesuffix("K") + "Q"] if name.endswith("b_K") else expected
        found[name] = float(np.abs(got[name] - expected).max() / np.abs(beside).max())
    return found


def _load(file: str) -> dict[str, Array]:
    with np.load(Path(__file__).parents[1] / "golden" / f"{file}.npz") as arrays:
        return dict(arrays)
