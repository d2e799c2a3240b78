"""Recognise common errors in a gradient. A hint is given only if it explains all but a thousandth of the error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array

LEFT_OVER = "the gradient on the layer is the right one plus what was there before"
DIAGONAL = "each number depends on its own cotangent only: is the Jacobian more than its diagonal?"


class Known(NamedTuple):
    """What is known besides the gradients.

    - is_whole: whether the gradient is complete, not a block of it.
    - has_indices: whether an argument holds integers, which may be indices.
    - is_diagonal: whether backward multiplies the cotangent by number, and forward mixes numbers.
    - cotangent, output: if they have the shape of the gradient.
    - arguments: the matrices among the arguments, by name.
    - left_over: what a layer held in the place of the gradient before backward.
    """

    is_whole: bool = True
    has_indices: bool = True
    is_diagonal: bool = False
    cotangent: Array | None = None
    output: Array | None = None
    arguments: Sequence[tuple[str, Array]] = ()
    left_over: Array | None = None


def value_hint(
    analytic: Array,
    numeric: Array,
    others: Sequence[tuple[str, Array]],
    axes: Sequence[tuple[str, int]],
    known: Known | None = None,
) -> str | None:
    """Return what is wrong with a whole gradient or a block of it; None if it is not recognised.

    `others` are the other gradients that backward returned. `axes` are the names and lengths of the axes of all arrays.

    >>> value_hint(np.array([2.0, -4.0]), np.array([1.0, -2.0]), [], [("axis 0 of x", 2)])
    'off by a factor of 2; 2 is the length of axis 0 of x'
    """
    known = known or Known()
    if not np.isfinite(analytic).all():
        return f"nan or inf in {np.sum(~np.isfinite(analytic))} of {analytic.size} numbers"
    if not np.isfinite(numeric).all():
        return "the numeric slope is nan or inf: forward may be undefined close by"
    if not analytic.any():
        return "zero, but the loss depends on this argument"
    tolerance = 1e-3 * float(np.max(abs(analytic - numeric)))
    if known.left_over is not None and np.max(abs(analytic - known.left_over - numeric)) <= tolerance:
        return LEFT_OVER
    hints = (
        _swapped(numeric, others, tolerance),
        _factor(analytic, numeric, axes, tolerance),
        _transposed(analytic, numeric, tolerance),
        _one_entry(analytic, numeric, tolerance) if known.is_whole else None,
        _some_rows(analytic, numeric, tolerance, known.has_indices) if known.is_whole else None,
        _elsewhere(analytic, numeric, tolerance),
        _missing(analytic, numeric, known.cotangent, tolerance),
        _transposed_factor(analytic, numeric, known.arguments),
        _sums(analytic, numeric, known, tolerance),
        _constant_along(analytic, numeric, tolerance),
    )
    hint = next(filter(None, hints), None)
    if not known.is_diagonal:
        return hint
    return f"{hint}; {DIAGONAL}".replace("?; e", "? E") if hint else DIAGONAL


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
                if length > 1 and abs(abs(factor) / candidate - 1) < 1e-6 and not (root and value.is_integer()):
                    text = f"{'-' * (factor < 0)}{inverse}{root}{length}"
                    equals = f" = {text}" * (text != f"{factor:.6g}")
                    return f"{equals}; {length} is the length of {name}"
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


def _some_rows(analytic: Array, numeric: Array, tolerance: float, has_indices: bool) -> str | None:
    if analytic.ndim < 2:
        return None
    rows = np.unique(np.argwhere(abs(analytic - numeric) > tolerance)[:, 0])
    if len(rows) > analytic.shape[0] / 2:
        return None
    *others, last = [*map(str, rows)] if len(rows) < 6 else [*map(str, rows[:5]), "others"]
    which = f"the rows {', '.join(others)} and {last} are" if others else f"row {last} is"
    return f"only {which} wrong" + ": is a repeated index counted once?" * has_indices


def _elsewhere(analytic: Array, numeric: Array, tolerance: float) -> str | None:
    """Recognise the right numbers in other places: heads merged without the transposition, rows in another order."""

    def gap(one: Array, other: Array) -> float:
        return float(np.max(abs(np.sort(one, axis=None) - np.sort(other, axis=None))))

    text = "the right numbers in the wrong places: a reshape without its transpose, heads merged in the wrong order?"
    same_rows = gap(analytic.sum(-1), numeric.sum(-1)) <= tolerance if analytic.ndim else True
    return text if gap(analytic, numeric) <= tolerance and not same_rows else None


def _missing(analytic: Array, numeric: Array, cotangent: Array | None, tolerance: float) -> str | None:
    if cotangent is None:
        return None
    for sign, verb in ((1, "is missing"), (-1, "is added")):
        if np.max(abs(numeric - analytic - sign * cotangent)) <= tolerance:
            return f"the cotangent itself {verb}: a residual connection?"
    return None


def _transposed_factor(analytic: Array, numeric: Array, arguments: Sequence[tuple[str, Array]]) -> str | None:
    """Recognise M^T B in place of M B for an argument B, if B determines M: the gradient of attention scores."""
    for name, B in arguments:
        if analytic.shape == B.shape and B.ndim == 2 and np.linalg.matrix_rank(B) == len(B) and len(B) > 1:
            error = (analytic - numeric) @ np.linalg.pinv(B)      # M^T − M
            if np.max(abs(error + error.T)) <= 1e-3 * np.max(abs(error)):
                return f"the matrix that multiplies {name} is transposed"
    return None


def _sums(analytic: Array, numeric: Array, known: Known, tolerance: float) -> str | None:
    """Recognise sums that should be zero, as below a softmax or a mean."""

    def leftover(gradient: Array, axis: int) -> float:
        return float(np.max(abs(gradient.sum(axis=axis))) / np.max(abs(gradient)))

    if not numeric.any():
        return None
    zero = [axis for axis in range(-1, -numeric.ndim - 1, -1) if leftover(numeric, axis) <= 1e-6]
    if not zero or leftover(analytic, zero[0]) < 1e-3:
        return None
    right = numeric.ndim + zero[0]
    for axis in {*range(numeric.ndim)} - {right}:
        if known.output is not None and known.cotangent is not None and known.output.all():
            rest = analytic / known.output - known.cotangent      # minus the sum, if the output is a softmax
            left_out = rest - rest.mean(axis=axis, keepdims=True)
            is_sum = np.max(abs(rest)) > tolerance and np.max(abs(left_out)) <= tolerance
        else:
            is_sum = leftover(analytic, axis) <= 1e-6
        if is_sum:
            return f"a softmax or a mean over axis {axis} instead of {right}?"
    where = "its rows should sum to" if zero[0] == -1 else f"its sums over axis {right} should be"
    return f"{where} zero: is the row sum of a softmax or a mean left out?"


def _constant_along(analytic: Array, numeric: Array, tolerance: float) -> str | None:
    """Recognise a difference that is the same along an axis: a sum or mean over it is missing."""
    difference = numeric - analytic
    for axis, length in enumerate(difference.shape):
        if length > 2 and np.max(abs(difference - difference.mean(axis=axis, keepdims=True))) <= tolerance:
            return f"a term is missing that is the same along axis {axis}: a sum or mean over it?"
    return None
