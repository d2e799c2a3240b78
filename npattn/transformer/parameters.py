"""Parameters, or their gradients: named views of one flat buffer.

Adam, the norm of the gradient, a sum over workers and a file treat all parameters alike. They work on `.flat`, in one
vector operation. The layers read the views by name. The layout follows llm.c.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from npattn._internal.checks import Array, check_dtype, check_room, check_size, is_array, kind_of

#: The parameters of a part of the model as nested dicts, by the words of their dotted names.
Nested: TypeAlias = dict[str, Any]


class Blocks(Mapping[str, Array]):
    """A mapping from names to views of a few contiguous arrays, its `blocks`, with fixed names and shapes.

    Most names have a block of their own. Matrices that are multiplied with the same rows may stand `side_by_side` in
    one block, as {"W_QK": ("W_Q", "W_K")} says. One product then serves them all, and their views are strided.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        side_by_side: Mapping[str, tuple[str, ...]],
        blocks: Mapping[str, Array],
    ) -> None:
        self.shapes, self.side_by_side, self.blocks = dict(shapes), dict(side_by_side), dict(blocks)
        views = dict(self.blocks)
        for union, names in self.side_by_side.items():
            ends = np.cumsum([self.shapes[name][-1] for name in names])
            views |= zip(names, np.split(self.blocks[union], ends[:-1], -1), strict=True)
        self._views: dict[str, Array] = {name: views[name] for name in self.shapes}

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __eq__(self, other: object) -> bool:
        """Return whether `other` has the same names with equal arrays."""
        if not isinstance(other, Mapping):
            return NotImplemented
        return self.keys() == other.keys() and all(np.array_equal(self[name], other[name]) for name in self)


class Parameters(Blocks):
    """Blocks that lie one after another in one flat array, `.flat`.

    - shapes: names to shapes, in the order of the names. A shape is a tuple of sizes.
    - dtype: float32 or float64, of every number.
    - side_by_side: names of unions to the names of matrices or vectors that share one block; None for no union.

    `params[name] = value` copies the value into the view and never replaces the view, so that `.flat` and the views
    stay the same memory. A value of another dtype of real numbers is rounded. It must lie in the range of `dtype`.

    Raises TypeError for arguments of another type, ValueError for negative sizes, for more numbers than memory has room
    for, and for names that cannot stand side by side.

    >>> params = Parameters({"W": (2, 2), "b": (2,)})
    >>> params["b"] = np.array([5.0, 6.0], np.float32)
    >>> params.flat
    array([0., 0., 0., 0., 5., 6.], dtype=float32)
    >>> params["W"] = np.zeros(3, np.float32)
    Traceback (most recent call last):
    ValueError: W: expected (2, 2), got (3,)
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        dtype: Any = np.float32,
        side_by_side: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        check_shapes(shapes)
        self.flat: Array = np.zeros(sum(map(math.prod, shapes.values())), check_dtype("dtype", dtype))
        blocks, start = {}, 0
        for name, shape in block_shapes(shapes, side_by_side or {}).items():
            stop = start + math.prod(shape)
            blocks[name] = self.flat[start:stop].reshape(shape)
            start = stop
        super().__init__(shapes, side_by_side or {}, blocks)

    @functools.cached_property
    def _nested(self) -> Nested:
        return nested(self._views | self.blocks)

    def __setitem__(self, name: str, value: Array) -> None:
        view = self._views[name]
        if value is view:                                     # params[name] += … ends with this assignment
            return
        if not is_array(value) or not np.can_cast(value.dtype, view.dtype, "same_kind"):
            raise TypeError(f"{name}: expected a NumPy array of real numbers, got {kind_of(value)}")
        if value.shape != view.shape:
            raise ValueError(f"{name}: expected {view.shape}, got {value.shape}")
        try:
            with np.errstate(over="raise", under="ignore"):
                view[...] = value.astype(view.dtype, copy=False)
        except FloatingPointError:
            raise ValueError(f"{name}: expected numbers that {view.dtype} can hold, got larger ones") from None

    def __repr__(self) -> str:
        return f"<Parameters: {self.flat.size:,} numbers of {self.flat.dtype} under {len(self)} names>"

    def like(self) -> Parameters:
        """Return zeros under the same names."""
        return Parameters(self.shapes, self.flat.dtype, self.side_by_side)

    def copy(self) -> Parameters:
        """Return the same values in a buffer of their own."""
        return _restore(self.shapes, self.flat, self.side_by_side)

    # Without this, pickle and deepcopy would copy the views one by one, apart from `.flat`.
    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.shapes, self.flat, self.side_by_side)


def _restore(
    shapes: Mapping[str, tuple[int, ...]], flat: Array, side_by_side: Mapping[str, tuple[str, ...]]
) -> Parameters:
    params = Parameters(shapes, flat.dtype, side_by_side)
    params.flat[:] = flat
    return params


def check_shapes(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise unless these are names with tuples of sizes, and memory has room for the numbers."""
    if not isinstance(shapes, Mapping):
        raise TypeError(f"shapes: expected a mapping of names to shapes, got {kind_of(shapes)}")
    for name, shape in shapes.items():
        if not isinstance(name, str) or not isinstance(shape, tuple):
            raise TypeError(f"shapes: expected names with tuples of sizes, got {name!r} with {kind_of(shape)}")
        for size in shape:
            check_size(f"shapes: {name!r}", size)
    check_room("shapes", sum(map(math.prod, shapes.values())))


def block_shapes(
    shapes: Mapping[str, tuple[int, ...]], side_by_side: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each block by its name: first the unions, then the names that stand alone.

    Raises unless each union has a tuple of names of matrices or vectors with the same number of rows.
    """
    if not isinstance(side_by_side, Mapping):
        raise TypeError(f"side_by_side: expected a mapping of names to names, got {kind_of(side_by_side)}")
    unions: dict[str, tuple[int, ...]] = {}
    for union, names in side_by_side.items():
        if not isinstance(names, tuple) or not names or not all(shapes.get(name) for name in names):
            raise ValueError(f"side_by_side: {union!r}: expected a tuple of names with axes, got {names!r}")
        parts = [shapes[name] for name in names]
        if len({shape[:-1] for shape in parts}) != 1:
            raise ValueError(f"{', '.join(names)}: expected the same number of rows side by side, got {parts}")
        unions[union] = (*parts[0][:-1], sum(shape[-1] for shape in parts))
    together = {name for names in side_by_side.values() for name in names}
    return unions | {name: shape for name, shape in shapes.items() if name not in together}


def nested(params: Mapping[str, Array]) -> Nested:
    """Turn dotted names into nested dicts: {"encoder.0.norm_1.gamma": γ} → {"encoder": {"0": {"norm_1": …}}}.

    Of `Parameters`, the unions are in it too: an array that stands side by side with others is found in two places.
    """
    if isinstance(params, Parameters):
        return params._nested
    tree: Nested = {}
    for name, array in params.items():
        *path, leaf = name.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = array
    return tree


def dotted(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and value of each leaf: the inverse of `nested`. A leaf None is left out."""
    for key, value in tree.items():
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(value, Mapping):
            yield from dotted(value, name)
        elif value is not None:
            yield name, value


def added(gradients: Iterable[tuple[str, Array]]) -> dict[str, Array]:
    """Return names and gradients, those under one name added."""
    found: dict[str, Array] = {}
    for name, gradient in gradients:
        found[name] = found[name] + gradient if name in found else gradient
    return found
