"""Worker threads that share the rows of a search.

A step of decoding consists of matrix products and, between them, functions of single entries and rows. BLAS uses every
core for the products alone. Threads with some of the rows each use every core for both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from npattn._internal.checks import Array
from npattn._internal.system.blas_threads import can_limit_blas, cores
from npattn._internal.system.workers import in_order

T = TypeVar("T")

#: The smallest number of rows of a step for which one more thread saves time. Python runs one thread at a time, so in
#: short steps threads wait for each other. Measured on greedy steps of width 128, as the time of two threads over that
#: of one thread with two BLAS threads, on AVX2 and AVX-512: 1.4 and 1.6 with 32 rows for each thread, 1.0 and 1.0 with
#: 64 rows, 1.0 and 0.8 with 128 rows, 0.8 and 0.8 with 256 rows. In batches of words 64 rows gave 1.1 and 1.3.
LEAST = 128


def in_workers(search: Callable[[Array], list[T]], src: Array, workers: int | None, beam: int) -> list[T]:
    """Return search(src), one entry for each row, from `workers` threads with one BLAS thread each.

    None takes one thread for each core if threadpoolctl (the extra `fast`) is installed and every shard has `LEAST`
    rows, `beam` for each source. Without threadpoolctl, or with one worker, BLAS keeps its threads. Shard i has every
    n-th source from the i-th on: neighbours are often of similar length, and a shard takes as long as its longest
    target.
    """
    if workers is None:
        workers = max(min(cores(), len(src) * beam // LEAST), 1) if can_limit_blas() else 1
    n = min(workers, len(src))
    parts: list[list[T]] = []
    in_order([src[i::n] for i in range(n)], search, lambda _, part: parts.append(part), n)
    return [parts[row % n][row // n] for row in range(len(src))]
