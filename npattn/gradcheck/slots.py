"""Match the gradients that backward returns with the arguments of forward.

Backward returns one gradient for each argument that holds a floating array, in the order of the arguments. The place of
a gradient in the returned tuple is its slot. An argument without a floating array (integers, booleans, a scalar, None)
has no slot, or a slot with None. The same rule holds inside lists and tuples. Mappings are matched by key. None for a
floating array states that its gradient is zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck.trees import Tree, branches, is_floating

Gradient: TypeAlias = Array | None
REAL = "fiub"  # kinds of dtypes that can be compared with slopes; all but "f" have the verdict "dtype"


class Misaligned(Exception):
    """The gradients do not have the structure of the arguments, or they are no real numbers."""


@dataclass
class Argument:
    """An argument or a part of one, with its name and the number of floating arrays in it."""

    name: str
    tree: Tree
    children: list[Argument] = field(default_factory=list)
    n_floating: int = 0


Match: TypeAlias = tuple[Argument, Tree]  # with its gradient


def argument(name: str, tree: Tree) -> Argument:
    """Return an argument with all its parts."""
    parts = [Argument(name, tree)]
    for part in parts:                                        # the list grows while the loop goes down the levels
        part.children = [Argument(part.name + suffix, child) for suffix, child in branches(part.tree)]
        parts += part.children
    for part in reversed(parts):
        part.n_floating = is_floating(part.tree) + sum(child.n_floating for child in part.children)
    return parts[0]


def align(arguments: Sequence[Argument], gradients: Tree) -> list[Gradient]:
    """Return the gradient of every floating leaf of the arguments, in the order of `floating_leaves`.

    >>> arguments = [argument("ids", np.array([0, 2, 0])), argument("W_E", np.ones((3, 4)))]
    >>> dW_E = np.zeros((3, 4))
    >>> len(align(arguments, dW_E)), len(align(arguments, (None, dW_E)))
    (1, 1)
    >>> align(arguments, (dW_E, dW_E))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    npattn.gradcheck.slots.Misaligned: backward: expected a gradient for W_E, got 2 slots; ids (int64) is not...
    """
    floating = [each for each in arguments if each.n_floating]
    if len(floating) == 1 and isinstance(floating[0].tree, (list, tuple)):
        with suppress(Misaligned):  # a single gradient may come without a tuple around it, and this one is itself one
            return _aligned([(floating[0], gradients)])
    slots = gradients if isinstance(gradients, (list, tuple)) else (gradients,)
    return _aligned(_by_slot("backward", arguments, slots))


def _aligned(matches: Sequence[Match]) -> list[Gradient]:
    """Return the gradient of every floating leaf. A loop goes down the levels: recursion ends after some hundred."""
    aligned, left = list[Gradient](), [*reversed(matches)]
    while left:
        part, gradient = left.pop()
        if gradient is None:
            aligned += [None] * part.n_floating
        elif not is_floating(part.tree):
            left += reversed(_matches(part, gradient))
        elif isinstance(gradient, (np.ndarray, np.generic, float)):
            array = np.asarray(gradient)
            if array.dtype.kind not in REAL:
                raise Misaligned(f"gradient of {part.name}: expected real numbers, got {array.dtype}")
            aligned.append(array)
        else:
            raise Misaligned(f"gradient of {part.name}: expected an array, got {type(gradient).__name__}")
    return aligned


def _matches(part: Argument, gradient: Tree) -> list[Match]:
    """Match the children of a container with the gradients in `gradient`."""
    if isinstance(part.tree, Mapping):
        return _by_key(part, dict(zip(part.tree, part.children, strict=True)), gradient)
    if dataclasses.is_dataclass(part.tree) and (dataclasses.is_dataclass(gradient) or isinstance(gradient, Mapping)):
        fields: dict[object, Argument] = {child.name[len(part.name) + 1 :]: child for child in part.children}
        given = gradient if isinstance(gradient, Mapping) else {k[1:]: child for k, child in branches(gradient)}
        given = {key: child for key, child in given.items() if key in fields and fields[key].n_floating}
        return _by_key(part, fields, given)
    if not isinstance(gradient, (list, tuple)):
        raise Misaligned(f"gradient of {part.name}: expected a list or tuple, got {type(gradient).__name__}")
    return _by_slot(f"gradient of {part.name}", part.children, gradient)


def _by_key(part: Argument, children: Mapping[object, Argument], gradient: Tree) -> list[Match]:
    if not isinstance(gradient, Mapping):
        raise Misaligned(f"gradient of {part.name}: expected a mapping, got {type(gradient).__name__}")
    floating = [key for key, child in children.items() if child.n_floating]
    missing = [key for key in floating if key not in gradient]
    unknown = [key for key in gradient if gradient[key] is not None and key not in floating]
    if missing or unknown:
        parts = [f"{word} {keys}" for word, keys in (("lacks", missing), ("has unexpected", unknown)) if keys]
        raise Misaligned(f"gradient of {part.name}: {' and '.join(parts)}")
    return [(child, gradient.get(key)) for key, child in children.items()]


def _by_slot(owner: str, children: Sequence[Argument], slots: Sequence[Tree]) -> list[Match]:
    """Match slots with children in order.

    A child without a floating array takes a slot only if that holds None and there are more slots than gradients.
    """
    required = [child.name for child in children if child.n_floating]
    spare = len(slots) - len(required)
    queue = list(reversed(slots))
    matches: list[Match] = []
    for child in children if spare >= 0 else ():
        if child.n_floating:
            matches.append((child, queue.pop()))
        elif spare > 0 and queue[-1] is None:
            queue.pop()
            spare -= 1
    if spare < 0 or any(slot is not None for slot in queue):  # a None left over stands for an argument not passed
        count = f"{len(slots)} slot{'s' * (len(slots) != 1)}"
        raise Misaligned(f"{owner}: expected a gradient for {', '.join(required)}, got {count}{_scalars(children)}")
    return matches


def _scalars(children: Sequence[Argument]) -> str:
    """Return the part of the message about what is not differentiated: its gradient is often returned by mistake."""
    scalars = [child.name for child in children if isinstance(child.tree, float)]
    text = f"; {', '.join(scalars)}: a Python scalar is not differentiated, an np.array of it is" if scalars else ""
    arrays = [(child.name, child.tree) for child in children if not child.n_floating]
    return text + "".join(
        f"; {name} ({array.dtype}) is not differentiated" for name, array in arrays if isinstance(array, np.ndarray)
    )
