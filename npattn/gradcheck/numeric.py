"""Slopes of a scalar function along a direction, by the complex step and by central differences.

The function is L(x) = Σ dy·y(x), the output of forward against a fixed cotangent dy; its gradient is what backward
claims to return. A direction displaces some of the arguments, and its slope is d/dt L(x + t·direction) at t = 0.

**Complex step.** L(x + ih) = L(x) + ih·L′ − ½h²·L″ − …, so L′ = Im L / h up to terms of order h², which vanish for
h = 1e-20. Nothing is subtracted, so nothing cancels.
Source: Squire and Trapp (1998), doi:10.1137/S003614459631241X.

**Central difference.** D(h) = (L(x + h) − L(x − h)) / 2h = L′ + c₂h² + c₄h⁴ + …; Richardson's extrapolation over h,
h/2 and h/4 removes c₂, then c₄. What is left of the error is smaller than the difference of the two values without
c₂, plus rounding, which grows as 1/h, plus the difference of the slopes on either side that does not vanish with h,
if a kink is within reach. The step is chosen for the smallest sum.
Source: Ridders (1982), doi:10.1016/S0141-1195(82)80057-0, for extrapolation with a choice of the step.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck.pair import Pair
from npattn.gradcheck.trees import numbers, ravel

Direction: TypeAlias = Mapping[int, Array]  # position of the leaf → displacement

# All steps are relative to the size of the argument.
COMPLEX_STEP = 1e-20
ROUGH_STEP = 1e-5
STEP, LONGER, SHORTER = 2e-3, 30.0, 0.1
TRIES, TRIES_LONGER = 6, 3  # beyond twice the size of an argument there is nothing to be learned
KINK_STEPS = (1e-5, 2.5e-6)


class NotComplexSafe(Exception):
    """Forward cannot be differentiated by the complex step; the text says why."""


class Slope(NamedTuple):
    value: float
    doubt: float = 0.0  # estimate of its error
    step: float = 0.0  # that of a central difference, relative to the size of what it moves


class Loss:
    """L(x) = Σ dy·y(x) around `values`, a float64 array for each leaf.

    `usual_size` is the size of L at other points, in case that it happens to be small here; `sizes` are those of the
    arrays at the point that this one is beside, for all the zeros of an array may have been moved from 0 to 1e-7.
    """

    def __init__(
        self,
        pair: Pair,
        values: Sequence[Array],
        cotangent: Array,
        usual_size: float = 0.0,
        sizes: Sequence[float] | None = None,
    ) -> None:
        self.pair, self.values, self.cotangent = pair, list(values), cotangent
        self.complex_values = [value.astype(np.complex128) for value in values]
        self.sizes = [size_of(value) for value in values] if sizes is None else list(sizes)
        self.y, self.cache = pair.at(self.values)
        self.terms = cotangent * ravel(self.y)
        self.size = max(norm(self.terms), usual_size)
        self.rounding = max(float(np.finfo(np.asarray(leaf).dtype).eps) for leaf in numbers(self.y)) * self.size
        self.came_back_real = False

    def gradients(self) -> list[Array]:
        """Return what backward says, and zeros where it says None."""
        returned = self.pair.gradients(self.y, self.cache, self.cotangent)
        return [np.zeros_like(v) if g is None else g.copy() for v, g in zip(self.values, returned, strict=True)]

    def complex_slope(self, direction: Direction) -> Slope:
        """Return Im L(x + ih·direction) / h, or raise NotComplexSafe if forward refuses complex numbers."""
        h = COMPLEX_STEP * self._unit(direction)
        values = list(self.complex_values)
        for i, displacement in direction.items():
            values[i] = np.asarray(values[i] + 1j * h * displacement)
        try:
            output = self.pair.output(values)
        except Exception as error:  # whatever user code raises: it has just worked with real numbers
            raise NotComplexSafe(f"{type(error).__name__} on complex input: {error}") from error
        self.came_back_real = not np.iscomplexobj(output)
        return Slope(float(self.cotangent @ output.imag) / h)

    def rough_slope(self, direction: Direction) -> Slope:
        """Return a plain central difference, cheap and good to about nine digits where all is smooth."""
        h = ROUGH_STEP * self._unit(direction)
        return Slope((self._change(direction, h) - self._change(direction, -h)) / (2 * h), 4 * self.rounding / h)

    def central_slope(self, direction: Direction, scale: float = 0.0, step: float = 0.0) -> Slope:
        """Return the central difference of least doubt; a doubt of 1e-9 of the slope or of `scale` will do.

        If rounding spoils the first step, longer ones are tried as long as they help; if it is curvature, a kink
        nearby or the end of the domain, shorter ones, down to what is small for the smallest number moved. A `step`
        that was found to be best nearby is taken as it is.
        """
        unit = self._unit(direction)
        h = (step or STEP) * unit
        best = self._richardson(direction, h)
        longer = 4 * self.rounding / h > best.doubt / 2
        factor = LONGER if longer else min(SHORTER, (STEP * self._finest(direction) / h) ** (1 / (TRIES - 1)))
        tries = 1 if step else TRIES_LONGER if longer else TRIES
        for _ in range(1, tries):
            if best.doubt <= 1e-9 * max(abs(best.value), scale):
                break
            h *= factor
            if 4 * self.rounding / h > best.doubt:  # rounding alone is worse than what we have
                break
            slope = self._richardson(direction, h)
            if slope.value == 0 and abs(best.value) > 2 * best.doubt:  # too short to change a bit
                break
            if slope.doubt < best.doubt or np.isnan(best.doubt):
                best = slope
            elif longer:
                break
        return best if np.isfinite(best.doubt) else Slope(np.nan, np.inf)

    def has_kink(self, direction: Direction) -> bool:
        """Say whether the slopes on either side differ, by an amount that does not shrink with the step."""
        gaps = []
        for step in KINK_STEPS:
            h = step * self._finest(direction)  # so short that it does not reach a kink nearby
            right, left = (self._change(direction, t) / t for t in (h, -h))
            gaps.append(right - left)
        noise = max(50 * self.rounding / h, 1e-5 * max(abs(right), abs(left)))
        return abs(gaps[1]) > noise and abs(gaps[1] - gaps[0]) < 0.2 * abs(gaps[1])

    def _richardson(self, direction: Direction, h: float) -> Slope:
        """Extrapolate from h, h/2 and h/4; the doubt includes the kinks that the steps have reached."""
        steps = np.array([h, h / 2, h / 4])
        right = np.array([self._change(direction, t) for t in steps]) / steps
        left = np.array([self._change(direction, -t) for t in steps]) / -steps
        d, gap = (right + left) / 2, right - left
        once = (4 * d[1:] - d[:-1]) / 3
        twice = (16 * once[1] - once[0]) / 15
        kink = 2 * gap[2] - gap[1]  # the gap is proportional to h where L is smooth, constant at a kink
        doubt = float(abs(once[1] - once[0]) + abs(kink)) + 4 * self.rounding / h
        return Slope(float(twice), doubt, h / self._unit(direction))

    def _change(self, direction: Direction, t: float) -> float:
        """Return L(x + t·direction) − L(x), subtracted before summing to keep digits."""
        values = list(self.values)
        for i, displacement in direction.items():
            values[i] = np.asarray(values[i] + t * displacement)
        return float(np.sum(self.cotangent * self.pair.output(values) - self.terms))

    def _unit(self, direction: Direction) -> float:
        """Return the t at which the direction moves some leaf by as much as its own size."""
        moves = [float(np.max(np.abs(v), initial=0.0)) / self.sizes[i] for i, v in direction.items()]
        return 1 / (max(moves) or 1.0)

    def _finest(self, direction: Direction) -> float:
        """Return the t at which the direction moves some number, but for zeros, by as much as itself."""
        finest = self._unit(direction)
        for i, displacement in direction.items():
            moves = (displacement != 0) & (self.values[i] != 0)
            finest = min(finest, np.min(np.abs(self.values[i][moves] / displacement[moves]), initial=finest))
        return float(finest)


def size_of(value: Array) -> float:
    """Return the largest finite magnitude in `value`, or 1 if all is zero."""
    return float(np.max(np.abs(value[np.isfinite(value)]), initial=0.0)) or 1.0


def norm(values: Array | Sequence[float]) -> float:
    """Return ‖values‖ without squares that overflow or vanish; inf or nan if a value is.

    >>> norm([3e-200, 4e-200]), norm([0.0, 3e200])
    (5e-200, 3e+200)
    """
    size = float(np.max(np.abs(values), initial=0.0))         # abs and norm: of slopes, which are real
    return size * float(np.linalg.norm(np.asarray(values) / size)) if 0 < size < np.inf else size


def nudged(values: Sequence[Array], amount: float, rng: np.random.Generator) -> list[Array]:
    """Move every number up or down, by ½ to 1 `amount` of itself, or of the size of its array where it is zero."""
    moved = []
    for value in values:
        size = np.where(value == 0, size_of(value), np.where(np.isfinite(value), value, 0))
        steps = rng.uniform(0.5, 1, value.shape) * rng.choice([-1.0, 1.0], value.shape)
        moved.append(np.asarray(value + amount * size * steps, value.dtype))
    return moved


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings away from the user's own point, but make a dropped imaginary part an error."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        yield
