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

From an argument to the report, a check runs through these files, and `check` has its steps:

- `pair` holds the functions and the arguments, `trees` takes nested arguments apart, `slots` matches gradients with
  them; `layer` makes a pair of a layer object, `foreign` converts arrays of other packages;
- `contract` finds out whether the functions write into their inputs or keep state, with `memory`;
- `probes` chooses directions, `numeric` measures the slope along each, `points` has the other points to measure at;
- `trial` compares the slopes for a verdict, `precision` recognises float32, `noise` tells rounding from an error;
- `diagnosis` and `hints` say what is wrong, `report` prints it. README.md tells how to read a report.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from npattn._internal.checks import check_choice, check_flag, check_generator, check_number
from npattn.gradcheck.check import METHODS, Check, Choice
from npattn.gradcheck.layer import LayerFunctions, check_is_layer
from npattn.gradcheck.pair import PairUnderTest, argument_names
from npattn.gradcheck.report import ArgumentReport, GradientError, GradientReport, GradientWarning

__all__ = ["ArgumentReport", "GradientError", "GradientReport", "GradientWarning", "check_gradients", "check_layer"]

STREAM = (0x6E706174746E,)  # of the random numbers of a check


def check_gradients(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    method: Choice = "auto",
    rtol: float | None = None,
    rng: int | np.random.Generator = 0,
    contract: bool = True,
) -> GradientReport:
    """Check that ``backward(dy, cache)`` is the derivative of ``forward(*args, **kwargs) -> (y, cache)``.

    - forward: a function that returns (y, cache). y is an array, a scalar, or nested; the cache is any object.
    - backward: a function of (dy, cache) that returns the gradients, see below. dy is the *cotangent* of y: the
      gradient of the loss with respect to y, in the structure of y.
    - args: tuple of the positional arguments of forward. Every floating array in it is differentiated, also in nested
      mappings, lists, tuples, NamedTuples and dataclasses, and of PyTorch and JAX. Integer and boolean arrays, None
      and Python scalars are passed through.
    - kwargs: keyword arguments of forward, not differentiated: put masks there. None for no keyword arguments.
    - method: "complex-step", "central-difference", or "auto", which chooses one of them, see below.
    - rtol: the largest relative error that passes, above 0 and below 1; None for 1e-12 by the complex step, 1e-7
      otherwise, and 1e-5 and 2e-3 for a pair that computes in float32.
    - rng: seed or Generator for the cotangent and the random directions; the same seed gives the same report.
    - contract: False for notes in place of errors about what is also checked, see below; only wrong numbers fail then.

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

    The arguments can hide an error: a symmetric or constant matrix, a zero, numbers of one sign. So the gradients are
    compared once more along a direction, for another cotangent, at normal random numbers. A gradient that is wrong
    there fails if it is wrong 1 % beside the arguments too, or zero at them; otherwise a note says so. If every
    gradient is zero at both points, a GradientWarning says that the check proves little.

    A pair that computes in float32 is compared in that precision, and a note says so.

    **Also checked**, on the arguments as they are:

    - Each gradient has the shape and dtype of its argument.
    - Arguments, dy, cache and y stay as they were, byte by byte.
    - Backward gives the same bits in a second call, also after another call of forward.
    - A cotangent of zero gives gradients of exactly zero, and backward is linear in dy.
    - No gradient shares memory with an argument, dy, the cache, y or another gradient.
    """
    pair = PairUnderTest(forward, backward, args, kwargs, may_write=not check_flag("contract", contract))
    return _report(pair, method, rtol, rng)


def check_layer(
    layer: Any,
    inputs: Any,
    *,
    method: Choice = "auto",
    rtol: float | None = None,
    rng: int | np.random.Generator = 0,
) -> GradientReport:
    """Check a layer that is an object with ``forward(*inputs) -> y`` and ``backward(dy) -> dX``.

    - layer: the object. It may hold caches and gradients and have a random generator; it stays as it is, because only
      copies of it are called.
    - inputs: the input of forward, or a tuple of several. Floating arrays are differentiated. dX is a tuple of their
      gradients if there are several.
    - method, rtol, rng: as for `check_gradients`.

    Its parameters are the floating arrays in its attributes, also in lists, dicts and objects there, whose gradients
    are found by name after backward: for W in ``dW``, ``d_W``, ``grad_W``, ``W_grad``; in ``grads`` for ``params``; in
    ``.grad`` for ``.data``. Notes say which were found, and which arrays have no gradient and are not checked.

    >>> class Scale:
    ...     def __init__(self, w):
    ...         self.w = w
    ...     def forward(self, x):
    ...         self.x = x
    ...         return x * self.w
    ...     def backward(self, dy):
    ...         self.dw = (dy * self.x).sum(axis=0)
    ...         return dy * self.w
    >>> rng = np.random.default_rng(0)
    >>> report = check_layer(Scale(rng.standard_normal(4)), rng.standard_normal((3, 4)))
    >>> [argument.name for argument in report.arguments], report.notes
    (['x', 'w'], ('w: its gradient is dw',))

    Returns a `GradientReport`. Raises GradientError as `check_gradients` does; what a layer keeps between calls is no
    error. Raises TypeError unless `layer` has forward and backward.
    """
    check_is_layer(layer)
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    functions = LayerFunctions(layer, inputs)
    names = [*argument_names(getattr(layer, "forward", layer), len(inputs)), *functions.names]
    args = (*inputs, *functions.params)
    pair = PairUnderTest(functions.forward, functions.backward, args, may_write=True, names=names)
    pair.title, pair.left_over = type(layer).__qualname__, functions.left_over
    return _report(pair, method, rtol, rng, functions.notes)


def _report(
    pair: PairUnderTest,
    method: Choice,
    rtol: float | None,
    rng: int | np.random.Generator,
    notes: Sequence[str] = (),
) -> GradientReport:
    check_choice("method", method, METHODS)
    if rtol is not None:
        rtol = check_number("rtol", rtol, 0, 1, ends="()")
    # A seed of the user must not give these numbers too: with dy = X, XᵀX is symmetric and hides a transposition.
    seeds = np.random.SeedSequence(int(check_generator("rng", rng).integers(2**63)), spawn_key=STREAM)
    check = Check(pair, method, rtol, np.random.default_rng(seeds))
    check.notes += notes
    report = check.run()
    if not report.ok:
        raise GradientError(report)
    if check.vacuous:
        warnings.warn(f"{report.title}: {check.vacuous}", GradientWarning, stacklevel=3)
    return report
