"""Which gradient belongs to which argument.

Backward returns one gradient for each argument that holds a floating array, in the order of the arguments. An
argument without one (integers, booleans, a scalar, None) has no slot, or a slot with None. The same rule holds
inside lists and tuples; mappings are matched by key. None for a floating array states that its gradient is zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck.trees import Tree, branches, floating_leaves, is_floating

Gradient: TypeAlias = Array | None
Named: TypeAlias = tuple[str, Tree]


class Misaligned(Exception):
    """The gradients do not have the structure of the arguments."""


def align(arguments: Sequence[Named], gradients: Tree) -> list[Gradient]:
    """Return the gradient of every floating leaf of the arguments, in the order of `floating_leaves`.

    >>> arguments = [("ids", np.array([0, 2, 0])), ("W_E", np.ones((3, 4)))]
    >>> dW_E = np.zeros((3, 4))
    >>> len(align(arguments, dW_E)), len(align(arguments, (None, dW_E)))
    (1, 1)
    >>> align(arguments, (dW_E, dW_E))
    Traceback (most recent call last):
    npattn.gradcheck.slots.Misaligned: backward: expected a gradient for W_E, got 2 slots
    """
    floating = [(name, tree) for name, tree in arguments if _is_differentiable(tree)]
    if len(floating) == 1 and isinstance(floating[0][1], (list, tuple)):
        try:  # a single gradient may come bare, and this one is a list or tuple itself
            return _align(*floating[0], gradients)
        except Misaligned:
            pass
    slots = gradients if isinstance(gradients, (list, tuple)) else (gradients,)
    return _align_slots("backward", arguments, slots)


def _align(name: str, tree: Tree, gradient: Tree) -> list[Gradient]:
    if gradient is None:
        return [None for _ in floating_leaves(tree)]
    if is_floating(tree):
        if not isinstance(gradient, (np.ndarray, np.generic, float)):
            raise Misaligned(f"gradient of {name}: expected an array, got {type(gradient).__name__}")
        return [np.asarray(gradient)]
    if isinstance(tree, Mapping):
        return _align_keys(name, tree, gradient)
    if not isinstance(gradient, (list, tuple)):
        raise Misaligned(f"gradient of {name}: expected a list or tuple, got {type(gradient).__name__}")
    children = [(name + suffix, child) for suffix, child in branches(tree)]
    return _align_slots(f"gradient of {name}", children, gradient)


def _align_keys(name: str, tree: Mapping[object, Tree], gradient: Tree) -> list[Gradient]:
    if not isinstance(gradient, Mapping):
        raise Misaligned(f"gradient of {name}: expected a mapping, got {type(gradient).__name__}")
    missing = [key for key, child in tree.items() if key not in gradient and _is_differentiable(child)]
    unknown = [key for key in gradient if gradient[key] is not None and not _is_differentiable(tree.get(key))]
    if missing or unknown:
        parts = [f"{word} {keys}" for word, keys in (("lacks", missing), ("has no use for", unknown)) if keys]
        raise Misaligned(f"gradient of {name}: {' and '.join(parts)}")
    aligned = [_align(f"{name}[{key!r}]", child, gradient.get(key)) for key, child in tree.items()]
    return [leaf for leaves in aligned for leaf in leaves]


def _align_slots(owner: str, children: Sequence[Named], slots: Sequence[Tree]) -> list[Gradient]:
    """A child without a floating array takes a slot only if that holds None and there are slots to spare."""
    required = [name for name, child in children if _is_differentiable(child)]
    spare = len(slots) - len(required)
    queue = list(reversed(slots))
    aligned: list[Gradient] = []
    for name, child in children if spare >= 0 else ():
        if _is_differentiable(child):
            aligned += _align(name, child, queue.pop())
        elif spare > 0 and queue[-1] is None:
            queue.pop()
            spare -= 1
    if spare < 0 or any(slot is not None for slot in queue):  # Nones left over stand for defaults
        count = f"{len(slots)} slot{'s' * (len(slots) != 1)}"
        raise Misaligned(f"{owner}: expected a gradient for {', '.join(required)}, got {count}{_aside(children)}")
    return aligned


def _aside(children: Sequence[Named]) -> str:
    scalars = [name for name, child in children if isinstance(child, float)]
    return f"; {', '.join(scalars)}: a Python scalar is not differentiated, an np.array of it is" if scalars else ""


def _is_differentiable(tree: Tree) -> bool:
    return next(floating_leaves(tree), None) is not None
