"""Arrays of PyTorch and JAX, for code that works on them: the checker computes with NumPy and converts at the door.

Neither package is imported here: a tensor that the caller passed has brought its package along.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from npattn.gradcheck.trees import Tree, convert, leaves

PACKAGES = ("torch", "jax", "jaxlib")


def is_foreign(leaf: Tree) -> bool:
    """Whether a leaf is an array of another package."""
    return type(leaf).__module__.partition(".")[0] in PACKAGES and hasattr(leaf, "__array__") and hasattr(leaf, "dtype")


def holds_foreign(tree: Tree) -> bool:
    return any(is_foreign(leaf) for _, leaf in leaves(tree))


def to_numpy(tree: Tree) -> Tree:
    """Return the tree with NumPy arrays in place of foreign ones."""
    return convert(tree, _array_of)


def wrapped(
    forward: Callable[..., Any], backward: Callable[..., Any], args: Sequence[Tree], kwargs: Mapping[str, Tree]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the pair as functions of NumPy arrays. They pass foreign arrays where the arguments hold some."""
    sample: list[Tree] = []                                   # the output of the last forward, for the kind of dy

    def wrapped_forward(*arrays: Tree, **keywords: Tree) -> Any:
        given = [_like(array, tree) for array, tree in zip(arrays, args, strict=True)]
        result = forward(*given, **{key: _like(array, kwargs[key]) for key, array in keywords.items()})
        if not isinstance(result, tuple) or len(result) != 2:
            return result
        sample[:] = [result[0]]
        return to_numpy(result[0]), result[1]

    def wrapped_backward(dy: Tree, cache: Any) -> Any:
        return to_numpy(backward(_like(dy, sample[0]), cache))

    return wrapped_forward, wrapped_backward


def _array_of(leaf: Tree) -> Tree:
    if not is_foreign(leaf):
        return leaf
    return np.array(leaf.detach().cpu() if hasattr(leaf, "detach") else leaf)


def _like(tree: Tree, template: Tree) -> Tree:
    """Return the NumPy arrays of `tree` as foreign arrays where `template` has them."""
    kinds = (leaf for _, leaf in leaves(template))

    def of_its_kind(leaf: Tree) -> Tree:
        kind = next(kinds)
        if leaf is None or not is_foreign(kind):
            return leaf
        if type(kind).__module__.startswith("torch"):
            return sys.modules["torch"].from_numpy(np.array(leaf))
        return sys.modules["jax"].numpy.asarray(leaf)

    return convert(tree, of_its_kind)
