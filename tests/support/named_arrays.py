"""Named arrays for tests, as a plain dict and as `Parameters` with one buffer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from npattn import Parameters
from npattn._internal.checks import Array

SHAPES = {"W": (3, 4), "b": (4,), "W_E": (5, 2), "scalar": (), "empty": (0, 7)}


def draw(rng: np.random.Generator, dtype: Any = np.float64, scale: float = 1.0) -> dict[str, Array]:
    """Return normal numbers by name."""
    return {name: np.asarray(rng.normal(scale=scale, size=shape), dtype) for name, shape in SHAPES.items()}


def flat(arrays: Mapping[str, Array]) -> Parameters:
    """Return a copy of the arrays in one buffer."""
    params = Parameters({name: array.shape for name, array in arrays.items()}, arrays["W"].dtype)
    for name, array in arrays.items():
        params[name] = array
    return params


def same(a: Mapping[str, Array], b: Mapping[str, Array]) -> bool:
    """Return whether names, order, dtypes, shapes and all bits are equal."""
    pairs = zip(a.values(), b.values(), strict=False)
    return list(a) == list(b) and all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in pairs
    )
