"""The steps of a check: which gradients it measures again, what it tolerates, and its notes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from npattn.gradcheck import ArgumentReport, check_gradients
from npattn.gradcheck.check import ZERO, Check, _linearity_tolerance
from npattn.gradcheck.numeric import NotComplexSafe
from npattn.gradcheck.pair import PairUnderTest
from npattn.gradcheck.trial import Finding, InSingle, OnKink
from support import gradcheck_pairs as pairs
from support.gradcheck_pairs import failing_report


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def check(rng):
    args = rng.standard_normal((3, 4)), rng.standard_normal((4, 2)), np.zeros(2)
    return Check(PairUnderTest(pairs.linear, pairs.linear_backward, args, {}), "auto", None, rng)


def rows(*changes):
    right = ArgumentReport("X", (3,), "float64", "complex-step", "3 entries", 1e-16, (1,), 0.5, 0.5, "ok")
    return [dataclasses.replace(right, name=name, **change) for name, change in zip("XWbcd", changes, strict=False)]


# ---- notes ----------------------------------------------------------------------------------------------------


def test_no_notes_on_right_and_exactly_zero_gradients(check):
    assert check._notes(rows({}, {})) == []
    assert check._notes(rows({}, {"verdict": "zero", "error": 0.0})) == []


def test_notes_on_dtypes_kinks_noise_and_zeros(check):
    check.kinks = {2, 0}
    assert check._notes(
        rows(
            {"dtype": "float32", "verdict": "kink", "noise": 2e-7},
            {"dtype": "float16", "verdict": "wrong", "noise": 0.5},
            {"verdict": "zero", "error": 1e-17},
            {"dtype": "float32", "noise": 3e-9},
        )
    ) == [
        "float16 and float32 is checked in float64: X, W, c",
        "there is a kink along X, b (relu at 0, a tie of max?): checked 0.1 % beside it",
        "rounding in forward hides up to 2e-07 of the gradient of X, c",
        "zero: only rounding noise; the error is relative to the largest effect of any argument",
    ]


def test_note_when_all_gradients_are_zero(check):
    zeros = rows({"verdict": "zero", "error": 1e-17}, {"verdict": "zero", "error": 0.0})
    check.vacuous = ZERO
    assert check._notes(zeros) == ["every gradient is zero here, so the check proves little"]
    check.vacuous = None
    assert check._notes([*zeros, *rows({})])[0].startswith("zero: only rounding noise")


def test_notes_come_after_the_reason_for_the_method(rng):
    X = rng.standard_normal((3, 4)).astype(np.float32)
    report = check_gradients(lambda X: (np.abs(X), X), lambda dY, X: dY * np.sign(X), (X,))
    assert report.notes == (
        "central differences, because forward is not complex-safe (abs, var, a float buffer?): "
        "complex step and central differences disagree along X; its output is real for complex input",
        "float32 is checked in float64: X",
    )


# ---- what is tolerated ----------------------------------------------------------------------------------------


def test_tolerated_deviations_from_linearity():
    findings = [
        Finding(0, "ok", error=1e-15),
        Finding(1, "ok", error=1e-6, noise=1e-9),
        Finding(2, "kink", error=1e-15, noise=1e-8),
        Finding(3, "wrong", error=0.5, noise=0.25),
        Finding(4, "wrong", error=np.inf),
        Finding(5, "zero", error=1e-17),
        Finding(6, "noisy", error=1e-15, noise=1e-2),
    ]
    tolerance = {0: 1e-9, 1: 1e-2, 2: 1e-4, 3: 1e-9, 6: 100.0}
    assert _linearity_tolerance(findings, 2**-52) == pytest.approx(tolerance, rel=1e-12, abs=0)


def test_tolerance_of_each_method(check, rng):
    assert (check.method, check.rtol) == ("complex-step", 1e-12)
    other = Check(check.pair, "central-difference", None, rng)
    assert (other.method, other.rtol) == ("central-difference", 1e-7)
    assert Check(check.pair, "complex-step", 1e-3, rng).rtol == 1e-3


def test_values_are_copied_in_float64(rng):
    X = rng.standard_normal((3, 4)).astype(np.float32)
    check = Check(PairUnderTest(pairs.softmax, pairs.softmax_backward, (X,), {}), "auto", None, rng)
    assert check.values[0].dtype == np.float64 and np.array_equal(check.values[0], X)
    assert check._own_gradients() is None and check.notes == [] and check.kinks == set()
    assert check.contract.rng is check.rng is rng


def test_own_gradients_with_zeros_for_none(check):
    dX = np.ones((3, 4))
    check.contract.gradients = [dX, None, np.ones(2)]
    first, second, _ = check._own_gradients()
    assert first is dX and second.tolist() == np.zeros((4, 2)).tolist()


# ---- the fallback ----------------------------------------------------------------------------------------------


def test_the_fallback_notes_its_reason(check, rng):
    reason = NotComplexSafe("TypeError on complex input: no")
    check._use_central_differences(reason)
    assert check.method == "central-difference"
    text = "central differences, because forward is not complex-safe (abs, var, a float buffer?)"
    assert check.notes == [f"{text}: TypeError on complex input: no"]
    strict = Check(check.pair, "complex-step", None, rng)
    with pytest.raises(ValueError) as error:
        strict._use_central_differences(reason)
    message = "method: the complex step does not suit forward: TypeError on complex input: no"
    assert str(error.value) == message and error.value.__cause__ is reason


# ---- measured again -------------------------------------------------------------------------------------------


def test_a_comparison_is_repeated_with_another_method_precision_or_point(check, monkeypatch):
    raised = [NotComplexSafe("no"), InSingle(), OnKink([1]), None]
    seen = []

    class Scripted:
        def __init__(self, loss, gradients, method, rtol, rng):
            seen.append((loss.pair.eps, gradients is None, method, rtol, np.array_equal(loss.values[2], np.zeros(2))))

        def compare(self, leaves, check_kinks):
            seen[-1] += (leaves, check_kinks)
            error = raised.pop(0)
            if error:
                raise error
            return "found"

    monkeypatch.setattr("npattn.gradcheck.check.Trial", Scripted)
    check.contract.gradients = [None, None, None]
    assert check._compare([0, 2])[1] == "found" and check.kinks == {1} and len(check.notes) == 1
    double, single = 2.0**-52, 2.0**-23
    assert seen == [
        (double, False, "complex-step", 1e-12, True, [0, 2], True),
        (double, False, "central-difference", 1e-7, True, [0, 2], True),
        (single, False, "central-difference", 2e-3, True, [0, 2], True),
        (single, True, "central-difference", 2e-3, False, [0, 2], False),
    ]


def test_four_wrong_gradients_are_searched(rng):
    """Only the first four wrong gradients have the hint that they are transposed."""
    params = {name: rng.standard_normal((20, 20)) for name in "abcdef"}

    def forward(params):
        return {name: array**3 for name, array in params.items()}, params

    def transposed(dy, params):
        return {name: (3 * dy[name] * array**2).T.copy() for name, array in params.items()}

    report = failing_report(forward, transposed, (params,))
    assert [argument.hint for argument in report.arguments] == ["transposed"] * 4 + [None] * 2
    assert [argument.verdict for argument in report.arguments] == ["wrong"] * 6


def test_a_factor_shows_along_directions_too(rng):
    """The first four gradients are searched; of the fifth, three directions and two entries are known."""
    params = {name: rng.standard_normal((20, 25)) for name in "abcde"}

    def forward(params):
        return {name: array**3 for name, array in params.items()}, params

    def summed(dy, params):
        return {name: 3 * dy[name] * array**2 * 25 for name, array in params.items()}

    report = failing_report(forward, summed, (params,))
    hint = "off by a factor of 25; 25 is the length of axis 1 of params['a']"
    assert [argument.hint for argument in report.arguments] == [hint] * 5


def test_a_gradient_that_is_mostly_wrong_has_no_count(rng):
    X, slips = rng.standard_normal((60, 60)), rng.standard_normal((60, 60))
    slips[:, ::3] = 1
    report = failing_report(lambda X: (X**3, X), lambda dY, X: 3 * X**2 * dY * slips, (X,))
    assert report["X"].hint is None and report["X"].verdict == "wrong"
    slips[:, 1::3] = 1
    report = failing_report(lambda X: (X**3, X), lambda dY, X: 3 * X**2 * dY * slips, (X,))
    assert report["X"].hint.startswith("wrong in ")


def test_kinks_of_two_arguments_are_found(rng):
    X, Z = rng.standard_normal((2, 3, 4))
    X[0, 0] = Z[1, 1] = 0
    forward = lambda X, Z: (np.maximum(X, 0) + np.maximum(Z, 0), (X, Z))  # noqa: E731
    backward = lambda dY, c: (dY * (c[0] > 0), dY * (c[1] > 0))  # noqa: E731
    report = check_gradients(forward, backward, (X, Z))
    assert [argument.verdict for argument in report.arguments] == ["kink", "kink"]
    note = "there is a kink along X, Z (relu at 0, a tie of max?): checked 0.1 % beside it"
    assert report.notes == (note,)


def test_wrong_shapes_and_wrong_numbers_in_one_report(rng):
    X, W, b = rng.standard_normal((3, 4)), rng.standard_normal((4, 2)), np.zeros(2, np.float32)

    def wrong(dY, cache):
        dX, dW, db = pairs.linear_backward(dY, cache)
        return dX.T.copy(), 2 * dW, db

    report = failing_report(pairs.linear, wrong, (X, W, b))
    assert [(a.name, a.verdict) for a in report.arguments] == [("X", "shape"), ("W", "wrong"), ("b", "dtype")]
    assert report["b"].hint == "expected float32 like the argument, got float64" and report["b"].error < 1e-14
    assert report["W"].hint == "off by a factor of 2; 2 is the length of axis 1 of W"
    unknown = ("nothing", np.inf, None, None, None)
    blank = ArgumentReport("X", (3, 4), "float64", "complex-step", *unknown, "shape", report["X"].hint)
    assert report["X"] == blank
