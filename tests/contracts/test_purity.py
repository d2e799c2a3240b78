"""Every pair of layers and attention is pure, takes any memory layout, and returns the dtype that it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn._internal.checks import Array
from support.calls import Setting, arrays, cotangent, examples, floating, settings
from support.layouts import LAYOUTS, freeze
from support.pairs import PAIRS, Pair, gradients

each_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)


def bits(tree: Any) -> list[tuple[str, tuple[int, ...], bytes]]:
    return [(a.dtype.str, a.shape, a.tobytes()) for a in arrays(tree)]


def assert_close(got: Any, expected: Any, rtol: float) -> None:
    """Compare trees of arrays. Errors are relative to the largest entry of all, since some gradients are noise."""
    pairs = list(zip(floating(got), floating(expected), strict=True))
    scale = max((np.abs(e).max(initial=0.0) for _, e in pairs), default=0.0)
    for g, e in pairs:
        assert g.shape == e.shape
        assert np.abs(g.astype(np.float64) - e).max(initial=0.0) <= rtol * scale


@each_pair
@given(setting=settings())
@examples(4)
def test_purity(pair: Pair, setting: Setting) -> None:
    """Arguments, cotangent and cache may be read-only, and stay as they were."""
    call = pair.call(setting)
    freeze(call.args)
    freeze(call.kwargs)
    Y, cache = call.run()
    before = bits((call.args, call.kwargs, Y, cache))
    dY = cotangent(Y)
    freeze((cache, dY))
    dY_before = bits(dY)
    first = pair.backward(dY, cache)
    second = pair.backward(dY, cache)
    assert bits(first) == bits(second)
    assert bits(dY) == dY_before
    assert bits((call.args, call.kwargs, Y, cache)) == before


@each_pair
@given(setting=settings())
@examples(4)
def test_pending_caches_do_not_mix(pair: Pair, setting: Setting) -> None:
    """After two forward calls, their backward calls may come in either order."""
    calls = [pair.call(setting), pair.call(Setting(setting.seed + 1, 1, setting.dtype))]
    alone = [bits(gradients(pair, call)) for call in calls]
    pending = [call.run() for call in calls]
    for i in (1, 0, 1):
        Y, cache = pending[i]
        returned = pair.backward(cotangent(Y), cache)
        assert bits(returned) == alone[i]
        for gradient in floating(returned):
            gradient.fill(np.nan)  # the caller may overwrite what was returned


@each_pair
@given(setting=settings())
@examples(4)
def test_results_share_no_memory_with_arguments(pair: Pair, setting: Setting) -> None:
    call = pair.call(setting)
    Y, cache = call.run()
    given_arrays = [*arrays(call.args), *arrays(call.kwargs)]
    assert not any(np.shares_memory(Y, array) for array in given_arrays)
    dY = cotangent(Y)
    returned = floating(pair.backward(dY, cache))
    held = [*given_arrays, *arrays(cache), Y, dY]
    for i, gradient in enumerate(returned):
        assert not any(np.shares_memory(gradient, array) for array in [*held, *returned[:i]])
        assert gradient.flags.writeable


@each_pair
@given(setting=settings(dtype="float64"), layout=st.sampled_from(LAYOUTS))
@examples(6)
def test_any_layout_in_memory(pair: Pair, setting: Setting, layout: Callable[[Array], Array]) -> None:
    """Inputs and cotangents with gaps, negative strides or in Fortran order give what contiguous copies give."""

    def laid_out(values: Any) -> Any:
        return layout(values) if isinstance(values, np.ndarray) and values.ndim else values

    call = pair.call(setting)
    Y, cache = call.run()
    expected = pair.backward(cotangent(Y), cache)
    other = call.with_args(*map(laid_out, call.args))
    other.kwargs.update({key: laid_out(value) for key, value in other.kwargs.items()})
    Z, cache = other.run()
    assert_close(Z, Y, 1e-14)
    dZ = np.asarray(laid_out(cotangent(Y)))
    freeze((other.args, dZ))
    assert_close(pair.backward(dZ, cache), expected, 1e-13)


@each_pair
@given(setting=settings(dtype="float32"))
@examples(6)
def test_float32_in_float32_out(pair: Pair, setting: Setting) -> None:
    """Outputs, gradients and caches keep float32 and its precision. (`np.sqrt(64)` times float32 is float64.)"""
    call = pair.call(setting)
    Y, cache = call.run()
    returned = pair.backward(cotangent(Y), cache)
    assert {a.dtype for a in [Y, *floating(cache), *floating(returned)]} == {np.dtype(np.float32)}
    exact = call.with_args(*(a.astype(np.float64) if floating(a) else a for a in call.args))
    Z, cache = exact.run()
    assert_close(Y, Z, 1e-5)
    assert_close(returned, pair.backward(cotangent(Y).astype(np.float64), cache), 1e-4)


@each_pair
def test_numpy_scalars_promote_nothing(pair: Pair) -> None:
    """A hyperparameter of type np.float64 does not turn float32 into float64."""
    call = pair.call(Setting(dtype="float32", optional=3))
    options = {k: np.float64(v) if isinstance(v, float) else v for k, v in call.kwargs.items()}
    call.kwargs.update(options)
    Y, cache = call.run()
    returned = pair.backward(cotangent(Y), cache)
    assert {a.dtype for a in [Y, *floating(returned)]} == {np.dtype(np.float32)}


@each_pair
@given(setting=settings())
@examples(4)
def test_the_gradient_of_none_is_none(pair: Pair, setting: Setting) -> None:
    """Gradients have the order of the array arguments, with None where an optional argument was None."""
    call = pair.call(setting)
    given_arrays = [a for a in call.args if not isinstance(a, np.ndarray) or a.dtype.kind == "f"]
    if not pair.plain:
        given_arrays = [a for i, a in enumerate(call.args) if i != 3]  # the mask has no gradient
    returned = gradients(pair, call)
    assert len(returned) == len(given_arrays)
    for gradient, argument in zip(returned, given_arrays, strict=True):
        assert (gradient is None) == (argument is None)
        assert gradient is None or (gradient.shape, gradient.dtype) == (argument.shape, argument.dtype)
