"""Check a hand-written backward pass, of npattn or your own, against numeric derivatives.

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

A check runs through these files: `pair` calls the functions, `contract` finds out whether they write into their inputs,
`numeric` measures slopes, `probes` chooses directions, `trial` compares, `noise` distinguishes rounding from an error,
`diagnosis` and `hints` explain it, `report` prints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from npattn._internal.checks import check_choice, check_generator, check_number
from npattn.gradcheck.check import METHODS, Check, Choice
from npattn.gradcheck.pair import PairUnderTest
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

    - forward: a function that returns (y, cache). y is an array, a scalar, or nested; the cache is any object.
    - backward: a function of (dy, cache) that returns the gradients, see below. dy is the *cotangent* of y: the
      gradient of the loss with respect to y, in the structure of y.
    - args: tuple of the positional arguments of forward. Every floating array in it is differentiated, also in nested
      mappings, lists, tuples and NamedTuples. Integer and boolean arrays, None and Python scalars are passed through.
    - kwargs: keyword arguments of forward, not differentiated: put masks there. None for no keyword arguments.
    - method: "complex-step", "central-difference", or "auto", which chooses one of them, see below.
    - rtol: the largest relative error that passes, above 0; None for 1e-12 by the complex step and 1e-7 otherwise.
    - rng: seed or Generator for the cotangent and the random directions; the same seed gives the same report.

    The check draws a random cotangent dy. Then the loss is L = Σ dy·y, and backward must return ∂L/∂args. In a test of
    your own::

        def test_my_layer():
            rng = np.random.default_rng(0)
            X, W, b = rng.standard_normal((5, 4)), rng.standard_normal((4, 3)), rng.standard_normal(3)
            npattn.check_gradients(my_layer, my_layer_backward, (X, W, b))

    From the shell: ``npattn check module:my_layer --args X:5,4 W:4,3 b:3``.

    Returns a `GradientReport`, which prints as a table. Raises GradientError, an AssertionError with the report as
    `.report`, if a gradient is wrong or a check below fails. Raises ValueError if there is no floating array in
    `args`, if y is not finite, or if `method` does not suit forward. Raises TypeError if `args` is no tuple, if forward
    returns no (y, cache), or if an array is complex.

    **Arguments.** A `numpy.random.Generator` in `args` or `kwargs` is copied for each call, so dropout keeps its mask.
    Arrays that are not float64 are checked in float64.

    **Gradients.** Backward returns one gradient for each argument that holds a floating array, in the order of the
    arguments, as a tuple or list. A single gradient may come without the tuple. Other arguments have no slot, or a slot
    with None. Nones at the end may stand for arguments that were not passed. ``forward(Q, X, mask)`` gives (dQ, dX) or
    (dQ, dX, None), ``embedding(ids, W_E)`` gives dW_E. The gradient of a mapping is a mapping with its keys. Lists and
    tuples inside an argument follow the rule for arguments. None for a floating array states that its gradient is
    zero, and this is checked.

    **Method.** The complex step has no cancellation: its errors are about 1e-15. It needs a forward that runs on
    complex numbers: no abs, var, norm, sign or conj, comparisons on ``.real``, no buffer of a fixed dtype. Central
    differences (Richardson-extrapolated) work with every forward. Their errors are about 1e-12, at worst 1e-8. "auto"
    uses the complex step if central differences agree with it. Otherwise it uses central differences, and a note gives
    the reason.

    **What is compared.** Up to 1,000 numbers in all: every entry of every gradient. With more: each gradient along
    three random directions, and some gradients also in two entries. A wrong entry changes the slope along every
    direction. Many arrays share directions. Errors are relative to the largest |gradient| of the array, or along a
    direction to its norm. So a gradient does not pass because it is small; only what is lost in rounding noise counts
    as zero, see `npattn.gradcheck.noise`. If the arguments are on a kink (relu at 0, a tie of max), the check moves
    every number by up to 0.1 %.

    **Also checked**, on the arguments as they are:

    - Each gradient has the shape and dtype of its argument.
    - Arguments, dy, cache and y stay as they were, byte by byte.
    - Backward gives the same bits in a second call, also after another call of forward.
    - A cotangent of zero gives gradients of exactly zero, and backward is linear in dy.
    - No gradient shares memory with an argument, dy, the cache, y or another gradient.
    """
    check_choice("method", method, METHODS)
    if rtol is not None:
        rtol = check_number("rtol", rtol, 0, ends="(]")
    pair = PairUnderTest(forward, backward, args, kwargs)
    report = Check(pair, method, rtol, check_generator("rng", rng)).run()
    if not report.ok:
        raise GradientError(report)
    return report
