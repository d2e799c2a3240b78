"""Layers that are objects, dataclasses, arrays of other packages, and checks of the numbers alone."""

from __future__ import annotations

import dataclasses
import re
import sys
import types

import numpy as np
import pytest

from npattn.gradcheck import GradientError, check_gradients, check_layer
from npattn.gradcheck.memory import fingerprint
from support import gradcheck_pairs as pairs


@pytest.fixture
def rng():
    return np.random.default_rng(4)


class Dense:
    """As in many courses. `slip` multiplies dW."""

    def __init__(self, rng, slip=1.0):
        self.W, self.b, self.slip = rng.standard_normal((4, 3)), rng.standard_normal(3), slip
        self.dW = self.db = None

    def forward(self, X):
        self.X = X
        return X @ self.W + self.b

    def backward(self, dY):
        self.dW, self.db = self.slip * (self.X.T @ dY), dY.sum(axis=0)
        return dY @ self.W.T


class Lists(Dense):
    """Deep learning from scratch: lists of parameters and gradients; the gradients are written in place."""

    def __init__(self, rng, slip=1.0):
        super().__init__(rng, slip)
        self.params, self.grads = [self.W, self.b], [np.zeros((4, 3)), np.zeros(3)]
        del self.W, self.b, self.dW, self.db

    def forward(self, X):
        self.X = X
        return X @ self.params[0] + self.params[1]

    def backward(self, dY):
        self.grads[0][...], self.grads[1][...] = self.slip * (self.X.T @ dY), dY.sum(axis=0)
        return dY @ self.params[0].T


class Dicts(Dense):
    """Gradients are added up in a dict."""

    def __init__(self, rng, slip=1.0):
        super().__init__(rng, slip)
        self.params = {"W": self.W, "b": self.b}
        self.grads = {"dW": np.zeros((4, 3)), "db": np.zeros(3)}
        del self.W, self.b, self.dW, self.db

    def forward(self, X):
        self.X = X
        return X @ self.params["W"] + self.params["b"]

    def backward(self, dY):
        self.grads["dW"] += self.slip * (self.X.T @ dY)
        self.grads["db"] += dY.sum(axis=0)
        return dY @ self.params["W"].T


class Wrapped(Dense):
    """Each parameter is an object with its numbers and its gradient."""

    def __init__(self, rng, slip=1.0):
        super().__init__(rng, slip)
        self.W, self.b = (types.SimpleNamespace(data=array, grad=np.zeros_like(array)) for array in (self.W, self.b))

    def __call__(self, X):
        self.X = X
        return X @ self.W.data + self.b.data

    forward = None

    def backward(self, dY):
        self.W.grad, self.b.grad = self.slip * (self.X.T @ dY), dY.sum(axis=0)
        return dY @ self.W.data.T


class Network:
    """Layers in a list, dropout with a generator of its own between them."""

    def __init__(self, rng, slip=1.0):
        self.layers = [Dense(rng, slip)]
        self.rng = np.random.default_rng(1)

    def forward(self, X):
        self.mask = self.rng.random((len(X), 3)) < 0.6
        return np.tanh(self.layers[0].forward(X)) * self.mask

    def backward(self, dY):
        H = np.tanh(self.layers[0].X @ self.layers[0].W + self.layers[0].b)
        return self.layers[0].backward(dY * self.mask * (1 - H * H))


@pytest.mark.parametrize(
    ("kind", "W", "gradient"),
    [
        (Dense, "W", "dW"),
        (Lists, "params[0]", "grads[0]"),
        (Dicts, "params['W']", "grads['dW']"),
        (Wrapped, "W.data", "W.grad"),
        (Network, "layers[0].W", "layers[0].dW"),
    ],
)
@pytest.mark.parametrize("used_before", [False, True])
def test_objects_keep_parameters_and_gradients(rng, kind, W, gradient, used_before):
    X = rng.standard_normal((5, 4))
    if kind is Wrapped:
        Wrapped.forward = Wrapped.__call__
    layer, wrong = kind(rng), kind(rng, slip=1.001)
    if used_before:
        for each in (layer, wrong):
            each.forward(X)
            if kind is not Dicts:                                   # it would go on adding to the first gradient
                each.backward(np.ones((5, 3)))
    before = fingerprint({"layer": layer})
    report = check_layer(layer, X)
    bias = "params[1]" if kind is Lists else W.replace("W", "b")
    assert [a.name for a in report.arguments] == ["X", W, bias]
    assert f"{W}: its gradient is {gradient}" in report.notes and report.title == kind.__name__
    assert fingerprint({"layer": layer}) == before
    with pytest.raises(GradientError) as error:
        check_layer(wrong, X)
    assert error.value.report[W].verdict == "wrong" and error.value.report["X"].ok


class Norm:
    def __init__(self):
        self.gamma, self.running_mean, self.history = np.array([0.5, 2.0, 3.0]), np.zeros(3), []

    def forward(self, X):
        self.running_mean = 0.9 * self.running_mean + 0.1 * X.mean(axis=0)
        self.N = X - X.mean(axis=0)
        return self.N * self.gamma

    def backward(self, dY):
        self.dgamma = (dY * self.N).sum(axis=0)
        return dY * self.gamma - (dY * self.gamma).mean(axis=0)


def test_what_has_no_gradient_is_said(rng):
    report = check_layer(Norm(), rng.standard_normal((5, 3)))
    assert "running_mean: not checked, no gradient of its name and shape was found" in report.notes
    assert [a.name for a in report.arguments] == ["X", "gamma"]


def test_no_layer(rng):
    for wrong, got in ((Dense, "the class Dense"), (3, "int"), (pairs.linear, "function")):
        expected = re.escape(f"layer: expected an object with forward(x) and backward(dy), got {got}")
        with pytest.raises(TypeError, match=f"^{expected}$"):
            check_layer(wrong, rng.standard_normal((5, 4)))


# ---- the numbers alone ----------------------------------------------------------------------------------------


def test_without_the_contract_aliasing_and_writing_are_notes(rng):
    X = rng.standard_normal((3, 4))

    def forward(X):
        X *= 2
        return X * X, {"X": X}

    def backward(dY, cache):
        dY *= cache["X"]
        cache["X"] = 4 * dY
        return cache["X"]

    report = check_gradients(forward, backward, (X.copy(),), contract=False)
    assert report.ok and report.problems == ()
    assert any("changed the cotangent" in note for note in report.notes)
    assert any("shares memory with cache['X']" in note for note in report.notes)
    with pytest.raises(GradientError, match=r"off by a factor of 1\.001"):
        check_gradients(forward, lambda dY, cache: 1.001 * backward(dY, cache), (X.copy(),), contract=False)
    with pytest.raises(GradientError, match="forward: changed X"):
        check_gradients(forward, backward, (X.copy(),))


# ---- dataclasses, and arrays of other packages ----------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Weights:
    W: np.ndarray
    b: np.ndarray
    scale: float = 2.0


@pytest.mark.parametrize("as_dict", [False, True])
def test_a_dataclass_of_parameters(rng, as_dict):
    def forward(X, p):
        return p.scale * (X @ p.W + p.b), (X, p)

    def backward(dY, cache):
        X, p = cache
        grads = {"W": p.scale * X.T @ dY, "b": p.scale * dY.sum(0)}
        return p.scale * dY @ p.W.T, grads if as_dict else Weights(**grads)

    args = rng.standard_normal((5, 4)), Weights(rng.standard_normal((4, 3)), rng.standard_normal(3))
    report = check_gradients(forward, backward, args)
    assert [a.name for a in report.arguments] == ["X", "p.W", "p.b"]
    with pytest.raises(GradientError):
        check_gradients(forward, lambda dY, c: (backward(dY, c)[0], {"W": dY @ dY.T, "b": dY.sum(0)}), args)


class Tensor:
    """Stands for a tensor of PyTorch: an array that is no ndarray."""

    __module__ = "torch"
    __slots__ = ("__weakref__", "array")

    def __init__(self, array):
        self.array = array

    dtype = property(lambda self: self.array.dtype)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype)

    def detach(self):
        return self

    cpu = detach


@pytest.fixture
def torch(monkeypatch):
    module = types.ModuleType("torch")
    module.from_numpy = Tensor
    monkeypatch.setitem(sys.modules, "torch", module)


def test_tensors_as_arguments_and_in_the_cache(rng, torch):
    def forward(X, W):
        assert isinstance(X, Tensor) and isinstance(W, np.ndarray)
        return Tensor(np.tanh(X.array) @ W), (X, Tensor(W))

    def backward(dY, cache, slip=1.0):
        X, W = cache
        T = np.tanh(X.array)
        return Tensor(slip * (dY.array @ W.array.T) * (1 - T * T)), T.T @ dY.array

    args = Tensor(rng.standard_normal((3, 4))), rng.standard_normal((4, 2))
    report = check_gradients(forward, backward, args)
    assert [a.name for a in report.arguments] == ["X", "W"] and report.max_error < 1e-12
    with pytest.raises(GradientError):
        check_gradients(forward, lambda dY, cache: backward(dY, cache, 1.001), args)

    def writes(dY, cache):
        cache[1].array[0, 0] = 7
        return backward(dY, cache)

    with pytest.raises(GradientError, match=r"backward: changed W|backward: changed cache\[1\]"):
        check_gradients(forward, writes, (args[0], args[1].copy()))


# ---- what isn't checked is said -------------------------------------------------------------------------------


def test_numbers_that_are_not_differentiated_are_noted(rng):
    X = rng.standard_normal((3, 4))
    forward = lambda X, scale, *, bias: (scale * X + bias, scale)  # noqa: E731
    report = check_gradients(forward, lambda dY, scale: scale * dY, (X, 0.5), {"bias": X})
    assert report.notes == ("not differentiated: bias, scale",)
    with pytest.raises(GradientError) as error:
        check_gradients(pairs.linear, lambda dY, c: (dY @ c[1].T, c[0].T @ dY), (np.ones((3, 4), np.int64), X.T))
    expected = "backward: expected a gradient for W, got 2 slots; X (int64) is not differentiated"
    assert error.value.report.problems == (expected,)
