"""How torch is called: through a stand-in with the few names that are used, so that no torch is needed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from npattn.conformance import judge
from npattn.layers.softmax import softmax, softmax_backward


class Tensor:
    """A float32 array with a gradient, and a function that carries one back."""

    def __init__(self, X: Any, needs_gradient: bool = False) -> None:
        self.X, self.needs_gradient, self.grad = X, needs_gradient, None
        self.back: Callable[[Any], None] = lambda dY: None
        self.shape, self.ndim, self.dtype = X.shape, X.ndim, f"torch.{X.dtype.name}"

    def requires_grad_(self) -> Tensor:
        self.needs_gradient = True
        return self

    def backward(self, dY: Tensor) -> None:
        self.back(dY.X)

    def detach(self) -> Tensor:
        return Tensor(self.X)

    def cpu(self) -> Tensor:
        return self

    def double(self) -> Tensor:
        return Tensor(self.X.astype(np.float64))

    def numpy(self) -> Any:
        assert not self.needs_gradient
        return self.X

    def repeat(self, *times: int) -> Tensor:
        assert len(times) == self.ndim
        return Tensor(np.tile(self.X, times))

    def __getitem__(self, index: Any) -> Tensor:
        return Tensor(self.X[index])

    def __setitem__(self, index: Any, value: Tensor) -> None:
        self.X[index] = value.X


def tensor(value: Any, dtype: Any = None) -> Tensor:
    return Tensor(np.array(value, dtype))


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(tensor=tensor, Tensor=Tensor, float32=np.float32))


def attend(E: Tensor, mask: Tensor | None = None) -> Tensor:
    assert E.needs_gradient and E.dtype == "torch.float32"
    assert mask is None or (not mask.needs_gradient and mask.dtype == "torch.bool")
    Y = Tensor(softmax(E.X, None if mask is None else mask.X))

    def back(dA: Any) -> None:
        assert dA.dtype == np.float32
        E.grad = Tensor(softmax_backward(dA, Y.X))  # type: ignore[assignment]

    Y.back = back
    return Y


def one(forward: Callable[..., Any]) -> tuple[str, str]:
    (outcome,) = judge(forward, framework="torch", of="softmax", only=("plain",)).outcomes
    return outcome.status, outcome.message


def test_outputs_and_gradients_are_judged() -> None:
    report = judge(attend, framework="torch", of="softmax")
    assert report.ok and report.counts["skipped"] == 0
    assert {tuple(outcome.errors) for outcome in report.outcomes} == {("output", "E")}
    assert one(lambda E: (attend(E), None)) == ("passed", "")


def test_strided_tensors_are_strided() -> None:
    seen = []

    def looks(E: Tensor) -> Tensor:
        seen.append(E.X.strides[-1])
        return attend(E)

    judge(looks, framework="torch", of="softmax", only=("strided", "plain"))
    assert seen == [4, 8]


def test_nonsense() -> None:
    assert one(lambda E: Tensor(softmax(E.X))) == ("failed", "no gradient reaches E")
    assert one(lambda E: softmax(E.X)) == ("failed", "output: expected an array, got ndarray")
    assert one(lambda E: attend(E).double()) == ("failed", "output: expected the dtype float32, got float64")
    assert one(lambda E: attend(E)[:2]) == ("failed", "output: expected the shape (4, 5), got (2, 5)")


def test_what_has_no_gradient_is_not_differentiated() -> None:
    def halved(p: Tensor, gradients: Tensor, **options: Any) -> Tensor:
        assert not p.needs_gradient and not gradients.needs_gradient and gradients.dtype == "torch.float32"
        return Tensor(p.X / 2)

    (outcome,) = judge(halved, framework="torch", of="adam", only=("one step",), skip=("decay",)).outcomes[:1]
    assert (outcome.status, outcome.message, list(outcome.errors)) == ("failed", "output is wrong", ["output"])


def test_options_are_given_as_they_are_and_every_lost_gradient_is_named() -> None:
    seen = []

    def forward(X: Tensor, gamma: Tensor, *, eps: float) -> Tensor:
        seen.append(eps)
        return Tensor(X.X * gamma.X)

    (outcome,) = judge(forward, framework="torch", of="rms_norm", only=("plain",)).outcomes
    assert outcome.message == "no gradient reaches X, gamma" and seen == [1e-6] and type(seen[0]) is float
