"""The slopes that are compared: every entry of a small gradient; random directions and two entries of a large one.

A direction moves every number of an array up or down by about 1/‖gradient‖. So the slope is about 1, its error is
relative to the whole gradient, and a single wrong entry changes the slope along every direction. When there are many
arrays, several share a direction. Its error is then the root of the sum of squares of their errors.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck.numeric import Direction, Loss, Slope
from npattn.gradcheck.points import largest_finite, norm, up_or_down

DIRECTIONS = 3
BLOCK, ROWS = 200, 14  # entries compared of a large wrong gradient, to find out what is wrong with it


class Measure(Protocol):
    """Measures a slope. `scale` is the size that its error is relative to, `step` the step that was best nearby."""

    def __call__(self, loss: Loss, direction: Direction, scale: float, step: float = 0.0) -> Slope: ...


@dataclass(frozen=True)
class Probe:
    """An analytic and a numeric slope along one direction."""

    direction: Direction
    analytic: float
    numeric: Slope
    scale: float  # the size of the gradient in this direction; the error is relative to it
    index: tuple[int, ...] | None = None  # of the entry, if the direction moves one entry only

    @property
    def gap(self) -> float:
        return abs(self.analytic - self.numeric.value)

    @property
    def error(self) -> float:
        """The gap divided by the scale; 0 if there is no gap, inf if a slope is nan or inf."""
        if self.gap == 0:
            return 0.0
        return self.gap / self.scale if math.isfinite(self.gap) else np.inf


def analytic_slope(gradients: Sequence[Array], direction: Direction) -> float:
    return float(sum(np.sum(gradients[i] * displacement) for i, displacement in direction.items()))


@dataclass(frozen=True)
class Prober:
    """Compares the gradients at the point of `loss` with the slopes from `measure`."""

    loss: Loss
    measure: Measure
    gradients: Sequence[Array]
    rng: np.random.Generator

    @cached_property
    def lengths(self) -> list[float]:
        return [norm(gradient) for gradient in self.gradients]

    def every_entry(self, leaf: int) -> list[Probe]:
        """Compare all entries of one gradient, relative to the largest of them."""
        largest = largest_finite(self.gradients[leaf])
        probes = [self.entry(leaf, index, largest) for index in np.ndindex(self.gradients[leaf].shape)]
        scale = max(probe.scale for probe in probes)
        return [replace(probe, scale=scale) for probe in probes]

    def samples(self, group: Sequence[int], known: Sequence[Probe] = ()) -> Iterator[Probe]:
        """Compare a group of gradients along random directions, some `known`, and two entries of one of them."""
        yield from known
        for _ in range(DIRECTIONS - len(known)):
            yield self.along(group)
        leaf = int(self.rng.choice(group))
        gradient = np.abs(self.gradients[leaf])
        for position in (np.argmax(gradient), self.rng.integers(gradient.size)):
            yield self.entry(leaf, _index(int(position), gradient))

    def along(self, group: Sequence[int]) -> Probe:
        """Compare a group of gradients along one random direction."""
        size = float(any(_can_divide(self.lengths[i]) for i in group))  # 1, or 0 if the gradient is zero
        direction = self.direction(group)
        slope = self.measure(self.loss, direction, size)
        scale = max(size, largest_finite(slope.value))
        return Probe(direction, analytic_slope(self.gradients, direction), slope, scale)

    def entry(self, leaf: int, index: tuple[int, ...], largest: float | None = None) -> Probe:
        """Compare one entry, relative to the largest."""
        gradient = self.gradients[leaf]
        displacement = np.zeros(gradient.shape)
        displacement[index] = 1.0
        largest = largest_finite(gradient) if largest is None else largest
        slope = self.measure(self.loss, {leaf: displacement}, largest)
        scale = max(largest, abs(slope.value) if math.isfinite(slope.value) else 0.0)
        return Probe({leaf: displacement}, float(gradient[index]), slope, scale, index)

    def direction(self, group: Sequence[int]) -> Direction:
        """Move each array by 1/‖gradient‖, or in proportion to its own size where the gradient is zero."""
        lengths = {i: self.lengths[i] for i in group}
        steps = {i: 1 / length if _can_divide(length) else self.loss.sizes[i] for i, length in lengths.items()}
        return {i: step * self._random(self.gradients[i].shape) for i, step in steps.items()}

    def block(self, leaf: int, index: tuple[int, ...]) -> tuple[list[Probe], tuple[Array, ...]]:
        """Compare a block of about 200 entries that holds the one at `index`. Return also its indices along each axis.

        Of a square matrix the block is square, with the same rows and columns.
        """
        shape = self.gradients[leaf].shape
        is_square = len(shape) > 1 and shape[-1] == shape[-2]
        limits: tuple[int, ...] = (ROWS, ROWS) if is_square else (ROWS // 2, 2 * ROWS) if len(shape) > 1 else (BLOCK,)
        limits = (0,) * (len(shape) - 2) + limits             # of the other axes, only the index itself
        chosen = [
            np.unique([*np.linspace(0, n - 1, min(n, limit)).astype(int), i])
            for n, limit, i in zip(shape, limits, index, strict=True)
        ]
        if is_square:
            chosen[-2:] = [np.union1d(*chosen[-2:])] * 2
        return [self.entry(leaf, tuple(map(int, i))) for i in itertools.product(*chosen)], np.ix_(*chosen)

    def worst_entry(self, leaf: int) -> Probe:
        """Find a wrong entry of a large gradient: the first nan or inf, or else by halving the array.

        Of two halves, the search continues in that with the larger gap.
        """
        gradient = self.gradients[leaf]
        broken = np.flatnonzero(~np.isfinite(gradient))
        positions = broken[:1] if broken.size else np.arange(gradient.size)
        displacement = self._random(gradient.shape)
        while len(positions) > 1:
            positions = max(np.array_split(positions, 2), key=lambda half: self._gap(leaf, displacement, half))
        return self.entry(leaf, _index(int(positions[0]), gradient))

    def _random(self, shape: tuple[int, ...]) -> Array:
        """Return random steps up or down. Their sizes differ; with equal sizes, opposite errors could cancel."""
        return up_or_down(0.5, 1.5, shape, self.rng)

    def _gap(self, leaf: int, displacement: Array, positions: Array) -> float:
        """Return the gap between the slopes when only the numbers at these positions move."""
        part = np.zeros_like(displacement)
        part.flat[positions] = displacement.flat[positions]
        slope = self.measure(self.loss, {leaf: part}, 0.0)
        return abs(analytic_slope(self.gradients, {leaf: part}) - slope.value)


def _can_divide(length: float) -> bool:
    """Whether a direction of length 1/`length` gives a slope of 1: digits below 1e-300 are lost."""
    return 1e-300 < length < np.inf


def _index(position: int, array: Array) -> tuple[int, ...]:
    return tuple(map(int, np.unravel_index(position, array.shape)))
