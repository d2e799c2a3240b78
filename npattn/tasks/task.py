"""The class of all tasks. With it, training and the command line need no special case for any task."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from npattn._internal.checks import shown
from npattn.tasks.batches import POOL, BucketedBatches, Pair
from npattn.tasks.codec import Codec, detokenize
from npattn.tasks.scores import score


class Item(NamedTuple):
    """One example for validation or test: a source text, and one or more target texts, each of them right."""

    source: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """Data, their encoding, and the scores of predictions. `npattn.tasks.load_task` makes a task.

    `validation` and `test` are in a fixed random order, so their first n items are a fair sample. None of their sources
    is in `train`.

    - name: the name or the path that `load_task` takes.
    - title: one line that says what the task is.
    - codec: turns texts into ids and back.
    - train: the encoded training pairs.
    - validation, test: the items that predictions are compared with.
    - score_names: the names of two scores. The first, the headline, counts exact matches; the second counts edits.
    - lower_is_better: True when the headline is a rate of errors.
    - options: `load_task(name, **options)` makes the same task again.
    - defaults: model sizes and a training schedule that suit this task.
    - subsets: parts of `test` by name, each as indices of its items.
    - pool: the number of batches whose pairs are sorted by length together, see `BucketedBatches`.
    """

    name: str
    title: str
    codec: Codec
    train: Sequence[Pair]
    validation: Sequence[Item]
    test: Sequence[Item]
    score_names: tuple[str, str]
    lower_is_better: bool
    options: Mapping[str, Any]
    defaults: Mapping[str, Any]
    subsets: Mapping[str, Sequence[int]] = field(default_factory=dict)
    pool: int = POOL

    #: The class of the model that learns the task.
    model: ClassVar[str] = "Transformer"

    @property
    def fingerprint(self) -> str:
        """A hash of codec and training pairs, as 16 hexadecimal digits. A run resumes only when it is the same."""
        codec = self.codec.to_json()
        codec.pop("compose", None)                            # older codecs do not have it
        text = json.dumps([codec, list(self.train)])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def batches(self, batch_size: int, seed: int) -> BucketedBatches:
        """Return the batches of a training.

        - batch_size, seed: as for `BucketedBatches`.

        Raises what `BucketedBatches` raises: ValueError or TypeError.
        """
        return BucketedBatches(self.train, batch_size, seed=seed, pool=self.pool)

    def with_codec(self, codec: Codec) -> Task:
        """Return the task in the ids of another codec, for a model that has learnt them.

        - codec: the codec of the model. A source symbol that it does not have is read as ``<unk>``.

        Raises ValueError for other units, and for training targets with symbols that the codec does not have.
        """
        old, longest = self.codec, max(self.codec.max_target_length, codec.max_target_length)
        units = old.source_unit, old.target_unit
        if units != (codec.source_unit, codec.target_unit):
            wanted = f"{codec.source_unit} and {codec.target_unit} as in the model to begin with"
            raise ValueError(f"unit: expected {wanted}, got {' and '.join(units)}")
        if missing := [s for s in old.target_vocabulary.to_list() if s not in codec.target_vocabulary]:
            wanted = "symbols that the model to begin with can write"
            raise ValueError(f"targets: expected {wanted}, got {shown(missing[0])}")
        new = dataclasses.replace(codec, max_target_length=longest)
        train = []
        for pair in self.train:
            source = detokenize(old.source_vocabulary.decode(pair.source), old.source_unit)
            train.append(new.encode_pair(source, old.decode_target(pair.target[1:-1])))
        return dataclasses.replace(self, codec=new, train=train)

    def score(self, predictions: Sequence[str], items: Sequence[Item]) -> dict[str, float]:
        """Return the scores of predicted target texts by name, the headline first.

        - predictions: one target text for each item.
        - items: items of `validation` or `test`.

        Raises: ValueError when there are no items, or another number of predictions.
        """
        tokenize = self.codec.tokenize_target
        predicted = [tokenize(p) for p in predictions]
        exact, error_rate = score(predicted, [[tokenize(r) for r in item.references] for item in items])
        return dict(zip(self.score_names, (1.0 - exact if self.lower_is_better else exact, error_rate), strict=True))

    def is_better(self, scores: Sequence[float], than: Sequence[float]) -> bool:
        """Return whether the scores of one model are better than those of another.

        - scores, than: two scores each, in the order of `score_names`. The second score decides when the headlines are
          equal; fewer edits are better. Equal scores are not better.
        """
        sign = 1 if self.lower_is_better else -1
        return (sign * scores[0], scores[1]) < (sign * than[0], than[1])
