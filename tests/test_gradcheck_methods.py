"""Which numeric derivative is used, and where: unsafe forwards, kinks, rounding noise, large arguments."""

from __future__ import annotations

import numpy as np
import pytest

import gradcheck_pairs as pairs
from npattn.gradcheck import GradientError, check_gradients
from npattn.gradcheck.noise import Replicas
from npattn.gradcheck.numeric import Loss, Slope
from npattn.gradcheck.pair import Pair
from npattn.gradcheck.probes import Probe
from npattn.transformer import functions
from transformer_toys import toy_model


@pytest.fixture
def rng():
    return np.random.default_rng(23)


@pytest.fixture
def X(rng):
    return rng.standard_normal((3, 4))


def failing_report(forward, backward, args, **options):
    with pytest.raises(GradientError) as error:
        check_gradients(forward, backward, args, **options)
    return error.value.report


def loss_of(function, *values):
    """Return Σ y(x) as a Loss, whose slopes can be measured."""
    values = [np.asarray(value, float) for value in values]
    pair = Pair(lambda *xs: (function(*xs), None), lambda dy, cache: None, tuple(values), {})
    return Loss(pair, values, np.ones(np.size(function(*values))))


class Counted:
    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self.function(*args, **kwargs)


# ---- slopes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [1e-6, 0.3, 1.0, 40.0])
@pytest.mark.parametrize(
    ("function", "derivative"),
    [(np.exp, np.exp), (np.log, np.reciprocal), (np.tanh, lambda x: np.cosh(x) ** -2.0), (np.sin, np.cos)],
)
def test_slopes_of_known_functions(function, derivative, x):
    loss, direction = loss_of(function, [x]), {0: np.array([3.0])}
    exact = 3 * derivative(np.array(x))
    size = max(abs(exact), 3e-3 / x)  # tanh is flat at 40
    assert abs(loss.complex_slope(direction).value - exact) <= 1e-15 * abs(exact)
    central = loss.central_slope(direction)
    assert abs(central.value - exact) <= 1e-10 * size
    assert abs(central.value - exact) <= max(central.doubt, 1e-13 * size)


def test_central_difference_keeps_clear_of_a_kink_nearby():
    for distance in (1e-2, 1e-4, 1e-6):
        loss = loss_of(lambda x: np.maximum(x, 0) + x**2, [distance, 1.0])
        slope = loss.central_slope({0: np.array([1.0, 1.0])})
        assert slope.value == pytest.approx(2 * distance + 1 + 2 + 1, rel=1e-7)
        assert not loss.has_kink({0: np.array([1.0, 1.0])})


def test_central_difference_doubts_itself_at_a_kink():
    loss = loss_of(lambda x: np.maximum(x, 0), [0.0, 1.0])
    assert loss.central_slope({0: np.array([1.0, 1.0])}).doubt > 0.5
    assert loss.has_kink({0: np.array([1.0, 0.0])}) and not loss.has_kink({0: np.array([0.0, 1.0])})


def test_central_difference_of_a_forward_that_computes_in_float32():
    loss = loss_of(lambda x: np.exp(x).astype(np.float32).astype(float), [1.0])
    slope = loss.central_slope({0: np.array([1.0])})
    assert 0 < abs(slope.value - np.e) < 1e-3


# ---- forwards that are not complex-safe -----------------------------------------------------------------------


def float_buffer(X):
    Y = np.zeros(X.shape)
    Y[...] = np.tanh(X)
    return Y, X


def refuses_complex(X):
    if np.iscomplexobj(X):
        raise TypeError("X: expected float64, got complex128")
    return np.tanh(X), X


def tanh_backward(dY, X):
    return dY * (1 - np.tanh(X) ** 2)


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
SIGN_OF_NO_USE = {"float buffer", "astype", "float", "an error"}  # these fail before they give a wrong slope


@pytest.mark.parametrize("name", UNSAFE)
def test_right_derivative_of_an_unsafe_forward_passes(name, X):
    report = check_gradients(*UNSAFE[name], (X,))
    assert report.method == report["X"].method == "central-difference" and report.rtol == 1e-7
    assert report.max_error <= 1e-9
    [note] = report.notes
    assert note.startswith("central differences, because forward is not complex-safe (abs, var, a float buffer?): ")
    assert ("disagree along X" in note) != (name in SIGN_OF_NO_USE)


@pytest.mark.parametrize("name", UNSAFE)
def test_wrong_derivative_of_an_unsafe_forward_is_caught(name, X):
    forward, backward = UNSAFE[name]
    report = failing_report(forward, lambda dY, X: backward(dY, X) * (1 + 1e-6), (X,))
    assert report["X"].verdict == "wrong" and report.method == "central-difference"
    report = failing_report(forward, lambda dY, X: np.zeros_like(X), (X,))
    assert report["X"].hint == "zero, but the loss depends on this argument"


def test_derivative_dropped_by_the_complex_step_and_by_backward_alike(X):
    """Both take the scale for a constant, and agree to the last digit: the second opinion does not."""
    forward = lambda X: (X * np.abs(X).sum(), X)  # noqa: E731
    constant = lambda dY, X: dY * np.abs(X).sum()  # noqa: E731
    scale = np.abs(X).sum()
    assert check_gradients(lambda X: (X * scale, X), constant, (X,)).ok
    report = failing_report(forward, constant, (X,))
    assert report.method == "central-difference" and report["X"].verdict == "wrong"


def test_reasons_for_the_fallback(X):
    def note(name):
        return check_gradients(*UNSAFE[name], (X,)).notes[0].partition("?): ")[2]

    assert note("abs") == "complex step and central differences disagree along X; its output comes back real"
    assert note("abs of a part") == "complex step and central differences disagree along X"
    assert note("an error") == "TypeError on complex input: X: expected float64, got complex128"
    assert note("float buffer").startswith("ComplexWarning on complex input: ")


def test_complex_step_that_is_asked_for_is_not_replaced(X):
    with pytest.raises(ValueError, match=r"^method: the complex step does not suit forward: TypeError on complex"):
        check_gradients(refuses_complex, tanh_backward, (X,), method="complex-step")
    assert failing_report(*UNSAFE["abs"], (X,), method="complex-step").method == "complex-step"


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
    """Any convention for relu'(0) will do; elsewhere the derivative must be right."""
    X[0, 1] = X[2, 2] = X[2, 3] = 0
    forward = lambda X: (np.maximum(X, 0), X)  # noqa: E731
    backward = lambda dY, X: np.where(X > 0, dY, np.where(X == 0, at_zero * dY, 0))  # noqa: E731
    report = check_gradients(forward, backward, (X,), method=method)
    if (method, at_zero) not in (("central-difference", 0.5), ("complex-step", 1.0)):  # what the method itself finds
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


def test_no_kink_where_there_is_none(X):
    """Zeros alone are no kink, and neither is a sharp bend."""
    X[0] = 0
    forward = lambda X: (np.tanh(100 * X), X)  # noqa: E731
    report = check_gradients(forward, lambda dY, X: 100 * dY * (1 - np.tanh(100 * X) ** 2), (X,))
    assert report["X"].verdict == "ok" and not report.notes


# ---- rounding noise -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "central-difference"])
def test_gradient_that_is_zero_in_mathematics_and_noise_in_numbers(rng, method):
    """The bias of the keys shifts all scores of a query alike; it is measured against its neighbours."""
    verdicts = set()
    for scale in (0.3, 1.0, 3.0):
        pair = pairs.random_pair("key_value_attention", rng, scale)
        report = check_gradients(*pair, method=method)
        bias = report["params['b_K']"]
        verdicts.add(bias.verdict)
        assert bias.ok and bias.error <= 1e-12
    assert verdicts == {"zero"}
    assert report.notes[-1] == "zero: nothing but rounding noise; the error is relative to the neighbours"


@pytest.mark.parametrize("size", [1e-18, 1e-12, 1e-6, 1.0])
def test_what_is_not_noise_does_not_pass_for_it(rng, size):
    """A multiple of the right gradient of b_V in place of that of b_K, which is zero."""
    forward, backward, args = pairs.random_pair("key_value_attention", rng)

    def wrong(dY, cache):
        dX, dparams = backward(dY, cache)
        return dX, {**dparams, "b_K": dparams["b_K"] + size * dY.sum()}

    if size < 1e-16:
        assert check_gradients(forward, wrong, args)["params['b_K']"].verdict == "zero"
    else:
        assert failing_report(forward, wrong, args)["params['b_K']"].verdict == "wrong"


def test_noise_of_a_lonely_argument_is_recognised(X):
    """There are no neighbours but the loss itself."""
    forward = lambda b: (pairs.softmax(X + b)[0],) * 2  # noqa: E731
    for backward in (lambda dA, A: pairs.softmax_backward(dA, A).sum().reshape(1), lambda dA, A: np.zeros(1)):
        report = check_gradients(forward, backward, (np.array([0.3]),))
        assert report["b"].verdict == "zero" and report["b"].error < 1e-15
        assert report.notes == ("every gradient is zero here, so that the check proves little",)
    assert not failing_report(forward, lambda dA, A: (dA * A).sum().reshape(1) * 1e-9, (np.array([0.3]),)).ok


def test_ill_conditioned_gradient(rng):
    """LayerNorm of rows that are nearly constant: known to five digits fewer, and the report says so."""
    X = 1e5 + rng.standard_normal((3, 4))
    report = check_gradients(pairs.layer_norm, pairs.layer_norm_backward, (X, X[0] - 1e5, X[1] - 1e5))
    assert report["X"].verdict == "ok" and 1e-12 < report["X"].error < 1e-9 and report["X"].noise > 0
    assert "rounding in forward hides up to" in report.notes[0]

    def wrong(dY, cache):
        dX, dgamma, dbeta = pairs.layer_norm_backward(dY, cache)
        return dX * (1 + 1e-7), dgamma, dbeta

    assert failing_report(pairs.layer_norm, wrong, (X, X[0] - 1e5, X[1] - 1e5))["X"].verdict == "wrong"


def test_noise_is_alike_relative_to_the_neighbours(rng):
    """One suspect is all noise on a scale of its own; another, 1e5 larger, is not noisier for that."""
    loss = loss_of(lambda x: x, [1.0, 2.0])
    measure = lambda loss, direction, scale, step=0.0: Slope(1e-3 * rng.standard_normal())  # noqa: E731
    replicas = Replicas(loss, measure, [np.zeros(2)], 1e-5, rng)
    direction = {0: np.array([1.0, 0.0])}
    small, large = (Probe(direction, 0.0, Slope(1e-3), scale) for scale in (1e-5, 1.0))
    verdict, noise = replicas.judge([small, large], [1e7, 1e7])
    assert verdict == "zero" and 20 < noise < 500
    assert replicas.judge([large], [1e5])[0] == "noisy"  # a thousandth of it, where 1e-9 of the neighbours is less
    assert replicas.judge([Probe(direction, 0.1, Slope(1e-3), 1.0)], [1e7])[0] == "wrong"


def test_forward_too_noisy_to_judge(X):
    forward = lambda X: (np.tanh(X) + 1e-5 * np.abs(np.sin(1e12 * X)), X)  # noqa: E731
    report = failing_report(forward, tanh_backward, (X,), method="central-difference")
    assert report["X"].verdict == "noisy"
    assert report["X"].hint.startswith("cannot be judged: rounding in forward hides ")
    assert check_gradients(forward, tanh_backward, (X,), method="central-difference", rtol=1.0).ok


def test_saturated_softmax(rng):
    """Gradients of 1e-300, which the analytic form loses to underflow."""
    for scale in (1e2, 1e4, 1e6):
        for _ in range(20):
            assert check_gradients(*pairs.random_pair("softmax", rng, scale)).ok
            assert check_gradients(*pairs.random_pair("cross_entropy", rng, scale)).ok


def test_rounding_that_does_not_vary_nearby():
    """A ≈ 1 − 1e-13 in the first row is a multiple of eps, and so is the error; it varies only further away."""
    E = np.array([[-159.37, 85.4, 16.97, 55.52], [163.26, 152.25, -10.97, -41.83]])
    for seed in range(30):
        assert check_gradients(pairs.softmax, pairs.softmax_backward, (E,), rng=seed)["E"].verdict == "ok"


@pytest.mark.parametrize("method", ["auto", "central-difference"])
@pytest.mark.parametrize("scale", [1e160, 1e-160])
def test_gradients_whose_squares_leave_the_range(X, method, scale):
    """They are held to the same tolerance as any other, and their factor is named as well."""
    forward = lambda X: (np.tanh(X * scale), X)  # noqa: E731
    right = lambda dY, X: dY * (1 - np.tanh(X * scale) ** 2) * scale  # noqa: E731
    assert check_gradients(forward, right, (X / scale,), method=method)["X"].verdict == "ok"
    report = failing_report(forward, lambda dY, X: right(dY, X) * (1 + 1e-6), (X / scale,), method=method)
    assert report["X"].hint == "off by a factor of 1 + 1e-06"


@pytest.mark.parametrize("method", ["auto", "central-difference"])
def test_a_bias_that_starts_at_zero(rng, method):
    """Beside the point it is 1e-5 and not 0: the step must not shrink with it, or rounding hides what is zero."""
    forward, backward, (X, params) = pairs.random_pair("key_value_attention", rng)
    params["b_K"][:] = 0
    report = check_gradients(forward, backward, (X, params), method=method)
    assert report["params['b_K']"].verdict == "zero"
    spoiled = lambda dY, c: (backward(dY, c)[0], backward(dY, c)[1] | {"b_K": np.full(X.shape[1], 1e-7)})  # noqa: E731
    assert failing_report(forward, spoiled, (X, params), method=method)["params['b_K']"].verdict == "wrong"


# ---- large arguments ------------------------------------------------------------------------------------------


class Tower:
    """A stack of residual attention layers; counts its forward calls."""

    def __init__(self, n_layers: int, d: int, rng: np.random.Generator) -> None:
        self.n_layers, self.calls = n_layers, 0
        self.params = {}
        for i in range(n_layers):
            self.params |= {f"{i}.{name}": rng.standard_normal((d, d)) / d**0.5 for name in ("W_K", "W_V")}
            self.params |= {f"{i}.{name}": rng.standard_normal(d) for name in ("b_K", "gamma", "beta")}

    def forward(self, X, params):
        self.calls += 1
        caches = []
        for i in range(self.n_layers):
            layer = {name: params[f"{i}.{name}"] for name in ("W_K", "b_K", "W_V")}
            Y, attention_cache = pairs.key_value_attention(X, layer)
            X, norm_cache = pairs.layer_norm(X + Y, params[f"{i}.gamma"], params[f"{i}.beta"])
            caches.append((attention_cache, norm_cache))
        return X, caches

    def backward(self, dX, caches):
        grads = {}
        for i, (attention_cache, norm_cache) in reversed(list(enumerate(caches))):
            dX, grads[f"{i}.gamma"], grads[f"{i}.beta"] = pairs.layer_norm_backward(dX, norm_cache)
            dX_attention, layer = pairs.key_value_attention_backward(dX, attention_cache)
            grads |= {f"{i}.{name}": gradient for name, gradient in layer.items()}
            dX = dX + dX_attention
        return dX, grads


@pytest.fixture(scope="module")
def tower():
    return Tower(7, 20, np.random.default_rng(3))


@pytest.fixture
def tower_args(tower, rng):
    return rng.standard_normal((6, 20)), tower.params


def spoiled(tower, name, change):
    def backward(dX, caches):
        dX, grads = tower.backward(dX, caches)
        change(grads[name])
        return dX, grads

    return backward


def test_large_arguments_take_some_tens_of_calls(tower, tower_args):
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
    """Each has directions of its own, and the wrong entry of an array of 6,000 is found by halving."""
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
    """Most parameters of a table of layers may be unused; their gradients are exactly zero."""
    params = {f"p{i}": rng.standard_normal((10, 10)) for i in range(40)}
    forward = lambda p: (np.tanh(p["p3"] @ p["p7"]), p)  # noqa: E731

    def backward(dY, p):
        dZ = dY * (1 - np.tanh(p["p3"] @ p["p7"]) ** 2)
        used = {"p3": dZ @ p["p7"].T, "p7": p["p3"].T @ dZ}
        return {name: used.get(name, np.zeros((10, 10))) for name in p}

    report = check_gradients(forward, backward, (params,))
    assert [a.name for a in report.arguments if a.verdict == "ok"] == ["p['p3']", "p['p7']"]
    forgotten = lambda dY, p: {**backward(dY, p), "p7": np.zeros((10, 10))}  # noqa: E731
    assert [a.name for a in failing_report(forward, forgotten, (params,)).arguments if not a.ok] == ["p['p7']"]


# ---- a whole Transformer --------------------------------------------------------------------------------------


def relu_transformer(seed, is_new=False):
    """A model with 1,152 hidden units, so that hardly a step is too short to carry one across its kink."""
    model = toy_model(seed, d_ff=64, n_encoder_layers=1, n_decoder_layers=1)
    params = {name: array.copy() for name, array in model.params.items()}
    if is_new:  # as training starts: every bias is 0
        params |= {name: np.zeros_like(a) for name, a in params.items() if name.split(".")[-1][:2] in ("b_", "be")}
    rng = np.random.default_rng(seed)
    src, tgt = rng.integers(3, 9, (3, 5)), rng.integers(3, 11, (3, 4))
    return functions.backward, (params, src, tgt), {"config": model.config}


@pytest.mark.parametrize(("method", "most"), [("auto", 130), ("central-difference", 1000)])
@pytest.mark.parametrize(("seed", "is_new"), [(0, False), (1, True)])
def test_a_transformer_of_relu(seed, is_new, method, most):
    """No step is led astray by a kink within its reach, key biases are zero, and the evaluations are few."""
    backward, args, kwargs = relu_transformer(seed, is_new)
    forward = Counted(functions.forward)
    report = check_gradients(forward, backward, args, kwargs, method=method, rng=seed)
    for argument in report.arguments:
        assert argument.verdict == ("zero" if argument.name.endswith("b_K']") else "ok"), str(report)
    assert report.method == ("complex-step" if method == "auto" else method)
    assert forward.calls <= most


@pytest.mark.parametrize(
    ("name", "method"),
    [("encoder.0.feed_forward.b_1", "auto"), ("decoder.0.norm_3.gamma", "central-difference")],
)
def test_a_wrong_transformer_of_relu(name, method):
    backward, args, kwargs = relu_transformer(2)

    def wrong(dlogits, cache):
        grads = backward(dlogits, cache)
        return grads | {name: grads[name] * (1 + 1e-5)}

    report = failing_report(functions.forward, wrong, args, kwargs=kwargs, method=method)
    assert [a.name for a in report.arguments if not a.ok] == [f"params['{name}']"]
