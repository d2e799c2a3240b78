"""The functions and arguments of one check, and calls of the functions with other numbers."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from npattn._internal.checks import Array, is_array, shown
from npattn.gradcheck import foreign
from npattn.gradcheck.slots import Gradient, align, argument
from npattn.gradcheck.trees import (
    Tree,
    convert_floating,
    floating_leaves,
    holds_unreached_numbers,
    is_floating,
    leaves,
    numbers,
    ravel,
    unravel,
)


class PairUnderTest:
    """A forward and its backward, with the arguments of one check.

    The leaves are the floating arrays in `args`. Forward is called with the leaves or with other values for them.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        args: Sequence[Tree],
        kwargs: Mapping[str, Tree] | None = None,
        may_write: bool = False,
        names: Sequence[str] | None = None,
    ) -> None:
        if not isinstance(args, (tuple, list)):
            raise TypeError(f"args: expected a tuple of arguments, as in (x,), got {type(args).__name__}")
        for symbol, function in (("forward", forward), ("backward", backward)):
            if not callable(function):
                raise TypeError(f"{symbol}: expected a function, got {type(function).__name__}")
        if kwargs is not None and not (isinstance(kwargs, Mapping) and all(isinstance(key, str) for key in kwargs)):
            raise TypeError(f"kwargs: expected a mapping of names to arguments, got {shown(kwargs)}")
        self.may_write = may_write                            # then forward gets copies of its arguments
        args, self.kwargs = tuple(args), dict(kwargs or {})
        self.forward, self.backward = forward, backward
        if foreign.holds_foreign([args, self.kwargs]):
            self.forward, self.backward = foreign.wrapped(forward, backward, args, self.kwargs)
            args, self.kwargs = foreign.to_numpy((args, self.kwargs))
        self.args = args
        self.named = list(zip(names or argument_names(forward, len(args)), args, strict=True))
        _refuse_complex_and_masked(self.named)
        self.structure = [argument(name, tree) for name, tree in self.named]
        floating = [leaf for name, tree in self.named for leaf in floating_leaves(tree, name)]
        if not floating:
            raise ValueError("args: expected at least one floating array to differentiate, got none")
        self.names, self.leaves = [name for name, _ in floating], [array for _, array in floating]
        self.floating_kwargs = {key: tree for key, tree in self.kwargs.items() if any(floating_leaves(tree))}
        self.eps = float(np.finfo(np.float64).eps)            # of the numbers that the functions compute with
        self.takes_float64 = True
        self.left_over: Mapping[str, Array] = {}              # what a layer held before backward, by names of leaves
        self.varying: dict[str, str] = {}                     # the function whose calls differ, by names of leaves
        name = getattr(forward, "__qualname__", type(forward).__name__)
        self.title = f"{getattr(forward, '__module__', None) or 'builtins'}.{name}"

    def run(
        self, args: Sequence[Tree] | None = None, kwargs: Mapping[str, Tree] | None = None
    ) -> tuple[Tree, Tree]:
        """Call forward, by default with the user's own arguments. Return (y, cache)."""
        keywords = {key: _copy_generator(tree) for key, tree in (kwargs or self.kwargs).items()}
        given = list(map(_copy_generator, args or self.args))
        if self.may_write:
            given = [convert_floating(tree, np.copy) for tree in given]
        result = self.forward(*given, **keywords)
        if not isinstance(result, tuple) or len(result) != 2:
            got = f"{len(result)} things" if isinstance(result, tuple) else type(result).__name__
            raise TypeError(f"forward: expected to return a tuple (y, cache), got {got}")
        return result

    def at(self, values: Sequence[Array]) -> tuple[Tree, Tree]:
        """Call forward with other values. Arrays in kwargs get their dtype, because forward may require one dtype."""
        if not self.takes_float64:
            values = [value.astype(leaf.dtype) for value, leaf in zip(values, self.leaves, strict=True)]
        dtype = values[0].dtype
        cast = {
            key: convert_floating(tree, lambda array: array.astype(dtype)) for key, tree in self.floating_kwargs.items()
        }
        return self.run(self.filled(values), self.kwargs | cast)

    def filled(self, values: Sequence[Array]) -> list[Tree]:
        """Return the arguments with other leaves."""
        arrays = iter(values)
        return [next(arrays) if is_floating(t) else convert_floating(t, lambda _: next(arrays)) for t in self.args]

    def output(self, values: Sequence[Array]) -> Array:
        """Return all numbers of y in one vector."""
        return ravel(self.at(values)[0])

    def gradients(self, y: Tree, cache: Tree, cotangent: Array) -> list[Gradient]:
        """Call backward with the vector `cotangent` in the structure of y. Return a gradient for every leaf."""
        if self.may_write:
            with suppress(Exception):                         # what cannot be copied is passed as it is
                cache = copy.deepcopy(cache)
        return align(self.structure, self.backward(unravel(y, cotangent), cache))

    def not_differentiated(self) -> list[str]:
        """Return the names of real numbers that are not differentiated: keyword arguments, scalars, inside objects."""
        keywords = [name for key, tree in self.floating_kwargs.items() for name, _ in floating_leaves(tree, key)]
        return keywords + [name for name, tree in self.named if holds_unreached_numbers(tree)]


def check_output(y: Tree) -> None:
    """Raise an error unless y holds real, finite numbers."""
    if any(np.iscomplexobj(leaf) for leaf in numbers(y)):
        raise TypeError("forward: expected a real output for real arguments, got a complex one")
    if not numbers(y):
        raise TypeError(f"forward: expected floating numbers in the output, got {type(y).__name__} without any")
    if not np.isfinite(ravel(y)).all():
        raise ValueError("forward: expected a finite output, got nan or inf, which has no derivative")


def argument_names(forward: Callable[..., Any], n: int) -> list[str]:
    """Return the names of the first n positional arguments, from the signature of forward."""
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):  # some built-in functions have no signature
        return [f"args[{i}]" for i in range(n)]
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "args")
    return [*positional[:n], *(f"{rest}[{i}]" for i in range(n - len(positional)))]


def _refuse_complex_and_masked(named: Sequence[tuple[str, Tree]]) -> None:
    """Raise TypeError for complex numbers, and for masked arrays, whose hidden numbers would be differentiated."""
    for name, leaf in (found for of, tree in named for found in leaves(tree, of)):
        if isinstance(leaf, (np.ndarray, np.generic)) and leaf.dtype.kind == "c":
            raise TypeError(f"{name}: expected real numbers, got {leaf.dtype}")
        if isinstance(leaf, np.ndarray) and not is_array(leaf):
            raise TypeError(f"{name}: expected a NumPy array, got {type(leaf).__name__}")


def _copy_generator(tree: Tree) -> Tree:
    """Copy a Generator: the copy draws the same numbers in every call, so that dropout keeps its mask."""
    return copy.deepcopy(tree) if isinstance(tree, np.random.Generator) else tree
