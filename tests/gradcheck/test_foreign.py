"""Arrays of PyTorch and JAX as arguments, outputs and in the cache, with stand-ins for the packages."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from npattn.gradcheck import GradientError, check_gradients


class Tensor:
    """Stands for a tensor of PyTorch: an array that is no ndarray, and is one only detached and on the CPU."""

    __module__ = "torch"
    __slots__ = ("__weakref__", "array", "calls")

    def __init__(self, array, calls=()):
        assert isinstance(array, np.ndarray)
        self.array, self.calls = array, calls

    dtype = property(lambda self: self.array.dtype)

    def __array__(self, dtype=None, copy=None):
        assert self.calls == ("detach", "cpu")
        return np.array(self.array, dtype)

    def detach(self):
        return Tensor(self.array, (*self.calls, "detach"))

    def cpu(self):
        return Tensor(self.array, (*self.calls, "cpu"))


class ArrayImpl:
    """Stands for an array of JAX."""

    __module__ = "jaxlib._jax"

    def __init__(self, array):
        assert isinstance(array, np.ndarray)
        self.array = array

    dtype = property(lambda self: self.array.dtype)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype)


@pytest.fixture(params=[Tensor, ArrayImpl])
def kind(request, monkeypatch):
    """The class of arrays, with its package in place."""
    package = types.ModuleType("torch" if request.param is Tensor else "jax")
    package.from_numpy = Tensor
    package.numpy = types.SimpleNamespace(asarray=ArrayImpl)
    monkeypatch.setitem(sys.modules, package.__name__, package)
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def test_arguments_and_the_cache(rng, kind):
    def forward(X, W):
        assert isinstance(X, kind) and isinstance(W, np.ndarray)
        return kind(np.tanh(X.array) @ W), (X, kind(W.copy()))

    def backward(dY, cache, slip=1.0):
        X, W = cache
        T = np.tanh(X.array)
        return kind(slip * (dY.array @ W.array.T) * (1 - T * T)), T.T @ dY.array

    args = kind(rng.standard_normal((3, 4))), rng.standard_normal((4, 2))
    report = check_gradients(forward, backward, args)
    assert [a.name for a in report.arguments] == ["X", "W"] and report.max_error < 1e-12
    assert report.title.endswith("test_arguments_and_the_cache.<locals>.forward")
    with pytest.raises(GradientError):
        check_gradients(forward, lambda dY, cache: backward(dY, cache, 1.001), args)

    def writes(dY, cache):
        cache[1].array[0, 0] = 7
        return backward(dY, cache)

    with pytest.raises(GradientError, match=r"backward: changed cache\[1\]"):
        check_gradients(forward, writes, args)


def test_keyword_arguments_and_outputs_in_a_container(rng, kind):
    """The cotangent has the kinds of arrays of the output, and None for whole numbers."""

    def forward(p, *, M):
        assert isinstance(p["X"], kind) and isinstance(M["M"], kind) and M["n"] == 3
        X = p["X"].array
        return {"Y": kind(X * M["M"].array), "Z": X**2, "n": kind(np.arange(3))}, (X, M["M"].array)

    def backward(dy, cache):
        X, M = cache
        assert isinstance(dy["Y"], kind) and isinstance(dy["Z"], np.ndarray) and dy["n"] is None
        return {"X": kind(dy["Y"].array * M + 2 * X * dy["Z"])}

    X, M = rng.standard_normal((2, 3, 4))
    report = check_gradients(forward, backward, ({"X": kind(X)},), {"M": {"M": kind(M), "n": 3}})
    assert report.max_error < 1e-14 and report.notes == ("not differentiated: M['M']",)


def test_an_output_of_numpy_has_a_cotangent_of_numpy(rng, kind):
    def backward(dY, X):
        assert isinstance(dY, np.ndarray)
        return kind(2 * X * dY)

    report = check_gradients(lambda X: (X.array**2, X.array), backward, (kind(rng.standard_normal((3, 4))),))
    assert report.max_error < 1e-14


@pytest.mark.parametrize("made", [lambda X: (X, X, X), lambda X: X, lambda X: [X, X]])
def test_an_output_without_a_cache(rng, kind, made):
    X = kind(rng.standard_normal((3, 4)))
    got = "3 things" if isinstance(made(X), tuple) else type(made(X)).__name__
    with pytest.raises(TypeError, match=rf"^forward: expected to return a tuple \(y, cache\), got {got}$"):
        check_gradients(made, lambda dY, _: dY, (X,))
