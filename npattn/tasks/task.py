"""The shape that all tasks share, so that training and the command line treat them alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from npattn.tasks.batches import Pair
from npattn.tasks.codec import Codec, tokenize
from npattn.tasks.scores import score


class Item(NamedTuple):
    """One example to be judged by: a source text, and the target texts any of which is right."""

    source: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """Data, how to encode it, and how to judge predictions.

    `validation` and `test` are in a fixed random order, so that the first n of them are a fair sample. No
    source of theirs is a source of `train`. `npattn.tasks.load_task` makes one.
    """

    name: str
    title: str  # one line for people
    codec: Codec
    train: Sequence[Pair]
    validation: Sequence[Item]
    test: Sequence[Item]
    score_names: tuple[str, str]  # the headline first: of the exact matches, then of the edits
    lower_is_better: bool  # whether the headline is a rate of errors
    options: Mapping[str, Any]  # load_task(name, **options) gives this task again
    defaults: Mapping[str, Any]  # model sizes and training schedule that suit this task
    subsets: Mapping[str, Sequence[int]] = field(default_factory=dict)  # named parts of `test`, as indices

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of codec and training pairs: the same when a run may be resumed."""
        text = json.dumps([self.codec.to_json(), list(self.train)])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def score(self, predictions: Sequence[str], items: Sequence[Item]) -> dict[str, float]:
        """Judge predicted target texts, one for each item; the first score is the headline.

        Raises: ValueError when there is nothing to score or the numbers differ.
        """
        unit = self.codec.target_unit
        predicted = [tokenize(p, unit) for p in predictions]
        exact, error_rate = score(predicted, [[tokenize(r, unit) for r in item.references] for item in items])
        headline, other = self.score_names
        return {headline: 1.0 - exact if self.lower_is_better else exact, other: error_rate}

    def is_better(self, headline: float, than: float) -> bool:
        """Tell whether one value of the headline score beats another."""
        return headline < than if self.lower_is_better else headline > than
