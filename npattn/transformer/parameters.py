"""Parameters, or their gradients: named views of one flat buffer.

Whatever treats all parameters alike (Adam, the norm of the gradient, a sum over workers, a file) works on `.flat` in
one vector operation; whatever knows them by name reads a view. The layout follows llm.c.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from npattn._types import Array


class Parameters(Mapping[str, Array]):
    """A mapping from names to views of one flat array, with fixed names and shapes.

    `params[name] = value` copies into the view; it never replaces it, so that `.flat` and the views stay one.

    >>> params = Parameters({"W": (2, 2), "b": (2,)})
    >>> params["b"] = np.array([5.0, 6.0], np.float32)
    >>> params.flat
    array([0., 0., 0., 0., 5., 6.], dtype=float32)
    >>> params["W"] = np.zeros(3, np.float32)
    Traceback (most recent call last):
    ValueError: W: expected (2, 2), got (3,)
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], dtype: Any = np.float32) -> None:
        self.shapes = dict(shapes)
        self.flat: Array = np.zeros(sum(map(math.prod, self.shapes.values())), dtype)
        self._views: dict[str, Array] = {}
        start = 0
        for name, shape in self.shapes.items():
            size = math.prod(shape)
            self._views[name] = self.flat[start : start + size].reshape(shape)
            start += size

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __setitem__(self, name: str, value: Array) -> None:
        view = self._views[name]
        if value is view:                                     # the last step of params[name] += …
            return
        if np.shape(value) != view.shape:
            raise ValueError(f"{name}: expected {view.shape}, got {np.shape(value)}")
        view[...] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        return f"<Parameters: {self.flat.size:,} numbers of {self.flat.dtype} under {len(self)} names>"

    def like(self) -> Parameters:
        """Return zeros under the same names."""
        return Parameters(self.shapes, self.flat.dtype)

    def copy(self) -> Parameters:
        """Return the same values in a buffer of their own."""
        other = self.like()
        other.flat[:] = self.flat
        return other

    # Views would be copied one by one, and cease to be views, when pickled or deep-copied.
    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.shapes, self.flat)


def _restore(shapes: Mapping[str, tuple[int, ...]], flat: Array) -> Parameters:
    params = Parameters(shapes, flat.dtype)
    params.flat[:] = flat
    return params


def nested(params: Mapping[str, Array]) -> dict[str, Any]:
    """Turn dotted names into nested dicts: {"encoder.0.norm_1.gamma": γ} → {"encoder": {"0": {"norm_1": …}}}."""
    tree: dict[str, Any] = {}
    for name, array in params.items():
        *path, leaf = name.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = array
    return tree


def dotted(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Array]]:
    """Yield (dotted name, array) pairs: the inverse of `nested`. None stands for a parameter that is not there."""
    for key, value in tree.items():
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(value, Mapping):
            yield from dotted(value, name)
        elif value is not None:
            yield name, value
