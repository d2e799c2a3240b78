"""The contents of an object: whether a call changed them, and whether an array returned by a call is one of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from types import FunctionType, ModuleType

import numpy as np

from npattn.gradcheck.foreign import is_foreign, to_numpy
from npattn.gradcheck.trees import Tree, branches

SCALARS = (bool, int, float, complex, str, bytes, np.generic, type(None))
LONG_NAME = 80
OPAQUE = (type, FunctionType, ModuleType)  # their attributes are not part of a cache


def walk(tree: Tree, name: str) -> Iterator[tuple[str, Tree]]:
    """Yield all leaves below `tree` with their names, through containers and the attributes of objects.

    A container is entered once, so one that holds itself ends the walk. The walk keeps a list of what is left: a cache
    may be a chain of thousands of steps, which is too deep for recursion.
    """
    left, entered = [(name, tree)], dict[int, Tree]()
    while left:
        name, tree = left.pop()
        is_leaf = isinstance(tree, (np.ndarray, *SCALARS, *OPAQUE)) or is_foreign(tree) or id(tree) in entered
        children = [] if is_leaf else branches(tree) or _attributes(tree)
        if not children:
            yield name, tree
            continue
        entered[id(tree)] = tree
        if len(name) > LONG_NAME:                             # the number keeps the name unique
            name = f"{name[:LONG_NAME // 2]}…{len(entered)}"
        left += [(name + suffix, child) for suffix, child in reversed(children)]


def fingerprint(held: Mapping[str, Tree]) -> dict[str, Hashable]:
    """Return the bytes of every array and the text of every scalar, by name."""
    return {name: bits_of(leaf) for key, tree in held.items() for name, leaf in walk(tree, key)}


def changes(before: Mapping[str, Hashable], held: Mapping[str, Tree]) -> list[str]:
    """Return the names of leaves that are new, removed or different since the fingerprint `before`."""
    now = fingerprint(held)
    return [n for n in {**before, **now} if n not in before or n not in now or before[n] != now[n]]


def bits_of(leaf: Tree) -> Hashable:
    """Return a value that is equal for two leaves with the same bits."""
    if is_foreign(leaf):
        leaf = to_numpy(leaf)
    if isinstance(leaf, np.ndarray):
        return leaf.dtype.str, leaf.shape, leaf.tobytes()
    return repr(leaf) if isinstance(leaf, SCALARS) else type(leaf).__name__


def overlaps(one: Tree, other: Tree) -> bool:
    """Whether two arrays share a number in memory; False when the search takes more than 10,000 steps."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and np.may_share_memory(one, other):
        with suppress(np.exceptions.TooHardError):
            return np.shares_memory(one, other, max_work=10_000)  # type: ignore[arg-type]  # any integer is allowed
    return False


def _attributes(thing: object) -> list[tuple[str, Tree]]:
    slots = getattr(type(thing), "__slots__", ())
    names = [*getattr(thing, "__dict__", ()), *((slots,) if isinstance(slots, str) else slots)]
    found = []
    for name in names:
        with suppress(Exception):                             # a slot may be empty, or a descriptor that cannot be read
            found.append((f".{name}", getattr(thing, name)))
    return found
