"""Which numeric derivative is used, and at which point: unsafe forwards, kinks, zero gradients, large arguments."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.gradcheck import check_gradients
from support import gradcheck_pairs as pairs
from support.gradcheck_pairs import failing_report, tanh_backward


@pytest.fixture
def rng():
    return np.random.default_rng(23)


@pytest.fixture
def X(rng):
    return rng.standard_normal((3, 4))


# ---- forwards that are not complex-safe -----------------------------------------------------------------------


def float_buffer(X):
    Y = np.zeros(X.shape)
    Y[...] = np.tanh(X)
    return Y, X


def refuses_complex(X):
    if np.iscomplexobj(X):
        raise TypeError("X: expected float64, got complex128")
    return np.tanh(X), X


UNSAFE = {
    "abs": (lambda X: (np.abs(X) ** 1.5, X), lambda dY, X: 1.5 * dY * np.sign(X) * np.abs(X) ** 0.5),
    "abs of a part": (lambda X: (X * X + 0.1 * np.abs(X), X), lambda dY, X: dY * (2 * X + 0.1 * np.sign(X))),
    "var": (lambda X: (X.var(-1), X), lambda dY, X: dY[:, None] * 2 / 4 * (X - X.mean(-1, keepdims=True))),
    "norm": (lambda X: (np.linalg.norm(X), X), lambda dY, X: dY * X / np.linalg.norm(X)),
    "conj": (lambda X: (X * X.conj(), X), lambda dY, X: 2 * X * dY),
    "sign": (lambda X: (np.sign(X.real) * X.real, X), lambda dY, X: dY * np.sign(X)),
    "float buffer": (float_buffer, tanh_backward),
    "astype": (lambda X: (np.tanh(X).astype(np.float64), X), tanh_backward),
    "float": (lambda X: (float(np.sum(X**2)), X), lambda dy, X: 2 * dy * X),
    "an error": (refuses_complex, tanh_backward),
}
FAILS_ON_COMPLEX = {"float buffer", "astype", "float", "an error"}  # the others return a wrong slope


@pytest.mark.parametrize("name", UNSAFE)
def test_right_derivative_of_an_unsafe_forward_passes(name, X):
    report = check_gradients(*UNSAFE[name], (X,))
    assert report.method == report["X"].method == "central-difference" and report.rtol == 1e-7
    assert report.max_error <= 1e-9
    [note] = report.notes
    assert note.startswith("central differences, because forward is not complex-safe (abs, var, a float buffer?): ")
    assert ("disagree along X" in note) != (name in FAILS_ON_COMPLEX)


@pytest.mark.parametrize("name", UNSAFE)
def test_wrong_derivative_of_an_unsafe_forward_is_caught(name, X):
    forward, backward = UNSAFE[name]
    report = failing_report(forward, lambda dY, X: backward(dY, X) * (1 + 1e-6), (X,))
    assert report["X"].verdict == "wrong" and report.method == "central-difference"
    report = failing_report(forward, lambda dY, X: np.zeros_like(X), (X,))
    assert report["X"].hint == "zero, but the loss depends on this argument"


def test_derivative_dropped_by_the_complex_step_and_by_backward_alike(X):
    """Both treat the scale as a constant and agree to the last digit. Central differences do not agree."""
    forward = lambda X: (X * np.abs(X).sum(), X)  # noqa: E731
    scale = np.abs(X).sum()
    constant = lambda dY, X: dY * scale  # noqa: E731
    assert check_gradients(lambda X: (X * scale, X), constant, (X,)).ok
    report = failing_report(forward, constant, (X,))
    assert report.method == "central-difference" and report["X"].verdict == "wrong"


def test_reasons_for_the_fallback(X):
    def note(name):
        return check_gradients(*UNSAFE[name], (X,)).notes[0].partition("?): ")[2]

    assert note("abs") == "complex step and central differences disagree along X; its output is real for complex input"
    assert note("abs of a part") == "complex step and central differences disagree along X"
    assert note("an error") == "TypeError on complex input: X: expected float64, got complex128"
    assert note("float buffer").startswith("ComplexWarning on complex input: ")


def test_a_chosen_complex_step_is_not_replaced(X):
    with pytest.raises(ValueError, match=r"^method: the complex step does not suit forward: TypeError on complex"):
        check_gradients(refuses_complex, tanh_backward, (X,), method="complex-step")
    for name in ("abs", "abs of a part"):
        with pytest.raises(ValueError, match=r"^method: the complex step does not suit forward: complex step and cent"):
            check_gradients(*UNSAFE[name], (X,), method="complex-step")


def test_numbers_of_very_different_size_in_one_array(rng):
    x = 10.0 ** rng.uniform(-7, 7, (3, 4))
    assert check_gradients(lambda x: (np.log(x), x), lambda dy, x: dy / x, (x,)).method == "complex-step"
    report = check_gradients(lambda x: (np.log(np.abs(x)), x), lambda dy, x: dy / x, (x,))
    assert report.method == "central-difference"


# ---- kinks ----------------------------------------------------------------------------------------------------


def first_maximum(X):
    mask = np.zeros(X.shape)
    mask[np.arange(len(X)), X.argmax(-1)] = 1
    return mask


def all_maxima(X):
    return X.max(-1, keepdims=True) == X


@pytest.mark.parametrize("method", ["auto", "complex-step", "central-difference"])
@pytest.mark.parametrize("at_zero", [0.0, 1.0, 0.5])
def test_relu_at_zero(X, method, at_zero):
    """Any value of relu'(0) passes. Elsewhere the derivative must be right."""
    X[0, 1] = X[2, 2] = X[2, 3] = 0
    forward = lambda X: (np.maximum(X, 0), X)  # noqa: E731
    backward = lambda dY, X: np.where(X > 0, dY, np.where(X == 0, at_zero * dY, 0))  # noqa: E731
    report = check_gradients(forward, backward, (X,), method=method)
    if (method, at_zero) not in (("central-difference", 0.5), ("complex-step", 1.0)):  # its own slope
        assert report["X"].verdict == "kink"
        assert report.notes[-1] == "there is a kink along X (relu at 0, a tie of max?): checked 0.1 % beside it"
    wrong = failing_report(forward, lambda dY, X: backward(dY, X) * 1.001, (X,), method=method)
    assert wrong["X"].verdict == "wrong"


@pytest.mark.parametrize("maximum", [first_maximum, all_maxima])
def test_tie_of_max(X, maximum):
    X[1] = [2, -1, 2, 2]
    report = check_gradients(lambda X: (X.max(-1), X), lambda dY, X: maximum(X) * dY[:, None], (X,))
    assert report["X"].verdict == "kink" and report.ok


def test_kink_of_a_forward_that_is_not_complex_safe(X):
    X[0, 1] = 0
    report = check_gradients(lambda X: (np.abs(X), X), lambda dY, X: np.where(X > 0, dY, -dY), (X,))
    assert report["X"].verdict == "kink" and report.method == "central-difference" and len(report.notes) == 2


def test_only_the_argument_with_the_kink_is_named(X):
    Z = X.copy()
    Z[0, 0] = 0
    forward = lambda X, Z: (X**2 + np.maximum(Z, 0), (X, Z))  # noqa: E731
    report = check_gradients(forward, lambda dY, c: (2 * c[0] * dY, dY * (c[1] > 0)), (X, Z))
    assert [argument.verdict for argument in report.arguments] == ["ok", "kink"]


@pytest.mark.parametrize("method", ["auto", "central-difference"])
def test_many_kinks_in_a_large_argument(rng, method):
    X = rng.standard_normal((60, 40))
    X[::3] = 0
    forward = lambda X: (np.maximum(X, 0), X)  # noqa: E731
    assert check_gradients(forward, lambda dY, X: dY * (X > 0), (X,), method=method)["X"].verdict == "kink"
    assert not failing_report(forward, lambda dY, X: dY * (X > 0) * 1.00001, (X,), method=method).ok


def test_zeros_and_a_sharp_bend_are_no_kink(X):
    X[0] = 0
    forward = lambda X: (np.tanh(100 * X), X)  # noqa: E731
    report = check_gradients(forward, lambda dY, X: 100 * dY * (1 - np.tanh(100 * X) ** 2), (X,))
    assert report["X"].verdict == "ok" and not report.notes


# ---- gradients of zero ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "central-difference"])
def test_gradient_that_is_zero_in_mathematics_and_noise_in_numbers(rng, method):
    """The key bias adds the same number to all scores of a query. Its error is relative to the largest effect."""
    verdicts = set()
    for scale in (0.3, 1.0, 3.0):
        pair = pairs.random_pair("key_value_attention", rng, scale)
        report = check_gradients(*pair, method=method)
        bias = report["params['b_K']"]
        verdicts.add(bias.verdict)
        assert bias.ok and bias.error <= 1e-12
    assert verdicts == {"zero"}
    assert report.notes[-1] == "zero: only rounding noise; the error is relative to the largest effect of any argument"


# ---- large arguments ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tower():
    return pairs.Tower(7, 20, np.random.default_rng(3))


@pytest.fixture
def tower_args(tower, rng):
    return rng.standard_normal((6, 20)), tower.params


def spoiled(tower, name, change):
    """Return a backward with one changed gradient."""

    def backward(dX, caches):
        dX, grads = tower.backward(dX, caches)
        change(grads[name])
        return dX, grads

    return backward


def test_large_arguments_take_at_most_130_calls(tower, tower_args):
    tower.calls = 0
    report = check_gradients(tower.forward, tower.backward, tower_args)
    assert len(report.arguments) == 36 and sum(np.prod(a.shape) for a in report.arguments) == 6140
    assert tower.calls <= 130
    assert all(a.error <= 1e-12 or a.noise for a in report.arguments)
    assert {a.name for a in report.arguments if a.verdict == "zero"} == {f"params['{i}.b_K']" for i in range(7)}
    assert report["params['3.gamma']"].coverage.startswith("3 directions of ")


@pytest.mark.parametrize("factor", [1.001, 1 + 1e-9])
def test_one_wrong_entry_among_six_thousand(tower, tower_args, factor):
    def change(gradient):
        gradient[np.unravel_index(np.argmax(abs(gradient)), gradient.shape)] *= factor

    report = failing_report(tower.forward, spoiled(tower, "5.W_V", change), tower_args)
    [wrong] = [argument for argument in report.arguments if not argument.ok]
    assert wrong.name == "params['5.W_V']"
    assert wrong.analytic / wrong.numeric - 1 == pytest.approx(factor - 1, rel=1e-3)
    assert wrong.hint.startswith("only the entry at")


@pytest.mark.parametrize(
    ("name", "change", "hint"),
    [
        ("2.W_K", lambda g: np.multiply(g, 0, out=g), "zero, but the loss depends on this argument"),
        ("2.gamma", lambda g: np.multiply(g, -1, out=g), "the sign is wrong"),
        ("2.beta", lambda g: np.multiply(g, 1 / 6, out=g), "off by a factor of 0.166667 = 1/6; 6 is the length of"),
        ("2.W_V", lambda g: g.__setitem__((3, 4), np.nan), "nan or inf in 1 of 400 numbers"),
    ],
)
def test_wrong_gradient_of_a_large_argument(tower, tower_args, name, change, hint):
    report = failing_report(tower.forward, spoiled(tower, name, change), tower_args)
    [wrong] = [argument for argument in report.arguments if not argument.ok]
    assert wrong.name == f"params['{name}']" and wrong.hint.startswith(hint)


def test_few_large_arguments(rng):
    """Each array has its own directions. Halving finds the wrong entry among 6,000."""
    args = rng.standard_normal((40, 150)), rng.standard_normal((150, 3)), rng.standard_normal(3)
    report = check_gradients(pairs.linear, pairs.linear_backward, args)
    assert {a.coverage for a in report.arguments} == {"3 directions, 2 entries"}
    assert report.max_error <= 1e-13

    def wrong(dY, cache):
        dX, dW, db = pairs.linear_backward(dY, cache)
        dX[23, 117] += 0.01
        return dX, dW, db

    for method in ("auto", "central-difference"):
        report = failing_report(pairs.linear, wrong, args, method=method)
        assert report["X"].index == (23, 117) and report["W"].ok and report["b"].ok
    not_a_number = lambda dY, c: (np.full(args[0].shape, np.inf), *pairs.linear_backward(dY, c)[1:])  # noqa: E731
    assert failing_report(pairs.linear, not_a_number, args)["X"].hint.startswith("nan or inf")


def test_many_arguments_without_effect(rng):
    """Most parameters in a mapping can be unused. Their gradients are exactly zero."""
    params = {f"p{i}": rng.standard_normal((10, 10)) for i in range(40)}
    forward = lambda p: (np.tanh(p["p3"] @ p["p7"]), p)  # noqa: E731

    def backward(dY, p):
        dZ = dY * (1 - np.tanh(p["p3"] @ p["p7"]) ** 2)
        used = {"p3": dZ @ p["p7"].T, "p7": p["p3"].T @ dZ}
        return {name: used.get(name, np.zeros((10, 10))) for name in p}

    report = check_gradients(forward, backward, (params,))
    assert [a.name for a in report.arguments if a.verdict == "ok"] == ["p['p3']", "p['p7']"]
    without_p7 = lambda dY, p: {**backward(dY, p), "p7": np.zeros((10, 10))}  # noqa: E731
    assert [a.name for a in failing_report(forward, without_p7, (params,)).arguments if not a.ok] == ["p['p7']"]
