"""Share one step out over several threads or ranks: which rows each gets, and how their gradients are added.

With L_i the mean loss over the n_i real tokens of shard i and n = Σ n_i, loss and gradient of the whole batch are

    L = Σ (n_i/n) L_i,    g = Σ (n_i/n) g_i

up to rounding. Each shard scales its loss by n_i/n from the start, so its gradients only have to be added.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

import numpy as np

from npattn._internal.checks import Array


def deal(tokens: Array, n: int) -> list[Array]:
    """Share rows with so many `tokens` each out over n workers; return the numbers of the rows of each.

    Some get one row more than others. The longest rows are dealt first, back and forth, so that all workers have about
    as much work.
    """
    n = min(n, max(len(tokens), 1))
    order = np.argsort(-tokens, kind="stable")
    turns = np.arange(len(tokens)) % (2 * n)
    return [np.sort(order[(turns == i) | (turns == 2 * n - 1 - i)]) for i in range(n)]


class GradientSum:
    """Adds the gradients of the shards as they arrive, always in the order of the shards.

    Early gradients wait in a queue and are added in shard order. So the sum has the same bits whatever thread is first,
    and no thread waits for another. The first gradient of a name is copied into `buffer`; without one it becomes the
    sum itself, so that no memory is held while there are no gradients. Each shard adds the same names in the same
    order, a tied embedding several times.
    """

    def __init__(self, shards: int, buffer: Mapping[str, Array] | None = None) -> None:
        self.blocks: dict[str, Array] = {}                    # the sums, by name
        self._buffer = buffer
        self._shards = shards
        self._given: list[Counter[str]] = [Counter() for _ in range(shards)]   # how often each shard added a name
        self._next: Counter[str] = Counter()                  # the number of the next gradient to add, by name
        self._queue: dict[tuple[str, int], Array] = {}        # gradients not added yet, by name and number
        self._lock = threading.Lock()

    def add(self, shard: int, name: str, gradient: Array) -> None:
        """Add one shard's gradient under `name`; the array must not be used elsewhere afterwards."""
        number = self._given[shard][name] * self._shards + shard
        self._given[shard][name] += 1
        with self._lock:
            self._queue[name, number] = gradient
            if number != self._next[name]:
                return
        waiting: Array | None = gradient
        while waiting is not None:
            if number:
                self.blocks[name] += waiting
            elif self._buffer is None:
                self.blocks[name] = waiting
            else:
                self.blocks[name] = self._buffer[name]
                self.blocks[name][...] = waiting
            with self._lock:
                del self._queue[name, number]
                number = self._next[name] = number + 1
                waiting = self._queue.get((name, number))
