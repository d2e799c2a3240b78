"""Slopes of a scalar function along a direction, by the complex step and by central differences.

The function is L(x) = Σ dy·y(x): the output y of forward, weighted by a fixed cotangent dy. (The cotangent of y is the
gradient ∂L/∂y that backward takes as its input.) The gradient ∂L/∂x is what backward should return. A direction moves
some of the arguments. Its slope is d/dt L(x + t·direction) at t = 0.

**Complex step.** L(x + ih) = L(x) + ih·L′ − ½h²·L″ − …, so L′ = Im L / h up to terms of order h², which vanish for
h = 1e-20. Nothing is subtracted, so no digits cancel.
Source: Squire and Trapp (1998), doi:10.1137/S003614459631241X.

**Central difference.** D(h) = (L(x + h) − L(x − h)) / 2h = L′ + c₂h² + c₄h⁴ + …; Richardson's extrapolation over h,
h/2 and h/4 removes c₂, then c₄. Its uncertainty is a sum of three estimates:

- the difference of the two values without c₂: what remains of the series is smaller;
- rounding, which grows as 1/h;
- the difference of the slopes on the two sides, as far as it does not vanish with h: the steps then cross a kink.

The step is chosen for the smallest uncertainty.
Source: Ridders (1982), doi:10.1016/S0141-1195(82)80057-0, for extrapolation with a choice of the step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np

from npattn._internal.checks import Array
from npattn.gradcheck.pair import PairUnderTest
from npattn.gradcheck.points import LIKE_ZERO, norm, size_of
from npattn.gradcheck.trees import numbers, ravel

Direction: TypeAlias = Mapping[int, Array]  # position of the leaf → displacement

# All steps are relative to the size of the argument.
COMPLEX_STEP = 1e-20
ROUGH_STEP = 1e-5
STEP, LONGER, SHORTER = 2e-3, 30.0, 0.1  # the first step, and the factors for longer and shorter ones
TRIES, TRIES_LONGER = 6, 3  # with the first step; two longer ones reach 1.8 times the size of the argument
KINK_STEPS = (1e-5, 2.5e-6)
COARSE = 1e3  # times longer steps to find a kink in float32
SINGLE = float(np.finfo(np.float32).eps)
SHORTEST = 1e-300  # shorter steps vanish


class NotComplexSafe(Exception):
    """Forward cannot be differentiated by the complex step; the text is the reason."""


class Slope(NamedTuple):
    value: float
    uncertainty: float = 0.0  # estimate of the error of the value
    step: float = 0.0  # of a central difference, relative to the size of what it moves


class Loss:
    """L(x) = Σ dy·y(x) around `values`, a float64 array for each leaf.

    `usual_size` is the size of L at other points, because L can be small here. `sizes` are the sizes of the arrays at
    the user's arguments, if `values` are a point nearby: a bias of 0 moved to 1e-7 still has the size 1.
    """

    def __init__(
        self,
        pair: PairUnderTest,
        values: Sequence[Array],
        cotangent: Array,
        usual_size: float = 0.0,
        sizes: Sequence[float] | None = None,
    ) -> None:
        self.pair, self.values, self.cotangent = pair, list(values), cotangent
        self.sizes = [size_of(value) for value in values] if sizes is None else list(sizes)
        self.y, self.cache = pair.at(self.values)
        self.terms = cotangent * ravel(self.y)
        self.size = max(norm(self.terms), usual_size)
        self.rounding = max(pair.eps, *(float(np.finfo(np.asarray(y).dtype).eps) for y in numbers(self.y))) * self.size
        self.is_output_real = False  # of the last complex step

    @cached_property
    def complex_values(self) -> list[Array]:
        return [value.astype(np.complex128) for value in self.values]

    def gradients(self) -> list[Array]:
        """Return the gradients from backward, with zeros for None."""
        returned = self.pair.gradients(self.y, self.cache, self.cotangent)
        return [np.zeros_like(v) if g is None else g.copy() for v, g in zip(self.values, returned, strict=True)]

    def complex_slope(self, direction: Direction) -> Slope:
        """Return Im L(x + ih·direction) / h. Raise NotComplexSafe if forward fails on complex numbers."""
        h = COMPLEX_STEP * self._unit(direction)
        values = _moved(self.complex_values, direction, 1j * h)
        try:
            output = self.pair.output(values)
        except Exception as error:  # any error of the user's forward, which runs on real numbers
            raise NotComplexSafe(f"{type(error).__name__} on complex input: {error}") from error
        self.is_output_real = not np.iscomplexobj(output)
        return Slope(float(self.cotangent @ output.imag) / h)

    def rough_slope(self, direction: Direction) -> Slope:
        """Return a plain central difference: fast, and correct to about nine digits where L is smooth."""
        h = ROUGH_STEP * self._unit(direction)
        return Slope((self._change(direction, h) - self._change(direction, -h)) / (2 * h), 4 * self.rounding / h)

    def central_slope(self, direction: Direction, scale: float = 0.0, step: float = 0.0) -> Slope:
        """Return the central difference of least uncertainty.

        An uncertainty of 1e-9 of the slope or of `scale` is small enough. If rounding dominates it at the first step,
        longer steps are tried while they help. If curvature, a kink nearby or the end of the domain dominates it,
        shorter steps are tried, down to a step that is small for the smallest number moved. A given `step`, which was
        best at a point nearby, is used without a search.
        """
        h = (step or STEP) * self._unit(direction)
        best = self._richardson(direction, h)
        longer = 4 * self.rounding / h > best.uncertainty / 2
        factor = LONGER if longer else min(SHORTER, (STEP * self._finest(direction) / h) ** (1 / (TRIES - 1)))
        tries = 1 if step else TRIES_LONGER if longer else TRIES
        for _ in range(1, tries):
            if best.uncertainty <= 1e-9 * max(abs(best.value), scale):
                break
            h *= factor
            if 4 * self.rounding / h > best.uncertainty:  # rounding alone exceeds the best uncertainty
                break
            slope = self._richardson(direction, h)
            if slope.value == 0 and abs(best.value) > 2 * best.uncertainty:  # the step is too short to change a bit
                break
            if slope.uncertainty < best.uncertainty or np.isnan(best.uncertainty):
                best = slope
            elif longer:
                break
        return best if np.isfinite(best.uncertainty) else Slope(np.nan, np.inf)

    def has_kink(self, direction: Direction, nearby: bool = False) -> bool:
        """Whether the slopes on the two sides differ by an amount that does not shrink with the step.

        `nearby` takes steps that also reach a kink beside a number far smaller than its array.
        """
        gaps = []
        unit = self._unit(direction) if nearby else self._finest(direction)
        unit *= COARSE if self.pair.eps == SINGLE else 1.0
        for step in KINK_STEPS:
            h = step * unit
            right, left = (self._change(direction, t) / t for t in (h, -h))
            gaps.append(right - left)
        noise = max(50 * self.rounding / h, 1e-5 * max(abs(right), abs(left)))
        return abs(gaps[1]) > noise and abs(gaps[1] - gaps[0]) < 0.2 * abs(gaps[1])

    def _richardson(self, direction: Direction, h: float) -> Slope:
        """Extrapolate from h, h/2 and h/4; the uncertainty includes the kinks that the steps cross."""
        steps = np.array([h, h / 2, h / 4])
        right = np.array([self._change(direction, t) for t in steps]) / steps
        left = np.array([self._change(direction, -t) for t in steps]) / -steps
        d, gap = (right + left) / 2, right - left
        once = (4 * d[1:] - d[:-1]) / 3
        twice = (16 * once[1] - once[0]) / 15
        kink = 2 * gap[2] - gap[1]  # the gap is proportional to h where L is smooth, and constant at a kink
        uncertainty = float(abs(once[1] - once[0]) + abs(kink)) + 4 * self.rounding / h
        return Slope(float(twice), uncertainty, h / self._unit(direction))

    def _change(self, direction: Direction, t: float) -> float:
        """Return L(x + t·direction) − L(x), subtracted before the sum to keep digits."""
        return float(np.sum(self.cotangent * self.pair.output(_moved(self.values, direction, t)) - self.terms))

    def _unit(self, direction: Direction) -> float:
        """Return the t at which the direction moves some leaf by as much as its own size."""
        # abs is safe here and in `_finest`: directions and values are real.
        moves = [float(np.abs(v).max(initial=0.0)) / self.sizes[i] for i, v in direction.items()]
        return min(max(1 / (max(moves) or 1.0), SHORTEST), 1 / SHORTEST)

    def _finest(self, direction: Direction) -> float:
        """Return the t at which the direction moves some nonzero number by as much as its own size."""
        finest = self._unit(direction)
        for i, displacement in direction.items():
            moves = (displacement != 0) & (np.abs(self.values[i]) >= LIKE_ZERO * self.sizes[i])
            finest = min(finest, np.min(np.abs(self.values[i][moves] / displacement[moves]), initial=finest))
        return max(float(finest), SHORTEST)


def _moved(values: Sequence[Array], direction: Direction, t: complex) -> list[Array]:
    """Return values + t·direction."""
    return [np.asarray(v + t * direction[i]) if i in direction else v for i, v in enumerate(values)]
