"""Rounding noise passes, and an error as small as rounding noise fails."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.gradcheck import GradientWarning, check_gradients
from npattn.gradcheck.noise import Replicas
from npattn.gradcheck.numeric import Slope
from npattn.gradcheck.probes import Probe
from support import gradcheck_pairs as pairs
from support.gradcheck_pairs import failing_report, loss_of, tanh_backward


@pytest.fixture
def rng():
    return np.random.default_rng(23)


@pytest.fixture
def X(rng):
    return rng.standard_normal((3, 4))


@pytest.mark.parametrize("size", [1e-18, 1e-12, 1e-6, 1.0])
def test_an_error_does_not_pass_as_noise(rng, size):
    """The gradient of b_K is zero. Here a multiple of Σ dY is added to it."""
    forward, backward, args = pairs.random_pair("key_value_attention", rng)

    def wrong(dY, cache):
        dX, dparams = backward(dY, cache)
        return dX, {**dparams, "b_K": dparams["b_K"] + size * dY.sum()}

    if size < 1e-16:
        assert check_gradients(forward, wrong, args)["params['b_K']"].verdict == "zero"
    else:
        assert failing_report(forward, wrong, args)["params['b_K']"].verdict == "wrong"


def test_noise_of_a_single_argument_is_recognised(X):
    """There is no other argument, so the reference is the size of the loss."""
    forward = lambda b: (pairs.softmax(X + b)[0],) * 2  # noqa: E731
    for backward in (lambda dA, A: pairs.softmax_backward(dA, A).sum().reshape(1), lambda dA, A: np.zeros(1)):
        with pytest.warns(GradientWarning, match="every gradient is zero here"):
            report = check_gradients(forward, backward, (np.array([0.3]),))
        assert report["b"].verdict == "zero" and report["b"].error < 1e-15
        assert report.notes == ("every gradient is zero here, so the check proves little",)
    assert not failing_report(forward, lambda dA, A: (dA * A).sum().reshape(1) * 1e-9, (np.array([0.3]),)).ok


def test_ill_conditioned_gradient(rng):
    """LayerNorm of rows that are nearly constant has five correct digits fewer. The report notes it."""
    X = 1e5 + rng.standard_normal((3, 4))
    report = check_gradients(pairs.layer_norm, pairs.layer_norm_backward, (X, X[0] - 1e5, X[1] - 1e5))
    assert report["X"].verdict == "ok" and 1e-12 < report["X"].error < 1e-9 and report["X"].noise > 0
    assert "rounding in forward hides up to" in report.notes[0]

    def wrong(dY, cache):
        dX, dgamma, dbeta = pairs.layer_norm_backward(dY, cache)
        return dX * (1 + 1e-7), dgamma, dbeta

    assert failing_report(pairs.layer_norm, wrong, (X, X[0] - 1e5, X[1] - 1e5))["X"].verdict == "wrong"


def test_noise_is_pooled_relative_to_the_reference_slope(rng):
    """One probe is all noise on its own scale. The noise of another, 1e5 larger, does not grow because of it."""
    loss = loss_of(lambda x: x, [1.0, 2.0])
    measure = lambda loss, direction, scale, step=0.0: Slope(1e-3 * rng.standard_normal())  # noqa: E731
    replicas = Replicas(loss, measure, [np.zeros(2)], 1e-5, rng)
    direction = {0: np.array([1.0, 0.0])}
    small, large = (Probe(direction, 0.0, Slope(1e-3), scale) for scale in (1e-5, 1.0))
    verdict, noise = replicas.judge([small, large], [1e7, 1e7])
    assert verdict == "zero" and 20 < noise < 500
    assert replicas.judge([large], [1e5])[0] == "noisy"  # noise of a thousandth, above 1e-9 of the reference
    assert replicas.judge([Probe(direction, 0.1, Slope(1e-3), 1.0)], [1e7])[0] == "wrong"


def test_forward_too_noisy_to_judge(X):
    forward = lambda X: (np.tanh(X) + 1e-5 * np.abs(np.sin(1e12 * X)), X)  # noqa: E731
    report = failing_report(forward, tanh_backward, (X,), method="central-difference")
    assert report["X"].verdict == "noisy"
    assert report["X"].hint.startswith("cannot be judged: rounding in forward hides ")
    assert check_gradients(forward, tanh_backward, (X,), method="central-difference", rtol=0.9).ok


def test_saturated_softmax(rng):
    """Gradients of 1e-300 underflow to zero in the analytic form."""
    for scale in (1e2, 1e4, 1e6):
        for _ in range(20):
            assert check_gradients(*pairs.random_pair("softmax", rng, scale)).ok
            assert check_gradients(*pairs.random_pair("cross_entropy", rng, scale)).ok


def test_rounding_that_is_the_same_nearby():
    """A ≈ 1 − 1e-13 in the first row is a multiple of eps, and so is the error. It varies only farther away."""
    E = np.array([[-159.37, 85.4, 16.97, 55.52], [163.26, 152.25, -10.97, -41.83]])
    for seed in range(30):
        assert check_gradients(pairs.softmax, pairs.softmax_backward, (E,), rng=seed)["E"].verdict == "ok"


@pytest.mark.parametrize("method", ["auto", "central-difference"])
@pytest.mark.parametrize("scale", [1e160, 1e-160])
def test_gradients_whose_squares_overflow_or_vanish(X, method, scale):
    """The tolerance is the same as for other gradients, and so is the hint."""
    forward = lambda X: (np.tanh(X * scale), X)  # noqa: E731
    right = lambda dY, X: dY * (1 - np.tanh(X * scale) ** 2) * scale  # noqa: E731
    assert check_gradients(forward, right, (X / scale,), method=method)["X"].verdict == "ok"
    report = failing_report(forward, lambda dY, X: right(dY, X) * (1 + 1e-6), (X / scale,), method=method)
    assert report["X"].hint == "off by a factor of 1 + 1e-06"


@pytest.mark.parametrize("method", ["auto", "central-difference"])
def test_a_bias_that_starts_at_zero(rng, method):
    """At a replica it is 1e-5 and not 0. The step must not shrink with it, or rounding hides the zero gradient."""
    forward, backward, (X, params) = pairs.random_pair("key_value_attention", rng)
    params["b_K"][:] = 0
    report = check_gradients(forward, backward, (X, params), method=method)
    assert report["params['b_K']"].verdict == "zero"
    spoiled = lambda dY, c: (backward(dY, c)[0], backward(dY, c)[1] | {"b_K": np.full(X.shape[1], 1e-7)})  # noqa: E731
    assert failing_report(forward, spoiled, (X, params), method=method)["params['b_K']"].verdict == "wrong"
