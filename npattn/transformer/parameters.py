"""Parameters, or their gradients: named views of one flat buffer.

Whatever treats all parameters alike (Adam, the norm of the gradient, a sum over workers, a file) works on `.flat` in
one vector operation; whatever knows them by name reads a view. The layout follows llm.c.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from npattn._internal.checks import Array, check_dtype, check_room, check_size, is_array, kind_of

#: The parameters of a part of the model as nested dicts, by the words of their dotted names.
Nested: TypeAlias = dict[str, Any]


class Blocks(Mapping[str, Array]):
    """A mapping from names to views of a few contiguous arrays, its `blocks`, with fixed names and shapes.

    Most names have a block of their own. Matrices that read the same rows may stand `side_by_side` in one, given as
    {"W_QK": ("W_Q", "W_K")}: then one product serves them all, and their views are strided.
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


class Parameters(Blocks):
    """Blocks that lie behind one another in one flat array, `.flat`.

    `params[name] = value` copies into the view; it never replaces it, so that `.flat` and the views stay one. The value
    may have another dtype of real numbers, which are rounded, but must not leave the range of ours.

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
        check_unions(shapes, side_by_side or {})
        self._lay_out(shapes, check_dtype("dtype", dtype), side_by_side or {})

    def _lay_out(
        self, shapes: Mapping[str, tuple[int, ...]], dtype: Any, side_by_side: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.flat: Array = np.zeros(sum(map(math.prod, shapes.values())), dtype)
        blocks, start = {}, 0
        for name, shape in block_shapes(shapes, side_by_side).items():
            size = math.prod(shape)
            blocks[name] = self.flat[start : start + size].reshape(shape)
            start += size
        super().__init__(shapes, side_by_side, blocks)
        self._tree = _nest(self._views | blocks)

    def __setitem__(self, name: str, value: Array) -> None:
        view = self._views[name]
        if value is view:                                     # the last step of params[name] += …
            return
        if not is_array(value) or not np.can_cast(value.dtype, view.dtype, "same_kind"):
            raise TypeError(f"{name}: expected a NumPy array of real numbers, got {kind_of(value)}")
        if value.shape != view.shape:
            raise ValueError(f"{name}: expected {view.shape}, got {value.shape}")
        try:
            with np.errstate(over="raise"):
                view[...] = value.astype(view.dtype, copy=False)
        except FloatingPointError:
            raise ValueError(f"{name}: expected numbers that {view.dtype} can hold, got larger ones") from None

    def __repr__(self) -> str:
        return f"<Parameters: {self.flat.size:,} numbers of {self.flat.dtype} under {len(self)} names>"

    def like(self) -> Parameters:
        """Return zeros under the same names."""
        other = Parameters.__new__(Parameters)                # its shapes have been checked
        other._lay_out(self.shapes, self.flat.dtype, self.side_by_side)
        return other

    def copy(self) -> Parameters:
        """Return the same values in a buffer of their own."""
        other = self.like()
        other.flat[:] = self.flat
        return other

    # Views would be copied one by one, and cease to be views, when pickled or deep-copied.
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


def check_unions(shapes: Mapping[str, tuple[int, ...]], side_by_side: Mapping[str, tuple[str, ...]]) -> None:
    """Raise unless what is to stand side by side are names of matrices or vectors."""
    if not isinstance(side_by_side, Mapping):
        raise TypeError(f"side_by_side: expected a mapping of names to names, got {kind_of(side_by_side)}")
    for union, names in side_by_side.items():
        if not isinstance(names, tuple) or not names or not all(shapes.get(name) for name in names):
            raise ValueError(f"side_by_side: {union!r}: expected a tuple of names with axes, got {names!r}")


def block_shapes(
    shapes: Mapping[str, tuple[int, ...]], side_by_side: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each block by its name: what stands side by side first, then what stands alone."""
    blocks: dict[str, tuple[int, ...]] = {}
    for union, names in side_by_side.items():
        parts = [shapes[name] for name in names]
        if len({shape[:-1] for shape in parts}) != 1:
            raise ValueError(f"{', '.join(names)}: expected the same number of rows side by side, got {parts}")
        blocks[union] = (*parts[0][:-1], sum(shape[-1] for shape in parts))
    together = {name for names in side_by_side.values() for name in names}
    return blocks | {name: shape for name, shape in shapes.items() if name not in together}


def nested(params: Mapping[str, Array]) -> dict[str, Any]:
    """Turn dotted names into nested dicts: {"encoder.0.norm_1.gamma": γ} → {"encoder": {"0": {"norm_1": …}}}.

    Those that stand side by side are in it twice, also under the name of their union.
    """
    return params._tree if isinstance(params, Parameters) else _nest(params)


def _nest(params: Mapping[str, Array]) -> dict[str, Any]:
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
