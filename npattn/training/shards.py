"""Shards of a batch: which rows each thread or rank works on, and how their gradients are added.

With L_i the mean loss over the n_i real tokens of shard i and n = Σ n_i, loss and gradient of the whole batch are

    L = Σ (n_i/n) L_i,    g = Σ (n_i/n) g_i

up to rounding. Each shard multiplies its loss by n_i/n before its backward, so its gradients only have to be added.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future

import numpy as np

from npattn._internal.checks import Array
from npattn._internal.system.underflow import ignore_underflow
from npattn.transformer.fast.gradient import Gradient


def deal(tokens: Array, n: int) -> list[Array]:
    """Divide rows into at most n shards; return the row numbers of each. `tokens` counts the tokens of each row.

    The longest rows are dealt first, back and forth, so all shards hold about as many tokens. Their numbers of rows
    differ by at most one.
    """
    n = min(n, max(len(tokens), 1))
    order = np.argsort(-tokens, kind="stable")
    position = np.arange(len(tokens)) % (2 * n)               # 0 … n−1 forth, n … 2n−1 back
    return [np.sort(order[(position == i) | (position == 2 * n - 1 - i)]) for i in range(n)]


class GradientSum:
    """Adds the gradients of all shards, always in shard order.

    Early gradients wait in a queue and are added in shard order. The sum has therefore the same bits for any timing of
    the threads, and no thread waits for another. The first gradient of a name is copied into `buffer`. Without a buffer
    it becomes the sum itself, so nothing is allocated in advance. Each shard must add the same names in the same order;
    a tied embedding is added several times.
    """

    def __init__(self, shards: int, buffer: Mapping[str, Array] | None = None) -> None:
        self.blocks: dict[str, Array] = {}                    # the sums, by name
        self._buffer = buffer
        self._added: list[Counter[str]] = [Counter() for _ in range(shards)]   # how often each shard added a name
        self._next: Counter[str] = Counter()                  # the number of the next gradient to add, by name
        self._queue: dict[tuple[str, int], Array] = {}        # gradients not added yet, by name and number
        self._lock = threading.Lock()

    def add(self, shard: int, name: str, gradient: Array) -> None:
        """Add one shard's gradient under `name`; the array must not be used elsewhere afterwards."""
        number = self._added[shard][name] * len(self._added) + shard
        self._added[shard][name] += 1
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


def write_gradients(
    gradients: Iterable[tuple[str, Gradient]], blocks: Mapping[str, Array], helper: Executor | None
) -> None:
    """Write the gradients of a single shard to `blocks`; gradients under one name are added.

    A thread of `helper` computes gradients that come as functions, while this thread goes on with the backward. In the
    end both compute what is left. Each product is that of one thread, whole, so the bits are those without a helper.
    """
    written: set[str] = set()
    waiting: queue.SimpleQueue[tuple[Callable[..., Array], Array]] = queue.SimpleQueue()
    tasks: list[Future[None]] = []

    def compute() -> None:
        while not waiting.empty():
            try:
                gradient, block = waiting.get_nowait()
            except queue.Empty:                               # the other thread has taken it
                return
            gradient(out=block)

    try:
        for name, gradient in gradients:
            if callable(gradient):                            # of a matrix that is used once
                waiting.put((gradient, blocks[name]))
                if helper is None:
                    compute()
                elif not tasks or tasks[-1].done():
                    tasks.append(helper.submit(contextvars.copy_context().run, compute))
            elif name in written:
                blocks[name][...] += gradient
            else:
                blocks[name][...] = gradient
                written.add(name)
        compute()
    finally:
        for task in tasks:                                    # none may write to `blocks` after an error
            task.result()


write_gradients = ignore_underflow(write_gradients)
