"""The checker finds every broken promise of a pure pair, also when the numbers are right."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from npattn.gradcheck import GradientError, GradientWarning, check_gradients
from support import gradcheck_pairs as pairs


@pytest.fixture
def X():
    return np.random.default_rng(5).standard_normal((3, 4))


def problems(forward, backward, args, kwargs=None):
    """Return the problems of a check that must fail although all its numbers are right."""
    with pytest.raises(GradientError) as error:
        check_gradients(forward, backward, args, kwargs)
    report = error.value.report
    assert not report.ok and report.problems
    assert all(argument.ok for argument in report.arguments)
    return report.problems


def square(X):
    return X * X, X


def square_backward(dY, X):
    return 2 * X * dY


# ---- writing into inputs --------------------------------------------------------------------------------------


def test_backward_changes_the_cotangent(X):
    def backward(dY, X):
        dX = square_backward(dY, X)
        dY *= 2
        return dX

    assert problems(square, backward, (X,)) == ("backward: changed the cotangent",)


def test_backward_changes_an_argument(X):
    before = X.copy()

    def backward(dY, cache):
        dX = square_backward(dY, cache)
        X[1, 2] += 1
        return dX

    assert problems(lambda X: (X * X, X.copy()), backward, (X,)) == ("backward: changed X",)
    assert not np.array_equal(X, before)


class Cache(NamedTuple):
    X: np.ndarray
    parts: dict


def test_backward_changes_an_array_deep_in_the_cache(X):
    def forward(X):
        return X * X, Cache(X, {"twice": [2 * X, 1.0]})

    def backward(dY, cache):
        dX = cache.parts["twice"][0] * dY
        cache.parts["twice"][0][0, 0] = 7
        return dX

    assert problems(forward, backward, (X,)) == ("backward: changed cache.parts['twice'][0]",)


@pytest.mark.parametrize("change", [lambda c: c.pop("note"), lambda c: c.update(more=1), lambda c: c.update(note=2)])
def test_backward_changes_the_entries_of_the_cache(X, change):
    def backward(dY, cache):
        change(cache)
        return 2 * cache["X"] * dY

    found = problems(lambda X: (X * X, {"X": X, "note": 1}), backward, (X,))
    assert len(found) == 1 and found[0].startswith("backward: changed cache['")


def test_backward_changes_the_attributes_of_a_cache_object(X):
    def backward(dY, cache):
        cache.X += 0.0
        cache.X[0] = -cache.X[0]
        return 2 * abs(cache.X) * np.sign(X) * dY

    assert problems(lambda X: (X * X, SimpleNamespace(X=X.copy())), backward, (X,)) == ("backward: changed cache.X",)


@dataclasses.dataclass(slots=True)
class Slotted:
    X: np.ndarray


class OneSlot:
    __slots__ = "array"

    def __init__(self, array):
        self.array = array


def test_backward_changes_the_one_slot_of_a_cache(X):
    def backward(dY, cache):
        dX = 2 * cache.array * dY
        cache.array = cache.array + 1
        return dX

    assert problems(lambda X: (X * X, OneSlot(X)), backward, (X,)) == ("backward: changed cache.array",)


def test_backward_changes_a_cache_with_slots(X):
    def backward(dY, cache):
        dX = 2 * cache.X * dY
        cache.X = cache.X + 1
        return dX

    assert problems(lambda X: (X * X, Slotted(X)), backward, (X,)) == ("backward: changed cache.X",)


def test_cache_that_contains_itself(X):
    def forward(X):
        cache = {"X": X}
        cache["cache"] = cache
        return X * X, cache

    assert check_gradients(forward, lambda dY, cache: 2 * cache["X"] * dY, (X,)).ok


def test_backward_changes_the_output(X):
    def backward(dA, A):
        dE = pairs.softmax_backward(dA, A)
        A += 1
        return dE

    found = problems(lambda E: (pairs.softmax(E)[0],) * 2, backward, (X,))
    assert found == ("backward: changed cache", "backward: changed the output")


def test_forward_changes_its_argument_or_a_keyword_argument(X):
    def forward(X, scale=None):
        (X if scale is None else scale)[0] *= 2
        return X * X, X

    assert problems(forward, square_backward, (X,)) == ("forward: changed X",)
    assert problems(forward, square_backward, (X,), {"scale": X.copy()}) == ("forward: changed scale",)


# ---- keeping state --------------------------------------------------------------------------------------------


class Layer:
    """Keeps the mask for backward in an attribute, as many layers do."""

    def forward(self, X):
        self.mask = X.real > 0
        return X * self.mask, None

    def backward(self, dY, cache):
        return dY * self.mask


def test_stale_cache_in_a_layer(X):
    layer = Layer()
    found = problems(layer.forward, layer.backward, (X,))
    assert found == ("gradient of X: depends on later calls of forward, not on the cache alone",)


def test_cache_is_a_buffer_that_the_next_forward_overwrites(X):
    buffer = np.empty(X.shape, np.complex128)

    def forward(X):
        buffer[...] = X
        return X * X, buffer

    found = problems(forward, lambda dY, cache: 2 * cache.real * dY, (X,))
    assert found == ("forward: a second call overwrites cache of the first",)


def test_output_is_a_buffer_that_the_next_forward_overwrites(X):
    buffers = {np.float64: np.empty(X.shape), np.complex128: np.empty(X.shape, np.complex128)}

    def forward(X):
        return np.multiply(X, X, out=buffers[X.dtype.type]), X.copy()

    assert "forward: a second call overwrites the output of the first" in problems(forward, square_backward, (X,))


def test_backward_differs_from_call_to_call(X):
    rng = np.random.default_rng(0)

    def backward(dY, X):
        return square_backward(dY, X) * (1 + 1e-15 * rng.standard_normal(X.shape))

    found = problems(square, backward, (X,))
    assert "gradient of X: a second call of backward gives other bits" in found


def test_forward_differs_from_call_to_call(X):
    rng = np.random.default_rng(0)

    def dropout(X):
        mask = rng.random(X.shape) < 0.5
        return X * mask, mask

    found = problems(dropout, lambda dY, mask: dY * mask, (X,))
    assert found == ("forward: two calls with the same arguments give different outputs",)


def test_a_backward_that_draws_at_random_is_named_as_the_cause(X):
    """Its noise is not called rounding, and its gradient not nonlinear: those would be other faults."""
    cause = "two calls of backward with the same arguments give different numbers"
    broken = (
        "gradient of X: a second call of backward gives other bits",
        "gradient of X: depends on later calls of forward, not on the cache alone",
    )

    def check(size, **options):
        rng = np.random.default_rng(0)

        def backward(dY, X):
            return square_backward(dY, X) * (1 + size * rng.standard_normal(X.shape))

        try:
            return check_gradients(square, backward, (X,), **options)
        except GradientError as error:
            return error.report

    report = check(0.1)
    assert (report["X"].verdict, report["X"].hint) == ("noisy", f"cannot be judged: {cause}")
    assert report.problems == broken and report.notes == ()
    report = check(0.1, contract=False)
    assert (report["X"].verdict, report["X"].hint) == ("noisy", f"cannot be judged: {cause}")
    assert report.problems == () and report.notes == broken
    report = check(1e-7, contract=False)
    assert report.ok and report["X"].noise > 1e-8 and report.notes == broken


def test_a_wrong_gradient_that_is_drawn_at_random_is_named_too(X):
    rng = np.random.default_rng(0)
    shifted = lambda dY, X: 5 + rng.random(X.shape)  # noqa: E731
    with pytest.raises(GradientError) as error:
        check_gradients(square, shifted, (X,), contract=False)
    found = error.value.report["X"]
    hint = "two calls of backward with the same arguments give different numbers"
    assert (found.verdict, found.hint) == ("wrong", hint)


def test_a_forward_that_draws_at_random_is_named_as_the_cause(X):
    rng = np.random.default_rng(0)

    def forward(X):
        factors = 1 + 0.1 * rng.standard_normal(X.shape)
        return X * factors, factors

    with pytest.raises(GradientError) as error:
        check_gradients(forward, lambda dY, factors: dY * factors, (X,), contract=False)
    found = error.value.report["X"]
    assert found.hint is not None
    assert found.hint.endswith("two calls of forward with the same arguments give different numbers")


# ---- aliasing -------------------------------------------------------------------------------------------------


def test_gradient_is_the_cotangent(X):
    found = problems(lambda X: (1 * X, None), lambda dY, _: dY, (X,))
    assert found[0] == "gradient of X: shares memory with the cotangent"


def test_gradient_is_a_view_of_the_cotangent(X):
    found = problems(lambda X: (X.T + 0, None), lambda dY, _: dY.T, (X,))
    assert found[0] == "gradient of X: shares memory with the cotangent"


def test_gradient_is_part_of_the_cache(X):
    """The output is empty. Every gradient is zero then, and so is this one."""
    found = problems(lambda X: (X[:0] * 1, [np.zeros((2, *X.shape))]), lambda dY, cache: cache[0][1], (X,))
    assert found[0] == "gradient of X: shares memory with cache[0]"


def test_gradients_share_memory(X):
    def backward(dY, _):
        dX = dY.copy()
        return dX, dX

    found = problems(lambda X, Z: (X + Z, None), backward, (X, X + 1))
    assert found == ("gradient of Z: shares memory with the gradient of X",)


def test_each_gradient_that_shares_memory_is_named_once(X):
    """Both gradients are the cotangent, and so they also share memory with each other."""
    found = problems(lambda X, Z: (X + Z, None), lambda dY, _: (dY, dY), (X, X + 1))
    assert found == tuple(f"gradient of {name}: shares memory with the cotangent" for name in "XZ")


def test_interleaved_gradients_do_not_share_memory(X):
    def backward(dY, _):
        both = np.empty((*dY.shape, 2))
        both[..., 0], both[..., 1] = dY, -dY
        return both[..., 0], both[..., 1]

    assert check_gradients(lambda X, Z: (X - Z, None), backward, (X, X + 1)).ok


def test_gradient_lies_in_a_buffer_that_backward_uses_again(X):
    buffer = np.empty(X.shape)

    def backward(dY, X):
        return np.multiply(2 * X, dY, out=buffer)

    found = problems(square, backward, (X,))
    assert found == ("gradient of X: the next call of backward overwrites it",)


# ---- properties of a derivative -------------------------------------------------------------------------------


def test_gradient_for_a_zero_cotangent_is_exactly_zero(X):
    found = problems(square, lambda dY, X: square_backward(dY, X) + 1e-30, (X,))
    assert found == ("gradient of X: not exactly zero for a zero cotangent",)


def test_nonlinear_backward(X):
    """Right for cotangents of the usual size. Large ones are clipped."""
    found = problems(square, lambda dY, X: 2 * X * np.clip(dY, -4, 4), (X,))
    assert found == ("gradient of X: not linear in the cotangent",)


def test_linearity_allows_for_rounding_noise():
    """The gradient of a shift of all scores is noise, and noise is not linear."""
    rng = np.random.default_rng(0)
    E = rng.standard_normal((3, 4))
    forward = lambda b: (pairs.softmax(E + b)[0],) * 2  # noqa: E731
    backward = lambda dA, A: pairs.softmax_backward(dA, A).sum().reshape(1)  # noqa: E731
    with pytest.warns(GradientWarning, match="every gradient is zero here"):
        assert check_gradients(forward, backward, (np.zeros(1),))["b"].verdict == "zero"


# ---- shape and dtype ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda db: db[None], "expected shape (4,), got (1, 4); only axes of length 1 differ: keepdims?"),
        (lambda db: np.stack([db] * 3), "expected shape (4,), got (3, 4); the argument is broadcast: sum over axis 0"),
        (lambda db: db[:2].copy(), "expected shape (4,), got (2,)"),
        (lambda db: db.sum(), "expected shape (4,), got ()"),
    ],
)
def test_wrong_shape(X, change, hint):
    def backward(dY, X):
        return dY * 1, change(dY.sum(0))

    with pytest.raises(GradientError) as error:
        check_gradients(lambda X, b: (X + b, X), backward, (X, X[0]))
    report = error.value.report
    assert [argument.verdict for argument in report.arguments] == ["ok", "shape"]
    assert report["b"].hint == hint and report["b"].error == np.inf and report["b"].analytic is None


def test_transposed_shape(X):
    with pytest.raises(GradientError) as error:
        check_gradients(square, lambda dY, X: square_backward(dY, X).T.copy(), (X,))
    assert error.value.report["X"].hint == "expected shape (3, 4), got (4, 3); transposed?"


def test_gradient_that_is_not_summed_over_a_broadcast_axis(X):
    with pytest.raises(GradientError) as error:
        check_gradients(lambda X, s: (X * s, (X, s)), lambda dY, c: (dY * c[1], dY * c[0]), (X, X[:, :1].copy()))
    report = error.value.report
    assert report["X"].ok
    assert report["s"].hint == "expected shape (3, 1), got (3, 4); the argument is broadcast: sum over axis 1"


@pytest.mark.parametrize("wrong", [np.float32, np.longdouble])
def test_wrong_dtype(X, wrong):
    with pytest.raises(GradientError) as error:
        check_gradients(square, lambda dY, X: square_backward(dY, X).astype(wrong), (X,), rtol=1e-6)
    argument = error.value.report["X"]
    assert argument.verdict == "dtype" and argument.error < 1e-6
    assert argument.hint == f"expected float64 like the argument, got {np.dtype(wrong)}"


@pytest.mark.parametrize("wrong", [bool, int, np.uint8])
def test_numbers_of_a_dtype_that_is_not_floating(X, wrong):
    with pytest.raises(GradientError) as error:
        check_gradients(square, lambda dY, X: square_backward(dY, X).astype(wrong), (np.abs(X),))
    argument = error.value.report["X"]
    assert argument.verdict == "dtype"
    assert argument.hint == f"expected float64 like the argument, got {np.dtype(wrong)}"


NO_REAL_NUMBERS = {
    "object": lambda dX: dX.astype(object),
    "object with None": lambda dX: np.where(dX > 0, dX, None),
    "complex128": lambda dX: dX.astype(complex),
    "complex64": lambda dX: np.complex64(1j),
    "<U32": lambda dX: dX.astype(str),
    "|S32": lambda dX: dX.astype(bytes),
    "datetime64[s]": lambda dX: dX.astype("M8[s]"),
    "timedelta64[s]": lambda dX: dX.astype("m8[s]"),
    "[('a', '<f8')]": lambda dX: dX.view([("a", "<f8")]),
    "|V8": lambda dX: dX.view("V8"),
}


@pytest.mark.parametrize("dtype", NO_REAL_NUMBERS)
def test_a_gradient_without_real_numbers(X, dtype):
    change = NO_REAL_NUMBERS[dtype]
    for contract in (True, False):
        with pytest.raises(GradientError) as error:
            check_gradients(square, lambda dY, X: change(square_backward(dY, X)), (X,), contract=contract)
        report = error.value.report
        assert report.arguments == ()
        assert report.problems == (f"gradient of X: expected real numbers, got {dtype.partition(' with')[0]}",)


def test_float32_argument_whose_gradient_is_float64(X):
    """np.sqrt(4) is a float64 scalar and makes the result float64; math.sqrt(4) does not."""
    scaled = lambda X: (X / np.sqrt(np.float64(4)), None)  # noqa: E731
    with pytest.raises(GradientError) as error:
        check_gradients(scaled, lambda dY, _: dY / np.sqrt(np.float64(4)), (X.astype(np.float32),))
    argument = error.value.report["X"]
    assert argument.verdict == "dtype" and argument.error <= 1e-15
    assert argument.hint == "expected float32 like the argument, got float64"
