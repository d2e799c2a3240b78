"""Check a layer that is an object: it keeps its parameters, and after backward their gradients.

The object becomes a pair of functions. Forward sets the parameters on a copy of the layer, calls it, and returns the
copy as the cache. Backward calls the copy and collects the gradients by name. So the caller's object stays as it is.
No call sees what another has left behind: gradients may be added up, and dropout with a generator of its own keeps its
mask.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck.trees import Tree, fill, floating_leaves, is_floating, ravel, unravel

#: How names of gradients follow from the name W of a parameter.
GRADIENT_NAMES = ("d{}", "d_{}", "grad_{}", "{}_grad", "grad{}", "{}grad", "g{}")
#: Attributes that hold all parameters, and those that hold all gradients.
CONTAINERS = (("params", "grads"), ("parameters", "gradients"), ("params", "gradients"), ("weights", "grads"))
#: The number and its gradient in an object that wraps one parameter.
WRAPPERS = (("data", "grad"), ("value", "grad"))

Path = tuple[tuple[str, str | int], ...]  # steps to an array in a layer: ("attribute", "W") or ("item", 0)


class LayerFunctions:
    """The layer as a pair of functions of its inputs and parameters. `paths` has the places of each gradient."""

    def __init__(self, layer: Any, inputs: Sequence[Tree]) -> None:
        self.layer, self.n_inputs = layer, len(inputs)
        used = copy.deepcopy(layer)
        held = dict(_arrays(used))
        before = {path: (id(array), array.tobytes()) for path, array in held.items()}
        y = self._call_forward(used, inputs)
        kept = {path for path, a in _arrays(used) if before.get(path) == (id(a), a.tobytes())}
        used.backward(_random_like(y))
        at_end = dict(_arrays(used))
        shapes = {path: array.shape for path, array in at_end.items()}
        found = {path: [g for g in _candidates(path) if shapes.get(g) == held[path].shape] for path in held}
        gradients = {path for places in found.values() for path in places}
        self.paths: dict[Path, Path] = {}
        arrays = set[int]()                                   # a parameter may be held under two names
        for path in held:
            if found[path] and path in kept and path not in gradients and id(held[path]) not in arrays:
                self.paths[path] = found[path][0]
                arrays.add(id(held[path]))
        self.params = [held[path].copy() for path in self.paths]
        self.names = [_shown(path) for path in self.paths]
        rest = [path for path, array in held.items() if path not in gradients and id(array) not in arrays]
        places = zip(self.names, map(_shown, self.paths.values()), strict=True)
        self.notes = [f"{name}: its gradient is {place}" for name, place in places]
        self.notes += [f"{_shown(path)}: not checked, no gradient of its name and shape was found" for path in rest]

    def forward(self, *arguments: Tree) -> tuple[Tree, Any]:
        """Run a copy of the layer with these inputs and parameters."""
        used = copy.deepcopy(self.layer)
        for path, value in zip(self.paths, arguments[self.n_inputs :], strict=True):
            _set(used, path, value.copy())
        return self._call_forward(used, arguments[: self.n_inputs]), used

    def backward(self, dy: Tree, used: Any) -> tuple[Tree, ...]:
        """Return the gradients of the inputs and of the parameters."""
        used = copy.deepcopy(used)
        returned = used.backward(dy)
        slots = returned if isinstance(returned, (tuple, list)) else (returned,)
        return (*slots, *(_get(used, path) for path in self.paths.values()))

    def _call_forward(self, used: Any, inputs: Sequence[Tree]) -> Tree:
        for name in ("zero_grad", "zero_grads"):
            if hasattr(used, name):
                getattr(used, name)()
        return (used.forward if hasattr(used, "forward") else used)(*_copied(inputs))


def check_is_layer(layer: Any) -> None:
    """Raise TypeError unless it is an object with forward and backward."""
    has_forward = callable(getattr(layer, "forward", None)) or callable(layer)
    if isinstance(layer, type) or not (has_forward and callable(getattr(layer, "backward", None))):
        got = f"the class {layer.__name__}" if isinstance(layer, type) else type(layer).__name__
        raise TypeError(f"layer: expected an object with forward(x) and backward(dy), got {got}")


def _random_like(y: Tree) -> Tree:
    """Return a first cotangent; what backward returns for it is not compared."""
    return unravel(y, np.random.default_rng(0).standard_normal(ravel(y).size))


def _copied(inputs: Sequence[Tree]) -> list[Tree]:
    return [fill(tree, (leaf.copy() for _, leaf in floating_leaves(tree))) for tree in inputs]


def _arrays(thing: Any, path: Path = (), seen: tuple[int, ...] = ()) -> list[tuple[Path, Array]]:
    """Return the floating arrays in the attributes of an object, also in lists, dicts and objects there."""
    if is_floating(thing):
        return [(path, thing)]
    if id(thing) in seen or isinstance(thing, (np.ndarray, np.random.Generator, type)):
        return []
    if isinstance(thing, Mapping):
        steps = [(("item", key), child) for key, child in thing.items()]
    elif isinstance(thing, (list, tuple)):
        steps = [(("item", i), child) for i, child in enumerate(thing)]
    else:
        steps = [(("attribute", key), child) for key, child in getattr(thing, "__dict__", {}).items()]
    return [found for step, child in steps for found in _arrays(child, (*path, step), (*seen, id(thing)))]


def _candidates(path: Path) -> list[Path]:
    """Return where the gradient of the parameter at `path` may be."""
    found = []
    for i, (kind, name) in enumerate(path):
        if isinstance(name, str):
            containers = [g for p, g in CONTAINERS if p == name.lstrip("_")]
            found += [(*path[:i], (kind, _underscores(name) + g), *path[i + 1 :]) for g in containers]
    *above, (kind, name) = path
    if isinstance(name, str):
        found += [(*above, (kind, g)) for p, g in WRAPPERS if p == name]
        names = [form.format(name) for form in GRADIENT_NAMES]
        found += [(*above, (kind, each)) for each in names]
        for i, (_, container) in enumerate(above):
            for p, g in CONTAINERS:
                if container == p:
                    found += [(*above[:i], ("attribute", g), *above[i + 1 :], (kind, each)) for each in names]
        if above == [("attribute", "params")]:
            found += [(("attribute", each),) for each in names]
    return found


def _underscores(name: str) -> str:
    """Return the underscores that a private name begins with."""
    return re.match(r"_*", name)[0]  # type: ignore[index]  # it always matches


def _get(thing: Any, path: Path) -> Any:
    for kind, name in path:
        thing = getattr(thing, str(name)) if kind == "attribute" else thing[name]
    return thing


def _set(thing: Any, path: Path, value: Array) -> None:
    """Put an array in its place. All attributes that held the same array get the new one."""
    old = _get(thing, path)
    for other, array in _arrays(thing):
        if array is old:
            *above, (kind, name) = other
            owner = _get(thing, tuple(above))
            with suppress(TypeError):                         # a tuple cannot change
                if kind == "attribute":
                    setattr(owner, str(name), value)
                else:
                    owner[name] = value


def _shown(path: Path) -> str:
    steps = [f".{name}" if kind == "attribute" else f"[{name!r}]" for kind, name in path]
    return "".join(steps).removeprefix(".")
