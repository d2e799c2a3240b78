"""Slopes to compare: every entry of a small gradient, random directions and some entries of a large one.

A direction moves every number of an array up or down by about 1/‖gradient‖, so that the slope is about 1 and its
error is relative to the whole gradient; a single wrong entry shows in every direction. When there are many arrays,
several share a direction, and its error is the root of the sum of squares of their errors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck.numeric import Direction, Loss, Slope, norm

DIRECTIONS = 3


class Measure(Protocol):
    """Finds a slope; `scale` is the size of slope that matters, `step` one that was best nearby."""

    def __call__(self, loss: Loss, direction: Direction, scale: float, step: float = 0.0) -> Slope: ...


@dataclass(frozen=True)
class Probe:
    """An analytic and a numeric slope along one direction."""

    direction: Direction
    analytic: float
    numeric: Slope
    scale: float  # the size of the gradient in this direction, against which an error is measured
    index: tuple[int, ...] | None = None  # of the entry, if the direction is a single one

    @property
    def gap(self) -> float:
        return abs(self.analytic - self.numeric.value)

    @property
    def error(self) -> float:
        """The gap over the scale: 0 where there is no gap, inf where one slope is not a number."""
        if self.gap == 0:
            return 0.0
        return self.gap / self.scale if math.isfinite(self.gap) else np.inf


def analytic_slope(gradients: Sequence[Array], direction: Direction) -> float:
    return float(sum(np.sum(gradients[i] * displacement) for i, displacement in direction.items()))


@dataclass(frozen=True)
class Prober:
    """Compares the gradients at the point of `loss` with slopes that `measure` finds there."""

    loss: Loss
    measure: Measure
    gradients: Sequence[Array]
    rng: np.random.Generator

    def every_entry(self, leaf: int) -> list[Probe]:
        """Compare all entries of one gradient, relative to the largest of them."""
        probes = [self.entry(leaf, index) for index in np.ndindex(self.gradients[leaf].shape)]
        scale = max(probe.scale for probe in probes)
        return [Probe(probe.direction, probe.analytic, probe.numeric, scale, probe.index) for probe in probes]

    def samples(self, group: Sequence[int]) -> Iterator[Probe]:
        """Compare a group of gradients along random directions, and one of them in two entries."""
        size = float(any(_can_divide(norm(self.gradients[i])) for i in group))  # directions make it 1, or else 0
        for _ in range(DIRECTIONS):
            direction = self.direction(group)
            slope = self.measure(self.loss, direction, size)
            scale = max(size, _finite(slope.value))
            yield Probe(direction, analytic_slope(self.gradients, direction), slope, scale)
        leaf = int(self.rng.choice(group))
        gradient = np.abs(self.gradients[leaf])
        for position in (np.argmax(gradient), self.rng.integers(gradient.size)):
            yield self.entry(leaf, _index(int(position), gradient))

    def entry(self, leaf: int, index: tuple[int, ...]) -> Probe:
        """Compare one entry, relative to the largest."""
        gradient = self.gradients[leaf]
        displacement = np.zeros(gradient.shape)
        displacement[index] = 1.0
        largest = _finite(gradient)
        slope = self.measure(self.loss, {leaf: displacement}, largest)
        scale = max(largest, _finite(slope.value))
        return Probe({leaf: displacement}, float(gradient[index]), slope, scale, index)

    def direction(self, group: Sequence[int]) -> Direction:
        """Move each array by 1/‖gradient‖, or in proportion to its own size where the gradient is zero."""
        lengths = {i: norm(self.gradients[i]) for i in group}
        steps = {i: 1 / length if _can_divide(length) else self.loss.sizes[i] for i, length in lengths.items()}
        return {i: step * self._random(self.gradients[i].shape) for i, step in steps.items()}

    def _random(self, shape: tuple[int, ...]) -> Array:
        """Steps up or down of different sizes: with equal ones, two opposite errors cancel every other time."""
        return self.rng.choice([-1.0, 1.0], shape) * self.rng.uniform(0.5, 1.5, shape)

    def worst_entry(self, leaf: int) -> Probe:
        """Find a wrong entry of a large gradient: one that is not a number, or else by halving the array."""
        gradient = self.gradients[leaf]
        broken = np.flatnonzero(~np.isfinite(gradient))
        if broken.size:
            return self.entry(leaf, _index(int(broken[0]), gradient))
        position = self._worst_position(leaf, self._random(gradient.shape), np.arange(gradient.size))
        return self.entry(leaf, _index(position, gradient))

    def _worst_position(self, leaf: int, displacement: Array, positions: Array) -> int:
        """Follow the half whose slope is further off."""
        if len(positions) == 1:
            return int(positions[0])
        halves = np.array_split(positions, 2)
        worse = max(halves, key=lambda half: self._gap(leaf, displacement, half))
        return self._worst_position(leaf, displacement, worse)

    def _gap(self, leaf: int, displacement: Array, positions: Array) -> float:
        """Return how far the slope is off if only the numbers at these positions move."""
        part = np.zeros_like(displacement)
        part.flat[positions] = displacement.flat[positions]
        slope = self.measure(self.loss, {leaf: part}, 0.0)
        return abs(analytic_slope(self.gradients, {leaf: part}) - slope.value)


def _can_divide(length: float) -> bool:
    """Say whether a direction can be made so long that its slope is 1; nothing is left of digits below 1e-300."""
    return 1e-300 < length < np.inf


def _finite(values: Array | float) -> float:
    """Return the largest finite magnitude."""
    magnitudes = np.abs(values)
    return float(np.max(magnitudes, where=np.isfinite(magnitudes), initial=0.0))


def _index(position: int, array: Array) -> tuple[int, ...]:
    return tuple(map(int, np.unravel_index(position, array.shape)))
