"""Arrays of PyTorch and JAX, for code that works on them: the checker computes with NumPy and converts at the door.

Neither package is imported here: a tensor that the caller passed has brought its package along.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from npattn.gradcheck.trees import Tree, branches, rebuild

PACKAGES = ("torch", "jax", "jaxlib")


def is_foreign(leaf: Tree) -> bool:
    """Whether a leaf is an array of another package."""
    return type(leaf).__module__.partition(".")[0] in PACKAGES and hasattr(leaf, "__array__") and hasattr(leaf, "dtype")


def holds_foreign(tree: Tree) -> bool:
    return is_foreign(tree) or any(holds_foreign(child) for _, child in branches(tree))


def to_numpy(tree: Tree) -> Tree:
    """Return the tree with NumPy arrays in place of foreign ones."""
    if is_foreign(tree):
        detached = tree.detach().cpu() if hasattr(tree, "detach") else tree
        return np.array(detached)
    return rebuild(tree, to_numpy) if branches(tree) else tree


def wrapped(
    forward: Callable[..., Any], backward: Callable[..., Any], args: Sequence[Tree], kwargs: Mapping[str, Tree]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the pair as functions of NumPy arrays. They pass foreign arrays where the arguments hold some."""
    template = next(leaf for tree in (*args, *kwargs.values()) for leaf in _foreign_leaves(tree))
    sample: list[Tree] = []                                   # the output of the last forward, for the kind of dy

    def wrapped_forward(*arrays: Tree, **keywords: Tree) -> Any:
        given = [_like(array, tree) for array, tree in zip(arrays, args, strict=True)]
        result = forward(*given, **{key: _like(array, kwargs[key]) for key, array in keywords.items()})
        if not isinstance(result, tuple) or len(result) != 2:
            return result
        sample[:] = [result[0]]
        return to_numpy(result[0]), result[1]

    def wrapped_backward(dy: Tree, cache: Any) -> Any:
        return to_numpy(backward(_like(dy, sample[0] if holds_foreign(sample[0]) else dy), cache))

    for wrapper, function in ((wrapped_forward, forward), (wrapped_backward, backward)):
        wrapper.__dict__["__wrapped__"] = function            # its signature names the arguments
        wrapper.__qualname__ = getattr(function, "__qualname__", type(function).__name__)
        wrapper.__module__ = getattr(function, "__module__", None) or type(template).__module__
    return wrapped_forward, wrapped_backward


def _foreign_leaves(tree: Tree) -> list[Tree]:
    return [tree] if is_foreign(tree) else [leaf for _, child in branches(tree) for leaf in _foreign_leaves(child)]


def _like(tree: Tree, template: Tree) -> Tree:
    """Return the NumPy arrays of `tree` as foreign arrays where `template` has them."""
    if is_foreign(template):
        if type(template).__module__.startswith("torch"):
            return sys.modules["torch"].from_numpy(np.array(tree))
        return sys.modules["jax"].numpy.asarray(tree)
    children = iter([child for _, child in branches(template)])
    return rebuild(tree, lambda child: _like(child, next(children))) if branches(template) else tree
