"""Padded batches of examples with similar lengths.

A batch is as wide as its longest row, so rows of different lengths cost work on pads. Sorting all data by length would
need the fewest pads, but would give the same batches in every epoch. `BucketedBatches` shuffles the data, cuts it into
pools of some dozens of batches, sorts each pool by length, and then shuffles the batches.

Attention to N symbols holds N² scores for each row. So one long pair would make a batch of many rows fill the memory.
Pairs that are too long for a batch of the usual size share smaller batches with each other, the same in every epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array, check_size
from npattn.tasks.vocabulary import PAD

#: Batches in a pool. More batches mean fewer pads; fewer batches mean that the epochs differ more.
POOL = 64

#: The most scores, B · N² with N the longest row of either side, that each head of an attention holds for a batch. In
#: float32 they take 32 MiB. Batches of 64 pairs reach this at 362 symbols.
SCORES = 2**23


class Pair(NamedTuple):
    """One training example as ids. The target starts with ``<bos>`` and ends with ``<eos>``; the source has neither."""

    source: Sequence[int]
    target: Sequence[int]


class Batch(NamedTuple):
    """The padded ids of B examples."""

    src: Array  # (B, N_S)
    tgt: Array  # (B, N_T)


def pad(rows: Sequence[Sequence[int]]) -> Array:
    """Stack rows of different lengths into one array of int64 (B, N). Short rows end with ``<pad>``.

    - rows: B rows of ids; the longest has N.

    >>> pad([[5, 6, 7], [8]])
    array([[5, 6, 7],
           [8, 0, 0]])
    """
    ids = np.full((len(rows), max(map(len, rows), default=0)), PAD, dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return ids


class BucketedBatches:
    """An endless sequence of training batches. A batch depends only on the arguments below and on its step.

    ``batches[step]`` is the batch of a step; steps count from 0 through all epochs. A run that stopped after `step`
    steps continues with ``batches[step]``, and so trains on the same batches as a run that did not stop.
    ``len(batches)`` batches make one epoch, in which every pair comes exactly once. Long pairs make smaller batches, of
    at most 2²³ scores B · N².

    - pairs: the training examples, a sequence of `Pair`.
    - batch_size: pairs in a batch. In each epoch one batch may have fewer, beside those of long pairs.
    - seed: an integer from 0; it decides which pairs share a batch, and the order of the batches.
    - pool: the number of batches whose pairs are sorted by length together.

    >>> pairs = [Pair([4] * n, [1, 5, 2]) for n in (3, 1, 2, 1, 3)]
    >>> batches = BucketedBatches(pairs, batch_size=2, seed=0)
    >>> len(batches)
    3
    >>> sum(len(batches[step].src) for step in range(3))
    5

    Raises: ValueError when there are no pairs or a number is too small; TypeError for `pairs` that are no sequence of
    `Pair`, or a number that is no integer; IndexError for a negative step.
    """

    def __init__(self, pairs: Sequence[Pair], batch_size: int, *, seed: int = 0, pool: int = POOL) -> None:
        if not isinstance(pairs, Sequence) or not all(isinstance(pair, Pair) for pair in pairs):
            raise TypeError(f"pairs: expected a sequence of Pair, got {type(pairs).__name__}")
        if not len(pairs):
            raise ValueError("pairs: expected at least one pair, got none")
        self.pairs = pairs
        self.batch_size = check_size("batch_size", batch_size, least=1)
        self.seed = check_size("seed", seed)
        self.pool = check_size("pool", pool, least=1)
        # Two rows: source lengths, target lengths. lexsort sorts by its last row first.
        self._lengths: Array = np.array([(len(p.source), len(p.target)) for p in pairs], dtype=np.int64).T
        longest = self._lengths.max(0)                        # (n,)
        is_long = self.batch_size * longest**2 > SCORES
        self._short, self._long = np.flatnonzero(~is_long), group(longest, np.flatnonzero(is_long))
        self._planned: tuple[int, list[Array]] = (0, self.plan(0))

    def __len__(self) -> int:
        return -(-len(self._short) // self.batch_size) + len(self._long)

    def __getitem__(self, step: int) -> Batch:
        if step < 0:
            raise IndexError(f"step: expected 0 or more, got {step}")
        epoch, position = divmod(step, len(self))
        planned_epoch, plan = self._planned                   # one read and one write: threads may share the batches
        if planned_epoch != epoch:
            plan = self.plan(epoch)
            self._planned = (epoch, plan)
        rows = [self.pairs[i] for i in plan[position]]
        return Batch(pad([p.source for p in rows]), pad([p.target for p in rows]))

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches of the first epoch. Training uses `batches[step]`."""
        return (self[step] for step in range(len(self)))

    def plan(self, epoch: int) -> list[Array]:
        """Return the batches of one epoch, each as the indices (B,) of its pairs.

        - epoch: its number, from 0.
        """
        rng = np.random.default_rng([self.seed, epoch])
        order = self._short[rng.permutation(len(self._short))]
        batches = list(self._long)
        for start in range(0, len(order), self.pool * self.batch_size):
            pool = order[start : start + self.pool * self.batch_size]
            pool = pool[np.lexsort(self._lengths[:, pool])]   # by target length, then by source length
            batches += [pool[i : i + self.batch_size] for i in range(0, len(pool), self.batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]


def group(lengths: Array, members: Array) -> list[Array]:
    """Return the members, shortest first, in batches of at most `SCORES` scores; a member with more is alone."""
    batches: list[list[int]] = []
    for i in members[np.argsort(lengths[members], kind="stable")].tolist():
        if not batches or (len(batches[-1]) + 1) * lengths[i] ** 2 > SCORES:
            batches.append([])
        batches[-1].append(i)
    return [np.array(batch) for batch in batches]


def prediction_batches(sources: Sequence[Sequence[int]], batch_size: int) -> Iterator[tuple[Array, Array]]:
    """Yield batches ``(rows, src)``, the shortest sources first.

    `src` (B, N_S) has padded sources, and `rows` (B,) has their indices in `sources`. So ``outputs[row] = …`` for each
    row of `rows` puts the outputs in the order of `sources`.

    - sources: encoded sources, each a sequence of ids.
    - batch_size: the most sources in a batch.

    >>> for rows, src in prediction_batches([[4, 5, 6], [7], [8]], batch_size=2):
    ...     print(rows, src.tolist())
    [1 2] [[7], [8]]
    [0] [[4, 5, 6]]

    Raises: ValueError when `batch_size` is below 1, TypeError when it is no integer.
    """
    batch_size = check_size("batch_size", batch_size, least=1)
    order = np.argsort([len(s) for s in sources], kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, pad([sources[i] for i in rows])
