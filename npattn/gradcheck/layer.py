"""Check a layer that is an object: it keeps its parameters, and after backward their gradients.

The object becomes a pair of functions. Forward makes a copy of the layer with other parameters, calls it, and returns
the copy as the cache. Backward calls the copy and collects the gradients by name. So the caller's object stays as it
is, and no call sees what another has left behind: dropout with a generator of its own keeps its mask.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck.trees import Tree, convert_floating, is_floating, ravel, unravel

#: How names of gradients follow from the name W of a parameter.
GRADIENT_NAMES = ("d{}", "d_{}", "grad_{}", "{}_grad", "grad{}", "{}grad", "g{}")
#: Attributes that hold all parameters, and those that hold all gradients.
CONTAINERS = (("params", "grads"), ("parameters", "gradients"), ("params", "gradients"), ("weights", "grads"))
#: The number and its gradient in an object that wraps one parameter.
WRAPPERS = (("data", "grad"), ("value", "grad"))

Step = tuple[Any, bool]  # an attribute and True, or a key or index and False
Path = tuple[Step, ...]  # to an array in a layer


class LayerFunctions:
    """The layer as a pair of functions of its inputs and parameters.

    - paths: the place of each parameter, and that of its gradient.
    - params, names: the parameters and their names.
    - left_over: what is in the place of each gradient before backward, by the name of the parameter.
    - notes: which gradients were found, and which arrays have none.
    """

    def __init__(self, layer: Any, inputs: Sequence[Tree]) -> None:
        self.layer, self.n_inputs = layer, len(inputs)
        used, held = copy.deepcopy(layer), dict(_arrays(layer))
        before = {path: (id(array), array.tobytes()) for path, array in _arrays(used)}
        y = self._call_forward(used, inputs)
        there = dict(_arrays(used))
        kept = {path for path, array in there.items() if before.get(path) == (id(array), array.tobytes())}
        left_over = {path: array.copy() for path, array in there.items()}
        used.backward(unravel(y, np.ones(ravel(y).size)))     # only to see where it puts the gradients
        shapes = {path: array.shape for path, array in _arrays(used)}
        found = {path: [g for g in _candidates(path) if shapes.get(g) == array.shape] for path, array in held.items()}
        gradients = {place for places in found.values() for place in places}
        params = [path for path in held if found[path] and path in kept and path not in gradients]
        first = {id(held[path]): path for path in reversed(params)}  # a parameter may be held under two names
        self.paths = {path: found[path][0] for path in params if path in first.values()}
        self.params = [held[path] for path in self.paths]
        self.names = [_shown(path) for path in self.paths]
        places = self.paths.values()
        self.left_over = {n: left_over[place] for n, place in zip(self.names, places, strict=True) if place in there}
        rest = [path for path, array in held.items() if path not in gradients and id(array) not in first]
        self.notes = [f"{n}: its gradient is {_shown(place)}" for n, place in zip(self.names, places, strict=True)]
        self.notes += [f"{_shown(path)}: not checked, no gradient of its name and shape was found" for path in rest]

    def forward(self, *arguments: Tree) -> tuple[Tree, Any]:
        """Run a copy of the layer with these inputs and parameters."""
        values = zip(self.params, arguments[self.n_inputs :], strict=True)
        used = copy.deepcopy(self.layer, {id(own): value.copy() for own, value in values})  # each in place of its own
        return self._call_forward(used, arguments[: self.n_inputs]), used

    def backward(self, dy: Tree, used: Any) -> tuple[Tree, ...]:
        """Return the gradients of the inputs and of the parameters."""
        with suppress(RecursionError):                        # of a chain of a thousand steps
            used = copy.deepcopy(used)
        returned = used.backward(dy)
        slots = returned if isinstance(returned, (tuple, list)) else (returned,)
        return (*slots, *(_get(used, path) for path in self.paths.values()))

    def _call_forward(self, used: Any, inputs: Sequence[Tree]) -> Tree:
        for name in ("zero_grad", "zero_grads"):
            if hasattr(used, name):
                getattr(used, name)()
        call = used.forward if hasattr(used, "forward") else used
        return call(*(convert_floating(tree, np.copy) for tree in inputs))


def check_is_layer(layer: Any) -> None:
    """Raise TypeError unless it is an object with forward and backward."""
    has_forward = callable(getattr(layer, "forward", None)) or callable(layer)
    if isinstance(layer, type) or not (has_forward and callable(getattr(layer, "backward", None))):
        got = f"the class {layer.__name__}" if isinstance(layer, type) else type(layer).__name__
        raise TypeError(f"layer: expected an object with forward(x) and backward(dy), got {got}")


def _arrays(layer: Any) -> list[tuple[Path, Array]]:
    """Return the floating arrays in the attributes of an object, also in lists, dicts and objects there."""
    found: list[tuple[Path, Array]] = []
    left: list[tuple[Path, Any, tuple[int, ...]]] = [((), layer, ())]
    while left:
        path, thing, above = left.pop()
        if is_floating(thing):
            found.append((path, thing))
        elif id(thing) not in above and not isinstance(thing, (np.ndarray, np.random.Generator, type)):
            left += [((*path, step), child, (*above, id(thing))) for step, child in reversed(_steps(thing))]
    return found


def _steps(thing: Any) -> list[tuple[Step, Any]]:
    if isinstance(thing, Mapping):
        return [((key, False), child) for key, child in thing.items()]
    if isinstance(thing, (list, tuple)):
        return [((i, False), child) for i, child in enumerate(thing)]
    return [((name, True), child) for name, child in getattr(thing, "__dict__", {}).items()]


def _candidates(path: Path) -> list[Path]:
    """Return where the gradient of the parameter at `path` may be."""
    *above, (name, is_attribute) = path
    names = [form.format(name) for form in GRADIENT_NAMES]
    found: list[Path] = [(*above, (gradient, is_attribute)) for own, gradient in WRAPPERS if own == name]
    found += [(*above, (each, is_attribute)) for each in names]
    for i, (container, kind) in enumerate(path):
        for params, grads in CONTAINERS:
            if str(container).lstrip("_") == params:
                *other, _ = place = (*path[:i], (container.replace(params, grads), kind), *path[i + 1 :])
                found += [place, *((*other, (each, is_attribute)) for each in names)]
    if above == [("params", True)]:
        found += [((each, True),) for each in names]
    return found


def _get(thing: Any, path: Path) -> Any:
    for name, is_attribute in path:
        thing = getattr(thing, name) if is_attribute else thing[name]
    return thing


def _shown(path: Path) -> str:
    return "".join(f".{name}" if is_attribute else f"[{name!r}]" for name, is_attribute in path).removeprefix(".")
