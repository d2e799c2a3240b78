"""Recognise common errors in a gradient. A hint is given only if it explains all but a thousandth of the error."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from npattn._internal.checks import Array


def value_hint(
    analytic: Array, numeric: Array, others: Sequence[tuple[str, Array]], axes: Sequence[tuple[str, int]]
) -> str | None:
    """Return what is wrong with a whole gradient, or with slopes along some directions; None if it is not recognised.

    `others` are the other gradients that backward returned. `axes` are the names and lengths of the axes of all arrays.

    >>> value_hint(np.array([2.0, -4.0]), np.array([1.0, -2.0]), [], [("axis 0 of x", 4)])
    'off by a factor of 2 = √4; 4 is the length of axis 0 of x'
    """
    if not np.isfinite(analytic).all():
        return f"nan or inf in {np.sum(~np.isfinite(analytic))} of {analytic.size} numbers"
    if not np.isfinite(numeric).all():
        return "the numeric slope is nan or inf: forward may be undefined close by"
    if not analytic.any():
        return "zero, but the loss depends on this argument"
    tolerance = 1e-3 * float(np.max(abs(analytic - numeric)))
    hints = (
        _swapped(numeric, others, tolerance),
        _factor(analytic, numeric, axes, tolerance),
        _transposed(analytic, numeric, tolerance),
        _one_entry(analytic, numeric, tolerance),
        _some_rows(analytic, numeric, tolerance),
        _row_sum(analytic, numeric),
    )
    return next(filter(None, hints), None)


def shape_hint(shape: tuple[int, ...], expected: tuple[int, ...]) -> str | None:
    """Return how a gradient could get the shape of its argument; None if it is not recognised.

    >>> shape_hint((8, 3), (3,)), shape_hint((4, 3), (3, 4))
    ('the argument is broadcast: sum over axis 0', 'transposed?')
    """
    extra = len(shape) - len(expected)
    if len(shape) > 1 and (*shape[:-2], shape[-1], shape[-2]) == expected:
        return "transposed?"
    if [n for n in shape if n != 1] == [n for n in expected if n != 1]:
        return "only axes of length 1 differ: keepdims?"
    if extra >= 0 and all(e in (1, s) for e, s in zip(expected, shape[extra:], strict=True)):
        wide = [i for i, s in enumerate(shape) if i < extra or expected[i - extra] != s]
        return f"the argument is broadcast: sum over axis {', '.join(map(str, wide))}"
    return None


def _swapped(numeric: Array, others: Sequence[tuple[str, Array]], tolerance: float) -> str | None:
    same = (name for name, g in others if g.shape == numeric.shape and np.max(abs(g - numeric)) <= tolerance)
    return next((f"the right one was returned for {name}: gradients in the wrong order?" for name in same), None)


def _factor(analytic: Array, numeric: Array, axes: Sequence[tuple[str, int]], tolerance: float) -> str | None:
    size = float(np.max(abs(numeric)))
    unit = numeric / size if size else numeric  # its squares neither overflow nor vanish
    factor = float(np.sum(analytic / size * unit)) / float(np.sum(unit * unit)) if size else np.nan
    if not np.max(abs(analytic - factor * numeric)) <= tolerance:
        return None
    if abs(factor + 1) < 1e-6:
        return "the sign is wrong"
    if abs(factor - 1) < 1e-3:
        return f"off by a factor of 1 {'+' if factor > 1 else '-'} {abs(factor - 1):.2g}"
    return f"off by a factor of {factor:.6g}{_origin(factor, axes)}"


def _origin(factor: float, axes: Sequence[tuple[str, int]]) -> str:
    """Recognise a factor as the length of an axis or its root: a mean instead of a sum, a missing 1/√D."""
    for name, length in axes:
        for root, value in (("", float(length)), ("√", math.sqrt(length))):
            for inverse, candidate in (("", value), ("1/", 1 / max(value, 1.0))):
                if length > 1 and abs(abs(factor) / candidate - 1) < 1e-6:
                    text = f"{'-' * (factor < 0)}{inverse}{root}{length}"
                    return f" = {text}; {length} is the length of {name}"
    return ""


def _transposed(analytic: Array, numeric: Array, tolerance: float) -> str | None:
    is_square = analytic.ndim >= 2 and analytic.shape[-1] == analytic.shape[-2]
    return "transposed" if is_square and np.max(abs(analytic.mT - numeric)) <= tolerance else None


def _one_entry(analytic: Array, numeric: Array, tolerance: float) -> str | None:
    wrong = np.argwhere(abs(analytic - numeric) > tolerance)
    if len(wrong) > 1:
        return None
    index = tuple(map(int, wrong[0]))
    factor = f", by a factor of {analytic[index] / numeric[index]:.6g}" if numeric[index] else ""
    return f"only the entry at {index} is wrong{factor}"


def _some_rows(analytic: Array, numeric: Array, tolerance: float) -> str | None:
    if analytic.ndim < 2:
        return None
    rows = np.unique(np.argwhere(abs(analytic - numeric) > tolerance)[:, 0])
    if len(rows) > analytic.shape[0] / 2:
        return None
    which = ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
    return f"only row {which} is wrong: is a repeated index counted once?"


def _row_sum(analytic: Array, numeric: Array) -> str | None:
    def leftover(gradient: Array) -> float:
        return float(np.max(abs(gradient.sum(axis=-1))) / np.max(abs(gradient)))

    if not numeric.ndim or not numeric.any() or leftover(numeric) > 1e-6 or leftover(analytic) < 1e-3:
        return None
    return "its rows should sum to zero: is the row sum of a softmax or a mean left out?"
