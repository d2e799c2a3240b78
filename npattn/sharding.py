"""One step from several threads or ranks: who works on which rows, and how their gradients become one.

With L_i the mean loss over the n_i real tokens of shard i and n = Σ n_i, loss and gradient of the whole batch are

    L = Σ (n_i/n) L_i,    g = Σ (n_i/n) g_i

up to rounding. Each shard works with n_i/n from the start, so that its gradients only have to be added.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

import numpy as np

from npattn._types import Array


def deal(tokens: Array, n: int) -> list[Array]:
    """Share out rows with so many `tokens` each among n workers: numbers of rows, at most one more for some.

    The longest rows go first, and back and forth, so that all workers get about as much to do.
    """
    n = min(n, max(len(tokens), 1))
    order = np.argsort(-tokens, kind="stable")
    turns = np.arange(len(tokens)) % (2 * n)
    return [np.sort(order[(turns == i) | (turns == 2 * n - 1 - i)]) for i in range(n)]


class GradientSum:
    """Adds up the gradients of the shards as they come, always in the order of the shards.

    Whoever adds a gradient before its turn leaves it here, and goes on; the one whose turn it is takes it along. So
    nobody waits, and the sum has the same bits whoever was first. The first gradient under a name is copied into
    `room`, or becomes the sum itself where there is none: then no buffer is held while there are no gradients. Each
    shard adds the same names in the same order, a tied embedding several times.
    """

    def __init__(self, shards: int, room: Mapping[str, Array] | None = None) -> None:
        self.blocks: dict[str, Array] = {}                    # the sums, by name
        self._room = room
        self._shards = shards
        self._given: list[Counter[str]] = [Counter() for _ in range(shards)]   # how often each shard added a name
        self._turn: Counter[str] = Counter()                  # whose turn it is, by name
        self._left: dict[tuple[str, int], Array] = {}         # what came early, or is being added, by name and turn
        self._lock = threading.Lock()

    def add(self, shard: int, name: str, gradient: Array) -> None:
        """Add one shard's gradient under `name`; it must be the caller's own, and is so no longer."""
        turn = self._given[shard][name] * self._shards + shard
        self._given[shard][name] += 1
        with self._lock:
            self._left[name, turn] = gradient
            if turn != self._turn[name]:
                return
        here: Array | None = gradient
        while here is not None:
            if turn:
                self.blocks[name] += here
            elif self._room is None:
                self.blocks[name] = here
            else:
                self.blocks[name] = self._room[name]
                self.blocks[name][...] = here
            with self._lock:
                del self._left[name, turn]
                turn = self._turn[name] = turn + 1
                here = self._left.get((name, turn))
