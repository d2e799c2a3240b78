"""Sizes of arrays, and points at which a pair is called besides the user's arguments."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from npattn._internal.checks import Array

LIKE_ZERO, ZERO_SIZE = 1e-18, 1e-200  # numbers so much smaller than their array, and arrays so small, count as zero


def largest_finite(values: Array | float) -> float:
    """Return the largest finite magnitude in `values`, or 0 if there is none."""
    magnitudes = np.abs(values)                               # abs is safe here: slopes and values are real
    return float(np.max(magnitudes, where=np.isfinite(magnitudes), initial=0.0))


def size_of(value: Array) -> float:
    """Return the largest finite magnitude in `value`, or 1 if all is zero or below 1e-200."""
    largest = largest_finite(value)
    return largest if largest > ZERO_SIZE else 1.0


def norm(values: Array | Sequence[float]) -> float:
    """Return ‖values‖ without squares that overflow or vanish; inf or nan if a value is.

    >>> norm([3e-200, 4e-200]), norm([0.0, 3e200])
    (5e-200, 3e+200)
    """
    size = float(np.max(np.abs(values), initial=0.0))         # abs and norm are safe here: slopes are real
    # 0 cannot be divided by; inf and nan are the result already.
    return size * float(np.linalg.norm(np.asarray(values) / size)) if 0 < size < np.inf else size


def perturbed(
    values: Sequence[Array], amount: float, rng: np.random.Generator, like_zero: float = LIKE_ZERO
) -> list[Array]:
    """Move every number up or down by ½ to 1 `amount` of itself, and a zero by that part of the size of its array.

    A number below `like_zero` of that size counts as zero.
    """
    moved = []
    for value in values:
        size = size_of(value)
        # abs is safe here: values are real. An inf moves by 0, because inf − inf is nan.
        sizes = np.where(np.abs(value) < like_zero * size, size, np.where(np.isfinite(value), value, 0))
        steps = up_or_down(0.5, 1.0, value.shape, rng)
        moved.append(np.asarray(value + amount * sizes * steps, value.dtype))
    return moved


def up_or_down(low: float, high: float, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return random numbers of both signs whose magnitudes are between `low` and `high`."""
    steps = rng.uniform(low - high, high - low, shape)
    return np.asarray(steps + np.copysign(low, steps))


def redrawn(values: Sequence[Array], largest: float, rng: np.random.Generator) -> list[Array]:
    """Return normal random numbers for each array, of its root mean square, or of 1 if that is 0, up to `largest`."""
    finite = [value[np.isfinite(value)] for value in values]
    sizes = [min(norm(kept) / math.sqrt(max(kept.size, 1)) or 1.0, largest) for kept in finite]
    return [np.asarray(size * rng.standard_normal(value.shape)) for size, value in zip(sizes, values, strict=True)]
