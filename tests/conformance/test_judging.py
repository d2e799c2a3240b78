"""How an answer is measured, and which fault it is said to have."""

from __future__ import annotations

import numpy as np
import pytest

from npattn.conformance import FAULTS, Case, Outcome, cases, judging
from npattn.conformance.bounds import PRECISIONS
from npattn.conformance.judging import like_faults, measure, planted_answer

PLAIN = cases("softmax", "float32")[0]


def test_an_error_of_one_unit_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {"output": 1.0, "E": 1.0}
    monkeypatch.setattr(Case, "errors", lambda *args, **options: errors)
    assert measure(PLAIN, PLAIN.answer) == Outcome("plain", "passed", errors, errors, "")
    errors["E"] = 1.5
    assert measure(PLAIN, PLAIN.answer) == Outcome("plain", "failed", errors, errors, "gradient of E is wrong")
    errors["output"] = 1.5
    answer = {**PLAIN.answer, "E": np.full((4, 5), np.nan)}
    assert measure(PLAIN, answer).message == "output is wrong, gradient of E is NaN"


def test_sums_in_another_dtype_count_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(judging, "like_faults", lambda *args: seen.append(args) or [])
    answer = {"output": PLAIN.output + 1}
    outcome = measure(PLAIN, answer, "float64")
    assert seen == [(PLAIN, answer, "float64")]
    assert outcome.errors == PLAIN.errors(answer, "float64") != PLAIN.errors(answer)
    assert outcome.tightness == PLAIN.errors(answer, "float64", tightness=True) != outcome.errors
    assert outcome.tightness != PLAIN.errors(answer, tightness=True)


def test_three_faults_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    names = list(FAULTS["softmax"])
    monkeypatch.setattr(judging, "like_faults", lambda *args: names[:4])
    message = measure(PLAIN, {"output": PLAIN.output + 1}).message
    assert message == "; or ".join(FAULTS["softmax"][name].says for name in names[:3])
    assert message.startswith("the backward of softmax lacks rowsum(A ⊙ dA); or the backward of softmax ")


def test_what_is_not_there_is_named() -> None:
    case = cases("attention", "float32")[0]
    outcome = measure(case, {"V": case.answer["V"]})
    assert (outcome.status, outcome.message) == ("passed", "no output and no gradient of Q and no gradient of K")


@pytest.mark.parametrize("accumulate", [None, "float64"])
def test_numbers_are_alike_to_four_bounds_and_sixteen_roundings(accumulate: str | None) -> None:
    fault = planted_answer(PLAIN, FAULTS["softmax"]["no row sum"])
    assert fault is not None
    bounds = PLAIN.bounds(accumulate)

    def found(share: float) -> list[str]:
        """Move the largest number of each array by a share of what is allowed."""
        moved = {}
        for name, X in fault.items():
            allowed = 4 * bounds[name].max() + 16 * PRECISIONS["float32"].roundoff * np.abs(X)
            moved[name] = X + share * allowed * (np.abs(X) == np.abs(X).max())
        return like_faults(PLAIN, moved, accumulate)

    assert found(0.995) == ["no row sum"] and found(1.005) == []


def test_rows_of_nan_are_alike() -> None:
    dead = next(case for case in cases("softmax", "float32") if case.name == "dead rows")
    fault = planted_answer(dead, FAULTS["softmax"]["dead row NaN"])
    assert fault is not None and np.isnan(fault["output"]).any()
    assert like_faults(dead, fault) == ["dead row NaN"]
