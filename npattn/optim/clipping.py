"""Limit the length of the gradient, taken over all parameters as one vector.

**Formula.** ‖g‖ = √Σ gᵢ²; the sum includes every entry of every array. If ‖g‖ > c, then g ← g · c/‖g‖. The direction
stays: the step still goes downhill, it is only shorter.

**Range.** Squares overflow long before the numbers do: 1e200² in float64, 1e20² in float32. Dividing by an infinite
norm would turn a huge gradient into zeros. With the largest |gᵢ| as unit u, ‖g‖ = u·√Σ (gᵢ/u)², and every quotient is
at most 1. That needs another pass over the memory, so it happens only where squares leave the range.

**Shapes.** Arrays of any shape; the norm is one number for all of them.

**Raises.** ValueError and TypeError, with the name of the parameter; see `clip_gradients`.

**Source.** Pascanu, Mikolov, Bengio 2013, "On the difficulty of training recurrent neural networks", Algorithm 1.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from npattn._internal.checks import Array, Params, check_flag, check_number, layout_of
from npattn._internal.system.underflow import drop_subnormal
from npattn.optim.buffers import Arrays, buffers, check_floats, check_unshared, pieces, run_in_pool, spans, zeros_like

if TYPE_CHECKING:
    from concurrent.futures import Executor


def clip_gradients(
    grads: Arrays, max_norm: float, *, in_place: bool = False, pool: Executor | None = None
) -> tuple[Arrays, float]:
    """Return the gradients with a norm of at most `max_norm`, and the norm that they had before.

    - grads: float32 or float64 arrays by name, of any shape. A tied parameter has one name and counts once.
    - max_norm: the limit, above 0; math.inf only measures the norm.
    - in_place: True scales these arrays, False a copy of the same class and dtypes.
    - pool: a thread pool that shares the work; None uses this thread alone. The result has the same bits.

    If the norm is at most `max_norm`, the same `grads` come back unchanged.

    Raises ValueError for a limit that is not above 0, and for a gradient with NaN or inf, which scaling would spread to
    all gradients; with `in_place` also for read-only arrays and for names with common memory. Raises TypeError for
    arrays that are not float32 or float64, and for arguments of another type.

    >>> grads = {"W": np.array([[3.0, 0.0]]), "b": np.array([4.0])}
    >>> clip_gradients(grads, max_norm=1.0)          # √(3² + 4²) = 5, so everything is divided by 5
    ({'W': array([[0.6, 0. ]]), 'b': array([0.8])}, 5.0)
    >>> clip_gradients(grads, max_norm=5.0)[0] is grads
    True
    """
    max_norm = check_number("max_norm", max_norm, 0, ends="(]")
    check_floats("gradient of", layout_of("gradients", grads))
    if check_flag("in_place", in_place):
        check_unshared("gradients", grads)
    unit, length = _norm(grads, pool)
    if unit * length <= max_norm:
        return grads, unit * length
    clipped = grads if in_place else zeros_like(grads)
    run_in_pool(pool, partial(_scale, unit=unit, factor=max_norm / length), spans(grads, clipped))
    return clipped, unit * length


def _scale(array: Array, out: Array, unit: float, factor: float) -> None:
    """out = array · factor / unit; numbers below the smallest normal one become 0."""
    underflows: list[str] = []
    with np.errstate(under="call", call=lambda kind, _: underflows.append(kind)):
        np.multiply(_in_units(array, unit), factor, out=out)
    if underflows:
        drop_subnormal(out)


def sum_of_squares(grads: Params, pool: Executor | None = None, unit: float = 1.0) -> float:
    """Return Σ (gᵢ/unit)² over all arrays. It is not finite if an entry or its square is not.

    The threads of the pool share the work.
    """
    return sum(run_in_pool(pool, partial(_squares, unit=unit), spans(grads)))


def _squares(array: Array, unit: float) -> float:
    """Return Σ (gᵢ/unit)² over one array."""
    with np.errstate(over="ignore", under="ignore"):
        # The sum of the pieces is in float64: in float32 a sum of ones stops at 2²⁴.
        return sum(float(np.dot(s := _in_units(g, unit), s)) for (g,) in pieces([array], [False]))


def _in_units(array: Array, unit: float) -> Array:
    """Return array / unit, in float64 unless the unit is 1."""
    return array if unit == 1 else np.divide(array, unit, dtype=np.float64)


def check_finite(grads: Params) -> None:
    """Raise a ValueError that names the first gradient with NaN or inf, and the place."""
    for name, array in grads.items():
        wrong = np.argwhere(~np.isfinite(array))
        if len(wrong):
            place = tuple(int(i) for i in wrong[0])
            raise ValueError(
                f"gradient of {name!r}: expected finite numbers, {len(wrong)} of {array.size} are not, "
                f"the first {array[place]} at {place}"
            )


def largest(array: Array) -> float:
    """Return max |gᵢ|: NaN if any entry is NaN, 0 for an empty array. np.abs would need a temporary array."""
    return float(np.maximum(array.max(initial=0), -array.min(initial=0)))


def _norm(grads: Params, pool: Executor | None) -> tuple[float, float]:
    """Return (unit, length), both well inside the range of float64. Their product is the norm."""
    squares = sum_of_squares(grads, pool)
    if _lost_to_underflow(grads) < squares < math.inf:
        return 1.0, math.sqrt(squares)
    check_finite(grads)
    unit = max((largest(array) for (array,) in buffers(grads)), default=0.0) or 1.0
    return unit, math.sqrt(sum_of_squares(grads, pool, unit))


def _lost_to_underflow(grads: Params) -> float:
    """Return a bound: below it, 1e9 squares lost to underflow could change the last digits of the sum of squares."""
    limits = [np.finfo(array.dtype) for (array,) in buffers(grads)]
    return max((float(limit.tiny / limit.eps) * 1e9 for limit in limits), default=0.0)
