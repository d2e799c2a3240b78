"""Nested arguments, outputs and caches as lists of named leaves.

A tree is a mapping, NamedTuple, dataclass, list or tuple of trees. Anything else is a leaf. The name of a leaf is the
Python expression for it: ``params['W']``, ``layers[0].gamma``. Trees are walked in loops, because recursion ends after
some hundred levels.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, TypeGuard

import numpy as np

from npattn._internal.checks import Array

Tree: TypeAlias = Any
DEEPEST = 10_000  # a container that holds itself has no end


def is_floating(tree: Tree) -> TypeGuard[Array]:
    """Whether a leaf is differentiated: only floating arrays are."""
    return isinstance(tree, np.ndarray) and tree.dtype.kind == "f"


def branches(tree: Tree) -> list[tuple[str, Tree]]:
    """Return the children, each with its suffix in names: ``['W']``, ``.gamma``, ``[0]``."""
    if isinstance(tree, np.ndarray):
        return []
    if isinstance(tree, Mapping):
        return [(f"[{key!r}]", child) for key, child in tree.items()]
    if _is_named_tuple(tree):
        return [(f".{field}", child) for field, child in zip(tree._fields, tree, strict=True)]
    if isinstance(tree, (list, tuple)):
        return [(f"[{i}]", child) for i, child in enumerate(tree)]
    names = [field.name for field in dataclasses.fields(tree)] if _is_dataclass(tree) else []
    return [(f".{name}", getattr(tree, name)) for name in names if hasattr(tree, name)]


def leaves(tree: Tree, name: str = "") -> Iterator[tuple[str, Tree]]:
    """Yield every leaf with its name. Raise ValueError if a container holds itself."""
    left = [(name, tree, 0)]
    while left:
        name, tree, depth = left.pop()
        children = branches(tree)
        if depth == DEEPEST:
            raise ValueError(f"expected at most {DEEPEST:,} levels of containers: does one hold itself?")
        left += [(name + suffix, child, depth + 1) for suffix, child in reversed(children)]
        if not children:
            yield name, tree


def floating_leaves(tree: Tree, name: str = "") -> Iterator[tuple[str, Array]]:
    """Yield every floating array with its name."""
    return ((name, leaf) for name, leaf in leaves(tree, name) if is_floating(leaf))


def convert(tree: Tree, change: Callable[[Tree], Tree]) -> Tree:
    """Return a tree like this one with `change` applied to each leaf in order. Every mapping becomes a dict."""
    done, left = list[Tree](), [(tree, branches(tree), False)]
    while left:
        node, children, are_done = left.pop()
        if isinstance(node, np.ndarray):
            done.append(change(node))
        elif children and not are_done:
            left.append((node, children, True))
            left += [(child, branches(child), False) for _, child in reversed(children)]
        else:
            first = len(done) - len(children)
            made = _rebuilt(node, done[first:])
            done[first:] = [made if children else change(made)]
    return done[0]


def convert_floating(tree: Tree, change: Callable[[Array], Array]) -> Tree:
    """Return a tree like this one with `change` applied to each floating array in order."""
    return convert(tree, lambda leaf: change(leaf) if is_floating(leaf) else leaf)


def holds_unreached_numbers(tree: Tree) -> bool:
    """Whether a tree holds a Python float, or an object with floating arrays: neither is differentiated."""
    return any(isinstance(leaf, float) or any(map(is_floating, _attributes(leaf))) for _, leaf in leaves(tree))


def numbers(output: Tree) -> list[Tree]:
    """Return the numeric leaves of an output: floating or complex arrays and scalars."""
    return [output] if _is_number(output) else [leaf for _, leaf in leaves(output) if _is_number(leaf)]


def ravel(output: Tree) -> Array:
    """Return all numbers of an output in one vector, which is a copy."""
    return np.concatenate([np.empty(0), *map(np.ravel, numbers(output))])


def unravel(output: Tree, vector: Array) -> Tree:
    """Return the numbers of `vector` in the structure, shapes and dtypes of `output`, and None for its other leaves."""
    ends = np.cumsum([np.size(leaf) for leaf in numbers(output)])
    pieces = iter(np.split(vector, ends[:-1]))

    def like(leaf: Tree) -> Tree:
        if not _is_number(leaf):
            return None
        piece = next(pieces)
        if isinstance(leaf, np.ndarray):
            return piece.reshape(leaf.shape).astype(leaf.dtype)
        return type(leaf)(piece[0])

    return convert(output, like)


def _rebuilt(tree: Tree, children: list[Tree]) -> Tree:
    """Return a container like `tree` that holds `children`. Return a leaf unchanged."""
    if isinstance(tree, Mapping):
        return dict(zip(tree, children, strict=True))
    if _is_named_tuple(tree):
        return type(tree)(*children)
    if isinstance(tree, (list, tuple)):
        return children if isinstance(tree, list) else tuple(children)
    if _is_dataclass(tree):
        made = copy.copy(tree)
        for (suffix, _), child in zip(branches(tree), children, strict=True):
            object.__setattr__(made, suffix[1:], child)       # a frozen one refuses setattr
        return made
    return tree


def _attributes(leaf: Tree) -> list[Tree]:
    return [] if callable(leaf) else list(getattr(leaf, "__dict__", {}).values())


def _is_number(leaf: Tree) -> bool:
    if isinstance(leaf, (np.ndarray, np.generic)):
        return leaf.dtype.kind in "fc"
    return isinstance(leaf, (float, complex))


def _is_dataclass(tree: Tree) -> bool:
    return dataclasses.is_dataclass(tree) and not isinstance(tree, type)


def _is_named_tuple(tree: Tree) -> bool:
    return isinstance(tree, tuple) and hasattr(tree, "_fields")
