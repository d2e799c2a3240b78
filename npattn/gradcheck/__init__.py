"""Check a hand-written backward pass against numeric derivatives: npattn's own, and anybody's.

>>> import numpy as np
>>> def forward(x, w):
...     return np.tanh(x @ w), (x, w)
>>> def backward(dy, cache):
...     x, w = cache
...     dz = dy * (1 - np.tanh(x @ w) ** 2)
...     return dz @ w.T, x.T @ dz
>>> rng = np.random.default_rng(0)
>>> report = check_gradients(forward, backward, (rng.standard_normal((3, 4)), rng.standard_normal((4, 2))))
>>> report.ok, report.max_error < 1e-14, report["w"].method
(True, True, 'complex-step')

The course of a check: `pair` calls the functions, `contract` watches what they do to memory, `numeric` measures
slopes, `probes` chooses where, `trial` compares, `noise` tells rounding from an error, `diagnosis` and `hints`
explain, `report` prints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from npattn._internal.checks import check_choice, check_generator, check_number, shown
from npattn.gradcheck.check import METHODS, Check, Choice
from npattn.gradcheck.pair import Pair
from npattn.gradcheck.report import ArgumentReport, GradientError, GradientReport

__all__ = ["ArgumentReport", "GradientError", "GradientReport", "check_gradients"]


def check_gradients(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    method: Choice = "auto",
    rtol: float | None = None,
    rng: int | np.random.Generator = 0,
) -> GradientReport:
    """Check that ``backward(dy, cache)`` is the derivative of ``forward(*args, **kwargs) -> (y, cache)``.

    With a random cotangent dy the loss is L = Σ dy·y, and the gradients that backward returns must be ∂L/∂args.
    In a test of your own::

        def test_my_layer():
            rng = np.random.default_rng(0)
            X, W, b = rng.standard_normal((5, 4)), rng.standard_normal((4, 3)), rng.standard_normal(3)
            npattn.check_gradients(my_layer, my_layer_backward, (X, W, b))

    From the shell: ``npattn check module:my_layer --args X:5,4 W:4,3 b:3``.

    **Arguments.** Every floating array in `args` is differentiated, also in nested mappings, lists, tuples and
    NamedTuples. Integer and boolean arrays, None and Python scalars are passed through, and so is all of `kwargs`:
    put masks there, and arrays that need no derivative. y may be an array, a scalar, or nested as well; dy has its
    structure. A `numpy.random.Generator` among the arguments is copied for each call, so that dropout keeps its mask.

    **Gradients.** Backward returns one for each argument that holds a floating array, in the order of the arguments,
    as a tuple or list; a single one may be bare. Other arguments have no slot, or a slot with None, and Nones at the
    end may stand for arguments that were not passed. ``forward(Q, X, mask)`` gives (dQ, dX) or (dQ, dX, None),
    ``embedding(ids, W_E)`` gives dW_E. The gradient of a mapping is a mapping with its keys; lists and tuples inside
    an argument follow the rule for arguments. None for a floating array states that its gradient is zero, and is
    checked.

    **Method.** ``"complex-step"`` has no cancellation: errors are about 1e-15, the tolerance is 1e-12. It needs a
    forward that runs on complex numbers: no abs, var, norm, sign or conj, comparisons on ``.real``, no buffer of a
    fixed dtype. ``"central-difference"`` (Richardson-extrapolated) needs nothing; errors are about 1e-12, at worst
    1e-8, the tolerance is 1e-7. ``"auto"`` uses the complex step if central differences agree with it, and otherwise
    central differences, with a note that says why. `rtol` replaces the tolerance.

    Up to 1,000 numbers, every entry of every gradient is compared; beyond, each gradient along three random
    directions, shared by several arrays when there are many, which a wrong entry cannot escape, and in some entries.
    Errors are relative to the largest |gradient| of the array, or along a direction to its norm, whatever its size:
    nothing passes for being small. Only what is lost in rounding noise counts as zero: see `npattn.gradcheck.noise`.
    Arguments that sit on a kink (relu at 0, a tie of max) are noticed, and the check is made 0.1 % beside it. Arrays
    that are not float64 are checked in float64.

    **Also checked**, with the arguments as they are: shape and dtype of each gradient; that arguments, dy, cache and
    y stay as they were, byte by byte; that backward gives the same bits when called again, also after another call
    of forward; that a zero cotangent gives exactly zero; that backward is linear in dy; that no gradient shares
    memory with an argument, dy, the cache, y or another gradient.

    Args:
        rng: seed or Generator for the cotangent and the random directions; the same seed gives the same report.

    Returns:
        The report, a value that prints as a table.

    Raises:
        GradientError: a gradient is wrong or another promise is broken. It is an AssertionError, carries the report
            as `.report`, and prints as it does.
        ValueError: there is no floating array in `args`, y is not finite, or the method does not suit forward.
        TypeError: `args` is no tuple, forward returns no (y, cache), or something is complex.
    """
    if not isinstance(args, (tuple, list)):
        raise TypeError(f"args: expected a tuple of arguments, as in (x,), got {type(args).__name__}")
    for symbol, function in (("forward", forward), ("backward", backward)):
        if not callable(function):
            raise TypeError(f"{symbol}: expected a function, got {type(function).__name__}")
    if kwargs is not None and not (isinstance(kwargs, Mapping) and all(isinstance(name, str) for name in kwargs)):
        raise TypeError(f"kwargs: expected a mapping of names to arguments, got {shown(kwargs)}")
    check_choice("method", method, METHODS)
    if rtol is not None:
        rtol = check_number("rtol", rtol, 0, ends="(]")
    pair = Pair(forward, backward, tuple(args), dict(kwargs or {}))
    report = Check(pair, method, rtol, check_generator("rng", rng)).run()
    if not report.ok:
        raise GradientError(report)
    return report
