"""Layers that are objects, dataclasses, and checks of the numbers alone."""

from __future__ import annotations

import dataclasses
import re
import types

import numpy as np
import pytest

from npattn.gradcheck import GradientError, check_gradients, check_layer
from npattn.gradcheck.memory import _attributes, fingerprint
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
    its, other = f"{W}: its gradient is {gradient}", gradient.replace("W", "b").replace("grads[0]", "grads[1]")
    assert report.notes[:2] == (its, f"{bias}: its gradient is {other}") and report.title == kind.__name__
    assert not any("changed" in note or "memory" in note for note in report.notes)
    assert fingerprint({"layer": layer}) == before
    with pytest.raises(GradientError) as error:
        check_layer(wrong, X)
    assert error.value.report[W].verdict == "wrong" and error.value.report["X"].ok


@pytest.mark.parametrize("n", [5, 40])  # every entry is compared, or directions and a block
def test_gradients_that_add_up_to_what_was_there_are_named(rng, n):
    layer = Dicts(rng)
    layer.forward(rng.standard_normal((5, 4)))
    layer.backward(rng.standard_normal((5, 3)))
    layer.grads["db"][:] = 0
    if n > 5:
        layer.params["W"], layer.grads["dW"] = rng.standard_normal((2, 4, 400))
        layer.params["b"], layer.grads["db"] = np.ones(400), np.zeros(400)
    with pytest.raises(GradientError) as error:
        check_layer(layer, rng.standard_normal((n, 4)))
    report = error.value.report
    assert report["params['W']"].hint == "the gradient on the layer is the right one plus what was there before"
    assert report["params['b']"].ok and report["X"].ok
    wrong = Dicts(rng, slip=1.001)
    wrong.grads["dW"] += 1
    with pytest.raises(GradientError) as error:
        check_layer(wrong, rng.standard_normal((5, 4)))
    assert "plus what was there" not in str(error.value)


@pytest.mark.parametrize("name", ["zero_grad", "zero_grads"])
def test_gradients_are_cleared_by_a_method_of_the_layer(rng, name):
    layer = Dicts(rng)
    layer.grads["dW"] += 1

    class Cleared(Dicts):
        def clear(self):
            self.grads["dW"].fill(0)

    setattr(Cleared, name, Cleared.clear)
    layer.__class__ = Cleared
    assert check_layer(layer, rng.standard_normal((5, 4))).ok and layer.grads["dW"].all()


def test_layers_in_layers(rng):
    class Outer:
        def __init__(self):
            self.parts = {"inner": [Dicts(rng)]}

        def forward(self, X):
            return self.parts["inner"][0].forward(X)

        def backward(self, dY):
            return self.parts["inner"][0].backward(dY)

    inner = "parts['inner'][0]"
    report = check_layer(Outer(), rng.standard_normal((5, 4)))
    assert report.notes == tuple(f"{inner}.params['{n}']: its gradient is {inner}.grads['d{n}']" for n in "Wb")


class Product:
    """Two inputs, parameters in a tuple and by number, a reference to itself, and things that are no parameters."""

    numbers = np.ones(3)

    def __init__(self, rng):
        self.scale, self.grad = rng.standard_normal(4), np.ones(4)
        self.params, self.dshift = {"shift": rng.standard_normal(4), 0: rng.standard_normal(4)}, None
        self.grads = {0: np.zeros(4)}
        self.me, self.parts, self.kind = self, [{"me": self}], Product

    def __call__(self, A, B):
        self.A, self.B = A, B
        return A * B * self.scale + self.params["shift"] + 2 * self.params[0]

    def backward(self, dY):
        self.dscale, self.dshift = (dY * self.A * self.B).sum(0), dY.sum(0)
        self.grads[0] = 2 * dY.sum(0)
        return [dY * self.B * self.scale, dY * self.A * self.scale]


def test_two_inputs_and_other_homes_of_gradients(rng):
    layer = Product(rng)
    report = check_layer(layer, tuple(rng.standard_normal((2, 3, 4))))
    assert [a.name for a in report.arguments] == ["A", "B", "scale", "params['shift']", "params[0]"]
    assert report.notes == (
        "scale: its gradient is dscale",
        "params['shift']: its gradient is dshift",
        "params[0]: its gradient is grads[0]",
        "grad: not checked, no gradient of its name and shape was found",
    )


class Cell:
    """A step of a chain, as a recurrent layer may keep it."""

    def __init__(self, x, before):
        self.x, self.before = x, before


class Chain:
    def __init__(self, w):
        self.w = w

    def forward(self, X):
        self.last = None
        for x in X:
            self.last = Cell(x, self.last)
        return X.sum() * self.w

    def backward(self, dy):
        cell, n, total = self.last, 0, 0.0
        while cell:
            cell, n, total = cell.before, n + 1, total + cell.x
        self.dw = (dy * total).sum(keepdims=True)
        return np.full(n, (dy * self.w).sum())


def test_a_chain_of_a_thousand_steps_on_a_layer(rng):
    report = check_layer(Chain(rng.standard_normal(1)), rng.standard_normal(1500))
    assert report.ok and [argument.name for argument in report.arguments] == ["X", "w"]


def test_private_containers(rng):
    class Private(Dicts):
        def __init__(self, rng):
            super().__init__(rng)
            self._params, self._grads = self.__dict__.pop("params"), self.__dict__.pop("grads")

        def __getattr__(self, name):
            if name.startswith("_"):  # a copy is made before it has attributes
                raise AttributeError(name)
            return getattr(self, f"_{name}")

    layer = Private(rng)
    assert "_params['W']: its gradient is _grads['dW']" in check_layer(layer, rng.standard_normal((5, 4))).notes


class Norm:
    def __init__(self):
        self.gamma, self.running_mean, self.history = np.array([0.5, 2.0, 3.0]), np.zeros(3), []
        self.table, self.drunning_mean = np.ones(3), np.zeros(3)

    def forward(self, X):
        self.running_mean = 0.9 * self.running_mean + 0.1 * X.mean(axis=0)
        self.N = X - X.mean(axis=0)
        return self.N * self.gamma

    def backward(self, dY):
        self.dgamma = (dY * self.N).sum(axis=0)
        return dY * self.gamma - (dY * self.gamma).mean(axis=0)


def test_what_has_no_gradient_is_said(rng):
    report = check_layer(Norm(), rng.standard_normal((5, 3)))
    unknown = "not checked, no gradient of its name and shape was found"
    assert report.notes == (
        "gamma: its gradient is dgamma",
        f"running_mean: {unknown}",                                 # not a parameter: forward changes it
        f"table: {unknown}",
    )
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


# ---- dataclasses ----------------------------------------------------------------------------------------------


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
    with pytest.raises(GradientError) as error:
        check_gradients(lambda W, i, j: (W * 1, None), lambda dY, _: (dY, dY, dY), (X, np.arange(3), np.ones(2, bool)))
    expected = "backward: expected a gradient for W, got 3 slots; i (int64) is not differentiated"
    assert error.value.report.problems == (f"{expected}; j (bool) is not differentiated",)


def test_a_slot_that_is_empty_or_cannot_be_read_is_left_out():
    class Slots:
        __slots__ = ("empty", "full")

    thing = Slots()
    thing.full = np.ones(2)
    assert [name for name, _ in _attributes(thing)] == [".full"]
