"""How gradients are matched with arguments, and which outputs, arguments and keyword arguments are allowed."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pytest

from npattn.gradcheck import GradientError, GradientWarning, check_gradients
from npattn.gradcheck.slots import align, argument
from npattn.gradcheck.trees import floating_leaves, leaves
from support import gradcheck_pairs as pairs


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def X(rng):
    return rng.standard_normal((3, 4))


def names(report):
    return [argument.name for argument in report.arguments]


def misalignment(forward, backward, args):
    """Return the one problem of a check that cannot match gradients to arguments."""
    with pytest.raises(GradientError) as error:
        check_gradients(forward, backward, args)
    report = error.value.report
    assert report.arguments == report.notes == () and len(report.problems) == 1
    assert "stopped before any number was compared" in " ".join(str(report).split())
    return report.problems[0]


# ---- slots ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [(), (None,), (None, None)])
def test_arguments_without_floating_arrays_may_have_a_slot_or_no_slot(X, rng, extra):
    mask = rng.random((3, 3)) < 0.7
    mask[:, 0] = True
    K = rng.standard_normal((3, 4))
    backward = lambda dY, c: (*pairs.attention_backward(dY, c), *extra)  # noqa: E731
    assert names(check_gradients(pairs.attention, backward, (X, K, mask))) == ["Q", "X"]
    assert names(check_gradients(pairs.attention, backward, (X, K, None))) == ["Q", "X"]
    assert names(check_gradients(pairs.attention, backward, (X, K))) == ["Q", "X"]
    assert names(check_gradients(pairs.attention, backward, (X, K), {"mask": mask})) == ["Q", "X"]


def test_slots_before_and_between(X, rng):
    ids, W_E = rng.integers(0, 5, 6), rng.standard_normal((5, 3))
    for backward in (pairs.embedding_backward, lambda dY, c: (None, pairs.embedding_backward(dY, c))):
        assert names(check_gradients(pairs.embedding, backward, (ids, W_E))) == ["W_E"]

    def forward(flag, X, power, b, shift):
        return X**power + shift, (X, power)

    def backward(*slots):
        return lambda dY, c: [{"X": c[1] * c[0] ** (c[1] - 1) * dY, "s": dY.sum(0)}.get(slot) for slot in slots]

    for slots in ("Xs", " Xs", "X s", " X  s", "X  s", " Xs "):
        assert names(check_gradients(forward, backward(*slots), (True, X, 2, None, X[0]))) == ["X", "shift"]


def test_only_spare_nones_are_slots_of_arguments_without_floating_arrays():
    """There are three slots for two gradients. The first argument takes the spare None; the next None is dX."""
    ds = np.ones(3)
    given = [("flag", True), ("n", 2), ("X", np.ones(2)), ("s", np.ones(3))]
    dX, other = align([argument(*each) for each in given], (None, None, ds))
    assert dX is None and other is ds


def test_none_states_that_the_gradient_is_zero(X):
    report = check_gradients(lambda X, Z: (X * 1, None), lambda dY, _: (dY * 1, None), (X, X + 1))
    assert report["Z"].verdict == "zero" and report["Z"].error == 0
    with pytest.raises(GradientError) as error:
        check_gradients(lambda X, Z: (X * Z, (X, Z)), lambda dY, c: (dY * c[1], None), (X, X + 1))
    assert error.value.report["Z"].hint == "zero, but the loss depends on this argument"


def test_wrong_number_of_gradients(X):
    forward = lambda X, Z: (X * Z, (X, Z))  # noqa: E731
    product = lambda dY, c: (dY * c[1], dY * c[0])  # noqa: E731
    for n, count in ((1, "1 slot"), (3, "3 slots")):
        backward = lambda dY, c, n=n: (product(dY, c) * 2)[:n]  # noqa: E731
        assert misalignment(forward, backward, (X, X + 1)) == f"backward: expected a gradient for X, Z, got {count}"
    bare = misalignment(forward, lambda dY, c: dY * c[1], (X, X + 1))
    assert bare == "backward: expected a gradient for X, Z, got 1 slot"


def test_the_error_names_python_scalars(X):
    forward = lambda X, scale: (X * scale, (X, scale))  # noqa: E731
    backward = lambda dY, c: (dY * c[1], np.sum(dY * c[0]))  # noqa: E731
    problem = misalignment(forward, backward, (X, 2.0))
    reason = "a Python scalar is not differentiated, an np.array of it is"
    assert problem == f"backward: expected a gradient for X, got 2 slots; scale: {reason}"
    both = misalignment(lambda X, a, n, b: (X * a * b, (X, a)), backward, (X, 2.0, 1, 3.0))
    assert both == f"backward: expected a gradient for X, got 2 slots; a, b: {reason}"
    assert names(check_gradients(forward, backward, (X, np.array(2.0)))) == ["X", "scale"]
    assert check_gradients(forward, lambda dY, c: (dY * c[1], float(np.sum(dY * c[0]))), (X, np.array(2.0))).ok


def test_gradient_that_is_no_array(X):
    problem = misalignment(lambda X: (X * 2, None), lambda dY, _: {"X": dY * 2}, (X,))
    assert problem == "gradient of X: expected an array, got dict"


# ---- nested arguments -----------------------------------------------------------------------------------------


class Norm(NamedTuple):
    gamma: np.ndarray
    beta: np.ndarray | None


class Frozen(Mapping):
    """A mapping that is no dict, for example a class of named parameters."""

    def __init__(self, **arrays):
        self._arrays = arrays

    def __getitem__(self, key: str) -> np.ndarray:
        return self._arrays[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def user_layer(X, params, layers):
    """A layer with parameters in all kinds of containers: two matrices, a scale and a shift."""
    hidden = np.tanh(X @ params["in"]["W"])
    Y = hidden @ params["out"][0] * layers[1].gamma + layers[0]["shift"]
    return {"Y": Y, "hidden": (hidden, layers[0]["steps"])}, (X, params, layers, hidden)


def user_layer_backward(dy, cache):
    X, params, layers, hidden = cache
    dZ = dy["Y"] * layers[1].gamma
    dhidden = dZ @ params["out"][0].T + dy["hidden"][0]
    dpre = dhidden * (1 - hidden**2)
    dparams = {"out": [hidden.T @ dZ], "in": {"W": X.T @ dpre, "frozen": None}}
    dgamma = (dy["Y"] * (hidden @ params["out"][0])).sum(0)
    return dpre @ params["in"]["W"].T, dparams, [{"shift": dy["Y"].sum(0)}, Norm(dgamma, None)]


@pytest.fixture
def nested(X, rng):
    params = {"in": {"W": rng.standard_normal((4, 5)), "frozen": None}, "out": [rng.standard_normal((5, 2))]}
    shift = {"shift": rng.standard_normal(2), "steps": np.arange(3)}
    return X, params, [shift, Norm(rng.standard_normal(2), None)]


def test_names_of_nested_leaves(nested):
    assert [name for name, _ in floating_leaves(nested[1:])] == [
        "[0]['in']['W']", "[0]['out'][0]", "[1][0]['shift']", "[1][1].gamma",
    ]  # fmt: skip


NESTED_NAMES = ["X", "params['in']['W']", "params['out'][0]", "layers[0]['shift']", "layers[1].gamma"]


def test_nested_arguments_gradients_and_outputs(nested):
    for method in ("complex-step", "central-difference"):
        report = check_gradients(user_layer, user_layer_backward, nested, method=method)
        assert names(report) == NESTED_NAMES
        assert {a.verdict for a in report.arguments} == {"ok"}


@pytest.mark.parametrize("name", NESTED_NAMES)
def test_error_in_a_nested_gradient_is_found_under_its_name(nested, name):
    def backward(dy, cache):
        X, params, layers = gradients = user_layer_backward(dy, cache)
        places = [X, params["in"]["W"], params["out"][0], layers[0]["shift"], layers[1].gamma]
        places[NESTED_NAMES.index(name)][(..., 0)] *= 1 + 1e-6
        return gradients

    with pytest.raises(GradientError) as error:
        check_gradients(user_layer, backward, nested)
    assert [a.name for a in error.value.report.arguments if not a.ok] == [name]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda p: p["in"].pop("W"), "gradient of params['in']: lacks ['W']"),
        (lambda p: p["in"].update(V=1.0), "gradient of params['in']: has unexpected ['V']"),
        (lambda p: p.update({"in": {"V": 1.0}}), "gradient of params['in']: lacks ['W'] and has unexpected ['V']"),
        (lambda p: p["in"].update(frozen=1.0), "gradient of params['in']: has unexpected ['frozen']"),
        (lambda p: p.update(out=p["out"] * 2), "gradient of params['out']: expected a gradient for params['out'][0]"),
        (lambda p: p.update(out=p["out"][0]), "gradient of params['out']: expected a list or tuple, got ndarray"),
        (lambda p: p.update({"in": [p["in"]["W"]]}), "gradient of params['in']: expected a mapping, got list"),
        (lambda p: p["in"].update(W="?"), "gradient of params['in']['W']: expected an array, got str"),
    ],
)
def test_wrong_structure(nested, change, problem):
    def backward(dy, cache):
        gradients = user_layer_backward(dy, cache)
        change(gradients[1])
        return gradients

    assert misalignment(user_layer, backward, nested).startswith(problem)


def test_forward_gets_containers_of_the_same_kinds(X):
    def forward(pair, both):
        assert type(pair) is list and type(both) is tuple
        return pair[0] * both[0], (pair[0], both[0])

    assert check_gradients(forward, lambda dY, c: ([dY * c[1]], (dY * c[0],)), ([X], (X + 1,))).ok


def test_any_mapping_may_hold_parameters(X, rng):
    params = Frozen(W=rng.standard_normal((4, 2)), b=rng.standard_normal(2))

    def backward(dY, cache):
        dX, dW, db = pairs.linear_backward(dY, cache)
        return dX, Frozen(b=db, W=dW)

    report = check_gradients(lambda X, p: pairs.linear(X, p["W"], p["b"]), backward, (X, params))
    assert names(report) == ["X", "p['W']", "p['b']"]


@pytest.mark.parametrize("container", [list, tuple, lambda both: Norm(*both)])
@pytest.mark.parametrize("bare", [True, False])
def test_single_argument_that_is_a_sequence(X, container, bare):
    def backward(dY, pair):
        both = container((dY * pair[1], dY * pair[0]))
        return both if bare else (both,)

    report = check_gradients(lambda pair: (pair[0] * pair[1], pair), backward, (container((X, X + 1)),))
    assert len(report.arguments) == 2


def test_a_tuple_of_gradients_is_not_the_gradient_of_one_argument_of_two(X):
    forward = lambda pair, Z: (pair[0] * pair[1] * Z, (*pair, Z))  # noqa: E731
    problem = misalignment(forward, lambda dY, c: (dY * c[1] * c[2], dY * c[0] * c[2]), ((X, X + 1), X + 2))
    assert problem == "gradient of pair: expected a list or tuple, got ndarray"


def test_argument_used_twice_under_two_names(X):
    """Both are the same array, but each is differentiated by itself."""
    report = check_gradients(lambda X, Z: (X * Z, (X, Z)), lambda dY, c: (dY * c[1], dY * c[0]), (X, X))
    assert names(report) == ["X", "Z"]


def test_names_of_arguments(X):
    double = lambda dY, _: dY * 2  # noqa: E731
    assert names(check_gradients(lambda *xs: (xs[0] * 2, None), double, (X,))) == ["xs[0]"]
    both = lambda dY, _: (dY * 2, dY * 1)  # noqa: E731
    assert names(check_gradients(lambda a, *xs: (a * 2 + xs[0], None), both, (X, X))) == ["a", "xs[0]"]
    partial = functools.partial(lambda n, x: (x * n, None), 2)
    assert names(check_gradients(partial, double, (X,))) == ["x"]


# ---- outputs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [float, np.float64, np.array, np.float32])
def test_scalar_losses(X, kind):
    """The cotangent has the type of the loss."""

    def forward(X):
        loss = np.sum(X * X)
        return (kind(loss) if np.isrealobj(loss) else loss), X

    def backward(dloss, X):
        assert isinstance(dloss, type(kind(1.0)))
        return 2 * X * float(dloss)

    assert check_gradients(forward, backward, (X,), rtol=1e-3 if kind is np.float32 else None).ok


def test_output_with_integers_and_none(X):
    def forward(X):
        return (X.real.argmax(-1), np.tanh(X), None, {"sum": X.sum(0)}), np.tanh(X)

    def backward(dy, Y):
        assert dy[0] is None and dy[2] is None and dy[1].shape == Y.shape
        return dy[1] * (1 - Y * Y) + dy[3]["sum"]

    assert check_gradients(forward, backward, (X,)).method == "complex-step"


def test_empty_arrays():
    for X, W in ((np.ones((2, 0)), np.zeros((0, 3))), (np.zeros((0, 3)), np.ones((3, 2)))):
        with pytest.warns(GradientWarning, match="is zero here|there is no number to compare"):
            report = check_gradients(pairs.linear, pairs.linear_backward, (X, W))
        assert {a.verdict for a in report.arguments} <= {"ok", "zero"} and report.max_error == 0
    backward = lambda dy, w: (np.zeros((0, 3)), 2 * w * dy)  # noqa: E731
    report = check_gradients(lambda X, w: (X.sum() + w * w, w), backward, (X, np.array(3.0)))
    assert report["X"].coverage == "no entries" and report["X"].index is None


@pytest.mark.parametrize("method", ["complex-step", "central-difference"])
def test_an_array_without_axes_stays_an_array(method):
    def forward(x):
        assert isinstance(x, np.ndarray)
        return x * x, x

    assert check_gradients(forward, lambda dy, x: 2 * dy * x, (np.array(3.0),), method=method).ok


# ---- keyword arguments, Generators, dtypes, strides -----------------------------------------------------------


def test_keyword_arrays_are_not_differentiated_but_promoted(X):
    """So the complex step also works for a forward that requires one dtype for all arrays."""

    def forward(X, *, bias):
        assert X.dtype == bias.dtype
        return X * bias, bias

    for dtype in (np.float64, np.float32):
        args, kwargs = (X.astype(dtype),), {"bias": X.astype(dtype)}
        report = check_gradients(forward, lambda dY, bias: dY * bias, args, kwargs)
        assert names(report) == ["X"] and report.method == "complex-step"


@pytest.mark.parametrize("place", ["args", "kwargs"])
def test_generators_are_copied_so_that_dropout_keeps_its_mask(X, place):
    def dropout(X, rng):
        mask = rng.random(X.shape) < 0.5
        return X * mask, mask

    rng = np.random.default_rng(1)
    args, kwargs = ((X, rng), {}) if place == "args" else ((X,), {"rng": rng})
    assert check_gradients(dropout, lambda dY, mask: dY * mask, args, kwargs).ok
    assert rng.random() == np.random.default_rng(1).random()


def test_float32_is_checked_in_float64(X):
    report = check_gradients(pairs.softmax, pairs.softmax_backward, (X.astype(np.float32),))
    assert report.max_error <= 1e-13 and report["E"].dtype == "float32"
    assert report.notes == ("float32 is checked in float64: E",)
    assert not check_gradients(pairs.softmax, pairs.softmax_backward, (X,)).notes


def test_strided_and_read_only_arguments(rng):
    """Backward is called with the arrays in their own strides."""
    X, W = rng.standard_normal((8, 6))[::-2, ::3], np.asfortranarray(rng.standard_normal((2, 3)))
    X.flags.writeable = W.flags.writeable = False
    assert check_gradients(pairs.linear, pairs.linear_backward, (X, W)).ok

    def wrong_if_strided(dY, cache):
        dX, dW, _ = pairs.linear_backward(dY, cache)
        return dX if cache[0].flags.c_contiguous else 2 * dX, dW

    with pytest.raises(GradientError):
        check_gradients(pairs.linear, wrong_if_strided, (X, W))
    assert check_gradients(pairs.linear, wrong_if_strided, (X.copy(), W)).ok


def test_minus_infinity_in_an_argument(X):
    """An additive mask is differentiated at its finite entries."""
    bias = np.where(X > 0.5, -np.inf, X)
    forward = lambda E, bias: (pairs.softmax(E + bias)[0],) * 2  # noqa: E731
    backward = lambda dA, A: (pairs.softmax_backward(dA, A), pairs.softmax_backward(dA, A))  # noqa: E731
    assert check_gradients(forward, backward, (X, bias)).method == "complex-step"


# ---- depth ----------------------------------------------------------------------------------------------------


def chain(link, end, levels=1000):
    """Return `end` below many levels of a container."""
    for _ in range(levels):
        end = link(end)
    return end


class Link(NamedTuple):
    next: object
    flag: bool | None = None


LINKS = [lambda x: [x], lambda x: (None, x), lambda x: {"next": x, "n": None}, Link]


def end(tree):
    """Return the array below many levels."""
    while not isinstance(tree, np.ndarray):
        tree = tree["next"] if isinstance(tree, dict) else tree[-1] if tree[0] is None else tree[0]
    return tree


@pytest.mark.parametrize("link", LINKS)
def test_a_thousand_levels(X, link):
    X = X[0, :2]
    def forward(tree):
        return chain(link, end(tree) ** 2, 300), tree

    def backward(dy, tree):
        return chain(link, 2 * end(tree) * end(dy))

    report = check_gradients(forward, lambda dy, tree: (backward(dy, tree),), (chain(link, X),))
    assert report.max_error < 1e-14 and report.arguments[0].name.startswith("tree")
    with pytest.raises(GradientError, match="the sign is wrong"):
        check_gradients(forward, lambda dy, tree: (chain(link, -end(backward(dy, tree))),), (chain(link, X),))


def test_a_container_that_holds_itself(X):
    tree = [X]
    tree.append(tree)
    with pytest.raises(ValueError, match=r"^expected at most 10,000 levels of containers: does one hold itself\?$"):
        check_gradients(lambda tree: (tree[0] * 1, None), lambda dy, _: dy, (tree,))
    deep = chain(lambda x: [x], 1.0, 9_999)
    assert [leaf for _, leaf in leaves(deep)] == [1.0]
    with pytest.raises(ValueError, match="levels"):
        list(leaves([deep]))
