"""What an object holds, to tell whether a call has written into it or returned a part of it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from types import FunctionType, ModuleType

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck.trees import Tree, branches

SCALARS = (bool, int, float, complex, str, bytes, np.generic, type(None))
OPAQUE = (type, FunctionType, ModuleType)  # what hangs on these belongs to nobody's cache


def walk(thing: Tree, name: str, above: tuple[int, ...] = ()) -> Iterator[tuple[str, Tree]]:
    """Yield all leaves below `thing` with their names, through containers and the attributes of objects."""
    is_leaf = isinstance(thing, (np.ndarray, *SCALARS, *OPAQUE)) or id(thing) in above
    children = [] if is_leaf else branches(thing) or _attributes(thing)
    for suffix, child in children:
        yield from walk(child, name + suffix, (*above, id(thing)))
    if not children:
        yield name, thing


def fingerprint(held: Mapping[str, Tree]) -> dict[str, Hashable]:
    """Return the bytes of every array and the text of every scalar, by name."""
    return {name: _bits(leaf) for key, thing in held.items() for name, leaf in walk(thing, key)}


def changes(before: Mapping[str, Hashable], held: Mapping[str, Tree]) -> list[str]:
    """Return the names that are new, gone or different since `before` was taken."""
    now = fingerprint(held)
    return [n for n in {**before, **now} if n not in before or n not in now or before[n] != now[n]]


def same_bits(one: Array | None, other: Array | None) -> bool:
    return _bits(one) == _bits(other)


def overlaps(one: Tree, other: Tree) -> bool:
    """Say whether two arrays share a number in memory; where that is too hard to tell, they do not."""
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
        return False
    if not np.may_share_memory(one, other):  # only compares bounds, and is fast
        return False
    try:
        return np.shares_memory(one, other, max_work=10_000)  # type: ignore[arg-type]  # any number will do
    except np.exceptions.TooHardError:
        return False


def _attributes(thing: object) -> list[tuple[str, Tree]]:
    slots = getattr(type(thing), "__slots__", ())
    names = [*getattr(thing, "__dict__", ()), *((slots,) if isinstance(slots, str) else slots)]
    return [(f".{name}", getattr(thing, name)) for name in names if hasattr(thing, name)]


def _bits(leaf: Tree) -> Hashable:
    if isinstance(leaf, np.ndarray):
        return leaf.dtype.str, leaf.shape, leaf.tobytes()
    return repr(leaf) if isinstance(leaf, SCALARS) else type(leaf).__name__
