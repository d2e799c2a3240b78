"""Float32 is recognised by what a forward returns, and nothing else is taken for it."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.gradcheck import GradientError, check_gradients
from npattn.gradcheck.precision import is_single, rounds_like_single
from support.gradcheck_pairs import loss_of


def test_numbers_of_float32():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3, 4))
    assert is_single([np.float32(X).astype(float), np.zeros(2)]) and not is_single([X])
    assert not is_single([np.float32(X).astype(float), X[0]])
    for short in (np.zeros(3), np.arange(9.0), np.array([2.0**-55, 3 * 2.0**-55]), np.array([])):  # noise is short
        assert not is_single([short])


def narrow(x):
    return np.sin(np.tanh(x.astype(np.float32)).astype(float))


@pytest.mark.parametrize(
    ("function", "is_narrow"),
    [
        (narrow, True),
        (lambda x: narrow(x) * 1e-9, True),
        (np.tanh, False),
        (lambda x: np.exp(9 * x), False),
        (np.abs, False),
        (lambda x: np.abs(x - 0.5), False),
        (lambda x: np.tanh(x) + 1e-4 * np.sin(1e12 * x), False),
        (lambda x: 0 * x, False),
    ],
)
def test_rounding_of_float32(function, is_narrow):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        loss = loss_of(function, np.append(rng.standard_normal(6), 0.5))
        assert rounds_like_single(loss, rng) == is_narrow, seed


def test_casts_that_leave_no_trace_in_the_output():
    def backward(dy, x):
        H = np.tanh(x)
        return dy * np.cos(H) * (1 - H * H)

    for seed in range(40):
        x = np.random.default_rng(seed).standard_normal((3, 4))
        assert check_gradients(lambda x: (narrow(x), x), backward, (x,)).ok
        with pytest.raises(GradientError):
            check_gradients(lambda x: (narrow(x), x), lambda dy, x: 1.01 * backward(dy, x), (x,))


def test_a_forward_that_takes_float32_alone():
    def forward(x):
        if x.dtype != np.float32:
            raise TypeError("expected float32")
        return np.tanh(x), x

    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    backward = lambda dy, x: dy * (1 - np.tanh(x) ** 2)  # noqa: E731
    report = check_gradients(forward, backward, (x,))
    assert report.rtol == 2e-3 and report.notes == (
        "central differences, because forward is not complex-safe (abs, var, a float buffer?): "
        "TypeError on float64 input: expected float32",
        "computes in float32: checked in that precision, with a tolerance of 2e-03",
    )
    with pytest.raises(ValueError, match="complex step does not suit forward: TypeError on float64 input: expected"):
        check_gradients(forward, backward, (x,), method="complex-step")
    with pytest.raises(GradientError):
        check_gradients(forward, lambda dy, x: np.float32(1.01) * backward(dy, x), (x,))
