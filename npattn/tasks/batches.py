"""Padded batches of examples of like length.

A batch is as wide as its longest row, so rows of unlike length waste work on pads. Sorting all the data would
waste none, but it would show the model the same batches every epoch. `BucketedBatches` stands between: it
shuffles the data, cuts it into pools of some dozens of batches, sorts within each pool, and shuffles the
batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from npattn._internal.checks import Array, check_size
from npattn.tasks.vocabulary import PAD

#: Batches to a pool: enough that sorting it leaves few pads, few enough that batches differ between epochs.
POOL = 64


class Pair(NamedTuple):
    """One training example as ids: the source bare, the target from ``<bos>`` to ``<eos>``."""

    source: Sequence[int]
    target: Sequence[int]


class Batch(NamedTuple):
    """Padded ids."""

    src: Array  # (B, N_S)
    tgt: Array  # (B, N_T)


def pad(rows: Sequence[Sequence[int]]) -> Array:
    """Stack rows of unlike length into one array of int64 (B, N), ``<pad>`` at the end of the short ones.

    >>> pad([[5, 6, 7], [8]])
    array([[5, 6, 7],
           [8, 0, 0]])
    """
    ids = np.full((len(rows), max(map(len, rows), default=0)), PAD, dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return ids


class BucketedBatches:
    """An endless sequence of training batches, each a pure function of (pairs, batch_size, seed, step).

    ``batches[step]`` is the batch of that step, steps counted from 0 through all epochs, so a run that
    stopped after `step` steps goes on with ``batches[step]`` and sees what it would have seen.
    ``len(batches)`` batches make one epoch, in which every pair comes exactly once.

    >>> pairs = [Pair([4] * n, [1, 5, 2]) for n in (3, 1, 2, 1, 3)]
    >>> batches = BucketedBatches(pairs, batch_size=2, seed=0)
    >>> len(batches)
    3
    >>> sum(len(batches[step].src) for step in range(3))
    5

    Raises: ValueError when there are no pairs or `batch_size` is below 1; IndexError for a negative step.
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
        # Rows of source and target lengths; lexsort takes the last row first.
        self._lengths: Array = np.array([(len(p.source), len(p.target)) for p in pairs], dtype=np.int64).T
        self._planned: tuple[int, list[Array]] = (0, self.plan(0))

    def __len__(self) -> int:
        return -(-len(self.pairs) // self.batch_size)

    def __getitem__(self, step: int) -> Batch:
        if step < 0:
            raise IndexError(f"step: expected 0 or more, got {step}")
        epoch, position = divmod(step, len(self))
        planned_epoch, plan = self._planned  # one read and one write, so that threads may share the batches
        if planned_epoch != epoch:
            plan = self.plan(epoch)
            self._planned = (epoch, plan)
        rows = [self.pairs[i] for i in plan[position]]
        return Batch(pad([p.source for p in rows]), pad([p.target for p in rows]))

    def __iter__(self) -> Iterator[Batch]:
        """One epoch, the first. Training asks for `batches[step]` instead."""
        return (self[step] for step in range(len(self)))

    def plan(self, epoch: int) -> list[Array]:
        """Return the indices of the pairs of every batch of one epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.pairs))
        batches = []
        for start in range(0, len(order), self.pool * self.batch_size):
            pool = order[start : start + self.pool * self.batch_size]
            pool = pool[np.lexsort(self._lengths[:, pool])]  # by target length, then by source length
            batches += [pool[i : i + self.batch_size] for i in range(0, len(pool), self.batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]


def prediction_batches(sources: Sequence[Sequence[int]], batch_size: int) -> Iterator[tuple[Array, Array]]:
    """Yield ``(rows, src)``: batches of encoded sources, shortest first, and where their rows came from.

    The caller puts the outputs back in order with ``outputs[row] = …``.

    >>> for rows, src in prediction_batches([[4, 5, 6], [7], [8]], batch_size=2):
    ...     print(rows, src.tolist())
    [1 2] [[7], [8]]
    [0] [[4, 5, 6]]

    Raises: ValueError when `batch_size` is below 1.
    """
    batch_size = check_size("batch_size", batch_size, least=1)
    order = np.argsort([len(s) for s in sources], kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, pad([sources[i] for i in rows])
