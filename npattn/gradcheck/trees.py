"""Nested arguments, outputs and caches as lists of named leaves.

A tree is a mapping, NamedTuple, dataclass, list or tuple of trees. Anything else is a leaf. The name of a leaf is the
Python expression for it: ``params['W']``, ``layers[0].gamma``.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, TypeGuard

import numpy as np

from npattn._internal.checks import Array

Tree: TypeAlias = Any


def is_floating(tree: Tree) -> TypeGuard[Array]:
    """Whether a leaf is differentiated: only floating arrays are."""
    return isinstance(tree, np.ndarray) and tree.dtype.kind == "f"


def branches(tree: Tree) -> list[tuple[str, Tree]]:
    """Return the children, each with its suffix in names: ``['W']``, ``.gamma``, ``[0]``."""
    if isinstance(tree, Mapping):
        return [(f"[{key!r}]", child) for key, child in tree.items()]
    if _is_named_tuple(tree):
        return [(f".{field}", child) for field, child in zip(tree._fields, tree, strict=True)]
    if isinstance(tree, (list, tuple)):
        return [(f"[{i}]", child) for i, child in enumerate(tree)]
    names = [field.name for field in dataclasses.fields(tree)] if _is_dataclass(tree) else []
    return [(f".{name}", getattr(tree, name)) for name in names if hasattr(tree, name)]


def floating_leaves(tree: Tree, name: str = "") -> Iterator[tuple[str, Array]]:
    """Yield every floating array with its name, in the order that `fill` uses."""
    if is_floating(tree):
        yield name, tree
    for suffix, child in branches(tree):
        yield from floating_leaves(child, name + suffix)


def holds_unreached_numbers(tree: Tree) -> bool:
    """Whether a tree holds a Python float, or an object with floating arrays: neither is differentiated."""
    children = [child for _, child in branches(tree)]
    if children or isinstance(tree, (float, np.ndarray)):
        return isinstance(tree, float) or any(map(holds_unreached_numbers, children))
    return not callable(tree) and any(map(is_floating, getattr(tree, "__dict__", {}).values()))


def fill(tree: Tree, arrays: Iterator[Array]) -> Tree:
    """Return a tree like this one, with its floating arrays replaced in order. Every mapping becomes a dict."""
    return next(arrays) if is_floating(tree) else rebuild(tree, lambda child: fill(child, arrays))


def rebuild(tree: Tree, convert: Callable[[Tree], Tree]) -> Tree:
    """Return a container like `tree` with `convert` applied to each child. Return a leaf unchanged."""
    if isinstance(tree, Mapping):
        return {key: convert(child) for key, child in tree.items()}
    if _is_named_tuple(tree):
        return type(tree)(*map(convert, tree))
    if isinstance(tree, (list, tuple)):
        children = [convert(child) for child in tree]
        return children if isinstance(tree, list) else tuple(children)
    if _is_dataclass(tree):
        made = copy.copy(tree)
        for suffix, child in branches(tree):
            object.__setattr__(made, suffix[1:], convert(child))  # a frozen one refuses setattr
        return made
    return tree


def numbers(output: Tree) -> list[Tree]:
    """Return the numeric leaves of an output: floating or complex arrays and scalars."""
    if _is_number(output):
        return [output]
    return [leaf for _, child in branches(output) for leaf in numbers(child)]


def ravel(output: Tree) -> Array:
    """Return all numbers of an output in one vector, which is a copy."""
    return np.concatenate([np.empty(0), *map(np.ravel, numbers(output))])


def unravel(output: Tree, vector: Array) -> Tree:
    """Return the numbers of `vector` in the structure, shapes and dtypes of `output`, and None for its other leaves."""
    ends = np.cumsum([np.size(leaf) for leaf in numbers(output)])
    pieces = iter(np.split(vector, ends[:-1]))

    def like(tree: Tree) -> Tree:
        if not _is_number(tree):
            return rebuild(tree, like) if branches(tree) else None
        piece = next(pieces)
        if isinstance(tree, np.ndarray):
            return piece.reshape(tree.shape).astype(tree.dtype)
        return type(tree)(piece[0])

    return like(output)


def _is_number(leaf: Tree) -> bool:
    if isinstance(leaf, (np.ndarray, np.generic)):
        return leaf.dtype.kind in "fc"
    return isinstance(leaf, (float, complex))


def _is_dataclass(tree: Tree) -> bool:
    return dataclasses.is_dataclass(tree) and not isinstance(tree, type)


def _is_named_tuple(tree: Tree) -> bool:
    return isinstance(tree, tuple) and hasattr(tree, "_fields")
