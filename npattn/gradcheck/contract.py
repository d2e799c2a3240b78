"""What a pair must do besides returning right numbers: write into no input, keep no state, and be linear.

Everything is checked on the user's own arguments, in their own dtypes, strides and containers. Only linearity is
checked in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck.memory import bits_of, changes, fingerprint, overlaps, walk
from npattn.gradcheck.pair import PairUnderTest, check_output
from npattn.gradcheck.points import norm, perturbed, size_of
from npattn.gradcheck.quiet import quiet
from npattn.gradcheck.report import Verdict
from npattn.gradcheck.slots import Gradient, align
from npattn.gradcheck.trees import Tree, ravel, unravel

NOT_LINEAR = "not linear in the cotangent"


class Contract:
    """Calls the pair with the user's arguments and collects broken promises in `problems`."""

    def __init__(self, pair: PairUnderTest, rng: np.random.Generator) -> None:
        self.pair, self.rng = pair, rng
        self.problems: list[str] = []
        self.gradients: list[Gradient] = []
        self.given = {**dict(pair.named), **pair.kwargs}
        self.y, self.cache = self._forward()
        self.cotangent = rng.standard_normal(ravel(self.y).size)
        self.size_elsewhere = 0.0  # of the loss, at another point

    @property
    def goes_on(self) -> bool:
        """Whether more can be checked: a broken promise would only be reported again."""
        return not self.problems or self.pair.may_write

    def check_backward(self) -> None:
        """Run every check but linearity. Raise Misaligned if gradients lack the structure of the arguments."""
        returned = self._first_call()
        if self.goes_on:
            self._second_call(returned)
            self._call_after_another_forward()
            self._zero_cotangent()

    def check_linearity(
        self, values: Sequence[Array], tolerance: Mapping[int, float], returned: tuple[Tree, Tree] | None = None
    ) -> None:
        """Compare backward(a·u − b·v) with a·backward(u) − b·backward(v), for two cotangents u and v.

        The deviation is relative to the largest entry. `tolerance` gives it for the position of each gradient compared.
        `returned` holds what forward has returned at `values`, if that is known.
        """
        y, cache = returned or self.pair.at(values)
        u, v = self.cotangent, self.rng.standard_normal(self.cotangent.size)
        a, b = self.rng.uniform(3.0, 7.0, 2)  # large enough to reveal a backward that clips
        gradients_at = [self.pair.gradients(y, cache, dy) for dy in (u, v, a * u - b * v)]
        for i, rtol in tolerance.items():
            at_u, at_v, at_both = (0.0 if gradients[i] is None else gradients[i] for gradients in gradients_at)
            largest = max(np.max(abs(a * at_u), initial=0.0), np.max(abs(b * at_v), initial=0.0))
            deviation = np.max(abs(a * at_u - b * at_v - at_both), initial=0.0)
            if not deviation <= rtol * largest and self.pair.names[i] not in self.pair.varying:
                self.problems.append(f"gradient of {self.pair.names[i]}: {NOT_LINEAR}")

    def mismatches(self) -> dict[int, tuple[Verdict, str]]:
        """Return the verdict and a text for each gradient with the wrong shape or dtype, by position."""
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
        self.problems.extend(f"forward: changed {name}" for name in changes(before, self.given))
        if not self.problems:
            first, again = ravel(y), ravel(self.pair.run()[0])
            if first.shape != again.shape or np.any(abs(first - again) > 1e-5 * np.max(abs(first), initial=0.0)):
                self.problems.append("forward: two calls with the same arguments give different outputs")
                self.pair.varying = dict.fromkeys(self.pair.names, "forward")
        return y, cache

    def _first_call(self) -> list[Gradient]:
        dy = unravel(self.y, self.cotangent)
        held = {**self.given, "the cotangent": dy, "cache": self.cache, "the output": self.y}
        before = fingerprint(held)
        returned = align(self.pair.structure, self.pair.backward(dy, self.cache))
        self.problems += [f"backward: changed {name}" for name in changes(before, held)]
        self.problems += self._shared_memory(returned, held)
        self.gradients = [None if g is None else g.copy() for g in returned]  # a later call may overwrite them
        return returned

    def _shared_memory(self, gradients: Sequence[Gradient], held: Mapping[str, Tree]) -> list[str]:
        """Return a problem for each gradient that overlaps another array."""
        leaves = (leaf for key, tree in held.items() for leaf in walk(tree, key))
        arrays: list[tuple[str, Tree]] = [leaf for leaf in leaves if isinstance(leaf[1], np.ndarray)]
        problems: list[str] = []
        for name, gradient in zip(self.pair.names, gradients, strict=True):
            shared = [other for other, array in arrays if overlaps(gradient, array)]
            problems += [f"gradient of {name}: shares memory with {other}" for other in shared[:1]]
            arrays.append((f"the gradient of {name}", gradient))
        return problems

    def _second_call(self, returned: Sequence[Gradient]) -> None:
        again = self.pair.gradients(self.y, self.cache, self.cotangent)
        calls = zip(self.pair.names, returned, again, strict=True)
        shared = [name for name, one, other in calls if overlaps(one, other)]
        self.problems += [f"gradient of {name}: the next call of backward overwrites it" for name in shared]
        changed = self._different(again)
        self.pair.varying = dict.fromkeys(changed, "backward") | self.pair.varying
        self.problems += [f"gradient of {name}: a second call of backward gives other bits" for name in changed]

    def _call_after_another_forward(self) -> None:
        """Call forward at other and smaller values: cache, output and gradients of the first call must stay."""
        held = {"cache": self.cache, "the output": self.y}
        before = fingerprint(held)
        nearby = perturbed(self.pair.leaves, 1e-3, self.rng)
        values = [np.asarray(np.flip(value) / max(1.0, size_of(value))) for value in nearby]
        with quiet(), suppress(Exception):  # a forward that refuses these values does not keep them either
            y, _ = self.pair.run(self.pair.filled(values))
            size = norm(self.cotangent * ravel(y))
            self.size_elsewhere = size if np.isfinite(size) else 0.0
        overwritten = changes(before, held)
        self.problems += [f"forward: a second call overwrites {name} of the first" for name in overwritten]
        if not overwritten:
            changed = self._different(self.pair.gradients(self.y, self.cache, self.cotangent))
            text = "depends on later calls of forward, not on the cache alone"
            self.problems += [f"gradient of {name}: {text}" for name in changed]

    def _zero_cotangent(self) -> None:
        gradients = self.pair.gradients(*self.pair.run(), np.zeros_like(self.cotangent))
        for name, gradient in zip(self.pair.names, gradients, strict=True):
            if gradient is not None and np.any(gradient != 0):
                self.problems.append(f"gradient of {name}: not exactly zero for a zero cotangent")

    def _different(self, gradients: Sequence[Gradient]) -> list[str]:
        """Return the names of gradients whose bits differ from those of the first call."""
        calls = zip(self.pair.names, self.gradients, gradients, strict=True)
        return [name for name, first, later in calls if bits_of(first) != bits_of(later)]
