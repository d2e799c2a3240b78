"""Exact match and edit distance: scores of predictions. Nothing here depends on a model.

Every score is a share between 0 and 1, except that an error rate by edit distance may exceed 1.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple, TypeAlias

Symbols: TypeAlias = Sequence[Hashable]


class Scores(NamedTuple):
    """The two shares that every task reports. A task gives them names of its own."""

    exact: float                                              # share of predictions that equal one of their references
    error_rate: float                                         # Σ edits / Σ lengths, both of the nearest references


def edit_distance(a: Symbols, b: Symbols) -> int:
    """Count the fewest insertions, deletions and replacements of one symbol that turn `a` into `b`.

    D(i, j) is the distance between the first i symbols of a and the first j of b (Wagner and Fischer, 1974, for
    Levenshtein's distance of 1966)::

        D(i, j) = min(D(i−1, j) + 1, D(i, j−1) + 1, D(i−1, j−1) + [a_i ≠ b_j])

    Only one row of D is kept. Equal beginnings and equal ends add no edits, so they are cut off first.

    - a, b: sequences of symbols, such as texts or lists of phonemes.

    >>> edit_distance("kitten", "sitting")
    3
    >>> edit_distance(["K", "AE", "T"], ["K", "AA", "T", "S"])
    2
    """
    start, end_a, end_b = 0, len(a), len(b)
    while start < end_a and start < end_b and a[start] == b[start]:
        start += 1
    while end_a > start and end_b > start and a[end_a - 1] == b[end_b - 1]:
        end_a, end_b = end_a - 1, end_b - 1
    a, b = a[start:end_a], b[start:end_b]
    row = list(range(len(b) + 1))                             # D(0, j) = j
    for i, a_i in enumerate(a, start=1):
        diagonal, row[0] = row[0], i                          # D(i−1, 0), and D(i, 0) = i
        for j, b_j in enumerate(b, start=1):
            # row[j] still holds D(i−1, j), row[j−1] already D(i, j−1). For equal symbols the diagonal is smallest.
            cost = diagonal if a_i == b_j else 1 + min(diagonal, row[j], row[j - 1])
            diagonal, row[j] = row[j], cost
    return row[-1]


def nearest(prediction: Symbols, accepted: Sequence[Symbols]) -> tuple[int, int]:
    """Return the edit distance to the nearest reference, the first one in a tie, and the length of that reference.

    - prediction: a sequence of symbols.
    - accepted: one or more references.

    >>> nearest("cat", ["cart", "cats", "dog"])
    (1, 4)
    """
    distance, place = min((edit_distance(prediction, reference), k) for k, reference in enumerate(accepted))
    return distance, len(accepted[place])


def score(predictions: Sequence[Symbols], references: Sequence[Sequence[Symbols]]) -> Scores:
    """Compare each prediction with the references of its item; each of them is right.

    The nearest reference has the smallest edit distance; in a tie it is the first. For pronunciations, 1 − exact is the
    word error rate (WER), and error_rate is the phoneme error rate (PER).

    - predictions: one sequence of symbols for each item.
    - references: for each item, one or more sequences of symbols.

    >>> score([list("abc"), list("xy")], [[list("abc")], [list("xyz"), list("q")]])
    Scores(exact=0.5, error_rate=0.16666666666666666)

    Raises: ValueError when there is nothing to score, the numbers differ, or an item has no reference.
    """
    if not references or len(predictions) != len(references):
        wanted = f"one for each of {len(references)} items" if references else "at least one item to judge by"
        raise ValueError(f"predictions: expected {wanted}, got {len(predictions)} predictions")
    if not all(references):
        raise ValueError("references: expected at least one for every item, got an item without any")
    edits = length = exact = 0
    for predicted, accepted in zip(predictions, references, strict=True):
        distance, size = nearest(predicted, accepted)
        edits += distance
        length += size
        exact += distance == 0
    return Scores(exact / len(predictions), edits / max(length, 1))
