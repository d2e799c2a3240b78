"""Match the gradients that backward returns with the arguments of forward.

Backward returns one gradient for each argument that holds a floating array, in the order of the arguments. The place of
a gradient in the returned tuple is its slot. An argument without a floating array (integers, booleans, a scalar, None)
has no slot, or a slot with None. The same rule holds inside lists and tuples. Mappings are matched by key. None for a
floating array states that its gradient is zero.
"""

from __future__ import annotations

import dataclasses
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
    >>> align(arguments, (dW_E, dW_E))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    npattn.gradcheck.slots.Misaligned: backward: expected a gradient for W_E, got 2 slots; ids (int64) is not...
    """
    floating = [(name, tree) for name, tree in arguments if _is_differentiable(tree)]
    if len(floating) == 1 and isinstance(floating[0][1], (list, tuple)):
        try:  # a single gradient may come without a tuple around it, and this one is itself a list or tuple
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
    if dataclasses.is_dataclass(tree) and (dataclasses.is_dataclass(gradient) or isinstance(gradient, Mapping)):
        fields: dict[object, Tree] = {suffix[1:]: child for suffix, child in branches(tree)}
        given = gradient if isinstance(gradient, Mapping) else {k[1:]: child for k, child in branches(gradient)}
        given = {key: child for key, child in given.items() if _is_differentiable(fields.get(key))}
        return _align_keys(name, fields, given)
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
        parts = [f"{word} {keys}" for word, keys in (("lacks", missing), ("has unexpected", unknown)) if keys]
        raise Misaligned(f"gradient of {name}: {' and '.join(parts)}")
    return [leaf for key, child in tree.items() for leaf in _align(f"{name}[{key!r}]", child, gradient.get(key))]


def _align_slots(owner: str, children: Sequence[Named], slots: Sequence[Tree]) -> list[Gradient]:
    """Match slots with children in order.

    A child without a floating array takes a slot only if that holds None and there are more slots than gradients.
    """
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
    if spare < 0 or any(slot is not None for slot in queue):  # a None left over stands for an argument not passed
        count = f"{len(slots)} slot{'s' * (len(slots) != 1)}"
        raise Misaligned(f"{owner}: expected a gradient for {', '.join(required)}, got {count}{_scalars(children)}")
    return aligned


def _scalars(children: Sequence[Named]) -> str:
    """Return the part of the message about what is not differentiated: its gradient is often returned by mistake."""
    scalars = [name for name, child in children if isinstance(child, float)]
    text = f"; {', '.join(scalars)}: a Python scalar is not differentiated, an np.array of it is" if scalars else ""
    arrays = [(n, a) for n, a in children if isinstance(a, np.ndarray) and not _is_differentiable(a)]
    return text + "".join(f"; {name} ({array.dtype}) is not differentiated" for name, array in arrays)


def _is_differentiable(tree: Tree) -> bool:
    return next(floating_leaves(tree), None) is not None
