"""What a pair promises besides right numbers: it writes into nothing it was given, keeps no state, and is linear.

All of it is checked on the user's own arguments, in their own dtypes, strides and containers; only linearity is
checked in float64.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck.memory import changes, fingerprint, overlaps, same_bits, walk
from npattn.gradcheck.numeric import norm, nudged, quiet, size_of
from npattn.gradcheck.pair import Pair, check_output
from npattn.gradcheck.report import Verdict
from npattn.gradcheck.slots import Gradient
from npattn.gradcheck.trees import Tree, ravel, unravel


class Contract:
    """Calls the pair as its user would and collects the promises it breaks in `problems`."""

    def __init__(self, pair: Pair, rng: np.random.Generator) -> None:
        self.pair, self.rng = pair, rng
        self.problems: list[str] = []
        self.gradients: list[Gradient] = []
        self.given = {**dict(pair.named), **pair.kwargs}
        self.y, self.cache = self._forward()
        self.cotangent = rng.standard_normal(ravel(self.y).size)
        self.size_elsewhere = 0.0  # of the loss, at another point

    def check_backward(self) -> None:
        """Run every check but linearity; raise Misaligned if gradients lack the structure of the arguments."""
        returned = self._first_call()
        if not self.problems:  # what follows would only repeat that the cache or the cotangent has changed
            self._second_call(returned)
            self._call_after_another_forward()
            self._zero_cotangent()

    def check_linearity(self, values: Sequence[Array], tolerance: Mapping[int, float]) -> None:
        """Compare gradients at a sum of two cotangents with the sum of those at each, relative to the largest entry."""
        y, cache = self.pair.at(values)
        one, other = self.cotangent, self.rng.standard_normal(self.cotangent.size)
        a, b = self.rng.uniform(3.0, 7.0, 2)  # so large that a backward that clips is found out
        returned = [self.pair.gradients(y, cache, dy) for dy in (one, other, a * one - b * other)]
        bent = []
        for i, rtol in tolerance.items():
            d_one, d_other, d_both = (0.0 if gradients[i] is None else gradients[i] for gradients in returned)
            largest = max(np.max(abs(a * d_one), initial=0.0), np.max(abs(b * d_other), initial=0.0))
            deviation = np.max(abs(a * d_one - b * d_other - d_both), initial=0.0)
            if not deviation <= rtol * largest:
                bent.append(self.pair.names[i])
        self._report("gradient of {}: not linear in the cotangent", bent)

    def unlike_argument(self) -> dict[int, tuple[Verdict, str]]:
        """Return what is wrong with the shape or dtype of gradients, by position."""
        wrong: dict[int, tuple[Verdict, str]] = {}
        for i, (leaf, gradient) in enumerate(zip(self.pair.leaves, self.gradients, strict=True)):
            if gradient is not None and gradient.shape != leaf.shape:
                wrong[i] = "shape", f"expected shape {leaf.shape}, got {gradient.shape}"
            elif gradient is not None and gradient.dtype != leaf.dtype:
                wrong[i] = "dtype", f"expected {leaf.dtype} like the argument, got {gradient.dtype}"
        return wrong

    def _forward(self) -> tuple[Tree, Tree]:
        before = fingerprint(self.given)
        y, cache = self.pair.run()
        check_output(y)
        self._report("forward: changed {}", changes(before, self.given))
        if not self.problems:
            first, again = ravel(y), ravel(self.pair.run()[0])
            same_shape = first.shape == again.shape
            if not same_shape or np.any(abs(first - again) > 1e-5 * np.max(abs(first), initial=0.0)):
                self.problems.append("forward: two calls with the same arguments give different outputs")
        return y, cache

    def _first_call(self) -> list[Gradient]:
        dy = unravel(self.y, self.cotangent)
        held = {**self.given, "the cotangent": dy, "cache": self.cache, "the output": self.y}
        before = fingerprint(held)
        returned = self.pair.align(self.pair.backward(dy, self.cache))
        self._report("backward: changed {}", changes(before, held))
        self._report("gradient of {}: shares memory with {}", *self._aliases(returned, held))
        self.gradients = [None if g is None else g.copy() for g in returned]  # later calls may overwrite them
        return returned

    def _aliases(self, gradients: Sequence[Gradient], held: Mapping[str, Tree]) -> tuple[list[str], list[str]]:
        """Return the names of gradients that overlap another array, and the name of that array for each."""
        arrays = [leaf for key, thing in held.items() for leaf in walk(thing, key)]
        pairs: list[tuple[str, str]] = []
        for name, gradient in zip(self.pair.names, gradients, strict=True):
            pairs += [(name, other) for other, array in arrays if overlaps(gradient, array)][:1]
            arrays.append((f"the gradient of {name}", gradient))
        return [name for name, _ in pairs], [other for _, other in pairs]

    def _second_call(self, returned: Sequence[Gradient]) -> None:
        again = self.pair.gradients(self.y, self.cache, self.cotangent)
        calls = zip(self.pair.names, returned, again, strict=True)
        shared = [name for name, one, other in calls if overlaps(one, other)]
        self._report("gradient of {}: the next call of backward overwrites it", shared)
        self._report("gradient of {}: a second call of backward gives other bits", self._differing(again))

    def _call_after_another_forward(self) -> None:
        """A second forward, at other and smaller values, must leave cache and output of the first alone."""
        held = {"cache": self.cache, "the output": self.y}
        before = fingerprint(held)
        nearby = nudged(self.pair.leaves, 1e-3, self.rng)
        values = [np.asarray(np.flip(value) / max(1.0, size_of(value))) for value in nearby]
        with quiet(), contextlib.suppress(Exception):  # if forward refuses the values, it has not kept them either
            y, _ = self.pair.run(self.pair.filled(values))
            size = norm(self.cotangent * ravel(y))
            self.size_elsewhere = size if np.isfinite(size) else 0.0
        overwritten = changes(before, held)
        self._report("forward: a second call overwrites {} of the first", overwritten)
        if not overwritten:
            stale = self._differing(self.pair.gradients(self.y, self.cache, self.cotangent))
            self._report("gradient of {}: depends on later calls of forward, not on the cache alone", stale)

    def _zero_cotangent(self) -> None:
        gradients = self.pair.gradients(*self.pair.run(), np.zeros_like(self.cotangent))
        named = zip(self.pair.names, gradients, strict=True)
        nonzero = [name for name, gradient in named if gradient is not None and np.any(gradient != 0)]
        self._report("gradient of {}: not exactly zero for a zero cotangent", nonzero)

    def _differing(self, gradients: Sequence[Gradient]) -> list[str]:
        triples = zip(self.pair.names, self.gradients, gradients, strict=True)
        return [name for name, one, other in triples if not same_bits(one, other)]

    def _report(self, text: str, *columns: Sequence[str]) -> None:
        """Add a problem for each row of names."""
        self.problems += [text.format(*row) for row in zip(*columns, strict=True)]
