"""The runner: what is skipped, what fails and why, and nothing that is not an answer passes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from npattn.attention.dot_product import scaled_dot_product_attention as attention
from npattn.attention.dot_product import scaled_dot_product_attention_backward as backward
from npattn.conformance import Outcome, Report, cases, judge
from npattn.conformance.judging import Call, answer_of, not_taken
from npattn.layers.layer_norm import layer_norm, layer_norm_backward
from npattn.layers.softmax import softmax, softmax_backward


def one(forward: Callable[..., Any], back: Callable[..., Any] | None = None, **options: Any) -> Outcome:
    """Return the outcome of the first case of softmax."""
    return judge(forward, back, **{"of": "softmax", "only": ("plain",), **options}).outcomes[0]


def test_all_of_the_package_passes() -> None:
    report = judge(attention, backward)
    assert report.ok and report.tested and report.counts == {"passed": 54, "failed": 0, "skipped": 0}
    assert all(set(outcome.errors) == set(outcome.tightness) >= {"output", "Q"} for outcome in report.outcomes)
    assert all(outcome.worst == max(outcome.errors.values()) < 1 for outcome in report.outcomes)
    assert (report.of, report.dtype) == ("attention", "float32")


def test_the_text() -> None:
    report = Report("softmax", "float16", (
        Outcome("plain", "passed", {"output": 0.25, "E": 0.5}, {}, ""),
        Outcome("mask", "passed", {"output": 0.25}, {}, "no gradients"),
        Outcome("long rows", "failed", {"output": np.inf, "E": 0.5}, {}, "the loss is a sum"),
        Outcome("strided", "skipped", {}, {}, "it has no mask"),
    ))  # fmt: skip
    assert str(report).splitlines() == [
        "softmax in float16; errors in units of what right arithmetic may reach",
        "  plain      passed       0.5  gradient of E",
        "  mask       passed      0.25  output: no gradients",
        "  long rows  failed       inf  output: the loss is a sum",
        "  strided    skipped: it has no mask",
        "2 passed, 1 failed, 1 skipped",
    ]
    assert not report.ok and report.tested
    assert Outcome("x", "skipped", {}, {}).worst == 0 and Outcome("x", "skipped", {}, {}).message == ""


def test_nothing_offered_is_a_failure() -> None:
    def nothing(E: Any, **options: Any) -> Any:
        raise NotImplementedError

    report = judge(nothing, of="softmax")
    assert not report.ok and not report.tested and report.counts["skipped"] == len(report.outcomes) == 10
    assert str(report).splitlines()[-2:] == ["0 passed, 0 failed, 10 skipped", "nothing was tested: this is a failure"]
    assert {outcome.message for outcome in report.outcomes} == {"NotImplementedError"}
    assert not judge(attention, only=("no such case",)).ok


def test_what_is_not_offered_is_skipped() -> None:
    def some(Q: Any, K: Any, V: Any, *, mask: Any = None, causal: bool = False, offset: int = 0) -> Any:
        if mask is not None and causal:
            raise NotImplementedError("a mask with causal order")
        return attention(Q, K, V, mask, causal=causal, offset=offset)

    found = {outcome.case: outcome for outcome in judge(some, backward, skip=("mask per", "batch")).outcomes}
    assert found["sinks"].message == "it has no sinks" and found["sinks"].status == "skipped"
    assert found["softcap, mask, bias"] == Outcome(
        "softcap, mask, bias", "skipped", {}, {}, "it has no bias and no softcap"
    )
    assert found["causal, mask"].message == "NotImplementedError: a mask with causal order"
    assert (found["mask per head"].status, found["mask per head"].message) == ("skipped", "left out: mask per")
    assert found["batch"].message == "left out: batch" and found["causal, bottom right"].status == "passed"
    only = judge(some, only=("causal, b", "plain"))
    assert [outcome.case for outcome in only.outcomes] == ["plain", "causal, bottom right"]


def test_signatures() -> None:
    assert not_taken(lambda Q, *, mask=None: None, ["mask", "bias"]) == ["bias"]
    assert not_taken(lambda Q, **options: None, ["mask"]) == []
    assert not_taken(print, ["mask"]) == ["mask"]
    assert not_taken(dict, ["mask"]) == []                    # it has no signature to read


def test_without_a_backward_only_the_output_is_judged() -> None:
    outcome = one(softmax)
    assert (outcome.status, outcome.message, list(outcome.errors)) == ("passed", "no gradients", ["output"])
    outcome = one(softmax, softmax_backward)
    assert list(outcome.errors) == ["output", "E"] and outcome.message == ""


def changes_its_input(E: Any, mask: Any = None) -> Any:
    A = softmax(E)
    E *= 2
    return A


def raises(E: Any) -> Any:
    raise KeyError("seq")


@pytest.mark.parametrize(("forward", "back", "message"), [
    (lambda E: softmax(E).tolist(), None, "output: expected an array, got list"),
    (lambda E: softmax(E)[:3], None, "output: expected the shape (4, 5), got (3, 5)"),
    (lambda E: softmax(E).astype(np.float64), None, "output: expected the dtype float32, got float64"),
    (lambda E: softmax(E).astype(int), None, "output: expected the dtype float32, got int64"),
    (lambda E: (softmax(E), 1, 2), None, "output: expected Y or (Y, cache), got a tuple of 3"),
    (lambda E: None, None, "output: expected an array, got NoneType"),
    (lambda E: softmax(E) * np.float32(np.nan), None, "output is NaN"),
    (lambda E: softmax(E) + np.float32(1), None, "output is wrong"),
    (raises, None, "it raised KeyError: 'seq'"),
    (changes_its_input, None, "it changed its input E"),
    (softmax, lambda dA, A: dA.tolist(), "expected gradients of E, got 4"),
    (softmax, lambda dA, A: None, "expected gradients of E, got 0"),
    (softmax, lambda dA, A: softmax_backward(dA, A)[0], "gradient of E: expected the shape (4, 5), got (5,)"),
    (softmax, lambda dA, A: dA * A, "the backward of softmax lacks rowsum(A ⊙ dA)"),
    (softmax, lambda dA, A: dA, "gradient of E is wrong"),
])  # fmt: skip
def test_nonsense_fails_and_says_so(forward: Any, back: Any, message: str) -> None:
    outcome = one(forward, back)
    assert (outcome.status, outcome.message) == ("failed", message)


def test_nonsense_has_no_numbers() -> None:
    assert one(raises) == Outcome("plain", "failed", {}, {}, "it raised KeyError: 'seq'")


def test_a_message_has_one_line() -> None:
    def fails(E: Any) -> Any:
        raise ValueError("first\nsecond")

    assert one(fails).message == "it raised ValueError: first"


def test_the_cotangent_is_an_array_of_the_dtype() -> None:
    seen = []
    one(softmax, lambda dA, A: seen.append(dA.dtype) or softmax_backward(dA, A))
    assert seen == [np.float32]


def test_a_missing_package_is_an_error_of_its_own() -> None:
    def needs(E: Any) -> Any:
        raise ImportError("no kernels")

    with pytest.raises(ImportError, match=r"^no kernels$"):
        one(needs)


def test_gradients_of_arguments_that_are_none_are_left_out() -> None:
    report = judge(layer_norm, layer_norm_backward, of="layer_norm")
    assert report.ok and report.counts["passed"] == 14
    assert {tuple(outcome.errors) for outcome in report.outcomes} == {
        ("output", "X", "gamma", "beta"), ("output", "X", "gamma")
    }  # fmt: skip


def test_a_fault_is_named() -> None:
    def wrong(Q: Any, K: Any, V: Any, *, window: int, causal: bool = True) -> Any:
        return attention(Q, K, V, causal=causal, window=window + 1)

    outcome = judge(wrong, backward, only=("window",)).outcomes[0]
    assert (outcome.status, outcome.message) == ("failed", "the window has W + 1 keys")


def test_names_are_checked() -> None:
    with pytest.raises(ValueError, match=r"^framework: expected "):
        judge(attention, framework="numpie")
    with pytest.raises(ValueError, match=r"^accumulate: expected "):
        judge(attention, accumulate="float8")
    with pytest.raises(ValueError, match=r"^of: expected "):
        judge(attention, of="attn")
    with pytest.raises(ValueError, match=r"^dtype: expected "):
        judge(attention, dtype="half")


def test_sums_in_the_dtype_have_a_larger_bound() -> None:
    kept = one(softmax, softmax_backward, dtype="float32", accumulate="float64")
    own = one(softmax, softmax_backward, dtype="float32")
    assert kept.errors["output"] > own.errors["output"] > 0 and kept.tightness["output"] >= own.tightness["output"]


def test_jax_is_called_through_its_vjp(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for jax, with the four names that are used."""

    def vjp(forward: Callable[..., Any], inputs: dict[str, Any]) -> Any:
        A = forward(inputs)
        return A, lambda dA: ({"E": softmax_backward(dA, A)},)

    jax = SimpleNamespace(numpy=SimpleNamespace(asarray=np.asarray, float32=np.float32), Array=np.ndarray, vjp=vjp)
    monkeypatch.setitem(sys.modules, "jax", jax)
    report = judge(softmax, framework="jax", of="softmax")
    assert report.ok and {tuple(outcome.errors) for outcome in report.outcomes} == {("output", "E")}
    pair = judge(lambda E: (softmax(E), None), framework="jax", of="softmax", only=("plain",))
    assert pair.ok
    outcome = judge(lambda E: softmax(E).astype(float), framework="jax", of="softmax", only=("plain",)).outcomes[0]
    assert outcome.message == "output: expected the dtype float32, got float64"


def test_gradients_of_adam_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def vjp(forward: Callable[..., Any], inputs: dict[str, Any]) -> Any:
        return forward(inputs), lambda dY: ({"p": dY, "gradients": None},)

    jax = SimpleNamespace(numpy=SimpleNamespace(asarray=np.asarray, float32=np.float32), Array=np.ndarray, vjp=vjp)
    monkeypatch.setitem(sys.modules, "jax", jax)
    outcome = judge(lambda p, gradients, **options: p / 2, framework="jax", of="adam", only=("one step",)).outcomes[0]
    assert (outcome.status, list(outcome.errors), outcome.message) == ("failed", ["output"], "output is wrong")


def test_what_is_left_out_has_no_numbers() -> None:
    (outcome,) = judge(softmax, of="softmax", only=("plain",), skip=("plain",)).outcomes
    assert outcome == Outcome("plain", "skipped", {}, {}, "left out: plain")


def test_every_gradient_is_expected_by_name() -> None:
    (outcome,) = judge(attention, lambda dY, cache: (dY, None), only=("plain",)).outcomes
    assert outcome.message == "expected gradients of Q, K, V, got 1"


def test_rows_of_nan_are_named() -> None:
    def without_guard(E: Any, mask: Any) -> Any:
        A = softmax(E, mask)
        A[~mask.any(-1)] = np.nan
        return A

    (outcome,) = judge(without_guard, lambda dA, A: softmax_backward(dA, A), of="softmax", only=("dead",)).outcomes
    assert (outcome.status, outcome.message, outcome.worst) == ("failed", "a row that sees nothing is NaN", np.inf)


def test_answers_are_float64() -> None:
    answer = answer_of(cases("softmax", "float32")[0], Call(softmax, softmax_backward))
    assert {name: X.dtype.name for name, X in answer.items()} == {"output": "float64", "E": "float64"}
