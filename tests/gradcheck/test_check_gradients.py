"""The checker accepts right gradients and finds wrong numbers."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.gradcheck import check_gradients
from npattn.gradcheck.hints import DIAGONAL
from support import gradcheck_pairs as pairs
from support.gradcheck_pairs import KINDS, failing_report, random_pair


@pytest.fixture
def rng():
    return np.random.default_rng(7)


# ---- right pairs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_complex_step_is_exact_to_1e_12(kind, rng):
    report = check_gradients(*random_pair(kind, rng), method="complex-step")
    assert report.method == "complex-step" and report.rtol == 1e-12
    assert report.max_error <= 1e-13


@pytest.mark.parametrize("kind", KINDS)
def test_central_differences_are_exact_to_1e_7(kind, rng):
    report = check_gradients(*random_pair(kind, rng), method="central-difference")
    assert report.method == "central-difference" and report.rtol == 1e-7
    assert 0 < report.max_error <= 1e-9


def test_same_seed_same_report(rng):
    pair = random_pair("attention", rng)
    assert check_gradients(*pair, rng=3) == check_gradients(*pair, rng=3)
    assert check_gradients(*pair, rng=3) != check_gradients(*pair, rng=4)
    assert check_gradients(*pair, rng=np.random.default_rng(3)) == check_gradients(*pair, rng=3)


# ---- planted bugs ---------------------------------------------------------------------------------------------


def attention_without_scale(dY, cache):
    Q, X, A = cache
    dE = pairs.softmax_backward(dY @ X.T, A)
    return dE @ X, A.T @ dY + dE.T @ Q


def softmax_without_row_sum(dA, A):
    return A * dA


def linear_divided_by_batch(dY, cache):
    dX, dW, db = pairs.linear_backward(dY, cache)
    return dX, dW / len(dY), db


def layer_norm_gamma_outside(dY, cache):
    N, inverse, gamma = cache
    dX = gamma * inverse * (dY - dY.mean(-1, keepdims=True) - N * (dY * N).mean(-1, keepdims=True))
    return dX, (dY * N).sum(0), dY.sum(0)


def embedding_loses_repeats(dY, cache):
    ids, shape = cache
    dW_E = np.zeros(shape)
    dW_E[ids] += dY
    return dW_E


def test_missing_scale(rng):
    args = rng.standard_normal((3, 5)), rng.standard_normal((4, 5))
    report = failing_report(pairs.attention, attention_without_scale, args)
    assert report["Q"].verdict == report["X"].verdict == "wrong"
    assert report["Q"].hint == "off by a factor of 2.23607 = √5; 5 is the length of axis 1 of Q"


def test_no_row_sum_in_the_softmax_backward(rng):
    report = failing_report(pairs.softmax, softmax_without_row_sum, random_pair("softmax", rng).args)
    hint = "its rows should sum to zero: is the row sum of a softmax or a mean left out?"
    assert report["E"].hint == f"{hint} E{DIAGONAL[1:]}"  # both are true of A·dA


def test_divided_by_batch(rng):
    args = (rng.standard_normal((7, 3)), rng.standard_normal((3, 2)), rng.standard_normal(2))
    report = failing_report(pairs.linear, linear_divided_by_batch, args)
    assert [a.verdict for a in report.arguments] == ["ok", "wrong", "ok"]
    assert report["W"].hint == "off by a factor of 0.142857 = 1/7; 7 is the length of axis 0 of X"


def test_gamma_outside_the_sums_of_layer_norm(rng):
    X, gamma, beta = random_pair("layer_norm", rng).args
    report = failing_report(pairs.layer_norm, layer_norm_gamma_outside, (X, gamma, beta))
    assert [a.verdict for a in report.arguments] == ["wrong", "ok", "ok"]
    report = failing_report(pairs.layer_norm, layer_norm_gamma_outside, (X, np.ones_like(gamma), beta))
    assert report["X"].hint.startswith("right at these arguments, wrong beside them for another cotangent")


def test_lost_repeats_of_an_embedding(rng):
    ids, W_E = np.array([[0, 3, 1], [3, 4, 2]]), rng.standard_normal((6, 5))
    report = failing_report(pairs.embedding, embedding_loses_repeats, (ids, W_E))
    assert report["W_E"].hint == "only row 3 is wrong: is a repeated index counted once?"
    assert report["W_E"].index[0] == 3
    assert check_gradients(pairs.embedding, embedding_loses_repeats, (np.arange(5), W_E)).ok


@pytest.mark.parametrize("method", ["complex-step", "central-difference"])
def test_one_element_off_by_a_thousandth(rng, method):
    def backward(dY, cache):
        dX, dW, db = pairs.linear_backward(dY, cache)
        dW[2, 1] *= 1.001
        return dX, dW, db

    args = (rng.standard_normal((4, 3)), rng.standard_normal((3, 2)), rng.standard_normal(2))
    report = failing_report(pairs.linear, backward, args, method=method)
    wrong = report["W"]
    assert wrong.index == (2, 1) and wrong.analytic == pytest.approx(1.001 * wrong.numeric, rel=1e-9)
    assert wrong.hint == "only the entry at (2, 1) is wrong, by a factor of 1.001"
    assert report["X"].ok and report["b"].ok


@pytest.mark.parametrize("kind", KINDS)
def test_everything_off_by_1e_9(kind, rng):
    forward, backward, args = random_pair(kind, rng)

    def slightly_off(dy, cache):
        gradients = backward(dy, cache)
        return map_gradients(lambda g: g * (1 + 1e-9), gradients)

    report = failing_report(forward, slightly_off, args)
    assert report.max_error == pytest.approx(1e-9, rel=1e-3)
    assert {a.hint for a in report.arguments if not a.ok} == {"off by a factor of 1 + 1e-09"}
    assert not any(a.ok for a in report.arguments if a.verdict != "zero")


def map_gradients(function, gradients):
    if isinstance(gradients, dict):
        return {key: map_gradients(function, gradient) for key, gradient in gradients.items()}
    if isinstance(gradients, tuple):
        return tuple(map_gradients(function, gradient) for gradient in gradients)
    return None if gradients is None else function(gradients)


@pytest.mark.parametrize("method", ["auto", "complex-step", "central-difference"])
@pytest.mark.parametrize("scale", [1e-6, 1e-30, 1e30])
def test_zero_gradient_of_a_scaled_loss(rng, method, scale):
    """An absolute tolerance would accept this, because the gradients are as small as the loss."""
    X = rng.standard_normal((3, 4))
    forward = lambda X: (scale * X**3, X)  # noqa: E731
    report = failing_report(forward, lambda dY, X: np.zeros_like(X), (X,), method=method)
    assert report["X"].verdict == "wrong" and report["X"].error == 1.0
    assert report["X"].hint == "zero, but the loss depends on this argument"
    assert check_gradients(forward, lambda dY, X: scale * 3 * X**2 * dY, (X,), method=method).ok


@pytest.mark.parametrize("method", ["auto", "central-difference"])
def test_zeros_for_all_gradients_of_a_scaled_loss(rng, method):
    def forward(X, params):
        y, cache = pairs.key_value_attention(X, params)
        return 1e-6 * y, cache

    def zero(dY, cache):
        gradients = pairs.key_value_attention_backward(1e-6 * dY, cache)
        return map_gradients(np.zeros_like, gradients)

    report = failing_report(forward, zero, random_pair("key_value_attention", rng).args, method=method)
    verdicts = {a.name: a.verdict for a in report.arguments}
    assert verdicts.pop("params['b_K']") == "zero"  # the only gradient that is zero
    assert set(verdicts.values()) == {"wrong"}


def test_gradient_of_an_argument_with_a_tiny_effect(rng):
    """Its effect on the loss is 1e-12 of the effect of x. Its error is still relative to its own size."""
    args = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    forward = lambda x, w: (x**2 + 1e-12 * w**3, (x, w))  # noqa: E731
    right = check_gradients(forward, lambda dy, c: (2 * dy * c[0], 3e-12 * dy * c[1] ** 2), args)
    assert right["w"].verdict == "ok" and right["w"].error <= 1e-12
    for factor in (0.0, 2.0, 1.001):
        backward = lambda dy, c, factor=factor: (2 * dy * c[0], factor * 3e-12 * dy * c[1] ** 2)  # noqa: E731
        report = failing_report(forward, backward, args)
        assert [a.verdict for a in report.arguments] == ["ok", "wrong"]


def test_wrong_sign_transposition_and_order(rng):
    W, V = rng.standard_normal((3, 3)), rng.standard_normal((3, 3))
    forward = lambda W, V: (W @ V, (W, V))  # noqa: E731

    def backward(dY, cache):
        return dY @ cache[1].T, cache[0].T @ dY

    assert check_gradients(forward, backward, (W, V)).ok
    report = failing_report(forward, lambda dY, c: (-backward(dY, c)[0], backward(dY, c)[1]), (W, V))
    assert report["W"].hint == "the sign is wrong" and report["V"].ok
    report = failing_report(forward, lambda dY, c: (backward(dY, c)[0].T.copy(), backward(dY, c)[1]), (W, V))
    assert report["W"].hint == "transposed"
    report = failing_report(forward, lambda dY, c: backward(dY, c)[::-1], (W, V))
    assert report["W"].hint == "the right one was returned for V: gradients in the wrong order?"


def test_nan_in_a_gradient_never_passes(rng):
    def backward(dA, A):
        dE = pairs.softmax_backward(dA, A)
        dE[1, 1] = np.nan
        return dE

    report = failing_report(pairs.softmax, backward, (rng.standard_normal((3, 4)),))
    assert report["E"].hint == "nan or inf in 1 of 12 numbers" and report["E"].index == (1, 1)
    assert report.max_error == np.inf
