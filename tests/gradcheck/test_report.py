"""The contents of a report, and its table."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from npattn.gradcheck import ArgumentReport, GradientError, GradientReport, check_gradients
from npattn.gradcheck.hints import DIAGONAL, shape_hint, value_hint
from npattn.gradcheck.report import listed
from support import gradcheck_pairs as pairs
from support.gradcheck_pairs import failing_report


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def argument(**changes):
    right = ArgumentReport("X", (3, 4), "float64", "complex-step", "12 entries", 3e-16, (1, 2), -0.5, -0.5, "ok")
    return dataclasses.replace(right, **changes)


def gradient_report(*arguments, **changes):
    return dataclasses.replace(GradientReport("f", "complex-step", 1e-12, arguments), **changes)


# ---- the value ------------------------------------------------------------------------------------------------


def test_report_is_a_frozen_value(rng):
    report = check_gradients(*pairs.random_pair("linear", rng))
    assert report == pickle.loads(pickle.dumps(report)) and hash(report) == hash(pickle.loads(pickle.dumps(report)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.rtol = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.arguments[0].error = 1.0


def test_fields(rng):
    args = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 3), (3, 4), 4))
    report = check_gradients(pairs.linear, pairs.linear_backward, tuple(args), rtol=1e-11)
    assert (report.title, report.method, report.rtol) == ("support.gradcheck_pairs.linear", "complex-step", 1e-11)
    bias = report["b"]
    assert (bias.name, bias.shape, bias.dtype, bias.coverage) == ("b", (4,), "float32", "4 entries")
    assert len(bias.index) == 1 and bias.analytic == pytest.approx(bias.numeric, rel=1e-12)
    assert bias.hint is None and bias.noise == 0
    assert report.max_error == max(a.error for a in report.arguments)
    with pytest.raises(KeyError, match=r"V: expected one of X, W, b"):
        report["V"]


def test_ok_requires_right_arguments_and_no_problems():
    assert gradient_report(argument(), argument(verdict="zero"), argument(verdict="kink")).ok
    for verdict in ("wrong", "shape", "dtype", "noisy"):
        assert not gradient_report(argument(), argument(verdict=verdict)).ok
    assert not gradient_report(argument(), problems=("backward: changed the cotangent",)).ok
    assert gradient_report().max_error == 0 and gradient_report(argument(error=np.inf)).max_error == np.inf


def test_gradient_error_is_an_assertion_error_with_the_report(rng):
    with pytest.raises(AssertionError) as error:
        check_gradients(pairs.relu, lambda dY, X: dY * 2, (rng.standard_normal(3),))
    assert type(error.value) is GradientError
    assert str(error.value) == str(error.value.report)
    assert error.value.args == (error.value.report,)
    assert pickle.loads(pickle.dumps(error.value)).report == error.value.report


# ---- the table ------------------------------------------------------------------------------------------------


def test_table():
    wrong = argument(name="W", error=0.5, index=None, analytic=1.0, numeric=2e-3, verdict="wrong", hint="why")
    shape = argument(name="b", error=np.inf, index=None, analytic=None, numeric=None, verdict="shape")
    report = gradient_report(argument(), wrong, shape, problems=("a problem",), notes=("a note",))
    assert str(report).splitlines() == [
        "f: not right for W, b",
        "argument              method    error worst at      analytic    numeric verdict",
        "X                     complex 3.0e-16 (1, 2)      -5.000e-01 -5.000e-01 ok",
        "W                     complex 5.0e-01 direction    1.000e+00  2.000e-03 wrong",
        "b                     complex     inf –                    –          – shape",
        "✗ W: why",
        "✗ a problem",
        "· a note",
    ]


def test_first_line():
    def first(*arguments, **changes):
        return str(gradient_report(*arguments, **changes)).splitlines()[0]

    assert first(argument()) == "f: 1 gradient right, largest error 3.0e-16"
    assert first(argument(), argument()) == "f: 2 gradients right, largest error 3.0e-16"
    assert first(argument(), problems=("p",)) == "f: the numbers are right, but"
    assert first(problems=("p",)) == "f: stopped before any number was compared"
    wrong = [argument(name=name, verdict="wrong") for name in "ABCDE"]
    assert first(*wrong[:3]) == "f: not right for A, B, C"
    assert first(*wrong[:4]) == "f: not right for A, B, C and 1 more"
    assert first(*wrong) == "f: not right for A, B, C and 2 more"


def test_no_line_is_longer_than_80_columns():
    name = "parameters['decoder.11.cross_attention.W_Q']"
    long = argument(name=name, verdict="noisy", error=3e-300, index=(1000, 2000, 3000), analytic=-1e-100, numeric=-1.0)
    long = dataclasses.replace(long, hint="a hint of many words " * 10, method="central-difference")
    report = gradient_report(long, title="a.module." * 12, problems=("problem " * 20,), notes=("note " * 40,))
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 80
    assert "…ross_attention.W_Q'] central  3e-300 …000, 3000) -1.00e-100 -1.000e+00 noisy" in lines


def test_long_lines_are_indented_and_a_name_of_21_letters_fits():
    report = gradient_report(argument(name="params['0123456789']x"), title="t", problems=("problem " * 12,))
    assert str(report).splitlines()[2:] == [
        "params['0123456789']x complex 3.0e-16 (1, 2)      -5.000e-01 -5.000e-01 ok",
        "✗ " + " ".join(["problem"] * 9),
        "  problem problem problem",
    ]


def test_no_line_of_a_real_report_is_longer_than_80_columns(rng):
    X = rng.standard_normal((3, 4))
    with pytest.raises(GradientError) as error:
        check_gradients(lambda X, b: (np.abs(X) + b, X), lambda dY, X: (dY * 2, dY), (X, X[0]))
    assert max(map(len, str(error.value).splitlines())) <= 80


def test_names_in_a_list():
    assert listed(["a"]) == "a" and listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d"]) == "a, b, c and 1 more"
    assert listed(list("abcdef")) == "a, b, c and 3 more"


# ---- hints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "expected", "hint"),
    [
        ((5, 3), (3,), "the argument is broadcast: sum over axis 0"),
        ((2, 5, 3), (5, 1), "the argument is broadcast: sum over axis 0, 2"),
        ((5, 3), (), "the argument is broadcast: sum over axis 0, 1"),
        ((2, 3, 4), (2, 4, 3), "transposed?"),
        ((1, 3), (3,), "only axes of length 1 differ: keepdims?"),
        ((3,), (3, 1), "only axes of length 1 differ: keepdims?"),
        ((3,), (4,), None),
        ((3,), (5, 3), None),
    ],
)
def test_shape_hints(shape, expected, hint):
    assert shape_hint(shape, expected) == hint


SIZES = (8, 1, 0, 2, 3, 1234567)
AXES = [(f"axis {i} of X", n) for i, n in enumerate(SIZES)]


@pytest.mark.parametrize(
    ("factor", "hint"),
    [
        (-1.0, "the sign is wrong"),
        (1 - 1e-5, "off by a factor of 1 - 1e-05"),
        (1.7, "off by a factor of 1.7"),
        (-0.5001, "off by a factor of -0.5001"),
        (0.9985, "off by a factor of 0.9985"),
        (2.0, "off by a factor of 2; 2 is the length of axis 3 of X"),
        (3**-0.5, "off by a factor of 0.57735 = 1/√3; 3 is the length of axis 4 of X"),
        (8.0, "off by a factor of 8; 8 is the length of axis 0 of X"),
        (1 / 8, "off by a factor of 0.125 = 1/8; 8 is the length of axis 0 of X"),
        (-3.0, "off by a factor of -3; 3 is the length of axis 4 of X"),
        (1234567.0, "off by a factor of 1.23457e+06 = 1234567; 1234567 is the length of axis 5 of X"),
        (-(8**0.5), "off by a factor of -2.82843 = -√8; 8 is the length of axis 0 of X"),
        (8**-0.5, "off by a factor of 0.353553 = 1/√8; 8 is the length of axis 0 of X"),
    ],
)
def test_hints_for_factors(rng, factor, hint):
    numeric = rng.standard_normal((3, 4))
    assert value_hint(factor * numeric, numeric, [], AXES) == hint


def test_hints_for_other_patterns(rng):
    numeric = rng.standard_normal((4, 4))
    assert value_hint(numeric.T, numeric, [], AXES) == "transposed"
    assert value_hint(numeric.T, numeric, [("W", numeric.copy())], AXES).startswith("the right one was returned for W")
    one = numeric.copy()
    one[3, 0] = 7 * one[3, 0]
    assert value_hint(one, numeric, [], AXES) == "only the entry at (3, 0) is wrong, by a factor of 7"
    rows = numeric.copy()
    rows[[0, 2]] += rng.standard_normal((2, 4))
    assert value_hint(rows, numeric, [], AXES) == "only the rows 0 and 2 are wrong: is a repeated index counted once?"
    centred = numeric - numeric.mean(-1, keepdims=True)
    assert value_hint(numeric, centred, [], AXES).startswith("its rows should sum to zero")
    assert value_hint(numeric + rng.standard_normal((4, 4)), numeric, [], AXES) is None
    assert value_hint(numeric, np.full((4, 4), np.nan), [], AXES).startswith("the numeric slope is nan or inf")
    assert value_hint(numeric, np.zeros((4, 4)), [], AXES) is None


def test_hints_for_wrong_entries_and_rows(rng):
    numeric = rng.standard_normal((14, 3, 4))
    numeric[5, 1, 2] = 0
    one = numeric.copy()
    one[5, 1, 2] = 1
    assert value_hint(one, numeric, [], AXES) == "only the entry at (5, 1, 2) is wrong"
    index = "is a repeated index counted once?"
    for n, rows in ((5, "0, 1, 2, 3 and 4"), (6, "0, 1, 2, 3, 4 and others"), (7, "0, 1, 2, 3, 4 and others")):
        wrong = numeric.copy()
        wrong[:n] += rng.standard_normal((n, 3, 4))
        assert value_hint(wrong, numeric, [], AXES) == f"only the rows {rows} are wrong: {index}"
    wrong[:8] += 1
    assert value_hint(wrong, numeric, [], AXES) is None
    assert value_hint(numeric[:, 0, 0] + np.eye(14)[3] + np.eye(14)[9], numeric[:, 0, 0], [], AXES) is None
    square = numeric[:, :, :3]
    assert value_hint(square.mT, square, [], AXES) == "transposed"


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_hint_for_rows_that_should_sum_to_zero(rng, scale):
    free, centred = rng.standard_normal((2, 4, 4))
    centred -= centred.mean(-1, keepdims=True)
    hint = "its rows should sum to zero: is the row sum of a softmax or a mean left out?"
    assert value_hint(scale * free, scale * centred, [], AXES) == hint
    assert value_hint(scale * free[0], scale * centred[0], [], AXES) == hint
    assert value_hint(scale * (centred + 0.1 * free), scale * centred, [], AXES) == hint
    balanced = centred + np.array([[1.0], [-1.0], [2.0], [-2.0]])  # all rows together sum to zero, single rows do not
    assert value_hint(scale * free, scale * balanced, [], AXES) is None
    assert value_hint(scale * centred[::-1], scale * centred, [], AXES) is None  # wrong in another way


def test_a_hint_must_explain_the_error(rng):
    """There is no hint for an error that is almost a factor of 2 or almost a transposition."""
    numeric = rng.standard_normal((4, 4))
    off = 0.01 * rng.standard_normal((4, 4))
    for almost in (2 * numeric, numeric.T, -numeric):
        assert value_hint(almost + off, numeric, [], AXES) is None


# ---- what is wrong in large arrays, and in ways that many layers share ------------------------------------------


def hint_of(forward, backward, args, name):
    return failing_report(forward, backward, args)[name]


def changed(change):
    """Return the backward of linear with its dW changed."""

    def backward(dY, cache):
        dX, dW, db = pairs.linear_backward(dY, cache)
        return dX, change(dW), db

    return backward


def test_a_large_gradient_is_located_and_explained(rng):
    args = rng.standard_normal((20, 60)), rng.standard_normal((60, 60)), rng.standard_normal(60)

    def spoil(dW):
        dW[41, 37] *= 1.5
        return dW

    entry = hint_of(pairs.linear, changed(spoil), args, "W")
    assert entry.index == (41, 37) and entry.hint.endswith("entries compared, this one by a factor of 1.5")
    assert entry.hint.startswith("wrong in 1 of ")
    assert hint_of(pairs.linear, changed(lambda dW: dW.T.copy()), args, "W").hint == "transposed"
    factor = hint_of(pairs.linear, changed(lambda dW: 1.75 * dW), args, "W")
    assert factor.hint == "off by a factor of 1.75" and len(factor.index) == 2


def test_an_index_of_four_axes_is_not_cut():
    wrong = argument(index=(3, 0, 18, 5), verdict="wrong")
    assert " (3,0,18,5) " in str(gradient_report(wrong))
    wrong = argument(index=(1000, 2000, 3000), verdict="wrong")
    assert "✗ X: worst at (1000, 2000, 3000)" in str(gradient_report(wrong)).splitlines()


def test_a_row_is_a_repeated_index_only_with_indices(rng):
    def first_row(dY, cache):
        dX, dW, db = pairs.linear_backward(dY, cache)
        dX[0] = 0
        return dX, dW, db

    args = rng.standard_normal((5, 3)), rng.standard_normal((3, 4)), rng.standard_normal(4)
    assert hint_of(pairs.linear, first_row, args, "X").hint == "only row 0 is wrong"


def test_hints_for_mistakes_of_attention_and_norms(rng):
    E = rng.standard_normal((4, 5))
    over_columns = lambda dA, A: A * (dA - (A * dA).sum(axis=0, keepdims=True))  # noqa: E731
    assert hint_of(pairs.softmax, over_columns, (E,), "E").hint == "a softmax or a mean over axis 0 instead of 1?"
    assert hint_of(pairs.softmax, lambda dA, A: A * (1 - A) * dA, (E,), "E").hint.endswith(DIAGONAL[1:])
    residual = lambda X: (X + np.tanh(X), X)  # noqa: E731
    hint = "the cotangent itself is missing: a residual connection?"
    assert hint_of(residual, pairs.tanh_backward, (E,), "X").hint == hint

    def transposed(dY, cache):
        Q, X, A = cache
        dE = pairs.softmax_backward(dY @ X.T, A) / Q.shape[-1] ** 0.5
        return dE.T @ X, A.T @ dY + dE.T @ Q

    args = rng.standard_normal((4, 6)), rng.standard_normal((4, 6))
    assert hint_of(pairs.attention, transposed, args, "Q").hint == "the matrix that multiplies X is transposed"

    def merge(X):
        return np.tanh(X.reshape(4, 2, 3).swapaxes(0, 1)), X

    def not_merged(dY, X):
        return (dY * (1 - merge(X)[0] ** 2)).reshape(4, 6).copy()

    assert hint_of(merge, not_merged, args[:1], "X").hint.startswith("the right numbers in the wrong places")

    def no_shift(X):
        return X - X.mean(axis=0) + X.sum(axis=0), X

    backward = lambda dY, X: dY - dY.mean(axis=0)  # noqa: E731
    hint = "a term is missing that is the same along axis 0: a sum or mean over it?"
    assert hint_of(no_shift, backward, (E,), "X").hint == hint


def test_a_factor_of_two_is_not_a_root_of_four():
    assert value_hint(np.array([2.0, 4.0]), np.array([1.0, 2.0]), [], [("axis 1 of X", 4)]) == "off by a factor of 2"
