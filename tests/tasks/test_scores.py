"""Scores: the edit distance is a metric and equals its definition, and so do the two shares."""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npattn.tasks.scores import edit_distance, score

#: There are few symbols, so many are equal. There are at most eight in a sequence, so brute force is fast enough.
SEQUENCES = st.lists(st.sampled_from("abc"), max_size=8)


@cache
def brute_force(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """Return the edit distance by its definition: delete, insert or replace the first symbol, whichever is best."""
    if not a or not b:
        return len(a) + len(b)
    return min(brute_force(a[1:], b) + 1, brute_force(a, b[1:]) + 1, brute_force(a[1:], b[1:]) + (a[0] != b[0]))


@given(SEQUENCES, SEQUENCES)
def test_edit_distance_equals_its_definition(a: list[str], b: list[str]) -> None:
    assert edit_distance(a, b) == brute_force(tuple(a), tuple(b))


@given(SEQUENCES, SEQUENCES, SEQUENCES)
def test_edit_distance_is_a_metric(a: list[str], b: list[str], c: list[str]) -> None:
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, b) == edit_distance(b, a)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert abs(len(a) - len(b)) <= edit_distance(a, b) <= max(len(a), len(b))


def test_edit_distance_does_not_change_its_arguments() -> None:
    a, b = list("abcd"), list("xbzd")
    assert edit_distance(a, b) == 2
    assert (a, b) == (list("abcd"), list("xbzd"))
    assert edit_distance((1, None), [1.0, "x"]) == 1


@given(st.lists(st.tuples(SEQUENCES, st.lists(SEQUENCES, min_size=1, max_size=3)), min_size=1, max_size=8))
def test_scores_equal_their_definition(cases: list[tuple[list[str], list[list[str]]]]) -> None:
    scores = score([p for p, _ in cases], [r for _, r in cases])
    assert scores.exact == pytest.approx(sum(p in r for p, r in cases) / len(cases))
    nearest = [min(r, key=lambda reference: edit_distance(p, reference)) for p, r in cases]
    edits = sum(edit_distance(p, n) for (p, _), n in zip(cases, nearest, strict=True))
    assert scores.error_rate == pytest.approx(edits / max(1, sum(map(len, nearest))))


def test_the_length_is_that_of_the_nearest_reference() -> None:
    references = [["T", "AH", "M", "EY", "T", "OW"], ["T", "AH", "M", "AA"]]
    assert score([["T", "AH", "M", "AH"]], [references]).error_rate == 1 / 4
    tie = [["K", "AE"], ["K", "AE", "T", "S"]]
    assert score([["K", "AE", "T"]], [tie]).error_rate == 1 / 2
    assert score([["K", "AE", "T"]], [tie[::-1]]).error_rate == 1 / 4


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([], [], "expected at least one item to judge by, got 0 predictions"),
        (["a"], [], "expected at least one item to judge by, got 1 predictions"),
        (["a"], [["a"], ["b"]], "expected one for each of 2 items, got 1 predictions"),
        (
            ["a", "b"],
            [["a"], []],
            "references: expected at least one for every item, got an item without any",
        ),
    ],
)
def test_an_error_names_what_is_wrong(predictions: list[str], references: list[list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(predictions, references)


def test_a_whole_test_set_is_scored_in_two_seconds() -> None:
    rng = np.random.default_rng(0)
    words = [[*map(str, rng.integers(39, size=7))] for _ in range(12_494)]
    guesses = [[*map(str, rng.integers(39, size=7))] for _ in range(12_494)]
    start = time.process_time()
    assert score(guesses, [[word] for word in words]).exact == 0.0
    assert time.process_time() - start < 2.0
