"""Limit the length of the gradient, taken over all parameters as one vector.

**Formula.** ‖g‖ = √Σ gᵢ², the sum running over every entry of every array; if ‖g‖ > c, then g ← g · c/‖g‖.
The direction stays, so this is still a step downhill, only a shorter one.

**Range.** Squares leave the range of a dtype long before its numbers do: 1e200² overflows float64, 1e20²
float32, and dividing by an infinite norm would turn a huge gradient into zeros. With the largest |gᵢ| as unit
u, ‖g‖ = u·√Σ (gᵢ/u)², every quotient is at most 1. That costs another pass, so it is taken only where it is
needed.

**Shapes.** Arrays of any shape; the norm is one number for all of them.

**Raises.** ValueError and TypeError, by the name of the parameter; see `clip_gradients`.

**Source.** Pascanu, Mikolov, Bengio 2013, "On the difficulty of training recurrent neural networks",
Algorithm 1.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from npattn._internal.checks import Array, Params, check_flag, check_number, layout_of
from npattn.optim.buffers import FLOATS, Arrays, buffers, pieces, require_own, run_in_pool, spans, zeros_like

if TYPE_CHECKING:
    from concurrent.futures import Executor


def clip_gradients(
    grads: Arrays, max_norm: float, *, in_place: bool = False, pool: Executor | None = None
) -> tuple[Arrays, float]:
    """Return the gradients, no longer than `max_norm` together, and the norm they had before.

    At or below `max_norm` nothing is scaled, and the very same `grads` come back. Above it they are a scaled
    copy, of the same class and dtypes; `in_place=True` scales the arrays of the caller instead, who must own
    them. `max_norm=math.inf` only measures. The threads of `pool`, if given, share the work; same bits.

    A tied parameter has one name and counts once. ValueError: `max_norm` is not above 0, or a gradient holds
    NaN or inf (the message names the parameter: scaling would spread it to all). TypeError: not float32 or
    float64.

    >>> grads = {"W": np.array([[3.0, 0.0]]), "b": np.array([4.0])}
    >>> clip_gradients(grads, max_norm=1.0)          # √(3² + 4²) = 5, so everything is divided by 5
    ({'W': array([[0.6, 0. ]]), 'b': array([0.8])}, 5.0)
    >>> clip_gradients(grads, max_norm=5.0)[0] is grads
    True
    """
    max_norm = check_number("max_norm", max_norm, 0, ends="(]")
    for name, (_, dtype) in layout_of("gradients", grads).items():
        if dtype not in FLOATS:
            raise TypeError(f"gradient of {name!r}: expected float32 or float64, got {dtype}")
    if check_flag("in_place", in_place):
        require_own("gradients", grads)
    unit, length = _norm(grads, pool)
    if unit * length <= max_norm:
        return grads, unit * length
    clipped = grads if in_place else zeros_like(grads)
    run_in_pool(pool, partial(_scale, unit=unit, factor=max_norm / length), spans(grads, clipped))
    return clipped, unit * length


def _scale(array: Array, out: Array, unit: float, factor: float) -> None:
    with np.errstate(under="ignore"):  # what is too small for its dtype may fade to 0
        scaled = array if unit == 1 else np.divide(array, unit, dtype=np.float64)
        np.multiply(scaled, factor, out=out)


def sum_of_squares(grads: Params, pool: Executor | None = None) -> float:
    """Return Σ gᵢ² over all arrays, from the threads of the pool; not finite if an entry or its square is not."""
    return sum(run_in_pool(pool, _squares, spans(grads)))


def _squares(array: Array) -> float:
    with np.errstate(over="ignore", under="ignore"):
        # Summed up in float64: a float32 sum of ones ends at 2²⁴.
        return sum(float(np.dot(g, g)) for (g,) in pieces([array], [False]))


def require_finite(grads: Params) -> None:
    """Raise a ValueError that names the first parameter whose gradient is not finite, and where."""
    for name, array in grads.items():
        wrong = np.argwhere(~np.isfinite(array))
        if len(wrong):
            place = tuple(int(i) for i in wrong[0])
            raise ValueError(
                f"gradient of {name!r}: expected finite numbers, {len(wrong)} of {array.size} are not, "
                f"the first {array[place]} at {place}"
            )


def largest(array: Array) -> float:
    """Return max |gᵢ|, NaN if there is one, 0 if there are none; without the temporary of np.abs."""
    return float(np.maximum(array.max(initial=0), -array.min(initial=0)))


def _norm(grads: Params, pool: Executor | None) -> tuple[float, float]:
    """Return (unit, length), both well inside the range of float64, whose product is the norm."""
    squares = sum_of_squares(grads, pool)
    if _lost_to_underflow(grads) < squares < math.inf:
        return 1.0, math.sqrt(squares)
    require_finite(grads)
    unit = max((largest(array) for (array,) in buffers(grads)), default=0.0)
    if unit == 0:
        return 1.0, 0.0
    total = 0.0
    with np.errstate(under="ignore"):  # beside the largest entry a small one may fade to 0
        for (array,) in buffers(grads):
            for (g,) in pieces([array], [False]):
                scaled = np.divide(g, unit, dtype=np.float64)
                total += float(np.dot(scaled, scaled))
    return unit, math.sqrt(total)


def _lost_to_underflow(grads: Params) -> float:
    """Return a sum of squares so small that 1e9 squares lost to underflow could show in its last digits."""
    limits = [np.finfo(array.dtype) for (array,) in buffers(grads)]
    return max((float(limit.tiny / limit.eps) * 1e9 for limit in limits), default=0.0)
